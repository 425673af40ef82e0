"""The committer: gives each log on disk its thread, ends the loop's turns for it, and brings the answers home.

Knows trio and nothing of how a log stores. The surprising decision: it has no timer. What a turn of the loop
appended is handed over at its end; while the disk is busy the next turns gather behind it and go together.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial

import trio

from triode_broker.log.disk.log import DiskLog

#: A disk that does not answer holds up the end of the process for so long.
CLOSE_SECONDS = 30


class Committer:
    """Serves some logs until cancelled; then what was accepted is committed and the files are closed."""

    def __init__(self, logs: Sequence[DiskLog], flush: Callable[[], None], report: Callable[..., None]) -> None:
        """`flush` ends a turn in which something was told; `report(event, **facts)` hears of broken callbacks."""
        self._logs = list(logs)
        self._flush = flush
        self._token: trio.lowlevel.TrioToken | None = None  # while it runs
        self._report = report
        self._bell = trio.Event()
        self._is_rung = False  # in the thread: the loop is on its way
        self._ended = 0  # threads

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        for log in self._logs:
            self._begin(log, self._token)
        task_status.started()
        self._ring()
        try:
            while True:
                await self._turn()
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True) as scope:
                await self._close()
            if scope.cancelled_caught:
                self._report("store_not_closed", error=f"the disk has not answered for {CLOSE_SECONDS} s")

    def add(self, log: DiskLog) -> None:
        """Serve one more, from now on. Only while it runs."""
        assert self._token is not None
        self._logs.append(log)
        self._begin(log, self._token)
        self._ring()

    def _begin(self, log: DiskLog, token: trio.lowlevel.TrioToken) -> None:
        log.wake = self._ring
        log.answered = partial(self._ring_from_thread, token)
        log.barrier = self._call
        thread = threading.Thread(target=self._work, args=(log, token), name=f"log-{log.name}", daemon=True)
        thread.start()

    async def _turn(self) -> None:
        await self._bell.wait()
        self._bell = trio.Event()
        for log in self._logs:
            log.take_answers()
            log.close_turn()
        self._flush()

    async def _close(self) -> None:
        for log in self._logs:
            log.stop()
        while self._ended < len(self._logs):
            await self._turn()
        for log in self._logs:
            log.take_answers()
        self._flush()

    def _work(self, log: DiskLog, token: trio.lowlevel.TrioToken) -> None:
        """The thread of one log."""
        try:
            log.work()
        finally:
            self._tell(token, self._end)

    def _end(self) -> None:
        self._ended += 1
        self._ring()

    def _ring(self) -> None:
        self._is_rung = False
        self._bell.set()

    def _ring_from_thread(self, token: trio.lowlevel.TrioToken) -> None:
        if not self._is_rung:
            self._is_rung = True
            self._tell(token, self._ring)

    def _tell(self, token: trio.lowlevel.TrioToken, what: Callable[[], None]) -> None:
        try:
            token.run_sync_soon(what)
        except trio.RunFinishedError:
            self._report("store_outlived_loop")  # after CLOSE_SECONDS

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        """The barrier around each callback: what it raises ends nothing else."""
        try:
            callback(*arguments)
        except Exception as error:  # noqa: BLE001  # reported once, with its traceback
            self._report("callback_failed", exc_info=error)


async def serve(
    logs: Sequence[DiskLog],
    flush: Callable[[], None],
    report: Callable[..., None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve some logs until cancelled; see `Committer`."""
    await Committer(logs, flush, report).run(task_status)
