"""Ownership in a world of faults (G8): whatever happened, when all is quiet there is one owner of each shard.

Each seed is one history of cuts, deaths, restarts, sleeps and hand-overs over two to four nodes, and a failure
names it. Planted bugs show that the model sees what it is there to see.
"""

from collections import Counter
from functools import partial

import pytest
from triode_broker.cluster.frames import Entry
from triode_broker.cluster.ownership import Ownership

from tests.cluster.owners import World

QUIET_MS = 45_000
HISTORIES = 10
SEEDS_EACH = 20


def live_through(world: World) -> None:
    """Some faults, then peace."""
    for node in world.nodes:
        world.later(world.random.choice([0, 0, 100, 4_000]), partial(world.start, node))
    world.run(5_000)
    for _ in range(world.random.randrange(1, 8)):
        fault(world)
        world.run(world.random.choice([100, 1_000, 4_000, 12_000, 16_000]))
    world.heal()
    for node in world.nodes:
        world.start(node)
    if world.random.random() < 0.3:
        world.kill(world.random.choice(world.nodes))
    world.run(QUIET_MS)


def fault(world: World) -> None:
    """One at random."""
    pick = world.random
    a, b = pick.sample(world.nodes, 2)
    is_breaking = pick.random() < 0.5
    what = pick.randrange(8)
    if what == 0:
        world.kill(a)
    elif what == 1:
        world.kill(a)
        world.later(pick.randrange(6_000), partial(world.start, a))
    elif what == 2:
        world.doze(a, pick.choice([2_000, 5_400, 6_000, 8_000, 20_000]))
    elif what == 3:
        world.cut(a, b, is_breaking=is_breaking)
        world.cut(b, a, is_breaking=is_breaking)
    elif what == 4:
        world.cut(a, b, is_breaking=is_breaking)
    elif what == 5:
        for other in world.nodes:
            if other != a:
                world.cut(a, other, is_breaking=is_breaking)
                world.cut(other, a, is_breaking=is_breaking)
    elif what == 6:
        world.heal()
    elif a in world.processes and world.processes[a].asleep_until < world.now:
        world.processes[a].hand_over()


def check_quiet(world: World) -> None:
    """One owner per shard, everybody knows it, and nobody else holds an unsealed log."""
    processes = list(world.processes.values())
    assert len({process.ownership.table.digest() for process in processes}) == 1
    for number in range(8):
        shard = f"m{number}"
        holders = [process for process in processes if shard in process.logs]
        assert len(holders) == 1, (shard, [process.node for process in holders])
        owner = holders[0]
        want = owner.ownership.owner(shard)
        assert want is not None
        assert (want.node, want.incarnation, want.log) == (owner.node, owner.incarnation, owner.logs[shard])
        for process in processes:
            assert process.told[shard] == want
            assert not process.ownership.is_orphan(shard)
            assert not process.ownership.is_suspended(shard)
    for number, holder in enumerate(world.holders):
        for process in processes:
            entry = process.ownership.owner(f"d{number}")
            assert process.ownership.is_orphan(f"d{number}") == (holder not in world.processes)
            if holder in world.processes:
                assert entry is not None
                assert (entry.node, entry.incarnation) == (holder, world.processes[holder].incarnation)
                assert process.ownership.owns(f"d{number}") == (process.node == holder)
    healthy = len(processes) == len(world.nodes)
    said = [process.ownership.degraded() + process.ownership.missed_seeds() for process in processes]
    assert all(bool(words) != healthy for words in said)


def check_history(seed: int, kind: type[Ownership] = Ownership) -> None:
    """One seed."""
    world = World(seed, 2 + seed % 3, kind)
    live_through(world)
    check_quiet(world)


@pytest.mark.parametrize("history", range(HISTORIES))
def test_quiet_after_faults_finds_one_owner_per_shard_and_equal_tables(history: int) -> None:
    for seed in range(history * SEEDS_EACH, (history + 1) * SEEDS_EACH):
        try:
            check_history(seed)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
def test_first_start_shares_memory_shards_evenly(nodes: int) -> None:
    for seed in range(10):
        world = World(seed, nodes)
        for node in world.nodes:
            world.start(node)
        world.run(10_000)
        check_quiet(world)
        assert spread(world) <= 1


def test_death_shares_orphans_evenly() -> None:
    for seed in range(20):
        world = World(seed, 4)
        for node in world.nodes:
            world.start(node)
        world.run(10_000)
        before = {process.node: dict(process.logs) for process in world.processes.values()}
        world.kill(world.random.choice(world.nodes))
        world.run(6_000)
        check_quiet(world)
        assert spread(world) <= 1
        for process in world.processes.values():
            assert before[process.node].items() <= process.logs.items()


def test_joining_node_moves_nothing() -> None:
    world = World(1, 3)
    world.start("n1")
    world.run(10_000)
    logs = dict(world.processes["n1"].logs)
    assert len(logs) == 8
    world.start("n2")
    world.start("n3")
    world.run(10_000)
    assert world.processes["n1"].logs == logs
    check_quiet(world)


def test_same_seed_gives_the_same_history() -> None:
    worlds = [World(7, 4), World(7, 4)]
    for world in worlds:
        live_through(world)
    assert worlds[0].announced == worlds[1].announced


class KeepsWhatItLost(Ownership):
    """Planted: the loser of a merge goes on."""

    def _lose(self, news: object) -> None:
        pass


class NeverRaises(Ownership):
    """Planted: every entry has the same epoch."""

    def _entry(self, shard: str, epoch: int, log: str, heir: str = "") -> Entry:
        return super()._entry(shard, 1, log, heir)


class ClaimsAll(Ownership):
    """Planted: no turn is waited for."""

    def claimers(self) -> dict[str, str]:
        return dict.fromkeys(super().claimers(), self.membership.node)


def test_model_sees_a_loser_that_does_not_seal() -> None:
    with pytest.raises(AssertionError):
        _all_seeds(KeepsWhatItLost)


def test_model_sees_epochs_that_do_not_rise() -> None:
    with pytest.raises(AssertionError):
        _all_seeds(NeverRaises)


def test_model_sees_claims_out_of_turn() -> None:
    world = World(3, 3, ClaimsAll)
    for node in world.nodes:
        world.start(node)
    world.run(10_000)
    assert spread(world) > 1


def _all_seeds(kind: type[Ownership]) -> None:
    for seed in range(40):
        check_history(seed, kind)


def spread(world: World) -> int:
    """Most memory shards of one node less the fewest."""
    counts = Counter({process.node: len(process.logs) for process in world.processes.values()})
    return max(counts.values()) - min(counts.values())
