"""The few things the engine asks of SQLite, and what its errors mean.

`connect` can be replaced, so that tests can put a file system behind it that fails or loses power. Whatever stands
in must raise `sqlite3.Error` with `sqlite_errorcode`, as the standard library does.
"""

import ctypes
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

#: Statements of every size that `inserting` makes, and the reads.
CACHED_STATEMENTS = 256
#: Rows by UPSERT and `max()` with the columns beside it: 3.35; Debian 12 has 3.40.
OLDEST_SQLITE = (3, 35, 0)


class Connection(Protocol):
    """What is used of `sqlite3.Connection`."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement; returns a cursor."""

    def close(self) -> None:
        """Close the file."""


Connect = Callable[[Path], Connection]
#: "full": no space. "damaged": the file is not what SQLite wrote. "failed": everything else.
FaultKind = Literal["full", "damaged", "failed"]
_KINDS: dict[int, FaultKind] = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}


class Fault(Exception):
    """The store could not do what it was asked for."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def connect(path: Path) -> sqlite3.Connection:
    """Open a file of the real file system; for one thread at a time."""
    return sqlite3.connect(
        path, timeout=1, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
    )


def leave_open(db: Connection) -> None:
    """Never close it, not even at the interpreter's end.

    To close is to copy the write-ahead log into the file and to delete it. After a failed fsync the kernel may
    hold other pages than the disk does: what is there is looked at, and verified, at the next start.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))


def kind_of(error: sqlite3.Error) -> FaultKind:
    """What an error of SQLite means to a store."""
    return _KINDS.get(code_of(error), "failed")


def code_of(error: sqlite3.Error) -> int:
    """The primary result code; 0: it is not of SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def fault(error: sqlite3.Error) -> Fault:
    """The same as a fault."""
    return Fault(kind_of(error), str(error))
