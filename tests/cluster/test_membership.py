"""Who is dead: closed for 3 s or silent for 10 s for everybody who can be reached (issue of half partitions)."""

import attrs
import pytest
from triode_broker.cluster.frames import Heard
from triode_broker.cluster.membership import (
    CLOSED_MS,
    FORGET_MS,
    MAX_LIVES,
    MAX_NODES,
    SILENT_MS,
    TAKEN_MS,
    Membership,
)
from triode_broker.config import Limits

from tests.cluster.town import Town


@attrs.define
class Clock:
    """Of one node."""

    now: int = 50_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nodes(clock: Clock) -> Membership:
    """Node n1."""
    return Membership("n1", "one", clock)


def after(clock: Clock, nodes: Membership, ms: int) -> list[tuple[str, str]]:
    """Time passes, then a tick."""
    clock.now += ms
    return nodes.tick()


def test_open_link_is_alive_until_it_is_silent_for_10_s(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    assert nodes.live() == ["n1", "n2"]
    assert after(clock, nodes, SILENT_MS - 1) == []
    nodes.heard_from("n2", "two")
    assert after(clock, nodes, SILENT_MS - 1) == []
    assert after(clock, nodes, 1) == [("n2", "two")]
    assert after(clock, nodes, 1) == []
    assert nodes.live() == ["n1"]
    assert nodes.incarnation_of("n2") is None


def test_closed_links_are_dead_after_3_s(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_opened("n2", "two")
    nodes.link_closed("n2", "two")
    assert after(clock, nodes, CLOSED_MS) == []
    nodes.link_closed("n2", "two")
    assert after(clock, nodes, CLOSED_MS - 1) == []
    assert nodes.live() == ["n1", "n2"]
    assert after(clock, nodes, 1) == [("n2", "two")]
    assert nodes.is_dead("n2", "two")


def test_link_closed_for_its_silence_does_not_make_it_13_s(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    clock.now += SILENT_MS
    nodes.link_closed("n2", "two")
    assert nodes.report() == {"n2": Heard("two", is_closed=False, ms=SILENT_MS)}
    assert nodes.tick() == [("n2", "two")]


def test_flap_begins_the_3_s_anew(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    for _ in range(5):
        nodes.link_closed("n2", "two")
        assert after(clock, nodes, CLOSED_MS - 1) == []
        nodes.link_opened("n2", "two")


def test_closing_what_is_not_open_is_nothing(clock: Clock, nodes: Membership) -> None:
    nodes.link_closed("n2", "two")
    nodes.heard_from("n2", "two")
    nodes.take_leave("n2", "two")
    assert not nodes.has_left("n2")
    assert nodes.is_alone()
    nodes.link_opened("n2", "two")
    nodes.link_closed("n2", "two")
    nodes.link_closed("n2", "two")
    assert nodes.linked() == []


def test_peer_that_hears_a_node_objects_to_its_death(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_opened("n3", "three")
    nodes.link_closed("n2", "two")
    for _ in range(10):
        nodes.heard_from("n3", "three")
        nodes.heard_of("n3", {"n2": Heard("two", is_closed=False, ms=200)})
        assert after(clock, nodes, 1_000) == []
    nodes.heard_from("n3", "three")
    nodes.heard_of("n3", {"n2": Heard("two", is_closed=True, ms=2_000)})
    assert after(clock, nodes, 999) == []
    assert after(clock, nodes, 1) == [("n2", "two")]


def test_peer_that_is_not_heard_any_more_does_not_count(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_opened("n3", "three")
    nodes.heard_of("n3", {"n2": Heard("two", is_closed=False, ms=0)})
    nodes.link_closed("n2", "two")
    assert after(clock, nodes, SILENT_MS - 1) == []
    assert after(clock, nodes, 1) == [("n2", "two"), ("n3", "three")]


def test_report_of_a_peer_whose_links_closed_is_gone(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_opened("n3", "three")
    nodes.heard_of("n3", {"n2": Heard("two", is_closed=False, ms=0)})
    nodes.link_closed("n2", "two")
    nodes.link_closed("n3", "three")
    nodes.heard_of("n3", {"n2": Heard("two", is_closed=False, ms=0)})
    assert after(clock, nodes, CLOSED_MS) == [("n2", "two"), ("n3", "three")]


def test_peer_that_does_not_know_a_node_or_only_its_other_life_does_not_object(
    clock: Clock, nodes: Membership
) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_opened("n3", "three")
    nodes.link_opened("n4", "four")
    nodes.link_closed("n2", "two")
    nodes.heard_of("n3", {})
    nodes.heard_of("n4", {"n2": Heard("other", is_closed=True, ms=9_000)})
    assert after(clock, nodes, CLOSED_MS) == [("n2", "two")]


def test_new_life_on_a_link_ends_the_old_one_at_once(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_closed("n2", "two")
    nodes.link_opened("n2", "two again")
    assert nodes.is_dead("n2", "two")
    assert nodes.tick() == [("n2", "two")]
    assert nodes.incarnation_of("n2") == "two again"
    assert not nodes.admits("n2", "two")
    assert nodes.live() == ["n1", "n2"]


def test_second_life_beside_one_that_is_heard_is_not_admitted(clock: Clock, nodes: Membership) -> None:
    assert nodes.admits("n2", "two")
    nodes.link_opened("n2", "two")
    assert nodes.admits("n2", "two")
    assert not nodes.admits("n2", "twin")
    clock.now += TAKEN_MS
    assert nodes.admits("n2", "twin")
    assert not nodes.admits("n1", "me elsewhere")


def test_hearsay_of_a_new_life_ends_nothing_but_counts_as_a_node(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_opened("n3", "three")
    nodes.heard_of("n3", {"n2": Heard("two again", is_closed=False, ms=0), "n4": Heard("four", False, 0)})
    assert not nodes.is_dead("n2", "two")
    assert nodes.live() == ["n1", "n2", "n3", "n4"]
    nodes.link_closed("n2", "two")
    clock.now += 2_000
    nodes.heard_from("n3", "three")
    nodes.heard_of("n3", {"n2": Heard("two again", is_closed=False, ms=0)})
    assert after(clock, nodes, 1_000) == [("n2", "two"), ("n4", "four")]
    assert nodes.incarnation_of("n2") == "two again"


def test_dead_node_that_is_heard_again_is_alive(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    assert after(clock, nodes, SILENT_MS) == [("n2", "two")]
    nodes.heard_from("n2", "two")
    assert not nodes.is_dead("n2", "two")
    assert nodes.tick() == []
    nodes.link_closed("n2", "two")
    assert after(clock, nodes, CLOSED_MS) == [("n2", "two")]
    nodes.link_opened("n3", "three")
    nodes.heard_of("n3", {"n2": Heard("two", is_closed=False, ms=0)})
    assert nodes.tick() == []
    assert not nodes.is_dead("n2", "two")


def test_name_in_a_table_is_no_candidate_and_dead_in_3_s(clock: Clock, nodes: Membership) -> None:
    nodes.mention("n2", "two")
    assert nodes.mention("n1", "me before") is None
    assert not nodes.is_dead("n2", "two")
    assert nodes.live() == ["n1"]
    assert nodes.incarnation_of("n2") is None
    assert nodes.unreachable() == []
    assert after(clock, nodes, CLOSED_MS) == [("n2", "two")]


def test_own_lives_but_the_present_one_are_dead(nodes: Membership) -> None:
    assert not nodes.is_dead("n1", "one")
    assert nodes.is_dead("n1", "zero")
    assert nodes.is_dead("n9", "never spoken of")
    assert nodes.incarnation_of("n1") == "one"


def test_report_says_what_was_heard_first_hand(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_opened("n3", "three")
    nodes.heard_of("n3", {"n4": Heard("four", is_closed=False, ms=0)})
    clock.now += 100
    nodes.link_closed("n2", "two")
    clock.now += 50
    assert nodes.report() == {"n2": Heard("two", True, 50), "n3": Heard("three", False, 150)}
    assert after(clock, nodes, CLOSED_MS) == [("n2", "two")]
    assert list(nodes.report()) == ["n3"]


def test_unreachable_names_who_is_missed(clock: Clock, nodes: Membership) -> None:
    for node in ("n2", "n3", "n4"):
        nodes.link_opened(node, "i")
    nodes.link_closed("n2", "i")
    nodes.take_leave("n4", "i")
    nodes.link_closed("n4", "i")
    clock.now += 1_000
    assert nodes.unreachable() == [("n2", 1_000)]
    clock.now += TAKEN_MS
    assert nodes.unreachable() == [("n2", 4_000), ("n3", 4_000)]
    assert nodes.has_left("n4")
    assert not nodes.has_left("n2")


def test_renewed_node_blames_nobody_for_its_sleep(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    clock.now += 60_000
    nodes.renew("one again")
    assert nodes.linked() == []
    assert nodes.is_dead("n1", "one")
    assert nodes.tick() == []
    assert after(clock, nodes, CLOSED_MS) == [("n2", "two")]


def test_sleep_raises_nobody_from_the_dead_and_who_has_left_is_not_spoken_of(
    clock: Clock, nodes: Membership
) -> None:
    """Or a peer that has just started misses a node that went long ago."""
    for node in ("n2", "n3"):
        nodes.link_opened(node, "two")
    nodes.take_leave("n3", "two")
    assert list(nodes.report()) == ["n2"]
    nodes.link_closed("n2", "two")
    after(clock, nodes, CLOSED_MS)
    assert nodes.is_dead("n2", "two")
    nodes.renew("one again")
    nodes.tick()
    assert nodes.report() == {}


def test_long_dead_are_forgotten(clock: Clock, nodes: Membership) -> None:
    nodes.link_opened("n2", "two")
    nodes.link_closed("n2", "two")
    nodes.link_opened("n2", "two again")
    nodes.tick()
    assert after(clock, nodes, FORGET_MS) == [("n2", "two again")]
    assert nodes.is_dead("n2", "two")
    assert after(clock, nodes, FORGET_MS) == []
    assert nodes.is_alone()


def test_settings_say_when_a_node_is_dead(clock: Clock) -> None:
    nodes = Membership("n1", "one", clock, Limits(peer_closed_ms=700, peer_silent_ms=1_500))
    nodes.link_opened("n2", "two")
    nodes.link_opened("n3", "three")
    nodes.link_closed("n2", "two")
    nodes.heard_of("n3", {"n2": Heard("two", is_closed=True, ms=500)})
    assert after(clock, nodes, 699) == []
    assert after(clock, nodes, 1) == [("n2", "two")]
    assert after(clock, nodes, 799) == []
    assert after(clock, nodes, 1) == [("n3", "three")]


@pytest.mark.parametrize(("closed_ms", "is_dead"), [(800, True), (CLOSED_MS, False)])
def test_a_node_takes_them_from_its_limits(closed_ms: int, is_dead: bool) -> None:
    town = Town(3, limits=Limits(peer_closed_ms=closed_ms))
    n1, n2, n3 = town.citizens
    town.cut(n3, n1)
    town.cut(n3, n2)
    town.wait(1_000)
    assert ("n3" not in n1.cluster.membership.live()) is is_dead


@pytest.mark.parametrize("name", ["", "N4", "n 4", "n4\n", "\x1b[2J", "n" * 65])
def test_what_is_no_name_is_not_taken_from_a_ping(clock: Clock, nodes: Membership, name: str) -> None:
    nodes.link_opened("n2", "two")
    nodes.heard_of("n2", {name: Heard("four", is_closed=False, ms=0), "n3": Heard("three", is_closed=False, ms=0)})
    assert not nodes.knows(name)
    assert nodes.knows("n3")
    assert nodes.live() == ["n1", "n2", "n3"]


def test_nodes_and_lives_are_bounded(clock: Clock, nodes: Membership) -> None:
    for number in range(MAX_NODES):
        clock.now += 1
        nodes.link_opened(f"x{number:03}", "i")
    assert nodes.mention("n2", "two") is None
    nodes.link_opened("n2", "two")
    assert nodes.is_dead("n2", "two")  # there is no room for it among 256 with links
    nodes.link_closed("x007", "i")
    nodes.link_closed("x009", "i")
    assert nodes.mention("n2", "two") is None
    nodes.link_opened("n2", "two")
    assert not nodes.is_dead("n2", "two")
    assert nodes.incarnation_of("x007") is None
    for number in range(MAX_LIVES + 3):
        nodes.mention("n2", f"life {number}")
    assert not nodes.is_dead("n2", "two")
    assert nodes.is_dead("n2", "life 0")
    assert after(clock, nodes, CLOSED_MS)
    assert nodes.mention("n3", "three") is not None  # in place of x009, which is dead
