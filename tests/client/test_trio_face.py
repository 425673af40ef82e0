"""The trio face on real sockets, against a scripted broker: connecting, publishing, subscribing, the end."""

import logging
import re
import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
import trio.testing
import triode
import trustme

from tests.client.broker import PATIENCE_SECONDS, Line, answering, connected, playing
from tests.client.play import LOG, delivery, message


async def goodbye(line: Line) -> None:
    """The scene of a client that comes and goes."""
    await line.accept()
    await line.goodbye()


def state_of(client: triode.Client) -> triode.State:
    """Its state, which a type checker cannot think constant."""
    return client.state


async def test_client_connects_publishes_and_says_goodbye() -> None:
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

    async with playing(scene) as url, triode.connect(url, name="shop") as client:
        assert state_of(client) is triode.State.CONNECTED
        place = await client.publish("a/b", {"x": 1}, key="k", headers={"h": "v"})
        assert (place.log, place.pos, place.offset, place.level, place.duplicate) == (LOG, 7, 7, "memory", False)
        await client.publish("a/b", b"hello")
        await client.publish("a/b", triode.Raw(b"[1.50]"))
    assert state_of(client) is triode.State.CLOSED


async def test_several_publishes_at_once_go_as_one_array() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        for pos in (1, 2, 3):
            await line.published(pos)
        assert len(line.texts) == 2
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url) as client:
        receipts = [client.publish_nowait("a", n) for n in range(3)]
        assert not any(receipt.is_done for receipt in receipts)
        assert [(await receipt.wait()).pos for receipt in receipts] == [1, 2, 3]
        assert all(receipt.is_done for receipt in receipts)
        assert (await receipts[0].wait()).pos == 1


async def test_subscription_yields_messages_and_its_position() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.subscribed()
        assert (asked["filter"], asked["from"], asked["overflow"]) == ("a/+", {"last": 2}, "gap")
        await line.say(message(1), message(2))
        await line.hear("unsubscribe")
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url) as client:
        async with client.subscribe("a/+", from_={"last": 2}, overflow="gap") as messages:
            assert messages.is_live
            assert not messages.is_paused
            assert messages.position == {LOG: 0}
            first = await anext(messages)
            assert (first.pos, first.data, messages.position) == (1, 1, {LOG: 1})
            assert (await anext(messages)).pos == 2
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


async def test_lost_connection_is_made_good_in_one_flight() -> None:
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

    async with playing(first, second) as url, triode.connect(url) as client:
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


async def test_gaps_come_in_their_place_to_whoever_listens(caplog: pytest.LogCaptureFixture) -> None:
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

    async with playing(scene) as url, triode.connect(url) as client:
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


async def test_slow_consumer_is_paused_and_resumed_while_the_connection_lives() -> None:
    alive = trio.Event()

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
        playing(scene) as url,
        triode.connect(url, max_inbox_messages=10) as client,
        client.subscribe("a/#") as messages,
    ):
        await alive.wait()
        assert messages.is_paused
        assert [(await anext(messages)).pos for _ in range(14)] == list(range(1, 15))


async def test_refused_subscription_raises_where_it_is_entered() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.hear("subscribe")
        error = {"type": "error", "sub": asked["sub"], "name": "quota", "message": "no", "retry": "never"}
        await line.say({**error, "id": asked["id"]})
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url) as client:
        with pytest.raises(triode.SubscriptionEnded, match="quota: no"):
            async with client.subscribe("a"):
                pytest.fail("it was refused")


async def test_subscription_ended_by_the_broker_raises_after_what_was_received() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.subscribed()
        ended = {"type": "unsubscribed", "sub": asked["sub"], "name": "forbidden", "message": "", "retry": "never"}
        await line.say(message(1), ended)
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url) as client, client.subscribe("a/#") as messages:
        assert (await anext(messages)).pos == 1
        with pytest.raises(triode.SubscriptionEnded, match="forbidden"):
            await anext(messages)


async def test_consumer_that_never_waits_lets_others_run() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(*(message(pos) for pos in range(1, 201)))
        await line.hear("unsubscribe")
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url) as client, client.subscribe("a/#") as messages:
        turns: list[int] = []
        taken = 0

        async def other() -> None:
            while taken < 200:
                turns.append(taken)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            while taken < 200:
                await anext(messages)
                taken += 1
        assert any(0 < turn < 200 for turn in turns)


async def test_broker_that_refuses_for_good_ends_entering_with_its_words() -> None:
    async def scene(line: Line) -> None:
        connect = await line.hear("connect")
        assert connect["token"] == "wrong"
        error = {
            "type": "error",
            "id": connect["id"],
            "name": "unauthorized",
            "message": "who?",
            "retry": "reauth",
        }
        await line.say(error, {"type": "bye", "code": 4001, "name": "auth_failed"})

    async with playing(scene) as url:
        with pytest.raises(triode.ConnectionRefused, match="unauthorized: who") as caught:
            async with triode.connect(url, token="wrong"):
                pytest.fail("it was refused")
    assert caught.value.name == "unauthorized"


async def test_token_is_fetched_anew_for_each_attempt() -> None:
    tokens = iter(["old", "new"])

    async def fetch() -> str:
        await trio.lowlevel.checkpoint()
        return next(tokens)

    async def first(line: Line) -> None:
        connect = await line.hear("connect")
        assert connect["token"] == "old"
        error = {"type": "error", "id": connect["id"], "name": "token_expired", "message": "", "retry": "reauth"}
        await line.say(error)

    async def second(line: Line) -> None:
        assert (await line.accept())["token"] == "new"
        await line.goodbye()

    async with playing(first, second) as url, triode.connect(url, token=fetch):
        pass


async def failure(url: str, **options: Any) -> str:
    """Why an attempt to connect failed."""
    with trio.fail_after(PATIENCE_SECONDS):
        async with triode.connect(url, wait_seconds=0, **options) as client:
            async for event in client.events():
                if isinstance(event, triode.StateChanged) and event.state is triode.State.WAITING:
                    return event.reason
    raise AssertionError("it ended")


async def test_token_that_cannot_be_fetched_is_a_failed_attempt() -> None:
    async def fetch() -> str:
        raise LookupError("the vault is closed")

    assert await failure("ws://127.0.0.1:9", token=fetch) == "the vault is closed"


async def test_nobody_there_is_told_after_the_wait() -> None:
    with trio.socket.socket() as bound:
        await bound.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else's
        url = f"ws://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(triode.ConnectionRefused, match=r"not connected within 0\.2 s: .+"):
            async with triode.connect(url, wait_seconds=0.2):
                pytest.fail("nobody is there")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed during the WebSocket handshake"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "HTTP 403"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\n\r\n", ".+"),
        (b"\x00\xff\x00garbage\r\n\r\n", ".+"),
        (b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", ".+"),
        (b"HTTP/1.1 101 \xff\xfe\r\n\xff: \xfe\r\n\r\n", ".+"),
    ],
)
async def test_whatever_answers_the_handshake_is_a_failed_attempt(answer: bytes, reason: str) -> None:
    """S33: the libraries underneath raise more than they document; nothing escapes."""
    async with answering(answer) as url:
        assert re.search(reason, await failure(url))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"Retry-After: 7", 7),
        (b"retry-after:  99999999999999999999999", 300),
        (b"Retry-After: -5", 0),
        (b"Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", 0),
        (b"X: 1", 0),
    ],
)
async def test_refused_handshake_may_ask_for_a_pause(header: bytes, seconds: float) -> None:
    """SPEC 1.1; within max_wait_seconds (S33)."""
    answer = b"HTTP/1.1 503 Busy\r\n" + header + b"\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer) as url:
        with trio.fail_after(PATIENCE_SECONDS):
            async with triode.connect(url, wait_seconds=0) as client:
                async for event in client.events():
                    if isinstance(event, triode.StateChanged) and event.state is triode.State.WAITING:
                        assert seconds <= event.delay_seconds < seconds + 0.25
                        return


async def test_silent_server_is_given_up_in_time() -> None:
    async with answering(None) as url:
        assert "no answer to connect in time" in await failure(url, connect_timeout_seconds=0.05)


async def test_without_waiting_the_client_queues_and_refuses_when_full() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        assert [(await line.published())["data"] for _ in range(2)] == [0, 1]
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url, wait_seconds=0, max_queue_messages=2) as client:
        assert client.state is triode.State.CONNECTING
        receipts = [client.publish_nowait("a", n) for n in range(2)]
        with pytest.raises(triode.QueueFull):
            await client.publish("a", 2)
        with pytest.raises(triode.QueueFull):
            await client.send("a", 2)
        for receipt in receipts:
            await receipt.wait()


async def test_publisher_waits_for_room_while_connected() -> None:
    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        for pos in range(21):
            await line.published(pos)
        await line.goodbye()

    places = []

    async def publish(client: triode.Client, number: int) -> None:
        places.append((await client.publish("a", number)).pos)

    async with playing(scene) as url, triode.connect(url, max_queue_messages=3) as client:
        await client.publish("a", "first")
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(publish, client, number)
    assert sorted(places) == list(range(1, 21))


async def test_message_too_large_for_the_queue_is_refused_at_once() -> None:
    async with playing(goodbye) as url, triode.connect(url, max_queue_bytes=2_000) as client:
        with pytest.raises(triode.QueueFull):
            await client.publish("a", "x" * 3_000)


async def test_messages_without_acknowledgement_are_flushed_by_leaving() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        assert [(await line.hear("publish"))["data"] for _ in range(100)] == list(range(100))
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url) as client:
        for number in range(100):
            await client.send("a", number)


async def test_sender_without_acknowledgements_waits_for_room_too() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        assert [(await line.hear("publish"))["data"] for _ in range(500)] == list(range(500))
        await line.goodbye()

    with trio.fail_after(10):
        async with playing(scene) as url, triode.connect(url, max_queue_messages=3) as client:
            for number in range(500):
                await client.send("a", number)


async def test_cancelled_publish_leaves_the_client_in_order() -> None:
    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        unanswered = await line.hear("publish")
        assert unanswered["data"] == "sent"
        await line.hear("subscribe")  # the barrier: the test has cancelled both
        await line.hear("unsubscribe")
        await line.say(
            {"type": "published", "id": unanswered["id"], "log": LOG, "pos": 1, "offset": 1, "level": "x"}
        )
        assert (await line.published(2))["data"] == "third"
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.publish, "a", "sent")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(client.publish, "a", "never sent")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.CancelScope() as scope:
            scope.cancel()
            async with client.subscribe("b"):
                pytest.fail("it was cancelled")
        assert (await client.publish("a", "third")).pos == 2


async def test_refused_publish_and_unknown_outcome_raise() -> None:
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

    async with playing(scene, after) as url, triode.connect(url) as client:
        with pytest.raises(triode.PublishRefused, match="forbidden: no"):
            await client.publish("a", 1)
        with pytest.raises(triode.OutcomeUnknown) as caught:
            await client.publish("a", 1, message_id="mine")
        assert caught.value.message_id == "mine"
        async for _ in client.events():
            if client.state is triode.State.CONNECTED:
                break


async def test_wrong_arguments_are_told_to_the_line_at_fault() -> None:
    async with playing(goodbye) as url, triode.connect(url) as client:
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


@pytest.mark.parametrize("wrong", [{"max_queue_messages": 0}, {"no_such_limit": 5}])
def test_wrong_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        triode.connect("ws://h", **wrong)


async def test_history_gives_a_page() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        asked = await line.hear("history")
        assert (asked["topic"], asked["after"], asked["limit"]) == ("a/b", {LOG: 1}, 2)
        page = {"messages": [message(2), message(3)], "complete": False, "after": {LOG: 3}}
        await line.say({"type": "history", "id": asked["id"], **page})
        asked = await line.hear("history")
        await line.say({"type": "error", "id": asked["id"], "name": "forbidden", "message": "", "retry": "never"})
        await line.hear("history")
        await line.goodbye()

    async with playing(scene) as url, triode.connect(url) as client:
        page = await client.history("a/b", after={LOG: 1}, limit=2)
        assert [each.data for each in page.messages] == [2, 3]
        assert (page.complete, page.after) == (False, {LOG: 3})
        with pytest.raises(triode.HistoryRefused):
            await client.history("a/b", before={LOG: 1})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.history, "a/b")
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()


async def test_error_in_the_program_comes_out_as_it_is() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.until_closed()

    async with playing(scene) as url:
        with pytest.raises(KeyError, match="mine"):
            async with triode.connect(url):
                raise KeyError("mine")


async def test_cancelled_program_leaves_at_once() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.until_closed()

    async with playing(scene) as url:
        with trio.CancelScope() as scope:
            async with triode.connect(url) as client:
                client.publish_nowait("a", 1)
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            async with triode.connect(url):
                pytest.fail("it was cancelled")


async def test_leaving_is_bounded_when_the_broker_neither_answers_nor_closes() -> None:
    left = trio.Event()

    async def scene(line: Line) -> None:
        await line.accept()
        await left.wait()  # and reads nothing, not even the close frame

    async with playing(scene) as url:
        limits: dict[str, Any] = {"close_timeout_seconds": 0.05, "farewell_timeout_seconds": 0.05}
        async with triode.connect(url, **limits) as client:
            for number in range(5):
                receipt = client.publish_nowait("a", number)
                await trio.testing.wait_all_tasks_blocked()
        left.set()
        with pytest.raises(triode.OutcomeUnknown):
            await receipt.wait()


async def test_cancelled_while_leaving_leaves_at_once() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.hear("publish")
        await line.until_closed()

    async with playing(scene) as url:
        with trio.move_on_after(0.1) as scope:
            async with triode.connect(url) as client:
                client.publish_nowait("a", 1)
        assert scope.cancelled_caught


async def test_client_that_the_broker_stops_says_so_everywhere() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(message(1))
        await line.hear("publish")
        await line.websocket.aclose(4002, "revoked")

    async with playing(scene) as url, triode.connect(url) as client:
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


async def test_broker_that_sends_too_much_or_nonsense_is_left_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S33"""

    async def much(line: Line) -> None:
        await line.accept()
        await line.say({"type": "fireworks", "colour": "x" * 3_000})
        await line.until_closed()

    async def nonsense(line: Line) -> None:
        await line.accept()
        await line.websocket.send_message("nonsense")
        await line.until_closed()

    async def binary(line: Line) -> None:
        await line.accept()
        await line.websocket.send_message(b"\x00\x01")
        await line.until_closed()

    async def garbage(line: Line) -> None:
        await line.accept()
        await line.websocket._stream.send_all(b"\xff\xff\xff\xff")
        await line.until_closed()

    async def bye(line: Line) -> None:
        await line.accept()
        await line.say({"type": "bye", "code": 4200, "name": "draining"})
        await line.until_closed()

    async with (
        playing(much, nonsense, binary, garbage, bye, goodbye) as url,
        triode.connect(url, max_receive_bytes=2_000) as client,
    ):
        reasons = []
        async for event in client.events():
            if isinstance(event, triode.StateChanged) and event.state is triode.State.WAITING:
                reasons.append(event.reason)
            if len(reasons) == 5 and client.state is triode.State.CONNECTED:
                break
    assert "max_receive_bytes" in reasons[0]
    assert "no packet" in reasons[1]
    assert "binary" in reasons[2]
    assert "draining" in reasons[4]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_three_failed_attempts_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with answering(b"") as url, triode.connect(url, wait_seconds=0) as client:
        async for event in client.events():
            if isinstance(event, triode.HandshakesRefused):
                break
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_complaints_and_notices_are_events_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        error = {"type": "error", "name": "forbidden", "message": "line\nbreak", "retry": "never"}
        await line.say(error, {"type": "notice", "draining": True})
        await line.goodbye()

    with caplog.at_level(logging.INFO):
        async with playing(scene) as url, triode.connect(url) as client:
            events = client.events()
            assert await anext(events) == triode.Complaint("forbidden", "line\nbreak")
            assert await anext(events) == triode.Notice(draining=True)
    told = [record.getMessage() for record in caplog.records if record.name == "triode"]
    assert told == ["complaint name='forbidden' message='line\\nbreak'", "notice draining=True"]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


async def test_encrypted_connection_is_checked_against_its_authority(authority: trustme.CA) -> None:
    server, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client_side)
    async with playing(goodbye, ssl_context=server) as url:
        assert "CERTIFICATE_VERIFY_FAILED" in await failure(url)
        async with triode.connect(url, ssl_context=client_side):
            pass


async def test_messages_for_later_and_deleted_keys_are_published() -> None:
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

    async with playing(scene) as url, triode.connect(url) as client:
        place = await client.publish("a", 1, deliver_at=1_900_000_000.5)
        assert (place.delayed, place.log, place.position) == (True, "", {})
        at = datetime.fromtimestamp(1_900_000_000.5, UTC)
        assert (await client.publish_nowait("a", 1, deliver_at=at).wait()).delayed
        await client.send("a", 1, deliver_at=at)
        assert (await client.delete_key("state", "k", message_id="mine")).pos == 8


@pytest.mark.parametrize("at", [datetime(2030, 1, 1), 0.0, -1.0, 1_900_000_000_000.0, float("nan"), float("inf")])
def test_time_that_is_none_is_refused_at_once(at: datetime | float) -> None:
    """Without a zone, before 1970, or in ms by mistake."""
    client = triode.connect("ws://127.0.0.1:9")
    with pytest.raises(ValueError, match="deliver_at"):
        client.publish_nowait("a", 1, deliver_at=at)


async def test_key_too_long_or_missing_is_refused_at_once() -> None:
    client = triode.connect("ws://127.0.0.1:9")
    with pytest.raises(ValueError, match="255 bytes"):
        client.publish_nowait("a", 1, key="k" * 256)
    with pytest.raises(ValueError, match="has a key"):
        await client.delete_key("a", "")
