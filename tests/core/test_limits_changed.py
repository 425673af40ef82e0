"""Limits, quotas and rules that change while clients are connected: what each part of the core does (S14, G6).

All parts of a node hold one `Limits`; here it is changed in place, as `reloading` does.
"""

from typing import Any

import pytest
from msgspec.structs import replace
from triode_broker.config import Limits, Quota, TopicRule
from triode_broker.config.effects import alive, follow
from triode_broker.core.message_ids import ENTRY_OVERHEAD_BYTES, MessageIds, Remembered
from triode_broker.core.policy import Policies
from triode_broker.core.quotas import Quotas
from triode_broker.core.rates import Rates
from triode_broker.core.session import Session
from triode_protocol.errors import CloseCode

from tests.core.desk import Desk, Packet
from tests.core.gatekeeper import Guarded
from tests.core.test_admission import TEN_A_SECOND, Door

PUBLISH: Packet = {"type": "publish", "topic": "a", "data": 1}


def change(desk: Desk, **values: Any) -> None:
    """Other limits from now on."""
    follow(desk.limits, replace(desk.limits, **values))
    desk.node.limits_changed()


def a_desk(**values: Any) -> Desk:
    return Desk(limits=alive(Limits(**values)))


def test_only_what_is_another_value_is_told_as_changed() -> None:
    living = alive(Limits())
    assert living is not Limits()
    assert follow(living, Limits(ping_ms=1, max_headers=2)) == ["max_headers", "ping_ms"]
    assert (living.ping_ms, living.max_headers) == (1, 2)
    assert follow(living, Limits(ping_ms=1, max_headers=2)) == []


def test_a_bound_that_falls_takes_nothing_away_and_lets_nothing_more_in() -> None:
    desk = a_desk(max_subscriptions=3)
    line = desk.connect()
    for sub in (1, 2):
        assert (
            line.ask_one({"type": "subscribe", "id": sub, "sub": sub, "filter": f"t{sub}"})["type"] == "subscribed"
        )
    change(desk, max_subscriptions=1)
    assert line.ask_one({"type": "subscribe", "id": 3, "sub": 3, "filter": "t3"})["name"] == "quota"
    other = desk.connect()
    assert other.ask_one(PUBLISH | {"topic": "t2", "id": 1})["type"] == "published"
    assert [packet["type"] for packet in line.read()] == ["message"]
    change(desk, max_subscriptions=3)
    assert line.ask_one({"type": "subscribe", "id": 3, "sub": 3, "filter": "t3"})["type"] == "subscribed"


def test_what_newcomers_are_told_is_what_holds_for_them() -> None:
    """SPEC 4.1, 7.2."""
    desk = a_desk()
    desk.connect()
    change(desk, max_packet_bytes=1_000, reconnect_max_ms=7_000, max_delay_seconds=0)
    line = desk.dial()
    connected = line.ask_one({"type": "connect", "id": 1})
    assert connected["limits"]["max_packet_bytes"] == 1_000
    assert connected["reconnect"]["max_ms"] == 7_000
    assert "delay" not in connected["capabilities"]
    later = {**PUBLISH, "id": 2, "deliver_at_ms": desk.now_ms + 60_000}
    assert line.ask_one(later)["name"] == "unsupported"
    change(desk, max_delay_seconds=10)
    assert line.ask_one(later)["name"] == "too_large"
    change(desk, max_delay_seconds=60)
    assert line.ask_one(later)["delayed"] is True


def test_topics_beyond_a_bound_that_fell_are_forgotten_when_the_next_one_comes() -> None:
    desk = a_desk()
    line = desk.connect()
    for number in range(6):
        line.ask_one({**PUBLISH, "id": 1, "topic": f"t{number}"})
    assert len(desk.node.router.topics()) == 6
    change(desk, max_shard_topics=1)
    line.ask_one({**PUBLISH, "id": 1, "topic": "new"})
    assert len(desk.node.router.topics()) == len(desk.node.router.shards)


def test_message_ids_beyond_a_bound_that_fell_are_forgotten_at_once() -> None:
    ids = MessageIds(10_000)
    for number in range(4):
        ids.remember(Remembered(("t", "", str(number)), 0, 1, 1, 100))
    ids.bound(2 * (ENTRY_OVERHEAD_BYTES + 1))
    assert [entry.key[2] for entry in ids.entries()] == ["2", "3"]
    ids.bound(10_000)
    assert len(ids) == 2


@pytest.mark.parametrize("rate", [0, 1_000])
def test_who_waits_to_be_admitted_comes_in_when_the_rate_rises(rate: int) -> None:
    """SPEC 3.1.7."""
    living = alive(Limits(**TEN_A_SECOND))
    door = Door()
    door.admission = type(door.admission)(living, door.timers)
    for name in "abcd":
        door.ask(name, is_resuming=name == "d")
    assert door.wait(0) == ["a", "b"]
    follow(living, replace(living, max_connects_per_second=rate))
    door.admission.limits_changed()
    assert door.wait(20) == ["d", "c"]
    assert not door.admission.waiting


def test_where_there_was_no_rate_a_whole_burst_is_there_at_first() -> None:
    living = alive(Limits(max_connects_per_second=0))
    door = Door()
    door.admission = type(door.admission)(living, door.timers)
    follow(living, replace(living, **TEN_A_SECOND))
    door.admission.limits_changed()
    for name in "abc":
        door.ask(name)
    assert door.wait(0) == ["a", "b"]
    assert door.admission.waiting == 1


def quota(**bounds: int) -> Quota:
    values: dict[str, Any] = dict.fromkeys(Quota.__struct_fields__[3:], 0) | bounds
    return Quota(**values)


class Metered(Guarded):
    """A desk with quotas that can be changed, and a client of them."""

    def __init__(self, **bounds: int) -> None:
        super().__init__(limits=alive(Limits(max_subscriptions=4)))
        self.quotas = Quotas([quota(**bounds)])
        node = self.desk.node
        node.rates = Rates(self.quotas, self.desk.limits, node.timers)
        self.gate.know("ann", "ann", tenant="acme", method="token")
        self.line = self.enter("ann")

    def put(self, **bounds: int) -> None:
        """Other quotas, for who is connected too."""
        self.quotas.put([quota(**bounds)])
        Session.meter_anew(self.line.session)

    def kinds(self, count: int) -> list[str]:
        """What so many publishes are answered."""
        answers = self.line.ask(*[PUBLISH | {"id": number} for number in range(1, count + 1)])
        return [answer.get("name") or answer["type"] for answer in answers]


def test_a_rate_of_the_settings_holds_for_who_is_connected_as_soon_as_it_is_another() -> None:
    """SPEC 11.7.1."""
    metered = Metered()
    assert metered.line.session.meter.is_shared
    assert metered.kinds(5) == ["published"] * 5
    metered.put(publishes_per_second=2)
    assert metered.kinds(3) == ["published"] * 2 + ["rate_limited"]
    metered.put(publishes_per_second=100)
    metered.desk.wait(1_000)
    assert metered.kinds(5) == ["published"] * 5
    metered.put()
    assert metered.line.session.meter.is_shared
    assert metered.kinds(200) == ["published"] * 200


def test_who_has_used_up_what_may_be_refused_has_not_got_it_back_with_other_limits() -> None:
    """S8: but more of it, where there is more."""
    metered = Metered(publishes_per_second=1)
    desk = metered.desk
    change(desk, max_refused_packets=5, refused_window_ms=10_000)
    Session.meter_anew(metered.line.session)
    assert metered.kinds(5) == ["published"] + ["rate_limited"] * 4
    change(desk, max_refused_packets=2)
    Session.meter_anew(metered.line.session)
    metered.line.ask(*[PUBLISH | {"id": 1}] * 3)
    assert metered.line.closed_with == CloseCode.OVERLOADED


def test_a_user_with_more_connections_than_it_may_have_now_keeps_them() -> None:
    metered = Metered(user_max_connections=3)
    metered.enter("ann")
    metered.put(user_max_connections=1)
    assert metered.line.ask_one({"type": "ping", "id": 1})["type"] == "pong"
    refused = metered.desk.dial()
    refused.send({"type": "connect", "id": 1, "token": "ann"})
    assert refused.closed_with == CloseCode.CONNECTION_LIMIT


def test_rules_are_other_ones_and_what_a_filter_covers_stays() -> None:
    """A subscription ends at the shards where it began."""
    policies = Policies([TopicRule("jobs/#", "disk"), TopicRule("jobs/a", "memory", ttl_seconds=5)])
    assert policies.of("jobs/a").ttl_seconds == 0
    covered = policies.storages("jobs/+")
    policies.put([TopicRule("jobs/#", "disk", ttl_seconds=7)])
    assert policies.of("jobs/a").ttl_seconds == 7
    assert policies.storages("jobs/+") == covered
