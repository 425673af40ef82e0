"""`triode top`: what it makes of two looks, how that is drawn, and the command as text, as JSON, at a terminal."""

import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import trio
from triode_broker.cli.asking import REQUESTS
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.top_picture import counted
from triode_broker.cli.top_rates import Look, picture, quantile
from triode_broker.cli.top_screen import as_text
from triode_broker.http import operators

from tests.cli.programs import PATIENCE_SECONDS, BrokerAt, Ended, Triode, run

BAD = "n\x1b[2J\u202e\n2"
HEADINGS = ("NODE", "LATENCY", "DISK", "LINK", "TOPIC", "SLOW", "DURABLE")


def node(*, uptime_ms: int = 10_000, published: int = 100, name: str = "n1", **facts: Any) -> dict[str, Any]:
    """What a node counts."""
    return {
        "version": "1.2.3",
        "commit": "",
        "uptime_ms": uptime_ms,
        "bounds_us": [100, 200, 400],
        "unready": [],
        "counters": {"published": published, "delivered": 3 * published, "cpu_us": 5_000 * published},
        "gauges": {"connections": 3, "subscriptions": 4},
        "histograms": {"loop_lag": {"counts": [published, 0, 0, 0], "sum_us": 50 * published}},
        "engines": [engine(published)],
        "shards": [{"shard": "d0", "retained_bytes": 4_096}],
        "listeners": [],
        "links": [{**link("n2"), "sent_bytes": published}, {**link("n2"), "direction": "in"}],
        **facts,
    }


def engine(published: int) -> dict[str, Any]:
    counted = {"commits": published, "committed_messages": published, "committed_bytes": 10 * published}
    histogram = {"counts": [0, 0, published, published // 50], "sum_us": 400 * published}
    state = {"state": "ok", "queue_bytes": 0, "damaged_messages": 0, "commit": histogram}
    return {"engine": "d0", "log": "d0-x", **counted, **state}


def link(peer: str) -> dict[str, Any]:
    return {
        "peer": peer,
        "direction": "out",
        "rtt_us": 250,
        "outbox_bytes": 0,
        "sent_bytes": 0,
        "received_bytes": 0,
    }


def topic(name: str, published: int, **facts: Any) -> dict[str, Any]:
    known = {"subscribers": 1, "followers": 0, "shard": "m0", "owner": "n1", "retained": 5, "retained_bytes": 50}
    return {"topic": name, "tenant": "", "published": published, **known, **facts}


def looked(one: dict[str, Any], topics: list[dict[str, Any]], name: str = "n1") -> Look:
    slow = {"connection": "c-1", "user": name, "tenant": "", "address": "192.0.2.1", "node": name}
    held: dict[str, Any] = {"waiting_bytes": 70_000, "paused_ms": 12, "why": f"paused {name}"}
    kept = {"name": name, "kind": "durable", "filter": "#", "members": 0, "in_flight": 1, "pending": 2}
    names = [
        {**kept, "lag": 9, "dead_letters": 0, "home": name},
        {**kept, "lag": 90, "dead_letters": 0, "home": "n1"},
    ]
    return Look(
        {"asked": name, "nodes": {name: one}, "unanswered": []},
        {"topics": topics, "known": len(topics), "unanswered": []},
        {"connections": [{**slow, **held}], "unanswered": ["n3"]},
        {"names": names, "unanswered": []},
    )


def test_rates_are_differences_over_the_time_of_the_node_itself() -> None:
    before = looked(node(), [topic("a", 10), topic("b", 10)])
    now = looked(node(uptime_ms=12_000, published=300), [topic("a", 20), topic("b", 50), topic("c", 7)])
    shown = picture(before, now, "published", 2)
    assert shown["nodes"][0]["rates"]["published"] == 100.0
    assert shown["nodes"][0]["rates"]["delivered"] == 300.0
    assert shown["totals"]["rates"]["published"] == 100.0
    assert [(one["topic"], one["rate"]) for one in shown["topics"]] == [("b", 20.0), ("a", 5.0)]
    assert shown["known_topics"] == 3
    assert [one["lag"] for one in shown["names"]] == [90, 9]  # who is behind the most stands first
    assert shown["unanswered"] == ["n3"]
    (kept,) = shown["disks"]
    assert (kept["commits"], kept["messages"], kept["bytes"], kept["held_bytes"]) == (100.0, 100.0, 1000.0, 4_096)
    assert [(one["peer"], one["sent"]) for one in shown["links"]] == [("n2", 100.0)]


def test_latencies_are_of_what_was_done_between_the_looks() -> None:
    shown = picture(looked(node(), []), looked(node(uptime_ms=11_000, published=200), []), "name", 5)
    found = {
        one["what"]: (one["count"], one["mean_us"], one["p50_us"], one["p99_us"]) for one in shown["latencies"]
    }
    assert found == {"loop lag": (100, 50, 100, 100), "d0 commit": (102, 392, 400, None)}
    assert not picture(looked(node(), []), looked(node(uptime_ms=11_000), []), "name", 5)["latencies"]


@pytest.mark.parametrize(
    ("part", "bound"), [(0.5, 100), (0.9, 200), (0.99, 400), (1.0, None)], ids=["half", "90", "99", "all"]
)
def test_a_quantile_is_the_bound_that_so_many_are_below(part: float, bound: int | None) -> None:
    assert quantile([60, 35, 4, 1], [100, 200, 400], part) == bound


def test_a_node_that_was_started_anew_has_no_rate() -> None:
    shown = picture(looked(node(), []), looked(node(uptime_ms=500, published=1), [topic("a", 1)]), "published", 5)
    assert shown["nodes"][0]["rates"]["published"] is None
    assert shown["totals"]["rates"]["published"] is None
    assert not shown["latencies"]
    assert shown["topics"][0]["rate"] is None


@pytest.mark.parametrize(
    ("sort", "order"),
    [("published", "bac"), ("subscribers", "cab"), ("bytes", "acb"), ("name", "abc")],
)
def test_topics_are_sorted_as_asked(sort: str, order: str) -> None:
    before = [topic("a", 0), topic("b", 0), topic("c", 0)]
    now = [
        topic("a", 5, retained_bytes=900),
        topic("b", 9, retained_bytes=10),
        topic("c", 1, subscribers=8, retained_bytes=500),
    ]
    shown = picture(looked(node(), before), looked(node(uptime_ms=11_000), now), sort, 5)
    assert "".join(one["topic"] for one in shown["topics"]) == order


def test_one_is_one_and_not_ones() -> None:
    assert [counted(number, "node") for number in (0, 1, 2_000)] == ["0 nodes", "1 node", "2,000 nodes"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_part_is_drawn_in_the_width_there_is(width: int) -> None:
    shown = picture(looked(node(), []), looked(node(uptime_ms=11_000, published=200), [topic("a", 1)]), "name", 5)
    text = as_text(shown, width)
    assert max(map(len, text.splitlines())) <= width
    assert [line.split()[0] for line in text.splitlines() if line.startswith(HEADINGS)] == list(HEADINGS)
    assert "no answer from n3" in text
    assert ("VERSION" in text) == (width >= 110)


def test_nothing_that_clients_chose_drives_the_terminal() -> None:
    """S27: users, topics, names of nodes and reasons; and no markup of the library that draws."""
    bad = node(unready=[BAD], version=BAD, uptime_ms=11_000, links=[link(BAD)])
    topics = [topic(BAD, 9, tenant=BAD), topic("[red]x[/red]", 3)]
    text = as_text(picture(looked(node(), [], BAD), looked(bad, topics, BAD), "name", 5), 200, BAD)
    assert all(character == "\n" or character.isprintable() for character in text)
    assert "[red]x[/red]" in text


async def test_one_picture_as_text_names_what_there_is(nursery: trio.Nursery, tmp_path: Path) -> None:
    broker = BrokerAt(nursery, {"data": str(tmp_path)})
    await broker.start()
    assert (await run("pub", "rooms/1", "hello", url=broker.url)).code == ExitCode.OK
    ended = await top("--data", str(tmp_path), environ={"COLUMNS": "60"})
    assert ended.code == ExitCode.OK, ended
    lines = ended.output.splitlines()
    assert lines[0].startswith("triode asked at n1: 1 node, ")
    parts = [line.split()[0] for line in lines if line.startswith(HEADINGS)]
    assert [part for part in parts if part != "LATENCY"] == ["NODE", "DISK", "TOPIC"]  # that, if the loop was slow
    assert any(line.startswith("rooms/1 ") for line in lines)
    assert max(map(len, lines)) <= 60
    await broker.stop()


async def test_the_same_is_asked_over_http(broker: BrokerAt) -> None:
    """An open broker is operated from its own machine."""
    url = broker.url.replace("ws://", "http://").removesuffix("/ws")
    ended = await top("--url", url, "--json")
    assert ended.code == ExitCode.OK, ended
    shown = json.loads(ended.output)
    assert shown["nodes"][0]["node"] == shown["asked"] == "n1"
    assert shown["nodes"][0]["rates"]["published"] == 0


def test_requests_are_those_of_the_table() -> None:
    rows = {(row.method, row.path): getattr(row.call, "call", "") for row in operators.OPERATIONS}
    assert {name: rows.get(request) for name, request in REQUESTS.items()} == {name: name for name in REQUESTS}


async def top(*arguments: str, **how: Any) -> Ended:
    return await run("top", "--once", "--interval", "0.05", *arguments, **how)


async def test_who_does_not_answer_is_named() -> None:
    ended = await top("--url", "http://127.0.0.1:9")
    assert ended.code == ExitCode.TIMEOUT
    assert ended.errors.startswith("triode top: no answer from http://127.0.0.1:9: ")
    for url in ("ws://127.0.0.1:9", "http://a:b@127.0.0.1:9", "http://127.0.0.1:9/v1"):
        assert (await top("--url", url)).code == ExitCode.USAGE


class Terminal:
    """`triode` at a terminal of its own."""

    def __init__(self, *arguments: str, columns: int) -> None:
        self._arguments = arguments
        self._columns = columns
        self._seen = b""

    async def __aenter__(self) -> "Terminal":
        self._ours, theirs = pty.openpty()
        self.resize(self._columns)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
        environ = {**clean, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environ.pop(name, None)
        command = [sys.executable, "-m", "triode_broker.cli", *self._arguments]
        streams: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self._process = await trio.lowlevel.open_process(command, env=environ, **streams)
        os.close(theirs)
        os.set_blocking(self._ours, False)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
        os.close(self._ours)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    async def until(self, words: bytes) -> bytes:
        """What was written up to these words, which are then forgotten."""
        with trio.fail_after(PATIENCE_SECONDS):
            while words not in self._seen:
                await trio.lowlevel.wait_readable(self._ours)
                self._seen += os.read(self._ours, 65_536)
        found, _, self._seen = self._seen.partition(words)
        return found

    async def code(self) -> int:
        with trio.fail_after(PATIENCE_SECONDS):
            return await self._process.wait()


async def test_at_a_terminal_it_is_live_takes_keys_and_new_sizes_and_outlives_the_broker(broker: BrokerAt) -> None:
    url = broker.url.replace("ws://", "http://").removesuffix("/ws")
    async with Terminal("top", "--url", url, "--interval", "0.1", columns=130) as terminal:
        first = await terminal.until(b"topics by published")
        assert b"\x1b[?1049h" in first  # a screen of its own
        assert b"VERSION" in first
        terminal.type(b"s")
        await terminal.until(b"topics by subscribers")
        terminal.resize(60)
        terminal.signal(signal.SIGWINCH)
        await terminal.until(b"topics by subscribers")
        await broker.stop()
        await terminal.until(b"trying again")
        await broker.start()
        back = await terminal.until(b"publish -")  # of a node that was started anew
        assert b"triode" in back
        terminal.type(b"q")
        assert await terminal.code() == ExitCode.OK
        await terminal.until(b"\x1b[?1049l")


async def test_without_a_terminal_a_picture_is_printed_each_interval(broker: BrokerAt) -> None:
    url = broker.url.replace("ws://", "http://").removesuffix("/ws")
    async with Triode("top", "--url", url, "--interval", "0.05", "--count", "2") as program:
        output = program.output()
        said = await output.rest()
        assert sum(line.startswith("triode asked at") for line in said) == 2
        assert not any("\x1b" in line for line in said)
        assert await program.code() == ExitCode.OK
