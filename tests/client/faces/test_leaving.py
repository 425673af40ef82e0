"""The end of a client, in every face: politely, in trouble, cancelled, and when the broker has had enough."""

from typing import Any

import pytest
import triode

from tests.client.broker import Line
from tests.client.faces.face import Face, on_its_loop, only_where_tasks_are_cancelled
from tests.client.faces.scenes import state_of
from tests.client.faces.stage import Signal
from tests.client.play import message


@on_its_loop
async def test_messages_without_acknowledgement_are_flushed_by_leaving(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        assert [(await line.hear("publish"))["data"] for _ in range(100)] == list(range(100))
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        for number in range(100):
            await client.send("a", number)


@on_its_loop
async def test_error_in_the_program_comes_out_as_it_is(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.until_closed()

    async with face.playing(scene) as url:
        with pytest.raises(KeyError, match="mine"):
            async with face.connect(url):
                raise KeyError("mine")


@only_where_tasks_are_cancelled
@on_its_loop
async def test_cancelled_program_leaves_at_once(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.until_closed()

    async with face.playing(scene) as url:
        async with face.scope() as scope, face.connect(url) as client:
            receipt = client.publish_nowait("a", 1)
            scope.cancel()
            await face.checkpoint()
            await face.checkpoint()
            pytest.fail("it was cancelled")
        assert state_of(client) is triode.State.CLOSED
        with pytest.raises(triode.TriodeError):
            await receipt.wait()
        async with face.scope() as scope:
            scope.cancel()
            async with face.connect(url):
                pytest.fail("it was cancelled")


@on_its_loop
async def test_leaving_is_bounded_when_the_broker_neither_answers_nor_closes(face: Face) -> None:
    left = Signal()

    async def scene(line: Line) -> None:
        await line.accept()
        await left.wait()  # and reads nothing, not even the close frame

    async with face.playing(scene) as url:
        limits: dict[str, Any] = {"close_timeout_seconds": 0.05, "farewell_timeout_seconds": 0.05}
        async with face.connect(url, **limits) as client:
            for number in range(5):
                receipt = client.publish_nowait("a", number)
                await face.checkpoint()
        left.set()
        with pytest.raises(triode.TriodeError):
            await receipt.wait()


@only_where_tasks_are_cancelled
@on_its_loop
async def test_cancelled_while_leaving_leaves_at_once(face: Face) -> None:
    has_heard = Signal()

    async def scene(line: Line) -> None:
        await line.accept()
        await line.hear("publish")
        has_heard.set()
        await line.until_closed()

    async with face.playing(scene) as url:
        left = False
        async with face.scope() as scope:

            async def cancel() -> None:
                await face.wait(has_heard)
                scope.cancel()

            async with face.beside(cancel), face.connect(url) as client:
                client.publish_nowait("a", 1)
            left = True
        assert not left
        assert state_of(client) is triode.State.CLOSED


@on_its_loop
async def test_client_that_the_broker_stops_says_so_everywhere(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(message(1))
        await line.hear("publish")
        await line.websocket.aclose(4002, "revoked")

    async with face.playing(scene) as url, face.connect(url) as client:
        events = client.events()
        async with client.subscribe("a/#") as messages:
            with pytest.raises(triode.OutcomeUnknown):
                await client.publish("b", 1)
            assert (await anext(messages)).pos == 1
            with pytest.raises(triode.ConnectionClosed) as caught:
                await anext(messages)
        assert caught.value.code == 4002
        with pytest.raises(triode.ConnectionClosed):
            await client.publish("b", 1)
        last = [event async for event in events][-1]
        assert isinstance(last, triode.StateChanged)
        assert (last.state, last.code, last.reason) == (triode.State.CLOSED, 4002, "revoked")
        assert [event async for event in client.events()] == []
