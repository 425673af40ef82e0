"""SQLite on a file system of the test's: apsw in the place of the standard library's sqlite3.

The surprising decision: errors are translated to `sqlite3.Error` with their code: the engine knows one kind.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
from triode_broker.log.disk.connection import Connection


class Rows:
    """All that a statement gave."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def fetchone(self) -> Any:
        """The next, or None."""
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Any]:
        """The rest."""
        rows, self._rows = self._rows, []
        return rows


class ApswConnection:
    """A `disk.connection.Connection`."""

    def __init__(self, path: Path, vfs: str) -> None:
        self._inner = translated(lambda: apsw.Connection(str(path), vfs=vfs))

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        """One statement, all of it."""
        return Rows(translated(lambda: list(self._inner.execute(sql, tuple(parameters)))))

    def close(self) -> None:
        """As the engine asks, in good order."""
        translated(self._inner.close)


def translated(work: Callable[[], Any]) -> Any:
    """Do it; what apsw raises is raised as sqlite3 would."""
    try:
        return work()
    except apsw.Error as error:
        raised = sqlite3.OperationalError(str(error))
        raised.sqlite_errorcode = getattr(error, "extendedresult", 0) or getattr(error, "result", 0)
        raise raised from error


def connector(vfs: str) -> Callable[[Path], Connection]:
    """`connect` on a file system."""
    return lambda path: ApswConnection(path, vfs)


class FaultyDisk(apsw.VFS):
    """The real file system, until the n-th operation of a kind; then it is as the test says."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.seen = 0  # operations counted
        self.kinds: tuple[str, ...] = ()  # which are
        self.first = 0  # fails from here on; 0: none does
        self.last = 0
        self.code = 0

    def fail(self, kinds: tuple[str, ...], first: int, last: int, code: int) -> None:
        """Operations `first` to `last` of these kinds, counted from now on, fail."""
        self.seen, self.kinds, self.first, self.last, self.code = 0, kinds, first, last, code

    def heal(self) -> None:
        """Nothing fails any more."""
        self.first = 0

    def before(self, kind: str) -> None:
        """Raise when it is time."""
        if kind in self.kinds:
            self.seen += 1
            if 0 < self.first <= self.seen <= self.last:
                raise apsw.exception_for(self.code)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "FaultyFile":
        """As SQLite asks."""
        return FaultyFile(self, name, flags)


class FaultyFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:
        """A write."""
        self._disk.before("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        """An fsync."""
        self._disk.before("sync")
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:
        """A cut."""
        self._disk.before("truncate")
        super().xTruncate(size)

    def xRead(self, amount: int, offset: int) -> bytes:
        """A read."""
        self._disk.before("read")
        return super().xRead(amount, offset)
