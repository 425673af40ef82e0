"""Presence and wills in every face, with a real broker (SPEC 10)."""

import pytest
import triode

from tests.client.faces.face import Face, on_its_loop
from tests.client.running import running


async def next_event(messages: triode.Messages) -> triode.Item:
    async for item in messages.events():
        if not isinstance(item, triode.CaughtUp):
            return item
    raise AssertionError("it has ended")


@on_its_loop
async def test_clients_see_each_other(face: Face) -> None:
    """SPEC 10.1, 10.2, 10.4"""
    async with face.serving(running()) as url, face.connect(url) as ann, face.connect(url) as bob:
        async with ann.subscribe("room", presence={"state": "Ann"}) as room:
            itself = await next_event(room)
            assert isinstance(itself, triode.Joined)
            assert itself.is_self
            present = await bob.presence("room")
            assert (present.members, present.complete) == ((itself.member,), True)
            async with bob.subscribe("#", presence="watch") as watched:
                async with bob.subscribe("room", presence={"state": "Bob"}):
                    came = await next_event(room)
                    assert isinstance(came, triode.Joined)
                    assert came.member.state == "Bob"
                    assert await next_event(watched) == came
                assert await next_event(room) == await next_event(watched) == triode.Left("room", came.member)
        with pytest.raises(ValueError, match="presence"):
            ann.subscribe("room", presence={"mood": 1})  # type: ignore[dict-item]  # what a program may say
        with pytest.raises(triode.BadTopic):
            await ann.presence("room/+")


@on_its_loop
async def test_plain_iteration_passes_over_who_comes(face: Face) -> None:
    async with (
        face.serving(running()) as url,
        face.connect(url) as client,
        client.subscribe("room", presence={"state": 1}) as messages,
    ):
        await client.publish("room", "hello")
        assert (await anext(messages)).data == "hello"


@on_its_loop
async def test_lost_client_leaves_a_will_and_the_others_are_told(face: Face) -> None:
    """SPEC 10.5, 10.7, 10.8: after a goodbye there is none."""
    will = triode.Will("status", "lost")
    async with (
        face.serving(running(limits={"presence_debounce_ms": 5})) as url,
        face.connect(url) as watcher,
        watcher.subscribe("status", presence="watch") as messages,
    ):
        async with face.connect(url, will=will) as polite:
            async with polite.subscribe("status", presence={"state": 1}):
                assert isinstance(await next_event(messages), triode.Joined)
            assert isinstance(await next_event(messages), triode.Left)
        lost = await face.connect(url, will=will).__aenter__()
        await lost.publish("status", "here")
        with pytest.raises(RuntimeError, match="crash"):
            await crash(lost)
        assert (await anext(messages)).data == "here"
        assert (await anext(messages)).data == "lost"


async def crash(client: triode.Client) -> None:
    """Leave its block with an error."""
    error = RuntimeError("crash")
    await client.__aexit__(RuntimeError, error, None)
    raise error


@on_its_loop
async def test_will_that_the_broker_refuses_ends_the_attempt(face: Face) -> None:
    """SPEC 10.7"""
    async with face.serving(running()) as url:
        client = face.connect(url, will=triode.Will("status", "x", delay=1e6))
        with pytest.raises(triode.ConnectionRefused, match="delay_ms"):
            await client.__aenter__()
