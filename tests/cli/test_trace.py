"""`triode trace` against a real broker (SPEC 4.12)."""

import json
from pathlib import Path

import triode
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.trace import Timeline, hop_words, route_lines

from tests.admin.running import running
from tests.cli.programs import BrokerAt, run


async def test_message_that_is_sent_is_followed(broker: BrokerAt) -> None:
    async with triode.connect(broker.url) as client, client.subscribe("rooms/+"):
        ended = await run("trace", "rooms/42", "--send", "hello", url=broker.url)
    assert (ended.code, ended.errors) == (ExitCode.OK, "")
    place, *lines = ended.output.splitlines()
    assert place.startswith("published  ")
    hops = [line.split()[3] for line in lines]
    assert hops == ["accepted", "owner", "position", "stored", "matched", "queued", "sent"]
    assert lines[0].split()[:2] == ["+0.000", "ms"]
    assert lines[-1].endswith("1 live")


async def test_hops_come_as_json_too(broker: BrokerAt) -> None:
    ended = await run("trace", "rooms/42", "--send", '{"a":1}', "--as-json", "--json", url=broker.url)
    hops = [json.loads(line) for line in ended.output.splitlines()]
    assert (hops[-2]["hop"], hops[-2]["reason"], hops[-1]) == ("dropped", "no_subscriber", {"end": "complete"})


async def test_data_that_is_no_json_is_a_mistake(broker: BrokerAt) -> None:
    ended = await run("trace", "a", "--send", "{", "--as-json", url=broker.url)
    assert ended.code == ExitCode.USAGE
    assert "not JSON" in ended.errors


async def test_route_is_told_without_publishing(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as node,
        triode.connect(node.url) as client,
        client.consume("jobs/#", group="pool"),
        client.subscribe("jobs/x"),
    ):
        ended = await run("trace", "jobs/x", "--data", str(tmp_path))
        as_json = await run("trace", "jobs/x", "--json", "--data", str(tmp_path))
    assert (ended.code, ended.errors) == (ExitCode.OK, "")
    lines = {line.split()[0]: line for line in ended.output.splitlines()}
    assert "storage disk" in lines["rule"]
    assert lines["on"].endswith("1 live (connections: 1), 1 group (pool)")
    assert lines["publish"].endswith("everybody by #")
    assert json.loads(as_json.output)["shard"] == "d0"


def test_what_stands_in_the_way_is_told() -> None:
    node = {"live": 0, "connections": 0, "kept_out": 2, "durable_count": 3, "group_count": 0, "durable": ["w"]}
    route = {
        "topic": "a",
        "tenant": "acme",
        "rule": "a",
        "storage": "memory",
        "compact": True,
        "retention": {"messages": 5},
        "ttl_seconds": 9,
        "shard": "m0",
        "log": "",
        "owner": "",
        "epoch": 2,
        "is_reachable": False,
        "publishers": [
            {"role": "", "tenant": "acme", "filter": "a", "but": "a/b"},
            {"role": "guest", "tenant": "", "filter": "", "but": "#"},
        ],
        "nodes": {"n1": node},
        "unanswered": ["n2"],
    }
    text = "\n".join(route_lines(route))
    for words in (
        "(tenant acme)",
        "compacted",
        "live 9 s",
        "nobody, epoch 2  NOT REACHED",
        "3 durable (w, …), 2 not allowed to have it",
        "on n2      no answer",
        "everybody of tenant acme by a, but not by a/b; not guest (# is denied)",
    ):
        assert words in text
    assert "nobody: no rule allows it" in "\n".join(route_lines({**route, "publishers": []}))


def test_trace_without_an_end_is_told() -> None:
    timeline = Timeline(is_json=True)
    timeline.begin()
    assert timeline.verdict() == ExitCode.FAILURE
    hop = triode.Hop("matched", "n1", 5, kind="durable", count=1, names=["w"], to="n2", reason="x")
    assert hop_words(hop) == "matched       → n2 1 durable (w) [x]"
