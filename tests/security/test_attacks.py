"""S1-S8: attackers on a real broker, and a healthy client beside them: it is heard, and the broker is as before.

What its round trips take is not judged here, on a machine that others use: `python -m bench.attacks` records it.
"""

from collections.abc import Iterator

import pytest

from tests.security.attackers import ATTACKS
from tests.security.victim import GROWTH, Healthy, Victim, attacked, flood

TRIPS = 200
FLOOD_MESSAGES = 1_000
MOST_PLAYS = 4
PAUSE_SECONDS = 0.02  # of the healthy client, between some round trips and the next: most attacks only wait


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One for all attacks; what they leave behind adds up."""
    victim = Victim(tmp_path_factory.mktemp("victim"))
    yield victim
    assert victim.end() == 0


@pytest.fixture(scope="module")
def healthy(victim: Victim) -> Iterator[Healthy]:
    """Connected through all attacks."""
    client = Healthy.connect(victim)
    flood(victim, FLOOD_MESSAGES)  # what a topic retains is no leak
    client.round_trips(2_000)
    yield client
    client.socket.close()


def suffer(victim: Victim, healthy: Healthy, name: str) -> int:
    """The attack from its beginning until the last of its connections is gone; the memory that is left in use."""
    with attacked(victim, name) as attack:
        healthy.round_trips(TRIPS)
        while not attack.is_done_within(PAUSE_SECONDS):
            healthy.round_trips(20)
        if name == "never-reads":
            flood(victim, FLOOD_MESSAGES)
        healthy.round_trips(TRIPS)
        ends = attack.ends()
    assert set(ends) <= ATTACKS[name].ends, ends
    assert sum(ends.values()) == ATTACKS[name].lines * ATTACKS[name].rounds
    victim.wait_for(connections=2)
    healthy.round_trips(TRIPS)
    return victim.memory_bytes


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack_hurts_nobody_and_leaves_nothing_behind(victim: Victim, healthy: Healthy, name: str) -> None:
    """S1-S8, by the name of the attack; SPEC 8.7

    Memory is back, or it is the allocator's, which keeps what was needed once: then the same again adds nothing.
    """
    used = [victim.memory_bytes, suffer(victim, healthy, name)]
    while used[-1] > used[-2] * GROWTH:
        assert len(used) < MOST_PLAYS, used
        used.append(suffer(victim, healthy, name))
    bugs = [event for event in victim.events() if event["level"] in ("error", "critical")]
    assert bugs == []


def test_s7_readers_that_stall_leave_live_and_stay(victim: Victim, healthy: Healthy) -> None:
    """200 of them; what is published meanwhile is heard at once by who reads."""
    health = victim.health()
    assert health is not None
    overflows = health["overflows"]
    suffer(victim, healthy, "never-reads")
    health = victim.health()
    assert health is not None
    assert health["overflows"] - overflows >= ATTACKS["never-reads"].lines
