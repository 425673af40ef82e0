"""Publishing, in every face: what is said, what waits, what is refused, and what many at once are told."""

from datetime import UTC, datetime
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
from tests.client.faces.scenes import goodbye, state_of
from tests.client.faces.stage import Signal
from tests.client.play import LOG


@on_its_loop
async def test_client_connects_publishes_and_says_goodbye(face: Face) -> None:
    async def scene(line: Line) -> None:
        assert (await line.accept())["client"]["name"] == "shop"
        assert line.websocket.subprotocol == "triode.v1.json"
        first = await line.published(7)
        assert (first["topic"], first["data"], first["key"], first["headers"]) == (
            "a/b",
            {"x": 1},
            "k",
            {"h": "v"},
        )
        assert (await line.published(8))["b64"] == "aGVsbG8="
        assert (await line.published(9))["data"] == [1.50]
        assert "1.50" in line.texts[-1]
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url, name="shop") as client:
        assert state_of(client) is triode.State.CONNECTED
        place = await client.publish("a/b", {"x": 1}, key="k", headers={"h": "v"})
        assert (place.log, place.pos, place.offset, place.level, place.duplicate) == (LOG, 7, 7, "memory", False)
        await client.publish("a/b", b"hello")
        await client.publish("a/b", triode.Raw(b"[1.50]"))
    assert state_of(client) is triode.State.CLOSED


@only_where_a_loop_has_turns
@on_its_loop
async def test_several_publishes_at_once_go_as_one_array(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        for pos in (1, 2, 3):
            await line.published(pos)
        assert len(line.texts) == 2
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        receipts = [client.publish_nowait("a", n) for n in range(3)]
        assert not any(receipt.is_done for receipt in receipts)
        assert [(await receipt.wait()).pos for receipt in receipts] == [1, 2, 3]
        assert all(receipt.is_done for receipt in receipts)
        assert (await receipts[0].wait()).pos == 1


@on_its_loop
async def test_receipt_tells_all_who_wait_for_it(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.published(4)
        await line.goodbye()

    places = []
    async with face.playing(scene) as url, face.connect(url) as client:
        receipt = client.publish_nowait("a", 1)

        async def wait() -> None:
            places.append((await receipt.wait()).pos)

        await face.together(wait, wait, wait)
        await wait()
    assert places == [4, 4, 4, 4]


@only_where_a_loop_has_turns
@on_its_loop
async def test_receipts_that_are_done_let_others_run_now_and_then(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.published(1)
        await line.goodbye()

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await face.checkpoint()

    async with face.playing(scene) as url, face.connect(url) as client:
        receipt = client.publish_nowait("a", 1)
        await receipt.wait()
        async with face.beside(count):
            for _ in range(1_000):
                await receipt.wait()
        assert 10 <= turns <= 100  # every 64th time, not every time


@on_its_loop
async def test_without_waiting_the_client_queues_and_refuses_when_full(face: Face) -> None:
    refused = Signal()

    async def scene(line: Line) -> None:
        await refused.wait()
        await line.accept()
        assert [(await line.published())["data"] for _ in range(2)] == [0, 1]
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url, wait_seconds=0, max_queue_messages=2) as client:
        assert client.state is triode.State.CONNECTING
        receipts = [client.publish_nowait("a", n) for n in range(2)]
        with pytest.raises(triode.QueueFull):
            await client.publish("a", 2)
        with pytest.raises(triode.QueueFull):
            await client.send("a", 2)
        refused.set()
        for receipt in receipts:
            await receipt.wait()


@on_its_loop
async def test_publisher_waits_for_room_while_connected(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        for pos in range(21):
            await line.published(pos)
        await line.goodbye()

    places = []

    async with face.playing(scene) as url, face.connect(url, max_queue_messages=3) as client:
        await client.publish("a", "first")

        async def publish(number: int) -> None:
            places.append((await client.publish("a", number)).pos)

        await face.together(*(partial(publish, number) for number in range(20)))
    assert sorted(places) == list(range(1, 21))


@on_its_loop
async def test_message_too_large_for_the_queue_is_refused_at_once(face: Face) -> None:
    async with face.playing(goodbye) as url, face.connect(url, max_queue_bytes=2_000) as client:
        with pytest.raises(triode.QueueFull):
            await client.publish("a", "x" * 3_000)


@on_its_loop
async def test_sender_without_acknowledgements_waits_for_room_too(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        assert [(await line.hear("publish"))["data"] for _ in range(500)] == list(range(500))
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url, max_queue_messages=3) as client:
        for number in range(500):
            await client.send("a", number)


@on_its_loop
async def test_publish_that_is_never_sent_expires_by_itself(face: Face) -> None:
    """Nothing else makes the client look at its clock: all other limits are beyond the test's patience."""

    async with face.playing(Line.until_closed) as url:
        patient = {"connect_timeout_seconds": 600, "close_timeout_seconds": 600}
        async with face.connect(url, wait_seconds=0, publish_expiry_seconds=0.01, **patient) as client:
            with pytest.raises(triode.Expired):
                await client.publish("a", 1)
            with pytest.raises(triode.Expired):
                await client.publish_nowait("a", 2).wait()


@only_where_tasks_are_cancelled
@on_its_loop
async def test_cancelled_publish_leaves_the_client_in_order(face: Face) -> None:
    has_heard = Signal()

    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        unanswered = await line.hear("publish")
        assert unanswered["data"] == "sent"
        has_heard.set()
        await line.hear("subscribe")  # the barrier: the test has cancelled both
        await line.hear("unsubscribe")
        await line.say(
            {"type": "published", "id": unanswered["id"], "log": LOG, "pos": 1, "offset": 1, "level": "x"}
        )
        assert (await line.published(2))["data"] == "third"
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:

        async def publish(data: str) -> None:
            await client.publish("a", data)
            pytest.fail("it was cancelled")

        async with face.beside(partial(publish, "sent")):
            await face.wait(has_heard)
            async with face.beside(partial(publish, "never sent")):
                await face.checkpoint()
        async with face.scope() as scope:
            scope.cancel()
            async with client.subscribe("b"):
                pytest.fail("it was cancelled")
        assert (await client.publish("a", "third")).pos == 2


@on_its_loop
async def test_refused_publish_and_unknown_outcome_raise(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept(limits={"dedupe_window_ms": 0})
        packet = await line.hear("publish")
        error = {"type": "error", "id": packet["id"], "name": "forbidden", "message": "no", "retry": "never"}
        await line.say(error)
        await line.hear("publish")
        await line.cut()

    async def after(line: Line) -> None:
        await line.accept()
        await line.goodbye()

    async with face.playing(scene, after) as url, face.connect(url) as client:
        events = client.events()
        with pytest.raises(triode.PublishRefused, match="forbidden: no"):
            await client.publish("a", 1)
        with pytest.raises(triode.OutcomeUnknown) as caught:
            await client.publish("a", 1, message_id="mine")
        assert caught.value.message_id == "mine"
        async for _ in events:
            if client.state is triode.State.CONNECTED:
                break


@on_its_loop
async def test_wrong_arguments_are_told_to_the_line_at_fault(face: Face) -> None:
    async with face.playing(goodbye) as url, face.connect(url) as client:
        for wrong in ("", "a/+", "a//b"):
            with pytest.raises(triode.BadTopic):
                await client.publish(wrong, 1)
            with pytest.raises(triode.BadTopic):
                await client.history(wrong)
        with pytest.raises(triode.BadTopic):
            client.subscribe("a/#/b")
        with pytest.raises(ValueError, match="message_id"):
            await client.publish("a", 1, message_id="x" * 65)
        with pytest.raises(TypeError):
            await client.publish("a", object())
        with pytest.raises(ValueError, match=r".+"):
            client.subscribe("a", from_={"last": 0})
        messages = client.subscribe("a")
        with pytest.raises(RuntimeError, match="enter the subscription first"):
            await anext(messages)
        with pytest.raises(RuntimeError, match="a client is entered once"):
            async with client:
                pytest.fail("it was entered already")


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": triode.Raw(b"")},
        {"data": triode.Raw(b'{"cut')},
        {"data": triode.Raw(b'1},{"type":"disconnect"')},
        {"data": triode.Raw(b'"\xff"')},
        {"data": triode.Raw(b"[" * 50_000 + b"]" * 50_000)},
        {"data": 1, "headers": {"h": 1}},
        {"data": 1, "headers": {"h": "\ud800"}},
        {"data": 1, "ttl_ms": "60"},
    ],
)
@on_its_loop
async def test_what_no_packet_can_carry_is_refused_at_once_and_spoils_nothing(
    face: Face, wrong: dict[str, Any]
) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        assert (await line.published())["data"] == "fine"
        await line.goodbye()

    draft: Any = {"topic": "a", **wrong}
    async with face.playing(scene) as url, face.connect(url) as client:
        for publish in (client.publish, client.send):
            with pytest.raises((ValueError, TypeError)):
                await publish(**draft)
        with pytest.raises((ValueError, TypeError)):
            await client.publish_many([("a", "with it"), draft])
        await client.publish("a", "fine")


@pytest.mark.parametrize("wrong", [{"max_queue_messages": 0}, {"no_such_limit": 5}])
def test_wrong_limits_are_refused(face: Face, wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        face.connect("ws://h", **wrong)


@on_its_loop
async def test_messages_for_later_and_deleted_keys_are_published(face: Face) -> None:
    """SPEC 3.4.15, 3.4.17"""

    async def scene(line: Line) -> None:
        await line.accept()
        for _ in range(3):
            heard = await line.hear("publish")
            assert heard["deliver_at_ms"] == 1_900_000_000_500
            if "id" in heard:
                await line.say({"type": "published", "id": heard["id"], "delayed": True, "level": "memory"})
        heard = await line.published(8)
        assert (heard["topic"], heard["key"], heard["message_id"]) == ("state", "k", "mine")
        assert not {"data", "b64"} & set(heard)
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        place = await client.publish("a", 1, deliver_at=1_900_000_000.5)
        assert (place.delayed, place.log, place.position) == (True, "", {})
        at = datetime.fromtimestamp(1_900_000_000.5, UTC)
        assert (await client.publish_nowait("a", 1, deliver_at=at).wait()).delayed
        await client.send("a", 1, deliver_at=at)
        assert (await client.delete_key("state", "k", message_id="mine")).pos == 8


@pytest.mark.parametrize("at", [datetime(2030, 1, 1), 0.0, -1.0, 1_900_000_000_000.0, float("nan"), float("inf")])
def test_time_that_is_none_is_refused_at_once(face: Face, at: datetime | float) -> None:
    """Without a zone, before 1970, or in ms by mistake."""
    client = face.connect("ws://127.0.0.1:9")
    with pytest.raises(ValueError, match="deliver_at"):
        client.publish_nowait("a", 1, deliver_at=at)


@on_its_loop
async def test_key_too_long_or_missing_is_refused_at_once(face: Face) -> None:
    client = face.connect("ws://127.0.0.1:9")
    with pytest.raises(ValueError, match="255 bytes"):
        client.publish_nowait("a", 1, key="k" * 256)
    with pytest.raises(ValueError, match="has a key"):
        await client.delete_key("a", "")
