"""Ownership, rule by rule (G8): claims, seals, durable announcers, sleeps, hand-over. The model has the rest."""

import attrs
import pytest
from triode_broker.cluster.frames import Entry, Heard
from triode_broker.cluster.membership import CLOSED_MS, Membership
from triode_broker.cluster.ownership import (
    ALONE_MS,
    BEREFT_HEIR_MS,
    EPOCHS_PER_OPENING,
    FENCE_MS,
    GRACE_MS,
    HEIR_MS,
    PATIENCE_MS,
    SUCCESSOR_MS,
    Ownership,
    knows_no_log,
)
from triode_broker.cluster.table import MAX_EPOCH, Table

ME = "life"


@attrs.define
class Node:
    """Ownership on a node called n2, and what it did."""

    holders: list[str] = attrs.field(factory=list)
    seeds: list[str] = attrs.field(factory=list)
    durable: dict[str, tuple[int, str]] = attrs.field(factory=dict)
    creates_stores: bool = False
    memory: int = 2
    now: int = 1_000
    done: list[tuple[str, str]] = attrs.field(factory=list)
    announced: list[Entry] = attrs.field(factory=list)
    changes: list[Entry] = attrs.field(factory=list)
    renews_at_once: bool = True
    lives: int = 0
    ownership: Ownership = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Start."""
        self.ownership = Ownership(
            Table(self.memory, self.holders),
            Membership("n2", ME, lambda: self.now),
            self,
            lambda: self.now,
            durable=self.durable,
            seeds=self.seeds,
            creates_stores=self.creates_stores,
        )

    def own(self, shard: str, epoch: int) -> str:
        self.done.append(("own", shard))
        return f"{shard}-mine{epoch}"

    def seal(self, shard: str) -> None:
        self.done.append(("seal", shard))

    def announce(self, entries: list[Entry]) -> None:
        self.announced += entries

    def changed(self, entry: Entry) -> None:
        self.changes.append(entry)

    def orphaned(self, shard: str) -> None:
        self.done.append(("orphaned", shard))

    def woke_late(self) -> None:
        self.done.append(("woke", ""))
        for life in self.ownership.membership.linked():
            self.ownership.membership.link_closed(life.node, life.incarnation)
        if self.renews_at_once:
            self.renew()

    def renew(self) -> None:
        """A new incarnation."""
        self.lives += 1
        self.ownership.renew(f"{ME}{self.lives}")

    def after(self, ms: int) -> None:
        """Tick through so much time; linked peers are heard."""
        until = self.now + ms
        while self.now < until:
            self.now = min(until, self.now + 500)
            for life in self.ownership.membership.linked():
                self.ownership.membership.heard_from(life.node, life.incarnation)
            self.ownership.tick()

    def meet(self, node: str, incarnation: str, *entries: Entry) -> None:
        """A link, and its first table."""
        self.ownership.membership.link_opened(node, incarnation)
        self.ownership.received(node, incarnation, entries)

    def lose(self, node: str, incarnation: str) -> None:
        """Its link closes, and it is found dead."""
        self.ownership.membership.link_closed(node, incarnation)
        self.after(CLOSED_MS)

    def owners(self) -> dict[str, tuple[int, str, str]]:
        """Of memory shards: epoch, node and log."""
        table = self.ownership.table
        return {
            shard: (entry.epoch, entry.node, entry.log) for shard in table.memory if (entry := table.get(shard))
        }


def theirs(shard: str, epoch: int = 1, node: str = "n1", incarnation: str = "one", heir: str = "") -> Entry:
    """Another node's entry."""
    return Entry(shard, epoch, node, incarnation, f"{shard}-{node}{epoch}", heir)


def test_node_without_seeds_claims_everything_at_its_first_tick() -> None:
    node = Node()
    node.ownership.tick()
    assert node.owners() == {"m0": (1, "n2", "m0-mine1"), "m1": (1, "n2", "m1-mine1")}
    assert node.announced == node.changes == node.ownership.table.entries()
    assert node.ownership.owns("m0")
    assert not node.ownership.is_orphan("m0")
    assert node.ownership.degraded() == []


def test_start_waits_for_every_seed_or_3_s() -> None:
    node = Node(seeds=["a", "b"])
    node.ownership.seed_answered("a")
    node.ownership.tick()
    assert node.owners() == {}
    assert "shard m0: no owner" in node.ownership.degraded()
    node.ownership.seed_answered("b")
    node.ownership.tick()
    assert len(node.owners()) == 2
    patient = Node(seeds=["a"])
    patient.after(GRACE_MS - 500)
    assert patient.owners() == {}
    patient.after(500)
    assert len(patient.owners()) == 2
    assert patient.ownership.missed_seeds() == ["a"]


def test_outcast_claims_nothing_until_it_is_none_any_more() -> None:
    """What the others own is not known to it: a log of its own would be a second one."""
    node = Node(seeds=["a"])
    node.ownership.is_outcast = True
    node.after(ALONE_MS)
    assert node.owners() == {}
    node.ownership.is_outcast = False
    node.after(500)
    assert len(node.owners()) == 2


def test_claims_wait_for_the_table_of_a_new_link() -> None:
    node = Node(seeds=[])
    node.ownership.membership.link_opened("n3", "three")
    node.after(GRACE_MS - 500)
    assert node.owners() == {}
    node.ownership.received("n3", "three", [])
    node.ownership.tick()
    assert node.owners() == {"m0": (1, "n2", "m0-mine1")}


def test_claims_go_to_who_owns_fewest_ties_by_name() -> None:
    node = Node(memory=6)
    node.meet("n1", "one", theirs("m0"), theirs("m1"))
    node.meet("n3", "three", theirs("m5", node="n3", incarnation="three"))
    assert node.ownership.claimers() == {"m2": "n2", "m3": "n2", "m4": "n3"}
    node.ownership.tick()
    assert {shard: owner[1] for shard, owner in node.owners().items()} == {
        "m0": "n1",
        "m1": "n1",
        "m2": "n2",
        "m3": "n2",
        "m5": "n3",
    }


def test_joining_node_claims_nothing_that_is_owned() -> None:
    node = Node()
    node.meet("n1", "one", theirs("m0"), theirs("m1"))
    node.after(10_000)
    assert node.done == []
    assert [entry.node for entry in node.changes] == ["n1", "n1"]


def test_dead_owners_shards_are_claimed_with_the_next_epoch() -> None:
    node = Node()
    node.meet("n1", "one", theirs("m0", 4), theirs("m1", 7))
    node.lose("n1", "one")
    assert node.owners() == {"m0": (5, "n2", "m0-mine5"), "m1": (8, "n2", "m1-mine8")}
    assert node.done == [("orphaned", "m0"), ("orphaned", "m1"), ("own", "m0"), ("own", "m1")]


def test_shard_whose_epochs_are_used_up_is_claimed_by_nobody() -> None:
    """Only a broken node gets there. A claim that does not count would be made anew at every tick."""
    node = Node()
    node.meet("n1", "one", theirs("m0", MAX_EPOCH), theirs("m1", MAX_EPOCH - 1))
    node.lose("n1", "one")
    node.after(5_000)
    assert [what for what in node.done if what[0] == "own"] == [("own", "m1")]
    assert not node.ownership.owns("m0")
    assert "shard m0: no owner" in node.ownership.degraded()


def test_log_is_not_adopted_where_no_epoch_is_left() -> None:
    node = Node()
    node.meet("n1", "one", theirs("m0", MAX_EPOCH, heir=f"n2/{ME}"))
    assert not node.ownership.adopt("m0", f"m0-n1{MAX_EPOCH}")
    assert not node.ownership.owns("m0")


def test_owner_that_is_heard_again_before_a_claim_still_owns() -> None:
    node = Node()
    node.ownership.leaving()
    node.meet("n1", "one", theirs("m0"))
    node.lose("n1", "one")
    assert node.done == [("orphaned", "m0")]
    assert node.ownership.is_orphan("m0")
    node.ownership.membership.link_opened("n1", "one")
    node.ownership.tick()
    assert not node.ownership.is_orphan("m0")
    assert node.changes == [theirs("m0"), theirs("m0")]


@pytest.mark.parametrize(("rival", "is_lost"), [("n3", True), ("n1", False)])
def test_of_two_claimers_the_greater_epoch_and_node_wins(rival: str, is_lost: bool) -> None:
    node = Node()
    node.ownership.tick()
    node.meet(rival, "r", theirs("m0", 1, rival, "r"))
    assert (("seal", "m0") in node.done) == is_lost
    assert node.ownership.owns("m0") != is_lost
    assert node.ownership.owns("m1")
    assert (node.changes[-1] == theirs("m0", 1, rival, "r")) == is_lost


def test_news_is_passed_on_once() -> None:
    node = Node()
    node.meet("n1", "one", theirs("m0"))
    node.ownership.received("n1", "one", [theirs("m0")])
    assert node.announced == [theirs("m0")]


def test_peer_is_heard_when_its_present_lifes_table_was_taken_in() -> None:
    node = Node()
    assert not node.ownership.has_heard("n1")
    node.meet("n1", "one")
    assert node.ownership.has_heard("n1")
    node.ownership.membership.link_opened("n1", "one again")
    assert not node.ownership.has_heard("n1")
    node.ownership.received("n1", "one again", [])
    assert node.ownership.has_heard("n1")


def test_owner_that_nobody_ever_met_is_an_orphans_in_3_s() -> None:
    node = Node()
    node.meet("n1", "one", theirs("m0", node="n9"), theirs("m1"))
    node.after(CLOSED_MS - 500)
    assert not node.ownership.is_orphan("m0")
    node.after(500)
    assert node.owners()["m0"][:2] == (2, "n2")


def test_entry_for_no_shard_of_ours_is_dropped_without_a_trace() -> None:
    node = Node()
    node.ownership.received("n1", "one", [theirs("m9", node="n9")])
    assert node.ownership.table.dropped == 1
    assert node.ownership.membership.is_alone()


def test_candidate_that_does_not_claim_is_passed_over_until_it_takes_something() -> None:
    node = Node(memory=1)
    node.meet("n1", "one")
    node.after(PATIENCE_MS)
    assert node.owners() == {}
    node.after(1_000)
    assert node.owners() == {"m0": (1, "n2", "m0-mine1")}
    assert node.ownership.claimers() == {}
    node.ownership.received("n1", "one", [theirs("m0", 2)])
    node.ownership.received("n1", "one", [Entry("m0", 3, "n1", "one", "")])
    assert node.ownership.claimers() == {"m0": "n1"}


def test_node_that_takes_leave_is_no_candidate() -> None:
    node = Node(memory=1)
    node.ownership.membership.link_opened("n1", "one")
    node.ownership.membership.take_leave("n1", "one")
    node.ownership.received("n1", "one", [])
    node.ownership.tick()
    assert node.owners() == {"m0": (1, "n2", "m0-mine1")}


def test_leaving_node_claims_nothing_and_has_no_turn() -> None:
    node = Node()
    node.ownership.leaving()
    node.after(10_000)
    assert node.owners() == {}
    assert node.ownership.claimers() == {}


def test_restarted_owner_has_a_second_to_go_on() -> None:
    node = Node(memory=1)
    node.meet("n3", "three", theirs("m0", node="n3", incarnation="three"))
    node.ownership.membership.link_closed("n3", "three")
    node.meet("n3", "three again")
    node.after(SUCCESSOR_MS - 500)
    assert node.ownership.is_orphan("m0")
    node.after(500)
    assert node.owners() == {"m0": (2, "n2", "m0-mine2")}


# Sleeps


def asleep(node: Node, ms: int = FENCE_MS + 1) -> None:
    """SIGSTOP."""
    node.now += ms
    assert node.ownership.is_late()
    node.ownership.tick()


def test_sleeper_suspends_what_it_owns_and_goes_on_with_the_same_log_after_a_peers_table() -> None:
    node = Node(seeds=["a"])
    node.ownership.seed_answered("a")
    node.ownership.tick()
    asleep(node)
    assert node.done[-1] == ("woke", "")
    assert node.ownership.is_suspended("m0")
    assert node.ownership.owns("m0")
    assert "suspended after a pause: m0, m1" in node.ownership.degraded()
    assert node.owners()["m0"] == (1, "n2", "m0-mine1")
    node.announced.clear()
    node.meet("n1", "one", theirs("m1", 2))
    assert node.owners() == {"m0": (2, "n2", "m0-mine1"), "m1": (2, "n1", "m1-n12")}
    assert node.done[-1] == ("seal", "m1")
    assert not node.ownership.is_suspended("m0")
    mine = Entry("m0", 2, "n2", "life1", "m0-mine1")
    assert node.announced == [theirs("m1", 2), mine]
    assert mine in node.changes


def test_sleeper_alone_goes_on_after_10_s() -> None:
    node = Node(seeds=["a"])
    node.after(GRACE_MS)
    asleep(node)
    node.after(ALONE_MS - 500)
    assert node.ownership.is_suspended("m0")
    node.after(500)
    assert not node.ownership.is_suspended("m0")
    assert node.owners()["m0"] == (2, "n2", "m0-mine1")


def test_sleeper_that_is_refused_does_not_go_on_alone() -> None:
    node = Node(seeds=["a"])
    node.after(GRACE_MS)
    asleep(node)
    node.ownership.is_outcast = True
    node.after(ALONE_MS * 2)
    assert node.ownership.suspended() == ["m0", "m1"]
    node.ownership.is_outcast = False
    node.after(500)
    assert node.ownership.suspended() == []


def test_sleeper_claims_nothing_before_it_has_listened() -> None:
    node = Node(seeds=["a"], memory=1)
    node.meet("n1", "one", theirs("m0"))
    node.ownership.tick()
    asleep(node)
    node.after(ALONE_MS - 500)
    assert node.owners() == {"m0": (1, "n1", "m0-n11")}
    node.after(500)
    assert node.owners() == {"m0": (2, "n2", "m0-mine2")}


def test_sleeper_without_seeds_that_never_met_anybody_goes_on_at_once() -> None:
    node = Node()
    node.ownership.tick()
    asleep(node)
    assert not node.ownership.is_suspended("m0")
    assert node.owners()["m0"] == (2, "n2", "m0-mine1")


def test_sleeper_that_hears_a_table_before_its_tick_takes_nothing_in() -> None:
    node = Node(renews_at_once=False, seeds=["a"])
    node.after(GRACE_MS)
    node.now += FENCE_MS + 1
    node.meet("n3", "three", theirs("m0", 1, "n3", "three"))
    assert node.done[-1] == ("woke", "")
    assert node.ownership.owns("m0")
    assert node.ownership.tick() == []
    assert node.ownership.is_suspended("m0")
    node.renew()
    assert node.ownership.is_suspended("m0")
    node.meet("n3", "three", theirs("m0", 1, "n3", "three"))
    assert not node.ownership.owns("m0")
    assert node.ownership.owns("m1")


def test_durable_owner_goes_on_at_once_after_a_sleep() -> None:
    node = Node(holders=["n2"], durable={"d0": (3, "d0-file")}, seeds=["a"])
    node.ownership.tick()
    asleep(node)
    assert node.ownership.owns("d0")
    assert not node.ownership.is_suspended("d0")
    assert node.ownership.owner("d0") == Entry("d0", 3 * EPOCHS_PER_OPENING + 1, "n2", "life1", "d0-file")


# Durable shards


def test_open_file_is_announced_and_its_holders_death_moves_nothing() -> None:
    node = Node(holders=["n2", "n1"], durable={"d0": (3, "d0-file")}, memory=0)
    node.ownership.tick()
    assert node.ownership.owns("d0")
    assert node.ownership.degraded() == ["shard d1: holder n1 away"]
    node.meet("n1", "one", theirs("d1"))
    assert node.ownership.degraded() == []
    node.lose("n1", "one")
    assert node.ownership.is_orphan("d1")
    assert node.done == [("orphaned", "d1")]
    assert node.ownership.degraded() == ["node n1 unreachable for 3 s", "shard d1: holder n1 away"]
    assert node.ownership.owner("d1") == theirs("d1")
    assert not node.ownership.owns("d1")


def test_two_announcers_of_a_durable_shard_leave_it_without_an_owner() -> None:
    node = Node(holders=["n2"], durable={"d0": (3, "d0-file")}, memory=0)
    node.ownership.tick()
    node.meet("n1", "one", theirs("d0"))
    assert node.ownership.conflicts() == ["d0"]
    assert not node.ownership.owns("d0")
    assert node.changes[-1].log == ""
    assert node.ownership.degraded() == ["shard d0: announced by n1, held by n2"]
    node.lose("n1", "one")
    assert node.ownership.conflicts() == []
    assert node.ownership.owns("d0")
    assert node.changes[-1].log == "d0-file"


def test_wrong_announcer_alone_is_a_conflict_too() -> None:
    node = Node(holders=["n3"], memory=0)
    node.meet("n1", "one", theirs("d0"))
    assert node.ownership.owner("d0") == Entry("d0", 1, "n3", "", "")
    assert not node.ownership.owns("d0")
    assert node.changes == [Entry("d0", 1, "n3", "", "")]


def test_missing_file_is_made_only_when_all_others_of_the_list_know_no_log() -> None:
    node = Node(holders=["n2", "n1", "n3", "n1"], memory=0)
    assert node.ownership.waiting_to_create("d0") == ["n1", "n3"]
    assert not node.ownership.may_create("d0")
    assert not node.ownership.may_create("d1")
    assert "shard d0: no file here, waiting for the word of n1, n3" in node.ownership.degraded()
    node.meet("n1", "one", theirs("d1"), theirs("d3"))
    assert not node.ownership.may_create("d0")
    node.meet("n3", "three", theirs("d2", node="n3", incarnation="three"))
    assert node.ownership.may_create("d0")
    assert node.ownership.degraded() == []
    node.ownership.opened("d0", 1, "d0-new")
    assert not node.ownership.may_create("d0")
    assert node.ownership.owns("d0")
    assert node.announced[-1] == Entry("d0", EPOCHS_PER_OPENING, "n2", ME, "d0-new")


def test_missing_file_whose_log_is_known_is_made_only_on_demand() -> None:
    for creates_stores in (False, True):
        node = Node(holders=["n2", "n1"], memory=0, creates_stores=creates_stores)
        known = Entry("d0", 9 * EPOCHS_PER_OPENING, "n2", "before", "d0-lost")
        node.meet("n1", "one", known, theirs("d1"))
        assert node.ownership.may_create("d0") == creates_stores
        assert node.ownership.degraded() == ["shard d0: no file here, but the cluster knows its log d0-lost"]
    node.ownership.opened("d0", 1, "d0-new")
    assert node.ownership.owner("d0") == Entry("d0", known.epoch + 1, "n2", ME, "d0-new")


def test_only_holder_makes_its_file_at_once() -> None:
    assert Node(holders=["n2"]).ownership.may_create("d0")
    assert knows_no_log([], [])


def test_missing_file_of_a_store_that_failed_is_not_made() -> None:
    """It had a log: an empty directory must not take its place."""
    node = Node(holders=["n2", "n1"], memory=0)
    node.meet("n1", "one", Entry("d0", 9, "n2", "before", ""), theirs("d1"))
    assert not node.ownership.may_create("d0")
    (said,) = node.ownership.degraded()
    assert said == "shard d0: no file here, but the cluster knows its log of a store that failed"


def test_entry_of_an_earlier_life_with_a_greater_epoch_is_announced_over_at_once() -> None:
    node = Node(holders=["n2"], durable={"d0": (1, "d0-new")}, memory=0)
    node.ownership.tick()
    before = Entry("d0", 7 * EPOCHS_PER_OPENING, "n2", "before", "d0-old")
    node.meet("n1", "one", before)
    mine = Entry("d0", before.epoch + 1, "n2", ME, "d0-new")
    assert node.announced == [before, mine]
    assert node.ownership.owns("d0")
    assert before not in node.changes


def test_twin_with_the_same_name_is_announced_over_no_faster_than_ticks() -> None:
    node = Node(holders=["n2"], durable={"d0": (1, "d0-new")}, memory=0)
    node.ownership.tick()
    for number in (7, 9):
        node.meet("n1", "one", Entry("d0", number * EPOCHS_PER_OPENING, "n2", "twin", "d0-copy"))
    assert not node.ownership.owns("d0")
    node.ownership.tick()
    assert node.ownership.owner("d0") == Entry("d0", 9 * EPOCHS_PER_OPENING + 1, "n2", ME, "d0-new")
    assert node.ownership.owns("d0")


def test_failed_store_is_announced_as_served_by_nobody() -> None:
    node = Node(holders=["n2"], durable={"d0": (1, "d0-a")}, memory=0)
    node.ownership.failed("d0")
    node.ownership.failed("d1")
    node.ownership.failed("d0")
    assert not node.ownership.owns("d0")
    assert [shard for shard in ("d0", "d1") if node.ownership.has_failed(shard)] == ["d0"]
    assert [entry.log for entry in node.announced] == [""]
    assert node.announced[-1].log == ""
    assert node.ownership.degraded() == ["shard d0: its store failed on n2"]


# Hand-over


def handed(heir: str = "n1/one") -> Node:
    """A node that has released m0."""
    node = Node(memory=1)
    node.ownership.tick()
    node.meet("n1", "one")
    assert node.ownership.release("m0", heir) == Entry("m0", 2, "n2", ME, "m0-mine1", heir)
    return node


def test_released_shard_is_sealed_and_has_one_heir() -> None:
    node = handed()
    assert node.done[-1] == ("seal", "m0")
    assert node.ownership.release("m0", "n3/three") is None
    assert not node.ownership.owns("m0")
    assert not node.ownership.is_orphan("m0")
    node.ownership.received("n1", "one", [Entry("m0", 3, "n1", "one", "m0-mine1")])
    assert node.changes[-1].node == "n1"
    assert ("orphaned", "m0") not in node.done


def test_shard_whose_heir_dies_is_an_orphan() -> None:
    node = handed()
    node.lose("n1", "one")
    assert node.owners() == {"m0": (3, "n2", "m0-mine3")}


def test_shard_whose_heir_says_nothing_is_an_orphan() -> None:
    node = handed()
    node.after(HEIR_MS - 500)
    assert not node.ownership.is_orphan("m0")
    node.after(500)
    assert node.ownership.is_orphan("m0")


def test_heir_of_a_dead_node_has_less_time() -> None:
    """I14: what it has not been given does not come any more."""
    node = Node(memory=1)
    node.ownership.tick()
    node.meet("n1", "one")
    node.meet("n3", "three")
    node.ownership.received("n1", "one", [Entry("m0", 5, "n1", "one", "m0-theirs", "n3/three")])
    assert BEREFT_HEIR_MS <= CLOSED_MS < HEIR_MS
    node.lose("n1", "one")
    assert ("orphaned", "m0") in node.done


def test_shard_whose_heir_refuses_is_an_orphan_at_once() -> None:
    node = handed()
    node.ownership.refused("m0")
    node.ownership.refused("m0")
    node.ownership.refused("m9")
    assert node.ownership.table.get("m0") == Entry("m0", 3, "n2", ME, "")
    assert node.ownership.is_orphan("m0")


def test_shard_without_an_heir_is_an_orphan_at_once() -> None:
    node = Node(memory=1)
    node.ownership.tick()
    node.ownership.leaving()
    assert node.ownership.release("m0") == Entry("m0", 2, "n2", ME, "")
    assert node.ownership.is_orphan("m0")
    node.after(10_000)
    assert not node.ownership.owns("m0")


def test_heir_goes_on_with_the_log_it_was_handed() -> None:
    node = Node(memory=1)
    released = theirs("m0", 5, heir=f"n2/{ME}")
    assert not node.ownership.adopt("m0", released.log)
    node.meet("n1", "one", released)
    assert not node.ownership.adopt("m0", "m0-other")
    assert node.ownership.adopt("m0", released.log)
    assert node.announced[-1] == Entry("m0", 6, "n2", ME, released.log)
    assert node.ownership.owns("m0")
    assert not node.ownership.adopt("m0", released.log)


def test_nobody_but_the_heir_of_that_life_adopts() -> None:
    node = Node(memory=1)
    node.meet("n1", "one", theirs("m0", 5, heir="n2/another life"))
    assert not node.ownership.adopt("m0", "m0-n15")
    sleeper = Node(memory=1, seeds=["a"], renews_at_once=False)
    sleeper.meet("n1", "one", theirs("m0", 5, heir=f"n2/{ME}"))
    sleeper.ownership.tick()
    asleep(sleeper)
    assert not sleeper.ownership.adopt("m0", "m0-n15")


def test_half_partition_buries_nobody() -> None:
    node = Node(memory=1)
    node.meet("n1", "one", theirs("m0"))
    node.meet("n3", "three")
    node.ownership.membership.link_closed("n1", "one")
    for _ in range(20):
        node.ownership.membership.heard_of("n3", {"n1": Heard("one", is_closed=False, ms=100)})
        node.after(500)
    assert node.owners() == {"m0": (1, "n1", "m0-n11")}
    assert node.ownership.degraded() == ["node n1 unreachable for 10 s"]
