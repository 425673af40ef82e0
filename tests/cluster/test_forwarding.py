"""The entry node's side of forwarded publishes: written when, sent again, given up, moved (G2, G6, I4, I15)."""

from collections.abc import Iterator

import pytest
from msgspec import Raw
from triode_broker.cluster.forwarded import (
    RETRY_OWNER_MS,
    RETRY_WINDOW_MS,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    Flushing,
)
from triode_broker.cluster.forwarding import (
    FRAME_BYTES,
    HAND_OVER_MS,
    PUBLISH_TIMEOUT_MS,
    RETRY_MOVED_MS,
    Forwarder,
)
from triode_broker.cluster.frames import Answer, Answered, Forward, Frame, Refusal, decode, encode
from triode_broker.config import Limits
from triode_broker.core.interfaces import Publisher
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, Published, ServerPacket


class Client:
    """A publisher; `heard` is what it was told, by id."""

    def __init__(self) -> None:
        self.inflight = 0
        self.heard: list[tuple[int, str]] = []
        self.published: list[Published] = []
        self.refused: list[Refused] = []

    def answer(self, packet: ServerPacket) -> None:
        """`interfaces.Publisher`."""
        assert isinstance(packet, Published)
        self.heard.append((packet.id, "ok"))
        self.published.append(packet)

    def refuse(self, refused: Refused) -> None:
        """`interfaces.Publisher`."""
        self.heard.append((refused.id, refused.name))
        self.refused.append(refused)


class Wire:
    """A link whose other end is the test."""

    def __init__(self) -> None:
        self._sent: list[bytes] = []
        self.is_full = False

    def put(self, frame: Frame) -> None:
        """Encoded at once: later changes would not be seen by anybody."""
        self._sent.append(encode([frame]))

    def take(self) -> list[Forward]:
        """What was put since the last time."""
        sent, self._sent = self._sent, []
        frames = [frame for data in sent for frame in decode(data)]
        assert all(isinstance(frame, Forward) for frame in frames)
        return [frame for frame in frames if isinstance(frame, Forward)]

    def rows(self) -> list[tuple[int, str]]:
        """The same as numbers and data."""
        return [(row.seq, row.data.decode()) for frame in self.take() for row in frame.rows]


class Desk:
    """A forwarder with a clock in the hand."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.dirty: list[Flushing] = []
        self.forwarder = Forwarder("m0", Limits(max_inflight_publishes=5_000), lambda: self.now_ms, self.dirty)
        self.client = Client()
        self.a, self.b = Wire(), Wire()

    def publish(self, *ids: int, client: Client | None = None) -> None:
        """Their data are their ids. The turn ends."""
        for id in ids:
            self.accept(Publish("t", Raw(str(id).encode()), id), client)
        self.flush()

    def accept(self, packet: Publish, client: Publisher | None = None) -> None:
        """Hand one over, within the turn."""
        assert self.forwarder.accept(None, packet, "ann", client or self.client, 0) is None

    def refusal(self) -> Refused:
        """How a publish is refused at once."""
        with pytest.raises(Refused) as raised:
            self.accept(Publish("t", Raw(b"0"), 99))
        return raised.value

    def flush(self) -> None:
        """The turn ends."""
        for one in self.dirty:
            one.flush()
        self.dirty.clear()

    def wait(self, ms: int) -> None:
        """Time passes."""
        self.now_ms += ms
        self.forwarder.tick()
        self.flush()

    def own_a(self, log: str = "log-a") -> None:
        """The owner is at the end of link `a`."""
        self.forwarder.link_to(self.a, "inc-a", log)
        self.flush()

    def own_b(self) -> None:
        """The owner is at the end of link `b`."""
        self.forwarder.link_to(self.b, "inc-b", "log-b")
        self.flush()

    def ok(self, wire: Wire, *seqs: int) -> None:
        """The owner says yes."""
        answers = [Answer(seq, "log", seq, seq, "memory") for seq in seqs]
        self.forwarder.answered(wire, Answered("m0", answers, []))
        self.flush()

    def moved(self, wire: Wire, *seqs: int, name: str = "moved") -> None:
        """The owner is none."""
        refusals = [Refusal(seq, name, "why", "topic", "backoff", 7) for seq in seqs]
        self.forwarder.answered(wire, Answered("m0", [], refusals))
        self.flush()


@pytest.fixture
def desk() -> Iterator[Desk]:
    """One whose window is empty at the end."""
    desk = Desk()
    yield desk
    desk.wait(PUBLISH_TIMEOUT_MS)
    forwarder = desk.forwarder
    assert (forwarder.unanswered, forwarder.waiting_bytes, desk.client.inflight) == (0, 0, 0)


def test_publishes_of_one_turn_travel_in_one_frame_and_are_answered(desk: Desk) -> None:
    desk.own_a()
    packet = Publish("t/u", Raw(b'{"x":1}'), 4, "mid", "key", {"h": "v"}, ttl_ms=5, deliver_at_ms=6)
    desk.accept(packet)
    desk.accept(Publish("t/u", b64=Raw(b'"AA=="'), id=5))
    desk.flush()
    (frame,) = desk.a.take()
    assert (frame.shard, frame.answered, frame.log) == ("m0", 0, "log-a")
    first, second = frame.rows
    assert (first.seq, first.topic, first.data, first.user, first.key) == (1, "t/u", b'{"x":1}', "ann", "key")
    assert (first.headers, first.message_id, first.ttl_ms, first.deliver_at_ms) == ({"h": "v"}, "mid", 5, 6)
    assert (second.seq, second.data, second.b64) == (2, b"", b'"AA=="')
    assert desk.client.inflight == 2
    answers = [Answer(1, "log", 7, 3, "disk", is_duplicate=True), Answer(2, "log", 8, 4, "disk")]
    desk.forwarder.answered(desk.a, Answered("m0", answers, []))
    assert desk.client.published == [Published(4, "log", 7, 3, "disk", True), Published(5, "log", 8, 4, "disk")]


def test_publish_without_an_id_is_counted_and_not_answered_unless_refused(desk: Desk) -> None:
    desk.own_a()
    desk.publish(0, 0)
    desk.forwarder.accept(None, Publish("t", Raw(b"1")), "", None, 0)  # the broker's own
    desk.flush()
    assert desk.client.inflight == 2
    desk.ok(desk.a, 1, 3)
    desk.moved(desk.a, 2, name="quota")
    assert desk.client.heard == [(0, "quota")]


def test_owner_that_is_not_reached_costs_unavailable_and_nothing_was_handed_on(desk: Desk) -> None:
    """G2, G8."""
    assert (desk.refusal().name, desk.refusal().retry_after_ms) == ("unavailable", RETRY_OWNER_MS)
    desk.own_a()
    desk.accept(Publish("t", Raw(b"1"), 1))
    desk.forwarder.link_lost()
    assert desk.client.heard == [(1, "unavailable")]
    desk.flush()
    assert desk.a.take() == []
    assert desk.refusal().name == "unavailable"


def test_windows_are_bounded_in_messages_and_bytes(desk: Desk) -> None:
    """G6."""
    desk.own_a()
    desk.publish(*range(1, WINDOW_MESSAGES + 1))
    assert (desk.refusal().name, desk.refusal().retry_after_ms) == ("overloaded", RETRY_WINDOW_MS)
    desk.ok(desk.a, *range(1, WINDOW_MESSAGES + 1))
    assert len(desk.a.take()) > 1  # frames are bounded, too
    for id in range(WINDOW_BYTES // FRAME_BYTES - 1):
        desk.accept(Publish("t", Raw(b"1" * FRAME_BYTES), id + 1))
    desk.flush()
    assert [len(frame.rows) for frame in desk.a.take()] == [1] * (WINDOW_BYTES // FRAME_BYTES - 1)
    with pytest.raises(Refused, match="cannot keep up"):
        desk.accept(Publish("t", Raw(b"1" * FRAME_BYTES), 1))
    assert desk.client.inflight == WINDOW_BYTES // FRAME_BYTES - 1


def test_connection_over_its_window_gets_inflight(desk: Desk) -> None:
    """G6."""
    desk.own_a()
    desk.client.inflight = 5_000
    assert desk.refusal().name == "inflight"
    desk.client.inflight = 0


def test_unanswered_ones_are_sent_again_to_the_same_incarnation_under_their_numbers(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1, 2, 3, 4)
    desk.a.take()
    desk.ok(desk.a, 1, 3)
    desk.forwarder.closed(desk.a)
    assert desk.refusal().name == "unavailable"
    old, desk.a = desk.a, Wire()
    desk.own_a()
    desk.publish(5)
    first, second = desk.a.take()
    assert (first.answered, [row.seq for row in first.rows]) == (1, [2, 4])
    assert [row.seq for row in second.rows] == [5]
    desk.ok(old, 2)  # late, on the link before: it will be said again
    assert (2, "ok") not in desk.client.heard
    desk.ok(desk.a, 2, 2, 3, 4, 5)
    assert desk.client.heard == [(1, "ok"), (3, "ok"), (2, "ok"), (4, "ok"), (5, "ok")]
    desk.own_a()  # idempotent
    assert desk.a.take() == []


def test_unknown_ones_are_never_written_to_another_incarnation(desk: Desk) -> None:
    """G2: `timeout`, at once where nobody can answer any more."""
    desk.own_a()
    desk.publish(1, 2)
    desk.ok(desk.a, 2)
    desk.forwarder.closed(desk.a)
    assert desk.client.heard == [(2, "ok")]
    desk.own_b()
    assert desk.client.heard == [(2, "ok"), (1, "timeout")]
    assert "same message_id" in desk.client.refused[0].message
    desk.publish(3)
    (frame,) = desk.b.take()
    assert (frame.answered, frame.log, [row.seq for row in frame.rows]) == (2, "log-b", [3])


def test_next_owner_gets_nothing_before_the_one_before_has_answered(desk: Desk) -> None:
    """I4; what it says `moved` to goes first."""
    desk.own_a()
    desk.publish(1, 2, 3)
    desk.own_b()
    desk.publish(4)
    assert desk.b.take() == []
    desk.ok(desk.a, 1)
    desk.moved(desk.a, 2)
    assert desk.b.take() == []
    desk.moved(desk.a, 3)
    assert desk.b.rows() == [(4, "2"), (5, "3"), (6, "4")]
    desk.ok(desk.b, 4, 5, 6)
    assert desk.client.heard == [(1, "ok"), (2, "ok"), (3, "ok"), (4, "ok")]


def test_link_of_the_owner_before_that_is_lost_ends_the_waiting(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1, 2)
    desk.own_b()
    desk.moved(desk.a, 2)
    desk.publish(3)
    desk.forwarder.closed(desk.a)
    desk.flush()
    assert desk.client.heard == [(1, "timeout")]
    assert desk.b.rows() == [(3, "2"), (4, "3")]


def test_who_said_moved_is_asked_again_later_or_when_its_log_is_another(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1)
    desk.moved(desk.a, 1)
    desk.publish(2)
    assert desk.a.rows() == [(1, "1")]
    desk.wait(RETRY_MOVED_MS - 1)
    assert desk.a.take() == []
    desk.wait(1)
    assert desk.a.rows() == [(2, "1"), (3, "2")]
    desk.moved(desk.a, 2, 3)
    desk.own_a("log-a2")
    (frame,) = desk.a.take()
    assert (frame.answered, frame.log, [row.seq for row in frame.rows]) == (3, "log-a2", [4, 5])


def test_moved_ones_are_not_told_as_settled_while_others_behind_them_are_out(desk: Desk) -> None:
    """I4: were 2 taken when it comes again, 1 would land behind it."""
    desk.own_a()
    desk.publish(1, 2, 3)
    desk.a.take()
    desk.moved(desk.a, 1)
    desk.a = Wire()  # superseded before it was closed
    desk.own_a()
    (frame,) = desk.a.take()
    assert (frame.answered, [row.seq for row in frame.rows]) == (0, [2, 3])
    desk.moved(desk.a, 2, 3)
    desk.own_b()
    (frame,) = desk.b.take()
    assert (frame.answered, [row.seq for row in frame.rows]) == (3, [4, 5, 6])
    desk.forwarder.closed(desk.a)
    desk.ok(desk.b, 4, 5, 6)


def test_moved_ones_of_an_owner_that_is_lost_are_unavailable(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1, 2)
    desk.moved(desk.a, 1)
    desk.forwarder.closed(desk.a)
    assert desk.client.heard == [(1, "unavailable")]


def test_moved_ones_without_an_owner_are_unavailable(desk: Desk) -> None:
    """G2: surely not applied."""
    desk.own_a()
    desk.publish(1, 2)
    desk.forwarder.link_lost()
    desk.moved(desk.a, 1)
    desk.ok(desk.a, 2)
    assert desk.client.heard == [(2, "ok"), (1, "unavailable")]


def test_every_publish_ends_after_five_seconds(desk: Desk) -> None:
    """I15: written ones as `timeout`, waiting and moved ones as `unavailable`."""
    desk.own_a()
    desk.publish(1, 2)
    desk.now_ms += 1
    desk.publish(3)
    desk.moved(desk.a, 1)
    desk.own_b()
    desk.now_ms += 1
    desk.publish(4)
    desk.wait(PUBLISH_TIMEOUT_MS - 3)
    assert desk.client.heard == []
    desk.wait(1)
    assert sorted(desk.client.heard) == [(1, "unavailable"), (2, "timeout")]
    desk.wait(2)
    assert sorted(desk.client.heard)[2:] == [(3, "timeout"), (4, "unavailable")]
    desk.ok(desk.a, 1, 2, 3)  # too late
    assert len(desk.client.heard) == 4
    assert desk.forwarder.timeouts == 2
    desk.publish(5)
    assert desk.b.rows() == [(4, "5")]


def test_hand_over_holds_publishes_for_a_second(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1)
    desk.a.take()
    desk.forwarder.suspend()
    desk.forwarder.suspend()
    desk.moved(desk.a, 1)
    desk.forwarder.closed(desk.a)
    desk.publish(2)
    desk.wait(HAND_OVER_MS - 1)
    assert desk.client.heard == []
    desk.publish(3)
    desk.wait(1)
    assert desk.client.heard == [(1, "overloaded"), (2, "overloaded")]
    desk.own_b()
    assert desk.b.rows() == [(2, "3")]


def test_hand_over_that_comes_to_nothing_lets_go(desk: Desk) -> None:
    desk.own_a()
    desk.forwarder.suspend()
    desk.publish(1)
    desk.forwarder.resume()
    desk.flush()
    assert desk.a.rows() == [(1, "1")]
    desk.forwarder.suspend()
    desk.publish(2)
    desk.forwarder.closed(desk.a)
    desk.forwarder.resume()
    assert desk.client.heard == [(2, "unavailable")]


def test_new_incarnation_of_this_node_asks_for_nothing_of_the_old_one(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1)
    desk.forwarder.restart()
    assert desk.client.heard == [(1, "timeout")]
    desk.a = Wire()
    desk.own_a()
    desk.publish(2)
    (frame,) = desk.a.take()
    assert (frame.answered, frame.rows[0].seq) == (1, 2)


def test_node_that_becomes_the_owner_publishes_what_waits_first(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1, 2, 3)
    desk.ok(desk.a, 3)
    desk.moved(desk.a, 2)
    desk.publish(4, 5)
    assert desk.forwarder.is_asking
    taken: list[tuple[int, int]] = []

    def publish(packet: Publish, user: str, now_ms: int, publisher: Publisher | None) -> Published | None:
        assert (user, now_ms, packet.topic) == ("ann", 42, "t")
        taken.append((packet.id, int(bytes(packet.data))))
        if packet.id == 4:
            raise Refused(ErrorName.QUOTA, "no")
        return Published(packet.id, "own", 1, 1, "memory") if packet.id == 5 else None

    desk.forwarder.own(publish, 42)
    assert taken == [(2, 2), (4, 4), (5, 5)]
    assert desk.client.heard == [(3, "ok"), (1, "timeout"), (4, "quota"), (5, "ok")]
    assert not desk.forwarder.is_asking


def test_owner_words_and_advice_reach_the_publisher(desk: Desk) -> None:
    """SPEC 5.1: `retry` is the owner's; a newer node's name is `internal`."""
    desk.own_a()
    desk.publish(1, 2)
    desk.moved(desk.a, 1, name="conflict")
    desk.moved(desk.a, 2, name="brand_new")
    first, second = desk.client.refused
    assert (first.name, first.message, first.field, first.retry) == ("conflict", "why", "topic", "backoff")
    assert (first.retry_after_ms, second.name) == (7, "internal")


def test_owner_that_answers_what_was_never_asked_is_broken(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1)
    with pytest.raises(ValueError, match="only 1 were forwarded"):
        desk.ok(desk.a, 2)
    desk.ok(desk.a, 1, 1)
    desk.ok(desk.a, 1)


def test_owner_is_told_that_the_last_answers_have_arrived(desk: Desk) -> None:
    desk.own_a()
    desk.publish(1)
    desk.ok(desk.a, 1)
    desk.a.take()
    desk.wait(100)
    assert [(frame.answered, frame.rows) for frame in desk.a.take()] == [(1, [])]
    desk.wait(100)
    assert desk.a.take() == []


def test_publishes_of_nobody_come_and_go_without_a_word(desk: Desk) -> None:
    """Delayed messages that are due, for one: who published them has his answer."""

    def accept() -> None:
        desk.forwarder.accept(None, Publish("t", Raw(b"1")), "", None, 0)
        desk.flush()

    with pytest.raises(Refused, match="not reached"):
        accept()
    desk.own_a()
    accept()
    accept()
    desk.moved(desk.a, 2, 2, name="quota")
    desk.wait(PUBLISH_TIMEOUT_MS)
    assert (desk.forwarder.timeouts, desk.forwarder.unanswered) == (1, 0)
