"""Runs a command's async part; failures come out as themselves.

Knows trio's groups. The surprising decision: they are taken apart here once, so that a Failure may be raised in
any task of a command and be caught in one place.
"""

from collections.abc import Awaitable, Callable, Iterator

import trio

from triode_broker.cli.exit_codes import ExitCode, Failure

_EXPECTED = (KeyboardInterrupt, Failure, OSError)  # in the order in which they count


def run_trio(main: Callable[[], Awaitable[ExitCode]]) -> ExitCode:
    """`trio.run`, with a Ctrl-C, a Failure or an OSError raised as itself, out of however many nurseries.

    A group that has anything else in it is a bug and stays whole.
    """
    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        errors = list(leaves(group))
        if all(isinstance(error, _EXPECTED) for error in errors):
            raise next(error for kind in _EXPECTED for error in errors if isinstance(error, kind)) from None
        raise


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions in a group of groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
