"""OpenTelemetry: spans of sampled messages, off the hot path; a slow or missing collector costs nothing."""

import logging
import queue
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from triode_broker import spans
from triode_broker.config import TopicRule, Tracing
from triode_broker.core.tracing import MAX_TRACES
from triode_broker.spans import MAX_PER_SECOND, Followed, NoSpans, Spans, follow, make_spans
from triode_protocol.hops import Hop

from tests.cluster.rig import Lines
from tests.core.desk import Desk

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"


class Watched:
    """A desk whose sampled messages become spans."""

    def __init__(self, *rules: TopicRule, ratio: float = 0.0, luck: float = 0.5) -> None:
        self.desk = Desk(*rules, durable=True)
        self.exporter = InMemorySpanExporter()
        self.spans = Spans(
            Tracing("http://127.0.0.1:1", ratio), self.desk.node, exporter=self.exporter, random_float=lambda: luck
        )

    def publish(self, **fields: Any) -> list[dict[str, Any]]:
        """From a connection of its own; what it is told."""
        return self.desk.connect().ask({"type": "publish", "id": 7, "topic": "a", "data": 1, **fields})

    def made(self) -> list[Any]:
        """Every span, once the thread has made them all."""
        self.spans.close()
        return list(self.exporter.get_finished_spans())


def test_sampled_message_has_a_span_under_its_parent() -> None:
    watched = Watched()
    watched.desk.connect().subscribe(1, "a")
    (answer,) = watched.publish(headers={"traceparent": PARENT, "tracestate": "k=v"}, message_id="m")
    assert answer["type"] == "published"
    for outbox in watched.desk.dirty:
        if not hasattr(outbox.connection, "write"):
            outbox.size = 0
    watched.desk.wait(10)
    by_name = {span.name: span for span in watched.made()}
    assert set(by_name) == {"publish a", "store", "deliver live on n1"}
    root = by_name["publish a"]
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == "b7ad6b7169203331"
    assert dict(root.context.trace_state) == {"k": "v"}
    assert root.attributes["messaging.destination.name"] == "a"
    assert root.attributes["triode.trace.end"] == "complete"
    assert [event.name for event in root.events][-1] == "sent"
    assert by_name["store"].parent.span_id == root.context.span_id
    assert root.resource.attributes["service.instance.id"] == "n1"


@pytest.mark.parametrize(
    ("headers", "ratio", "luck", "count"),
    [
        ({"traceparent": UNSAMPLED}, 1.0, 0.0, 0),
        ({"traceparent": "rubbish"}, 1.0, 0.0, 0),
        ({}, 0.0, 0.0, 0),
        ({}, 0.25, 0.3, 0),
        ({}, 0.25, 0.2, 2),
    ],
)
def test_flag_of_the_parent_or_the_ratio_says_which(
    headers: dict[str, str], ratio: float, luck: float, count: int
) -> None:
    watched = Watched(ratio=ratio, luck=luck)
    watched.publish(headers=headers)
    assert len(watched.made()) == count


def test_message_without_acknowledgement_is_followed_and_stays_without() -> None:
    watched = Watched()
    line = watched.desk.connect()
    line.send({"type": "publish", "topic": "a", "data": 1, "headers": {"traceparent": PARENT}})
    assert line.drain() == []
    assert [span.name for span in watched.made()] == ["store", "publish a"]


def test_durable_message_is_answered_at_commit_as_ever() -> None:
    watched = Watched(TopicRule("a", storage="disk"))
    line = watched.desk.connect()
    assert (
        line.ask({"type": "publish", "id": 7, "topic": "a", "data": 1, "headers": {"traceparent": PARENT}}) == []
    )
    assert line.session.inflight == 1
    watched.desk.commit()
    assert [(packet["type"], packet["id"]) for packet in line.drain()] == [("published", 7)]
    assert line.session.inflight == 0
    assert len(watched.made()) == 2


def test_refused_message_is_refused_as_ever() -> None:
    watched = Watched(TopicRule("a", storage="disk"), TopicRule("b", max_payload_bytes=1))
    line = watched.desk.connect()
    headers = {"traceparent": PARENT}
    (answer,) = line.ask({"type": "publish", "id": 3, "topic": "b", "data": 123, "headers": headers})
    assert (answer["name"], answer["id"]) == ("too_large", 3)
    line.ask({"type": "publish", "id": 4, "topic": "a", "data": 1, "headers": headers})
    watched.desk.disk.fail()
    (answer,) = line.drain()
    assert (answer["name"], answer["id"]) == ("timeout", 4)
    assert watched.made() == []
    assert watched.desk.node.tracing.count == 0


def test_brokers_own_message_needs_no_publisher() -> None:
    watched = Watched(TopicRule("a", storage="disk"), ratio=1.0)
    node = watched.desk.node
    from msgspec import Raw
    from triode_protocol.packets import Publish

    node.publish(Publish("a", Raw(b"1")), "", watched.desk.now_ms, None)
    watched.desk.disk.fail()
    node.publish(Publish("c", Raw(b"1")), "", watched.desk.now_ms, None)
    assert [span.name for span in watched.made()] == ["store", "publish c"]


def test_more_than_there_may_be_are_left_out_and_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """S8: whoever sets the flag on everything gets spans of some."""
    watched = Watched(ratio=1.0)
    watched.desk.connect().subscribe(1, "a")  # nobody reads it: they all wait
    for number in range(MAX_TRACES + 1):
        assert watched.publish(data=number)[0]["type"] == "published"
    assert watched.spans.left_out == 1
    for number in range(MAX_PER_SECOND):
        watched.publish(topic="b", data=number)
    assert watched.spans.left_out > MAX_PER_SECOND - MAX_TRACES - 1
    watched.spans.close()


def test_thread_that_cannot_keep_up_loses_messages_and_holds_up_nobody() -> None:
    watched = Watched(ratio=1.0)
    full: queue.Queue[Followed | None] = queue.Queue(1)
    full.put(None)
    waiting, watched.spans._waiting = watched.spans._waiting, full
    watched.publish()
    assert watched.spans.left_out == 1
    watched.spans.close()
    waiting.put(None)


def test_nothing_is_made_of_nothing() -> None:
    make_spans(None, Followed("a", "", "", "", []))


async def test_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(NoSpans, match="triode\\[otel\\]"):
        await follow(Tracing("http://127.0.0.1:1"), Desk().node, Lines())


async def test_what_was_left_out_is_logged(mock_clock: trio.testing.MockClock) -> None:
    desk, log = Desk(), Lines()
    async with trio.open_nursery() as nursery:
        await nursery.start(follow, Tracing("http://127.0.0.1:1", 1.0), desk.node, log)
        made = desk.node.publish.__self__  # type: ignore[attr-defined]  # `Spans.publish`
        made.left_out = 3
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(spans._LOOK_SECONDS + 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert log.of("spans_left_out") == [{"messages": 3}]
    assert desk.node.publish == desk.router.publish


async def test_what_the_library_says_stands_in_the_log_as_a_value(mock_clock: trio.testing.MockClock) -> None:
    """S27: it quotes what came with messages, and would write it as it is."""
    log, forged = Lines(), 'x"\n{"event": "forged"}'
    async with trio.open_nursery() as nursery:
        await nursery.start(follow, Tracing("http://127.0.0.1:1"), Desk().node, log)
        one = Followed("a", "", PARENT, forged, [Hop("accepted", "n1", 1)])
        make_spans(TracerProvider().get_tracer("triode"), one)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(spans._LOOK_SECONDS + 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (told,) = log.of("spans_complained_of")
    assert (told["times"], forged in told["reason"]) == (1, True)
    assert logging.getLogger("opentelemetry").handlers == []
