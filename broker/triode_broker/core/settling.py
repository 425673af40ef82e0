"""What a member says of its deliveries: ack, nack and extend (SPEC 9.2, 9.3), and who may say it.

Checks a packet against what its connection was given, then tells the consumer; either all that a packet says
holds, or nothing. Answers are the caller's.
"""

from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Ack, Extend, Nack

from triode_broker.config import Limits
from triode_broker.core.item import Item, State
from triode_broker.core.roster import Member
from triode_broker.core.source import Source


def ack(member: Member, packet: Ack, now_ms: int) -> None:
    """Settle what it names. Raises Refused."""
    if (packet.pos == 0) == (packet.upto == 0):
        raise Refused(ErrorName.MALFORMED, "an ack has pos or upto", field="pos")
    consumer = member.consumer
    source = consumer.by_log.get(packet.log)
    if source is None:  # an earlier life of a log: what was of it is settled or gone
        return
    if packet.upto:
        items = _held_upto(source, packet.upto, member)
    elif isinstance(packet.pos, int):
        found = _find(source, packet.pos, member)
        items = [] if found is None else [found]
    else:
        places = dict.fromkeys(packet.pos)
        items = [item for pos in places if (item := _find(source, pos, member)) is not None]
    for item in items:
        if source.gap_reason and item.record.pos > source.gap_at:
            source.gap_reason = ""
        consumer.settle(item)
    if items:
        consumer.changed()
        consumer.pump(now_ms)


def _held_upto(source: Source, upto: int, member: Member) -> list[Item]:
    """What it holds up to there, as far as it can have seen it when it said so (SPEC 9.2.6).

    What comes again comes behind what is newer: it may be on its way, unseen.
    """
    items: list[Item] = []
    for item in member.held:  # in order of delivery
        if item.source is source and item.record.pos <= upto:
            items.append(item)
            if item.record.pos == upto:
                return items
    return [item for item in items if not item.is_behind]


def _find(source: Source, pos: int, member: Member) -> Item | None:
    """The unsettled item there; None if it is settled. Raises Refused unless this connection had it."""
    item = source.items.get(pos)
    if item is None:
        if source.is_unsettled(pos):
            raise Refused(ErrorName.CONFLICT, "this was not delivered on this connection", field="pos")
        return None
    if item.state == State.DYING:
        return None
    outbox = member.outbox
    if (item.holder is None or item.holder.outbox is not outbox) and outbox not in item.earlier:
        raise Refused(ErrorName.CONFLICT, "this was not delivered on this connection", field="pos")
    return item


def nack(member: Member, packet: Nack, limits: Limits, now_ms: int) -> None:
    """Give a delivery back. Raises Refused."""
    _check_time(packet.delay_ms, "delay_ms", limits)
    item = _held(member, packet)
    consumer = member.consumer
    consumer.now_ms = now_ms
    if packet.reject:
        consumer.reject(item)
    else:
        consumer.fail(item, delay_ms=packet.delay_ms)
    consumer.pump(now_ms)


def extend(member: Member, packet: Extend, limits: Limits) -> None:
    """More time for a delivery. Raises Refused."""
    _check_time(packet.ms, "ms", limits)
    member.consumer.extend(_held(member, packet), packet.ms)


def _check_time(ms: int, field: str, limits: Limits) -> None:
    if ms > limits.max_ack_wait_ms:
        raise Refused(ErrorName.MALFORMED, f"{field} is at most {limits.max_ack_wait_ms}", field=field)


def _held(member: Member, packet: Nack | Extend) -> Item:
    """The delivery in force that a packet means. Raises Refused."""
    source = member.consumer.by_log.get(packet.log)
    item = source.items.get(packet.pos) if source is not None else None
    if item is None or item.holder is not member:
        message = "this delivery is not in force any more, or not on this subscription"
        raise Refused(ErrorName.CONFLICT, message, field="pos")
    if item.attempt != packet.attempt:
        raise Refused(ErrorName.CONFLICT, f"attempt {item.attempt} is in force", field="attempt")
    return item
