"""Acknowledged subscriptions, in every face: deliveries, the answers to them, blocks, losses, gaps."""

import logging
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import triode

from tests.client.broker import Line
from tests.client.faces.face import (
    Face,
    on_its_loop,
    only_where_a_loop_has_turns,
    only_where_tasks_are_cancelled,
)
from tests.client.play import LOG, delivery

Job = triode.Delivery


def outcome_of(one: Job) -> str:
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


async def answered(line: Line, kind: str, **said: Any) -> dict[str, Any]:
    """Hear an answer to a delivery, and confirm it or say what else."""
    heard = await line.hear(kind)
    await line.say({"type": "acked", "id": heard["id"], **said})
    return heard


@on_its_loop
async def test_consumer_gets_deliveries_and_answers_them(face: Face) -> None:
    """G5"""

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

    async with (
        face.playing(scene) as url,
        face.connect(url) as client,
        client.consume(
            "a/#", durable="w", shared=True, from_="earliest", window=8, ack_wait=30.0, max_attempts=5
        ) as jobs,
    ):
        one = await anext(jobs)
        assert (one.topic, one.data, one.key, one.headers, one.message_id) == ("a/b", 1, "", {}, "")
        assert (one.attempt, one.position, one.message.offset, one.outcome, one.is_lost) == (
            1,
            {LOG: 1},
            1,
            "",
            False,
        )
        await one.ack()
        await one.ack()
        assert one.outcome == "acked"
        with pytest.raises(RuntimeError, match="acked already"):
            await one.nack()
        two, three, four = [await anext(jobs) for _ in range(3)]
        await two.nack(delay=5.0)
        await three.reject()
        with pytest.raises(RuntimeError, match="rejected already"):
            await three.extend(1.0)
        await four.extend(30.0)
        await four.ack()
        assert [each.outcome for each in (two, three, four)] == ["nacked", "rejected", "acked"]
        assert repr(two).startswith("<Delivery attempt=1 nacked <Message a/b")


@only_where_a_loop_has_turns
@on_its_loop
async def test_acks_of_one_turn_leave_as_one_packet(face: Face) -> None:
    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(*(delivery(1, pos) for pos in range(1, 21)))
        assert (await line.hear("ack"))["pos"] == list(range(1, 21))
        await leaves(line)

    async with face.playing(scene) as url, face.connect(url) as client, client.consume("a", group="g") as jobs:
        held = [await anext(jobs) for _ in range(20)]
        for one in held:
            one.ack_nowait()


@on_its_loop
async def test_block_acknowledges_at_its_end_and_gives_back_what_failed(face: Face) -> None:
    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(*(delivery(1, pos) for pos in range(1, 7)))
        assert (await line.hear("ack"))["pos"] == 1
        nack = await line.hear("nack")
        assert (nack["pos"], nack["delay_ms"]) == (2, 2_000)
        assert (await answered(line, "ack"))["pos"] == 3
        nack = await line.hear("nack")
        assert (nack["pos"], nack["delay_ms"]) == (4, 2_000)
        assert (await answered(line, "nack"))["reject"]
        assert (await line.hear("ack"))["pos"] == 6
        await leaves(line)

    async with (
        face.playing(scene) as url,
        face.connect(url) as client,
        client.consume("a/#", durable="w", retry_delay=2.0) as jobs,
    ):
        with await anext(jobs):
            pass
        with pytest.raises(LookupError), await anext(jobs):
            raise LookupError
        async with await anext(jobs):
            pass
        with pytest.raises(LookupError):
            async with await anext(jobs):
                raise LookupError
        async with await anext(jobs) as five:
            await five.reject()
        with await anext(jobs) as six:
            six.ack_nowait()


@only_where_tasks_are_cancelled
@on_its_loop
async def test_cancelled_block_gives_back_at_once(face: Face) -> None:
    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(delivery(1, 1))
        nack = await line.hear("nack")
        assert nack["pos"] == 1
        assert "delay_ms" not in nack
        await leaves(line)

    async with (
        face.playing(scene) as url,
        face.connect(url) as client,
        client.consume("a/#", durable="w", retry_delay=2.0) as jobs,
    ):
        one = await anext(jobs)
        async with face.scope() as scope, one:
            scope.cancel()
            await face.checkpoint()
            await face.checkpoint()
            pytest.fail("it was cancelled")
        assert one.outcome == "nacked"


@on_its_loop
async def test_lost_delivery_raises_for_who_waits_and_not_at_the_end_of_a_block(
    face: Face,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """G5: it comes again."""
    caplog.set_level(logging.INFO, logger="triode")

    async def first(line: Line) -> None:
        await consumer(line)
        await line.say(*(delivery(1, pos) for pos in range(1, 5)))
        await line.hear("ack")
        await line.cut()

    async def second(line: Line) -> None:
        connect = await line.accept()
        assert connect["resume"]
        asked = await line.subscribed()
        assert asked["durable"] == "w"
        assert "after" not in asked
        await line.say(delivery(asked["sub"], 2, attempt=2))
        assert (await answered(line, "ack"))["pos"] == 2
        await leaves(line)

    async with (
        face.playing(first, second) as url,
        face.connect(url) as client,
        client.consume("a/#", durable="w") as jobs,
    ):
        one, two, three, four = [await anext(jobs) for _ in range(4)]
        with pytest.raises(triode.DeliveryLost, match="before the broker's answer"):
            await one.ack()
        assert one.outcome == "lost"
        assert two.is_lost
        with pytest.raises(triode.DeliveryLost, match="comes again"):
            await two.nack()
        with pytest.raises(triode.DeliveryLost):
            await two.extend(1)
        three.ack_nowait()
        assert three.outcome == "lost"
        async with four:
            pass
        assert four.outcome == "lost"
        async with await anext(jobs) as again:
            assert (again.attempt, again.data) == (2, 2)
        assert again.outcome == "acked"
    assert "delivery_lost topic='a/b' attempt=1" in caplog.text


@on_its_loop
async def test_refused_answer_raises_the_brokers_words(face: Face) -> None:
    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(delivery(1, 1))
        error = {"type": "error", "sub": 1, "name": "conflict", "message": "not yours", "retry": "never"}
        await answered(line, "extend", **error)
        await answered(line, "ack")
        await leaves(line)

    async with face.playing(scene) as url, face.connect(url) as client, client.consume("a", durable="w") as jobs:
        one = await anext(jobs)
        with pytest.raises(triode.DeliveryRefused, match="conflict: not yours"):
            await one.extend(30)
        assert outcome_of(one) == "lost"
        await one.ack()  # may be tried all the same: an ack from any recipient settles
        assert outcome_of(one) == "acked"


@on_its_loop
async def test_gaps_come_in_their_place_among_deliveries(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        for sub in (1, 2):
            await line.subscribed()
            await line.say(
                delivery(sub, 1),
                {"type": "gap", "sub": sub, "after": {LOG: 4}, "reason": "retention"},
                delivery(sub, 5),
            )
            await line.hear("unsubscribe")
        await line.goodbye()

    order: list[Any] = []
    async with face.playing(scene) as url, face.connect(url) as client:
        async with client.consume("a/#", durable="w", on_gap=lambda gap: order.append(gap.reason)) as jobs:
            async for one in jobs:
                order.append(one.data)
                if one.data == 5:
                    break
        assert order == [1, "retention", 5]
        assert jobs.gap_count == 1
        async with client.consume("a/#", durable="w") as jobs:
            seen = []
            async for item in jobs.events():
                seen.append(isinstance(item, triode.Gap))
                if len(seen) == 3:
                    break
        assert seen == [False, True, False]


@on_its_loop
async def test_workers_of_one_consumer_share_its_window(face: Face) -> None:
    """Several tasks, one iterator each in turn; all acknowledged before the subscription ends."""
    acked: list[int] = []

    async def scene(line: Line) -> None:
        await consumer(line)
        for first in (1, 5, 9):
            await line.say(*(delivery(1, pos) for pos in range(first, first + 4)))
            while len(acked) < first + 3:
                acked.append((await answered(line, "ack"))["pos"])
        await leaves(line)

    async with (
        face.playing(scene) as url,
        face.connect(url) as client,
        client.consume("a/#", durable="w", window=4) as jobs,
    ):

        async def work() -> None:
            async with await anext(jobs):
                await face.checkpoint()

        await face.together(*[work] * 12)
    assert sorted(acked) == list(range(1, 13))


@on_its_loop
async def test_tasks_may_share_one_iterator(face: Face) -> None:
    done: list[tuple[int, int]] = []

    async def scene(line: Line) -> None:
        await consumer(line)
        heard: list[int] = []
        for first in (1, 4, 7):
            await line.say(*(delivery(1, pos) for pos in range(first, first + 3)))
            while len(heard) < first + 2:
                heard.append((await answered(line, "ack"))["pos"])
        await line.say({"type": "unsubscribed", "sub": 1, "name": "conflict", "message": "", "retry": "never"})
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client, client.consume("a", durable="w") as jobs:

        async def work(number: int) -> None:
            with suppress(triode.SubscriptionEnded):  # all of them are told
                async for one in jobs:
                    done.append((number, one.data))
                    async with one:
                        pass

        await face.together(*(partial(work, number) for number in range(3)))
        with pytest.raises(RuntimeError, match="entered once"):
            await jobs.__aenter__()
    assert sorted(data for _, data in done) == list(range(1, 10))
    assert {number for number, _ in done} == {0, 1, 2}


@on_its_loop
async def test_same_answer_twice_is_sent_once(face: Face) -> None:
    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(*(delivery(1, pos) for pos in range(1, 4)))
        assert (await line.hear("ack"))["pos"] == 1
        assert (await line.hear("nack"))["pos"] == 2
        assert (await answered(line, "nack"))["pos"] == 3
        await leaves(line)

    async with face.playing(scene) as url, face.connect(url) as client, client.consume("a", durable="w") as jobs:
        one, two, three = [await anext(jobs) for _ in range(3)]
        one.ack_nowait()
        one.ack_nowait()
        await one.ack()
        two.nack_nowait()
        two.nack_nowait()
        await two.nack()
        await three.reject()
        await three.reject()


@on_its_loop
async def test_consumer_taken_over_raises_where_it_iterates(face: Face) -> None:
    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(delivery(1, 1))
        await answered(line, "ack")
        await line.say({"type": "unsubscribed", "sub": 1, "name": "conflict", "message": "m", "retry": "never"})
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client, client.consume("a", durable="w") as jobs:
        await (await anext(jobs)).ack()
        with pytest.raises(triode.SubscriptionEnded, match="conflict: m"):
            await anext(jobs)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"durable": "w", "group": "g"},
        {"group": "g", "shared": True},
        {"durable": "a/b"},
        {"durable": "w", "window": 0},
        {"durable": "w", "ack_wait": 0.0},
        {"durable": "w", "max_attempts": 0},
        {"durable": "w", "retry_delay": -1.0},
        {"durable": "w", "retry_delay": float("nan")},
    ],
)
def test_terms_that_make_no_sense_are_refused_at_once(face: Face, wrong: dict[str, Any]) -> None:
    client = face.connect("ws://127.0.0.1:9")
    with pytest.raises((ValueError, triode.BadTopic)):
        client.consume("a", **wrong)


@on_its_loop
async def test_waiting_time_that_is_none_is_refused_before_anything_is_sent(face: Face) -> None:
    async def scene(line: Line) -> None:
        await consumer(line)
        await line.say(delivery(1, 1))
        await answered(line, "ack")
        await leaves(line)

    async with face.playing(scene) as url, face.connect(url) as client, client.consume("a", durable="w") as jobs:
        one = await anext(jobs)
        for wrong in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="not a time to wait"):
                await one.nack(wrong)
            with pytest.raises(ValueError, match="not a time to wait"):
                one.nack_nowait(wrong)
            with pytest.raises(ValueError, match="not a time to wait"):
                await one.extend(wrong)
        await one.ack()
