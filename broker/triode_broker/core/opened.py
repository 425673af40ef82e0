"""Opened: what an operator sees of the subscriptions that a connection has open. Reads, changes nothing.

Knows sessions and all kinds of subscriptions. The surprising decision: a name that is at home on another node is
told of by the node that its client is connected to, as everything of that connection is; how far it has come, its
home alone knows (`summaries`).
"""

from collections.abc import Iterator

import attrs

from triode_broker.core.roster import Member
from triode_broker.core.session import Session
from triode_broker.core.subscription import Subscription
from triode_broker.core.tenants import name_outside, outside


@attrs.frozen
class Opened:
    """One subscription. What a kind does not have is "" or 0."""

    sub: int
    kind: str  # plain, durable, shared (a durable one with several members) or group
    name: str
    filter: str
    state: str  # opening, live, catching_up, slow (its outbox has no room), or elsewhere (its home knows)
    overflow: str = ""
    window: int = 0
    in_flight: int = 0


def opened(session: Session) -> Iterator[Opened]:
    """All of a connection."""
    yield from map(_plain, session.subscriptions)
    if (acknowledged := session.acknowledged) is None:
        return
    yield from map(_member, acknowledged.members)
    if acknowledged.away is not None:
        for number, kind, name, filter, is_answered in acknowledged.away.open():
            yield Opened(number, kind, name, filter, "elsewhere" if is_answered else "opening")


def _plain(sub: Subscription) -> Opened:
    state = "live" if sub.is_live else "catching_up" if sub.is_answered else "opening"
    if state == "catching_up" and not sub.outbox.has_room:
        state = "slow"
    return Opened(sub.number, "plain", "", outside(sub.filter), state, sub.overflow)


def _member(member: Member) -> Opened:
    consumer = member.consumer
    state = "opening" if member.subscribe_id >= 0 else "slow" if member.is_stalled else "live"
    name, filter = name_outside(consumer.name), outside(consumer.filter)
    return Opened(
        member.number,
        consumer.kind,
        name,
        filter,
        state,
        window=member.window,
        in_flight=len(member.held),
    )
