"""The table of metrics: what Prometheus is told of a node, by name, with help and labels, and where it stands.

Plain data about plain data: knows the form of figures (`triode_broker.figures`), no Prometheus library; the page,
the documentation and the tests of dashboard and alerts read it. The surprising decision: labels come from bounded
sets only (shards, listeners, links' nodes, close codes, names of limits), so a page has the same size whether ten
clients or a hundred thousand are connected. What is by topic, tenant or user is asked for by other calls.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import attrs

Kind = Literal["counter", "gauge", "histogram", "info"]
Labels = Mapping[str, str]
Figures = Mapping[str, Any]


@attrs.frozen
class Metric:
    """One family. A counter's name here is without its `_total`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]  # `node` is one of all, and not named here
    read: Callable[[Figures], Iterator[tuple[tuple[str, ...], Any]]]

    @property
    def shown_name(self) -> str:
        """As it stands on a page and in queries; a histogram's has `_bucket`, `_sum` and `_count` behind it."""
        ends = {"counter": "_total", "info": "_info"}
        return f"triode_{self.name}{ends.get(self.kind, '')}"


def _one(section: str, key: str, divisor: float = 1) -> Callable[[Figures], Iterator[tuple[tuple[str, ...], Any]]]:
    def read(figures: Figures) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield (), figures[section][key] / divisor if divisor != 1 else figures[section][key]

    return read


def _rows(
    section: str, labels: tuple[str, ...], key: str, divisor: float = 1
) -> Callable[[Figures], Iterator[tuple[tuple[str, ...], Any]]]:
    def read(figures: Figures) -> Iterator[tuple[tuple[str, ...], Any]]:
        for row in figures[section]:
            value = row[key] / divisor if divisor != 1 else row[key]
            yield tuple(str(row[label]) for label in labels), value

    return read


def _by_key(section: str) -> Callable[[Figures], Iterator[tuple[tuple[str, ...], Any]]]:
    def read(figures: Figures) -> Iterator[tuple[tuple[str, ...], Any]]:
        for key, value in figures[section].items():
            yield (key,), value

    return read


def _build(figures: Figures) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield (figures["version"], figures["commit"]), 1


def _acks(figures: Figures) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All memory shards together, each engine for itself."""
    listeners = [row["published"] for row in figures["listeners"]]
    yield (
        ("memory",),
        {
            "counts": [sum(counts) for counts in zip(*(one["counts"] for one in listeners), strict=True)],
            "sum_us": sum(one["sum_us"] for one in listeners),
        },
    )
    for row in figures["engines"]:
        yield (row["engine"],), row["answered"]


def _states(figures: Figures) -> Iterator[tuple[tuple[str, ...], Any]]:
    for row in figures["engines"]:
        for state in ("ok", "full", "failed"):
            yield (row["engine"], state), int(row["state"] == state)


def _counter(name: str, help: str, key: str = "", divisor: float = 1) -> Metric:
    return Metric(name, "counter", help, (), _one("counters", key or name, divisor))


def _gauge(name: str, help: str, key: str = "", divisor: float = 1) -> Metric:
    return Metric(name, "gauge", help, (), _one("gauges", key or name, divisor))


_US: Final = 1_000_000

_NODE: Final = (
    Metric("build", "info", "Which Triode this node is.", ("version", "commit"), _build),
    Metric(
        "uptime_seconds",
        "gauge",
        "How long this node has been running.",
        (),
        lambda figures: iter([((), figures["uptime_ms"] / 1000)]),
    ),
    _gauge("ready", "1 while the node takes clients (/readyz), else 0."),
    _gauge("draining", "1 while the node is taken out of service."),
    _counter("process_cpu_seconds", "Processor time of this process.", "cpu_us", _US),
    _gauge("process_resident_bytes", "Memory of this process.", "resident_bytes"),
    _gauge("process_open_descriptors", "Open file descriptors; each client is one.", "open_descriptors"),
    _gauge("process_max_descriptors", "How many there may be (ulimit -n).", "max_descriptors"),
    _counter("gc_collections", "Runs of Python's garbage collector.", "gc_collections"),
    Metric(
        "loop_lag_seconds",
        "histogram",
        "How late the event loop came to what was due, four times a second.",
        (),
        lambda figures: iter([((), figures["histograms"]["loop_lag"])]),
    ),
)

_MESSAGES: Final = (
    _counter("messages_published", "Messages that got a place in a log of this node.", "published"),
    _counter("publish_packets", "Publish packets of clients, whatever became of them."),
    _counter(
        "messages_delivered", "Messages put into connections' outboxes; replays are not counted.", "delivered"
    ),
    _counter("packet_received_bytes", "Bytes of clients' packets.", "packet_bytes_in"),
    _counter("errors", "Errors that clients were answered."),
    _counter("duplicates", "Publishes that were known by their message_id.", "duplicates"),
    _counter(
        "outbox_overflows", "Subscriptions that left live delivery because their client was slow.", "overflows"
    ),
    _counter("redeliveries", "Deliveries that came to nothing and were to come again.", "redelivered"),
    _counter("dead_letters", "Messages that were given up and written as dead letters."),
    Metric("gaps", "counter", "Gaps that subscriptions were told of.", ("reason",), _by_key("gaps")),
    Metric(
        "publish_ack_seconds",
        "histogram",
        "From a message's arrival to its ack being sent: by turns of the loop in memory, by commits on disk.",
        ("shard",),
        _acks,
    ),
    Metric(
        "publish_send_seconds",
        "histogram",
        "From a message's arrival to its being sent to each of its subscribers here: by turns, in memory.",
        ("listener",),
        _rows("listeners", ("listener",), "fanned_out"),
    ),
    _gauge("delayed_messages", "Messages that wait for their time.", "delayed"),
    _gauge("topics", "Topics that the logs of this node know of."),
    _gauge("wills_waiting", "Wills of connections that were lost, not due yet."),
    _counter("wills_published", "Wills that were published."),
    _counter("wills_refused", "Wills that could not be published."),
)

_CLIENTS: Final = (
    _gauge("connections", "Open connections of clients, those on their way in included."),
    _gauge("sessions", "Clients that have connected (`connect` was answered)."),
    _gauge("subscriptions", "Open subscriptions."),
    _gauge("live_subscriptions", "Of these without acknowledgements, those that are live."),
    _gauge("presence_members", "Members that presence knows of.", "members"),
    _gauge("tenants", "Tenants that are counted one by one."),
    Metric(
        "disconnects",
        "counter",
        "WebSocket connections that ended, by close code and who began.",
        ("code", "name", "initiator"),
        _rows("closes", ("code", "name", "initiator"), "count"),
    ),
    Metric(
        "http_requests",
        "counter",
        "Requests that were answered, by operation of the HTTP API and status.",
        ("operation", "status"),
        _rows("requests", ("operation", "status"), "count"),
    ),
    Metric(
        "rate_refusals", "counter", "Packets and connections refused, by limit.", ("limit",), _by_key("refused")
    ),
    _counter("closed_for_rate", "Connections closed because they went on too fast."),
    _counter("credentials_shown", "Credentials that were looked at."),
    _counter("credentials_asked_elsewhere", "Of these, about which a callout or a key server was asked."),
    _counter("credentials_refused", "Credentials that were refused."),
    _counter("credentials_unknown", "Credentials that could not be judged: those asked did not answer."),
    _gauge("revocations", "Revocations in force."),
)

_CONSUMERS: Final = (
    _gauge("consumers", "Durable subscriptions and groups at home here."),
    _gauge("consumer_members", "Their members."),
    _gauge("consumer_lag", "Places of logs that they have not settled, all together."),
    _gauge("consumer_lag_max", "The same of the one that is furthest behind."),
)


def _listener(name: str, kind: Kind, help: str, key: str, divisor: float = 1) -> Metric:
    return Metric(f"listener_{name}", kind, help, ("listener",), _rows("listeners", ("listener",), key, divisor))


_LISTENERS: Final = (
    _listener("connections", "gauge", "Open connections.", "connections"),
    _listener("newcomers", "gauge", "Connections that have not got through `connect`.", "newcomers"),
    _listener("accepted", "counter", "Connections that were accepted.", "accepted"),
    _listener("refused", "counter", "Answered with an HTTP error, or closed for want of room.", "refused"),
    _listener("upgraded", "counter", "Connections that became WebSockets.", "upgraded"),
    _listener("received_frames", "counter", "WebSocket frames of clients.", "frames_in"),
    _listener("received_bytes", "counter", "Bytes read from sockets.", "bytes_in"),
    _listener("sent_bytes", "counter", "Bytes written to sockets.", "bytes_out"),
    _listener("busy_seconds", "counter", "Time spent in turns: near 1 a second the core is full.", "busy_us", _US),
    _listener("turn_seconds", "histogram", "How long turns of the loop took.", "turns"),
)


def _shard(name: str, kind: Kind, help: str, key: str) -> Metric:
    return Metric(f"shard_{name}", kind, help, ("shard", "storage"), _rows("shards", ("shard", "storage"), key))


def _forwarded(figures: Figures) -> Iterator[tuple[tuple[str, ...], Any]]:
    for row in figures["shards"]:
        if "forwarded" in row:
            yield (row["shard"],), row["forwarded"]


_SHARDS: Final = (
    _shard("here", "gauge", "1 where this node owns the shard.", "here"),
    _shard("reachable", "gauge", "1 where this node, or the one that owns it, can be published to.", "reachable"),
    _shard("epoch", "gauge", "How often its owner has changed.", "epoch"),
    _shard("head", "gauge", "The newest place of its log, as this node knows it.", "head"),
    _shard("retained_bytes", "gauge", "What it holds in memory, or its file on disk.", "retained_bytes"),
    _shard("forwarding", "gauge", "Publishes on their way to its owner.", "forwarding"),
    Metric(
        "forward_ack_seconds",
        "histogram",
        "From a publish's acceptance here to the answer of the node that owns its shard.",
        ("shard",),
        _forwarded,
    ),
)


def _engine(name: str, kind: Kind, help: str, key: str) -> Metric:
    return Metric(f"engine_{name}", kind, help, ("engine",), _rows("engines", ("engine",), key))


_ENGINES: Final = (
    Metric("engine_state", "gauge", "1 for the state that the store is in.", ("engine", "state"), _states),
    _engine("commits", "counter", "Commits, each with an fsync.", "commits"),
    _engine("committed_messages", "counter", "Messages in them.", "committed_messages"),
    _engine("committed_bytes", "counter", "Bytes of messages and of saved state in them.", "committed_bytes"),
    _engine("queue_bytes", "gauge", "Accepted, and not committed yet.", "queue_bytes"),
    _engine("damaged_messages", "counter", "Found damaged on disk since the start.", "damaged_messages"),
    _engine("commit_seconds", "histogram", "How long the disk took for a commit, fsync included.", "commit"),
)


def _link(name: str, kind: Kind, help: str, key: str, divisor: float = 1) -> Metric:
    return Metric(
        f"link_{name}", kind, help, ("peer", "direction"), _rows("links", ("peer", "direction"), key, divisor)
    )


_LINKS: Final = (
    _link("rtt_seconds", "gauge", "There and back, smoothed; 0 until it is known.", "rtt_us", _US),
    _link("outbox_bytes", "gauge", "What waits for the socket.", "outbox_bytes"),
    _link("sent_messages", "counter", "WebSocket messages, each of many frames.", "sent_messages"),
    _link("sent_bytes", "counter", "Bytes in them.", "sent_bytes"),
    _link("received_messages", "counter", "WebSocket messages.", "received_messages"),
    _link("received_bytes", "counter", "Bytes in them.", "received_bytes"),
)


def _webhook(name: str, kind: Kind, help: str, key: str) -> Metric:
    return Metric(f"webhook_{name}", kind, help, ("webhook",), _rows("webhooks", ("webhook",), key))


_WEBHOOKS: Final = (
    _counter("events", "Events of clients, members, topics and dead letters that were told for webhooks."),
    _counter("events_lost", "Events that their shard did not take in time; each loss is told as an event."),
    _gauge("events_waiting", "Events that their shard has not taken yet."),
    _webhook("delivered_events", "counter", "Events that the endpoint has taken.", "delivered"),
    _webhook("requests", "counter", "Requests that were sent.", "requests"),
    _webhook("failed_requests", "counter", "Of these, those that were not answered with a 2xx.", "failed"),
    _webhook("dead_letters", "counter", "Events that were given up and are dead letters.", "buried"),
    _webhook("gaps", "counter", "Times that events were lost to retention, or with their log.", "gaps"),
    _webhook("failing", "gauge", "1 while its endpoint does not take what it is told.", "failing"),
    _webhook(
        "lag", "gauge", "Places of the logs that it is behind; 0 where its name is at home elsewhere.", "lag"
    ),
)

#: By what they are about, in the order of the page and of the documentation.
SECTIONS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "Messages": _MESSAGES,
    "Clients": _CLIENTS,
    "Durable subscriptions and groups": _CONSUMERS,
    "Webhooks": _WEBHOOKS,
    "Listeners": _LISTENERS,
    "Shards": _SHARDS,
    "Stores on disk": _ENGINES,
    "Links between nodes": _LINKS,
    "The process": _NODE,
}
METRICS: Final = tuple(metric for section in SECTIONS.values() for metric in section)
