"""S6: a process without descriptors. Accepting pauses, who is connected notices nothing; then all is as before."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.security.victim import PATIENCE_SECONDS, Healthy, Victim

FILES = 64


@pytest.fixture
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """May have FILES descriptors; nobody is told to go before they are used up."""
    victim = Victim(tmp_path_factory.mktemp("victim"), files=FILES, limits={"max_handshakes": 0})
    yield victim
    assert victim.end() == 0


def test_s6_clients_are_served_while_no_descriptor_is_left(victim: Victim) -> None:
    """RLIMIT_NOFILE, in a process of its own."""
    healthy = Healthy.connect(victim)
    with ExitStack() as attackers:
        for _ in range(FILES + 20):  # the kernel completes the handshakes of those that are not accepted
            line = attackers.enter_context(socket.socket())
            line.settimeout(PATIENCE_SECONDS)
            line.connect((victim.host, victim.port))
        while not any(event["event"] == "accepting_paused" for event in victim.events()):
            healthy.round_trips(20)
        healthy.round_trips(200)
    victim.wait_for(connections=2)
    with Healthy.connect(victim, "other").socket:
        healthy.round_trips(20)
    healthy.socket.close()
    paused = [event for event in victim.events() if event["event"] == "accepting_paused"]
    assert len(paused) < 5
    assert [event for event in victim.events() if event["level"] == "error"] == []
