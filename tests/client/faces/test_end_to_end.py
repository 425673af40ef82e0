"""Every face and the real broker: nothing lost, nothing twice, through cut lines, restarts and slow consumers."""

from typing import Any

import pytest
import triode

from tests.client.faces.face import Face, on_its_loop
from tests.client.line import cuttable_line
from tests.client.running import port_of, running


async def numbers(messages: triode.Messages, until: int) -> list[int]:
    """The payloads up to `until`."""
    found: list[int] = []
    async for message in messages:
        found.append(message.data)
        if message.data == until:
            break
    return found


@on_its_loop
async def test_message_goes_round_with_all_that_it_carries(face: Face) -> None:
    async with (
        face.serving(running()) as url,
        face.connect(url) as client,
        client.subscribe("rooms/+/chat") as messages,
    ):
        place = await client.publish(
            "rooms/42/chat", {"text": "hello"}, key="k", headers={"h": "v"}, message_id="m", ttl_ms=60_000
        )
        got = await anext(messages)
        assert (got.topic, got.data, got.key, got.headers) == ("rooms/42/chat", {"text": "hello"}, "k", {"h": "v"})
        assert (got.position, got.offset, got.message_id) == (place.position, place.offset, "m")
        await client.send("rooms/42/chat", b"\x00\xff")
        assert (await anext(messages)).data == b"\x00\xff"
        again = await client.publish(
            "rooms/42/chat", {"text": "hello"}, key="k", headers={"h": "v"}, message_id="m", ttl_ms=60_000
        )
        assert (again.duplicate, again.pos) == (True, place.pos)
        page = await client.history("rooms/42/chat", last=10)
        assert [each.offset for each in page.messages] == [1, 2]


@pytest.mark.parametrize("start", ["earliest", "last", {"last": 3}, {"since": 0}])
@on_its_loop
async def test_every_start_gives_its_past_and_then_catches_up(face: Face, start: Any) -> None:
    async with face.serving(running()) as url, face.connect(url) as client:
        for number in range(5):
            await client.publish("a/b", number)
        async with client.subscribe("a/b", from_=start) as messages:
            seen = []
            async for item in messages.events():
                if isinstance(item, triode.CaughtUp):
                    break
                assert isinstance(item, triode.Message)
                seen.append(item.data)
            assert seen == {"last": [4]}.get(str(start), [2, 3, 4] if start == {"last": 3} else [0, 1, 2, 3, 4])
            await client.publish("a/b", 5)
            assert (await anext(messages)).data == 5


@on_its_loop
async def test_position_of_one_run_resumes_the_next(face: Face) -> None:
    async with face.serving(running()) as url:
        async with face.connect(url) as client, client.subscribe("a/#") as messages:
            for number in range(5):
                await client.publish(f"a/{number}", number)
            for _ in range(3):
                await anext(messages)
            position = messages.position
        async with face.connect(url) as client, client.subscribe("a/#", after=position) as messages:
            await client.publish("a/x", 9)
            assert sorted(await numbers(messages, 9)) == [3, 4, 9]  # in order inside each log
            assert messages.gap_count == 0


@on_its_loop
async def test_cut_lines_lose_nothing_and_double_nothing(face: Face) -> None:
    """G2, G4: publisher and subscriber behind lines that are cut thirty times."""
    total = 3_000
    async with (
        face.serving(running(memory_shards=1)) as url,
        face.serving(cuttable_line(port_of(url))) as (line, detour),
        face.connect(detour) as listener,
        face.connect(detour) as speaker,
        listener.subscribe("a/#") as messages,
    ):
        receipts = []

        async def speak() -> None:
            for number in range(total):
                receipts.append(speaker.publish_nowait(f"a/{number % 7}", number))
                if number % 100 == 99:
                    face.on_stage(line.cut)
                    await receipts[number - 50].wait()

        async def listen() -> None:
            got.extend(await numbers(messages, total - 1))

        got: list[int] = []
        await face.together(speak, listen)
        assert got == list(range(total))
        assert messages.gap_count == 0
        places = [await receipt.wait() for receipt in receipts]
        assert [place.pos for place in places] == list(range(1, total + 1))
        assert line.cuts == 30


@on_its_loop
async def test_restarted_broker_is_a_reset_and_goes_on(face: Face) -> None:
    """G4: memory logs begin a new life; never a silent hole."""
    gaps: list[triode.Gap] = []
    async with face.serving(cuttable_line(0)) as (line, detour), face.connect(detour, wait_seconds=0) as client:
        messages = client.subscribe("a", on_gap=gaps.append)
        async with face.serving(running()) as url:
            line.port = port_of(url)
            await messages.__aenter__()
            await client.publish("a", 0)
            assert (await anext(messages)).data == 0
        queued = client.publish_nowait("a", 1)
        async with face.serving(running()) as url:
            line.port = port_of(url)
            assert (await queued.wait()).pos == 1
            assert (await anext(messages)).data == 1
            assert [gap.reason for gap in gaps] == ["reset"]
            await client.publish("a", 2)
            assert (await anext(messages)).data == 2


@on_its_loop
async def test_slow_consumer_gets_everything_late(face: Face) -> None:
    """G4, G7: a small inbox, paused and resumed many times."""
    async with (
        face.serving(running()) as url,
        face.connect(url) as speaker,
        face.connect(url, max_inbox_messages=50) as slow,
        slow.subscribe("a") as messages,
    ):
        for number in range(2_000):
            await speaker.send("a", number)
        got = await numbers(messages, 1_999)
        assert got == list(range(2_000))
        assert messages.gap_count == 0


@on_its_loop
async def test_large_snapshot_through_a_small_inbox_comes_once(face: Face) -> None:
    async with (
        face.serving(running()) as url,
        face.connect(url) as speaker,
        face.connect(url, max_inbox_messages=50) as slow,
    ):
        for number in range(500):
            await speaker.send(f"a/{number}", number)
        await speaker.publish("b", 0)
        async with slow.subscribe("a/#", from_="last") as messages:
            seen = []
            async for item in messages.events():
                if isinstance(item, triode.CaughtUp):
                    break
                assert isinstance(item, triode.Message)
                seen.append(item.data)
        assert sorted(seen) == list(range(500))
