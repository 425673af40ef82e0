"""One connection's subscriptions without acknowledgements: opened, judged anew, ended, and their part in presence.

Knows the session as who has them, and asks it for what all its subscriptions share: numbers, room, the rights in
force. The surprising decision: made at need, for idle connections are many; and unmade at the end, or it and the
session would keep each other in memory until somebody collects them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import UNSET
from triode_protocol.codec import encode
from triode_protocol.packets import Subscribe, Unsubscribe, Unsubscribed

from triode_broker.core.door import grant
from triode_broker.core.judging import ended, judge
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.rights import Rights
from triode_broker.core.start import check_start
from triode_broker.core.subscription import Subscription
from triode_broker.core.tenants import inside

if TYPE_CHECKING:
    from triode_broker.core.session import Session


class Unacknowledged:
    """Those of one connection."""

    __slots__ = ("_by_number", "_node", "_outbox", "_session")

    def __init__(self, node: Node, outbox: Outbox, session: "Session") -> None:
        self._node = node
        self._outbox = outbox
        self._session = session
        self._by_number: dict[int, Subscription] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self._by_number.values()))

    def open(self, packet: Subscribe) -> Subscription:
        """Take one in; `core.start` answers. Raises Refused: then nothing was done."""
        node, session = self._node, self._session
        identity, presence = session.identity, node.presence
        session.check_subscribe(packet)
        granted = grant(identity, packet)
        packet.filter = inside(identity.tenant, packet.filter)
        overflow = "replay" if packet.overflow is UNSET else packet.overflow
        shards = node.router.covered(packet.filter)
        sub = Subscription(packet.sub, packet.filter, overflow, self._outbox, shards, node.router.statistics.gaps)
        sub.id = packet.id
        sub.is_past, sub.allows, sub.allows_past = granted
        check_start(packet, sub.is_wildcard)
        session.check_room(is_wildcard=sub.is_wildcard)
        presence.check(packet, session.connection_id, identity)
        session.use(packet)
        sub.attendance = presence.attend(packet, self._outbox, session.connection_id, identity)
        self._by_number[packet.sub] = sub
        return sub

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """End one that is there."""
        self._close(self._by_number.pop(packet.sub))
        self._outbox.put(encode(Unsubscribed(packet.sub, packet.id)))

    def _close(self, sub: Subscription) -> None:
        """It was taken out already; the client is told by the caller."""
        self._session.count(-1, -sub.is_wildcard)
        self._node.router.close(sub)
        if (attendance := sub.attendance) is not None:
            presence, session = self._node.presence, self._session
            presence.unwatch(attendance)
            presence.leave(attendance, session.connection_id, session.identity, is_clean=True)

    def judge(self, before: Rights) -> None:
        """Other rights are in force now: what they do not allow any more ends, one by one (G10)."""
        identity, router = self._session.identity, self._node.router
        judged = [(sub, judge(sub, before, identity, router)) for sub in self]
        over = [(sub, refused) for sub, refused in judged if refused is not None]
        for sub, _ in over:  # first of all none of them hears of the others' end
            self._node.presence.unwatch(sub.attendance)
        for sub, refused in over:
            self._close(self._by_number.pop(sub.number))
            self._outbox.put(ended(sub, refused))

    def room(self, now_ms: int) -> None:
        """The outbox has drained to half."""
        for sub in self:
            if sub.pending is not None:
                sub.pending.advance(now_ms)

    def bookmark(self) -> dict[str, int]:
        """What the live ones have had; nothing where there are none (SPEC 4.8)."""
        if not self._by_number:
            return {}
        heads = self._node.router.heads()
        for sub in self._by_number.values():
            for shard in sub.missing:  # it goes on behind its position there, not behind what others have had
                heads.pop(shard.log.name, None)
        return heads

    def be_absent(self, *, is_clean: bool) -> None:
        """What they have to do with presence is over; first nobody is told anything here."""
        presence, session = self._node.presence, self._session
        attendances = []
        for sub in self._by_number.values():
            if (attendance := sub.attendance) is not None:
                attendances.append(attendance)
                sub.attendance = None
                presence.unwatch(attendance)
        for attendance in attendances:
            presence.leave(attendance, session.connection_id, session.identity, is_clean=is_clean)

    def detach(self) -> None:
        """The connection is gone: nothing more is put into its outbox."""
        for sub in self._by_number.values():
            self._node.router.close(sub)
