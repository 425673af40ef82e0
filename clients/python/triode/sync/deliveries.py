"""What `client.consume(…)` gives to threads: the deliveries of an acknowledged subscription, and their answers.

Knows the async face's delivery, which does the answering in the loop. As there, the end of a `with delivery` block
never raises because of the connection: a delivery that was taken back comes again.
"""

from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Self

from triode.consuming import Handed
from triode.deliveries import Deliveries as AsyncDeliveries
from triode.deliveries import Delivery as AsyncDelivery
from triode.deliveries import Outcome, _ms
from triode.errors import DeliveryLost
from triode.records import Gap, Message, Position
from triode.sync.background import Background
from triode.sync.inbox import Ended, HandedInbox
from triode.sync.receiving import Everything, Receiving, Source


class Delivery:
    """One message to be acknowledged. It comes again until somebody does, so a program may see it twice (G5).

    Answer it with `ack`, `nack` or `reject`, or let a block do it: `with delivery:` acknowledges at the end and
    gives it back on an exception, which goes on its way. The block neither waits nor raises when the delivery was
    lost; `outcome` tells. Answer it from one thread at a time, whichever.

    The methods that wait raise DeliveryLost when the broker took the delivery back, with its connection or its
    subscription (it comes again), and DeliveryRefused when it says no. The first answer counts: the same once more
    does nothing, another one raises RuntimeError. In the child of a fork all answers raise InParentProcess, and
    the end of a block does nothing.
    """

    __slots__ = ("_background", "_inbox", "_inner")

    def __init__(self, inbox: HandedInbox, inner: AsyncDelivery) -> None:
        self._background = inbox.background
        self._inbox = inbox
        self._inner = inner

    # The message

    @property
    def message(self) -> Message:
        """What was published."""
        return self._inner.message

    @property
    def attempt(self) -> int:
        """Which delivery of this message it is, from 1."""
        return self._inner.attempt

    @property
    def outcome(self) -> Outcome:
        """What became of it, as far as this program knows: "", "acked", "nacked", "rejected" or "lost"."""
        return self._inner.outcome

    @property
    def topic(self) -> str:
        """Where it was published."""
        return self._inner.topic

    @property
    def data(self) -> Any:
        """The payload; see `Message.data`."""
        return self._inner.data

    @property
    def key(self) -> str:
        """The publisher's key, or ""."""
        return self._inner.key

    @property
    def headers(self) -> dict[str, str]:
        """The publisher's headers."""
        return self._inner.headers

    @property
    def message_id(self) -> str:
        """The publisher's message id, or ""."""
        return self._inner.message_id

    @property
    def position(self) -> Position:
        """Its place, for `history()`; also what tells that two deliveries are of the same message."""
        return self._inner.position

    @property
    def is_lost(self) -> bool:
        """Whether the broker has taken it back, with its connection or its subscription: work on it is in vain."""
        return self._inner.is_lost

    def __repr__(self) -> str:
        return repr(self._inner)

    # Answers

    def ack(self) -> None:
        """It is done. Returns when the broker has noted it: it does not come again."""
        self._check()
        self._background.call(self._ack_and_wait)

    def ack_nowait(self) -> None:
        """It is done. Sent together with others and not confirmed, so it may still come again."""
        self._check()
        if self._inner._begin("acked"):
            self._tell(self._ack)

    def nack(self, delay: float = 0.0) -> None:
        """It is not done: to be given out again after `delay` seconds, as the next attempt."""
        self._check()
        _ms(delay)
        self._give_back(lambda: self._inner.nack(delay))

    def nack_nowait(self, delay: float = 0.0) -> None:
        """Like `nack`, not confirmed. Should it not arrive, the broker gives the message out after `ack_wait`."""
        self._check()
        delay_ms = _ms(delay)
        if self._inner._begin("nacked"):
            self._begin_giving_back()
            self._tell(lambda _: self._nack(delay_ms))

    def reject(self) -> None:
        """It can never be done: to the dead letters at once, whatever the attempt."""
        self._check()
        self._give_back(self._inner.reject)

    def extend(self, seconds: float) -> None:
        """It takes longer: the broker waits for the answer `seconds` from now. Any number of times."""
        self._check()
        self._background.call(lambda: self._inner.extend(seconds))

    def _check(self) -> None:
        if self._background.is_inherited:
            raise self._background.closed()

    def _give_back(self, answer: Callable[[], Awaitable[None]]) -> None:
        async def in_the_loop() -> None:
            self._inbox.given_back(self._inner._handed)
            await answer()

        if self.outcome:
            self._background.call(answer)
        else:
            self._begin_giving_back()
            self._background.call(in_the_loop)

    def _begin_giving_back(self) -> None:
        """Here, so that this thread does not take one of those next."""
        if not self._inner.is_lost:
            self._inbox.give_back(self._inner._handed)

    def _tell(self, answer: Callable[[Any], None]) -> None:
        if self._inner.is_lost or self._background.is_over:
            self._inner._lose(DeliveryLost("the broker has taken the delivery back: it comes again"))
        else:
            self._background.soon(answer)

    # In the loop

    async def _ack_and_wait(self) -> None:
        self._drop_again()
        await self._inner.ack()

    def _drop_again(self) -> None:
        """Should it have come again meanwhile, that delivery need not be given out any more."""
        if not self._inner.is_lost:
            self._inbox.tray.pop(self._inner._handed.place)

    def _ack(self, _: object) -> None:
        inner = self._inner
        self._drop_again()
        inner._told(inner._settler.ack(inner._subscription, inner._handed))

    def _nack(self, delay_ms: int) -> None:
        inner = self._inner
        self._inbox.given_back(inner._handed)
        inner._told(inner._settler.nack(inner._subscription, inner._handed, delay_ms))

    # Blocks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inner.outcome or self._background.is_inherited:
            return
        if error is None:
            self.ack_nowait()
        else:  # an interrupted program gives it back at once; one that failed lets it rest
            self.nack_nowait(self._inner._retry_delay if isinstance(error, Exception) else 0.0)


class Deliveries(Receiving[AsyncDeliveries, HandedInbox]):
    """The deliveries of a durable subscription or a group: `with client.consume(…) as deliveries` (G5).

    `with` waits until the broker has taken this client as a consumer. It raises SubscriptionEnded when the broker
    refuses, ConnectionClosed when the client is closed. Iterating blocks, ends quietly when either is closed by
    the program, and raises the same when the broker ends it. At most `window` deliveries are given out and not yet
    answered; any number of threads may iterate, each delivery going to one of them. Leaving the block gives back
    what is not answered, without counting the attempt: finish work first.

    After a lost connection it subscribes again under the same name. The deliveries of before are lost then: they
    come again, as the next attempt.

    A gap is never lost, as with `Messages`: in `events()`, by `on_gap`, or in the log; and it is told again at
    each attach until something behind it is acknowledged.

    In the child of a fork it raises InParentProcess: deliveries belong to a connection, and that is the parent's.
    Call `consume` again there.
    """

    def __init__(self, source: Source, consume: Callable[..., AsyncDeliveries], arguments: dict[str, Any]) -> None:
        super().__init__(source, consume(**arguments))
        self._arguments = arguments

    def _make(self, background: Background) -> AsyncDeliveries:
        return background.client.consume(**self._arguments)

    def _make_inbox(self, background: Background, inner: AsyncDeliveries) -> HandedInbox:
        return HandedInbox(background, inner._subscribe(), background.session.subscriptions.take_handed)

    def __iter__(self) -> Iterator[Delivery]:
        return self

    def __next__(self) -> Delivery:
        """The next delivery."""
        try:
            return self._next(None)
        except Ended:
            raise StopIteration from None

    def get(self, timeout: float | None = None) -> Delivery:
        """The next delivery. Raises TimeoutError after `timeout` seconds, EOFError where no more will come."""
        try:
            return self._next(timeout)
        except Ended:
            raise EOFError("the consumer is closed") from None

    def _next(self, timeout: float | None) -> Delivery:
        while True:
            item = self._opened().take(timeout)
            if not isinstance(item, Gap):
                return self._delivery(item)
            self._report(item)

    def events(self) -> Everything[Delivery | Gap]:
        """Deliveries and Gap, in order: the same inbox, so use this or the plain iteration."""
        self._opened()
        return Everything(self._next_event)

    def _next_event(self, timeout: float | None) -> Delivery | Gap:
        item = self._opened().take(timeout)
        if isinstance(item, Gap):
            self._inner._count(item)
            return item
        return self._delivery(item)

    def _delivery(self, handed: Handed) -> Delivery:
        inbox = self._opened()
        inner = AsyncDelivery(inbox.background.driver, inbox.subscription, handed, self._inner._retry_delay)
        return Delivery(inbox, inner)
