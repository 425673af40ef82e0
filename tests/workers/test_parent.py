"""The parent's arithmetic and its lines; the processes themselves are in tests/cli/test_workers.py."""

import trio
import trio.testing
from triode_broker.workers.parent import MAX_LINE_BYTES, Delays, Drain, Lines, Up, as_line


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
