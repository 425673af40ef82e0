"""Fuzzing by the number: `python -m tests.fuzz.run [--cases N] [--only TARGET] [--seed N] [--keep]`; `make fuzz`.

All targets take turns until the cases are done, then says how many each had, how many answers were told apart and
what the process holds in memory. `--keep` adds what was found to the corpus.
"""

import argparse
import random
import sys
import time

from tests.fuzz.running import Campaign, resident_bytes, telling
from tests.fuzz.targets import ALL

#: The share of a target in the cases: a fast one has more, so that all take about as long.
SHARES = {
    "edge": 4,
    "packets": 4,
    "peers": 40,
    "hello": 10,
    "settings": 1,
    "tokens": 20,
    "parsers": 30,
    "client": 4,
}
OTHERS = 5


def main() -> int:
    """Run; 1 where memory is not flat, a traceback where a case went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--only", choices=[target.name for target in ALL])
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--keep", action="store_true", help="add what was found to tests/fuzz/corpus")
    arguments = parser.parse_args()
    targets = [target for target in ALL if arguments.only in (None, target.name)]
    whole = sum(SHARES.get(target.name, OTHERS) for target in targets)
    print(f"TRIODE_FUZZ_SEED={arguments.seed}", flush=True)
    total, growth = 0, 0
    for target in targets:
        wanted = -(-arguments.cases * SHARES.get(target.name, OTHERS) // whole)
        campaign = Campaign(target, random.Random(arguments.seed))
        begun, warm = time.monotonic(), 0
        with telling(campaign, arguments.seed):
            while campaign.cases < wanted:
                campaign.series(float("inf"), wanted - campaign.cases)
                if not warm and campaign.cases >= wanted / 3:
                    warm = resident_bytes()
        grown = max(resident_bytes() - warm, 0)
        growth = max(growth, grown)
        total += campaign.cases
        found = sum(not name.startswith("seed ") for name in campaign.pool)
        new = f", {campaign.keep()} new in the corpus" if arguments.keep else ""
        seconds = time.monotonic() - begun
        print(
            f"{target.name:10} {campaign.cases:>9,} cases in {seconds:5.0f} s, {found:>4} answers told apart,"
            f" memory +{grown / 2**20:.1f} MiB in the last two thirds{new}",
            flush=True,
        )
    print(f"{total:,} cases, no exit, no exception past its barrier")
    return 0 if growth < 48 * 2**20 else 1


if __name__ == "__main__":
    sys.exit(main())
