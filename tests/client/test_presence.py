"""Presence and wills in the client: what it asks for, what programs are told (SPEC 10)."""

from typing import Any

import pytest
import triode
from msgspec import Raw
from triode.errors import PresenceRefused
from triode.records import Joined, Left, Member, Presence, State
from triode.session import Identity
from triode.subscription import Phase, Subscription, Wish
from triode_protocol import packets

from tests.client.play import LOG, Play, message

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
