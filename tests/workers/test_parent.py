"""The parent's arithmetic and its lines; whole hosts are in tests/cli/test_workers.py."""

import sys
from typing import Final

import structlog
import trio
import trio.testing
from structlog.typing import EventDict
from triode_broker.config import Config, Limits, TopicRule, Worker
from triode_broker.workers.parent import MAX_LINE_BYTES, Delays, Drain, Lines, Parent, Up, as_line
from triode_broker.workers.plan import Start


def test_a_worker_that_ends_again_and_again_waits_longer_each_time() -> None:
    delays = Delays()
    assert [delays.after(1.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_worker_that_lived_for_long_starts_at_once() -> None:
    delays = Delays()
    assert [delays.after(lived) for lived in (1.0, 59.9, 60.0, 1.0)] == [0.1, 0.2, 0.1, 0.2]


async def test_lines_are_records_and_anything_else_is_passed_over() -> None:
    near, far = trio.testing.memory_stream_one_way_pair()
    said = as_line(Up(["http://127.0.0.1:1"])) + b"a program printed this\n\xff\n" + as_line(Drain(1.5))
    for piece in (said[:5], said[5:], b"x" * (MAX_LINE_BYTES + 9), b"\n", as_line(Drain(2.0)), b"half"):
        await near.send_all(piece)
    await near.aclose()
    assert [record async for record in Lines(far).records()] == [
        Up(["http://127.0.0.1:1"]),
        Drain(1.5),
        Drain(2.0),
    ]


#: A worker that asks for the settings many times, and ends when it has been told of them as often as all ask.
_ASKS: Final = """
import json, sys
start = json.loads(sys.stdin.readline())
say = lambda **line: print(json.dumps(line), flush=True)
say(type="Up", urls=["http://127.0.0.1:1"])
for _ in range(20):
    say(type="Reread")
told = 0
for line in sys.stdin:
    kind = json.loads(line)["type"]
    if kind in ("Drain", "End"):
        break
    told += kind == "Reload"
    if told == 40 and start["worker"]["number"] == 0:
        say(type="Drain", seconds=0)
"""


async def test_workers_that_ask_for_a_reload_at_once_are_each_told_of_every_one() -> None:
    """S14: two operators at two workers; a line to a worker does not meet another one on its way."""
    starts = [Start(Config(node=f"n{number}"), Worker(number, 2)) for number in range(2)]
    log = structlog.wrap_logger(structlog.testing.CapturingLogger())
    parent = Parent(starts, (sys.executable, "-c", _ASKS), log, lambda urls: None, Config)
    with trio.fail_after(30):
        assert await parent.run() == 0


#: A worker that never reads again what it is told, and has the settings read until its pipe is full.
_DEAF: Final = """
import json, os, signal
os.read(0, 65536)
for line in ({"type": "Up", "urls": ["x"]}, *[{"type": "Reread"}] * 100, {"type": "Drain", "seconds": 0}):
    print(json.dumps(line), flush=True)
signal.pause()
"""


async def test_a_worker_that_does_not_listen_does_not_keep_its_parent_from_ending() -> None:
    is_ending = trio.Event()

    def note(logger: object, method: str, event: EventDict) -> EventDict:
        if event["event"] == "workers_drain":
            is_ending.set()
        return event

    log = structlog.wrap_logger(structlog.testing.CapturingLogger(), [note])
    topics = tuple(TopicRule(filter=f"a/{number}") for number in range(100))
    start = Start(Config(), Worker(0, 1))
    parent = Parent([start], (sys.executable, "-c", _DEAF), log, lambda urls: None, lambda: Config(topics=topics))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parent.run)
            await is_ending.wait()
            parent._kill()
    assert parent._code == 1


async def test_workers_have_the_time_in_which_they_are_not_ready_beside_the_window_to_drain() -> None:
    limits = Limits(drain_delay_ms=120_000, drain_window_ms=10_000)
    parent = Parent([Start(Config(limits=limits), Worker(0, 1))], (), None, lambda urls: None)
    parent._stop(Drain())
    assert parent._patient_until - trio.current_time() > 130
