"""Rates: what a connection, a user and a tenant may send, and what becomes of what is too much (SPEC 11.7, S8)."""

from typing import Any

import pytest
from triode_broker.config import Limits, Quota
from triode_broker.core import rates as module
from triode_broker.core.errors import Disconnect, Refused
from triode_broker.core.identity import OPEN, Identity
from triode_broker.core.quotas import Quotas
from triode_broker.core.rates import COMPLAIN_EVERY, MIN_WAIT_MS, Meter, Rates
from triode_broker.core.timers import Timers
from triode_protocol.errors import CloseCode, ErrorName

NOTHING: dict[str, Any] = dict.fromkeys(Quota.__struct_fields__[3:], 0)
ANN = Identity("ann", "acme", method="token")
BOB = Identity("bob", "acme", method="token")


class World:
    """A node's rates, and time."""

    def __init__(self, limits: Limits | None = None, **bounds: int) -> None:
        self.now_ms = 100_000
        self.timers = Timers(lambda: self.now_ms)
        self.limits = limits or Limits(max_inflight_publishes=10, max_subscriptions=10)
        self.rates = Rates(Quotas([Quota(**(NOTHING | bounds))]), self.limits, self.timers)

    def enter(self, identity: Identity = ANN) -> Meter:
        return self.rates.enter(identity)

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.timers.tick(self.now_ms)


def publish(meter: Meter, size: int = 10) -> int:
    """What a session does; 0, or for how long it is to wait."""
    meter.bytes.credit -= size
    meter.publishes.credit -= 1
    try:
        if meter.publishes.credit < 0 or meter.bytes.credit < 0:
            meter.publish()
    except Refused as refused:
        return refused.retry_after_ms if refused.name is ErrorName.RATE_LIMITED else -1
    return 0


def accepted(meter: Meter, count: int, size: int = 10) -> int:
    return sum(publish(meter, size) == 0 for _ in range(count))


def test_a_connection_publishes_at_its_rate() -> None:
    world = World(publishes_per_second=100)
    meter = world.enter()
    assert accepted(meter, 500) == 100
    assert publish(meter) == MIN_WAIT_MS + 1
    world.wait(50)
    assert publish(meter) == MIN_WAIT_MS - 50 + 1  # there is room, but it was told to wait
    world.wait(60)
    assert accepted(meter, 500) == 11
    assert world.rates.refused["publishes_per_second"] == 400 + 2 + 489
    assert meter.publishes.reason.name == "publishes_per_second"


def test_who_waits_as_told_gets_the_whole_rate_and_is_never_closed() -> None:
    """S8, G6: an honest client that always has as much on its way as it may."""
    world = World(Limits(), publishes_per_second=1_000)
    assert world.rates.min_wait_ms == 228  # (256 + 200) in it are less than 20,000 in 10 s
    meter = world.enter()
    done = 0
    while world.now_ms < 160_000:
        waits = [publish(meter) for _ in range(256)]
        done += waits.count(0)
        world.wait(max(waits) or 1)
    assert world.rates.refused["publishes_per_second"] > 1_000
    assert world.rates.closed == 0
    assert 60_000 <= done <= 62_000


def test_who_always_sends_all_it_may_again_at_once_after_each_wait_is_never_closed() -> None:
    """S8: the rate is so low that nearly everything is refused, for minutes."""
    world = World(Limits(), publishes_per_second=1, requests_per_second=1)
    meter = world.enter()
    while world.now_ms < 400_000:
        waits = [publish(meter) for _ in range(256)]
        world.wait(min(wait for wait in waits if wait))
    assert world.rates.closed == 0


def test_persistent_abuse_is_closed_and_told_when_to_come_back() -> None:
    world = World(Limits(max_refused_packets=500, refused_window_ms=10_000), publishes_per_second=10)
    meter = world.enter()
    with pytest.raises(Disconnect) as closed:
        accepted(meter, 1_000)
    assert closed.value.code == CloseCode.OVERLOADED
    assert closed.value.reconnect_after_ms == 9_121 or closed.value.reconnect_after_ms >= module.ABUSE_MS
    assert world.rates.refused["publishes_per_second"] == 501
    assert world.rates.closed == 1


def test_too_many_bytes_refuse_the_next_publish_whatever_its_size() -> None:
    world = World(bytes_per_second=1_000)
    meter = world.enter()
    assert publish(meter, 5_000) == 0
    assert publish(meter, 1) == 4_001 + 1
    world.wait(4_002)
    assert publish(meter, 900) == 0
    assert meter.publishes.reason.name == "bytes_per_second"


def test_a_packet_larger_than_what_was_taken_ahead_goes_through_and_is_paid() -> None:
    """In the long run a client that waits as told has all of its bytes, whatever the size of its packets."""
    world = World(Limits(), bytes_per_second=10_000)
    meter = world.enter()
    done = 0
    while world.now_ms < 400_000:
        waits = [publish(meter, 700) for _ in range(20)]
        done += waits.count(0) * 700
        world.wait(max(waits) or 1)
    assert 3_000_000 <= done <= 3_000_000 + 10_000 + 20 * 700


def test_what_settles_deliveries_is_not_held_up_by_bytes() -> None:
    world = World(bytes_per_second=1_000, control_packets_per_second=100)
    meter = world.enter()
    assert publish(meter, 50_000) == 0
    assert publish(meter) > 0
    for _ in range(100):
        meter.bytes.credit -= 100
        meter.control()
    with pytest.raises(Refused):
        meter.control()
    with pytest.raises(Refused):
        meter.request()


def test_requests_have_a_rate_of_their_own_and_room_for_all_subscriptions() -> None:
    """A client that comes back asks for all of them in one flight."""
    world = World(requests_per_second=2)
    meter = world.enter()
    for _ in range(world.limits.max_subscriptions):
        meter.request()
    with pytest.raises(Refused) as refused:
        meter.request()
    assert refused.value.retry_after_ms == 501
    assert refused.value.message == "requests_per_second is 2: come back in 501 ms"
    assert publish(meter) == 0


def test_a_user_has_one_rate_for_all_connections() -> None:
    world = World(user_publishes_per_second=100)
    meters = [world.enter() for _ in range(5)]
    other = world.enter(BOB)
    done = 0
    for _ in range(100):
        done += sum(accepted(meter, 1) for meter in meters)
    assert done == 100
    assert meters[0].publishes.reason.name == "user_publishes_per_second"
    assert accepted(other, 500) == 100


def test_a_tenant_has_one_rate_for_all_users_anonymous_ones_included() -> None:
    world = World(tenant_bytes_per_second=1_000, publishes_per_second=1_000)
    meters = [world.enter(Identity(user, "acme", method="token")) for user in ("ann", "bob", "", "")]
    assert sum(accepted(meter, 100, 100) for meter in meters) in (10, 11)
    assert accepted(world.enter(Identity("ann", "other")), 9, 100) == 9


def test_what_was_taken_ahead_goes_back_when_it_is_not_used() -> None:
    world = World(user_publishes_per_second=100)
    first, second = world.enter(), world.enter()
    assert publish(first) == 0
    assert first.publishes.credit == 5
    assert accepted(second, 500) == 94
    world.wait(100)
    assert first.publishes.credit == 0
    assert accepted(second, 500) == 5 + 10


def test_what_a_lost_connection_held_goes_back() -> None:
    world = World(user_publishes_per_second=100)
    first, second = world.enter(), world.enter()
    assert publish(first) == 0
    world.rates.leave(first)
    world.rates.leave(first)
    assert accepted(second, 500) == 99
    assert second.user is not None
    assert second.user.connections == 1


def test_connections_of_a_user_and_of_a_tenant_are_counted() -> None:
    world = World(user_max_connections=2, tenant_max_connections=3)
    told: list[tuple[Any, ...]] = []
    world.rates.complain = lambda *about, **facts: told.append((*about, facts))
    first = world.enter()
    world.enter()
    with pytest.raises(Disconnect) as closed:
        world.rates.enter(ANN, address="192.0.2.1")
    assert told == [("connection_refused", ANN, "192.0.2.1", "user_max_connections", {"most": 2})]
    assert closed.value.code == CloseCode.CONNECTION_LIMIT
    assert closed.value.reconnect_after_ms == world.limits.reconnect_max_ms
    world.rates.enter(ANN, returning=1)
    world.rates.leave(first)
    world.enter(BOB)
    with pytest.raises(Disconnect):
        world.enter(BOB)
    assert world.rates.refused == {"user_max_connections": 1, "tenant_max_connections": 1}


def test_whoever_has_no_bounds_costs_nothing() -> None:
    world = World()
    meter = world.enter(OPEN)
    assert world.enter(ANN) is meter
    assert meter.is_shared
    assert accepted(meter, 1_000, 10**9) == 1_000
    meter.request()
    meter.control()
    world.rates.leave(meter)
    assert world.timers.next_due_ms is None


def test_shared_meters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SHARED", 2)
    world = World()
    first = world.enter()
    for most in (1, 2, 3):
        world.rates.enter(Identity("ann", method="token", limits={"max_subscriptions": most}))
    assert world.enter() is not first


def test_another_token_changes_the_bounds_and_forgives_nothing() -> None:
    world = World(publishes_per_second=100, user_publishes_per_second=50)
    meter = world.enter()
    assert accepted(meter, 500) == 50
    assert world.rates.change(meter, ANN) is meter
    slower = Identity("ann", "acme", method="token", limits={"publishes_per_second": 10})
    changed = world.rates.change(meter, slower)
    assert changed.quota.publishes_per_second == 10
    assert changed.user is not None
    assert changed.user.connections == 1
    assert publish(changed) > 0
    world.wait(1_000)
    assert accepted(changed, 500) == 10
    assert meter.user is None


def test_who_is_refused_again_and_again_is_complained_about_and_who_is_closed() -> None:
    """S8: an operator finds out who it is; another token hides nothing."""
    world = World(publishes_per_second=10)
    told: list[tuple[Any, ...]] = []
    world.rates.complain = lambda *about, **facts: told.append((*about, facts))
    meter = world.rates.enter(ANN, address="192.0.2.1")
    assert accepted(meter, 10 + COMPLAIN_EVERY - 1) == 10
    assert (told, meter.refused) == ([], COMPLAIN_EVERY - 1)
    other = Identity("ann", "acme", method="token", limits={"publishes_per_second": 5})
    meter = world.rates.change(meter, other, address="192.0.2.1")
    publish(meter)
    facts = {"refused": COMPLAIN_EVERY}
    assert told == [("rate_limited", other, "192.0.2.1", "publishes_per_second", facts)]
    told.clear()
    with pytest.raises(Disconnect):
        accepted(meter, 2 * world.limits.max_refused_packets)
    event, who, address, limit, facts = told[-1]
    assert (event, who, address, limit) == ("closed_for_rate", other, "192.0.2.1", "publishes_per_second")
    assert facts == {"refused": meter.refused}


def test_another_token_may_take_all_bounds_away() -> None:
    world = World(publishes_per_second=100)
    rates = Rates(Quotas([Quota(role="free", **NOTHING)]), world.limits, world.timers)
    meter = rates.enter(ANN)
    free = rates.change(meter, Identity("ann", "acme", roles=frozenset({"free"})))
    assert free.is_shared
    assert free._strikes is None


def test_packets_without_id_are_told_once_for_each_wait() -> None:
    """SPEC 11.7: an error for each packet of a flood would be one more flood."""
    world = World(publishes_per_second=10, control_packets_per_second=10)
    meter = world.enter()
    accepted(meter, 10)

    def silent(id: int = 0, sub: int = 0, *, control: bool = False) -> bool:
        refused = Refused(ErrorName.RATE_LIMITED, "")
        meter.publishes.credit -= 1
        with pytest.raises(Refused):
            (meter.control if control else meter.publish)()
        refused.id, refused.sub = id, sub
        return meter.keeps_silent(refused)

    assert [silent(), silent(), silent(7), silent(0, 7), silent()] == [False, True, False, False, True]
    world.wait(MIN_WAIT_MS + 1)
    accepted(meter, 10)
    assert [silent(), silent()] == [False, True]
    for _ in range(10):
        meter.control()
    assert [silent(0, 7, control=True), silent(0, 7, control=True)] == [False, True]
    assert not meter.keeps_silent(Refused(ErrorName.MALFORMED, ""))


def test_subscriptions_are_bounded_by_connection_and_tenant() -> None:
    world = World(
        max_subscriptions=4,
        max_wildcard_subscriptions=2,
        tenant_max_subscriptions=6,
        tenant_max_wildcard_subscriptions=3,
    )
    meter = world.enter()
    meter.check_room(3, 2, is_wildcard=False)
    for count, wildcards, is_wildcard in ((4, 0, False), (3, 2, True)):
        with pytest.raises(Refused) as refused:
            meter.check_room(count, wildcards, is_wildcard=is_wildcard)
        assert refused.value.name is ErrorName.QUOTA
    world.enter(BOB).subscribed(5, 3)
    meter.check_room(0, 0, is_wildcard=False)
    with pytest.raises(Refused, match="tenant"):
        meter.check_room(0, 0, is_wildcard=True)
    meter.subscribed(1, 0)
    with pytest.raises(Refused, match="tenant"):
        meter.check_room(0, 0, is_wildcard=False)
    meter.subscribed(-1, 0)
    meter.check_room(0, 0, is_wildcard=False)


def test_subscriptions_without_a_quota_are_those_of_the_limits() -> None:
    world = World()
    meter = world.enter()
    meter.check_room(9, 0, is_wildcard=True)
    meter.subscribed(1, 1)
    with pytest.raises(Refused):
        meter.check_room(10, 0, is_wildcard=False)
