"""Traces over nodes: what other nodes see of a message comes back to who published it (SPEC 4.12)."""

from typing import Any

import msgspec
import pytest
from triode_broker.cluster.frames import Call
from triode_broker.cluster.tracing import TRACE, Said
from triode_broker.core.tracing import MAX_TRACES, TRACE_MS

from tests.cluster.town import Citizen, Town
from tests.core.desk import Line, Packet


def trace(line: Line, topic: str = "a") -> None:
    """Publish with trace."""
    line.send({"type": "publish", "id": 7, "topic": topic, "data": 1, "trace": True})


def hops(packets: list[Packet]) -> dict[str, list[str]]:
    """By node, in order; what is counted and why behind them."""
    told: dict[str, list[str]] = {}
    for packet in packets:
        for hop in packet.get("hops", ()):
            words = [str(hop[field]) for field in ("hop", "kind", "count", "reason", "to") if field in hop]
            told.setdefault(hop["node"], []).append(" ".join(words))
    return told


def end(packets: list[Packet]) -> str:
    """How it ended."""
    return str(packets[-1].get("end", "")) if packets else ""


def send_all(citizen: Citizen) -> None:
    """What waits for its clients is sent."""
    for outbox in citizen.dirty:
        if not hasattr(outbox.connection, "write"):
            outbox.items.clear()
            outbox.size = 0


def test_hops_of_all_nodes_come_back() -> None:
    """The publisher is on n2, the owner is n1, subscribers are on n1 and n3."""
    town = Town(3)
    owner, entry, third = town.citizens
    line, here, there = entry.connect(), owner.connect(), third.connect()
    here.subscribe(1, "a")
    there.subscribe(1, "a")
    town.carry()
    trace(line)
    town.carry()
    send_all(owner)
    send_all(third)
    town.wait(1_000)
    packets = line.read()
    assert hops(packets) == {
        "n2": ["accepted", "owner n1", "forwarded n1", "answered"],
        "n1": ["position", "stored", "matched live 1", "forwarded n3", "queued live 1", "sent live 1"],
        "n3": ["matched live 1", "queued live 1", "sent live 1"],
    }
    assert end(packets) == "complete"
    assert all(citizen.cluster.tracing.watched == 0 for citizen in town.citizens)


def test_wildcard_of_another_node_is_nobody_on_a_node_that_does_not_own_the_topic() -> None:
    """Wildcards are told to every node: the entry node has nothing to deliver for them."""
    town = Town(3)
    owner, entry, third = town.citizens
    line, there = entry.connect(), third.connect()
    there.subscribe(1, "#")
    town.carry()
    trace(line)
    town.carry()
    send_all(third)
    town.wait(1_000)
    packets = line.read()
    assert hops(packets)["n2"] == ["accepted", "owner n1", "forwarded n1", "answered"]
    assert (hops(packets)["n1"], end(packets)) == (["position", "stored", "forwarded n3"], "complete")
    assert owner.cluster.tracing.watched == 0


def test_message_for_nobody_anywhere_is_told_as_that() -> None:
    town = Town(3)
    line = town.citizens[2].connect()
    trace(line)
    town.carry()
    packets = line.read()
    assert (hops(packets)["n3"][-1], end(packets)) == ("dropped no_subscriber", "complete")


def test_node_that_dies_midway_is_named() -> None:
    """Survives faults: incomplete, and it says which node did not answer."""
    town = Town(3)
    _, entry, third = town.citizens
    line, there = entry.connect(), third.connect()
    there.subscribe(1, "a")
    town.carry()
    trace(line)
    town.carry(town.way(entry, third, asking=True))
    town.cut(entry, third)
    town.wait(1_000)
    packets = line.read()
    assert "unanswered n3" in hops(packets)["n2"]
    assert end(packets) == "incomplete"


def test_node_that_stays_silent_is_named_when_the_time_is_up() -> None:
    town = Town(2)
    owner, entry = town.citizens
    line = owner.connect()
    held = town.way(owner, entry, asking=True)
    trace(line)
    town.wait(TRACE_MS + 1_000, held)
    packets = line.read()
    assert (hops(packets)["n1"][-1], end(packets)) == ("unanswered n2", "incomplete")
    town.carry()
    assert entry.cluster.tracing.watched == 0


def test_slow_subscriber_on_another_node_is_told_as_waiting() -> None:
    town = Town(2)
    owner, entry = town.citizens
    line, there = owner.connect(), entry.connect()
    there.subscribe(1, "a")
    town.carry()
    there.read()
    trace(line)
    town.wait(TRACE_MS + 1_000)
    packets = line.read()
    assert (hops(packets)["n2"][-1], end(packets)) == ("waiting live 1 not_sent", "incomplete")


def test_refused_publish_is_looked_out_for_no_more() -> None:
    town = Town(2, limits=None)
    owner, entry = town.citizens
    line = owner.connect()
    line.send({"type": "publish", "id": 7, "topic": "a", "data": 1, "key": "k" * 300, "trace": True})
    town.carry()
    assert entry.cluster.tracing.watched == 0


def say(citizen: Citizen, other: Citizen, said: dict[str, Any]) -> None:
    """`citizen` says that to the other one."""
    way = citizen.town.way(citizen, other, asking=True)
    way.put(Call(0, TRACE, msgspec.json.encode(said)))


def test_other_node_has_so_many_looked_out_for() -> None:
    """S8: and each for a short time."""
    town = Town(2)
    one, other = town.citizens
    for number in range(MAX_TRACES + 5):
        say(one, other, {"do": "watch", "trace": f"t{number}", "topic": "a"})
    town.carry()
    assert other.cluster.tracing.watched == MAX_TRACES
    town.wait(TRACE_MS)
    say(one, other, {"do": "watch", "trace": "t", "topic": "a"})
    town.carry()
    assert other.cluster.tracing.watched == 1
    town.cut(one, other)
    assert other.cluster.tracing.watched == 0


@pytest.mark.parametrize(
    "said",
    [
        {"do": "look_for", "trace": "t", "log": "m0-x", "pos": 1},
        {"do": "forget", "trace": "t"},
        {"do": "told", "trace": "t", "hops": [], "is_over": True},
    ],
)
def test_what_is_said_of_an_unknown_trace_is_passed_over(said: dict[str, Any]) -> None:
    town = Town(2)
    one, other = town.citizens
    say(one, other, said)
    town.carry()
    assert one.connect()


def test_log_that_no_node_knows_is_looked_for_in_vain() -> None:
    town = Town(2)
    one, other = town.citizens
    say(one, other, {"do": "watch", "trace": "t", "topic": "a"})
    say(one, other, {"do": "look_for", "trace": "t", "log": "x9-unknown", "pos": 1})
    town.carry()
    assert msgspec.json.decode(msgspec.json.encode(Said("forget", "t"))) == {"do": "forget", "trace": "t"}


def test_trace_context_passes_between_nodes_unchanged() -> None:
    """From the entry node to the owner, and from there to a subscriber on a third one."""
    town = Town(3)
    _, entry, third = town.citizens
    line, there = entry.connect(), third.connect()
    there.subscribe(1, "a")
    town.carry()
    there.read()
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"}
    line.send({"type": "publish", "id": 7, "topic": "a", "data": 1, "headers": headers})
    town.carry()
    assert [packet["headers"] for packet in there.read()] == [headers]
