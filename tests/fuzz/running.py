"""What all fuzzers share: a pool of inputs that grows with what they bring about, and how long it goes on.

A target says what an input came to, in a word or two: its signature. An input with a signature that was never seen
joins the pool, and is changed further. So a run finds its way into corners without anybody measuring branches, and
what it found is kept: `tests/fuzz/corpus` holds one input a signature (`make fuzz` adds to it), from which every
run begins. The surprising decision: nothing else is asserted here. A target raises where something is wrong.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from attrs import define, field

CORPUS = Path(__file__).parent / "corpus"
MAX_INPUT_BYTES = 100_000
#: Of the processor, for one input: what takes longer takes more than its sender's share. Usual are milliseconds.
MAX_CASE_SECONDS = 3.0
#: Inputs that are kept of one target: the shortest of as many signatures.
MAX_KEPT = 200
BYTES = (
    0x00,
    0x01,
    0x7E,
    0x7F,
    0x80,
    0x81,
    0x88,
    0x89,
    0xC0,
    0xC1,
    0xFE,
    0xFF,
    0x0A,
    0x0D,
    0x20,
    0x22,
    0x2E,
    0x3A,
    0x5B,
)

#: Runs one input to its end and says what it came to.
Run = Callable[[bytes, random.Random], str]


@define
class Target:
    """Something that takes bytes from outside. `begin` makes one, looks at what is left behind at its end."""

    name: str
    seeds: list[bytes]
    begin: Callable[[random.Random], AbstractContextManager[Run]]
    cases: int = 500  # of one that was made


@define
class Campaign:
    """One target under fire."""

    target: Target
    chance: random.Random
    pool: dict[str, bytes] = field(factory=dict)  # by signature
    cases: int = 0
    latest: bytes = b""  # what was being run when something went wrong

    def __attrs_post_init__(self) -> None:
        for number, seed in enumerate([*self.target.seeds, *kept(self.target.name)]):
            self.pool[f"seed {number}"] = seed

    def series(self, until: float, most: int) -> None:
        """One life of the target."""
        with self.target.begin(self.chance) as run:
            for number in range(min(self.target.cases, most)):
                if number and time.monotonic() > until:
                    return
                self.latest = data = self._next()
                begun = time.process_time()
                signature = run(data, self.chance)
                spent = time.process_time() - begun
                assert spent < MAX_CASE_SECONDS, f"{len(data)} bytes kept the process busy for {spent:.1f} s"
                self.cases += 1
                if signature not in self.pool or len(data) < len(self.pool[signature]):
                    self.pool[signature] = data

    def _next(self) -> bytes:
        """An input as it is, changed, or put together from two."""
        chance = self.chance
        several = list(self.pool.values()) if self.cases % 64 == 0 or not self.cases else None
        if several is not None:
            self._several = several
        data = chance.choice(self._several)
        if chance.random() < 0.15:
            other = chance.choice(self._several)
            data = data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]
        return mutated(data, chance)[:MAX_INPUT_BYTES]

    _several: list[bytes] = field(factory=list)

    def keep(self) -> int:
        """Write what was found beside the seeds; how many files are new."""
        folder = CORPUS / self.target.name
        folder.mkdir(parents=True, exist_ok=True)
        found = [data for name, data in self.pool.items() if not name.startswith("seed ")]
        room = MAX_KEPT - len(list(folder.iterdir()))
        new = 0
        for data in sorted(found, key=len)[: max(room, 0)]:
            file = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
            if not file.exists():
                file.write_bytes(data)
                new += 1
        return new


def kept(name: str) -> list[bytes]:
    """The corpus of a target, in an order that is the same everywhere."""
    folder = CORPUS / name
    return [file.read_bytes() for file in sorted(folder.iterdir())] if folder.is_dir() else []


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, doubled, cut out, or moved."""
    found = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at = chance.randrange(len(found) + 1)
        size = chance.choice((1, 1, 2, 8, 100))
        match chance.randrange(6):
            case 0:
                found[at : at + 1] = bytes((chance.choice(BYTES),))
            case 1:
                found[at:at] = chance.randbytes(size)
            case 2:
                del found[at : at + size]
            case 3:
                found[at:at] = found[at : at + size]
            case 4:
                found[at:at] = found[at : at + 1] * chance.choice((3, 40, 1_000))
            case _:
                found[at : at + 1] = bytes((chance.randrange(256),))
    return bytes(found)


@contextmanager
def telling(campaign: Campaign, seed: int) -> Iterator[None]:
    """Whoever sees a failure can repeat it: the input stands in a file, the seed on the terminal."""
    try:
        yield
    except BaseException:
        file = Path(".cache") / "fuzz" / f"{campaign.target.name}-{seed}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(campaign.latest)
        place = f"case {campaign.cases}, TRIODE_FUZZ_SEED={seed}, the input is in {file}"
        print(f"{campaign.target.name}: {place}")  # noqa: T201  # how to repeat a failure
        raise


def resident_bytes() -> int:
    """What this process holds in memory; 0 where that cannot be told."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4_096 if statm.exists() else 0
