"""One connection's acknowledged subscriptions: which are at home here, which elsewhere, and what is told to whom.

Knows the session only as its client's connection and as who waits for answers. The surprising decision: made at
need, and never unmade before the end. Idle connections are many, and few of them have any.
"""

from collections.abc import Callable
from functools import partial

import attrs
from triode_protocol.codec import Refused, encode
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Ack, Extend, Nack, Subscribe, Unsubscribe, Unsubscribed

from triode_broker.core.asking import Asked
from triode_broker.core.away import Away, Homes
from triode_broker.core.consumers import CLEAN_CLOSES
from triode_broker.core.door import check_consume
from triode_broker.core.identity import Identity
from triode_broker.core.interfaces import Publisher
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.rights import Rights
from triode_broker.core.roster import Member
from triode_broker.core.tenants import inside, outside


@attrs.define(eq=False)
class Acknowledged:
    """Those of one connection. `ended` is told the filter of each that has come to its end."""

    _node: Node
    _homes: Homes | None  # of names that are not at home here; without them, no such name is reached
    _outbox: Outbox
    _connection_id: str
    _identity: Identity
    _publisher: Publisher
    _ended: Callable[[str], None]
    _members: dict[int, Member] = attrs.field(init=False, factory=dict)
    _away: Away | None = attrs.field(init=False, default=None)

    def __len__(self) -> int:
        return len(self._members) + len(self._away or ())

    @property
    def members(self) -> list[Member]:
        """Those at home here."""
        return list(self._members.values())

    @property
    def away(self) -> Away | None:
        """Those at home elsewhere, where there are any."""
        return self._away

    def __contains__(self, number: int) -> bool:
        return number in self._members or (self._away is not None and number in self._away)

    def open(self, asked: Asked, packet: Subscribe) -> None:
        """Take one in, as checked; `begin` answers. Raises Refused: then nothing was done."""
        home = self._node.router.home_of(asked.name)
        if not home.is_here:
            self._go_away().subscribe(home, packet)
            return
        consumers = self._node.consumers
        packet.filter = inside(self._identity.tenant, packet.filter)
        member = consumers.attach(asked, packet, self._outbox, self._connection_id, self._publisher, self._end)
        self._members[packet.sub] = member

    def begin(self, packet: Subscribe, now_ms: int) -> None:
        """Set going what was opened; a home elsewhere does it by itself."""
        if (member := self._members.get(packet.sub)) is not None:
            self._node.consumers.begin(member, packet, now_ms)

    def unsubscribe(self, packet: Unsubscribe, now_ms: int) -> None:
        """End one that is there."""
        member = self._members.get(packet.sub)
        if member is None:
            assert self._away is not None
            self._away.unsubscribe(packet)
            return
        self._end(packet.sub)
        self._outbox.put(encode(Unsubscribed(packet.sub, packet.id)))
        self._node.consumers.leave(member, now_ms, is_clean=True)

    def ack(self, packet: Ack, now_ms: int) -> None:
        """SPEC 9.3. Raises Refused."""
        if not self._told_home(packet):
            self._node.consumers.ack(self._member(packet.sub), packet, now_ms)

    def nack(self, packet: Nack, now_ms: int) -> None:
        """SPEC 9.4. Raises Refused."""
        if not self._told_home(packet):
            self._node.consumers.nack(self._member(packet.sub), packet, now_ms)

    def extend(self, packet: Extend, now_ms: int) -> None:
        """SPEC 9.4. Raises Refused."""
        if not self._told_home(packet):
            self._node.consumers.extend(self._member(packet.sub), packet)

    def judge(self, rights: Rights) -> None:
        """These are in force now: what they do not allow ends, and what it holds goes to others."""
        over: list[tuple[Member, Refused]] = []
        for member in self._members.values():
            try:
                check_consume(rights, outside(member.consumer.filter))
            except Refused as refused:
                over.append((member, refused))
                member.window = 0  # first of all none of them gets what the others give back
                member.consumer.place(member)
        for member, why in over:
            self._node.consumers.expel(member, why)
        if self._away is not None:
            self._away.judge(partial(check_consume, rights))

    def room(self, now_ms: int) -> None:
        """The outbox has drained to half."""
        for member in list(self._members.values()):
            member.consumer.room(member, now_ms)
        if self._away is not None:
            self._away.room()

    def detach(self, code: int) -> None:
        """The connection has ended with this code."""
        members, self._members = self._members, {}
        for member in members.values():
            self._node.consumers.leave(member, is_clean=code in CLEAN_CLOSES)
        self.leave_others(code)

    def leave_others(self, code: int) -> None:
        """Its part on other nodes: the connection ends with this code."""
        if self._away is not None:
            self._away.detach(code)

    def _end(self, number: int) -> None:
        self._ended(self._members.pop(number).consumer.filter)

    def _go_away(self) -> Away:
        if self._away is None:
            self._away = Away(self._homes, self._outbox, self._connection_id, self._identity, self._ended)
        return self._away

    def _told_home(self, packet: Ack | Nack | Extend) -> bool:
        if self._away is None or packet.sub not in self._away:
            return False
        self._away.settle(packet)
        return True

    def _member(self, sub: int) -> Member:
        member = self._members.get(sub)
        if member is None:
            raise no_such_subscription()
        return member


def no_such_subscription() -> Refused:
    """What ack, nack and extend are answered with where there is none (SPEC 9.3)."""
    message = "there is no such acknowledged subscription"
    return Refused(ErrorName.NO_SUCH_SUBSCRIPTION, message, field="sub")
