"""Usage over nodes: rates, connections and subscriptions of users and tenants are those of all nodes (S8, G10)."""

from typing import Any

import pytest
from triode_broker.cluster.frames import Call, Reply
from triode_broker.cluster.usage import NO_ANSWER, SILENT_MS, USAGE
from triode_broker.config import Quota
from triode_broker.core.identity import Identity
from triode_broker.core.quotas import Quotas

from tests.cluster.town import Citizen, Town
from tests.core.desk import Line, Packet

ANN = Identity("ann", "acme", method="token")


class Door:
    """Everybody is the same user."""

    def ask(self, token: object, arrival: object, done: object) -> None:
        """At once."""
        done(ANN)  # type: ignore[operator]  # `Gate.ask`


def town(count: int = 3, **bounds: int) -> Town:
    """A town whose nodes have these quotas."""
    found = Town(count)
    values: dict[str, Any] = dict.fromkeys(Quota.__struct_fields__[3:], 0) | bounds
    for citizen in found.citizens:
        rates = citizen.node.rates
        rates._quotas = Quotas([Quota(**values)])
        citizen.node.gate = Door()
    return found


def publish(line: Line, count: int) -> int:
    """How many of so many publishes were taken; the line is read."""
    packet: Packet = {"type": "publish", "id": 1, "topic": "a", "data": 1}
    answers = line.ask(*[packet | {"id": number + 1} for number in range(count)])
    errors = [answer for answer in answers if answer["type"] == "error"]
    assert {error["name"] for error in errors} <= {"rate_limited"}
    return count - len(errors)


def told(citizen: Citizen) -> list[Call]:
    """What it says to another one of what it does."""
    (end, *_) = [end for end in citizen.ends.links if end.is_dialler]
    return [frame for frame in end.waiting() if isinstance(frame, Call) and frame.method == USAGE]


@pytest.mark.parametrize("count", [2, 3])
def test_clients_of_one_user_on_all_nodes_keep_to_its_rate_within_the_tolerance(count: int) -> None:
    """S8, docs/limits.md: from the third second on, ten seconds have at most 1.3 times what is allowed."""
    nodes = town(count, user_publishes_per_second=100)
    lines = [citizen.connect() for citizen in nodes.citizens]
    done = []
    for _ in range(16):
        taken = 0
        for _ in range(5):
            taken += sum(publish(line, 40) for line in lines)
            nodes.wait(200)
        done.append(taken)
    for start in range(2, 6):
        assert 700 <= sum(done[start : start + 10]) <= 1_300


def test_connections_of_a_user_are_counted_on_all_nodes() -> None:
    nodes = town(3, user_max_connections=4)
    one, other, third = nodes.citizens
    one.connect()
    other.connect()
    lost = other.connect()
    nodes.wait(1_000)
    third.connect()
    refused = third.dial()
    refused.send({"type": "connect", "id": 1})
    assert (refused.closed_with, refused.reconnect_after_ms) == (4103, 20_000)
    lost.session.detach()
    nodes.wait(1_000)
    third.connect()


def test_subscriptions_of_a_tenant_are_counted_on_all_nodes() -> None:
    nodes = town(2, tenant_max_subscriptions=2)
    one, other = (citizen.connect() for citizen in nodes.citizens)

    def subscribe(line: Line, sub: int) -> Packet:
        told = line.subscribe(sub, "a")
        nodes.carry()
        (answer,) = told + line.drain()
        return answer

    assert subscribe(one, 1)["type"] == subscribe(other, 1)["type"] == "subscribed"
    nodes.wait(1_000)
    error = subscribe(other, 2)
    assert (error["name"], error["sub"]) == ("quota", 2)
    one.ask({"type": "unsubscribe", "sub": 1, "id": 9})
    nodes.wait(1_000)
    assert subscribe(other, 2)["type"] == "subscribed"


def test_a_node_that_is_not_heard_is_forgotten_after_a_while() -> None:
    """G8: each side of a cut goes on."""
    nodes = town(2, user_max_connections=2)
    one, other = nodes.citizens
    one.connect()
    one.connect()
    nodes.wait(1_000)
    refused = other.dial()
    refused.send({"type": "connect", "id": 1})
    assert refused.closed_with == 4103
    nodes.cut(one, other)
    nodes.wait(SILENT_MS + 1_000)
    other.connect()


def test_nothing_is_said_where_nothing_is_done() -> None:
    nodes = town(2, user_publishes_per_second=100)
    one, other = nodes.citizens
    line = one.connect()
    for _ in range(2):
        one.cluster.usage.tick()
        assert told(one) == []
        nodes.carry()
    publish(line, 50)
    one.steady_ms += 1_000
    one.cluster.usage.tick()
    (call,) = told(one)
    assert call.id == NO_ANSWER
    nodes.carry()
    one.steady_ms += 1_000
    one.cluster.usage.tick()
    assert [frame.params for frame in told(one)] == [b"[]"]
    nodes.carry()
    one.cluster.usage.tick()
    assert told(one) == []
    assert other.node.rates.accounts is not one.node.rates.accounts


def test_a_full_link_is_not_filled_with_it() -> None:
    nodes = town(2, user_publishes_per_second=100)
    one, _ = nodes.citizens
    publish(one.connect(), 50)
    one.steady_ms += 1_000
    for end in one.ends.links:
        end.is_full = True
    one.cluster.usage.tick()
    assert told(one) == []


def test_a_node_of_an_older_build_answers_that_it_knows_no_such_call_and_that_is_all() -> None:
    nodes = town(2, user_publishes_per_second=100)
    one, other = nodes.citizens
    before = list(one.said.lines)
    nodes.way(other, one, asking=False).put(Reply(NO_ANSWER, b"", "bad_call", "this node knows no such call"))
    nodes.carry()
    assert one.said.lines == before
