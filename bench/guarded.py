"""What identity, permission and rates cost: `python -m bench.guarded`, Triode beside itself, one of them open.

What it must not know: how rights are judged or rates are counted, other servers.
The surprising decision: nothing is refused. The rules allow what is done and the rates are far above it, so that
each message pays for being judged and counted, and does all that it does at the open broker.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs
import structlog
from triode_broker.auth.authority import Authority
from triode_broker.auth.signing import make_pair, make_secret, sign
from triode_broker.config import Config, Permission, TokenKey
from triode_broker.core.identity import UNKNOWN, Identity
from triode_protocol.codec import Refused

from bench.contest import Seat
from bench.packets import greeting
from bench.run import allow_files, share_one_core
from bench.servers import RECIPES, Recipe, running
from bench.sockets import Loop
from bench.workloads import Acked, Address, FanOut, Greet, Pairs, Traffic, open_idle

USERS: Final = 200
CONNECTIONS: Final = 2_000
_WARM_CONNECTIONS: Final = 50
_SECRET: Final = make_secret("HS256")
_SETTINGS: Final = """
[[tokens]]
algorithm = "HS256"
key_env = "BENCH_SECRET"

[[permissions]]
publish = ["bench/fan", "bench/pair/{user}", "bench/acked/{user}", "users/{user}/#"]
subscribe = ["bench/fan/#", "bench/pair/{user}/#", "bench/idle", "users/{user}/#"]
deny_publish = ["users/{user}/settings"]

[[permissions]]
role = "filtered"
deny_subscribe = ["bench/fan/closed", "bench/pair/+/closed"]

[[quotas]]
publishes_per_second = 100_000
bytes_per_second = 100_000_000
requests_per_second = 10_000
control_packets_per_second = 100_000
user_publishes_per_second = 200_000
user_bytes_per_second = 200_000_000
user_max_connections = 10_000
tenant_publishes_per_second = 1_000_000
tenant_bytes_per_second = 1_000_000_000
tenant_max_connections = 100_000
tenant_max_subscriptions = 1_000_000
"""
GUARDED: Final = attrs.evolve(
    RECIPES["triode"],
    name="guarded",
    command=(*RECIPES["triode"].command, "--config", "{place}/triode.toml"),
    files={"triode.toml": _SETTINGS},
    environment={**RECIPES["triode"].environment, "BENCH_SECRET": _SECRET},
)
ALGORITHMS: Final = ("HS256", "ES256", "EdDSA", "RS256")


@attrs.frozen
class Workload:
    """One that both are loaded with; `target`: what of the open broker's rate is to be left, 0: no matter."""

    name: str
    target: float
    opens: Callable[[Loop, Address, Greet], Traffic]


WORKLOADS: Final = (
    Workload("fanout-200", 0.9, lambda loop, at, greet: FanOut(loop, at, subscribers=200, greet=greet)),
    Workload("pairs-1", 0.75, lambda loop, at, greet: Pairs(loop, at, pairs=USERS, window=1, greet=greet)),
    Workload("pairs-16", 0.75, lambda loop, at, greet: Pairs(loop, at, pairs=USERS, window=16, greet=greet)),
    Workload("acked", 0.0, lambda loop, at, greet: Acked(loop, at, publishers=16, window=32, greet=greet)),
)


class Bearers:
    """Says `connect` with a token, of one user after the other; made ahead, so that no window pays for it."""

    def __init__(self, users: int = USERS, *, is_filtered: bool = False) -> None:
        self._is_filtered = is_filtered
        roles = ["member", *(["filtered"] if is_filtered else [])]
        now = int(time.time())
        said = {"tenant": "acme", "roles": roles, "iat": now, "exp": now + 36_000}
        key = _SECRET.encode()
        self._tokens: Iterator[str] = cycle(
            [sign({"sub": str(user), **said}, "HS256", key) for user in range(users)]
        )

    def greet(self, filter_: str | None = None, capabilities: Sequence[str] = ()) -> bytes:
        """As `packets.greeting`; one who is filtered asks for more than they are allowed."""
        wanted = f"{filter_}/#" if filter_ and self._is_filtered else filter_
        return greeting(wanted, capabilities, next(self._tokens))


@attrs.frozen
class Contestant:
    """A broker, and how its clients come in."""

    name: str
    recipe: Recipe
    bears: Callable[[], Greet]


CONTESTANTS: Final = (
    Contestant("open", RECIPES["triode"], lambda: greeting),
    Contestant("guarded", GUARDED, lambda: Bearers().greet),
    Contestant("filtered", GUARDED, lambda: Bearers(is_filtered=True).greet),
)


@attrs.frozen
class Row:
    """One workload: microseconds of the server's processor for one unit."""

    workload: str
    target: float
    cpu_us: tuple[float, ...]  # of each contestant
    ratios: tuple[float, ...]  # of the open broker's to those of the others
    spreads: tuple[tuple[float, float], ...]  # the quarter and three quarters of those ratios' windows

    @property
    def is_met(self) -> bool:
        """Whether enough is left of the rate."""
        return all(ratio >= self.target for ratio in self.ratios)


def play(workload: Workload, rounds: int, cycles: int, seconds: float) -> Row:
    """All contestants at one workload, their windows in turn, in new processes each round."""
    windows: list[list[float]] = []
    for _ in range(rounds):
        with ExitStack() as stack:
            seats = [_take_seat(stack, workload, one) for one in CONTESTANTS]
            for seat in seats:
                seat.warm(seconds)
            for number in range(cycles):
                order = seats if number % 2 else seats[::-1]
                spent = {seat.name: seat.window(0, number, seconds).cpu_us for seat in order}
                windows.append([spent[seat.name] for seat in seats])
            for seat in seats:
                account = seat.account(0)
                if account.lost or account.doubled or account.misordered or account.notices:
                    raise AssertionError(f"{seat.name}: {account}")
    return row(workload, windows)


def row(workload: Workload, windows: Sequence[Sequence[float]]) -> Row:
    """What neighbouring windows, the open broker's first, come to."""
    ratios = [sorted(window[0] / window[place] for window in windows) for place in range(1, len(windows[0]))]
    return Row(
        workload.name,
        workload.target,
        tuple(median(column) for column in zip(*windows, strict=True)),
        tuple(median(column) for column in ratios),
        tuple((column[len(column) // 4], column[len(column) * 3 // 4]) for column in ratios),
    )


def _take_seat(stack: ExitStack, workload: Workload, contestant: Contestant) -> Seat:
    place = Path(stack.enter_context(TemporaryDirectory()))
    server = stack.enter_context(running(contestant.recipe, place=place))
    loop = stack.enter_context(Loop())
    return Seat(contestant.name, server, loop, workload.opens(loop, server.address, contestant.bears()))


def connect(count: int = CONNECTIONS) -> list[tuple[float, float]]:
    """Of the open and the guarded broker: processor microseconds for a connect, and KiB while it is idle."""
    found = []
    total = count + _WARM_CONNECTIONS
    for recipe, greet in ((RECIPES["triode"], greeting), (GUARDED, Bearers(total).greet)):
        with TemporaryDirectory() as place, running(recipe, place=Path(place)) as server, Loop() as loop:
            open_idle(loop, server.address, _WARM_CONNECTIONS, greet)
            memory, before = server.memory_kib(), server.cpu()
            open_idle(loop, server.address, count, greet)
            spent = server.cpu().seconds - before.seconds
            found.append((spent * 1e6 / count, (server.memory_kib() - memory) / count))
    return found


def check(algorithm: str, count: int = 500) -> float:
    """Microseconds that an authority takes for a token and its rights: the least of some windows."""
    secret = make_secret(algorithm) if algorithm.startswith("HS") else ""
    private, public = (secret.encode(), secret.encode()) if secret else make_pair(algorithm)
    rules = (Permission(publish=("rooms/{user}/#",), subscribe=("rooms/#", "users/{user}/#")),)
    config = Config(tokens=(TokenKey(algorithm=algorithm, key_env="KEY"),), permissions=rules)  # type: ignore[arg-type]  # one of them
    environ: Mapping[str, str] = {"KEY": public.decode()}
    log = structlog.get_logger()
    authority = Authority(config, log, lambda: int(time.time() * 1000), flush=lambda: None, environ=environ)
    end = int(time.time()) + 600
    tokens = [
        sign({"sub": f"user-{one}", "exp": end, "roles": ["member"]}, algorithm, private) for one in range(count)
    ]
    answers: list[Identity | Refused] = []
    took = []
    for _ in range(7):
        answers.clear()
        begin = time.thread_time_ns()
        for token in tokens:
            authority.ask(token, UNKNOWN, answers.append)
        took.append((time.thread_time_ns() - begin) / 1000 / count)
        if any(isinstance(answer, Refused) for answer in answers):
            raise AssertionError(f"{algorithm}: {answers[0]}")
    return min(took)


def table(rows: Sequence[Row], connects: Sequence[tuple[float, float]]) -> str:
    """In Markdown."""
    lines = [
        "| workload | open, µs a unit | guarded | filtered | of the open rate | target |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in rows:
        spent = " | ".join(f"{value:.2f}" for value in one.cpu_us)
        ratios = ", ".join(f"{ratio:.2f}" for ratio in one.ratios)
        lines.append(f"| `{one.workload}` | {spent} | {ratios} | {f'≥ {one.target}' if one.target else '–'} |")
    if connects:
        (open_us, open_kib), (guarded_us, guarded_kib) = connects
        lines.append(f"| a connect | {open_us:.0f} | {guarded_us:.0f} | – | {open_us / guarded_us:.2f} | – |")
        lines.append(f"| idle, KiB | {open_kib:.1f} | {guarded_kib:.1f} | – | – | – |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.guarded", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAMES", help="these workloads, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="with new processes (3)")
    parser.add_argument("--windows", type=int, default=8, help="of each broker in a round (8)")
    parser.add_argument("--seconds", type=float, default=0.45, help="of a window (0.45)")
    parser.add_argument("--core", type=int, default=0, help="the core all processes run on (0)")
    asked: Any = parser.parse_args(arguments)
    allow_files()
    share_one_core(asked.core)
    rows = []
    for workload in WORKLOADS:
        if not asked.only or workload.name in asked.only.split(","):
            rows.append(play(workload, asked.rounds, asked.windows, asked.seconds))
            spread = ", ".join(f"{low:.2f}-{high:.2f}" for low, high in rows[-1].spreads)
            word = "met" if rows[-1].is_met else "MISSED"
            print(f"{workload.name}: {word}; middle half of the ratios {spread}", flush=True)
    print(table(rows, () if asked.only else connect()))
    if not asked.only:
        print("; ".join(f"{algorithm} {check(algorithm):.0f} µs" for algorithm in ALGORITHMS), "to check a token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
