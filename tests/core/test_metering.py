"""A session and what it may do: which packet takes of which rate, and what becomes of it (SPEC 11.7, S8)."""

from typing import Any

import pytest
from triode_broker.config import Limits, Quota
from triode_broker.core.identity import Identity
from triode_broker.core.quotas import Quotas
from triode_broker.core.rates import Rates
from triode_protocol.errors import CloseCode

from tests.core.desk import Packet
from tests.core.gatekeeper import Guarded

PUBLISH: Packet = {"type": "publish", "topic": "a", "data": 1}
REQUESTS: list[Packet] = [
    {"type": "subscribe", "id": 7, "sub": 9, "filter": "a"},
    {"type": "history", "id": 7, "topic": "a"},
    {"type": "presence", "id": 7, "topic": "a"},
    {"type": "auth", "id": 7, "token": "ann"},
    {"type": "nonsense", "id": 7},
]
CONTROLS: list[Packet] = [
    {"type": "unsubscribe", "id": 7, "sub": 1},
    {"type": "ack", "id": 7, "sub": 1, "log": "m", "pos": 1},
    {"type": "nack", "id": 7, "sub": 1, "log": "m", "pos": 1, "attempt": 1},
    {"type": "extend", "id": 7, "sub": 1, "log": "m", "pos": 1, "attempt": 1, "ms": 1},
    {"type": "ping", "id": 7},
    {"type": "pong", "id": 7},
]


class Bounded(Guarded):
    """A desk whose clients ann and bob, of tenant acme, have bounds."""

    def __init__(self, limits: Limits | None = None, **bounds: int) -> None:
        super().__init__(limits=limits or Limits(max_subscriptions=4))
        values: dict[str, Any] = dict.fromkeys(Quota.__struct_fields__[3:], 0) | bounds
        node = self.desk.node
        node.rates = Rates(Quotas([Quota(**values)]), self.desk.limits, node.timers)
        for user in ("ann", "bob"):
            self.gate.know(user, user, tenant="acme", method="token")


def kinds(packets: list[Packet]) -> list[str]:
    return [packet.get("name") or packet["type"] for packet in packets]


def test_publishes_over_the_rate_are_refused_with_their_ids_and_nothing_is_stored() -> None:
    """SPEC 11.7.1, S8, G6: what is not accepted is said, what is accepted is stored."""
    bounded = Bounded(publishes_per_second=3)
    line = bounded.enter("ann")
    answers = line.ask(*[PUBLISH | {"id": number} for number in range(1, 7)])
    assert kinds(answers) == ["published"] * 3 + ["rate_limited"] * 3
    assert [answer["id"] for answer in answers] == [1, 2, 3, 4, 5, 6]
    error = answers[-1]
    assert (error["retry"], error["retry_after_ms"]) == ("backoff", 334)
    assert "publishes_per_second" in error["message"]
    assert bounded.desk.logs[0].head() == 3
    bounded.desk.wait(200)
    assert line.ask_one(PUBLISH | {"id": 7})["retry_after_ms"] == 134
    bounded.desk.wait(134)
    assert line.ask_one(PUBLISH | {"id": 8})["type"] == "published"


def test_a_flood_without_ids_is_told_once_for_each_wait() -> None:
    """SPEC 11.7.2, S8."""
    bounded = Bounded(publishes_per_second=10)
    line = bounded.enter("ann")
    assert kinds(line.ask(*[PUBLISH] * 50)) == ["rate_limited"]
    assert line.ask(*[PUBLISH] * 50) == []
    bounded.desk.wait(1_000)
    assert kinds(line.ask(*[PUBLISH] * 50)) == ["rate_limited"]
    assert bounded.desk.logs[0].head() == 20


def test_all_that_is_sent_counts_as_bytes_of_utf8() -> None:
    """SPEC 11.7.3."""
    bounded = Bounded(bytes_per_second=500)
    line = bounded.enter("ann")
    assert line.ask_one(PUBLISH | {"id": 1, "data": "x" * 400})["type"] == "published"
    line.send_text(f'{{"type":"publish","id":2,"topic":"a","data":"{"ä" * 475}"}}')  # there was room for one byte
    assert kinds(line.drain()) == ["published"]
    error = line.ask_one(PUBLISH | {"id": 3})
    assert (error["name"], "bytes_per_second" in error["message"]) == ("rate_limited", True)
    assert 1_900 <= error["retry_after_ms"] <= 1_910  # 1,450 bytes, 500 of them at once
    assert line.ask_one({"type": "ping", "id": 4})["type"] == "pong"
    assert line.ask_one({"type": "history", "id": 5, "topic": "a"})["name"] == "rate_limited"


@pytest.mark.parametrize("packet", REQUESTS, ids=lambda packet: packet["type"])
def test_requests_take_of_their_rate(packet: Packet) -> None:
    """SPEC 11.7.1, S8."""
    bounded = Bounded(requests_per_second=1)
    line = bounded.enter("ann")
    for number in range(4):
        assert line.ask_one({"type": "history", "id": number + 1, "topic": "a"})["type"] == "history"
    error = line.ask_one(packet)
    assert (error["name"], error["id"], error.get("sub", 0)) == ("rate_limited", 7, packet.get("sub", 0))
    assert line.ask_one(PUBLISH | {"id": 8})["type"] == "published"
    assert line.ask_one({"type": "ping", "id": 9})["type"] == "pong"


def test_a_subscribe_without_id_is_answered_each_time() -> None:
    """SPEC 11.7.2: its `sub` says which one it was."""
    bounded = Bounded(requests_per_second=1)
    line = bounded.enter("ann")
    answers = line.ask(*[{"type": "subscribe", "sub": number, "filter": "a"} for number in range(1, 8)])
    assert [answer["sub"] for answer in answers if answer["type"] == "error"] == [5, 6, 7]
    bounded.desk.wait(1_000)
    (answer,) = line.ask({"type": "unsubscribe", "sub": 1, "id": 1})
    (answer,) = line.ask({"type": "subscribe", "sub": 5, "filter": "a"})
    assert answer["type"] == "subscribed"


@pytest.mark.parametrize("packet", CONTROLS, ids=lambda packet: packet["type"])
def test_all_other_packets_take_of_theirs(packet: Packet) -> None:
    """SPEC 11.7.1, S8."""
    bounded = Bounded(control_packets_per_second=2)
    line = bounded.enter("ann")
    line.ask({"type": "ping"}, {"type": "ping"})
    error = line.ask_one(packet)
    assert (error["name"], error["id"]) == ("rate_limited", 7)
    assert line.ask_one(PUBLISH | {"id": 8})["type"] == "published"
    assert line.ask_one({"type": "history", "id": 9, "topic": "a"})["type"] == "history"
    line.send({"type": "disconnect"})
    assert line.closed_with == 1000


def test_binary_messages_take_of_the_requests() -> None:
    bounded = Bounded(requests_per_second=1)  # and as many at once as there may be subscriptions
    line = bounded.enter("ann")
    for _ in range(9):
        line.send_binary(b"x")
    assert kinds(line.drain()) == ["unsupported"] * 4 + ["rate_limited"]


def test_s8_bytes_of_what_is_no_packet_are_bounded_and_settling_goes_on() -> None:
    """SPEC 11.7.3: whoever goes on is closed, as with any other flood."""
    bounded = Bounded(bytes_per_second=1_000, requests_per_second=1_000)
    line = bounded.enter("ann")
    rubbish = {"type": "nonsense", "id": 7, "x": "y" * 2_000}
    assert line.ask_one(rubbish)["name"] == "unsupported"
    assert line.ask_one(rubbish)["name"] == "rate_limited"
    ack = {"type": "ack", "id": 8, "sub": 1, "log": "m", "pos": 1}
    assert line.ask_one(ack)["name"] == "no_such_subscription"


def test_who_goes_on_is_closed_and_told_when_to_come_back() -> None:
    """SPEC 11.7.4, S8."""
    bounded = Bounded(Limits(max_refused_packets=100, max_subscriptions=4), publishes_per_second=1)
    line, other = bounded.enter("ann"), bounded.enter("bob")
    line.send(*[PUBLISH] * 200)
    assert (line.closed_with, line.reconnect_after_ms >= 5_000) == (CloseCode.OVERLOADED, True)
    assert other.ask_one(PUBLISH | {"id": 1})["type"] == "published"
    assert bounded.desk.node.rates.closed == 1


def test_connections_of_a_user_beyond_its_quota_are_sent_away() -> None:
    """SPEC 11.7.5."""
    bounded = Bounded(user_max_connections=2)
    first = bounded.enter("ann")
    bounded.enter("ann")
    refused = bounded.desk.dial()
    refused.send({"type": "connect", "id": 1, "token": "ann"})
    assert (refused.closed_with, refused.reconnect_after_ms) == (CloseCode.CONNECTION_LIMIT, 20_000)
    assert refused.read() == []
    refused.session.detach()
    assert bounded.enter("bob").session.is_connected
    replacing = bounded.enter("ann", replaces=first.session.connection_id)
    assert first.closed_with == CloseCode.REPLACED
    first.session.detach()
    replacing.session.detach()
    assert bounded.enter("ann").session.is_connected
    assert bounded.desk.node.rates.refused == {"user_max_connections": 1}


def test_the_will_of_a_connection_that_is_sent_away_is_none() -> None:
    """S29: else it would be a way to publish without end."""
    bounded = Bounded(tenant_max_connections=1)
    bounded.enter("bob")
    for _ in range(3):
        refused = bounded.desk.dial()
        refused.send({"type": "connect", "id": 1, "token": "ann", "will": {"topic": "a", "data": 1}})
        assert refused.closed_with == CloseCode.CONNECTION_LIMIT
        refused.session.detach()
    bounded.desk.wait(10_000)
    assert bounded.desk.logs[0].head() == 0


def test_who_names_another_ones_connection_has_no_place_more() -> None:
    bounded = Bounded(user_max_connections=1)
    bob = bounded.enter("bob")
    bounded.enter("ann")
    refused = bounded.desk.dial()
    refused.send({"type": "connect", "id": 1, "token": "ann", "replaces": bob.session.connection_id})
    assert refused.closed_with == CloseCode.CONNECTION_LIMIT


def test_subscriptions_of_a_tenant_are_counted_until_they_end() -> None:
    """SPEC 11.7.5."""
    bounded = Bounded(tenant_max_subscriptions=3, tenant_max_wildcard_subscriptions=2, max_subscriptions=3)
    ann, bob = bounded.enter("ann"), bounded.enter("bob")
    assert kinds(ann.subscribe(1, "#")) == kinds(bob.subscribe(1, "#")) == ["subscribed"]
    assert kinds(ann.subscribe(2, "+")) == ["quota"]
    assert kinds(ann.subscribe(2, "a")) == ["subscribed"]
    assert kinds(bob.subscribe(2, "a")) == ["quota"]
    ann.ask({"type": "unsubscribe", "sub": 1})
    assert kinds(bob.subscribe(2, "+")) == ["subscribed"]
    assert kinds(bob.subscribe(3, "a")) == ["quota"]
    ann.session.detach()
    assert kinds(bob.subscribe(4, "a")) == ["subscribed"]
    group = {"type": "subscribe", "id": 5, "sub": 5, "filter": "a", "group": "g"}
    assert kinds(bob.ask(group)) == ["quota"]


def test_another_token_brings_other_bounds() -> None:
    """SPEC 11.7.6."""
    bounded = Bounded(publishes_per_second=10, tenant_max_subscriptions=2)
    line = bounded.enter("ann")
    line.subscribe(1, "b")
    slower = {"publishes_per_second": 1}
    bounded.gate.know("slower", "ann", tenant="acme", method="token", limits=slower)
    line.ask({"type": "auth", "id": 2, "token": "slower"})
    answers = line.ask(*[PUBLISH | {"id": number} for number in range(1, 4)])
    assert kinds(answers) == ["published", "rate_limited", "rate_limited"]
    bob = bounded.enter("bob")
    assert kinds(bob.subscribe(1, "b")) == ["subscribed"]
    assert kinds(bob.subscribe(2, "b")) == ["quota"]


def test_clients_are_told_their_bounds() -> None:
    """SPEC 4.1.3, 11.7.6."""
    bounded = Bounded(publishes_per_second=10, user_max_connections=7)
    greeting = bounded.desk.dial().ask_one({"type": "connect", "id": 1, "token": "ann"})
    assert greeting["limits"] == {
        "max_packet_bytes": 65_536,
        "max_frame_bytes": 1_048_576,
        "max_subscriptions": 4,
        "max_inflight_publishes": 256,
        "dedupe_window_ms": 300_000,
        "max_wildcard_subscriptions": 100,
        "publishes_per_second": 10,
        "rate_burst_ms": 1_000,
        "user_max_connections": 7,
    }


def test_whoever_attends_for_a_client_of_another_node_has_no_bounds() -> None:
    """They hold where it is connected."""
    bounded = Bounded(publishes_per_second=1)
    line = bounded.desk.dial()
    line.session.attend("c-far", Identity("ann", "acme", method="token"))
    assert line.session.meter is bounded.desk.node.rates.unlimited
