"""`publish_many`, `encode` and `aclose`, in every face."""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
import triode

from tests.client.broker import Line, answering
from tests.client.faces.face import Face, on_its_loop, only_where_tasks_are_cancelled
from tests.client.faces.scenes import goodbye, state_of
from tests.client.faces.stage import Signal
from tests.client.play import LOG
from tests.client.running import running


async def refuse(line: Line, name: str = "forbidden") -> None:
    """Hear a publish and refuse it."""
    heard = await line.hear("publish")
    await line.say({"type": "error", "id": heard["id"], "name": name, "message": "no", "retry": "never"})


@on_its_loop
async def test_many_leave_in_order_and_together(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        heard = [await line.published(pos) for pos in range(1, 4)]
        assert [(each["topic"], each["data"]) for each in heard] == [("a", 1), ("b", {"x": 2}), ("c", [3])]
        assert (heard[1]["key"], heard[1]["headers"]) == ("k", {"h": "v"})
        assert heard[2]["message_id"] == "mine"
        assert len(line.texts) == 2
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        places = await client.publish_many(
            [
                ("a", 1),
                {"topic": "b", "data": {"x": 2}, "key": "k", "headers": {"h": "v"}},
                {"topic": "c", "data": [3], "message_id": "mine"},
            ]
        )
        assert [place.pos for place in places] == [1, 2, 3]
        assert places[2].message_id == "mine"
        assert await client.publish_many([]) == []


@on_its_loop
async def test_many_more_than_the_queue_holds_wait_for_room(face: Face) -> None:
    async with face.serving(running(memory_shards=1)) as url, face.connect(url, max_queue_messages=10) as client:
        places = await client.publish_many(("a", number) for number in range(500))
        assert [place.pos for place in places] == list(range(1, 501))


@on_its_loop
async def test_many_of_which_some_fail_say_which(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.published(1)
        await refuse(line)
        await line.published(2)
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        with pytest.raises(triode.PublishManyFailed, match="1 of 3 messages: forbidden: no") as caught:
            await client.publish_many([("a", 1), ("a", 2), ("a", 3)])
        first, second, third = caught.value.results
        assert isinstance(first, triode.Published)
        assert isinstance(second, triode.PublishRefused)
        assert isinstance(third, triode.Published)
        assert (first.pos, third.pos) == (1, 2)


@on_its_loop
async def test_many_without_a_connection_fill_the_queue_and_the_rest_is_told(face: Face) -> None:
    may_answer = Signal()

    async def scene(line: Line) -> None:
        await may_answer.wait()
        await line.accept()
        assert [(await line.published(pos))["data"] for pos in (1, 2)] == [0, 1]
        await line.goodbye()

    async def publish() -> None:
        with pytest.raises(triode.PublishManyFailed, match="2 of 4 messages") as caught:
            await client.publish_many([("a", number) for number in range(4)])
        assert [type(each) for each in caught.value.results] == [triode.Published] * 2 + [triode.QueueFull] * 2

    async def answer() -> None:
        await face.checkpoint()
        may_answer.set()

    async with face.playing(scene) as url, face.connect(url, wait_seconds=0, max_queue_messages=2) as client:
        await face.together(publish, answer)


@on_its_loop
async def test_wrong_one_among_many_stops_all_before_they_are_sent(face: Face) -> None:
    async with face.playing(goodbye) as url, face.connect(url) as client:
        with pytest.raises(triode.BadTopic):
            await client.publish_many([("a", 1), ("a/+", 2)])
        with pytest.raises(TypeError):
            await client.publish_many([("a", 1), {"topic": "b", "data": 1, "colour": "red"}])  # type: ignore[list-item]  # what a program may say
        with pytest.raises(TypeError):
            await client.publish_many([("a", object())])


@on_its_loop
async def test_many_after_the_end_are_refused_each(face: Face) -> None:
    async with face.playing(goodbye) as url, face.connect(url) as client:
        pass
    with pytest.raises(triode.PublishManyFailed) as caught:
        await client.publish_many([("a", 1), ("a", 2)])
    assert [type(each) for each in caught.value.results] == [triode.ConnectionClosed] * 2


@only_where_tasks_are_cancelled
@on_its_loop
async def test_many_cancelled_are_not_sent_any_more(face: Face) -> None:
    has_heard = Signal()

    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        unanswered = await line.hear("publish")
        has_heard.set()
        await line.hear("history")  # the barrier: the test has cancelled the others
        await line.say(
            {"type": "published", "id": unanswered["id"], "log": LOG, "pos": 1, "offset": 1, "level": "x"}
        )
        assert (await line.published(2))["data"] == "after"
        await line.goodbye()

    async def publish() -> None:
        await client.publish_many([("a", number) for number in range(50)])
        pytest.fail("it was cancelled")

    async def ask() -> None:
        await client.history("b")

    async with face.playing(scene) as url, face.connect(url) as client:
        async with face.beside(publish):
            await face.wait(has_heard)
        async with face.beside(ask):
            assert (await client.publish("a", "after")).pos == 2


# What JSON has no word for


class Opaque:
    """Nothing that msgspec knows."""

    def __init__(self, value: int) -> None:
        self.value = value


@dataclasses.dataclass
class Point:
    x: int


@attrs.frozen
class Size:
    width: int


class Colour(msgspec.Struct):
    red: int


@on_its_loop
async def test_objects_are_data_by_themselves_or_by_encode(face: Face) -> None:
    async def scene(line: Line) -> None:
        connect = await line.accept()
        assert connect["will"]["data"] == {"value": 1}
        for expected in (
            [{"x": 1}, {"width": 2}, {"red": 3}, "2030-01-01T00:00:00Z", "1.5"],
            {"value": 4},
            [{"value": 5}],
        ):
            assert (await line.published())["data"] == expected
        assert (await line.subscribed())["presence"]["state"] == {"value": 6}
        await line.hear("unsubscribe")
        await line.goodbye()

    def encode(one: Any) -> Any:
        if isinstance(one, Opaque):
            return {"value": one.value}
        raise TypeError(f"no idea of {one!r}")

    async with (
        face.playing(scene) as url,
        face.connect(url, encode=encode, will=triode.Will("gone", Opaque(1))) as client,
    ):
        at = datetime(2030, 1, 1, tzinfo=UTC)
        await client.publish("a", [Point(1), Size(2), Colour(3), at, Decimal("1.5")])
        await client.publish("a", Opaque(4))
        await client.publish_many([("a", [Opaque(5)])])
        with pytest.raises(TypeError, match="no idea"):
            await client.publish("a", object())
        async with client.subscribe("a", presence={"state": Opaque(6)}):
            pass


# The end without the end of a block


@on_its_loop
async def test_client_closed_inside_its_block_says_goodbye_once(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        assert (await line.hear("publish"))["data"] == 1
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        await client.send("a", 1)
        await client.aclose()
        assert state_of(client) is triode.State.CLOSED
        await client.aclose()
        with pytest.raises(triode.ConnectionClosed):
            await client.publish("a", 2)


@on_its_loop
async def test_client_closed_before_it_was_entered_cannot_be_entered(face: Face) -> None:
    client = face.connect("ws://127.0.0.1:9")
    await client.aclose()
    assert client.state is triode.State.CLOSED
    with pytest.raises(RuntimeError, match="entered once"):
        await client.__aenter__()


@on_its_loop
async def test_client_closed_while_it_is_entered_says_so(face: Face) -> None:
    async def enter() -> None:
        with pytest.raises(triode.ConnectionClosed, match="the client"):
            await client.__aenter__()

    async def close() -> None:
        async for event in events:
            if isinstance(event, triode.StateChanged) and event.state is triode.State.CONNECTING:
                await client.aclose()

    async with face.serving(answering(None)) as url:
        client = face.connect(url)
        events = client.events()
        await face.together(enter, close)
    assert state_of(client) is triode.State.CLOSED
