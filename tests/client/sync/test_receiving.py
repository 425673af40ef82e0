"""Iterating in threads: order, positions, gaps, pauses, several consumers, and how it ends (G4, G7)."""

import logging
import threading
from typing import Any

import pytest
import trio
import triode.sync

from tests.client.broker import Line
from tests.client.play import LOG, delivery, message
from tests.client.sync.stage import PATIENCE_SECONDS, data, stage, threads
from tests.client.sync.waiting import interrupted_while_waiting


def test_subscription_yields_messages_and_its_position() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.subscribed()
        assert (asked["filter"], asked["from"], asked["overflow"]) == ("a/+", {"last": 2}, "gap")
        await line.say(message(1), message(2), message(3))
        await line.hear("unsubscribe")
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url) as client:
        with client.subscribe("a/+", from_={"last": 2}, overflow="gap") as messages:
            assert messages.filter == "a/+"
            assert messages.is_live
            assert not messages.is_paused
            assert messages.position == {LOG: 0}
            first = next(messages)
            assert (first.pos, first.data, messages.position) == (1, 1, {LOG: 1})
            assert messages.get(timeout=PATIENCE_SECONDS).pos == 2
            assert messages.position == {LOG: 2}
            assert next(messages).pos == 3
            assert messages.position == {LOG: 3}
            with pytest.raises(RuntimeError, match="entered once"):
                messages.__enter__()
        assert list(messages) == []
        with pytest.raises(EOFError):
            messages.get()


def test_position_of_an_idle_subscription_follows_the_broker() -> None:
    """R4: `ping.at` moves on what nothing was due to."""

    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(message(1), {"type": "ping", "at": {LOG: 9}})
        await line.hear("pong")
        passed.set()
        await line.hear("unsubscribe")
        await line.goodbye()

    passed = threading.Event()
    with stage(scene) as url, triode.sync.connect(url) as client, client.subscribe("a/#") as messages:
        assert passed.wait(PATIENCE_SECONDS)
        assert messages.position == {LOG: 0}
        next(messages)
        assert messages.position == {LOG: 9}


def test_message_that_does_not_come_is_a_timeout(url: str) -> None:
    with triode.sync.connect(url) as client, client.subscribe("quiet") as messages:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                messages.get(timeout=0.001)
        client.publish("quiet", 1)
        assert data(messages, 1) == [1]


def test_position_of_one_run_resumes_the_next(url: str) -> None:
    with triode.sync.connect(url) as client:
        with client.subscribe("resume/#") as messages:
            client.publish_many([(f"resume/{number}", number) for number in range(5)])
            taken = data(messages, 3)
            position = messages.position
        with client.subscribe("resume/#", after=position) as messages:
            client.publish("resume/x", 9)
            rest: list[int] = []
            while len(rest) < 3:
                rest += data(messages, 1)
            assert sorted(taken + rest) == [0, 1, 2, 3, 4, 9]
            assert messages.gap_count == 0


def test_gaps_come_in_their_place_to_whoever_listens(caplog: pytest.LogCaptureFixture) -> None:
    """G4"""

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

    with stage(scene) as url, triode.sync.connect(url) as client:
        with client.subscribe("a/#") as messages:
            assert [next(messages).pos for _ in range(3)] == [1, 5, 9]
            assert messages.gap_count == 2
            assert [gap.reason for gap in messages.gaps] == ["retention", "slow"]
        warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warned) == 1
        assert "messages_missing filter='a/#' reason='retention'" in warned[0]

        order: list[object] = []
        with client.subscribe("a/#", on_gap=lambda gap: order.append(gap.after)) as messages:
            for one in messages:
                order.append(one.pos)
                if one.pos == 9:
                    break
        assert order == [1, {LOG: 4}, 5, {LOG: 8}, 9]

        with client.subscribe("a/#") as messages:
            events = messages.events()
            seen, positions = [], []
            for _ in range(6):
                seen.append(type(next(events)))
                positions.append(messages.position[LOG])
            assert seen == [triode.CaughtUp, *[triode.Message, triode.Gap] * 2, triode.Message]
            assert positions == [0, 1, 4, 5, 8, 9]
            assert messages.gap_count == 2


def test_slow_consumer_is_paused_and_resumed_while_the_connection_lives() -> None:
    """G7: what is on its way between the threads is bounded, too."""
    total = 5_000
    alive = threading.Event()

    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        pos = 0
        while pos < total:  # until the client has had enough
            await line.say(*(message(pos + step) for step in range(1, 101)))
            pos += 100
        await line.hear("unsubscribe")
        alive.set()
        while (asked := await line.hear())["type"] != "disconnect":
            if asked["type"] != "subscribe":
                continue  # paused again, where the program is the slower one; or its end
            await line.confirm(asked, live=False)
            (after,) = asked["after"].values()
            for first in range(after + 1, total + 1, 100):
                rest = range(first, min(first + 100, total + 1))
                await line.say(*(delivery(asked["sub"], each) for each in rest))

    with (
        stage(scene) as url,
        triode.sync.connect(url, max_inbox_messages=2_000) as client,
        client.subscribe("a/#") as messages,
    ):
        assert alive.wait(PATIENCE_SECONDS)
        assert messages.is_paused
        assert data(messages, total) == list(range(1, total + 1))
        assert messages.position == {LOG: total}


def test_slow_consumer_gets_everything_late(url: str) -> None:
    """G4, G7: a small inbox, paused and resumed many times."""
    with (
        triode.sync.connect(url) as speaker,
        triode.sync.connect(url, max_inbox_messages=50) as slow,
        slow.subscribe("late") as messages,
    ):
        for number in range(2_000):
            speaker.send("late", number)
        assert data(messages, 2_000) == list(range(2_000))
        assert messages.gap_count == 0


def test_threads_share_a_subscription_and_each_message_goes_to_one(url: str) -> None:
    with triode.sync.connect(url) as client, client.subscribe("shared") as messages:
        taken: list[list[int]] = [[], [], [], []]

        def consume(mine: list[int]) -> None:
            for one in messages:
                mine.append(one.data)
                if sum(map(len, taken)) == 2_000:
                    messages.close()

        with threads(*[lambda mine=mine: consume(mine) for mine in taken]):
            for number in range(2_000):
                client.send("shared", number)
        assert sorted(number for mine in taken for number in mine) == list(range(2_000))
        assert all(mine == sorted(mine) for mine in taken)


def test_one_message_wakes_one_of_many_who_wait(url: str) -> None:
    with triode.sync.connect(url) as client, client.subscribe("few") as messages:
        taken: list[int] = []
        with threads(*[lambda: taken.extend(one.data for one in messages)] * 8):
            for number in range(100):
                client.publish("few", number)
            while len(taken) < 100:
                client.history("few", last=1)
            client.close()
        assert sorted(taken) == list(range(100))


def test_iteration_ends_quietly_when_another_thread_closes_the_client(url: str) -> None:
    client = triode.sync.connect(url)
    got: list[int] = []
    entered = threading.Event()

    def consume() -> None:
        with client.subscribe("ending") as messages:
            entered.set()
            got.extend(one.data for one in messages)

    with threads(consume):
        assert entered.wait(PATIENCE_SECONDS)
        client.publish("ending", 1)
        client.close()
    assert got in ([], [1])  # acknowledged to the publisher is not received by the subscriber


def test_what_was_received_is_taken_after_the_client_is_closed() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(message(1), message(2), {"type": "ping"})
        await line.hear("pong")
        received.set()
        await line.hear("disconnect")

    received = threading.Event()
    with stage(scene) as url:
        client = triode.sync.connect(url)
        with client.subscribe("a/#") as messages:
            assert received.wait(PATIENCE_SECONDS)
            client.close()
            assert [one.pos for one in messages] == [1, 2]


def test_refused_subscription_raises_where_it_is_entered() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.hear("subscribe")
        error = {"type": "error", "sub": asked["sub"], "name": "quota", "message": "no", "retry": "never"}
        await line.say({**error, "id": asked["id"]})
        await line.goodbye()

    with (
        stage(scene) as url,
        triode.sync.connect(url) as client,
        pytest.raises(triode.SubscriptionEnded, match="quota: no"),
        client.subscribe("a"),
    ):
        pytest.fail("it was refused")


def test_subscription_ended_by_the_broker_raises_after_what_was_received() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.subscribed()
        ended = {"type": "unsubscribed", "sub": asked["sub"], "name": "forbidden", "message": "", "retry": "never"}
        await line.say(message(1), ended)
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url) as client, client.subscribe("a/#") as messages:
        assert next(messages).pos == 1
        for _ in range(2):
            with pytest.raises(triode.SubscriptionEnded, match="forbidden"):
                next(messages)
        with pytest.raises(triode.SubscriptionEnded, match="forbidden"):
            messages.get(timeout=0)


def test_interrupted_iteration_has_taken_nothing(url: str) -> None:
    with triode.sync.connect(url) as client, client.subscribe("ctrl-c") as messages:
        with interrupted_while_waiting():
            next(messages)
        with interrupted_while_waiting():
            messages.get(timeout=PATIENCE_SECONDS)
        client.publish_many([("ctrl-c", number) for number in range(3)])
        assert data(messages, 3) == [0, 1, 2]


def test_interrupted_subscribing_leaves_no_subscription() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        place = {"log": LOG, "pos": 1, "offset": 1, "level": "memory"}
        opened: list[int] = []  # it may be interrupted before that is sent, or while it is
        ended: list[int] = []
        while (heard := await line.hear())["type"] != "disconnect":
            if heard["type"] == "publish":
                await line.say({"type": "published", "id": heard["id"], **place})
            else:
                (opened if heard["type"] == "subscribe" else ended).append(heard["sub"])
        assert opened == ended

    with stage(scene) as url, triode.sync.connect(url) as client:
        with interrupted_while_waiting():
            client.subscribe("a").__enter__()
        client.publish("a", 1)


def test_presence_is_told_in_events(url: str) -> None:
    with triode.sync.connect(url) as client, client.subscribe("room", presence={"state": "me"}) as messages:
        events = messages.events()
        with triode.sync.connect(url) as guest, guest.subscribe("room", presence={"state": "guest"}):
            assert {member.state for member in client.presence("room").members} == {"me", "guest"}
        seen: list[Any] = []
        while not seen or not isinstance(seen[-1], triode.Left):
            seen.append(next(events))
        assert [each.member.state for each in seen if isinstance(each, triode.Joined) and not each.is_self] == [
            "guest"
        ]


def test_lost_connection_is_made_good(url: str) -> None:
    lost = trio.Event()

    async def first(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(message(1))
        await line.hear("publish")
        lost.set()
        await line.cut()

    async def second(line: Line) -> None:
        assert (await line.accept())["replaces"] == "c-1"
        asked = await line.subscribed(live=False)
        assert asked["after"] == {LOG: 1}
        await line.published(2)
        await line.say(delivery(asked["sub"], 2), {"type": "caught_up", "sub": asked["sub"], "after": {LOG: 2}})
        await line.goodbye()

    with stage(first, second) as url, triode.sync.connect(url) as client, client.subscribe("a/#") as messages:
        assert next(messages).pos == 1
        assert client.publish("a/x", 1).pos == 2
        assert next(messages).pos == 2
