"""The owner's side of forwarded publishes, over a real router: once, in order, answers kept (G1, G2, G3)."""

import pytest
from msgspec import Raw
from triode_broker.cluster.accepting import MAX_ENTRIES, Accepting
from triode_broker.cluster.forwarded import WINDOW_MESSAGES, Flushing
from triode_broker.cluster.forwarding import Forwarder
from triode_broker.cluster.frames import Answer, Answered, Forward, Forwarded, Frame, Refusal, decode, encode
from triode_broker.config import TopicRule
from triode_protocol.packets import Publish

from tests.cluster.test_forwarding import Client, Wire
from tests.core.desk import Desk

DISK = TopicRule(filter="d/#", storage="disk")


class FarWire:
    """The link to an entry node that the test plays."""

    def __init__(self) -> None:
        self._sent: list[bytes] = []
        self.is_full = False

    def put(self, frame: Frame) -> None:
        """Encoded at once."""
        self._sent.append(encode([frame]))

    def frames(self) -> list[Answered]:
        """What was put since the last time."""
        sent, self._sent = self._sent, []
        frames = [frame for data in sent for frame in decode(data)]
        return [frame for frame in frames if isinstance(frame, Answered)]

    def take(self) -> list[tuple[int, str]]:
        """The same as numbers and words."""
        said: list[tuple[int, str]] = []
        for frame in self.frames():
            said += [(answer.seq, str(answer.pos)) for answer in frame.answers]
            said += [(refusal.seq, refusal.name) for refusal in frame.refusals]
        return sorted(said)


class Owner:
    """A node that owns its shards."""

    def __init__(self, *, shards: int = 1) -> None:
        self.desk = Desk(DISK, durable=True, shards=shards)
        self.dirty: list[Flushing] = []
        self.accepting = Accepting(self.desk.router, lambda: self.desk.now_ms, self.dirty)
        self.wire = FarWire()

    @property
    def is_here(self) -> bool:
        """Whether it owns its memory shard."""
        return self.desk.router.shards[0].is_here

    @is_here.setter
    def is_here(self, value: bool) -> None:
        self.desk.router.shards[0].is_here = value

    def receive(self, answered: int, *seqs: int, wire: FarWire | None = None, entry: str = "e1") -> None:
        """Publishes whose data are their numbers."""
        self.send(Forward("m0", answered, [row(seq) for seq in seqs]), wire, entry)

    def send(self, frame: Forward, wire: FarWire | None = None, entry: str = "e1") -> None:
        """A frame, and the end of the turn."""
        for one in decode(encode([frame])):
            assert isinstance(one, Forward)
            self.accepting.receive(wire or self.wire, entry, one)
        self.flush()

    def flush(self) -> None:
        """The turn ends."""
        for one in self.dirty:
            one.flush()
        self.dirty.clear()

    def stored(self) -> list[int]:
        """What is in the memory log, as data."""
        reply = self.desk.connect().ask_one({"type": "history", "id": 1, "topic": "t", "last": 100})
        return [message["data"] for message in reply["messages"]]


def row(seq: int, topic: str = "t", data: bytes = b"", message_id: str = "", **fields: int) -> Forwarded:
    """One of ann's."""
    return Forwarded(
        seq, topic, data or str(seq).encode(), b"", "ann", "", {}, message_id, 0, **fields or {"deliver_at_ms": 0}
    )


def test_publishes_are_applied_in_order_and_answered_in_one_frame() -> None:
    """G1, G3."""
    owner = Owner()
    owner.receive(0, 1, 2)
    (frame,) = owner.wire.frames()
    name = owner.desk.logs[0].name
    assert frame == Answered("m0", [Answer(1, name, 1, 1, "memory"), Answer(2, name, 2, 2, "memory")], [])
    owner.receive(2, 3)
    assert owner.wire.take() == [(3, "3")]
    assert owner.stored() == [1, 2, 3]
    assert owner.accepting.kept == 1


def test_publish_that_comes_again_gets_its_answer_again() -> None:
    """G2: never twice."""
    owner = Owner()
    owner.receive(0, 1, 2)
    owner.send(Forward("m0", 0, [row(3, data=b"")]))
    owner.wire.take()
    wire = FarWire()
    owner.receive(1, 2, 3, 4, wire=wire)
    assert wire.take() == [(2, "2"), (3, "3"), (4, "4")]
    assert owner.wire.take() == []
    assert owner.stored() == [1, 2, 3, 4]


def test_numbers_that_were_given_up_are_skipped_and_never_taken() -> None:
    owner = Owner()
    owner.receive(7, 8)
    owner.receive(20, 21)
    assert owner.wire.take() == [(8, "1"), (21, "2")]
    with pytest.raises(ValueError, match="publish 20 of m0 where 22 was due"):
        owner.receive(20, 20)


def test_hole_is_a_broken_peer_and_what_came_before_it_holds() -> None:
    owner = Owner()
    with pytest.raises(ValueError, match="publish 4 of m0 where 3 was due"):
        owner.receive(0, 1, 2, 4)
    owner.is_here = False
    with pytest.raises(ValueError, match="publish 5 of m0 where 3 was due"):
        owner.receive(0, 5)
    owner.is_here = True
    assert owner.stored() == [1, 2]
    with pytest.raises(ValueError, match="no shard 'm9'"):
        owner.send(Forward("m9", 0, []))


def test_more_without_answers_than_the_window_is_a_broken_peer() -> None:
    """G6: what is kept is bounded."""
    for is_here in (True, False):
        owner = Owner()
        owner.is_here = is_here
        owner.receive(0, *range(1, WINDOW_MESSAGES + 1))
        assert len(owner.wire.frames()) == 4
        with pytest.raises(ValueError, match="more than"):
            owner.receive(0, WINDOW_MESSAGES + 1)
        owner.receive(1, WINDOW_MESSAGES + 1)


def test_refused_publishes_are_answered_with_the_reason() -> None:
    owner = Owner()
    owner.send(Forward("m0", 0, [row(1, "t", b"1", "x"), row(2, "t", b"2", "x"), row(3, "t", b"1", "x")]))
    (frame,) = owner.wire.frames()
    assert [(answer.seq, answer.is_duplicate) for answer in frame.answers] == [(1, False), (3, True)]
    (refusal,) = frame.refusals
    assert (refusal.seq, refusal.name, refusal.field, refusal.retry) == (2, "conflict", "message_id", "never")


def test_topic_of_another_shard_is_a_conflict_that_is_worth_another_try() -> None:
    """Nodes whose rules differ: not applied, to be sent again later."""
    owner = Owner()
    owner.send(Forward("m0", 0, [row(1, "d/x"), row(2)]))
    (frame,) = owner.wire.frames()
    (refusal,) = frame.refusals
    assert (refusal.seq, refusal.name, refusal.retry, refusal.field) == (1, "conflict", "backoff", "topic")
    assert [answer.seq for answer in frame.answers] == [2]


def test_delayed_publish_is_answered_without_a_place() -> None:
    owner = Owner()
    owner.send(Forward("m0", 0, [row(1, deliver_at_ms=owner.desk.now_ms + 1_000)]))
    (frame,) = owner.wire.frames()
    assert [(answer.pos, answer.is_delayed) for answer in frame.answers] == [(0, True)]


def test_durable_publishes_are_answered_at_commit_on_the_newest_link() -> None:
    """G1: and more of them wait than one connection may have in flight."""
    owner = Owner()
    count = owner.desk.limits.max_inflight_publishes + 50
    owner.send(Forward("d0", 0, [row(seq, "d/x") for seq in range(1, count + 1)]))
    owner.send(Forward("d0", 0, [row(count + 1, "d/x", deliver_at_ms=owner.desk.now_ms + 9_000)]))
    assert owner.wire.take() == []
    wire = FarWire()
    owner.send(Forward("d0", 2, [row(seq, "d/x") for seq in range(3, count + 2)]), wire)
    assert wire.take() == []
    owner.desk.commit()
    owner.flush()
    assert wire.take() == [(seq, str(seq)) for seq in range(3, count + 1)] + [(count + 1, "0")]
    assert owner.accepting.kept == count - 1


def test_commit_that_came_to_nothing_is_told() -> None:
    owner = Owner()
    owner.send(Forward("d0", 0, [row(1, "d/x"), row(2, "d/x")]))
    owner.send(Forward("d0", 1, []))  # the first one was given up
    owner.desk.disk.fail()
    owner.desk.commit()
    owner.flush()
    assert owner.wire.take() == [(2, "timeout")]


def test_messages_of_the_brokers_own_are_taken() -> None:
    """A dead letter whose home has moved."""
    owner = Owner()
    owner.send(Forward("d0", 0, [row(1, "$dead/x"), row(2, "$sys/y")]))
    owner.desk.commit()
    owner.flush()
    assert owner.wire.take() == [(1, "1"), (2, "bad_topic")]
    owner.desk.router.stop_storing()
    owner.send(Forward("d0", 2, [row(3, "$dead/x")]))
    assert owner.wire.take() == [(3, "unavailable")]


# Owners A, B, A: see the module


def test_what_comes_behind_a_moved_one_is_moved_until_its_sender_knows() -> None:
    """I4."""
    owner = Owner()
    owner.is_here = False
    owner.receive(4, 5)
    owner.is_here = True
    owner.receive(4, 6)
    assert owner.wire.take() == [(5, "moved"), (6, "moved")]
    owner.receive(5, 7)
    assert owner.wire.take() == [(7, "moved")]
    owner.receive(7, 8, 9, 10)
    assert owner.wire.take() == [(8, "1"), (9, "2"), (10, "3")]


def test_moved_is_kept_and_said_again() -> None:
    owner = Owner()
    owner.is_here = False
    owner.receive(4, 5, 6)
    owner.is_here = True
    wire = FarWire()
    owner.receive(4, 5, 6, 7, wire=wire)
    assert wire.take() == [(5, "moved"), (6, "moved"), (7, "moved")]
    owner.is_here = False
    owner.receive(4, 7, wire=wire)
    assert wire.take() == [(7, "moved")]
    assert owner.stored() == []


def test_moved_ones_that_were_given_up_hold_nobody_back() -> None:
    owner = Owner()
    owner.is_here = False
    owner.receive(4, 5, 6, 7)
    owner.is_here = True
    owner.receive(7, 8)
    assert owner.stored() == [8]


def test_frame_for_another_log_is_moved() -> None:
    """I4: an heir reads late what was meant for a log of its own."""
    owner = Owner()
    owner.send(Forward("m0", 0, [row(1)], "another"))
    owner.send(Forward("m0", 1, [row(2)], owner.desk.logs[0].name))
    assert owner.wire.take() == [(1, "moved"), (2, "1")]


def test_moved_publishes_of_both_sides_keep_their_order() -> None:
    """I4: A loses the shard and gets it back while three publishes are under way and a link is lost."""
    owner = Owner()
    dirty: list[Flushing] = []
    now_ms = 0
    entry = Forwarder("m0", owner.desk.limits, lambda: now_ms, dirty)
    there, client = Wire(), Client()

    def turn(*ids: int) -> None:
        for id in ids:
            entry.accept(None, Publish("t", Raw(str(id).encode()), id), "", client, 0)
        for one in dirty:
            one.flush()
        dirty.clear()
        for frame in there.take():
            owner.send(frame)

    entry.link_to(there, "inc-a", "")
    owner.is_here = False
    turn(1)
    owner.is_here = True
    (moved,) = owner.wire.frames()
    entry.accept(None, Publish("t", Raw(b"2"), 2), "", client, 0)
    for one in dirty:
        one.flush()
    dirty.clear()
    there.take()  # lost with the link
    entry.answered(there, moved)
    there = Wire()
    entry.link_to(there, "inc-a", "")
    turn(3)
    for _ in range(3):
        for answered in owner.wire.frames():
            entry.answered(there, answered)
        now_ms += 100
        entry.tick()
        turn()
        now_ms += 100
        entry.tick()
        turn()
    for answered in owner.wire.frames():
        entry.answered(there, answered)
    assert owner.stored() == [1, 2, 3]
    assert client.heard == [(1, "ok"), (2, "ok"), (3, "ok")]


# Who is remembered


def test_entry_nodes_are_apart() -> None:
    owner = Owner()
    owner.receive(0, 1)
    owner.receive(0, 1, entry="e2")
    assert owner.stored() == [1, 1]
    owner.accepting.forget("e2")
    owner.accepting.forget("e2")
    assert owner.accepting.kept == 1
    owner.accepting.restart()
    assert owner.accepting.kept == 0


def test_all_but_those_who_may_come_back_are_forgotten() -> None:
    """G6."""
    owner = Owner()
    for entry in ("e1", "e2", "e3"):
        owner.receive(0, 1, 2, entry=entry)
    owner.accepting.forget_but({"e2": None, "never heard of": None})
    assert owner.accepting.kept == 2
    owner.receive(0, 1, 2, entry="e2")
    assert len(owner.stored()) == 6


def test_longest_silent_entry_node_is_forgotten_past_the_bound() -> None:
    """G6."""
    owner = Owner()
    for number in range(MAX_ENTRIES):
        owner.receive(0, 1, entry=f"e{number}")
    owner.receive(0, 1, entry="e0")
    owner.receive(0, 1, entry="new")
    assert owner.accepting.kept == MAX_ENTRIES
    owner.receive(0, 1, entry="e0")
    assert len(owner.stored()) == 100
    before = owner.desk.logs[0].head()
    owner.receive(0, 1, entry="e1")
    assert owner.desk.logs[0].head() == before + 1


def test_refusals_fill_frames_of_a_bounded_size() -> None:
    owner = Owner()
    owner.is_here = False
    owner.receive(0, *range(1, 2_001))
    frames = owner.wire.frames()
    assert [len(frame.refusals) for frame in frames] == [1_024, 976]
    assert isinstance(frames[0].refusals[0], Refusal)
