"""What is measured: the workloads with their sizes, the contestants, and the targets.

What it must not know: how anything is run or printed.
The surprising decision: targets of memory topics are ratios to µWebSockets in the same run, never absolute
times; a shared machine changes its speed by a third from minute to minute, and both sides feel it. Only what is
stored has targets in numbers: no neighbour does the same, acknowledged once flushed, many to a flush.
"""

from collections.abc import Callable
from functools import partial

import attrs

from bench.sockets import Loop
from bench.workloads import Acked, Address, FanOut, FixedRate, Pairs, Traffic

REFERENCE = "uws"


@attrs.frozen
class Workload:
    """A workload by name. `opens` connects it to a server; without it, it is the idle workload."""

    name: str
    title: str
    unit: str  # what one unit of the server's processor time is spent on
    target: float  # the most that Triode's processor time may be, as a multiple of the reference's
    opens: Callable[[Loop, Address], Traffic] | None = None
    batched: Callable[[Loop, Address], Traffic] | None = None  # the same, capability `batch` offered
    connections: int = 0


@attrs.frozen
class Budget:
    """How long it all takes: per workload `rounds` × (set-up + `cycles` × servers × window)."""

    rounds: int
    cycles: int  # windows of each server per round, in turn
    window_seconds: float
    warm_seconds: float
    most_seconds: float  # of a workload, after which no further round begins (a busy machine)


@attrs.frozen
class StoredBudget:
    """The same of what is stored, and how much of it there is."""

    rounds: int
    cycles: int
    window_seconds: float
    warm_seconds: float
    steady_seconds: float  # by the clock, at half the rate of the windows before it
    backlog: int  # messages that wait for consumers
    messages: int  # stored when a server is started again
    starts: int  # after each kind of end


@attrs.frozen
class ClusterBudget:
    """The same of several nodes."""

    rounds: int
    cycles: int
    window_seconds: float
    warm_seconds: float
    subscribers: int  # of the fan-out
    clients: int  # of the storm
    filters: tuple[int, ...]  # of the mesh
    sizes: tuple[int, ...]  # nodes of the mesh


@attrs.frozen
class ClusterWorkload:
    """A workload on several nodes. A target that is 0 is none."""

    name: str
    title: str
    unit: str
    ratio: float = 0.0  # at most, of processor time to the single node's
    added_us: float = 0.0  # at most, beyond the single node's
    added_ms: float = 0.0  # at most, of p50
    rate_ratio: float = 0.0  # at least, of the rate to one worker's
    back_seconds: float = 0.0  # at most, until all are back


@attrs.frozen
class ClientBudget:
    """The same of clients: a window is so many messages."""

    rounds: int
    cycles: int
    messages: int  # a multiple of 256


@attrs.frozen
class ClientWorkload:
    """A workload of clients, one on a core to itself. A target is messages a second."""

    name: str
    title: str
    unit: str
    rate: float

    @property
    def cpu_us(self) -> float:
        """What the rate leaves of the client's core for a message."""
        return 1e6 / self.rate


@attrs.frozen
class StoredWorkload:
    """A workload on topics that are stored. A target that is 0 is none."""

    name: str
    title: str
    unit: str
    rate: float = 0.0  # at least, a second
    cpu_us: float = 0.0  # at most, of the server's processor time for a unit
    p99_ms: float = 0.0  # at most, at half the rate
    start_seconds: float = 0.0  # at most


FULL = Budget(rounds=3, cycles=3, window_seconds=0.45, warm_seconds=0.25, most_seconds=25)
QUICK = Budget(rounds=1, cycles=2, window_seconds=0.3, warm_seconds=0.15, most_seconds=0)

AGAINST = Budget(rounds=4, cycles=4, window_seconds=0.45, warm_seconds=0.25, most_seconds=90)
FULL_STORED = StoredBudget(
    rounds=3,
    cycles=3,
    window_seconds=0.6,
    warm_seconds=0.3,
    steady_seconds=3.0,
    backlog=100_000,
    messages=1_000_000,
    starts=3,
)
QUICK_STORED = StoredBudget(
    rounds=1,
    cycles=2,
    window_seconds=0.3,
    warm_seconds=0.2,
    steady_seconds=1.0,
    backlog=20_000,
    messages=50_000,
    starts=1,
)

FULL_CLUSTER = ClusterBudget(
    rounds=3,
    cycles=4,
    window_seconds=0.45,
    warm_seconds=0.3,
    subscribers=1000,
    clients=2000,
    filters=(100, 10_000, 100_000),
    sizes=(2, 3, 5),
)
QUICK_CLUSTER = ClusterBudget(
    rounds=1,
    cycles=3,
    window_seconds=0.3,
    warm_seconds=0.15,
    subscribers=1000,
    clients=2000,
    filters=(100, 10_000),
    sizes=(2, 3),
)

FULL_CLIENTS = ClientBudget(rounds=3, cycles=2, messages=20_480)
QUICK_CLIENTS = ClientBudget(rounds=1, cycles=2, messages=10_240)

#: Triode's processor time per unit may be this multiple of an earlier version's.
AGAINST_TARGET = 1 / 0.95
AGAINST_DEFAULT = ("fanout-200", "pairs-1", "acked")

IDLE_CONNECTIONS = 5000
IDLE_TARGET_KIB = 2.0


def _fan_out(subscribers: int, target: float) -> Workload:
    opens = partial(FanOut, subscribers=subscribers)
    return Workload(
        f"fanout-{subscribers}",
        f"fan-out 1→{subscribers:,}, 64 in flight",
        "delivery",
        target,
        opens,
        partial(FanOut, subscribers=subscribers, capabilities=("batch",)),
    )


WORKLOADS = (
    _fan_out(200, 0.6),
    _fan_out(1000, 0.6),
    Workload(
        "rate-1000",
        "fan-out 1→1,000, 50 messages/s",
        "delivery",
        1.2,
        partial(FixedRate, subscribers=1000, per_second=50),
    ),
    Workload("pairs-1", "200 pairs, 1 in flight", "delivery", 1.15, partial(Pairs, pairs=200, window=1)),
    Workload("pairs-16", "200 pairs, 16 in flight", "delivery", 1.6, partial(Pairs, pairs=200, window=16)),
    Workload(
        "acked",
        "16 publishers × 32 unacknowledged",
        "publish",
        1.5,
        partial(Acked, publishers=16, window=32),
    ),
    # Connects per second of the server's processor time at least 0.8 times the reference's.
    Workload(
        "idle",
        "5,000 idle subscribed connections",
        "connect",
        1 / 0.8,
        connections=IDLE_CONNECTIONS,
    ),
)

STORED_REFERENCE = "jetstream"
STORED_WORKLOADS = (
    StoredWorkload(
        "durable",
        "16 publishers × 32 unacknowledged, stored",
        "publish",
        rate=15_000,
        cpu_us=25,
        p99_ms=25,
    ),
    StoredWorkload("consume", "durable shared subscription, explicit acks", "delivery", rate=20_000),
    StoredWorkload("restart", "start with 1,000,000 stored messages (--quick: 50,000)", "start", start_seconds=3),
)

CLUSTER_WORKLOADS = (
    ClusterWorkload("cluster-fanout", "3 nodes, fan-out 1→1,000, 64 in flight", "delivery", ratio=1.3),
    ClusterWorkload("cluster-forward", "publishes owned elsewhere, 64 in flight", "publish", added_us=1.5),
    ClusterWorkload("cluster-deliver", "deliveries to another node, 64 in flight", "publish", added_us=1.5),
    ClusterWorkload("cluster-hop", "1 subscriber, 100 messages/s", "delivery", added_ms=1.0),
    ClusterWorkload("cluster-workers", "publishes, 64 publishers, two cores", "publish", rate_ratio=1.4),
    ClusterWorkload("cluster-storm", "3 nodes, 2,000 clients cut at once", "client", back_seconds=6.0),
    ClusterWorkload("cluster-mesh", "filters that all nodes know", "filter"),
)

CLIENT_WORKLOADS = (
    ClientWorkload("clients-send", "publishes without acknowledgement", "publish", rate=50_000),
    ClientWorkload("clients-acked", "publishes, 2,048 without their answer", "publish", rate=20_000),
    ClientWorkload("clients-many", "`publish_many` of 2,048", "publish", rate=20_000),
    ClientWorkload("clients-receive", "messages received", "message", rate=80_000),
)
