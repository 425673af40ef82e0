"""`triode bench`: how it counts and adds up, what it draws, and the command itself."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from triode_broker.cli.bench import as_text
from triode_broker.cli.bench_figures import Times, joined, rows
from triode_broker.cli.bench_plots import spread, timeline
from triode_broker.cli.bench_worker import Reader
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import BrokerAt, run


def of(*ms: float) -> Times:
    times = Times()
    for one in ms:
        times.add(int(one * 1e6))
    return times


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99, 0.999, 1.0])
def test_percentiles_are_right_to_two_percent(part: float) -> None:
    source = random.Random(5)
    values = sorted(source.lognormvariate(1, 2) for _ in range(5_000))
    true = values[max(int(part * len(values)) - 1, 0)] * 1_000
    found = of(*values).quantile_us(part)
    assert true * 0.999 <= found <= true * 1.021 or true < 1


def test_times_of_several_processes_add_up() -> None:
    reader = {"topics": [0], "received": 3, "repeated": 1, "disordered": 0, "gaps": 0}

    def report(times: Times, published: int, *readers: dict[str, Any]) -> dict[str, Any]:
        facts = {"delivered": times.buckets, "acknowledged": {}, "slots": {0: 2, 2: 1}, "errors": {"Refused": 1}}
        return {**facts, "published": {0: published}, "readers": list(readers), "seconds": 1.0, "cpu": 0.5}

    found = joined([report(of(1, 2), 2, reader), report(of(3), 1)])
    assert (found["published"], found["delivered"], found["expected"]) == (3, 3, 3)
    assert (found["missing"], found["repeated"], found["errors"]) == (1, 1, {"Refused": 2})
    assert found["timeline"] == [4, 0, 2]
    assert found["latency"]["count"] == 3
    assert joined([])["latency"] == {}


def test_what_is_missing_late_or_there_again_is_told_apart() -> None:
    reader = Reader([0])
    for number in (0, 1, 4, 2, 4, 5):
        reader.take("t", "p", number)
    reader.take("t", "q", 0)
    shown = reader.report()
    assert (shown["received"], shown["repeated"], shown["disordered"]) == (7, 1, 1)


def test_bars_and_lines_are_drawn_in_plain_characters() -> None:
    times = of(*(0.5 + number / 10 for number in range(100)))
    counts, bounds = rows(times)
    assert sum(counts) == 100
    assert len(bounds) == len(counts) + 1 <= 16
    assert "\x1b" not in spread(times) + timeline([1, 5, 2], 100)
    assert "deliveries/s" in timeline([0], 100)
    assert rows(Times()) == ([], [])


def test_it_says_when_it_has_measured_itself() -> None:
    settings = {"publishers": 1, "subscribers": 1, "topics": 1, "size": 1, "rate": 0.0, "duration": 1.0}
    report = {"url": "ws://x", "settings": {**settings, "processes": 1}, "seconds": 1.0, "errors": {"E\x1b": 2}}
    counts = dict.fromkeys(("published", "delivered", "missing", "repeated", "disordered", "gaps"), 3)
    text = as_text({**report, **counts, "latency": {}, "ack": {}, "load_cpu": 0.97})
    assert "the load was what was measured" in text
    assert "without a rate latencies leave out" in text
    assert "E\\u001b 2" in text


async def test_several_processes_make_a_load_and_nothing_is_missing(broker: BrokerAt, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    words = ("--publishers", "2", "--subscribers", "2", "--topics", "2", "--spread", "--rate", "100")
    ended = await run(
        "bench", *words, "--duration", "0.3", "--processes", "2", "--json", str(file), url=broker.url
    )
    assert ended.code == ExitCode.OK, ended
    found = json.loads(file.read_bytes())
    assert found["published"] == found["delivered"] == found["expected"] > 20
    assert (found["missing"], found["errors"]) == (0, {})
    assert found["latency"]["p50_us"] <= found["latency"]["p99.9_us"]
    parts = [line.split()[0] for line in ended.output.splitlines()[1:7]]
    assert parts == ["published", "delivered", "missing", "latency", "ack", "load"]


async def test_with_a_rate_all_that_is_due_is_published_and_counts(broker: BrokerAt) -> None:
    """Coordinated omission: who has to wait for acknowledgements is late, and leaves nothing out."""
    words = ("--rate", "200", "--duration", "0.4", "--window", "1", "--json", "-")
    ended = await run("bench", *words, url=broker.url)
    assert ended.code == ExitCode.OK, ended
    found = json.loads(ended.output)
    assert found["published"] == 80  # by the schedule, however long each took
    assert found["latency"]["count"] == 80


async def test_a_load_that_cannot_be_made_says_why(broker: BrokerAt) -> None:
    ended = await run("bench", "--durable", "--duration", "0.1", url=broker.url)
    assert ended.code == ExitCode.REFUSED
    assert "durable needs one" in ended.errors
    assert (
        ended.errors.count("triode bench: ") == 1
    )  # of the process that makes the load: by the one that started it
    assert "Traceback" not in ended.errors
    assert (await run("bench", "--rate", "-1", url=broker.url)).code == ExitCode.USAGE
