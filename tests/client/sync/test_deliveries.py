"""Acknowledged subscriptions in threads: answers, blocks, what is lost, and pools of workers (G5)."""

import threading
from queue import SimpleQueue
from typing import Any

import pytest
import trio
import triode.sync

from tests.client.broker import Line
from tests.client.play import LOG, delivery
from tests.client.sync.stage import PATIENCE_SECONDS, stage, threads
from tests.client.sync.waiting import interrupted_while_waiting


def outcome_of(one: triode.sync.Delivery) -> str:
    """Its outcome, which a type checker cannot think constant."""
    return one.outcome


async def consumer(line: Line) -> None:
    """The scene up to where a consumer is subscribed."""
    await line.accept()
    await line.subscribed()


async def leaves(line: Line) -> None:
    """The scene of its end."""
    await line.hear("unsubscribe")
    await line.goodbye()


async def answered(line: Line, kind: str) -> dict[str, Any]:
    """Hear an answer to a delivery, and confirm it."""
    heard = await line.hear(kind)
    await line.say({"type": "acked", "id": heard["id"]})
    return heard


def test_consumer_gets_deliveries_and_answers_them() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.subscribed()
        assert (asked["durable"], asked["shared"], asked["window"], asked["from"]) == ("w", True, 8, "earliest")
        assert (asked["ack_wait_ms"], asked["max_attempts"]) == (30_000, 5)
        await line.say(*(delivery(asked["sub"], pos) for pos in range(1, 5)))
        assert (await answered(line, "ack"))["pos"] == 1
        assert (await answered(line, "nack"))["delay_ms"] == 5_000
        assert (await answered(line, "nack"))["reject"]
        assert (await answered(line, "extend"))["ms"] == 30_000
        assert (await answered(line, "ack"))["pos"] == 4
        await leaves(line)

    terms: dict[str, Any] = {"durable": "w", "shared": True, "window": 8, "ack_wait": 30.0, "max_attempts": 5}
    with (
        stage(scene) as url,
        triode.sync.connect(url) as client,
        client.consume("a/#", from_="earliest", **terms) as jobs,
    ):
        one = next(jobs)
        assert (one.topic, one.data, one.key, one.headers, one.message_id) == ("a/b", 1, "", {}, "")
        assert (one.attempt, one.position, one.message.offset) == (1, {LOG: 1}, 1)
        assert (outcome_of(one), one.is_lost) == ("", False)
        one.ack()
        one.ack()
        assert outcome_of(one) == "acked"
        with pytest.raises(RuntimeError, match="acked already"):
            one.nack()
        two, three, four = (jobs.get(timeout=PATIENCE_SECONDS) for _ in range(3))
        two.nack(delay=5.0)
        three.reject()
        with pytest.raises(RuntimeError, match="rejected already"):
            three.extend(1.0)
        with pytest.raises(ValueError, match="not a time"):
            four.nack_nowait(-1.0)
        four.extend(30.0)
        four.ack()
        assert [each.outcome for each in (two, three, four)] == ["nacked", "rejected", "acked"]
        assert repr(two).startswith("<Delivery attempt=1 nacked <Message a/b")


def test_block_acknowledges_at_its_end_and_gives_back_what_failed() -> None:
    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(*(delivery(1, pos) for pos in range(1, 6)))
        assert (await line.hear("ack"))["pos"] == 1
        nack = await line.hear("nack")
        assert (nack["pos"], nack["delay_ms"]) == (2, 2_000)
        nack = await line.hear("nack")
        assert nack["pos"] == 3
        assert "delay_ms" not in nack
        assert (await answered(line, "nack"))["reject"]
        assert (await line.hear("ack"))["pos"] == 5
        await leaves(line)

    def failing(error: type[BaseException]) -> triode.sync.Delivery:
        with pytest.raises(error), next(jobs) as job:
            raise error
        return job

    with (
        stage(scene) as url,
        triode.sync.connect(url) as client,
        client.consume("a/#", durable="w", retry_delay=2.0) as jobs,
    ):
        with next(jobs) as one:
            pass
        assert outcome_of(one) == "acked"
        assert failing(LookupError).outcome == "nacked"
        assert failing(KeyboardInterrupt).outcome == "nacked"
        with next(jobs) as four:
            four.reject()
        with next(jobs):
            pass


def test_acks_leave_together(url: str) -> None:
    """Of a thousand, far fewer packets than acks: the loop is woken once for all that came together."""
    with triode.sync.connect(url) as client:
        client.publish_many([("jobs/many", number) for number in range(1_000)])
        with client.consume("jobs/many", durable="many", from_="earliest", window=256) as jobs:
            seen = []
            for job in jobs:
                with job:
                    seen.append(job.data)
                if len(seen) == 1_000:
                    break
        assert seen == list(range(1_000))


def test_workers_share_a_consumer_and_each_job_is_done_once(url: str) -> None:
    done: SimpleQueue[int] = SimpleQueue()
    with triode.sync.connect(url) as client, client.consume("jobs/pool", durable="pool", window=16) as jobs:

        def work() -> None:
            for job in jobs:
                with job:
                    done.put(job.data)

        with threads(*[work] * 4):
            client.publish_many([("jobs/pool", number) for number in range(200)])
            found = [done.get(timeout=PATIENCE_SECONDS) for _ in range(200)]
            jobs.close()
        assert sorted(found) == list(range(200))


def test_failed_job_comes_again_as_the_next_attempt(url: str) -> None:
    with (
        triode.sync.connect(url) as client,
        client.consume("jobs/again", durable="again", retry_delay=0.0) as jobs,
    ):
        client.publish("jobs/again", 1)
        job = jobs.get(timeout=PATIENCE_SECONDS)
        assert job.attempt == 1
        job.nack()
        job = jobs.get(timeout=PATIENCE_SECONDS)
        assert job.attempt == 2
        job.ack()


def test_deliveries_that_were_on_their_way_at_a_lost_connection_are_not_given_out() -> None:
    """They come again, and the next attempt is the one that counts."""

    async def first(line: Line) -> None:
        await consumer(line)
        await line.say(*(delivery(1, pos) for pos in range(1, 4)))
        await line.hear("publish")
        await line.cut()

    async def second(line: Line) -> None:
        await consumer(line)
        await line.say(*(delivery(1, pos, attempt=2) for pos in range(1, 4)))
        await line.published()
        assert (await answered(line, "ack"))["pos"] == 1
        told = (await line.hear("ack"))["pos"]
        assert told == [3, 2] or (told, (await line.hear("ack"))["pos"]) == (3, 2)
        await leaves(line)

    with (
        stage(first, second) as url,
        triode.sync.connect(url) as client,
        client.consume("a/#", durable="w") as jobs,
    ):
        held = next(jobs)
        client.publish("a", 1)
        assert held.is_lost
        with pytest.raises(triode.DeliveryLost):
            held.ack()
        assert outcome_of(held) == "lost"
        with held:
            pass
        again = [next(jobs) for _ in range(3)]
        assert [(job.message.pos, job.attempt) for job in again] == [(1, 2), (2, 2), (3, 2)]
        again[0].ack()
        with again[1], again[2]:
            assert [job.outcome for job in again] == ["acked", "", ""]
        assert [job.outcome for job in again] == ["acked"] * 3


def test_given_back_job_takes_those_of_its_key_along() -> None:
    """SPEC 9.5.3: what is on its way between the threads comes again in order, as the rest does."""

    async def scene(line: Line) -> None:
        await consumer(line)
        keyed = [delivery(1, pos, key="k" if pos != 3 else "other") for pos in range(1, 5)]
        await line.say(*keyed)
        await answered(line, "nack")
        await line.say(*(delivery(1, pos, key="k", attempt=2) for pos in (1, 2, 4)))
        await leaves(line)

    with (
        stage(scene) as url,
        triode.sync.connect(url) as client,
        client.consume("a/#", group="g") as jobs,
    ):
        next(jobs).nack()
        seen = [next(jobs) for _ in range(4)]
        assert [(job.message.pos, job.attempt) for job in seen] == [(3, 1), (1, 2), (2, 2), (4, 2)]


def test_what_comes_before_the_loop_has_heard_of_a_job_given_back_is_not_given_out() -> None:
    """SPEC 9.5.3: the thread that gave it back gets the next of its key behind it, not before."""
    published = threading.Event()

    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(delivery(1, 1, key="k"))
        await trio.to_thread.run_sync(published.wait)
        await line.say(delivery(1, 2, key="k"), delivery(1, 3, key="other"))
        await answered(line, "nack")
        await line.say(*(delivery(1, pos, key="k", attempt=2) for pos in (1, 2)))
        await leaves(line)

    with (
        stage(scene) as url,
        triode.sync.connect(url) as client,
        client.consume("a/#", group="g") as jobs,
    ):
        first = next(jobs)
        first._begin_giving_back()  # as nack_nowait does before it tells the loop
        published.set()
        seen = [next(jobs)]
        first.nack()
        seen += [next(jobs) for _ in range(2)]
        assert [(job.message.pos, job.attempt) for job in seen] == [(3, 1), (1, 2), (2, 2)]


def test_gaps_and_deliveries_come_in_order() -> None:
    """G5: gaps are told, to `on_gap` or in `events()`."""
    told: list[triode.Gap] = []

    async def scene(line: Line) -> None:
        await line.accept()
        for sub in (1, 2):
            await line.subscribed()
            gap = {"type": "gap", "sub": sub, "after": {LOG: 4}, "reason": "retention"}
            await line.say(delivery(sub, 1), gap, delivery(sub, 5))
            await line.hear("unsubscribe")
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url) as client:
        with client.consume("a/#", durable="w", on_gap=told.append) as jobs:
            assert [next(jobs).message.pos for _ in range(2)] == [1, 5]
        assert [gap.reason for gap in told] == ["retention"]
        with client.consume("a/#", durable="w") as jobs:
            events = jobs.events()
            kinds = [type(next(events)) for _ in range(3)]
        assert kinds == [triode.sync.Delivery, triode.Gap, triode.sync.Delivery]
        assert jobs.gap_count == 1
        assert list(events) == []
        assert list(jobs) == []
        with pytest.raises(EOFError):
            jobs.get()


def test_interrupted_worker_has_taken_nothing(url: str) -> None:
    with triode.sync.connect(url) as client, client.consume("jobs/int", durable="int") as jobs:
        with interrupted_while_waiting():
            next(jobs)
        with pytest.raises(TimeoutError):
            jobs.get(timeout=0.001)
        client.publish("jobs/int", 1)
        with jobs.get(timeout=PATIENCE_SECONDS) as job:
            assert (job.data, job.attempt) == (1, 1)


def test_answers_after_the_end_are_lost_and_said_to_be(url: str) -> None:
    ready = threading.Event()
    client = triode.sync.connect(url)
    with client.consume("jobs/end", durable="end") as jobs:
        client.publish("jobs/end", 1)
        job = jobs.get(timeout=PATIENCE_SECONDS)
        ready.set()
        client.close()
    with pytest.raises(triode.TriodeError):
        job.extend(1.0)
    with job:
        pass
    assert outcome_of(job) == "lost"
