"""The blocking client that programs hold: the same names as the other faces, without async and await.

Knows the background thread and the async face's client, whose work it is. The surprising decision: making one does
nothing at all. The thread and the connection begin with the first use, in whichever process that is.
"""

import ssl
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Literal, Self

import trio
from triode_protocol.packets import Overflow, Publish

from triode.client import Client as AsyncClient
from triode.client import From
from triode.composing import Draft, Encode
from triode.driver import Token as AsyncToken
from triode.errors import ConnectionClosed, QueueFull, TriodeError
from triode.options import Options
from triode.publishing import OnTrace, all_published
from triode.records import Gap, HistoryPage, Position, Presence, Published, State
from triode.sync.background import Background
from triode.sync.bells import deadline, remaining
from triode.sync.deliveries import Deliveries
from triode.sync.processes import Locks
from triode.sync.publishing import Outbox, Receipt
from triode.sync.receiving import Messages
from triode.sync.watching import Events, Watchers
from triode.trio_runtime import TrioRuntime
from triode.will import Will

Token = str | Callable[[], str]


def connect(
    url: str | Iterable[str],
    *,
    token: Token = "",
    name: str = "",
    wait_seconds: float = 30.0,
    ssl_context: ssl.SSLContext | None = None,
    will: Will | None = None,
    encode: Encode | None = None,
    **limits: float,
) -> "Client":
    """A blocking client of the broker at `url` ("ws://host:7400", "wss://…", "http://…"; no path means /ws).

    Several URLs are nodes of one cluster, as in `triode.connect`. Nothing happens yet: the connection, and the
    thread that has it, begin with `with triode.sync.connect(url) as client`, with `open()`, or with the first use,
    which so may stand at the import of a settings module. That waits until connected, at most `wait_seconds` (0:
    do not wait, `math.inf`: for ever), and raises ConnectionRefused when the broker refuses for good or did not
    answer in time; the next use tries again. Once connected the client reconnects by itself.

    `token`: a string, or a function that fetches one, called in a thread of its own before each attempt, and ahead
    of expiry where the broker takes another one on a live connection; one call at a time. `name` is shown to the
    broker's operator. `will`: what the broker publishes when this client is lost. `encode`: makes of a value that
    JSON has no word for one that it has; called by the thread that publishes. `limits`: any field of
    `triode.Options`. Raises ValueError or TypeError for wrong arguments.
    """
    options = Options(**limits)  # type: ignore[arg-type]  # counts given as int arrive as int
    urls = url if isinstance(url, str) else list(url)
    asked = token if isinstance(token, str) else _in_a_thread(token)

    def make() -> AsyncClient:
        return AsyncClient(TrioRuntime(), urls, asked, name, wait_seconds, ssl_context, options, will, encode)

    return Client(make, options)


class Client:
    """A connection to a broker that lasts, for any number of threads: made by `connect`.

    Leaving its `with` block, or `close()`, sends what is queued (at most `close_timeout_seconds`) and says
    goodbye, and so does the end of the process; leaving the block by an exception closes at once. A broker may end
    it for good, too (with a close code 40xx): then it stays closed, and says why.

    A `timeout` is in seconds, None for no other bound than those of the options; what the first use takes to
    connect is bounded by `wait_seconds` alone.

    After a fork the child has this client too: at its next use it begins a thread and a connection of its own,
    and leaves those of the parent alone. What was queued by then is sent by the parent, whose receipts raise
    InParentProcess in the child, unless they are done. Subscriptions go on in both, see `Messages`; consumers only
    in the parent, see `Deliveries`. A `will` is said on both connections.

    No method may be called from inside the client's own thread, where a log handler may find itself, if it would
    have to wait there: RuntimeError.
    """

    def __init__(self, make: Callable[[], AsyncClient], options: Options) -> None:
        self._make = make
        self._options = options
        self._model = make()  # never entered: for checking arguments, here and now
        self._composer = self._model._composer
        self._locks = Locks()
        self._watchers = Watchers()
        self._is_entered = False
        self._is_closed = False
        self._running: tuple[Background, Outbox] | None = None
        self._when_dropped = weakref.finalize(self, _nothing)
        self._when_dropped.atexit = False

    @property
    def state(self) -> State:
        """Of the connection: idle, connecting, connected, waiting, closed."""
        if self._is_closed:
            return State.CLOSED
        running = self._running
        if running is None or running[0].is_inherited or running[0].has_failed:
            return State.IDLE
        return running[0].session.state

    # The life of the client

    def __enter__(self) -> Self:
        if self._is_entered or self._is_closed:
            raise RuntimeError("a client is entered once, and not after its end")
        self._is_entered = True
        try:
            self.open()
        except BaseException:
            self._close(0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(None if error is None else 0)

    def open(self) -> None:
        """Connect, unless that is done: the first use does this by itself. Raises ConnectionRefused."""
        self._begun()

    def close(self, timeout: float | None = None) -> None:
        """Send what is queued, say goodbye, close: for good, in this process. Any number of times.

        Takes at most twice `close_timeout_seconds`, and at most `timeout` seconds (0: at once). What could not be
        sent by then fails with ConnectionClosed, what was not answered with OutcomeUnknown.
        """
        self._close(timeout)

    def _close(self, timeout: float | None) -> None:
        running = self._running
        if running is not None:
            running[0].check_thread()
        self._is_closed = True
        if running is not None and not running[0].is_inherited:
            running[0].finish(timeout)
            running[0].wait_ended()
        self._watchers.end()

    def _begun(self) -> tuple[Background, Outbox]:
        """This process's thread and queue, connected."""
        running = self._running
        if running is None or running[0].is_inherited or running[0].has_failed or self._is_closed:
            running = self._begin()
        if not running[0].is_open:
            running[0].wait_open()
        return running

    def _begin(self) -> tuple[Background, Outbox]:
        with self._locks.mine():
            if self._is_closed:
                raise ConnectionClosed("the client is closed")
            running = self._running
            if running is None or running[0].is_inherited or running[0].has_failed:
                background = Background(self._make(), self._watchers)
                running = background, Outbox(background)
                background.start()
                self._running = running
                self._when_dropped.detach()
                self._when_dropped = weakref.finalize(self, background.finish)  # what is queued is still sent
                self._when_dropped.atexit = False
            return running

    def _background(self) -> Background:
        return self._begun()[0]

    # Publishing

    def publish(
        self,
        topic: str,
        data: object,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        ttl_ms: int = 0,
        deliver_at: datetime | float | None = None,
        on_trace: OnTrace | None = None,
        timeout: float | None = None,
    ) -> Published:
        """Publish and wait until the broker has acknowledged: its place, and the level it has reached (G1).

        `data`: what JSON can say (with `encode`, anything), bytes (sent as binary), or `msgspec.Raw` (JSON text as
        it stands). Without a connection it waits in a bounded queue, and after a lost one it is sent again with
        the same message id, so it is stored once. Messages of one thread keep their order. `ttl_ms` 0: the
        topic's. `deliver_at`: when it is to be published, an aware datetime or seconds since 1970 (`time.time()`)
        by the broker's clock; it has no place until then (`delayed`).

        A broker that asks for patience gets it: this takes longer, up to publish_expiry_seconds, and raises the
        refusal only then. What is about one topic's store holds up that topic, all else everything.

        `on_trace` is told what becomes of the message, on which node and when: see `Traced`; called
        by the client's own thread, at once or later.

        Raises PublishRefused (surely not stored), OutcomeUnknown (sent, and unanswered for publish_expiry_seconds
        or `timeout`, or past the broker's deduplication window), Expired (never sent in that time), QueueFull
        (only while not connected; else it waits for room, at most `timeout` seconds), ConnectionClosed, BadTopic
        and ValueError for wrong arguments.

        Interrupted while unsent (KeyboardInterrupt), it is never sent; interrupted later, it may be stored.
        """
        packet = self._composer.publish(
            topic,
            data,
            key=key,
            headers=headers,
            message_id=message_id,
            ttl_ms=ttl_ms,
            deliver_at=deliver_at,
            is_traced=on_trace is not None,
        )
        return self._deliver(packet, timeout, on_trace)

    def delete_key(self, topic: str, key: str, *, message_id: str = "", timeout: float | None = None) -> Published:
        """Delete `key` from a compacted topic: subscribers get a message with `deletes_key`, then it is gone.

        Waits and raises as `publish`; PublishRefused with `malformed` where the topic is not compacted.
        """
        return self._deliver(self._composer.deletion(topic, key, message_id), timeout)

    def _deliver(self, packet: Publish, timeout: float | None, on_trace: OnTrace | None = None) -> Published:
        background, outbox = self._begun()
        until = deadline(timeout)
        receipt = Receipt(background, on_trace)
        try:
            outbox.put(packet, receipt, timeout)
            result = receipt.outcome(remaining(until))
        finally:
            if not receipt.is_done:  # interrupted
                receipt.abandon()
        if isinstance(result, TriodeError):
            raise result
        return result

    def publish_nowait(
        self,
        topic: str,
        data: object,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        ttl_ms: int = 0,
        deliver_at: datetime | float | None = None,
        on_trace: OnTrace | None = None,
    ) -> Receipt:
        """Like `publish`, but returns at once: `receipt.wait()` gives what publish would.

        Being the first use, it waits for the connection. Raises QueueFull, connected or not; a loop of these
        should wait for some of its receipts.
        """
        packet = self._composer.publish(
            topic,
            data,
            key=key,
            headers=headers,
            message_id=message_id,
            ttl_ms=ttl_ms,
            deliver_at=deliver_at,
            is_traced=on_trace is not None,
        )
        background, outbox = self._begun()
        receipt = Receipt(background, on_trace)
        outbox.put_nowait(packet, receipt)
        return receipt

    def publish_many(
        self, messages: Iterable[tuple[str, object] | Draft], *, timeout: float | None = None
    ) -> list[Published]:
        """Publish all of these, each a topic and its data or a mapping with any argument of `publish`, and wait.

        They keep their order, leave together as far as the broker's window and the queue have room, and are
        checked before the first one is sent. Returns their places. Raises PublishManyFailed where some have
        none: once the queue is full while not connected, or the client closed, the rest are not tried; other
        failures are each its own, and so are those that `timeout` leaves over, as in `publish`. Wrong arguments
        as in `publish`. Interrupted, what is unsent is never sent.
        """
        packets = [self._composer.several(message) for message in messages]
        until = deadline(timeout)
        receipts: list[Receipt] = []
        error: TriodeError | None = None
        try:
            try:
                self._begun()[1].put_all(packets, receipts, timeout)
            except (QueueFull, ConnectionClosed) as refusal:
                error = refusal
            results = [receipt.outcome(remaining(until)) for receipt in receipts]
        finally:
            for receipt in receipts:
                if not receipt.is_done:
                    receipt.abandon()
        if error is not None:
            results += [error] * (len(packets) - len(receipts))
        return all_published(results)

    def send(
        self,
        topic: str,
        data: object,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        ttl_ms: int = 0,
        deliver_at: datetime | float | None = None,
    ) -> None:
        """Publish without acknowledgement: written once, lost with the connection that it was written to.

        Waits for room in the queue while connected, raises QueueFull otherwise. What the broker refuses, or what
        expires unsent, is an event (`Complaint`) and a logged warning.
        """
        packet = self._composer.publish(
            topic,
            data,
            key=key,
            headers=headers,
            message_id=message_id,
            ttl_ms=ttl_ms,
            deliver_at=deliver_at,
        )
        self._begun()[1].put(packet, None)

    # Receiving

    def subscribe(
        self,
        filter: str,
        *,
        from_: From = "new",
        after: Position | None = None,
        overflow: Overflow = "replay",
        presence: Literal["watch"] | Mapping[Literal["state"], object] | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Messages:
        """The messages of the topics that `filter` matches: `with client.subscribe(…) as messages`.

        `from_`: "new", "earliest", "last" (the newest of each topic, then live), {"last": 20} (of one exact topic)
        or {"since": ms since 1970}. `after`: a position from an earlier run (`messages.position`) instead.
        `overflow`: what the broker does when this client reads too slowly. `on_gap`: see `Messages`.

        `presence`: "watch" to be told who comes to the topics and who goes, as `Joined` and `Left` in
        `messages.events()`; {"state": …} to be seen on one topic, too. `presence(topic)` says who was there:
        ask after each `CaughtUp`, because changes during a reconnect or a pause are not told.

        Raises BadTopic here, and on entering SubscriptionEnded and ConnectionClosed.
        """
        arguments = {
            "filter": filter,
            "from_": from_,
            "after": after,
            "overflow": overflow,
            "presence": presence,
            "on_gap": on_gap,
        }
        return Messages(self, self._model.subscribe, arguments)

    def consume(
        self,
        filter: str,
        *,
        durable: str = "",
        shared: bool = False,
        group: str = "",
        from_: From = "new",
        window: int = 32,
        ack_wait: float | None = None,
        max_attempts: int | None = None,
        retry_delay: float = 1.0,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Deliveries:
        """Messages to be acknowledged, at least once each (G5): `with client.consume(…) as deliveries`.

        Exactly one name. `durable`: the broker keeps the position and what is not acknowledged, also while nobody
        is there; with `shared` any number of clients take part, each message going to one of them, otherwise there
        is one at a time. `group`: members share, and it is gone with the last of them, so what is published while
        nobody is connected is not for it.

        `from_`: where it begins when it is new to the broker, as in `subscribe` but not "last". `window`: how many
        deliveries may be unanswered at once, and so wait in this client; no more than are done within `ack_wait`.
        `ack_wait`: seconds until an unanswered one is given out again. `max_attempts`: after so many it goes to
        the dead letters, the topic `$dead/<name>`. None: the broker's own. `retry_delay`: seconds that a message
        rests after a `with delivery` block that failed. `on_gap`: see `Messages`.

        Raises BadTopic and ValueError here, and on entering SubscriptionEnded and ConnectionClosed.
        """
        arguments = {
            "filter": filter,
            "durable": durable,
            "shared": shared,
            "group": group,
            "from_": from_,
            "window": window,
            "ack_wait": ack_wait,
            "max_attempts": max_attempts,
            "retry_delay": retry_delay,
            "on_gap": on_gap,
        }
        return Deliveries(self, self._model.consume, arguments)

    def history(
        self,
        topic: str,
        *,
        last: int = 0,
        after: Position | None = None,
        before: Position | None = None,
        limit: int = 100,
    ) -> HistoryPage:
        """What the broker still holds of one topic: the `last` ones, or `limit` after or before a position.

        Asked again after a reconnect. Raises HistoryRefused, Expired (request_timeout_seconds), QueueFull (more
        than max_requests at once), ConnectionClosed, BadTopic.
        """
        background = self._background()
        client = background.client
        return background.call(lambda: client.history(topic, last=last, after=after, before=before, limit=limit))

    def presence(self, topic: str) -> Presence:
        """Who is on a topic now, whether this client subscribes to it or not.

        Raises PresenceRefused, and else what `history` raises.
        """
        background = self._background()
        return background.call(lambda: background.client.presence(topic))

    def events(self) -> Events:
        """Changes of the connection's state, and what the broker says beside messages, from now on.

        An iterator that blocks, for a thread of its own. This is no use of the client: it does not connect.
        """
        watcher = Events(self._options.max_events)
        self._watchers.add(watcher)
        return watcher


def _nothing() -> None:
    """There is no thread yet."""


def _in_a_thread(token: Callable[[], str]) -> AsyncToken:
    async def fetch() -> str:
        return await trio.to_thread.run_sync(token, abandon_on_cancel=True)

    return fetch
