"""Runs one workload on all servers at once, their windows in turn, and keeps what came out.

What it must not know: ratios, targets, how results are printed or stored.
The surprising decision: all servers are up at the same time, connected and silent, and the windows
are dealt round (uws, triode, naive, uws, triode, …), a third of a second apart. What disturbs the
machine for longer than that disturbs everybody, and drops out of the ratio.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import attrs

from bench.disk import Disk
from bench.load import LoadError
from bench.plan import REFERENCE, Budget, Workload
from bench.servers import Cpu, Metered, Recipe, Server, ServerError, running
from bench.sockets import Loop
from bench.workloads import Address, Traffic, open_idle, subscribe_own_topics

_WARM_CONNECTIONS = 50


@attrs.frozen
class Window:
    """One measured window of one server."""

    contestant: str
    round: int
    cycle: int
    count: int  # deliveries, acknowledged publishes or connections
    seconds: float
    user_seconds: float
    system_seconds: float

    @property
    def cpu_us(self) -> float:
        return (self.user_seconds + self.system_seconds) * 1e6 / max(self.count, 1)


@attrs.frozen
class Account:
    """What else one round of one server showed."""

    contestant: str
    round: int
    p50_ms: float | None = None
    p99_ms: float | None = None
    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    notices: dict[str, int] = attrs.field(factory=dict)
    kib: float | None = None  # private memory per connection
    kib_own_topic: float | None = None  # per further subscription, to a topic of its own
    steady_rate: float | None = None  # what p50 and p99 were measured at, where it was not the windows' own rate
    steady_cpu_us: float | None = None


@attrs.frozen
class Start:
    """A server that was started with what an earlier one had stored."""

    contestant: str  # how the earlier one had ended
    seconds: float  # from before its process was made to the first acknowledged publish
    cpu_seconds: float  # of that
    mib: float  # private memory at that moment
    faults: tuple[str, ...] = ()


@attrs.frozen
class Return:
    """Clients that were cut at once."""

    contestant: str  # what happened to them
    round: int
    clients: int
    seconds: float  # until the last one was live again, caught up
    told: dict[str, int]  # to come back later: how, and how often
    faults: tuple[str, ...] = ()


@attrs.frozen
class Mesh:
    """What filters cost that other nodes have to know."""

    nodes: int
    filters: int
    kind: str  # "wildcards" or "topics"
    bytes_each: float  # private memory of another node for one filter
    register_seconds: float  # until every subscription was answered
    opening_kib: float  # sent to one node when a link to it opens
    opening_seconds: float  # from the start of a node's process until it was ready and had been told everything
    stall_ms: float  # the longest that a client of the node that is told waited for an answer meanwhile
    publish_us: float  # of a publish that nobody elsewhere wants


@attrs.define
class Results:
    """Of one workload: all rounds of all contestants."""

    workload: str
    windows: list[Window] = attrs.field(factory=list)
    accounts: list[Account] = attrs.field(factory=list)
    failures: dict[str, str] = attrs.field(factory=dict)  # contestant → why it did not take part
    reference: str = REFERENCE
    disks: list[Disk] = attrs.field(factory=list)  # of each round, where something was stored
    starts: list[Start] = attrs.field(factory=list)
    remark: str = ""
    returns: list[Return] = attrs.field(factory=list)
    meshes: list[Mesh] = attrs.field(factory=list)


class Seat:
    """A contestant at the table: its server, its connections, its open traffic."""

    def __init__(self, name: str, server: Metered, loop: Loop, traffic: Traffic) -> None:
        self.name = name
        self._server = server
        self._loop = loop
        self._traffic = traffic

    def warm(self, seconds: float) -> None:
        self._traffic.pump(seconds)
        self._traffic.latencies.clear()

    def window(
        self, round_: int, cycle: int, seconds: float, pump: Callable[[float], None] | None = None
    ) -> Window:
        """Pump for so long, or do something else that loads the server."""
        before = sum(ledger.received for ledger in self._traffic.ledgers)
        with _metered(self._server) as spent:
            (pump or self._traffic.pump)(seconds)
        count = sum(ledger.received for ledger in self._traffic.ledgers) - before
        return Window(self.name, round_, cycle, count, *spent)

    def account(self, round_: int) -> Account:
        self._traffic.close()
        ledgers = self._traffic.ledgers
        times = sorted(self._traffic.latencies)
        return Account(
            self.name,
            round_,
            times[len(times) // 2] / 1e6 if times else None,
            times[len(times) * 99 // 100] / 1e6 if times else None,
            sum(ledger.lost for ledger in ledgers),
            sum(ledger.doubled for ledger in ledgers),
            sum(ledger.misordered for ledger in ledgers),
            dict(self._traffic.notices),
        )


def play(workload: Workload, recipes: Mapping[str, Recipe], budget: Budget, reference: str = REFERENCE) -> Results:
    """All rounds of one workload, on the servers given."""
    results = Results(workload.name, reference=reference)
    latest_start = time.monotonic() + budget.most_seconds
    for round_ in range(budget.rounds):
        if round_ and time.monotonic() > latest_start:
            break
        if workload.opens is None:
            _idle_round(workload, recipes, round_, results)
        else:
            _round(workload, recipes, budget, round_, results)
    return results


def contestants(workload: Workload, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(contestant, server): Triode takes part twice where `batch` makes a difference."""
    for name in names:
        yield name, name
        if name == "triode" and workload.batched is not None:
            yield "triode, batch", name


def _round(
    workload: Workload, recipes: Mapping[str, Recipe], budget: Budget, round_: int, results: Results
) -> None:
    with ExitStack() as stack:
        seats = []
        for contestant, name in contestants(workload, recipes):
            opens = workload.opens if contestant == name else workload.batched
            assert opens is not None
            try:
                seat = _take_seat(stack, contestant, recipes[name], opens)
                seat.warm(0.0 if name == "naive" else budget.warm_seconds)
            except (ServerError, LoadError) as error:
                results.failures[contestant] = str(error)
            else:
                seats.append(seat)
        for cycle in range(budget.cycles):
            for seat in seats:
                # One window of the naive server is enough to place it, and costs as much as ten.
                if seat.name != "naive" or cycle == 0:
                    results.windows.append(seat.window(round_, cycle, budget.window_seconds))
        results.accounts += [seat.account(round_) for seat in seats]


def _take_seat(
    stack: ExitStack, contestant: str, recipe: Recipe, opens: Callable[[Loop, Address], Traffic]
) -> Seat:
    server = stack.enter_context(running(recipe))
    loop = stack.enter_context(Loop())  # left before the server is stopped: it has no one to drain
    return Seat(contestant, server, loop, opens(loop, server.address))


def _idle_round(workload: Workload, recipes: Mapping[str, Recipe], round_: int, results: Results) -> None:
    for name, recipe in recipes.items():
        try:
            with running(recipe) as server, Loop() as loop:
                _idle(workload, server, loop, round_, results)
        except (ServerError, LoadError) as error:
            results.failures[name] = str(error)


def _idle(workload: Workload, server: Server, loop: Loop, round_: int, results: Results) -> None:
    count = workload.connections
    connections = open_idle(loop, server.address, _WARM_CONNECTIONS)
    before = server.memory_kib()
    with _metered(server) as spent:
        connections += open_idle(loop, server.address, count)
    opened = server.memory_kib()
    confirmed = subscribe_own_topics(loop, connections)
    owned = server.memory_kib()
    results.windows.append(Window(server.name, round_, 0, count, *spent))
    results.accounts.append(
        Account(
            server.name,
            round_,
            lost=len(connections) - confirmed,
            kib=(opened - before) / count,
            kib_own_topic=(owned - opened) / len(connections),
        )
    )


@contextmanager
def _metered(server: Metered) -> Iterator[list[float]]:
    """Filled at the end: wall, user and system seconds."""
    spent: list[float] = []
    cpu: Cpu = server.cpu()
    began = time.perf_counter()
    yield spent
    spent.append(time.perf_counter() - began)
    spent += server.cpu().since(cpu)
