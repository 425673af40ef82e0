"""Every face and the real broker: acknowledged subscriptions, durable topics, delays, state maps (G1, G5, G7)."""

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import triode
from triode.runtime import Event

from tests.client.faces.face import Face, on_its_loop, only_where_a_loop_has_turns
from tests.client.line import cuttable_line
from tests.client.running import disk, port_of, running

WORKER: dict[str, Any] = {"durable": "worker", "from_": "earliest"}


async def taken(jobs: triode.Deliveries, count: int) -> list[triode.Delivery]:
    """The next deliveries."""
    return [await anext(jobs) for _ in range(count)]


@on_its_loop
async def test_position_and_pending_survive_client_and_broker(face: Face, tmp_path: Path) -> None:
    """G1, G5: what was acknowledged does not come again, what was not does, in order."""
    async with face.serving(disk(tmp_path)) as url, face.connect(url) as client:
        for number in range(10):
            place = await client.publish("jobs/a", number)
            assert place.level == "disk"
        async with client.consume("jobs/#", **WORKER) as jobs:
            first = await taken(jobs, 6)
            assert [one.data for one in first] == [0, 1, 2, 3, 4, 5]
            for number in (0, 1, 3, 5):
                await first[number].ack()
    async with face.serving(disk(tmp_path)) as url, face.connect(url) as client:
        await client.publish("jobs/a", 10)
        async with client.consume("jobs/#", **WORKER) as jobs:
            rest = await taken(jobs, 7)
            assert sorted(one.data for one in rest) == [2, 4, 6, 7, 8, 9, 10]
            assert jobs.gap_count == 0
            for one in rest:
                one.ack_nowait()
        await client.publish("jobs/a", 11)
        async with client.consume("jobs/#", **WORKER) as jobs:
            assert [one.data for one in await taken(jobs, 1)] == [11]


@on_its_loop
async def test_cut_lines_lose_no_job_and_bring_back_none_that_was_acknowledged(face: Face, tmp_path: Path) -> None:
    """G5: two members of one durable subscription, their lines cut twenty times."""
    total = 600
    acked: set[int] = set()
    seen: Counter[int] = Counter()
    again: list[int] = []

    cuts = 0

    async def work(url: str, line: Any, done: Event) -> None:
        nonlocal cuts
        async with (
            face.connect(url) as client,
            client.consume("jobs/#", shared=True, window=16, **WORKER) as jobs,
        ):
            async for one in jobs:
                seen[one.data] += 1
                if one.data in acked:
                    again.append(one.data)
                if sum(seen.values()) % 30 == 0 and cuts < 20:
                    cuts += 1
                    face.on_stage(line.cut)
                async with one:
                    pass
                if one.outcome == "acked":  # a lost one may have been settled all the same
                    acked.add(one.data)
                if len(seen) == total:
                    done.set()

    async with (
        face.serving(disk(tmp_path)) as url,
        face.serving(cuttable_line(port_of(url))) as (line, detour),
        face.connect(url) as client,
    ):
        done = face.event()
        async with face.beside(*[partial(work, detour, line, done)] * 2):
            for number in range(total):
                await client.publish(f"jobs/{number % 5}", number)
            await done.wait()
    assert set(seen) == set(range(total))
    assert again == []
    assert len(acked) >= total - 2 * line.cuts
    assert line.cuts == 20


@pytest.mark.parametrize("terms", [{"durable": "worker"}, {"group": "worker"}])
@on_its_loop
async def test_failed_jobs_come_again_and_then_are_dead_letters(
    face: Face, terms: dict[str, Any], tmp_path: Path
) -> None:
    """G5: `nack`, an exception, `reject`, and `max_attempts`."""
    async with (
        face.serving(disk(tmp_path) if "durable" in terms else running()) as url,
        face.connect(url) as client,
        client.subscribe("$dead/worker") as dead,
        client.consume("jobs/#", max_attempts=3, retry_delay=0.0, **terms) as jobs,
    ):
        source = await client.publish("jobs/a", {"bad": 1}, key="k", headers={"h": "v"})
        for attempt in (1, 2, 3):
            (one,) = await taken(jobs, 1)
            assert (one.data, one.attempt) == ({"bad": 1}, attempt)
            with pytest.raises(LookupError):
                async with one:
                    raise LookupError
        letter = await anext(dead)
        assert letter.data == {"bad": 1}
        assert letter.headers["h"] == "v"
        assert letter.headers["triode-dead-reason"] == "max_attempts"
        assert letter.headers["triode-dead-attempts"] == "3"
        assert letter.headers["triode-dead-pos"] == str(source.pos)
        await client.publish("jobs/a", 2)
        await (await taken(jobs, 1))[0].reject()
        letter = await anext(dead)
        assert (letter.data, letter.headers["triode-dead-reason"]) == (2, "rejected")


@pytest.mark.parametrize("terms", [{"durable": "worker"}, {"group": "worker"}])
@on_its_loop
async def test_delivery_unanswered_for_too_long_comes_again(
    face: Face, terms: dict[str, Any], tmp_path: Path
) -> None:
    async with (
        face.serving(disk(tmp_path) if "durable" in terms else running()) as url,
        face.connect(url) as client,
        client.consume("jobs/#", ack_wait=0.1, **terms) as jobs,
    ):
        await client.publish("jobs/a", 1)
        first, second = await taken(jobs, 2)
        assert [(one.data, one.attempt) for one in (first, second)] == [(1, 1), (1, 2)]
        with pytest.raises(triode.DeliveryRefused, match="conflict"):
            await first.extend(30.0)
        await first.ack()  # an ack from any recipient settles
        await client.publish("jobs/a", 2)
        assert (await taken(jobs, 1))[0].data == 2


@on_its_loop
async def test_publisher_faster_than_the_disk_slows_down_and_loses_nothing(face: Face, tmp_path: Path) -> None:
    """G6: the store refuses what it cannot take yet; the client sends it again, each message is stored once."""
    limits = {"reconnect_min_ms": 5, "reconnect_max_ms": 20, "max_uncommitted_bytes": 16_384}
    async with face.serving(disk(tmp_path, limits=limits)) as url, face.connect(url) as client:
        receipts = [client.publish_nowait("a", number) for number in range(2_000)]
        places = [await receipt.wait() for receipt in receipts]
        assert {place.level for place in places} == {"disk"}
        assert len({place.pos for place in places}) == 2_000
        async with client.subscribe("a", from_="earliest") as messages:
            got = [(await anext(messages)).data for _ in range(2_000)]
        assert sorted(got) == list(range(2_000))


@on_its_loop
async def test_name_is_taken_over_and_nothing_acknowledged_comes_twice(face: Face, tmp_path: Path) -> None:
    async with face.serving(disk(tmp_path)) as url, face.connect(url) as one, face.connect(url) as other:
        for number in range(6):
            await one.publish("jobs/a", number)
        async with one.consume("jobs/#", **WORKER) as mine:
            for delivery in await taken(mine, 3):
                await delivery.ack()
            async with other.consume("jobs/#", **WORKER) as theirs:
                with pytest.raises(triode.SubscriptionEnded, match="conflict"):
                    await taken(mine, 4)  # what it had been handed is given back
                assert [delivery.data for delivery in await taken(theirs, 3)] == [3, 4, 5]


@only_where_a_loop_has_turns
@on_its_loop
async def test_key_stays_with_one_member_and_in_order_through_failures(face: Face) -> None:
    """G5, on a group, which needs no disk: every third delivery fails once.

    Of a thread's nack the broker hears later: the next of the key may be on its way by then (docs/clients.md).
    """
    total = 200
    order: dict[str, list[int]] = {key: [] for key in "abcd"}
    failed: set[int] = set()

    async def work(client: triode.Client, joined: Event, done: Event) -> None:
        async with client.consume("jobs/#", group="g", window=8, retry_delay=0.0) as jobs:
            joined.set()
            async for one in jobs:
                with one:
                    if one.data % 3 == 0 and one.data not in failed:
                        failed.add(one.data)
                        one.nack_nowait()
                    else:
                        order[one.key].append(one.data)
                if sum(map(len, order.values())) >= total:
                    done.set()

    async with face.serving(running()) as url, face.connect(url) as client, face.connect(url) as other:
        done = face.event()
        joined = [face.event() for _ in range(2)]
        works = zip((client, other), joined, strict=True)
        async with face.beside(*(partial(work, each, event, done) for each, event in works)):
            for event in joined:
                await event.wait()
            for number in range(total):
                await client.publish("jobs/x", number, key="abcd"[number % 4])
            await done.wait()
    for place, key in enumerate("abcd"):
        assert order[key] == list(range(place, total, 4))


@on_its_loop
async def test_state_map_in_a_compacted_topic(face: Face) -> None:
    """Newest per key, then live; a deleted key is told and gone."""
    rule = {"filter": "state", "compact": True, "retention_messages": 1_000, "retention_bytes": 1_000_000}
    async with face.serving(running(topics=[rule])) as url, face.connect(url) as client:
        for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
            await client.publish("state", value, key=key)
        await client.delete_key("state", "b")
        async with client.subscribe("state", from_="last") as messages:
            state: dict[str, Any] = {}
            async for item in messages.events():
                if isinstance(item, triode.CaughtUp):
                    break
                assert isinstance(item, triode.Message)
                if not item.deletes_key:
                    state[item.key] = item.data
            assert state == {"a": 3, "c": 4}
            await client.delete_key("state", "a")
            last = await anext(messages)
            assert (last.key, last.deletes_key, last.data) == ("a", True, None)
        with pytest.raises(triode.PublishRefused, match="malformed"):
            await client.delete_key("other", "a")


@on_its_loop
async def test_message_for_later_comes_when_it_is_due(face: Face) -> None:
    async with face.serving(running()) as url, face.connect(url) as client, client.subscribe("a") as messages:
        later = await client.publish("a", "later", deliver_at=time.time() + 0.2)
        assert (later.delayed, later.position) == (True, {})
        place = await client.publish("a", "now")
        assert not place.delayed
        assert [(await anext(messages)).data for _ in range(2)] == ["now", "later"]


@on_its_loop
async def test_conflating_subscriber_knows_the_newest_of_each_key_in_the_end(face: Face) -> None:
    """G7"""
    async with (
        face.serving(running()) as url,
        face.connect(url) as speaker,
        face.connect(url, max_inbox_messages=20) as slow,
        slow.subscribe("a", overflow="conflate") as messages,
    ):
        for number in range(2_000):
            await speaker.send("a", number, key=str(number % 7))
        state: dict[str, int] = {}
        while state.get(str(1_999 % 7)) != 1_999:
            message = await anext(messages)
            state[message.key] = message.data
        assert set(state.values()) >= {1_999}
