"""Taking: one webhook as a client in the process: its durable name, its deliveries, and what becomes of them.

Knows the session and its packets, nothing of HTTP. Where the events are, which node has the name's home, what
comes again and what is buried is decided where it is decided for every client's name. The surprising decision: it
says its acknowledgements until they are answered. One that got lost would leave a delivery in flight for hours.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec
import trio
from msgspec import Raw
from triode_protocol.codec import decode_server, encode
from triode_protocol.errors import ErrorName
from triode_protocol.packets import (
    Ack,
    Acked,
    ClientPacket,
    Delivery,
    Error,
    Gap,
    Message,
    Nack,
    ServerPacket,
    Start,
    Subscribe,
    Subscribed,
    Unsubscribed,
)

from triode_broker.config import Webhook
from triode_broker.core.errors import Disconnect
from triode_broker.core.events import ALL, HOOK, METHOD
from triode_broker.core.identity import Identity
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.rights import Rights
from triode_broker.core.session import NORMAL_CLOSE, Session

#: How long an answer is waited for, and between two attempts.
PATIENCE_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 0.5
SETTLE_ATTEMPTS: Final = 20
RIGHTS: Final = Rights({"consume": (ALL,)})

_message: Final = msgspec.json.Decoder(Message).decode
Place = tuple[str, int]


@attrs.frozen(eq=False)
class Taken:
    """One event that was delivered."""

    place: Place  # log and position
    id: str
    event: Raw
    attempt: int


class Lost(Exception):
    """The subscription is not there (any more), and why."""


class _Collecting(Outbox):
    """Gives every packet to its taker at once: nothing ever waits in it."""

    __slots__ = ()

    def put(self, payload: bytes) -> None:
        """Deliveries are bounded by the window, answers by what was asked."""
        self.connection.hear(payload)


class Taker:
    """One subscription for as long as it lasts. It is its own `core.interfaces.Connection`."""

    def __init__(self, node: Node, row: Webhook, now_ms: Callable[[], int], flush: Callable[[], None]) -> None:
        self._node = node
        self._row = row
        self._now_ms = now_ms
        self._flush = flush
        self._number = 0
        self._answers: dict[int, ServerPacket | None] = {}  # None: not there yet
        self._bell = trio.Event()
        self.close_code = 0
        self.ended = ""  # why
        self.held: OrderedDict[Place, Taken] = OrderedDict()
        self.gaps: list[str] = []  # reasons
        self._session = Session(node, _Collecting(self, [], bytes, node.limits.max_outbox_bytes))
        who = Identity(HOOK + row.name, row.tenant, RIGHTS, method=METHOD)
        self._session.attend(f"{HOOK}{node.name}:{row.name}:{node.random_id()}", who, node.homes)

    async def subscribe(self, since_ms: int) -> None:
        """Take part in the name; where it is new, from that time on. Raises Lost."""
        row, limits = self._row, self._node.limits
        packet = Subscribe(
            1,
            ALL,
            from_=Start(since=since_ms),
            window=min(2 * row.batch, limits.max_window),
            ack_wait_ms=limits.max_ack_wait_ms,  # one that holds them may wait for its endpoint
            max_attempts=min(row.max_attempts, limits.max_attempts),
        )
        if self._node.router.has_disk:
            packet.durable, packet.shared = HOOK + row.name, True
        else:
            packet.group = HOOK + row.name
        answer = await self._ask(packet)
        if not isinstance(answer, Subscribed):
            raise Lost(_why(answer))

    async def wait(self) -> None:
        """Until something has come. Raises Lost."""
        while not (self.held or self.gaps):
            if self.ended:
                raise Lost(self.ended)
            await self._bell.wait()
            self._bell = trio.Event()

    async def settle(self, taken: list[Taken]) -> None:
        """These are done. Raises Lost."""
        by_log: dict[str, list[int]] = {}
        for one in taken:
            self.held.pop(one.place, None)
            by_log.setdefault(one.place[0], []).append(one.place[1])
        for log, places in by_log.items():
            await self._surely(Ack(1, log, places))

    async def give_back(self, one: Taken, delay_ms: int) -> None:
        """It comes again after a while, or becomes a dead letter where it did so too often. Raises Lost."""
        self.held.pop(one.place, None)
        delay_ms = min(delay_ms, self._node.limits.max_ack_wait_ms)
        await self._surely(Nack(1, *one.place, one.attempt, delay_ms=delay_ms))

    async def bury(self, taken: list[Taken]) -> None:
        """They become dead letters. Raises Lost."""
        for one in taken:
            self.held.pop(one.place, None)
            await self._surely(Nack(1, *one.place, one.attempt, reject=True))

    async def _surely(self, packet: ClientPacket) -> None:
        for _ in range(SETTLE_ATTEMPTS):
            answer = await self._ask(packet)
            if isinstance(answer, Acked):
                return
            if isinstance(answer, Error) and answer.name == ErrorName.CONFLICT:
                return  # it was given to somebody else meanwhile
            if self.ended:
                break
            await trio.sleep(AGAIN_SECONDS)
        raise Lost(self.ended or "acknowledgements were not answered")

    async def _ask(self, packet: ClientPacket) -> ServerPacket | None:
        self._number += 1
        number = packet.id = self._number  # type: ignore[attr-defined]  # all that are asked have one
        self._answers[number] = None
        self._say(packet)
        with trio.move_on_after(PATIENCE_SECONDS):
            while self._answers[number] is None and not self.ended:
                await self._bell.wait()
                self._bell = trio.Event()
        return self._answers.pop(number)

    def _say(self, packet: ClientPacket) -> None:
        try:
            self._session.receive_text(encode(packet).decode(), self._now_ms())
        except Disconnect as end:
            self.close(end.code)
        self._flush()

    def hear(self, payload: bytes) -> None:
        """What the session says, maybe in the midst of a delivery to many: it is put down, and that is all."""
        for packet in decode_server(payload.decode()):
            if isinstance(packet, Delivery):
                self._take(packet)
            elif isinstance(packet, Gap):
                self.gaps.append(packet.reason)
            elif isinstance(packet, Unsubscribed):
                self.ended = self.ended or packet.message or "it was ended"
            elif (number := getattr(packet, "id", 0)) in self._answers:
                self._answers[number] = packet
        self._bell.set()

    def _take(self, delivery: Delivery) -> None:
        message = _message(delivery.message)
        place = message.log, message.pos
        attempt = delivery.attempt or 1
        self.held[place] = Taken(place, message.message_id, message.data, attempt)

    def leave(self) -> None:
        """What it holds goes to others. Idempotent."""
        if not self.close_code:
            self.close_code = NORMAL_CLOSE
        if self._session is not None:
            session, self._session = self._session, None  # type: ignore[assignment]  # nothing is said any more
            session.detach()
            self._flush()

    # `core.interfaces.Connection`

    def close(self, code: int, reconnect_after_ms: int = 0) -> None:
        """The node has it end; only marks."""
        self.close_code = self.close_code or int(code)
        self.ended = self.ended or "the node has ended it"
        self._bell.set()

    def drop(self) -> None:
        """The same."""
        self.close(NORMAL_CLOSE)

    def wake(self) -> None:
        """It has said `connect` to nobody, so nobody has to let it in."""


def _why(answer: Any) -> str:
    return answer.message if isinstance(answer, Error) else "it was not answered"
