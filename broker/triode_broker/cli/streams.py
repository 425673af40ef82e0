"""The three standard streams when they are not what a program expects: closed, full, a directory, read by nobody.

Knows descriptors, nothing of commands. The surprising decision: the number of a closed stream is taken at once by
/dev/null opened the wrong way round. No socket can then get it and be written to as if it were stdout, and using
the stream fails as using a closed one should, in the one place where such errors become sentences.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from triode_broker.cli.exit_codes import ExitCode, Failure

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def hold_closed_streams() -> None:
    """Before anything is opened: see to it that descriptors 0, 1 and 2 exist, and Python's objects for them."""
    for number, mode in ((_STDIN, os.O_WRONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest number that is free, which is this one
    # Typed as never None, but so they are where the stream was closed when Python began.
    if sys.__stdin__ is None:
        sys.stdin = os.fdopen(_STDIN, closefd=False)
    if sys.__stdout__ is None:
        sys.stdout = os.fdopen(_STDOUT, "w", closefd=False)
    if sys.__stderr__ is None:
        sys.stderr = os.fdopen(_STDERR, "w", closefd=False)


def say(text: str) -> None:
    """Write to stdout, at once. Raises Failure, or BrokenPipeError where its reader has gone."""
    with failures_of("stdout"):
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def failures_of(stream: str) -> Iterator[None]:
    """Turns what a descriptor raises into a Failure that names the stream; a BrokenPipeError stays one."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if stream == "stdout":
            drop_stdout()
        raise Failure(ExitCode.FAILURE, f"{stream}: {error.strerror or error}") from error


def drop_stdout() -> None:
    """Nothing more can be written. Python would try its buffer once more at the end, and complain."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
