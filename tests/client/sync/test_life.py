"""The blocking client from its making to its end: when it connects, what it refuses, and who is told."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import triode.sync

from tests.client.broker import Line
from tests.client.play import LOG
from tests.client.sync.stage import PATIENCE_SECONDS, data, stage, threads

NOBODY = "ws://127.0.0.1:9"


def state_of(client: triode.sync.Client) -> triode.State:
    """Its state, which a type checker cannot think constant."""
    return client.state


async def goodbye(line: Line) -> None:
    """The scene of a client that comes and goes."""
    await line.accept()
    await line.goodbye()


async def refused(line: Line) -> None:
    """The scene of one that may not come."""
    connect = await line.hear("connect")
    error = {"type": "error", "id": connect["id"], "name": "unauthorized", "message": "who?", "retry": "reauth"}
    await line.say(error, {"type": "bye", "code": 4001, "name": "auth_failed"})


def test_client_does_nothing_before_its_first_use() -> None:
    """As in a settings module: at import there may be no broker, and a fork may be ahead."""
    before = threading.active_count()
    client = triode.sync.connect("ws://127.0.0.1:9")
    client.subscribe("a/#")
    client.consume("a/#", group="g")
    assert client.state is triode.State.IDLE
    assert threading.active_count() == before
    client.close()
    assert state_of(client) is triode.State.CLOSED


def test_first_use_connects_and_many_threads_share_it(url: str) -> None:
    client = triode.sync.connect(url)
    places: list[triode.Published] = []

    def publish() -> None:
        places.extend([client.publish("life/shared", number) for number in range(20)])

    with threads(*[publish] * 8):
        pass
    assert sorted(place.offset for place in places) == list(range(1, 161))
    assert client.state is triode.State.CONNECTED
    client.close()
    client.close()
    assert state_of(client) is triode.State.CLOSED
    with pytest.raises(triode.ConnectionClosed, match="the client is closed"):
        client.publish("life/shared", 1)


def test_block_opens_flushes_and_closes() -> None:
    async def scene(line: Line) -> None:
        assert (await line.accept())["client"]["name"] == "shop"
        for number in range(100):
            assert (await line.hear("publish"))["data"] == number
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url, name="shop") as client:
        assert state_of(client) is triode.State.CONNECTED
        for number in range(100):
            client.send("a", number)
    assert state_of(client) is triode.State.CLOSED


def test_block_left_by_an_error_closes_at_once() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.until_closed()

    with stage(scene) as url:
        receipts: list[triode.sync.Receipt] = []

        def fail() -> None:
            with triode.sync.connect(url) as client:
                receipts.append(client.publish_nowait("a", 1))
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            fail()
        with pytest.raises(triode.TriodeError):
            receipts[0].wait()


def test_first_use_that_is_refused_may_be_tried_again() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.published(7)
        await line.goodbye()

    with stage(refused, scene) as url:
        client = triode.sync.connect(url)
        with pytest.raises(triode.ConnectionRefused, match=r"unauthorized: who\?") as caught:
            client.publish("a", 1)
        assert caught.value.name == "unauthorized"
        assert state_of(client) is triode.State.IDLE
        assert client.publish("a", 1).pos == 7
        client.close()


def test_nobody_there_is_told_after_the_wait() -> None:
    with pytest.raises(triode.ConnectionRefused, match=r"not connected within 0\.05 s"):
        triode.sync.connect(NOBODY, wait_seconds=0.05).open()
    with (
        pytest.raises(triode.ConnectionRefused, match="not connected"),
        triode.sync.connect(NOBODY, wait_seconds=0.05),
    ):
        pytest.fail("nobody is there")


def test_without_waiting_the_client_queues_and_refuses_when_full() -> None:
    client = triode.sync.connect(NOBODY, wait_seconds=0, max_queue_messages=2)
    receipts = [client.publish_nowait("a", number) for number in range(2)]
    with pytest.raises(triode.QueueFull):
        client.publish_nowait("a", 2)
    with pytest.raises(triode.QueueFull):
        client.publish("a", 2)
    with pytest.raises(triode.QueueFull):
        client.send("a", 2)
    client.close(timeout=0)
    for receipt in receipts:
        with pytest.raises(triode.ConnectionClosed):
            receipt.wait()


def test_token_function_is_called_for_each_attempt_in_a_thread_of_its_own() -> None:
    tokens = iter(["old", "new"])
    callers: list[str] = []

    def fetch() -> str:
        callers.append(threading.current_thread().name)
        return next(tokens)

    async def first(line: Line) -> None:
        connect = await line.hear("connect")
        assert connect["token"] == "old"
        await line.say({"type": "error", "id": connect["id"], "name": "token_expired", "retry": "reauth"})

    async def second(line: Line) -> None:
        assert (await line.accept())["token"] == "new"
        await line.goodbye()

    with stage(first, second) as url, triode.sync.connect(url, token=fetch):
        pass
    assert len(callers) == 2
    assert "triode" not in callers


def test_wrong_arguments_are_refused_before_anything_happens() -> None:
    with pytest.raises(ValueError, match="ftp"):
        triode.sync.connect("ftp://broker")
    with pytest.raises(TypeError):
        triode.sync.connect(NOBODY, max_quue_messages=2)
    client = triode.sync.connect(NOBODY)
    with pytest.raises(triode.BadTopic):
        client.publish("a/+", 1)
    with pytest.raises(triode.BadTopic):
        client.publish_many([("a", 1), ("a/#", 1)])
    with pytest.raises(triode.BadTopic):
        client.subscribe("a/#/b")
    with pytest.raises(ValueError, match="durable name"):
        client.consume("a")
    with pytest.raises(TypeError):
        client.send("a", object())
    with pytest.raises(ValueError, match="has a key"):
        client.delete_key("a", "")
    with pytest.raises(RuntimeError, match="enter the subscription first"):
        next(client.subscribe("a"))
    assert client.state is triode.State.IDLE


def test_events_tell_of_the_first_connection_and_of_the_end() -> None:
    async def cut(line: Line) -> None:
        await line.accept()
        await line.hear("publish")
        await line.cut()

    async def scene(line: Line) -> None:
        await line.accept()
        await line.published()
        await line.goodbye()

    with stage(cut, scene) as url:
        client = triode.sync.connect(url)
        events = client.events()
        assert state_of(client) is triode.State.IDLE  # watching is no use
        client.publish("a", 1)
        client.close()
        seen = [event.state for event in events if isinstance(event, triode.StateChanged)]
    connected = ["connecting", "connected"]
    assert seen == [*connected, "waiting", *connected, "closed"]
    with pytest.raises(EOFError):
        events.get()
    assert list(client.events()) == []


def test_event_that_does_not_come_is_a_timeout() -> None:
    client = triode.sync.connect(NOBODY)
    with pytest.raises(TimeoutError):
        client.events().get(timeout=0.001)


def test_thread_that_waits_for_events_is_released_by_the_end(url: str) -> None:
    with triode.sync.connect(url) as client:
        events = client.events()
        seen: list[Any] = []
        with threads(lambda: seen.extend(events)):
            client.close()
    assert [event.state for event in seen] == ["closed"]


def test_broker_that_stops_the_client_is_told_everywhere() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.hear("publish")
        await line.websocket.aclose(4002, "revoked")

    with stage(scene) as url, triode.sync.connect(url) as client:
        events = client.events()
        with client.subscribe("a/#") as messages:
            with pytest.raises(triode.OutcomeUnknown):
                client.publish("b", 1)
            with pytest.raises(triode.ConnectionClosed) as caught:
                next(messages)
        assert caught.value.code == 4002
        for use in (client.publish, client.send, client.publish_nowait):
            with pytest.raises(triode.ConnectionClosed, match="revoked"):
                use("b", 1)
        with pytest.raises(triode.ConnectionClosed, match="revoked"):
            client.history("b")
        assert [each.state for each in events if isinstance(each, triode.StateChanged)] == ["closed"]


def test_client_in_a_running_loop_does_as_elsewhere(url: str) -> None:
    """A notebook has a loop running in its main thread."""

    async def cell() -> Any:
        with triode.sync.connect(url) as client, client.subscribe("cell") as messages:
            client.publish("cell", "hello")
            return next(messages).data

    assert asyncio.run(cell()) == "hello"
    assert trio.run(cell) == "hello"


def test_call_in_the_clients_own_thread_is_an_error_and_no_deadlock(url: str) -> None:
    raised: list[BaseException] = []

    class Publishing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            uses: list[Callable[[], object]] = [
                client.close,
                lambda: client.history("log/self"),
                lambda: client.publish("log/self", record.getMessage()),
            ]
            for use in uses:
                try:
                    use()
                except RuntimeError as error:
                    raised.append(error)
            client.publish_nowait("log/self", record.getMessage())

    logger = logging.getLogger("triode")
    logger.setLevel(logging.DEBUG)
    handler = Publishing()
    try:
        with triode.sync.connect(url) as other, other.subscribe("log/self") as messages:
            client = triode.sync.connect(url, wait_seconds=0)
            logger.addHandler(handler)
            client.publish("log/self", "mine")
            logger.removeHandler(handler)
            assert "mine" in [data(messages, 1)[0] for _ in range(2)]
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        client.close()
    assert raised
    assert all("own thread" in str(error) for error in raised)


def test_dropped_client_sends_what_is_queued_and_goes() -> None:
    gone = threading.Event()

    async def scene(line: Line) -> None:
        await line.accept()
        assert (await line.published())["data"] == "last words"
        await line.goodbye()
        gone.set()

    with stage(scene) as url:
        client = triode.sync.connect(url)
        client.publish_nowait("a", "last words")
        del client
        assert gone.wait(PATIENCE_SECONDS)


def test_closing_is_bounded_by_its_timeout() -> None:
    left = trio.Event()

    async def scene(line: Line) -> None:
        await line.accept()
        await line.hear("publish")
        await line.until_closed()
        left.set()

    with stage(scene) as url:
        client = triode.sync.connect(url)
        receipt = client.publish_nowait("a", 1, message_id="mine")
        with pytest.raises(TimeoutError):
            receipt.wait(timeout=0.01)
        client.close(timeout=0.01)
        with pytest.raises(triode.OutcomeUnknown) as caught:
            receipt.wait()
    assert caught.value.message_id == "mine"
    assert LOG  # the scene ended by the client's leaving
