"""S1-S8: attackers on a real broker, and a healthy client beside them: it is heard, and the broker is as before.

What its round trips take is not judged here, on a machine that others use: `python -m bench.attacks` records it.
"""

from collections.abc import Iterator

import pytest

from tests.security.attackers import ATTACKS
from tests.security.victim import GROWTH, Healthy, Victim, attacked, flood

TRIPS = 200
FLOOD_MESSAGES = 1_000


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


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack_hurts_nobody_and_leaves_nothing_behind(victim: Victim, healthy: Healthy, name: str) -> None:
    """S1-S8, by the name of the attack; SPEC 8.7"""
    before = victim.memory_bytes
    with attacked(victim, name) as attack:
        healthy.round_trips(TRIPS)
        while not attack.is_done:
            healthy.round_trips(20)
        if name == "never-reads":
            flood(victim, FLOOD_MESSAGES)
        healthy.round_trips(TRIPS)
        ends = attack.ends()
    assert set(ends) <= ATTACKS[name].ends, ends
    assert sum(ends.values()) == ATTACKS[name].lines * ATTACKS[name].rounds
    healthy.round_trips(TRIPS)
    victim.wait_until(connections=2, memory_bytes=before * GROWTH)
    bugs = [event for event in victim.events() if event["level"] in ("error", "critical")]
    assert bugs == []
