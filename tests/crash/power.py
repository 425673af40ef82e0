"""A disk that loses power: what was not flushed is there or not, sector by sector, as the dice say.

SQLite runs on it through apsw. For every sector written since its file was last flushed the content before is
kept; when the power fails each of these goes back to it or not. The surprising decision: the cut is taken as a
picture of the files at that moment, and the program runs on unaware, so that no process needs to die.
"""

import os
from pathlib import Path
from random import Random

import apsw

SECTOR_BYTES = 512


class PowerDisk(apsw.VFS):
    """The real file system, with a memory of what is not flushed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.random = Random(0)
        self.operations = 0  # since `plug_in`
        self.cut_at = 0  # the operation at which the power fails; 0: it does not
        self.survivors = 0.5  # the part of unflushed sectors that are on the disk all the same
        self.picture: dict[Path, bytes] | None = None  # what is on the disk, once the power has failed
        self.unflushed: dict[Path, Unflushed] = {}
        self.deleted: dict[Path, bytes] = {}  # and its directory was not flushed

    def plug_in(self, seed: int, cut_at: int = 0, survivors: float = 0.5) -> None:
        """From now on there is power, until the operation `cut_at`."""
        self.random = Random(seed)
        self.operations, self.cut_at, self.survivors = 0, cut_at, survivors
        self.picture = None
        self.unflushed, self.deleted = {}, {}

    def step(self) -> None:
        """Before each operation."""
        self.operations += 1
        if self.operations == self.cut_at:
            self.cut()

    def cut(self) -> None:
        """The power fails now."""
        self.picture = {path: one.after_a_cut(self.random, self.survivors) for path, one in self.unflushed.items()}
        for path, data in self.deleted.items():
            if path not in self.picture and self.random.random() < self.survivors:
                self.picture[path] = data

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "PowerFile":
        """As SQLite asks."""
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else str(name))
        self.unflushed.setdefault(path, Unflushed(path))
        self.deleted.pop(path, None)
        return PowerFile(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """Gone at once for whoever looks; on the disk only once its directory is flushed."""
        self.step()
        path = Path(filename)
        if not syncdir and path.exists():
            self.deleted[path] = path.read_bytes()
        self.unflushed.pop(path, None)
        super().xDelete(filename, syncdir)


class Unflushed:
    """One file's sectors as they were when it was last flushed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before: dict[int, bytes] = {}
        self._size = -1  # then; -1: nothing was written since

    def note(self, start: int, end: int) -> None:
        """Bytes are about to change."""
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if self._size < 0:
                self._size = size
            for sector in range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
                if sector not in self._before:
                    file.seek(sector * SECTOR_BYTES)
                    self._before[sector] = file.read(SECTOR_BYTES).ljust(SECTOR_BYTES, b"\0")

    def flushed(self) -> None:
        """All of it is on the disk."""
        self._before = {}
        self._size = -1

    def after_a_cut(self, random: Random, survivors: float) -> bytes:
        """What the disk has."""
        data = bytearray(self.path.read_bytes())
        if self._size < 0:
            return bytes(data)
        end = self._size
        for sector, before in self._before.items():
            start = sector * SECTOR_BYTES
            if random.random() < survivors:
                end = max(end, min(start + SECTOR_BYTES, len(data)))
            elif start < len(data):
                data[start : start + SECTOR_BYTES] = before[: len(data) - start]
            else:
                data += before.rjust(start + SECTOR_BYTES - len(data), b"\0")
        return bytes(data[:end]).ljust(self._size, b"\0")


class PowerFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: PowerDisk, path: Path, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._unflushed = disk.unflushed[path]

    def xWrite(self, data: bytes, offset: int) -> None:
        """In the kernel, not on the disk."""
        self._disk.step()
        self._unflushed.note(offset, offset + len(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        """A cut of the file is a write as well."""
        self._disk.step()
        self._unflushed.note(size, max(size, self.xFileSize()))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        """On the disk."""
        self._disk.step()
        self._unflushed.flushed()
