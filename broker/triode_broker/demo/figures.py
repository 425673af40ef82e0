"""This machine's own figures, as JSON-ready records by topic: load, CPU, memory, network.

Pure: texts of /proc and a time come in, records go out; where a text is missing (not Linux) its figures are left
out. The surprising decision: CPU and network appear with the second reading only. The kernel counts since boot,
and a rate since boot would be a figure of the past dressed up as one of now.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from attrs import define, frozen

PREFIX: Final = "demo/host"
LOOPBACK: Final = "lo"
_CPU_FIELDS: Final = 8  # user nice system idle iowait irq softirq steal; guest time is part of user

_Parsed = TypeVar("_Parsed")

Record = dict[str, float]
#: path → its text, or None where there is no such file
Read = Callable[[str], str | None]
#: the averages over 1, 5 and 15 minutes, or None where the system has none
LoadAverage = Callable[[], tuple[float, float, float] | None]


@frozen
class CpuTimes:
    """Ticks since boot, over all CPUs."""

    busy: int
    total: int


@frozen
class Traffic:
    """Bytes since boot, over all interfaces that count; `at_seconds`: when it was read."""

    received: int
    sent: int
    at_seconds: float


@define
class Figures:
    """Takes readings; remembers the counters of the one before."""

    read: Read
    load_average: LoadAverage
    cpus: int
    _cpu: CpuTimes | None = None
    _traffic: Traffic | None = None

    def take(self, now_seconds: float) -> dict[str, Record]:
        """The figures of now by topic. `now_seconds` is of a clock that only rises."""
        found = {
            "load": self._load(),
            "cpu": self._cpu_use(),
            "memory": parsed(memory, self.read("/proc/meminfo")),
            "network": self._network(now_seconds),
        }
        return {f"{PREFIX}/{name}": record for name, record in found.items() if record}

    def _load(self) -> Record | None:
        averages = self.load_average()
        if averages is None:
            return None
        one, five, fifteen = (round(value, 2) for value in averages)
        return {"load_1_minute": one, "load_5_minutes": five, "load_15_minutes": fifteen, "cpus": self.cpus}

    def _cpu_use(self) -> Record | None:
        before, self._cpu = self._cpu, parsed(cpu_times, self.read("/proc/stat"))
        return busy(before, self._cpu) if before and self._cpu else None

    def _network(self, now_seconds: float) -> Record | None:
        before, counted = self._traffic, parsed(network_bytes, self.read("/proc/net/dev"))
        self._traffic = Traffic(*counted, now_seconds) if counted else None
        return rates(before, self._traffic) if before and self._traffic else None


def parsed(parse: Callable[[str], _Parsed], text: str | None) -> _Parsed | None:
    """What `parse` finds; None for no text and for one of another form than ours."""
    try:
        return None if text is None else parse(text)
    except (ValueError, LookupError, ArithmeticError):
        return None


def cpu_times(text: str) -> CpuTimes:
    """From /proc/stat. Waiting for a disk counts as idle, as it does for top."""
    fields = next((line for line in text.splitlines() if line.startswith("cpu ")), "").split()
    ticks = [int(field) for field in fields[1 : 1 + _CPU_FIELDS]]
    return CpuTimes(busy=sum(ticks) - ticks[3] - ticks[4], total=sum(ticks))


def busy(before: CpuTimes, now: CpuTimes) -> Record | None:
    """How busy the CPUs were between two readings, all together."""
    elapsed = now.total - before.total
    if elapsed <= 0:
        return None
    return {"busy_percent": round(min(max(100 * (now.busy - before.busy) / elapsed, 0.0), 100.0), 1)}


def memory(text: str) -> Record:
    """From /proc/meminfo."""
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in text.splitlines())}
    total, available = kib["MemTotal"], kib["MemAvailable"]
    used_percent = round(100 * (total - available) / total, 1)
    return {"used_percent": used_percent, "available_bytes": available * 1024, "total_bytes": total * 1024}


def network_bytes(text: str) -> tuple[int, int]:
    """Received and sent, from /proc/net/dev: all interfaces but the loopback, unless there is no other."""
    counters = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon:
            fields = rest.split()
            counters[name.strip()] = (int(fields[0]), int(fields[8]))
    loopback = counters.pop(LOOPBACK, (0, 0))
    chosen = list(counters.values()) or [loopback]
    return sum(received for received, _ in chosen), sum(sent for _, sent in chosen)


def rates(before: Traffic, now: Traffic) -> Record | None:
    """Bytes per second between two readings; an interface that went away takes its counters along, then 0."""
    elapsed = now.at_seconds - before.at_seconds
    if elapsed <= 0:
        return None
    return {
        "received_bytes_per_second": round(max(now.received - before.received, 0) / elapsed),
        "sent_bytes_per_second": round(max(now.sent - before.sent, 0) / elapsed),
    }
