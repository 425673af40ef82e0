"""What happens to real nodes and the ways between them, under load, judged by the history checker (I1 to I15).

Each fault says what it expects of health while it lasts; the run says the rest: when it is healed everybody is
whole, nothing that was acknowledged on disk is lost, and what memory lost was announced by a gap. Figures are
printed, asserts are about order: a busy machine is slow and not wrong.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from tests.cluster.processes.nodes import cluster_of, until
from tests.cluster.processes.scenario import Fault, Outcome, Run, play
from tests.cluster.processes.ways import both, passes

#: Longer than the 10 s after which a silent node is dead.
LONG_SECONDS = 12.0
AT_ONCE = 3


async def kill_and_start_again(run: Run) -> None:
    """Its shards in memory are claimed, its file waits for it; then once more, back before anybody claims."""
    node = await run.owner()
    other, *_ = others = run.others(node)
    killed = await run.kill(node)
    run.figures["claimed after kill -9"] = await run.claimed(killed, others)
    await run.cluster.complains(other.name, f"node {node.name} unreachable for", f"holder {node.name} away")
    await node.start()
    await node.started()
    await run.cluster.whole()
    await run.kill(node)
    await node.start()
    await node.started()


async def stop_for_longer_than_it_takes_to_be_dead(run: Run) -> None:
    """SIGSTOP: silent, and then back with all that it believed."""
    node = await run.owner()
    other, *_ = others = run.others(node)
    stopped = run.stop(node)
    run.figures["claimed after SIGSTOP"] = await run.claimed(stopped, others)
    await run.cluster.complains(other.name, f"node {node.name} unreachable for", f"holder {node.name} away")
    await passes(stopped + LONG_SECONDS - trio.current_time())
    run.go_on(node)
    await until(lambda: bool(node.times("slept_too_long", stopped)), "the end of its sleep", run.cluster.said)


async def split_in_silence(run: Run) -> None:
    """One node on one side, the others on the other one: nothing passes, nobody is told. The others claim."""
    node = await run.owner()
    one, other = others = run.others(node)
    began = run.note("split")
    run.cluster.ways.hold(both([node.name], [one.name, other.name]))
    run.figures["claimed in silence"] = await run.claimed(began, others)
    await run.cluster.complains(
        node.name, f"node {one.name} unreachable for", f"node {other.name} unreachable for"
    )
    await run.cluster.complains(other.name, f"node {node.name} unreachable for", f"holder {node.name} away")
    run.cluster.ways.heal()


async def split_with_closed_links(run: Run) -> None:
    """The same where connections break and are refused: dead sooner. Both sides publish, one log wins."""
    node = await run.owner()
    one, other = others = run.others(node)
    began = run.note("refused")
    run.cluster.ways.refuse(both([node.name], [one.name, other.name]))
    run.figures["claimed after closing"] = await run.claimed(began, others)
    await run.cluster.complains(one.name, f"node {node.name} unreachable for", f"holder {node.name} away")
    await passes(2.0)
    run.cluster.ways.heal()


async def half_a_partition(run: Run) -> None:
    """n1 and n2 do not reach each other, n3 reaches both: nobody is dead, nothing is claimed."""
    began = run.note("half")
    run.cluster.ways.hold(both(["n1"], ["n2"]))
    await run.cluster.complains("n1", "node n2 unreachable for")
    await run.cluster.complains("n2", "node n1 unreachable for")
    await passes(began + LONG_SECONDS - trio.current_time())
    assert await run.cluster.node("n3").degraded() == []
    assert not [node.name for node in run.cluster.nodes if node.times("shard_claimed", began)]
    run.cluster.ways.heal()


async def one_way_and_flapping_links(run: Run) -> None:
    """What n1 sends n2 does not arrive for a while, the other way it does; and n2's ways to n3 come and go."""
    run.note("one way, flapping")
    ways = run.cluster.ways
    ways.hold([("n1", "n2")])
    for number in range(8):
        ways.cut(both(["n2"], ["n3"]))
        ways.hold(both(["n2"], ["n3"]) if number % 2 else [])
        await passes(0.5)
        for pair in both(["n2"], ["n3"]):
            ways.release(pair)
        await passes(0.5)
    ways.heal()


@pytest.mark.timeout(150)
async def test_node_that_cannot_be_dialled_is_named_by_the_one_that_tries(tmp_path: Path) -> None:
    """It is heard, so nobody holds it for lost; but what clients publish here does not get there (G8)."""
    async with cluster_of(2, tmp_path) as cluster:
        cluster.ways.refuse([("n1", "n2")])
        assert await cluster.complains("n1", "no link to node n2 yet") == ["no link to node n2 yet"]
        assert await cluster.node("n2").degraded() == []
        cluster.ways.heal()
        await cluster.whole()


async def play_all(faults: Sequence[Fault], directory: Path) -> list[Outcome]:
    """Some at once: most of them is waiting."""
    outcomes: list[Outcome] = []
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(fault: Fault, number: int) -> None:
        async with limit:
            outcomes.append(await play(fault, directory / str(number), number))

    async with trio.open_nursery() as nursery:
        for number, fault in enumerate(faults):
            (directory / str(number)).mkdir()
            nursery.start_soon(one, fault, number)
    return outcomes


async def judge(faults: Sequence[Fault], directory: Path) -> list[Outcome]:
    """Play them; whatever is broken is told with its events. Figures are printed: `-s` shows them."""
    outcomes = await play_all(faults, directory)
    said = "\n\n".join(outcome.explain() for outcome in outcomes if outcome.violations)
    print({outcome.name: outcome.figures for outcome in outcomes})  # noqa: T201  # shown where pytest is asked to
    assert not said, said
    return outcomes


@pytest.mark.timeout(150)
async def test_ends_and_pauses_of_nodes_hide_nothing_and_lose_nothing_that_was_flushed(tmp_path: Path) -> None:
    """I1 to I15, G1 to G5, G8: kill -9, SIGSTOP, and one node on its own side of a partition."""
    faults = [stop_for_longer_than_it_takes_to_be_dead, split_in_silence, kill_and_start_again]
    outcomes = await judge(faults, tmp_path)
    reasons = {event.packet.get("reason") for outcome in outcomes for event in outcome.events}
    assert "reset" in reasons


@pytest.mark.timeout(150)
async def test_cuts_between_nodes_hide_nothing_and_lose_nothing_that_was_flushed(tmp_path: Path) -> None:
    """I1 to I15, G1 to G5, G8: half a partition, one way, ways that come and go, ways that refuse."""
    await judge([half_a_partition, one_way_and_flapping_links, split_with_closed_links], tmp_path)
