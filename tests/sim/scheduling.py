"""One trio run that a seed decides: virtual time, a fixed order of tasks, and machines whose tasks can be frozen.

Knows trio's insides, so that nothing else here has to; `deterministic` and `Machine` are the only ones that touch
them. The surprising decision: SIGSTOP is done where trio makes a task runnable. A frozen machine's tasks, whoever
wakes them, are put aside until it goes on, so the code under test needs no gate, and no step of it runs meanwhile.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

import trio
from trio._core import _run as insides
from trio.testing import MockClock

T = TypeVar("T")
#: The machine that a task runs on; tasks inherit it from the one that started them.
_MACHINE: "ContextVar[Machine]" = ContextVar("machine")


class Machine:
    """What stops and goes on together: the tasks of one node, and what the network calls there."""

    def __init__(self) -> None:
        self.is_stopped = False
        self._tasks: list[trio.lowlevel.Task] = []  # runnable, but for the stop
        self._calls: list[Callable[[], None]] = []
        self._context = copy_context()
        self._context.run(_MACHINE.set, self)

    def call(self, call: Callable[[], None]) -> None:
        """Now, or when it goes on; what it starts belongs to the machine."""
        if self.is_stopped:
            self._calls.append(call)
        elif _MACHINE.get(None) is self:
            call()
        else:
            self._context.run(call)

    async def run(self, inside: Callable[[], Awaitable[None]]) -> None:
        """Everything that is started inside belongs to it."""
        _MACHINE.set(self)
        await inside()

    def stop(self) -> None:
        """SIGSTOP."""
        self.is_stopped = True
        runnable = insides.GLOBAL_RUN_CONTEXT.runner.runq
        waiting = list(runnable)
        runnable.clear()
        for task in waiting:
            (self._tasks if task.context.get(_MACHINE) is self else runnable).append(task)

    def go_on(self) -> None:
        """SIGCONT: first what the network brought, then whoever was woken meanwhile."""
        self.is_stopped = False
        calls, self._calls = self._calls, []
        for call in calls:
            self.call(call)
        tasks, self._tasks = self._tasks, []
        insides.GLOBAL_RUN_CONTEXT.runner.runq.extend(tasks)

    def forget(self) -> None:
        """What waits is not to be done any more: the processes are gone."""
        self._calls = []

    def put_aside(self, task: trio.lowlevel.Task) -> None:
        """It would run if the machine did."""
        self._tasks.append(task)


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Inside, trio runs tasks in an order that the seed decides, and none of a machine that is stopped.

    Trio shuffles what is runnable with a Random of its own, after sorting it where this switch is set; hypothesis
    does the same through its plugin. `Runner.reschedule` is the one way in which a task becomes runnable.
    """
    module: Any = insides
    switch, state = module._ALLOW_DETERMINISTIC_SCHEDULING, module._r.getstate()
    reschedule = module.Runner.reschedule

    def reschedule_unless_stopped(runner: Any, task: trio.lowlevel.Task, *value: Any) -> None:
        reschedule(runner, task, *value)
        machine = task.context.get(_MACHINE)
        if machine is not None and machine.is_stopped:
            machine.put_aside(runner.runq.pop())

    module._ALLOW_DETERMINISTIC_SCHEDULING = True
    module._r.seed(seed)
    module.Runner.reschedule = reschedule_unless_stopped
    try:
        yield
    finally:
        module.Runner.reschedule = reschedule
        module._ALLOW_DETERMINISTIC_SCHEDULING = switch
        module._r.setstate(state)


def run(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Run it in virtual time, which begins at 0 and jumps whenever nobody has anything to do."""
    with deterministic(seed):
        return trio.run(main, clock=MockClock(autojump_threshold=0))


async def passes(seconds: float) -> None:
    """Let virtual time pass."""
    with trio.move_on_after(seconds):
        await trio.sleep_forever()
