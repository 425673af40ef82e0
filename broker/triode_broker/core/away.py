"""Away: what a connection has to do with names whose homes are on other nodes (SPEC 9.9).

The home serves the client as if it were connected there: what it says goes there, what the home answers is passed
on as it is, and only the home knows the rules. Kept here is what must be known once the home is lost: what was
asked and not answered. Knows no nodes and no links, those are behind `Homes`.

The surprising decision: deliveries pass unread, told by their first bytes. Anything else is looked into for what
it ends; nothing is checked, and nothing is written anew.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import attrs
import msgspec
from msgspec import Struct
from triode_protocol.codec import Refused, encode
from triode_protocol.errors import RETRY, ErrorName
from triode_protocol.packets import Ack, Extend, Nack, Subscribe, Unsubscribe, Unsubscribed

from triode_broker.core.awaiting import RETRY_QUEUE_MS, RETRY_STORE_MS
from triode_broker.core.errors import answer_to
from triode_broker.core.identity import Identity
from triode_broker.core.outbox import Outbox
from triode_broker.core.shard import Shard

DELIVERY: Final = b'{"type":"delivery"'
#: Acks, nacks and extends of one connection that wait for a home's answer.
MAX_ASKED: Final = 4_096
LOST: Final = "the home of this subscription was lost, or has moved: ask for it again"


class Attachment(Protocol):
    """The way of one connection to one node that is the home of names."""

    def tell(self, packet: bytes, *, is_last: bool = False) -> None:
        """Send a packet of the client. Raises Refused where that is too much: then it was not sent.

        `is_last` of its subscription: it is sent in any case.
        """

    def took(self, size: int) -> None:
        """The client's outbox has room for as many bytes again."""

    def detach(self, code: int) -> None:
        """The client's connection has ended with this code; nothing comes any more."""


class Homes(Protocol):
    """The ways to other nodes."""

    def attach(self, home: Shard, away: "Away") -> Attachment:
        """The one way of that connection to the owner of that shard. Raises Refused where it is not reached."""


class _Said(Struct):
    """What has to be known of a packet that is passed on."""

    type: str
    id: int = 0
    sub: int = 0


_said: Final = msgspec.json.Decoder(_Said)


@attrs.define(eq=False)
class _Sub:
    """One acknowledged subscription that is at home elsewhere."""

    way: Attachment
    filter: str
    id: int  # of its subscribe
    kind: str  # as of `consumer.Consumer`
    name: str
    is_answered: bool = False


class Away:
    """One connection's subscriptions that are at home elsewhere; made at need."""

    __slots__ = (
        "_asked",
        "_ended",
        "_expelled",
        "_homes",
        "_leaving",
        "_outbox",
        "_subs",
        "_untaken",
        "_ways",
        "connection_id",
        "identity",
    )

    def __init__(
        self,
        homes: Homes | None,
        outbox: Outbox,
        connection_id: str,
        identity: Identity,
        ended: Callable[[str], None],
    ) -> None:
        """`ended` is told the filter of each that has come to its end. Without `homes` none is reached."""
        self._homes = homes
        self._outbox = outbox
        self.connection_id = connection_id
        self.identity = identity
        self._ended = ended
        self._ways: dict[Attachment, None] = {}
        self._subs: dict[int, _Sub] = {}
        self._expelled: set[int] = set()  # their home does not know yet
        self._leaving: dict[int, tuple[Attachment, int]] = {}  # unsubscribed, and the id of that
        self._asked: dict[int, tuple[Attachment, int]] = {}  # by id of an ack, nack or extend: the sub
        self._untaken: dict[Attachment, int] = {}  # bytes that came and that no room was told for

    def __contains__(self, number: int) -> bool:
        return number in self._subs

    def __len__(self) -> int:
        return len(self._subs)

    def open(self) -> Iterator[tuple[int, str, str, str, bool]]:
        """What is open: number, kind, name, filter, and whether the home has answered."""
        for number, sub in self._subs.items():
            yield number, sub.kind, sub.name, sub.filter, sub.is_answered

    # What the client says

    def subscribe(self, home: Shard, packet: Subscribe) -> None:
        """Ask the home. Raises Refused: then nothing was asked."""
        if self._homes is None:
            raise unreached(home)
        way = self._homes.attach(home, self)
        self._ways[way] = None
        way.tell(encode(packet))
        kind = "group" if packet.group else "shared" if packet.shared else "durable"
        self._subs[packet.sub] = _Sub(way, packet.filter, packet.id, kind, packet.group or packet.durable)

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """End one that is there; the home answers."""
        way = self._subs[packet.sub].way
        way.tell(encode(packet), is_last=True)
        self._leaving[packet.sub] = way, packet.id
        self._end(packet.sub)

    def judge(self, check: Callable[[str], None]) -> None:
        """End those whose filters it raises Refused for. What their homes still say of them goes to nobody."""
        for number, sub in list(self._subs.items()):
            try:
                check(sub.filter)
            except Refused as refused:
                self._expel(number, sub, refused)

    def _expel(self, number: int, sub: _Sub, refused: Refused) -> None:
        sub.way.tell(encode(Unsubscribe(number)), is_last=True)
        self._expelled.add(number)
        self._end(number)
        if sub.is_answered:
            self._outbox.put(encode(Unsubscribed(number, 0, refused.name, refused.message, refused.retry)))
        else:
            refused.sub = number
            self._outbox.put(answer_to(refused, sub.id))

    def settle(self, packet: Ack | Nack | Extend) -> None:
        """Tell the home of one that is there. Raises Refused: then it does not know."""
        way = self._subs[packet.sub].way
        if packet.id and len(self._asked) >= MAX_ASKED:
            message = "too many requests of this connection wait for another node: wait for their answers"
            raise Refused(ErrorName.INFLIGHT, message, retry_after_ms=RETRY_QUEUE_MS)
        way.tell(encode(packet))
        if packet.id:
            self._asked[packet.id] = way, packet.sub

    def detach(self, code: int) -> None:
        """The connection has ended."""
        for way in self._ways:
            way.detach(code)
        self._ways.clear()

    def _end(self, number: int) -> None:
        self._ended(self._subs.pop(number).filter)

    # What homes say

    def said(self, way: Attachment, packets: Sequence[bytes]) -> None:
        """Pass it on, in order."""
        for packet in packets:
            if self._expelled and self._is_expelled(packet):
                continue
            self._outbox.put(packet)
            if not packet.startswith(DELIVERY):
                self._note(_said.decode(packet))
        self._untaken[way] = self._untaken.get(way, 0) + sum(map(len, packets))
        self.room()

    def room(self) -> None:
        """Homes may say more as soon as the client takes more (G6)."""
        if not self._untaken:
            return
        if not self._outbox.has_room:
            self._outbox.wants_room = True
            return
        untaken, self._untaken = self._untaken, {}
        for way, size in untaken.items():
            way.took(size)

    def _is_expelled(self, packet: bytes) -> bool:
        """Whether it is about one that has ended without being asked to; its last word forgets it."""
        said = _said.decode(packet)
        is_expelled = said.sub in self._expelled and said.id not in self._asked  # acks are answered all the same
        if is_expelled and said.type == "unsubscribed":
            self._expelled.remove(said.sub)
        return is_expelled

    def _note(self, said: _Said) -> None:
        number = said.sub
        sub = self._subs.get(number)
        if said.type == "acked":
            self._asked.pop(said.id, None)
        elif said.type == "subscribed" and sub is not None:
            sub.is_answered = True
        elif said.type == "unsubscribed":
            self._leaving.pop(number, None)
            if sub is not None:
                self._end(number)
        elif said.type == "error" and self._asked.pop(said.id, None) is None and _refuses(said, sub):
            self._end(number)

    def lost(self, way: Attachment) -> None:
        """That home is lost, or has sent this connection away: all that waits is answered (SPEC 9.9)."""
        self._untaken.pop(way, None)
        self._ways.pop(way, None)
        put = self._outbox.put
        for id, (other, number) in list(self._asked.items()):
            if other is way:
                del self._asked[id]
                put(_unknown(id, number))
        for number, (other, id) in list(self._leaving.items()):
            if other is way:
                del self._leaving[number]
                put(encode(Unsubscribed(number, id)))
        for number, sub in list(self._subs.items()):
            if sub.way is not way:
                continue
            self._end(number)
            if sub.is_answered:
                name = ErrorName.UNAVAILABLE
                put(encode(Unsubscribed(number, 0, name, LOST, RETRY[name])))
            else:
                put(_unknown(sub.id, number))


def _refuses(said: _Said, sub: _Sub | None) -> bool:
    """Whether an error answers this one's subscribe."""
    return sub is not None and not sub.is_answered and sub.id == said.id


def unreached(home: Shard) -> Refused:
    """What a subscribe is answered with whose home is not reached."""
    message = f"the home of this name, the owner of shard {home.name}, is not reached"
    return Refused(ErrorName.UNAVAILABLE, message, retry_after_ms=RETRY_STORE_MS)


def _unknown(id: int, sub: int) -> bytes:
    """Whether the home has done it, nobody knows."""
    message = "the home of this subscription was lost before it had answered"
    refused = Refused(ErrorName.TIMEOUT, message, retry_after_ms=RETRY_STORE_MS)
    refused.id, refused.sub = id, sub
    return answer_to(refused)
