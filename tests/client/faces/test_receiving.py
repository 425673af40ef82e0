"""Subscriptions and history, in every face: messages and gaps in their places, slow programs, refusals."""

import logging

import pytest
import triode

from tests.client.broker import Line, connected
from tests.client.faces.face import (
    Face,
    on_its_loop,
    only_where_a_loop_has_turns,
    only_where_tasks_are_cancelled,
)
from tests.client.faces.stage import Signal
from tests.client.play import LOG, delivery, message


@on_its_loop
async def test_subscription_yields_messages_and_its_position(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.subscribed()
        assert (asked["filter"], asked["from"], asked["overflow"]) == ("a/+", {"last": 2}, "gap")
        await line.say(message(1), message(2))
        await line.hear("unsubscribe")
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        async with client.subscribe("a/+", from_={"last": 2}, overflow="gap") as messages:
            assert messages.is_live
            assert not messages.is_paused
            assert messages.position == {LOG: 0}
            first = await anext(messages)
            assert (first.pos, first.data, messages.position) == (1, 1, {LOG: 1})
            assert (await anext(messages)).pos == 2
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


@on_its_loop
async def test_lost_connection_is_made_good_in_one_flight(face: Face) -> None:
    """Resume by position, `replaces`, and the unanswered publish with its message id, all with `connect`."""
    lost: list[str] = []

    async def first(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(message(1))
        lost.append((await line.hear("publish"))["message_id"])
        await line.cut()

    async def second(line: Line) -> None:
        connect = await line.hear("connect")
        assert (connect["replaces"], connect["resume"]) == ("c-1", True)
        asked = await line.hear("subscribe")
        assert asked["after"] == {LOG: 1}
        again = await line.hear("publish")
        assert again["message_id"] == lost[0]
        assert len(line.texts) == 1
        place = {"log": LOG, "pos": 2, "offset": 2, "level": "memory", "duplicate": True}
        await line.say(
            connected(connect),
            {"type": "subscribed", "sub": asked["sub"], "after": {LOG: 1}, "live": False},
            {"type": "published", "id": again["id"], **place},
            delivery(asked["sub"], 2),
            {"type": "caught_up", "sub": asked["sub"], "after": {LOG: 2}},
        )
        await line.goodbye()

    async with face.playing(first, second) as url, face.connect(url) as client:
        events = client.events()
        async with client.subscribe("a/#") as messages:
            assert (await anext(messages)).pos == 1
            assert (await client.publish("a/x", 1)).duplicate
            assert (await anext(messages)).pos == 2
        seen = [await anext(events) for _ in range(3)]
        assert [event.state for event in seen if isinstance(event, triode.StateChanged)] == [
            triode.State.WAITING,
            triode.State.CONNECTING,
            triode.State.CONNECTED,
        ]


@on_its_loop
async def test_gaps_come_in_their_place_to_whoever_listens(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        for sub in (1, 2, 3):
            await line.subscribed()
            await line.say(
                message(1),
                {"type": "gap", "sub": sub, "after": {LOG: 4}, "reason": "retention"},
                message(5),
                {"type": "gap", "sub": sub, "after": {LOG: 8}, "reason": "slow"},
                message(9),
            )
            await line.hear("unsubscribe")
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        async with client.subscribe("a/#") as messages:
            assert [(await anext(messages)).pos for _ in range(3)] == [1, 5, 9]
            assert messages.gap_count == 2
            assert [gap.reason for gap in messages.gaps] == ["retention", "slow"]
        warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warned) == 1
        assert "messages_missing filter='a/#' reason='retention'" in warned[0]

        order: list[object] = []
        async with client.subscribe("a/#", on_gap=lambda gap: order.append(gap.after)) as messages:
            async for one in messages:
                order.append(one.pos)
                if one.pos == 9:
                    break
        assert order == [1, {LOG: 4}, 5, {LOG: 8}, 9]

        async with client.subscribe("a/#") as messages:
            seen = []
            async for item in messages.events():
                seen.append(type(item))
                if len(seen) == 6:
                    break
            assert seen == [triode.CaughtUp, *[triode.Message, triode.Gap] * 2, triode.Message]
            assert messages.gap_count == 2
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


@only_where_a_loop_has_turns
@on_its_loop
async def test_slow_consumer_is_paused_and_resumed_while_the_connection_lives(face: Face) -> None:
    alive = Signal()

    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(*(message(pos) for pos in range(1, 30)))
        await line.hear("unsubscribe")
        await line.say({"type": "ping"})
        await line.hear("pong")
        alive.set()
        asked = await line.subscribed(after={LOG: 9}, live=False)
        assert asked["after"] == {LOG: 9}  # nine, and the word that it had caught up
        await line.say(*(delivery(asked["sub"], pos) for pos in range(10, 15)))
        await line.goodbye()

    async with (
        face.playing(scene) as url,
        face.connect(url, max_inbox_messages=10) as client,
        client.subscribe("a/#") as messages,
    ):
        await face.wait(alive)
        assert messages.is_paused
        assert [(await anext(messages)).pos for _ in range(14)] == list(range(1, 15))


@on_its_loop
async def test_refused_subscription_raises_where_it_is_entered(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.hear("subscribe")
        error = {"type": "error", "sub": asked["sub"], "name": "quota", "message": "no", "retry": "never"}
        await line.say({**error, "id": asked["id"]})
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        with pytest.raises(triode.SubscriptionEnded, match="quota: no"):
            async with client.subscribe("a"):
                pytest.fail("it was refused")


@on_its_loop
async def test_subscription_ended_by_the_broker_raises_after_what_was_received(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.subscribed()
        ended = {"type": "unsubscribed", "sub": asked["sub"], "name": "forbidden", "message": "", "retry": "never"}
        await line.say(message(1), ended)
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client, client.subscribe("a/#") as messages:
        assert (await anext(messages)).pos == 1
        with pytest.raises(triode.SubscriptionEnded, match="forbidden"):
            await anext(messages)


@on_its_loop
async def test_consumer_that_never_waits_lets_others_run(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(*(message(pos) for pos in range(1, 201)))
        await line.hear("unsubscribe")
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client, client.subscribe("a/#") as messages:
        turns: list[int] = []
        taken = 0

        async def other() -> None:
            while taken < 200:
                turns.append(taken)
                await face.checkpoint()

        async def take() -> None:
            nonlocal taken
            while taken < 200:
                await anext(messages)
                taken += 1

        await face.together(other, take)
        assert any(0 < turn < 200 for turn in turns)


@on_its_loop
async def test_history_gives_a_page(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.hear("history")
        assert (asked["topic"], asked["after"], asked["limit"]) == ("a/b", {LOG: 1}, 2)
        page = {"messages": [message(2), message(3)], "complete": False, "after": {LOG: 3}}
        await line.say({"type": "history", "id": asked["id"], **page})
        asked = await line.hear("history")
        await line.say({"type": "error", "id": asked["id"], "name": "forbidden", "message": "", "retry": "never"})
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url) as client:
        page = await client.history("a/b", after={LOG: 1}, limit=2)
        assert [each.data for each in page.messages] == [2, 3]
        assert (page.complete, page.after) == (False, {LOG: 3})
        with pytest.raises(triode.HistoryRefused):
            await client.history("a/b", before={LOG: 1})


@only_where_tasks_are_cancelled
@on_its_loop
async def test_cancelled_question_is_forgotten(face: Face) -> None:
    has_heard = Signal()

    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.hear("history")
        has_heard.set()
        assert (await line.hear("history"))["topic"] == "second"
        for id, number in ((asked["id"], 1), (asked["id"] + 1, 2)):
            await line.say(
                {"type": "history", "id": id, "messages": [message(number)], "complete": True, "after": {}}
            )
        await line.goodbye()

    async with face.playing(scene) as url, face.connect(url, max_requests=1) as client:

        async def ask() -> None:
            await client.history("first")

        async with face.beside(ask):
            await face.wait(has_heard)
        assert [each.pos for each in (await client.history("second")).messages] == [2]
