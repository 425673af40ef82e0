"""What the user is told on stderr, and the one progress line."""

import io

import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from triode_broker.cli.screen import FIRST_PROGRESS_SECONDS, PROGRESS_SECONDS, Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def watch(clock: MockClock, stream: io.StringIO, *pauses: float, say: str = "") -> str:
    """Show progress for so long, say something, end."""
    screen = Screen(stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(screen.show_progress, lambda: "5 lines \x1b[2J")
        for pause in pauses:
            await wait_all_tasks_blocked()
            clock.jump(pause)
        await wait_all_tasks_blocked()
        if say:
            screen.tell(say)
        nursery.cancel_scope.cancel()
    return stream.getvalue()


async def test_quick_work_shows_no_progress(mock_clock: MockClock) -> None:
    assert await watch(mock_clock, Terminal(), FIRST_PROGRESS_SECONDS / 2) == ""


async def test_long_work_shows_one_line_that_is_kept_current_and_cleared(mock_clock: MockClock) -> None:
    shown = await watch(mock_clock, Terminal(), FIRST_PROGRESS_SECONDS, PROGRESS_SECONDS)
    assert shown == "\r\x1b[K5 lines \\u001b[2J" * 2 + "\r\x1b[K"


async def test_a_line_takes_the_place_of_the_progress_line(mock_clock: MockClock) -> None:
    shown = await watch(mock_clock, Terminal(), FIRST_PROGRESS_SECONDS, say="connection lost")
    assert shown.endswith("\r\x1b[Kconnection lost\n")


async def test_without_a_terminal_there_is_no_progress(mock_clock: MockClock) -> None:
    assert await watch(mock_clock, io.StringIO(), 60, 60) == ""


def test_a_dead_stderr_does_not_end_the_work() -> None:
    closed = io.StringIO()
    closed.close()
    Screen(closed).tell("anything")
