"""Spans: what becomes of some messages, for OpenTelemetry: the hops that `trace` tells (docs/tracing.md).

Knows the traces of the core and the SDK of OpenTelemetry, which is imported only where spans are wanted. A thread
makes and sends them; the loop hands it what is over and never waits. The surprising decision: where the thread
cannot keep up, whole messages are left out and counted. A collector that is slow or away costs a broker nothing.
"""

import logging
import queue
import random
import re
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from triode_protocol.codec import Refused
from triode_protocol.hops import Hop
from triode_protocol.packets import Publish, Published, ServerPacket, Traced

from triode_broker.config import Tracing
from triode_broker.core.interfaces import Publisher
from triode_broker.core.node import Node
from triode_broker.core.tenants import outside
from triode_broker.log.disk import StoreError
from triode_broker.release import install

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

#: Messages that wait for the thread.
MAX_WAITING: Final = 1_000
#: Messages in one second of which spans are made, whatever their publishers ask for.
MAX_PER_SECOND: Final = 100
#: The form of W3C's header; its last byte's lowest bit: sampled.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_END_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 60.0


async def follow(
    settings: Tracing, node: Node, log: Any, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Make spans until cancelled. Raises NoSpans."""
    spans, told, complaints = Spans(settings, node), 0, _Complaints(logging.WARNING)
    library = logging.getLogger("opentelemetry")
    library.addHandler(complaints)
    task_status.started()
    try:
        while True:
            await trio.sleep(_LOOK_SECONDS)
            if spans.left_out > told:
                log.warning("spans_left_out", messages=spans.left_out - told)
                told = spans.left_out
            if complaints.count:
                log.warning("spans_complained_of", times=complaints.count, reason=complaints.last)
                complaints.count = 0
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(spans.close)
        library.removeHandler(complaints)


class _Complaints(logging.Handler):
    """What the library has to say, for our log.

    By itself it writes raw lines, which quote what came with a message: publishers could forge lines of the log
    (S27), as many as they like (S8).
    """

    count = 0
    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """From any thread."""
        self.count += 1
        self.last = record.getMessage()


class NoSpans(StoreError):
    """The extra is missing."""


@attrs.define
class Followed:
    """One message, when all is said of it."""

    topic: str
    message_id: str
    traceparent: str
    tracestate: str
    hops: list[Hop]
    end: str = ""


class _Following:
    """In the place of a message's publisher: what is said of its hops is kept, all else is passed on."""

    def __init__(
        self, publisher: Publisher | None, id: int, done: Callable[[Followed], None], one: Followed
    ) -> None:
        self._publisher = publisher
        self._id = id
        self._done = done
        self._one = one
        self.inflight_alone = 0

    @property
    def inflight(self) -> int:
        """The publisher's."""
        return self.inflight_alone if self._publisher is None else self._publisher.inflight

    @inflight.setter
    def inflight(self, count: int) -> None:
        if self._publisher is None:
            self.inflight_alone = count
        else:
            self._publisher.inflight = count

    def answer(self, packet: ServerPacket) -> None:
        """Hops are kept; who has asked for an acknowledgement gets it."""
        if isinstance(packet, Traced):
            self._one.hops += packet.hops
            if packet.end:
                self._one.end = packet.end
                self._done(self._one)
        elif self._publisher is not None and (self._id or not isinstance(packet, Published)):
            self._publisher.answer(packet)

    def refuse(self, refused: Refused) -> None:
        """Passed on."""
        if self._publisher is not None:
            refused.id = self._id
            self._publisher.refuse(refused)


class Spans:
    """One node's. Stands before `Router.publish` where spans are wanted."""

    def __init__(
        self,
        settings: Tracing,
        node: Node,
        *,
        exporter: "SpanExporter | None" = None,
        random_float: Callable[[], float] = random.random,
    ) -> None:
        """Raises NoSpans. `exporter`: in the place of the one over HTTP."""
        self._settings = settings
        self._node = node
        self._random = random_float
        self._publish = node.publish
        self._tracer, self._provider = _make_tracer(settings, node.name, exporter)
        self._waiting: queue.Queue[Followed | None] = queue.Queue(MAX_WAITING)
        self._second, self._taken = 0, 0
        self.left_out = 0  # messages that were to have spans and have none
        self._thread = threading.Thread(target=self._work, name="triode-spans", daemon=True)
        self._thread.start()
        node.publish = self.publish

    def close(self) -> None:
        """Send what there is, for a short while."""
        self._node.publish = self._publish
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_END_SECONDS)

    # In the loop

    def publish(self, packet: Publish, user: str, now_ms: int, publisher: Publisher | None) -> Published | None:
        """As `Router.publish`; followed, it is answered through the publisher."""
        if not self._is_sampled(packet):
            return self._publish(packet, user, now_ms, publisher)
        headers, id = packet.headers, packet.id
        one = Followed(
            outside(packet.topic),
            packet.message_id,
            headers.get("traceparent", ""),
            headers.get("tracestate", ""),
            [],
        )
        following = _Following(publisher, id, self._hand_over, one)
        try:
            trace = self._node.tracing.begin(packet.topic, id, following, "", may_name=False)
        except Refused:  # so many are followed already
            self.left_out += 1
            return self._publish(packet, user, now_ms, publisher)
        packet.id = id or 1  # its place is wanted, whoever wants it
        try:
            acknowledgement = self._publish(packet, user, now_ms, trace)
        except Refused:
            trace.close()
            raise
        finally:
            packet.id = id
        if acknowledgement is not None:
            trace.answer(acknowledgement)
        return None

    def _is_sampled(self, packet: Publish) -> bool:
        parent = packet.headers.get("traceparent") if packet.headers else None
        if parent is not None:
            found = _TRACEPARENT.fullmatch(parent)
            is_wanted = found is not None and int(found[3], 16) & 1 == 1
        else:
            is_wanted = self._random() < self._settings.sample_ratio
        return is_wanted and self._has_room()

    def _has_room(self) -> bool:
        second = self._node.timers.steady_ms() // 1000
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        if self._taken > MAX_PER_SECOND:
            self.left_out += 1
            return False
        return True

    def _hand_over(self, one: Followed) -> None:
        try:
            self._waiting.put_nowait(one)
        except queue.Full:
            self.left_out += 1

    # In the thread

    def _work(self) -> None:
        while (one := self._waiting.get()) is not None:
            make_spans(self._tracer, one)
        self._provider.shutdown()


def _make_tracer(settings: Tracing, node: str, exporter: "SpanExporter | None") -> tuple[Any, Any]:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise NoSpans(f"spans need the extra otel: {install('otel')}") from error
    resource = Resource.create({"service.name": settings.service_name, "service.instance.id": node})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=settings.endpoint)))
    return provider.get_tracer("triode"), provider


def make_spans(tracer: Any, one: Followed) -> None:
    """One for the publish, and under it one for its storing and one for each node's deliveries."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    hops = one.hops
    if not hops:
        return
    carrier = {"traceparent": one.traceparent, "tracestate": one.tracestate}
    parent = TraceContextTextMapPropagator().extract({name: value for name, value in carrier.items() if value})
    attributes = {
        "messaging.system": "triode",
        "messaging.destination.name": one.topic,
        "messaging.message.id": one.message_id,
        "triode.trace.end": one.end,
    }
    start = min(hop.at_us for hop in hops)
    root = tracer.start_span(
        f"publish {one.topic}",
        context=parent,
        kind=trace.SpanKind.PRODUCER,
        attributes=attributes,
        start_time=start * 1_000,
    )
    for hop in hops:
        root.add_event(hop.hop, attributes=_said(hop), timestamp=hop.at_us * 1_000)
    context = trace.set_span_in_context(root, parent)
    for name, parts in _parts(hops).items():
        begun, ended = min(hop.at_us for hop in parts), max(hop.at_us for hop in parts)
        child = tracer.start_span(name, context=context, attributes=_said(parts[-1]), start_time=begun * 1_000)
        child.end(end_time=ended * 1_000)
    root.end(end_time=max(hop.at_us for hop in hops) * 1_000)


def _parts(hops: Sequence[Hop]) -> dict[str, list[Hop]]:
    """The hops of each span under the publish, by its name."""
    parts: dict[str, list[Hop]] = {}
    for hop in hops:
        if hop.hop in ("accepted", "position", "stored"):
            parts.setdefault("store", []).append(hop)
        elif hop.kind:
            parts.setdefault(f"deliver {hop.kind} on {hop.node}", []).append(hop)
    return parts


def _said(hop: Hop) -> dict[str, str | int]:
    """What it says, as attributes."""
    named = ("node", "connection", "shard", "log", "pos", "offset", "level", "to", "kind", "reason")
    found = {f"triode.{name}": value for name in named if (value := getattr(hop, name))}
    return found | ({"triode.count": hop.count} if hop.count >= 0 else {})
