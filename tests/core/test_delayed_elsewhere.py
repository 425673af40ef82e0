"""Delayed messages whose shard takes nothing, or has moved to another node: kept until that one has answered."""

from typing import Any

import pytest
from msgspec import Raw
from triode_broker.cluster.outside import Withheld
from triode_broker.config import TopicRule
from triode_broker.core.interfaces import Publisher
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, Published

from tests.core.desk import Desk
from tests.core.far import Far
from tests.core.test_delayed import DISK_LOG, TOPICS, data_of, delay, make_desk, pass_time

PLACE = ("m0-far", 7, 7, "memory")


class Owner:
    """An acceptor that answers when it is told to."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once = at_once
        self.asked: list[tuple[Publish, Publisher]] = []

    def accept(
        self, topic: Any, packet: Publish, user: str, publisher: Publisher | None, now_ms: int
    ) -> Published | None:
        """Note it."""
        assert publisher is not None, "a delayed message wants to know"
        self.asked.append((packet, publisher))
        return Published(packet.id, *PLACE) if self.at_once else None

    def answer(self) -> None:
        """The oldest is stored."""
        packet, publisher = self.asked.pop(0)
        assert packet.id, "only then there is an answer"
        publisher.answer(Published(packet.id, *PLACE))

    def refuse(self, name: ErrorName = ErrorName.TIMEOUT) -> None:
        """Of the oldest nobody knows, or it was not taken."""
        self.asked.pop(0)[1].refuse(Refused(name, "who knows"))


def move(desk: Desk, owner: Owner) -> None:
    """The desk's shard in memory is owned by another node from here on."""
    far = Far(desk)
    desk.router.follow_owner(far.shard, far.log, owner)


def fall_due(desk: Desk, passed_ms: int = 1_000) -> None:
    """Nobody is asked to be quick: one tick."""
    desk.now_ms += passed_ms
    desk.router.tick(desk.now_ms)


# A shard that takes nothing for a while


@pytest.mark.parametrize("topic", TOPICS)
def test_withheld_shard_takes_no_delayed_message(topic: str) -> None:
    """G2: what may be another node's is not accepted here, for later neither."""
    desk = make_desk()
    shard = desk.router.shard_of(topic)
    shard.acceptor = Withheld("nobody knows whose it is")
    answer = delay(desk, topic, 1_000)
    assert (answer["type"], answer["name"]) == ("error", "unavailable")
    assert desk.router.delayed.count == 0
    assert desk.disk.uncommitted_bytes == 0


@pytest.mark.parametrize("topic", TOPICS)
def test_message_that_is_due_waits_while_its_shard_is_withheld(topic: str) -> None:
    """I1: and gets its place when it is known to be this node's."""
    desk = make_desk()
    delay(desk, topic, 1_000)
    shard = desk.router.shard_of(topic)
    shard.acceptor, before = Withheld("nobody knows whose it is"), shard.acceptor
    fall_due(desk)
    assert (shard.pos, desk.router.delayed.count) == (0, 1)
    shard.acceptor = before
    pass_time(desk, 1_000)
    assert data_of(desk, topic) == [1]
    assert desk.router.delayed.count == 0


# A shard that has moved


def test_message_of_a_shard_that_has_moved_is_forgotten_when_its_owner_has_it() -> None:
    """I1: with its time and its id, by which the owner knows a repetition."""
    desk = make_desk()
    due_ms = desk.now_ms + 1_000
    delay(desk, "a", 1_000, "late", message_id="m")
    owner = Owner()
    move(desk, owner)
    fall_due(desk)
    ((packet, _),) = owner.asked
    assert (packet.topic, packet.data, packet.message_id) == ("a", Raw(b'"late"'), "m")
    assert packet.deliver_at_ms == due_ms
    assert desk.router.delayed.count == 1, "not before"
    owner.answer()
    assert (desk.router.delayed.count, desk.router.delayed.size) == (0, 0)
    assert desk.router.next_due_ms is None


def test_owner_that_answers_at_once_has_it() -> None:
    desk = make_desk()
    delay(desk, "a", 1_000)
    move(desk, Owner(at_once=True))
    fall_due(desk)
    assert (desk.router.delayed.count, desk.router.next_due_ms) == (0, None)


@pytest.mark.parametrize("name", [ErrorName.UNAVAILABLE, ErrorName.TIMEOUT])
@pytest.mark.parametrize("fields", [{}, {"message_id": "m"}])
def test_message_that_its_owner_has_not_taken_is_tried_again(name: ErrorName, fields: dict[str, str]) -> None:
    """I1: it was acknowledged, so it is delivered once at least."""
    desk = make_desk()
    delay(desk, "a", 1_000, **fields)
    owner = Owner()
    move(desk, owner)
    fall_due(desk)
    owner.refuse(name)
    assert (desk.router.delayed.count, desk.router.next_due_ms) == (1, desk.now_ms + 1_000)
    assert len(desk.router.shard_of("a").ids) == 0, "whether it was published is its owner's to remember"
    fall_due(desk)
    owner.answer()
    assert desk.router.delayed.count == 0


def test_message_that_a_disk_keeps_is_kept_until_another_node_has_it() -> None:
    """I8: its topic's rule has changed, and the shard it belongs to now is another node's."""
    desk = make_desk()
    delay(desk, "disk/a", 1_000)
    desk._rules = (TopicRule(filter="disk/#"),)
    desk.restart()
    owner = Owner()
    move(desk, owner)
    fall_due(desk)
    desk.commit()
    assert list(desk.disk.disk.values) == ["delayed/1"]
    owner.refuse()
    desk.commit()
    assert list(desk.disk.disk.values) == ["delayed/1"]
    fall_due(desk)
    owner.answer()
    desk.commit()
    assert desk.disk.disk.values == {}
    assert desk.disk.name == DISK_LOG
