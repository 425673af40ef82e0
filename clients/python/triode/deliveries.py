"""What `client.consume(…)` gives: the deliveries of an acknowledged subscription, and the answers to them.

Knows the runtime, the session's settler and what all subscriptions share (receiving.py). The surprising decision:
the end of a `with delivery` block never raises because of the connection. A delivery that was taken back comes
again; a worker that dies of every broken line would be worse than one that does something twice.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, Self

from triode_protocol import packets

from triode.consuming import Handed, Terms
from triode.driver import Driver
from triode.errors import DeliveryLost, DeliveryRefused, TriodeError
from triode.receiving import Everything, Receiving
from triode.records import Gap, Message, Position
from triode.settling import Settlement, Settler, is_lost
from triode.subscription import Subscription
from triode.watching import say

_MOST_SECONDS: Final = 1e9

#: What became of a delivery; "" while it is open.
Outcome = Literal["", "acked", "nacked", "rejected", "lost"]


class Delivery:
    """One message to be acknowledged. It comes again until somebody does, so a program may see it twice (G5).

    Answer it with `ack`, `nack` or `reject`, or let a block do it: `with delivery:` acknowledges at the end and
    gives it back on an exception, which goes on its way. `async with delivery:` waits for the broker's word at the
    end, too. Neither block raises when the delivery was lost; `outcome` tells.

    The methods that wait raise DeliveryLost when the broker took the delivery back, with its connection or its
    subscription (it comes again), and DeliveryRefused when it says no. The first answer counts: the same once more
    does nothing, another one raises RuntimeError.
    """

    __slots__ = ("_driver", "_handed", "_retry_delay", "_subscription", "attempt", "message", "outcome")

    def __init__(self, driver: Driver, subscription: Subscription, handed: Handed, retry_delay: float) -> None:
        self._driver = driver
        self._subscription = subscription
        self._handed = handed
        self._retry_delay = retry_delay
        self.message: Message = handed.message
        #: Which delivery of this message it is, from 1.
        self.attempt: int = handed.attempt
        #: What became of it, as far as this program knows: "", "acked", "nacked", "rejected" or "lost".
        self.outcome: Outcome = ""

    # The message

    @property
    def topic(self) -> str:
        """Where it was published."""
        return self.message.topic

    @property
    def data(self) -> Any:
        """The payload; see `Message.data`."""
        return self.message.data

    @property
    def key(self) -> str:
        """The publisher's key, or ""."""
        return self.message.key

    @property
    def headers(self) -> dict[str, str]:
        """The publisher's headers."""
        return self.message.headers

    @property
    def message_id(self) -> str:
        """The publisher's message id, or ""."""
        return self.message.message_id

    @property
    def position(self) -> Position:
        """Its place, for `history()`; also what tells that two deliveries are of the same message."""
        return self.message.position

    @property
    def is_lost(self) -> bool:
        """Whether the broker has taken it back, with its connection or its subscription: work on it is in vain."""
        return self.outcome == "lost" or is_lost(self._subscription, self._handed)

    def __repr__(self) -> str:
        return f"<Delivery attempt={self.attempt} {self.outcome or 'open'} {self.message!r}>"

    # Answers

    async def ack(self) -> None:
        """It is done. Returns when the broker has noted it: it does not come again."""
        if self._begin("acked"):
            await self._confirmed(self._settler.ack(self._subscription, self._handed, self._driver.runtime.now()))

    def ack_nowait(self) -> None:
        """It is done. Sent together with others of this turn and not confirmed, so it may still come again."""
        if self._begin("acked"):
            self._told(self._settler.ack(self._subscription, self._handed))

    async def nack(self, delay: float = 0.0) -> None:
        """It is not done: to be given out again after `delay` seconds, as the next attempt."""
        delay_ms = _ms(delay)
        if self._begin("nacked"):
            now = self._driver.runtime.now()
            await self._confirmed(self._settler.nack(self._subscription, self._handed, delay_ms, now=now))

    def nack_nowait(self, delay: float = 0.0) -> None:
        """Like `nack`, not confirmed. Should it not arrive, the broker gives the message out after `ack_wait`."""
        delay_ms = _ms(delay)
        if self._begin("nacked"):
            self._told(self._settler.nack(self._subscription, self._handed, delay_ms))

    async def reject(self) -> None:
        """It can never be done: to the dead letters at once, whatever the attempt."""
        if self._begin("rejected"):
            now = self._driver.runtime.now()
            await self._confirmed(self._settler.nack(self._subscription, self._handed, reject=True, now=now))

    async def extend(self, seconds: float) -> None:
        """It takes longer: the broker waits for the answer `seconds` from now. Any number of times."""
        ms = _ms(seconds)
        if self.outcome not in ("", "lost"):
            raise RuntimeError(f"this delivery is {self.outcome} already")
        await self._confirmed(
            self._settler.extend(self._subscription, self._handed, max(1, ms), self._driver.runtime.now())
        )

    @property
    def _settler(self) -> Settler:
        return self._driver.session.settler

    def _begin(self, outcome: Outcome) -> bool:
        """Whether there is something to say. What was lost may be said again, for it may not have been heard."""
        if self.outcome == outcome:
            return False
        if self.outcome not in ("", "lost"):
            raise RuntimeError(f"this delivery is {self.outcome} already")
        self.outcome = outcome
        return True

    def _told(self, settlement: Settlement) -> None:
        if settlement.error is not None:
            self._lose(settlement.error)
        self._driver.wake_writer()

    async def _confirmed(self, settlement: Settlement) -> None:
        self._driver.wake_writer()
        if not settlement.is_done:
            settlement.waiter = self._driver.runtime.event()
            await settlement.waiter.wait()
        if settlement.error is not None:
            self._lose(settlement.error)
            raise settlement.error

    def _lose(self, error: TriodeError) -> None:
        self.outcome = "lost"
        say(logging.INFO, "delivery_lost", topic=self.topic, attempt=self.attempt, reason=str(error))

    # Blocks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.outcome:
            return
        if error is None:
            self.ack_nowait()
        else:  # a cancelled program gives it back at once; one that failed lets it rest
            self.nack_nowait(self._retry_delay if isinstance(error, Exception) else 0.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waits only where all went well, so neither an exception nor a cancellation is held up."""
        if error is not None or self.outcome:
            self.__exit__(kind, error, traceback)
            return
        with suppress(DeliveryLost, DeliveryRefused):  # `outcome` tells, and the log
            await self.ack()


class Deliveries(Receiving[Handed | Gap]):
    """The deliveries of a durable subscription or a group, through all reconnects (G5).

    `async with` waits until the broker has taken this client as a consumer. It raises SubscriptionEnded when the
    broker refuses, ConnectionClosed when the client is closed; iterating raises the same when the broker ends the
    subscription later. At most `window` deliveries are given out and not yet answered, so several tasks may work
    at once. Leaving the block gives back what is not answered, without counting the attempt: finish work first.

    After a lost connection it subscribes again under the same name. The deliveries of before are lost then: they
    come again, as the next attempt.

    A gap is never lost, as with `Messages`: in `events()`, by `on_gap`, or in the log; and it is told again at
    each attach until something behind it is acknowledged.
    """

    def __init__(
        self,
        driver: Driver,
        filter: str,
        start: packets.From,
        terms: Terms,
        retry_delay: float,
        on_gap: Callable[[Gap], None] | None,
    ) -> None:
        session = driver.session
        super().__init__(
            driver,
            filter,
            on_gap,
            lambda: session.consume(filter, start, terms),
            session.subscriptions.take_handed,
        )
        _ms(retry_delay)
        self._retry_delay = retry_delay

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        """The next delivery. Any number of tasks may share the iterator; cancelled, one has taken nothing."""
        while True:
            item = await self._next()
            if not isinstance(item, Gap):
                return self._delivery(item)
            self._report(item)

    def events(self) -> AsyncIterator[Delivery | Gap]:
        """Deliveries and Gap, in order: the same inbox, so use this or the plain iteration."""
        self._opened()
        return Everything(self._next_delivery_or_gap)

    async def _next_delivery_or_gap(self) -> Delivery | Gap:
        item = await self._next_event()
        return item if isinstance(item, Gap) else self._delivery(item)

    def _delivery(self, handed: Handed) -> Delivery:
        return Delivery(self._driver, self._opened(), handed, self._retry_delay)


def _ms(seconds: float) -> int:
    """Raises ValueError."""
    if not 0 <= seconds <= _MOST_SECONDS:
        raise ValueError(f"not a time to wait: {seconds} s")
    return round(seconds * 1000)
