"""What programs answer to deliveries: acks, nacks and extensions on their way, and the broker's word on them (G5).

Knows packets and times, no transport. The surprising decision: an answer that came too late is no error here. The
message comes again, and only the program can tell whether that matters.
"""

from math import inf
from typing import Any, Final

from attrs import define
from triode_protocol import packets

from triode.consuming import Handed, Tray
from triode.errors import DeliveryLost, DeliveryRefused, TriodeError
from triode.options import Options
from triode.outgoing import Outgoing
from triode.subscription import Subscription


@define(eq=False)
class Settlement:
    """One answer to a delivery. Done once `is_done`; `waiter` is the front's to use."""

    expires_at: float = inf
    is_done: bool = False
    error: TriodeError | None = None  # None: the broker has taken it, or nobody asked
    waiter: Any = None


_TOLD: Final = Settlement(is_done=True)


class Settler:
    """The answers of one client. With `now` the broker confirms or refuses; without, it says nothing."""

    def __init__(self, options: Options, outgoing: Outgoing, finished: list[Any]) -> None:
        self._options = options
        self._outgoing = outgoing
        self._finished = finished
        self._unanswered: dict[int, Settlement] = {}  # in the order of asking, so of deadlines

    # What programs say

    def ack(self, subscription: Subscription, handed: Handed, now: float | None = None) -> Settlement:
        """It is done. Should it have come again meanwhile, that delivery is not given to the program any more."""
        if is_lost(subscription, handed):
            return _lost()
        log, pos = handed.place
        if (again := _tray(subscription).pop(handed.place)) is not None:
            subscription.drop(again)
        if now is not None:
            return self._ask(packets.Ack(subscription.number, log, pos), now)
        self._outgoing.ack(subscription.number, log, pos)
        return _TOLD

    def nack(
        self,
        subscription: Subscription,
        handed: Handed,
        delay_ms: int = 0,
        *,
        reject: bool = False,
        now: float | None = None,
    ) -> Settlement:
        """It is not done: give it out again after `delay_ms`, or (`reject`) put it among the dead letters."""
        if is_lost(subscription, handed):
            return _lost()
        subscription.drop_behind(handed)
        log, pos = handed.place
        packet = packets.Nack(subscription.number, log, pos, handed.attempt, delay_ms, reject)
        if now is not None:
            return self._ask(packet, now)
        self._outgoing.put(packet)
        return _TOLD

    def extend(self, subscription: Subscription, handed: Handed, ms: int, now: float) -> Settlement:
        """It takes longer: `ms` from the moment at which the broker hears of it."""
        if is_lost(subscription, handed):
            return _lost()
        log, pos = handed.place
        return self._ask(packets.Extend(subscription.number, log, pos, handed.attempt, ms), now)

    def _ask(self, packet: packets.Ack | packets.Nack | packets.Extend, now: float) -> Settlement:
        packet.id = self._outgoing.next_id()
        settlement = Settlement(now + self._options.request_timeout_seconds)
        self._unanswered[packet.id] = settlement
        self._outgoing.put(packet)
        return settlement

    # What the broker says

    def acked(self, packet: packets.Acked) -> None:
        """It has taken one; an unknown id is ignored."""
        if settlement := self._unanswered.pop(packet.id, None):
            self._finish(settlement, None)

    def refused(self, packet: packets.Error) -> bool:
        """It refused one. False: it is none of ours."""
        settlement = self._unanswered.pop(packet.id, None)
        if settlement is None:
            return False
        error = DeliveryRefused(
            packet.name,
            packet.message,
            field=packet.field,
            retry=packet.retry,
            retry_after_ms=packet.retry_after_ms,
        )
        self._finish(settlement, error)
        return True

    def detach(self) -> None:
        """The connection is gone: whether the broker has taken what is unanswered, nobody knows."""
        for settlement in self._unanswered.values():
            self._finish(settlement, DeliveryLost("the connection was lost before the broker's answer"))
        self._unanswered.clear()

    # Time

    def deadline(self) -> float:
        """When the oldest times out."""
        for oldest in self._unanswered.values():
            return oldest.expires_at
        return inf

    def tick(self, now: float) -> None:
        """End what has waited too long."""
        while now >= self.deadline():
            oldest = self._unanswered.pop(next(iter(self._unanswered)))
            self._finish(oldest, DeliveryLost("the broker did not answer in time"))

    def _finish(self, settlement: Settlement, error: TriodeError | None) -> None:
        settlement.is_done = True
        settlement.error = error
        self._finished.append(settlement)


def is_lost(subscription: Subscription, handed: Handed) -> bool:
    """Whether the broker has taken the delivery back, with its connection or its subscription."""
    return handed.round != _tray(subscription).round


def _tray(subscription: Subscription) -> Tray:
    assert subscription.tray is not None  # a delivery with an attempt comes from an acknowledged one
    return subscription.tray


def _lost() -> Settlement:
    return Settlement(is_done=True, error=DeliveryLost("the broker has taken the delivery back: it comes again"))
