"""Telling: one webhook's loop: take events, POST them, and settle them by what the endpoint answers.

One task for each webhook, so that none waits for another's endpoint. One request is under way at a time: what is
about the same thing arrives in the order in which it happened. The surprising decision: while an endpoint fails
the events stay where they are, on disk, and one batch of them is tried again and again, ever more rarely. That is
the circuit breaker: nothing else is asked of it, and the first answer that is a yes closes it.
"""

import random
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

import attrs
import msgspec
import trio
from msgspec import Raw

from triode_broker.config import Webhook
from triode_broker.core.events import HOOK, LOST, Event
from triode_broker.core.node import Node
from triode_broker.core.tenants import name_inside
from triode_broker.webhooks.posting import NoReply, Poster, Reply
from triode_broker.webhooks.signing import sign
from triode_broker.webhooks.taking import Lost, Taken, Taker
from triode_broker.webhooks.wanted import Wanted

#: Bytes of the events of one request, where there is more than one.
MAX_BODY_BYTES: Final = 1_048_576
#: How long after a subscription was lost, or something of ours failed, it is begun again.
AGAIN_SECONDS: Final = 1.0
#: Failures in a row after which the log says so aloud, and health knows.
LOUD: Final = 5
GONE: Final = 410
#: Statuses below 500 that speak of the endpoint's state, and not of what it was sent.
_OF_THE_ENDPOINT: Final = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 429})
TEST: Final = "webhook.test"


class State(StrEnum):
    """How a webhook stands."""

    STARTING = "starting"  # its subscription is not there yet
    WAITING = "waiting"  # for events
    TELLING = "telling"
    FAILING = "failing"  # what it told last was not taken
    GONE = "gone"  # its endpoint has said 410: nothing is sent until somebody says so


@attrs.define
class Counts:
    """Since the start of the node."""

    delivered: int = 0  # events
    requests: int = 0
    failed: int = 0  # requests
    buried: int = 0  # events that became dead letters here
    gaps: int = 0  # times that events were lost


@attrs.frozen
class _Outcome:
    """What came of one request."""

    is_taken: bool
    error: str = ""
    status: int = 0
    retry_after_ms: int = 0

    @property
    def is_refusal(self) -> bool:
        """Whether it was what was sent that it did not like."""
        return 400 <= self.status < 500 and self.status not in _OF_THE_ENDPOINT


class Telling:
    """One webhook."""

    def __init__(
        self,
        node: Node,
        row: Webhook,
        secrets: Sequence[bytes],
        log: Any,
        now_ms: Callable[[], int],
        flush: Callable[[], None],
        *,
        make_poster: Callable[[], Poster] = Poster,
        random_float: Callable[[], float] = random.random,
    ) -> None:
        """`now_ms`: the wall clock. `flush`: ends a turn of the edge."""
        self.row = row
        self._node = node
        self._secrets = secrets
        self._log = log
        self._now_ms = now_ms
        self._flush = flush
        self._make_poster = make_poster
        self._random_float = random_float
        self._since_ms = now_ms()
        self._wanted = Wanted(row)
        self._url = row.url.partition("?")[0]  # as it is shown: what is behind may be a secret
        self._scope = trio.CancelScope()
        self._resume = trio.Event()
        self._alone = 0  # so many events are sent one by one: one of them was refused
        self._failures = 0  # in a row
        self._retry_at_ms = 0
        self.state = State.STARTING
        self.counts = Counts()
        self.last_error, self.last_error_ms, self.last_ok_ms = "", 0, 0
        self._held = 0

    # What operators see

    def report(self) -> dict[str, Any]:
        """How it stands."""
        row = self.row
        return {
            "name": row.name,
            "url": self._url,
            "tenant": row.tenant,
            "events": list(row.events),
            "topics": list(row.topics),
            "state": str(self.state),
            "held": self._held,
            "lag": self._lag(),
            "failures": self._failures,
            "retry_at_ms": self._retry_at_ms,
            "last_error": self.last_error,
            "last_error_ms": self.last_error_ms,
            "last_ok_ms": self.last_ok_ms,
            **attrs.asdict(self.counts),
        }

    def _lag(self) -> int:
        """How many places of the logs it is behind; -1: its name has its home on another node."""
        consumer = self._node.consumers.by_name.get(name_inside(self.row.tenant, HOOK + self.row.name))
        return -1 if consumer is None else sum(one.shard.log.head() - one.floor for one in consumer.sources)

    @property
    def trouble(self) -> str:
        """For health; "" while there is none."""
        if self.state == State.GONE:
            return f"webhook {self.row.name}: its endpoint says that it is gone (410)"
        return f"webhook {self.row.name}: {self.last_error}" if self._failures >= LOUD else ""

    async def test(self) -> dict[str, Any]:
        """Send one event that tells nothing. A yes is also what a webhook waits for whose endpoint was gone."""
        event = Event(self._node.random_id(), TEST, self._now_ms(), self._node.name, self.row.tenant)
        began = trio.current_time()
        poster = self._make_poster()
        try:
            outcome = await self._post(poster, [_raw(event)], event.id)
        finally:
            await _close(poster)
        if outcome.is_taken:
            self._resume.set()
        ms = int((trio.current_time() - began) * 1000)
        return {
            "name": self.row.name,
            "ok": outcome.is_taken,
            "status": outcome.status,
            "error": outcome.error,
            "ms": ms,
        }

    def stop(self) -> None:
        """End; what it holds goes to others, or waits."""
        self._scope.cancel()

    # The loop

    async def run(self) -> None:
        """Tell, until stopped. Nothing of it gets out."""
        with self._scope:
            while True:
                try:
                    await self._take_part()
                except Lost as lost:
                    if str(lost) != self.last_error:  # once a second would be too often
                        self._log.info("webhook_not_subscribed", webhook=self.row.name, reason=str(lost))
                    self._note(str(lost))
                except Exception:  # noqa: BLE001  # the one barrier of this task
                    self._log.exception("webhook_failed", webhook=self.row.name)
                    self._note("a fault of ours: see the log")
                self.state = State.STARTING
                await trio.sleep(AGAIN_SECONDS)

    async def _take_part(self) -> None:
        poster, taker = self._make_poster(), Taker(self._node, self.row, self._now_ms, self._flush)
        try:
            await taker.subscribe(self._since_ms)
            self._log.info("webhook_subscribed", webhook=self.row.name, url=self._url)
            while True:
                self.state = State.FAILING if self._failures else State.WAITING
                self._held = 0
                await taker.wait()
                if taker.gaps:
                    await self._tell_gap(poster, taker)
                elif batch := await self._gather(taker):
                    await self._tell(poster, taker, batch)
        finally:
            self._held = 0
            with trio.CancelScope(shield=True):
                taker.leave()
                await _close(poster)

    async def _gather(self, taker: Taker) -> list[Taken]:
        """What goes into the next request; what nobody wants is settled."""
        if self.row.linger_ms and len(taker.held) < self.row.batch:
            await trio.sleep(self.row.linger_ms / 1000)
        most = 1 if self._alone else self.row.batch
        batch: list[Taken] = []
        unwanted: list[Taken] = []
        size = 0
        for one in taker.held.values():
            if not self._wanted.is_for(one.event):
                unwanted.append(one)
                continue
            size += len(memoryview(one.event))
            if len(batch) >= most or (batch and size > MAX_BODY_BYTES):
                break
            batch.append(one)
        if unwanted:
            await taker.settle(unwanted)
        return batch

    async def _tell_gap(self, poster: Poster, taker: Taker) -> None:
        """Events were lost to retention, or with their log: how many, nobody knows any more."""
        reason = taker.gaps[0]
        self.counts.gaps += 1
        self._log.warning("webhook_gap", webhook=self.row.name, reason=reason)
        event = Event(
            self._node.random_id(), LOST, self._now_ms(), self._node.name, self.row.tenant, reason=reason
        )
        if await self._until_taken(poster, [_raw(event)], event.id, attempts=0) is not None:
            self._log.error("webhook_gap_not_told", webhook=self.row.name, reason=reason)
        taker.gaps.clear()

    async def _tell(self, poster: Poster, taker: Taker, batch: list[Taken]) -> None:
        self._held = len(batch)
        id = sha256(" ".join([one.id for one in batch]).encode()).hexdigest()[:32]
        attempts = max(one.attempt for one in batch) - 1
        refused = await self._until_taken(poster, [one.event for one in batch], id, attempts=attempts)
        if refused is None:
            self.counts.delivered += len(batch)
            self._alone = max(self._alone - len(batch), 0)
            await taker.settle(batch)
        elif refused.is_refusal and len(batch) > 1:
            self._alone = len(batch)
        elif refused.is_refusal:
            self._alone -= 1
            pause_ms = self._pause_ms(batch[0].attempt, refused)
            self.counts.buried += batch[0].attempt >= self.row.max_attempts
            await taker.give_back(batch[0], pause_ms)
        else:
            self.counts.buried += len(batch)
            self._log.error("webhook_gave_up", webhook=self.row.name, events=len(batch), error=refused.error)
            await taker.bury(batch)

    async def _until_taken(
        self, poster: Poster, events: Sequence[Raw], id: str, *, attempts: int
    ) -> _Outcome | None:
        """None once it was; else why not, when it was tried often enough, or what was sent is to blame."""
        while True:
            self.state = State.FAILING if self._failures else State.TELLING
            outcome = await self._post(poster, events, id)
            if outcome.is_taken:
                self._failures = self._retry_at_ms = 0
                self.state = State.TELLING
                return None
            attempts += 1
            if outcome.status == GONE:
                await self._wait_for_return()
                continue
            self._failures += not outcome.is_refusal
            if self._failures == LOUD:
                self._log.error("webhook_failing", webhook=self.row.name, url=self._url, error=outcome.error)
            if outcome.is_refusal or attempts >= self.row.max_attempts:
                if not outcome.is_refusal:
                    await self._pause(outcome)  # the next one would fare no better
                return outcome
            await self._pause(outcome)

    async def _pause(self, outcome: _Outcome) -> None:
        self.state = State.FAILING
        pause_ms = self._pause_ms(self._failures, outcome)
        self._retry_at_ms = self._now_ms() + pause_ms
        await trio.sleep(pause_ms / 1000)

    def _pause_ms(self, failures: int, outcome: _Outcome) -> int:
        """Twice as long each time, somewhere in the upper half of that; not before the endpoint wants it."""
        row = self.row
        most = min(row.backoff_min_ms << min(max(failures, 1) - 1, 32), row.backoff_max_ms)
        pause_ms = int(most * (0.5 + self._random_float() / 2))
        return max(pause_ms, min(outcome.retry_after_ms, row.backoff_max_ms))

    async def _wait_for_return(self) -> None:
        """It has said that it is gone for good. A test that it takes, other settings or a restart end this."""
        self.state, self._failures = State.GONE, max(self._failures, LOUD)
        self._log.error("webhook_gone", webhook=self.row.name, url=self._url)
        self._resume = trio.Event()
        await self._resume.wait()

    # One request

    async def _post(self, poster: Poster, events: Sequence[Raw], id: str) -> _Outcome:
        body = msgspec.json.encode({"id": id, "node": self._node.name, "events": events})
        headers = {
            "user-agent": "Triode-Webhook/1",
            "triode-event-id": id,
            "triode-webhook": self.row.name,
            "triode-signature": sign(self._secrets, self._now_ms() // 1000, body),
        }
        self.counts.requests += 1
        try:
            reply = await poster.post(self.row.url, body, headers, self.row.timeout_ms / 1000)
        except NoReply as error:
            outcome = _Outcome(is_taken=False, error=str(error))
        else:
            outcome = self._judge(reply)
        if outcome.is_taken:
            self.last_ok_ms = self._now_ms()
        else:
            self.counts.failed += 1
            self._note(outcome.error)
        return outcome

    def _judge(self, reply: Reply) -> _Outcome:
        status = reply.status
        if 200 <= status < 300:
            return _Outcome(is_taken=True, status=status)
        error = f"answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")
        retry_after_ms = _retry_after_ms(reply.retry_after, self._now_ms()) if status in (429, 503) else 0
        return _Outcome(is_taken=False, error=error, status=status, retry_after_ms=retry_after_ms)

    def _note(self, error: str) -> None:
        self.last_error, self.last_error_ms = error, self._now_ms()


def _raw(event: Event) -> Raw:
    return Raw(msgspec.json.encode(event))


async def _close(poster: Poster) -> None:
    with trio.CancelScope(shield=True):
        await poster.aclose()


def _retry_after_ms(text: str, now_ms: int) -> int:
    """RFC 9110 10.2.3: seconds or a date; 0 for what is neither."""
    if text.isascii() and text.isdigit():
        return int(text[:9]) * 1000
    try:
        return max(int(parsedate_to_datetime(text).timestamp() * 1000) - now_ms, 0)
    except (ValueError, OverflowError, OSError):
        return 0
