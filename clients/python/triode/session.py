"""The session: everything a client decides, without I/O. Text, time and wishes in; text, deadlines and events out.

It must not know trio, sockets, clocks or random sources: `now` is seconds of any monotonic clock, `random` a
callable. Every face of the client drives this one. The surprising decision: nothing is
pushed. A face calls in, then looks at what came of it: `dial`, `is_attached`, `has_output`, `ready`, `finished`,
`events`, `deadline()`. No method raises for anything a broker sends.

    state       leaves for
    IDLE        CONNECTING start · CLOSED close
    CONNECTING  CONNECTED  `connected` · WAITING lost, refused, timeout · CLOSED refused for good, close
    CONNECTED   WAITING    lost, bye, silence, malformed text · CLOSED stop code, goodbye said, close
    WAITING     CONNECTING the delay is over · CLOSED close
    CLOSED      nothing
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import inf
from typing import Any, Final

from attrs import define
from msgspec import UNSET, UnsetType
from triode_protocol import codec, packets
from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, check_filter

from triode.backoff import ABNORMAL_CLOSURE, TOO_BIG, Backoff, action, asked_seconds, clamp, initiator
from triode.consuming import Terms
from triode.errors import ConnectionClosed, ConnectionRefused, TriodeError
from triode.liveness import Liveness
from triode.options import Options
from triode.outgoing import Outgoing
from triode.publishing import Publication, Publisher
from triode.reading import Read, Reader
from triode.records import Complaint, Event, HandshakesRefused, Notice, Position, State, StateChanged
from triode.renewing import CAPABILITY, Renewal
from triode.route import Route
from triode.settling import Settler
from triode.subscription import Malformed, Subscription, Wish
from triode.subscriptions import Subscriptions

_FLIGHT_BYTES: Final = 61_440  # written before `connected`; a broker reads 64 KiB until then
_REPORT_AFTER: Final = 3  # handshakes refused in a row
_LEAST_FRAME_BYTES: Final = 1_024
_MOST_FRAME_BYTES: Final = 16_777_216
_MAX_ID_CHARACTERS: Final = 255
_BRACKETS_BYTES: Final = 3  # of an array, and the comma that is counted but not written


@define
class Identity:
    """What `connect` says about us. The face may renew `token` before each attempt."""

    token: str = ""
    name: str = ""
    version: str = ""
    is_renewable: bool = False  # `token` comes from a function: a refused one is worth another try
    will: packets.Will | UnsetType = UNSET


class Session:
    """One client through all its connections."""

    def __init__(
        self, urls: str | Iterable[str], identity: Identity, options: Options, random: Callable[[], float]
    ) -> None:
        self.options = options
        self.identity = identity
        self.state = State.IDLE
        self.error: TriodeError | None = None  # why it is CLOSED; None = as the program wished
        self.connection = ""  # the broker's name for the present or last connection

        self.dial = ""  # what came of the last call, for the face to act on and empty: connect to this URL
        self.attempt = 0  # which attempt `dial` belongs to
        self.is_polite = False  # after detaching: a WebSocket close handshake is worth its time
        self.ready: list[Subscription] = []  # have something new for their consumer
        self.finished: list[Any] = []  # publications, reads and settlements that have their result
        self.events: list[Event] = []

        self._outgoing = Outgoing()
        self.publisher = Publisher(options, self._outgoing, random, self.finished, self.events)
        self.subscriptions = Subscriptions(options, self._outgoing, random, self.ready)
        self.reader = Reader(options, self._outgoing, self.finished)
        self.settler = Settler(options, self._outgoing, self.finished)
        self.renewal = Renewal(self._outgoing, self.events)
        self._backoff = Backoff(random)
        self._route = Route(urls, self._backoff, random)
        self._url = ""  # of the present or last attempt
        self._liveness = Liveness()
        self._due = inf  # of the state: the end of WAITING, or of CONNECTING's patience
        self._connected_at = inf
        self._connect_id = 0
        self._room = _FLIGHT_BYTES  # bytes of the next text
        self._refused = 0  # handshakes in a row
        self._has_renewed = False
        self._was_connected = False
        self._is_open = False  # the WebSocket of the present attempt
        self._finish_by = inf  # set by finish()
        self._has_said_goodbye = False
        self._prefix = f"{int(random() * 2**50):x}{int(random() * 2**50):x}"  # of this client's message ids
        self._messages = 0
        self._receivers: dict[type[packets.ServerPacket], Callable[[Any, float], None]] = {
            packets.Connected: self._on_connected,
            packets.Error: self._on_error,
            packets.Bye: self._on_bye,
            packets.Notice: self._on_notice,
            packets.ServerPing: self._on_ping,
            packets.ServerPong: _ignore,
            packets.Acked: lambda packet, now: self.settler.acked(packet),
            packets.Authorized: self.renewal.authorized,
            packets.Published: lambda packet, now: self.publisher.published(packet),
            packets.Traced: lambda packet, now: self.publisher.traced(packet),
            packets.History: lambda packet, now: self.reader.answered(packet),
            packets.Presence: lambda packet, now: self.reader.present(packet),
            packets.Joined: lambda packet, now: self.subscriptions.joined(packet),
            packets.Left: lambda packet, now: self.subscriptions.left(packet),
            packets.Subscribed: lambda packet, now: self.subscriptions.subscribed(packet),
            packets.CatchingUp: lambda packet, now: self.subscriptions.catching_up(packet),
            packets.CaughtUp: lambda packet, now: self.subscriptions.caught_up(packet),
            packets.Gap: lambda packet, now: self.subscriptions.gap(packet),
            packets.Delivery: lambda packet, now: self.subscriptions.delivery(packet),
            packets.Unsubscribed: self.subscriptions.unsubscribed,
        }

    # The life of a connection, as the face sees it

    @property
    def is_attached(self) -> bool:
        """Whether the present attempt or connection is still wanted."""
        return self.state in _ATTACHED

    @property
    def is_finishing(self) -> bool:
        """Whether the program has said that it is done."""
        return self._finish_by < inf

    def start(self, now: float) -> None:
        """Begin to connect."""
        self._connect(now)

    def _connect(self, now: float) -> None:
        self.dial = self._url = self._route.next(now)
        self.attempt += 1
        self._due = now + self.options.connect_timeout_seconds
        self._enter(State.CONNECTING, url=self.dial)

    def opened(self, now: float) -> None:
        """The WebSocket is open: `connect`, all resumes and all unanswered publishes leave in one flight."""
        self._room = _FLIGHT_BYTES
        self._is_open = True
        self._connect_id = self._outgoing.next_id()
        identity = self.identity
        self._outgoing.put(
            packets.Connect(
                self._connect_id,
                identity.token,
                packets.ClientInfo(identity.name, identity.version),
                ["batch"],
                self.connection,
                resume=bool(self.connection) and self.subscriptions.has_any,
                will=identity.will,
            )
        )
        self.subscriptions.attach()
        self.reader.attach()

    def lost(self, now: float, code: int = ABNORMAL_CLOSURE, reason: str = "", *, after_ms: int = 0) -> None:
        """The transport is gone, or could not be had; `code` is the close code of the WebSocket.

        `after_ms`: what an HTTP answer in its place asked for as a pause (SPEC 1.1).
        """
        if not self.is_attached:
            return
        if code == TOO_BIG:
            self.publisher.fail_largest()
        self._depart(now, action(code), reason or "the connection was lost", code, after_ms=after_ms)
        self._say_goodbye()

    # What the broker says

    def receive_text(self, text: str, now: float) -> None:
        """Take in one WebSocket message. Whatever is wrong with it costs the connection, nothing else (S33)."""
        if not self.is_attached:
            return
        self._liveness.heard(now)
        try:
            received = codec.decode_server(text)
        except ValueError as error:
            self._drop(now, f"the broker sent what is no packet: {error}")
            received = []
        try:
            self._take_in(received, now)
        except Malformed as error:
            self._drop(now, f"the broker broke the protocol: {error}")
        self._say_goodbye()

    def _take_in(self, received: Iterable[packets.ServerPacket], now: float) -> None:
        take_message = self.subscriptions.message
        for packet in received:
            if type(packet) is packets.Message and self.state is State.CONNECTED:
                take_message(packet)
                continue
            if self.state is not State.CONNECTED and type(packet) not in _BEFORE_CONNECTED:
                raise Malformed(f"{type(packet).__name__} before connected")
            self._receivers[type(packet)](packet, now)
            if not self.is_attached:
                return

    def receive_binary(self, now: float) -> None:
        """A broker never sends binary messages in this version."""
        if self.is_attached:
            self._drop(now, "the broker sent a binary message")

    def _drop(self, now: float, reason: str) -> None:
        self._depart(now, "backoff", reason, ABNORMAL_CLOSURE)

    def _on_connected(self, packet: packets.Connected, now: float) -> None:
        if self.state is State.CONNECTED or packet.protocol != packets.PROTOCOL:
            raise Malformed("connected twice, or for another protocol")
        limits = packet.limits
        self.connection = packet.connection if len(packet.connection) <= _MAX_ID_CHARACTERS else ""
        self.publisher.limits = limits
        frame_bytes = max(limits.max_frame_bytes, limits.max_packet_bytes + _BRACKETS_BYTES)
        self._room = clamp(frame_bytes, _LEAST_FRAME_BYTES, _MOST_FRAME_BYTES)
        self._backoff.set_bounds(packet.reconnect.min_ms, packet.reconnect.max_ms)
        self._liveness.begin(packet.ping_ms, now)
        self._connected_at = now
        self._due = inf
        self._refused = 0
        self._has_renewed = False
        self._was_connected = True
        self._enter(State.CONNECTED, connection=packet.connection, node=packet.node)
        is_renewable = self.identity.is_renewable and CAPABILITY in packet.capabilities
        self.renewal.attach(is_renewable, packet.expires_in_ms, now)
        if packet.expires_in_ms:
            self.events.append(Notice(expires_in_ms=packet.expires_in_ms))

    def _on_error(self, packet: packets.Error, now: float) -> None:
        """Whose it is, by `id` and `sub`; the number of a subscription that is gone is ignored (R5)."""
        if packet.id and packet.id == self._connect_id:
            self._on_connect_refused(packet, now)
        elif packet.id and (
            self.publisher.refused(packet, now)
            or self.reader.refused(packet)
            or self.settler.refused(packet)
            or self.renewal.refused(packet, now)
        ):
            return
        elif not self.subscriptions.refused(packet, now) and self.subscriptions.knows(packet.sub):
            self.events.append(Complaint(packet.name, packet.message, packet.field))

    def _on_connect_refused(self, packet: packets.Error, now: float) -> None:
        what = {"now": "once", "backoff": "backoff"}.get(packet.retry, "stop")
        if packet.retry == "reauth" and self.identity.is_renewable and not self._has_renewed:
            self._has_renewed = True
            what = "once"
        reason = f"{packet.name}: {packet.message}"
        self._depart(now, what, reason, name=packet.name, after_ms=packet.retry_after_ms, is_polite=True)

    def _on_bye(self, packet: packets.Bye, now: float) -> None:
        if packet.code == TOO_BIG:
            self.publisher.fail_largest()
        self._depart(
            now,
            action(packet.code),
            f"the broker said goodbye: {packet.name}",
            packet.code,
            name=packet.name,
            after_ms=packet.reconnect_after_ms,
            urls=packet.urls,
            is_polite=True,
        )

    def _on_notice(self, packet: packets.Notice, now: float) -> None:
        self.renewal.expires(packet.expires_in_ms, now)
        self.events.append(Notice(packet.draining, packet.expires_in_ms))

    def _on_ping(self, packet: packets.ServerPing, now: float) -> None:
        self._outgoing.owes_pong = True
        self.subscriptions.ping(packet.at)

    # What programs ask for

    def publish(self, packet: packets.Publish, now: float, *, is_acknowledged: bool = True) -> Publication:
        """Queue a publish; without a `message_id` of its own an acknowledged one gets one.

        Raises ConnectionClosed, QueueFull.
        """
        self._check_open()
        if is_acknowledged and not packet.message_id:
            self._messages += 1
            packet.message_id = f"{self._prefix}-{self._messages:x}"
        return self.publisher.add(packet, now, is_acknowledged=is_acknowledged)

    def subscribe(
        self,
        filter: str,
        start: packets.From,
        after: Position | None,
        overflow: packets.Overflow,
        presence: Wish = UNSET,
    ) -> Subscription:
        """Subscribe, through all connections to come. Raises BadTopic, ConnectionClosed."""
        self._check_open()
        check_filter(filter, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        return self.subscriptions.add(filter, start, after, overflow, presence)

    def consume(self, filter: str, start: packets.From, terms: Terms) -> Subscription:
        """Subscribe with acknowledgements, through all connections to come. Raises BadTopic, ConnectionClosed."""
        self._check_open()
        check_filter(filter, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        return self.subscriptions.consume(filter, start, terms)

    def read(self, packet: packets.HistoryRequest | packets.PresenceRequest, now: float) -> Read:
        """Ask for history or for who is on a topic. Raises ConnectionClosed, QueueFull."""
        self._check_open()
        return self.reader.add(packet, now)

    def _check_open(self) -> None:
        if self.is_finishing or self.state is State.CLOSED:
            raise ConnectionClosed(str(self.error) if self.error else "the client is closed")

    # What goes out, and when to look again

    @property
    def wants_to_write(self) -> bool:
        """Whether `take_text` may give something, now or later; cheaper than `has_output`."""
        return self._is_open and (bool(self._outgoing) or self.publisher.has_unsent)

    def has_output(self, now: float) -> bool:
        """Whether `take_text` gives something."""
        if not self._is_open:
            return False
        return bool(self._outgoing) or self.publisher.has_next(now, is_resumed=self.state is State.CONNECTED)

    def take_text(self, now: float) -> str | None:
        """The next WebSocket message to write: all that waits, as one packet or one array, or None.

        From here on its publishes count as sent. The client that has said goodbye is CLOSED with this.
        """
        if not self.has_output(now):
            return None
        room = self._room - _BRACKETS_BYTES
        taken = self._outgoing.take(room, is_first=self._room == _FLIGHT_BYTES or self.state is State.CONNECTED)
        room -= sum(map(len, taken)) + len(taken)
        if not self._outgoing:
            publishes = self.publisher.take(room, now, is_resumed=self.state is State.CONNECTED)
            taken.extend(islice(publishes, codec.MAX_ARRAY_PACKETS - len(taken)))
        if not taken:
            return None
        text = (taken[0] if len(taken) == 1 else codec.join(taken)).decode()
        if self.state is State.CONNECTING:
            self._room -= len(text)
        elif self._has_said_goodbye and not self._outgoing:
            self.close()
        else:
            self._say_goodbye()
        return text

    def deadline(self) -> float:
        """When `tick` is due, at the latest."""
        return min(
            self._due,
            self._finish_by if self.state is not State.CLOSED else inf,
            self._liveness.deadline() if self.state is State.CONNECTED else inf,
            self.publisher.deadline(),
            self.subscriptions.deadline(),
            self.reader.deadline(),
            self.settler.deadline(),
            self.renewal.deadline(),
        )

    def tick(self, now: float) -> None:
        """Do what time asks for. Early calls are harmless."""
        self.publisher.tick(now)
        self.subscriptions.tick(now)
        self.reader.tick(now)
        self.settler.tick(now)
        self.renewal.tick(now)
        if now >= self._finish_by:
            self.close()
        elif self.state is State.CONNECTED:
            self._check_alive(now)
        elif now >= self._due and self.state is State.WAITING:
            self._connect(now)
        elif now >= self._due:
            self._depart(now, "backoff", "no answer to connect in time")
        self._say_goodbye()

    def _check_alive(self, now: float) -> None:
        verdict = self._liveness.verdict(now)
        if verdict == "ask":
            self._outgoing.put(packets.ClientPing(self._outgoing.next_id()))
        elif verdict == "dead":
            self._drop(now, "the broker is silent")

    # Leaving

    def _depart(
        self,
        now: float,
        what: str,
        reason: str,
        code: int = 0,
        *,
        name: str = "",
        after_ms: int = 0,
        urls: Sequence[str] = (),
        is_polite: bool = False,
    ) -> None:
        """The present connection or attempt is over; `what` comes next: "stop", "backoff" or "once"."""
        was_connected = self.state is State.CONNECTED
        self._detach(is_polite)
        if what == "stop":
            kind = ConnectionClosed if self._was_connected else ConnectionRefused
            self._close(kind(reason, code=code, name=name), code)
            return
        if was_connected and now - self._connected_at >= self.options.stable_seconds:
            self._backoff.reset()
        self._due = self._route.left(
            now,
            what,
            code,
            urls=urls,
            asked=asked_seconds(after_ms, self.options.max_wait_seconds),
            was_connected=was_connected,
            was_answered=bool(name or after_ms) or code not in (0, ABNORMAL_CLOSURE),
        )
        delay, by = self._due - now, initiator(code, has_refused=bool(name))
        self._enter(State.WAITING, reason=reason, code=code, delay_seconds=delay, url=self._url, initiator=by)
        if not was_connected:
            self._count_refused(reason)

    def _count_refused(self, reason: str) -> None:
        self._refused += 1
        if self._refused == max(_REPORT_AFTER, self._route.size):  # one node that is away is no news
            self.events.append(HandshakesRefused(self._refused, reason))

    def _detach(self, is_polite: bool) -> None:
        self.dial = ""
        self._is_open = False
        self.is_polite = is_polite
        self.publisher.detach()
        self.subscriptions.detach()
        self.reader.detach()
        self.settler.detach()
        self.renewal.detach()
        self._outgoing.clear()

    def finish(self, now: float) -> None:
        """The program is done: send what is queued (at most `close_timeout_seconds`), say goodbye, close."""
        self._finish_by = now + self.options.close_timeout_seconds
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        if not self.is_finishing or self.publisher.waiting or self.state is State.CLOSED:
            return
        if self.state is not State.CONNECTED:
            self.close()
        elif not self._has_said_goodbye:
            self._has_said_goodbye = True
            self._outgoing.put(packets.Disconnect())

    def close(self) -> None:
        """Close at once. What is unsent fails with ConnectionClosed, what is unanswered with OutcomeUnknown."""
        if self.state is not State.CLOSED:
            self._detach(is_polite=self.state is State.CONNECTED)
            self._close(None, 0)

    def _close(self, error: ConnectionClosed | ConnectionRefused | None, code: int) -> None:
        self.error = error
        self._due = inf
        reason = str(error) if error else "the client was closed"
        told = ConnectionClosed(reason, code=code, name=error.name if error else "")
        self.publisher.close(told)
        self.reader.close(told)
        self.subscriptions.close(told if error else None)
        by = initiator(code, has_refused=bool(error and error.name)) if error else "client"
        self._enter(State.CLOSED, reason=reason, code=code, initiator=by)

    def _enter(self, state: State, **details: Any) -> None:
        self.state = state
        self.events.append(StateChanged(state, **details))


_ATTACHED: Final = frozenset({State.CONNECTING, State.CONNECTED})
_BEFORE_CONNECTED: Final = frozenset(
    {packets.Connected, packets.Error, packets.Bye, packets.Notice, packets.ServerPing, packets.ServerPong}
)


def _ignore(packet: packets.ServerPacket, now: float) -> None:
    """Nothing to do: what came is a sign of life, and that is noted already."""
