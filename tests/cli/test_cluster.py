"""`triode cluster`: as people see it, as programs do, and by its exit code: 0 only while the cluster is whole."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from triode_broker.cli.cluster import as_text
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, Ended, run
from tests.cluster.builds import CURRENT
from tests.cluster.run_builds import nodes, whole


def view(**facts: Any) -> dict[str, Any]:
    """Two nodes, one shard, nothing wrong."""
    return {
        "asked": "n1",
        "cluster": "triode",
        "nodes": [one_node("n1", "n2", here=True), one_node("n2", "n1")],
        "missing": [],
        "shards": [shard()],
        "agreed": True,
        "degraded": {},
        **facts,
    }


def one_node(name: str, other: str, *, here: bool = False, **facts: Any) -> dict[str, Any]:
    return {
        "node": name,
        "version": "1.2.3",
        "sessions": 5,
        "shards": [{"here": here}],
        "interest": {"filters": 7, "waiting": 0},
        "consumers": 2,
        "digest": "0123abcd",
        "degraded": [],
        "links": [link(other), link(other, direction="in")],
        **facts,
    }


def link(other: str, **facts: Any) -> dict[str, Any]:
    given = {"node": other, "direction": "out", "rtt_ms": 0.25, "outbox_bytes": 0, "protocol": 1, "drift": []}
    return {**given, **facts}


def shard(**facts: Any) -> dict[str, Any]:
    return {"shard": "m0", "owners": ["n1"], "epoch": 3, "log": "m0-abc", "head": 12, "lag": {"n2": 0}, **facts}


def test_a_whole_cluster_is_three_tables() -> None:
    assert as_text(view()) == (
        "cluster triode, asked at n1\n"
        "\n"
        "NODE  VERSION  CLIENTS  SHARDS  FILTERS  NAMES  SETTINGS  LOOP  HEALTH\n"
        "n1    1.2.3    5        1       7        2      0123abcd  -     ok\n"
        "n2    1.2.3    5        0       7        2      0123abcd  -     ok\n"
        "\n"
        "LINK        ROUND TRIP  WAITING BYTES  PROTOCOL  DRIFT\n"
        "n1 asks n2  0.2 ms      0              1         -\n"
        "n2 asks n1  0.2 ms      0              1         -\n"
        "\n"
        "SHARD  OWNER  EPOCH  LOG     HEAD  LAG\n"
        "m0     n1     3      m0-abc  12    -\n"
    )


def test_what_is_wrong_stands_below_in_words() -> None:
    first = one_node("n1", "n2", here=True, degraded=["node n2 unreachable for 4 s"], links=[], version="")
    shown = as_text(
        view(
            nodes=[first],
            degraded={"n1": ["node n2 unreachable for 4 s", "shard d0: holder n2 away"]},
            missing=["n2"],
            agreed=False,
        )
    )
    assert "n1    -        5        1       7        2      0123abcd  -     degraded\n" in shown
    assert "ROUND TRIP" not in shown  # a table without rows is none
    assert shown.endswith(
        "\n\nn1: node n2 unreachable for 4 s\nn1: shard d0: holder n2 away\nn2: not reached\n"
        "the nodes do not agree on who owns what: a change is on its way, or a link is missing\n"
    )


def test_what_nodes_count_is_shown_where_it_is_known() -> None:
    figures = {"n1": {"commit": "0123456789abcdef", "gauges": {"loop_lag_us": 1234}}, "n2": {"commit": ""}}
    shown = as_text(view(), figures)
    assert "n1    1.2.3 (012345678)  5        1       7        2      0123abcd  1.2 ms  ok\n" in shown
    assert "n2    1.2.3              5        0       7        2      0123abcd  -       ok\n" in shown


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"owners": []}, "m0     nobody"),
        ({"owners": ["n1", "n2"]}, "m0     n1, n2"),
        ({"log": ""}, "3      -    12"),
        ({"lag": {"n2": 7, "n3": 0, "n4": None}}, "12    n2 7, n4 ?"),
    ],
)
def test_a_shard_says_who_has_it_and_who_is_behind(facts: dict[str, Any], words: str) -> None:
    assert words in as_text(view(shards=[shard(**facts)]))


def test_a_link_says_what_drifts_and_what_waits() -> None:
    links = [link("n2", rtt_ms=None, outbox_bytes=900, drift=["limits", "version"], protocol=2)]
    shown = as_text(view(nodes=[one_node("n1", "n2", links=links)]))
    assert "n1 asks n2  -           900            2         limits, version\n" in shown


def test_nothing_that_a_node_says_of_itself_drives_the_terminal() -> None:
    """S27: names and reasons come from other machines."""
    bad = "n\x1b[2J\u202e\n2"
    shown = as_text(
        view(
            asked=bad,
            cluster=bad,
            nodes=[one_node(bad, bad, version=bad, links=[link(bad, drift=[bad])])],
            shards=[shard(shard=bad, owners=[bad], log=bad, lag={bad: 1})],
            degraded={bad: [bad]},
            missing=[bad],
        )
    )
    assert not {"\x1b", "\u202e"} & set(shown)
    assert shown.count("\\u001b[2J\\u202e\\n") == 14


# Processes


async def cluster(data: Path, *arguments: str) -> Ended:
    return await run("cluster", "--data", str(data), *arguments)


async def test_its_exit_code_says_whether_the_cluster_is_whole(tmp_path: Path) -> None:
    async with nodes(tmp_path) as started:
        n1 = await started.start("n1", CURRENT, holders="n1,n2")
        n2 = await started.start("n2", CURRENT, await n1.peer_url(), holders="n1,n2")
        await whole(n1, n2)
        told = await cluster(n2.data)
        assert (told.code, told.errors) == (ExitCode.OK, "")
        assert told.output.startswith("cluster triode, asked at n2\n\nNODE")
        found = json.loads((await cluster(n1.data, "--json")).output)
        assert (found["asked"], found["agreed"], found["missing"]) == ("n1", True, [])
        assert [one["node"] for one in found["nodes"]] == ["n1", "n2"]
        n2.program.signal(signal.SIGKILL)
        await n2.program.code()
        told = await until_broken(n1.data)
        assert (told.code, told.errors) == (ExitCode.FAILURE, "")
        assert "n2: not reached\n" in told.output
        assert "n1: node n2 unreachable for " in told.output
        as_json = await cluster(n1.data, "--json")
        assert as_json.code == ExitCode.FAILURE
        assert json.loads(as_json.output)["missing"] == ["n2"]


async def until_broken(data: Path) -> Ended:
    """The links' end takes a moment to be noticed."""
    with trio.fail_after(PATIENCE_SECONDS):
        while (told := await cluster(data)).code == ExitCode.OK:
            pass
    return told


async def test_a_node_of_none_and_no_node_are_told_apart(tmp_path: Path) -> None:
    async with nodes(tmp_path) as started:
        alone = await started.start("alone", CURRENT, alone=True)
        await alone.url()
        told = await cluster(alone.data)
        assert (told.code, told.output) == (ExitCode.REFUSED, "")
        assert told.errors == (
            "triode cluster: this node is in no cluster: --cluster-listen or --seed puts it into one\n"
        )
        (tmp_path / "nobody").mkdir()
        told = await cluster(tmp_path / "nobody")
        assert told.code == ExitCode.TIMEOUT
        assert "no broker is running with --data" in told.errors
    told = await run("cluster")
    assert told.code == ExitCode.USAGE
    assert "which broker? give its data directory" in told.errors
