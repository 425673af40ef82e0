"""What ends every turn of a cluster node, and what it forgets in time."""

import pytest
from triode_broker.cluster.membership import CLOSED_MS, LINGER_MS

from tests.cluster.test_handover import TOPICS, publish
from tests.cluster.town import Citizen, Town


class Broken:
    """A bug."""

    def flush(self) -> None:
        """`forwarded.Flushing`."""
        raise ZeroDivisionError


@pytest.fixture
def town() -> Town:
    """The first node owns all; what clients publish at the second one is forwarded."""
    return Town(2)


def owner_and_other(town: Town) -> tuple[Citizen, Citizen]:
    """By name."""
    owner, other = town.citizens
    assert owner.owned() == ["m0", "m1"]
    return owner, other


def test_one_that_cannot_be_flushed_does_not_stop_the_others(town: Town) -> None:
    """S1: nor is it held against the link on which something came in that turn; the log says it each time."""
    owner, other = owner_and_other(town)
    other.cluster.dirty.append(Broken())
    assert publish(town, other, TOPICS[0], 1)["type"] == "published"
    other.cluster.dirty.append(Broken())
    owner.cluster.dirty.append(Broken())
    town.wait(1_000)
    assert publish(town, other, TOPICS[0], 2)["type"] == "published"
    assert len(other.said.of("cluster_failed")) == 2
    assert len(owner.said.of("cluster_failed")) == 1


def test_clients_that_cannot_be_flushed_cost_no_link(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1."""
    owner, other = owner_and_other(town)
    monkeypatch.setattr(owner.cluster._outside, "flush", Broken().flush)
    assert publish(town, other, TOPICS[0], 1)["type"] == "published"
    assert owner.said.of("cluster_failed")


def test_answers_for_a_dead_node_are_forgotten_when_it_cannot_ask_again(town: Town) -> None:
    """G6."""
    owner, other = owner_and_other(town)
    line = other.connect()
    line.send({"type": "publish", "id": 1, "topic": TOPICS[0], "data": 1})
    town.carry(town.way(owner, other, asking=False))  # the answer is lost with the link
    town.cut(owner, other)
    town.wait(CLOSED_MS + 1_000)
    assert owner.cluster.membership.live() == ["n1"]
    assert owner.cluster.accepting.kept == 1
    town.wait(LINGER_MS - CLOSED_MS)
    assert owner.cluster.accepting.kept == 0


def test_answers_for_a_node_that_is_linked_are_kept(town: Town) -> None:
    owner, other = owner_and_other(town)
    line = other.connect()
    line.send({"type": "publish", "id": 1, "topic": TOPICS[0], "data": 1})
    answering = town.way(owner, other, asking=False)
    town.carry(answering)
    town.wait(2_000, answering)
    assert owner.cluster.accepting.kept == 1
    town.carry()
    assert [packet["type"] for packet in line.drain()] == ["published"]
