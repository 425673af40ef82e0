"""`trace` on a publish: what its publisher is told of what becomes of the message (SPEC 3.4.18, 4.12)."""

from typing import Any

import pytest
from triode_broker.config import Limits, TopicRule
from triode_broker.core import observing
from triode_broker.core.identity import Identity
from triode_broker.core.observing import MAX_NAMES, MAX_SEEN
from triode_broker.core.rights import Rights
from triode_broker.core.tracing import MAX_HOPS, MAX_TRACES, TRACE_MS

from tests.core.desk import Desk, Line, Packet

DISK = TopicRule("disk/#", storage="disk", dedupe_seconds=60)


def trace(line: Line, topic: str = "a", **fields: Any) -> list[Packet]:
    """Publish with trace; what comes at once."""
    return line.ask({"type": "publish", "id": 7, "topic": topic, "data": 1, "trace": True, **fields})


def hops(packets: list[Packet]) -> list[str]:
    """Their names, in order; what is counted and why behind them."""
    told = [hop for packet in packets if packet["type"] == "traced" for hop in packet["hops"]]
    return [
        " ".join(str(hop[field]) for field in ("hop", "kind", "count", "reason", "to") if field in hop)
        for hop in told
    ]


def end(packets: list[Packet]) -> str:
    """How it ended."""
    return str(packets[-1].get("end", "")) if packets and packets[-1]["type"] == "traced" else ""


def write(desk: Desk) -> None:
    """The turn ends: everything is sent, and who stands behind that is called. What that tells is not."""
    dirty, desk.dirty[:] = list(desk.dirty), []
    marks = [outbox for outbox in dirty if hasattr(outbox.connection, "write")]
    for outbox in [outbox for outbox in dirty if outbox not in marks]:
        outbox.items.clear()
        outbox.size = 0
    for mark in marks:
        mark.connection.write()


def test_traced_publish_is_told_where_it_went() -> None:
    """SPEC 4.12.1, 4.12.2, 4.12.3: published first, then the hops; the last packet has `end`."""
    desk = Desk()
    line, other = desk.connect(), desk.connect()
    other.subscribe(1, "a")
    published, first = trace(line)
    assert (published["type"], published["pos"]) == ("published", 1)
    assert hops([first]) == ["accepted", "owner n1", "position", "stored", "matched live 1", "queued live 1"]
    assert first["hops"][0] == {"hop": "accepted", "node": "n1", "at_us": 50_000_000, "connection": "c-id1"}
    assert first["hops"][2]["pos"] == 1
    write(desk)
    (last,) = line.read()
    assert (hops([last]), last["end"], last["id"]) == (["sent live 1"], "complete", 7)
    desk.wait(2 * TRACE_MS + 1_000)
    assert line.read() == []
    assert desk.node.tracing.count == 0


def test_message_itself_says_nothing_of_it() -> None:
    """SPEC 3.4.18: nobody else can tell."""
    desk = Desk()
    line, other = desk.connect(), desk.connect()
    other.subscribe(1, "a")
    trace(line)
    (message,) = other.read()
    assert set(message) == {"type", "topic", "offset", "log", "pos", "ts", "data"}


def test_message_for_nobody_is_dropped_for_there_is_no_subscriber() -> None:
    packets = trace(Desk().connect())
    assert (hops(packets)[-1], end(packets)) == ("dropped no_subscriber", "complete")


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"id": 0}, None),
        ({"trace": 1}, ("malformed", "trace")),
        ({"trace": None}, ("malformed", "trace")),
        ({"topic": "$no"}, ("bad_topic", "topic")),
    ],
)
def test_bad_one_is_refused_and_not_published(fields: dict[str, Any], refused: tuple[str, str] | None) -> None:
    """SPEC 3.4.18."""
    desk = Desk()
    line = desk.connect()
    packet = {"type": "publish", "id": 7, "topic": "a", "data": 1, "trace": True, **fields}
    if not packet["id"]:
        del packet["id"]
        refused = "malformed", "trace"
    (answer,) = line.ask(packet)
    assert (answer["name"], answer["field"]) == refused
    assert desk.logs[0].head() == 0
    assert desk.node.tracing.count == 0


def test_one_that_the_router_refuses_is_followed_no_more() -> None:
    desk = Desk(TopicRule("a", max_payload_bytes=4))
    (answer,) = trace(desk.connect(), data="too long")
    assert (answer["name"], desk.node.tracing.count) == ("too_large", 0)


def test_it_is_not_offered_where_the_limit_is_none() -> None:
    """SPEC 7.3."""
    desk = Desk(limits=Limits(max_traces_per_second=0))
    line = desk.dial()
    (greeting,) = line.ask({"type": "connect", "id": 1})
    assert "trace" not in greeting["capabilities"]
    (answer,) = trace(line)
    assert (answer["name"], answer["field"]) == ("unsupported", "trace")


def test_connection_traces_so_many_in_a_second() -> None:
    """S8: each one is work for every node; the others are not held up."""
    desk = Desk(limits=Limits(max_traces_per_second=2))
    line, other = desk.connect(), desk.connect()
    assert [trace(line)[0]["type"] for _ in range(3)] == ["published", "published", "error"]
    assert trace(other)[0]["type"] == "published"
    desk.wait(1_000)
    (refused, *_) = [answer for _ in range(3) if (answer := trace(line)[0])["type"] == "error"]
    assert (refused["name"], refused["retry_after_ms"]) == ("rate_limited", 1_000)


def test_node_follows_so_many_at_a_time() -> None:
    """S8."""
    desk = Desk(limits=Limits(max_traces_per_second=MAX_TRACES + 1))
    line, other = desk.connect(), desk.connect()
    other.subscribe(1, "a")  # it is not read, so none of them comes to its end
    for _ in range(MAX_TRACES):
        assert trace(line)[0]["type"] == "published"
    assert trace(line)[0]["name"] == "overloaded"
    desk.wait(TRACE_MS)
    assert desk.node.tracing.count == 0


def test_what_is_not_sent_in_time_is_told_as_waiting() -> None:
    """SPEC 4.12.2: incomplete."""
    desk = Desk()
    line, other = desk.connect(), desk.connect()
    other.subscribe(1, "a")
    trace(line)
    for _ in range(60):
        desk.wait(100)
    packets = line.read()
    assert (hops(packets), end(packets)) == (["waiting live 1 not_sent"], "incomplete")


def test_connection_that_is_lost_before_it_was_sent_anything_is_told_of() -> None:
    desk = Desk()
    line, other = desk.connect(), desk.connect()
    other.subscribe(1, "a")
    trace(line)
    other.session.detach()
    desk.wait(10)
    packets = line.read()
    assert (hops(packets), end(packets)) == (["dropped live 1 disconnected"], "complete")


@pytest.mark.parametrize(
    ("overflow", "told"),
    [
        ("replay", "behind live 1 overflow"),
        ("gap", "dropped live 1 gap"),
        ("disconnect", "dropped live 1 overflow"),
        ("conflate", "behind live 1 overflow"),
    ],
)
def test_slow_subscriber_is_told_of_with_what_it_does(overflow: str, told: str) -> None:
    """G7."""
    desk = Desk(limits=Limits(max_outbox_bytes=1_000))
    line, other = desk.connect(), desk.connect()
    other.subscribe(1, "a", overflow=overflow)
    packets = trace(line, data="x" * 2_000)
    assert hops(packets)[4:] == ["matched live 1", told]
    assert end(packets) == "complete"
    if overflow in ("conflate",):
        assert hops(trace(line))[4:] == ["matched live 1", "behind live 1 catching_up"]


def test_who_may_not_have_it_is_counted_apart() -> None:
    """G10."""
    desk = Desk()
    line, other = desk.connect(), desk.connect()
    other.session._be(Identity("u", rights=Rights({"subscribe": ("+/x",)})))
    other.subscribe(1, "b/+")
    packets = trace(line, "b/y")
    assert hops(packets)[4:] == ["dropped live 1 permission"]


def durable() -> tuple[Desk, Line, Line]:
    """A publisher, and a member of a durable subscription."""
    desk = Desk(DISK, durable=True)
    line, member = desk.connect(), desk.connect()
    member.subscribe(1, "disk/a", durable="work")
    desk.commit()
    member.read()
    return desk, line, member


def test_durable_subscription_acknowledges() -> None:
    """SPEC 4.12.3: on disk it is stored at commit; sent, then acknowledged."""
    desk, line, member = durable()
    assert trace(line, "disk/a") == []
    desk.commit()
    packets = line.read()
    assert packets[0]["level"] == "disk"
    assert hops(packets)[4:] == ["matched durable 1", "sent durable 1"]
    (delivery,) = [packet for packet in member.read() if packet["type"] == "delivery"]
    place = {field: delivery["message"][field] for field in ("log", "pos")}
    member.ask({"type": "ack", "sub": 1, **place})
    desk.wait(200)
    last = line.read()
    assert (hops(last), end(last)) == (["acknowledged durable 1"], "complete")
    assert "names" not in str(packets)


def test_what_nobody_acknowledges_is_told_as_waiting() -> None:
    desk, line, _ = durable()
    trace(line, "disk/a")
    desk.commit()
    line.read()
    for _ in range(60):
        desk.wait(100)
    packets = line.read()
    assert (hops(packets), end(packets)) == (["waiting durable 1 not_acknowledged"], "incomplete")


def test_durable_subscription_without_members_keeps_it() -> None:
    desk, line, member = durable()
    member.session.detach()
    trace(line, "disk/a")
    desk.commit()
    packets = line.read()
    assert (hops(packets)[-1], end(packets)) == ("kept durable 1", "complete")


def test_message_that_is_acknowledged_between_two_looks_was_sent() -> None:
    desk = Desk()
    line, member = desk.connect(), desk.connect()
    member.subscribe(1, "a", group="g", window=1)
    line.ask({"type": "publish", "id": 1, "topic": "a", "data": 0})
    packets = trace(line)
    assert hops(packets)[4:] == ["matched group 1"]
    for pos in (1, 2):
        member.ask({"type": "ack", "sub": 1, "log": "m0-life", "pos": pos})
    desk.wait(20)
    packets = line.read()
    assert (hops(packets), end(packets)) == (["sent group 1", "acknowledged group 1"], "complete")


def test_name_that_ends_meanwhile_has_it_no_more() -> None:
    desk = Desk()
    line, member = desk.connect(), desk.connect()
    member.subscribe(1, "a", group="g", window=1)
    trace(line)
    member.ask({"type": "unsubscribe", "id": 5, "sub": 1})
    desk.wait(20)
    assert end(line.read()) == "complete"


def test_only_who_may_operate_is_told_names() -> None:
    """SPEC 4.12.4."""
    desk, line, _ = durable()
    line.session._be(Identity("o", rights=Rights({"publish": ("#",), "operate": ("#",)})))
    trace(line, "disk/a")
    desk.commit()
    (matched,) = [hop for packet in line.read()[1:] for hop in packet["hops"] if hop["hop"] == "matched"]
    assert matched["names"] == ["work"]
    assert MAX_NAMES > 1


def test_duplicate_and_delayed_ones_end_at_once() -> None:
    desk, line, _ = durable()
    line.ask({"type": "publish", "id": 1, "topic": "disk/a", "data": 1, "message_id": "m"})
    desk.commit()
    line.read()
    packets = trace(line, "disk/a", message_id="m")
    assert (hops(packets)[-1], end(packets)) == ("dropped duplicate", "complete")
    packets = trace(line, "later", deliver_at_ms=desk.now_ms + 60_000)
    assert (hops(packets)[-1], end(packets)) == ("kept delayed", "complete")


def test_message_whose_commit_fails_has_an_error_and_no_hops() -> None:
    """SPEC 4.12.1: none after an error."""
    desk, line, _ = durable()
    trace(line, "disk/a")
    desk.disk.fail()
    (answer,) = line.read()
    assert (answer["name"], desk.node.tracing.count) == ("timeout", 0)


def test_others_on_the_topic_are_not_taken_for_it() -> None:
    """It is found by its place, whatever else is published there."""
    desk, line, _ = durable()
    other = desk.connect()
    line.ask({"type": "publish", "topic": "disk/a", "data": 0})
    trace(line, "disk/a")
    for number in range(MAX_SEEN):
        other.send({"type": "publish", "topic": "disk/a", "data": number})
    desk.commit()
    packets = line.read()
    assert packets[0]["pos"] == 2
    assert hops(packets)[4:6] == ["matched durable 1", "sent durable 1"]


def test_no_more_hops_are_told_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC 4.12.2: truncated."""
    monkeypatch.setattr("triode_broker.core.tracing.MAX_HOPS", 4)
    desk = Desk()
    line, other = desk.connect(), desk.connect()
    other.subscribe(1, "a")
    packets = trace(line)
    assert (len(hops(packets)), end(packets), MAX_HOPS) == (4, "truncated", 100)
    write(desk)
    assert line.read() == []
    assert desk.node.tracing.count == 0


def test_so_many_outboxes_are_looked_at_and_the_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """S8: a look is bounded."""
    monkeypatch.setattr(observing, "MAX_OUTBOXES", 1)
    desk = Desk()
    line = desk.connect()
    for _ in range(3):
        desk.connect().subscribe(1, "a")
    trace(line)
    write(desk)
    packets = line.read()
    assert hops(packets) == ["sent live 1", "waiting live 2 not_looked_at"]


def test_publisher_that_has_gone_is_told_nothing() -> None:
    desk, line, _ = durable()
    trace(line, "disk/a")
    line.session.detach()
    desk.commit()
    desk.wait(6_000)
    assert line.read() == []
    assert desk.node.tracing.count == 0
