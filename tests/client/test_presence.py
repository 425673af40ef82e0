"""Presence and wills in the client: what it asks for, what programs are told; and with a real broker (SPEC 10)."""

from typing import Any

import pytest
import trio
import triode
from msgspec import Raw
from triode.errors import PresenceRefused
from triode.records import CaughtUp, Joined, Left, Member, Presence, State
from triode.session import Identity
from triode.subscription import Phase, Subscription, Wish
from triode_protocol import packets

from tests.client.play import LOG, Play, message
from tests.client.test_end_to_end import PATIENCE_SECONDS, running

SEEN: Wish = packets.Seen(Raw(b'{"name":"Ann"}'))


def member(id: str = "p-1", **fields: Any) -> dict[str, Any]:
    return {"id": id, "state": {"name": "Ann"}, **fields}


def joined(topic: str = "a/b", id: str = "p-1", **fields: Any) -> dict[str, Any]:
    return {"type": "joined", "topic": topic, "member": member(id), **fields}


def watching(play: Play, presence: Wish = "watch", filter: str = "a/#") -> Subscription:
    play.connect()
    subscription = play.subscribe(filter, presence=presence)
    play.hears()
    play.accept(subscription)
    return subscription


# Without a loop


@pytest.mark.parametrize(("presence", "said"), [("watch", "watch"), (SEEN, {"state": {"name": "Ann"}})])
def test_presence_is_asked_for_again_on_each_connection(presence: Wish, said: Any) -> None:
    """SPEC 10.1, 10.5"""
    play = Play()
    play.connect()
    play.subscribe("a/b", presence=presence)
    assert play.hears()[0]["presence"] == said
    assert play.reconnect()[1]["presence"] == said


def test_subscriptions_that_watch_are_told() -> None:
    """SPEC 10.2: those whose filter matches; one that is seen knows itself."""
    play = Play()
    seen = watching(play, SEEN, "a/b")
    watcher, other, plain = play.subscribe("a/#", presence="watch"), play.subscribe("b"), play.subscribe("a/b")
    play.hears()
    for subscription in (watcher, other, plain):
        play.accept(subscription)
    play.says(
        joined(sub=seen.number), joined(sub=99), joined(), {"type": "left", "topic": "a/b", "member": member()}
    )
    ann = Member("p-1", {"name": "Ann"})
    assert play.items(seen) == [Joined("a/b", ann, is_self=True), Joined("a/b", ann), Left("a/b", ann)]
    assert play.items(watcher) == [Joined("a/b", ann), Left("a/b", ann)]
    assert play.items(other) == play.items(plain) == []


def test_subscription_that_is_not_registered_yet_is_told_nothing() -> None:
    play = Play()
    play.connect()
    subscription = play.subscribe("a/#", presence="watch")
    play.says(joined())
    assert play.items(subscription) == []


def test_changes_do_not_move_the_position() -> None:
    """They have none."""
    play = Play()
    subscription = watching(play)
    play.says(message(1), joined(), message(2))
    assert len(play.items(subscription)) == 3
    assert subscription.consumed() == {LOG: 2}


def test_changes_fill_an_inbox_too() -> None:
    """The subscription pauses, as it does for messages; what was missed is asked for by the program."""
    play = Play(max_inbox_messages=4)
    subscription = watching(play)
    play.says(*(joined(id=f"p-{number}") for number in range(4)))
    assert subscription.phase is Phase.PAUSED
    assert play.hears()[0]["type"] == "unsubscribe"
    assert len(play.items(subscription)) == 4
    play.accept(subscription)


def test_who_is_there_is_asked() -> None:
    """SPEC 10.4: also again, after a reconnect."""
    play = Play()
    read = play.session.read(packets.PresenceRequest("a/b"), play.now)
    assert play.connect()[1]["type"] == "presence"
    asked = play.reconnect()[1]
    answer = {"type": "presence", "topic": "a/b", "members": [member(user="ann")], "complete": False}
    play.says({**answer, "id": 99}, {**answer, "id": asked["id"]})
    assert read.result == Presence("a/b", (Member("p-1", {"name": "Ann"}, "ann"),), False)
    assert play.session.finished == [read]


def test_refused_request_ends_with_the_brokers_words() -> None:
    play = Play()
    play.connect()
    read = play.session.read(packets.PresenceRequest("a/b"), play.now)
    error = {"type": "error", "name": "forbidden", "message": "no", "retry": "never"}
    play.says({**error, "id": play.hears()[0]["id"]})
    assert isinstance(read.result, PresenceRefused)
    assert str(read.result) == "forbidden: no"


@pytest.mark.parametrize("bad", [{"id": 1, "state": 1}, {"id": "p-1"}, [], "p-1"])
def test_member_that_is_none_costs_the_connection(bad: Any) -> None:
    """S33"""
    play = Play()
    watching(play)
    play.says({"type": "joined", "topic": "a/b", "member": bad})
    assert play.session.state is State.WAITING


def test_will_is_said_on_every_connection() -> None:
    """SPEC 10.7, 10.9"""
    play = Play(identity=Identity(will=triode.Will("status/ann", {"is": "lost"}, delay=5).packet()))
    said = {"topic": "status/ann", "data": {"is": "lost"}, "delay_ms": 5_000}
    assert play.connect()[0]["will"] == said
    assert play.reconnect()[0]["will"] == said


def test_will_says_what_a_publish_can() -> None:
    assert triode.Will("a", b"\x00", key="k").packet() == packets.Will("a", b64=Raw(b'"AA=="'), key="k")
    with pytest.raises(triode.BadTopic):
        triode.Will("a/+", 1).packet()
    with pytest.raises(ValueError, match="seconds"):
        triode.Will("a", 1, delay=-1).packet()


# With a real broker


async def next_event(messages: triode.Messages) -> triode.Item:
    with trio.fail_after(PATIENCE_SECONDS):
        async for item in messages.events():
            if not isinstance(item, CaughtUp):
                return item
    raise AssertionError("it has ended")


async def test_clients_see_each_other() -> None:
    """SPEC 10.1, 10.2, 10.4"""
    async with running() as url, triode.connect(url) as ann, triode.connect(url) as bob:
        async with ann.subscribe("room", presence={"state": "Ann"}) as room:
            itself = await next_event(room)
            assert isinstance(itself, Joined)
            assert itself.is_self
            present = await bob.presence("room")
            assert (present.members, present.complete) == ((itself.member,), True)
            async with bob.subscribe("#", presence="watch") as watched:
                async with bob.subscribe("room", presence={"state": "Bob"}):
                    came = await next_event(room)
                    assert isinstance(came, Joined)
                    assert came.member.state == "Bob"
                    assert await next_event(watched) == came
                assert await next_event(room) == await next_event(watched) == Left("room", came.member)
        with pytest.raises(ValueError, match="presence"):
            ann.subscribe("room", presence={"mood": 1})  # type: ignore[dict-item]  # what a program may say
        with pytest.raises(triode.BadTopic):
            await ann.presence("room/+")


async def test_plain_iteration_passes_over_who_comes() -> None:
    async with (
        running() as url,
        triode.connect(url) as client,
        client.subscribe("room", presence={"state": 1}) as messages,
    ):
        await client.publish("room", "hello")
        assert (await anext(messages)).data == "hello"


async def test_lost_client_leaves_a_will_and_the_others_are_told() -> None:
    """SPEC 10.5, 10.7, 10.8: after a goodbye there is none."""
    will = triode.Will("status", "lost")
    async with (
        running(limits={"presence_debounce_ms": 5}) as url,
        triode.connect(url) as watcher,
        watcher.subscribe("status", presence="watch") as messages,
    ):
        async with triode.connect(url, will=will) as polite:
            async with polite.subscribe("status", presence={"state": 1}):
                assert isinstance(await next_event(messages), Joined)
            assert isinstance(await next_event(messages), Left)
        lost = await triode.connect(url, will=will).__aenter__()
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


async def test_will_that_the_broker_refuses_ends_the_attempt() -> None:
    """SPEC 10.7"""
    async with running() as url:
        client = triode.connect(url, will=triode.Will("status", "x", delay=1e6))
        with pytest.raises(triode.ConnectionRefused, match="delay_ms"):
            await client.__aenter__()
