"""S1, S26, S33: everything that takes bytes from outside, under fire for a while.

TRIODE_FUZZ_SECONDS is how long, all targets together (20 by default, 60 in CI). The seed is printed and can be set
with TRIODE_FUZZ_SEED. Longer, and in cases instead of seconds: `make fuzz`.
"""

import os
import random
import time

import pytest

from tests.fuzz.running import Campaign, Target, kept, resident_bytes, telling
from tests.fuzz.targets import ALL

pytestmark = pytest.mark.fuzz

SECONDS = float(os.environ.get("TRIODE_FUZZ_SECONDS", "20")) / len(ALL)
SEED = int(os.environ.get("TRIODE_FUZZ_SEED", str(time.time_ns())))
#: What a process may hold more at the end than after the first third, when caches and pools are filled (I13).
MAX_GROWTH_BYTES = 48 * 2**20


@pytest.mark.timeout(60 + 4 * SECONDS)
@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_s1_whatever_comes_hurts_nobody_but_its_sender(target: Target) -> None:
    campaign = Campaign(target, random.Random(SEED))
    begun = time.monotonic()
    until = begun + SECONDS
    warm = 0
    with telling(campaign, SEED):
        while not campaign.cases or time.monotonic() < until:
            campaign.series(until, target.cases)
            if not warm and time.monotonic() > begun + SECONDS / 3:
                warm = resident_bytes()
    assert resident_bytes() - (warm or resident_bytes()) < MAX_GROWTH_BYTES


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_s1_what_was_found_once_is_tried_again(target: Target) -> None:
    """The corpus, as it is."""
    chance = random.Random(1)
    with target.begin(chance) as run:
        for data in [*target.seeds, *kept(target.name)]:
            run(data, chance)
