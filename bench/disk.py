"""The disk that the storing servers write to: where it is, what kind it is, what one flush costs.

What it must not know: servers, workloads, reports.
The surprising decision: its flushes are timed in the same run as the servers', between their windows. An
acknowledged durable publish costs what the disk asks, and a shared disk asks something else every hour.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
_SIZES = (4096, 65536)  # about one message with its page, about one batch


@attrs.frozen
class Flush:
    """What `fdatasync` took after so many bytes were appended."""

    size: int
    p50_ms: float
    p99_ms: float


@attrs.frozen
class Disk:
    """What lies under a directory."""

    filesystem: str
    device: str
    flushes: tuple[Flush, ...]

    @property
    def is_memory(self) -> bool:
        """No disk at all: what is flushed there is not durable, and costs nothing."""
        return self.filesystem in _MEMORY

    def __str__(self) -> str:
        what = ", ".join(
            f"{one.size // 1024} KiB and fdatasync {one.p50_ms:.2f} ms (p99 {one.p99_ms:.2f})"
            for one in self.flushes
        )
        warning = ": THIS IS MEMORY, no figure of durable topics means anything" if self.is_memory else ""
        return f"{self.filesystem} on {self.device}{warning}; {what}"


def examine(folder: Path, times: int = 200) -> Disk:
    """Find out what a directory lies on, and time its flushes (0.2 s on a quick disk)."""
    return Disk(*_mount(folder), tuple(_flush(folder, size, times) for size in _SIZES))


@contextmanager
def room(parent: Path) -> Iterator[Path]:
    """A directory for one server, removed at the end with all that is in it."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="store-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def forget_cached(folder: Path) -> None:
    """Drop the page cache of all files under a directory, so that they are read from the disk again."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_socket():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)  # pages that are not on the disk yet would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def size_of(folder: Path) -> int:
    """Bytes of all files under a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _mount(folder: Path) -> tuple[str, str]:
    """(file system, device), by the device number the kernel names for both."""
    number = folder.stat().st_dev
    wanted = f"{os.major(number)}:{os.minor(number)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, what = line.partition(" - ")
        if fields.split()[2] == wanted:
            filesystem, device, *_ = what.split()
            return filesystem, device
    return "unknown", "unknown"


def _flush(folder: Path, size: int, times: int) -> Flush:
    block = os.urandom(size)
    spent = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(times):
            file.write(block)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            spent.append((time.perf_counter() - began) * 1e3)
    spent.sort()
    return Flush(size, spent[times // 2], spent[times * 99 // 100])
