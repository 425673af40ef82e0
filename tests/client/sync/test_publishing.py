"""Publishing from threads: receipts, order, room in the queue, what becomes of interrupted ones (G1, G2, G3)."""

import threading
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import pytest
import trio
import triode.sync

from tests.client.broker import Line, answering, connected
from tests.client.play import LOG
from tests.client.running import port_of
from tests.client.sync.stage import PATIENCE_SECONDS, cuttable, data, in_a_thread, stage, threads
from tests.client.sync.waiting import interrupted_while_waiting


def test_message_goes_round_with_all_that_it_carries(url: str) -> None:
    with triode.sync.connect(url) as client, client.subscribe("round/+") as messages:
        place = client.publish("round/1", {"text": "hello"}, key="k", headers={"h": "v"}, message_id="m")
        got = messages.get(timeout=PATIENCE_SECONDS)
        assert (got.topic, got.data, got.key, got.headers) == ("round/1", {"text": "hello"}, "k", {"h": "v"})
        assert (got.position, got.offset, got.message_id) == (place.position, place.offset, "m")
        client.send("round/1", b"\x00\xff")
        client.publish_nowait("round/1", triode.Raw(b"[1.50]"))
        assert data(messages, 2) == [b"\x00\xff", [1.5]]
        content: dict[str, Any] = {"key": "k", "headers": {"h": "v"}, "message_id": "m"}
        assert client.publish("round/1", {"text": "hello"}, **content).duplicate
        page = client.history("round/1", last=2)
        assert [each.offset for each in page.messages] == [2, 3]
        with pytest.raises(triode.HistoryRefused):
            client.history("round/1", last=1, before={LOG: 1})
        assert client.presence("round/1").members == ()
        later = datetime.fromtimestamp(4_000_000_000, UTC)
        with pytest.raises(ValueError, match="deliver_at"):
            client.publish("round/1", 1, deliver_at=later.replace(tzinfo=None))


def test_values_go_through_the_clients_encode_hook(url: str) -> None:
    with (
        triode.sync.connect(url, encode=lambda number: [number.real, number.imag]) as client,
        client.subscribe("hook") as messages,
    ):
        client.publish("hook", {"point": 1 + 2j})
        assert data(messages, 1) == [{"point": [1.0, 2.0]}]


def test_deleted_key_of_a_compacted_topic_is_gone(url: str) -> None:
    with triode.sync.connect(url) as client, client.subscribe("state/1") as messages:
        client.publish("state/1", 1, key="k")
        client.delete_key("state/1", "k")
        assert [messages.get(timeout=PATIENCE_SECONDS).deletes_key for _ in range(2)] == [False, True]
        with pytest.raises(triode.PublishRefused, match="malformed"):
            client.delete_key("round/1", "k")


def test_messages_of_one_thread_keep_their_order_however_they_are_published(url: str) -> None:
    """G3"""
    with triode.sync.connect(url) as client, client.subscribe("order") as messages:
        for number in range(0, 400, 4):
            client.send("order", number)
            client.publish_nowait("order", number + 1)
            client.publish_many([("order", number + 2)])
            client.publish("order", number + 3)
        assert data(messages, 400) == list(range(400))


def test_many_are_published_in_order_and_give_their_places(url: str) -> None:
    with triode.sync.connect(url) as client:
        first = {"topic": "many", "data": 0, "message_id": "zero"}
        places = client.publish_many([first, *(("many", number) for number in range(1, 1_000))])  # type: ignore[list-item]  # a plain dict is no Draft to the checker
        assert [place.offset for place in places] == list(range(1, 1_001))
        assert places[0].message_id == "zero"
        assert client.publish_many([]) == []


def test_many_that_fail_say_which() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.published(1)
        heard = await line.hear("publish")
        await line.say(
            {"type": "error", "id": heard["id"], "name": "forbidden", "message": "no", "retry": "never"}
        )
        await line.published(3)
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url) as client:
        with pytest.raises(triode.PublishManyFailed) as caught:
            client.publish_many([("a", number) for number in range(3)])
        one, two, three = caught.value.results
        assert isinstance(one, triode.Published)
        assert isinstance(two, triode.PublishRefused)
        assert isinstance(three, triode.Published)


def test_many_that_find_the_queue_full_are_not_tried_on() -> None:
    client = triode.sync.connect("ws://127.0.0.1:9", wait_seconds=0, max_queue_messages=2)
    with pytest.raises(triode.PublishManyFailed) as caught:
        client.publish_many([("a", number) for number in range(4)], timeout=0.01)
    kinds = [type(each) for each in caught.value.results]
    assert kinds == [triode.Expired, triode.Expired, triode.QueueFull, triode.QueueFull]
    client.close(timeout=0)


def test_refused_publish_and_unknown_outcome_raise() -> None:
    async def scene(line: Line) -> None:
        await line.accept(limits={"dedupe_window_ms": 0})
        heard = await line.hear("publish")
        await line.say(
            {"type": "error", "id": heard["id"], "name": "forbidden", "message": "no", "retry": "never"}
        )
        await line.hear("publish")
        await line.cut()

    async def after(line: Line) -> None:
        await line.accept()
        await line.goodbye()

    with stage(scene, after) as url, triode.sync.connect(url) as client:
        events = client.events()
        with pytest.raises(triode.PublishRefused, match="forbidden: no"):
            client.publish("a", 1)
        with pytest.raises(triode.OutcomeUnknown) as caught:
            client.publish("a", 1, message_id="mine")
        assert caught.value.message_id == "mine"
        for event in events:
            if isinstance(event, triode.StateChanged) and event.state is triode.State.CONNECTED:
                break


def test_publish_without_an_answer_in_time_says_whether_it_was_sent() -> None:
    heard = threading.Event()

    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        unanswered = await line.hear("publish")
        heard.set()
        assert (await line.hear("history"))["topic"] == "barrier"
        place = {"log": LOG, "pos": 1, "offset": 1, "level": "x"}
        await line.say({"type": "published", "id": unanswered["id"], **place})
        assert (await line.published(2))["data"] == "third"
        await line.hear("disconnect")

    with stage(scene) as url, triode.sync.connect(url, request_timeout_seconds=0.1) as client:
        first = client.publish_nowait("a", "sent")
        assert heard.wait(PATIENCE_SECONDS)
        with pytest.raises(triode.Expired):
            client.publish("a", "never sent", timeout=0.01)
        first.abandon()
        with pytest.raises(triode.Expired):
            client.history("barrier")
        assert client.publish("a", "third").pos == 2


def test_sent_publish_without_an_answer_in_time_may_be_stored() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.until_closed()

    with stage(scene) as url, triode.sync.connect(url, close_timeout_seconds=0.05) as client:
        receipt = client.publish_nowait("a", 1)
        with pytest.raises(TimeoutError):
            receipt.wait(timeout=0.05)
        with pytest.raises(triode.OutcomeUnknown):
            client.publish("a", 2, timeout=0.05, message_id="mine")


def test_receipts_are_for_any_thread(url: str) -> None:
    with triode.sync.connect(url) as client:
        receipts: SimpleQueue[triode.sync.Receipt] = SimpleQueue()
        places: list[int] = []

        def collect() -> None:
            places.extend([receipts.get(timeout=PATIENCE_SECONDS).wait().offset for _ in range(100)])

        with threads(collect, collect):
            for number in range(200):
                receipts.put(client.publish_nowait("receipts", number))
        assert sorted(places) == list(range(1, 201))


def test_one_receipt_releases_all_who_wait_for_it() -> None:
    heard, waiting = threading.Event(), threading.Barrier(5)

    async def scene(line: Line) -> None:
        await line.accept()
        publish = await line.hear("publish")
        heard.set()
        await line.hear("history")
        place = {"log": LOG, "pos": 1, "offset": 1, "level": "x"}
        await line.say({"type": "published", "id": publish["id"], **place})
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url, request_timeout_seconds=0.05) as client:
        receipt = client.publish_nowait("a", 1)
        assert heard.wait(PATIENCE_SECONDS)
        assert not receipt.is_done

        def wait() -> None:
            waiting.wait(PATIENCE_SECONDS)
            assert receipt.wait(PATIENCE_SECONDS).pos == 1

        with threads(*[wait] * 4):
            waiting.wait(PATIENCE_SECONDS)
            with pytest.raises(triode.Expired):
                client.history("now")
        assert receipt.is_done


def test_publishers_wait_for_room_while_connected() -> None:
    """G3: of each thread in order, through a queue that holds three."""

    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        seen: dict[int, list[int]] = {}
        for pos in range(1, 61):
            thread, number = (await line.published(pos))["data"]
            seen.setdefault(thread, []).append(number)
        assert all(numbers == list(range(20)) for numbers in seen.values())
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url, max_queue_messages=3) as client:

        def publish(thread: int) -> None:
            for number in range(20):
                client.publish("a", [thread, number])

        with threads(*[lambda thread=thread: publish(thread) for thread in range(3)]):
            pass


def test_sender_without_acknowledgements_waits_for_room_too() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        assert [(await line.hear("publish"))["data"] for _ in range(500)] == list(range(500))
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url, max_queue_messages=3) as client:
        for number in range(500):
            client.send("a", number)


def test_thread_that_waits_for_room_is_told_when_the_connection_is_lost() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.hear("publish")
        await line.cut()

    async def again(line: Line) -> None:
        connect = await line.hear("connect")
        assert await trio.to_thread.run_sync(told.wait, PATIENCE_SECONDS)  # until then it is not connected
        await line.say(connected(connect))
        await line.published(1)
        await line.goodbye()

    told = threading.Event()
    with stage(scene, again) as url:
        client = triode.sync.connect(url, max_queue_messages=1)
        receipt = client.publish_nowait("a", 1)
        with pytest.raises(triode.QueueFull):
            client.publish("a", 2)
        told.set()
        assert receipt.wait(PATIENCE_SECONDS).pos == 1
        client.close()


def test_message_too_large_for_the_queue_is_refused_at_once() -> None:
    async def goodbye(line: Line) -> None:
        await line.accept()
        await line.goodbye()

    with (
        stage(goodbye) as url,
        triode.sync.connect(url, max_queue_bytes=2_000) as client,
        pytest.raises(triode.QueueFull),
    ):
        client.publish("a", "x" * 3_000)


def test_queue_that_is_full_after_all_keeps_what_was_taken_in_order() -> None:
    """The bounds are judged at the call, with sizes that headers are not part of."""

    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        for number in range(20):
            assert (await line.published(number + 1))["data"] == number
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url, max_queue_bytes=20_000) as client:
        headers = {"h": "v" * 4_000}
        receipts = [client.publish_nowait("a", number, headers=headers) for number in range(20)]
        assert [receipt.wait().pos for receipt in receipts] == list(range(1, 21))
        with pytest.raises(triode.QueueFull):
            client.publish("a", 1, headers={"h": "v" * 30_000})


def test_interrupted_publish_that_was_not_sent_never_is() -> None:
    heard = threading.Event()

    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        unanswered = await line.hear("publish")
        heard.set()
        assert (await line.hear("presence"))["topic"] == "barrier"
        place = {"log": LOG, "pos": 1, "offset": 1, "level": "x"}
        await line.say({"type": "published", "id": unanswered["id"], **place})
        assert (await line.published(2))["data"] == "third"
        await line.goodbye()

    with stage(scene) as url, triode.sync.connect(url, request_timeout_seconds=0.1) as client:
        first = client.publish_nowait("a", "sent")
        assert heard.wait(PATIENCE_SECONDS)
        with interrupted_while_waiting():
            client.publish("a", "never sent")
        with interrupted_while_waiting():
            client.publish_many([("a", "never sent"), ("a", "nor this")])
        with interrupted_while_waiting():
            first.wait()
        with pytest.raises(triode.Expired):
            client.presence("barrier")
        assert first.wait(PATIENCE_SECONDS).pos == 1
        assert client.publish("a", "third").pos == 2


def test_interrupted_connecting_leaves_nothing_behind() -> None:
    with in_a_thread(lambda: answering(None)) as url:
        client = triode.sync.connect(url)
        with interrupted_while_waiting():
            client.__enter__()
        assert client.state is triode.State.CLOSED


def test_nothing_is_lost_and_nothing_doubled_through_cut_lines(url: str) -> None:
    """G2, G4: publisher and subscriber behind lines that are cut."""
    with (
        cuttable(port_of(url)) as (cut, detour),
        triode.sync.connect(detour) as listener,
        triode.sync.connect(detour) as speaker,
        listener.subscribe("cut/#") as messages,
    ):
        receipts = []
        for number in range(1_000):
            receipts.append(speaker.publish_nowait("cut/1", number))
            if number % 100 == 99:
                cut()
                receipts[number - 50].wait()
        assert data(messages, 1_000) == list(range(1_000))
        assert messages.gap_count == 0
        assert [receipt.wait().offset for receipt in receipts] == list(range(1, 1_001))
