"""Publishes of many shards for an owner that does not read: publishers wait, the link stays (G2, G3, G6)."""

import pytest
from msgspec import Raw
from triode_broker.cluster.forwarded import WINDOW_BYTES, Flushing
from triode_broker.cluster.forwarding import PUBLISH_TIMEOUT_MS, Forwarder
from triode_broker.cluster.frames import Forward, Frame
from triode_broker.cluster.link import MESSAGE_BYTES
from triode_broker.cluster.outgoing import Outgoing
from triode_broker.config import Limits
from triode_protocol.codec import Refused
from triode_protocol.packets import Publish

from tests.cluster.test_accepting import FarWire, Owner
from tests.cluster.test_forwarding import Client

SHARDS = 8
LIMITS = Limits(max_inflight_publishes=10_000)
MESSAGE = b'"' + b"x" * 60_000 + b'"'


class Line:
    """A link that counts as the real one does, and carries a message only when it is told to."""

    def __init__(self) -> None:
        self.outgoing = Outgoing()

    @property
    def is_full(self) -> bool:
        """As of `link.Link`."""
        return self.outgoing.bytes > LIMITS.max_peer_outbox_bytes

    def put(self, frame: Frame) -> None:
        """Beyond twice the bound a link closes itself."""
        assert self.outgoing.put(frame) < 1.5 * LIMITS.max_peer_outbox_bytes


class Pair:
    """An entry node, and one that owns all shards."""

    def __init__(self) -> None:
        self.owner = Owner(shards=SHARDS)
        self.now_ms = 0
        self.dirty: list[Flushing] = []
        topics = {self.owner.desk.router.shard_of(f"t{number}").name: f"t{number}" for number in range(100)}
        self.topics = dict(sorted(topics.items()))
        self.forwarders = {
            shard: Forwarder(shard, LIMITS, lambda: self.now_ms, self.dirty) for shard in self.topics
        }
        self.clients = {shard: Client() for shard in self.topics}
        self.last = 0
        self.refusals: dict[str, None] = {}  # at once
        self.link()

    def link(self) -> None:
        """A new one, in the place of the one before; whose answers are lost."""
        self.line, self.far_line = Line(), FarWire()
        for forwarder in self.forwarders.values():
            forwarder.link_to(self.line, "inc-a", "")
        self.flush()

    def publish(self, shard: str) -> bool:
        """Whether it was taken."""
        packet = Publish(self.topics[shard], Raw(MESSAGE), self.last + 1)
        try:
            self.forwarders[shard].accept(None, packet, "", self.clients[shard], 0)
        except Refused as refused:
            self.refusals[str(refused.name)] = None
            return False
        self.last += 1
        return True

    def fill(self) -> int:
        """Publish to all shards in turn until every one refuses; how many were taken."""
        count = 0
        while taken := sum([self.publish(shard) for shard in self.topics]):
            count += taken
            self.flush()
        return count

    def flush(self) -> None:
        """The turn ends."""
        for one in self.dirty:
            one.flush()
        self.dirty.clear()

    def carry_one(self) -> None:
        """One message gets to the owner."""
        for frame in self.line.outgoing.take(MESSAGE_BYTES)[0]:
            assert isinstance(frame, Forward)
            self.owner.send(frame, self.far_line)

    def go_on(self) -> None:
        """The owner reads and answers, until nothing is left; time is only looked at."""
        while sum(forwarder.unanswered for forwarder in self.forwarders.values()):
            for forwarder in self.forwarders.values():
                forwarder.tick()
            self.flush()
            assert self.line.outgoing, "it has come to a stop"
            while self.line.outgoing:
                self.carry_one()
                for frame in self.far_line.frames():
                    self.forwarders[frame.shard].answered(self.line, frame)

    def check(self, count: int) -> None:
        """Everything was published, once, in the order in which it was taken."""
        published = [client.published for client in self.clients.values()]
        assert sum(map(len, published)) == count
        for ones in published:
            assert [one.id for one in ones] == sorted(one.id for one in ones)
            assert [one.pos for one in ones] == list(range(1, len(ones) + 1))
        assert not any(client.refused for client in self.clients.values())
        assert list(self.refusals) == ["overloaded"]


@pytest.fixture
def pair() -> Pair:
    """Linked."""
    pair = Pair()
    assert len(pair.topics) == SHARDS
    return pair


def test_owner_that_does_not_read_costs_overloaded_and_not_its_link(pair: Pair) -> None:
    """All windows together are larger than what a link takes."""
    count = pair.fill()
    assert count * len(MESSAGE) > 0.95 * SHARDS * WINDOW_BYTES > 2 * LIMITS.max_peer_outbox_bytes
    pair.go_on()
    pair.check(count)


def test_what_is_asked_again_over_a_new_link_does_not_fill_it_either(pair: Pair) -> None:
    count = pair.fill()
    for _ in range(12):
        pair.carry_one()  # and the answers are lost, so everything is to be asked again
        for forwarder in pair.forwarders.values():
            forwarder.tick()
        pair.flush()
    asked = sum(forwarder.forwarded for forwarder in pair.forwarders.values())
    assert asked * len(MESSAGE) > 2 * LIMITS.max_peer_outbox_bytes
    pair.link()
    assert pair.line.is_full
    pair.link()
    assert pair.line.is_full
    assert not pair.publish("m0")
    pair.go_on()
    pair.check(count)


def test_what_was_not_written_ends_as_unavailable_and_nothing_is_missed(pair: Pair) -> None:
    """G2: it was surely not applied. What comes later goes on behind what was written."""
    count = pair.fill()
    written = sum(forwarder.forwarded for forwarder in pair.forwarders.values())
    pair.link()
    pair.now_ms = PUBLISH_TIMEOUT_MS
    for forwarder in pair.forwarders.values():
        forwarder.tick()
    ends = [str(refused.name) for client in pair.clients.values() for refused in client.refused]
    assert (ends.count("timeout"), ends.count("unavailable")) == (written, count - written)
    for client in pair.clients.values():
        client.refused.clear()
    pair.line.outgoing.clear()
    pair.link()
    assert all(pair.publish(shard) for shard in pair.topics)
    pair.flush()
    pair.go_on()
    pair.check(SHARDS)
