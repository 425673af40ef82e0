"""Serving: what an owner sends a peer, frame by frame."""

from typing import Any

from triode_broker.cluster.frames import (
    Behind,
    Deliver,
    Found,
    Interest,
    Interested,
    Mark,
    Older,
    Read,
    ReadBack,
    Rows,
    Seek,
)
from triode_broker.cluster.serving import MAX_QUESTIONS, PAGE_BYTES, ROWS_IN_FLIGHT_BYTES, Serving
from triode_broker.config import TopicRule

from tests.cluster.pair import End, OwnerDesk, pair, turn

PLENTY = 10_000_000


class Peer:
    """A node that asks, by hand."""

    def __init__(self, *rules: TopicRule, max_bytes: int = PLENTY, shards: int = 1) -> None:
        self.desk = OwnerDesk(*rules, shards=shards)
        self.link = End(max_bytes)
        self.desk.serving.opened(self.link)
        self.log = self.desk.router.shards[0].log.name

    def ask(self, frame: Any) -> None:
        self.desk.serving.received(self.link, frame)

    def take(self) -> list[Any]:
        """What came; the link has sent it."""
        turn(self.desk)
        frames = self.link.frames()
        self.link.queue.clear()
        return frames

    def tell(self, frame: Any) -> list[Any]:
        self.ask(frame)
        return self.take()

    def read(self, id: int = 1, filter: str = "a", after: int = 0, max_bytes: int = PLENTY, log: str = "") -> Read:
        return Read(id, log or self.log, filter, after, max_bytes, 1_000, 0)

    def write(self, topic: str, text: str = "x", count: int = 1) -> None:
        for _ in range(count):
            self.desk.write(topic, text)


def positions(frame: Deliver | Rows | Older) -> list[int]:
    return [record.pos for record in frame.records]


def test_interest_is_answered_with_the_heads_of_all_logs() -> None:
    peer = Peer()
    peer.write("a", count=3)
    assert peer.tell(Interest(1, "snapshot", ["a"])) == [Interested(1, {peer.log: 3, "d0-life": 0})]


def test_a_stream_has_what_is_wanted_and_says_where_it_goes_on_from() -> None:
    peer = Peer()
    peer.write("a")
    peer.tell(Interest(1, "snapshot", ["a", "+", "b/#"]))
    peer.write("a")
    peer.write("c/1")
    peer.write("b/x", count=2)
    (first,) = peer.take()
    assert (first.prev, positions(first)) == (1, [2, 4, 5])
    peer.write("a")
    (second,) = peer.take()
    assert (second.prev, positions(second)) == (5, [6])


def test_streams_of_several_logs_go_their_own_way() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["#"]))
    peer.write("a")
    peer.write("d/1")
    (memory,) = peer.take()
    peer.desk.commit()
    (disk,) = peer.take()
    assert (memory.log, disk.log) == (peer.log, "d0-life")
    assert (disk.prev, positions(disk)) == (0, [1])


def test_what_is_dropped_is_not_sent_and_what_is_added_is() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["a"]))
    peer.write("b")
    mark, answer = peer.tell(Interest(2, "add", ["b", "a"]))
    assert (mark, answer.heads[peer.log]) == (Mark(peer.log, 1, 0), 1)
    peer.tell(Interest(3, "drop", ["a", "never"]))
    peer.write("a")
    peer.write("b")
    (frame,) = peer.take()
    assert (frame.prev, positions(frame)) == (1, [3])


def test_a_snapshot_takes_the_place_of_everything() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["a"]))
    peer.write("a")
    frames = peer.tell(Interest(2, "snapshot", ["b"]))
    assert [type(frame) for frame in frames] == [Interested]
    peer.write("a")
    assert peer.take() == []


def test_what_comes_in_a_turn_stands_before_the_answer_in_it() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["a"]))
    peer.write("a")
    peer.write("b")
    peer.ask(peer.read())
    kinds = [(type(frame), getattr(frame, "prev", None)) for frame in peer.take()]
    assert kinds == [(Deliver, 0), (Mark, 1), (Rows, None)]


def test_reads_of_every_kind_are_answered_as_the_log_does() -> None:
    peer = Peer()
    peer.write("a", count=3)
    (rows,) = peer.tell(peer.read(7, after=1))
    assert (rows.id, positions(rows), rows.prevs, rows.upto, rows.is_live) == (7, [2, 3], [1, 2], 3, False)
    (older,) = peer.tell(ReadBack(8, peer.log, "a", 3, PLENTY, 1))
    assert (positions(older), older.has_older, older.head) == ([2], True, 3)
    (found,) = peer.tell(Seek(9, peer.log, "a", 2, -1))
    assert found == Found(9, peer.log, 1, True, 0, 3)


def test_a_log_that_is_not_here_is_not_known() -> None:
    peer = Peer()
    for log in ("m0-gone", ""):
        for frame in (Read(1, log, "a", 0, 1, 1, 0), ReadBack(1, log, "a", 9, 1, 1), Seek(1, log, "a", 1, -1)):
            (answer,) = peer.tell(frame)
            assert (answer.is_known, answer.log) == (False, log)


def test_a_node_does_not_serve_what_it_mirrors() -> None:
    _, entry, _ = pair()
    link = End(PLENTY)
    serving = Serving(entry.router, lambda: 0, entry.flushes)
    serving.opened(link)
    serving.received(link, Interest(1, "snapshot", ["#"]))
    assert link.frames() == [Interested(1, {})]


# One's own interest


def test_own_interest_is_read_up_to_live() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["a"]))
    peer.write("a")
    peer.write("b")
    (rows,) = [frame for frame in peer.tell(peer.read(filter="")) if isinstance(frame, Rows)]
    assert (positions(rows), rows.upto, rows.is_live, rows.loss) == ([1], 2, True, 0)
    peer.write("a")
    (frame,) = peer.take()
    assert (frame.prev, positions(frame)) == (2, [3])


def test_own_interest_from_the_head_begins_there() -> None:
    peer = Peer()
    peer.write("a", count=3)
    peer.tell(Interest(1, "snapshot", ["a"]))
    (rows,) = peer.tell(peer.read(filter="", after=-1))
    assert (rows.records, rows.upto, rows.is_live) == ([], 3, True)


def test_a_stream_stops_when_its_interest_is_read_and_goes_on_behind_the_last_page() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["a"]))
    peer.write("a", "x" * 20_000, count=5)
    frames = peer.tell(peer.read(filter=""))
    assert [type(frame) for frame in frames] == [Rows]
    assert (frames[0].upto, frames[0].is_live) == (3, False)
    peer.write("a")
    assert peer.take() == []
    (rows,) = peer.tell(peer.read(filter="", after=3))
    assert (rows.upto, rows.is_live) == (6, True)


def test_what_policy_took_of_it_may_have_been_wanted() -> None:
    peer = Peer(TopicRule(filter="k", compact=True))
    peer.tell(Interest(1, "snapshot", ["a"]))
    peer.desk.write("k", key="x")
    peer.desk.write("k", key="x")
    peer.write("a")
    (rows,) = peer.tell(peer.read(filter=""))
    assert (positions(rows), rows.loss, rows.is_live) == ([3], 1, True)


def test_the_broker_own_topics_are_among_it() -> None:
    peer = Peer(shards=1)
    peer.tell(Interest(1, "snapshot", ["$dead/#"]))
    (rows,) = peer.tell(peer.read(filter="", log="d0-life"))
    assert rows.is_live


# Bounds


def test_a_full_link_stops_a_stream_once() -> None:
    peer = Peer(max_bytes=500)
    peer.tell(Interest(1, "snapshot", ["a"]))
    for _ in range(10):
        peer.write("a", "x" * 200)
        turn(peer.desk)
    kinds = [type(frame) for frame in peer.link.frames()]
    assert kinds.count(Behind) == 1
    assert kinds[-1] is Behind
    peer.ask(peer.read(filter=""))
    assert [type(frame) for frame in peer.link.frames()] == kinds  # nothing is answered into a full link
    peer.link.queue.clear()
    peer.link.drained()
    (rows,) = peer.take()
    assert (len(rows.records), rows.is_live) == (10, True)


def test_answers_wait_while_as_many_bytes_are_on_their_way() -> None:
    peer = Peer()
    peer.write("a", "x" * 30_000, count=2)
    for number in range(8):
        peer.ask(peer.read(number, max_bytes=PAGE_BYTES))
    assert len(peer.link.frames()) == ROWS_IN_FLIGHT_BYTES // PAGE_BYTES
    answered = peer.take()
    for _ in range(2):
        peer.link.drained()
        answered += peer.take()
    assert [frame.id for frame in answered] == list(range(8))


def test_a_history_as_long_as_a_frame_goes_alone() -> None:
    peer = Peer()
    peer.write("a", "x" * 60_000, count=6)
    peer.ask(ReadBack(1, peer.log, "a", 99, 1_000_000, 100))
    peer.ask(ReadBack(2, peer.log, "a", 99, 1_000_000, 1))
    (first,) = peer.take()
    assert len(first.records) == 6
    peer.desk.serving.tick()
    assert [frame.id for frame in peer.take()] == [2]


def test_a_disk_is_read_for_several_at_a_time() -> None:
    peer = Peer()
    peer.desk.write("d/1")
    peer.desk.commit()
    peer.desk.disk.is_late = True
    for number in range(6):
        peer.ask(peer.read(number, "d/1", log="d0-life"))
    assert len(peer.desk.disk.questions) == ROWS_IN_FLIGHT_BYTES // PAGE_BYTES
    peer.desk.disk.answer()
    assert [frame.id for frame in peer.take()] == list(range(6))


def test_a_peer_that_asks_beyond_all_measure_is_closed() -> None:
    peer = Peer()
    peer.desk.disk.is_late = True
    for number in range(MAX_QUESTIONS + 10):
        peer.ask(peer.read(number, "d/1", log="d0-life"))
    assert peer.link.closed_for == "too many questions"


def test_who_is_gone_gets_no_answer() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["d/1"]))
    peer.desk.disk.is_late = True
    peer.ask(peer.read(1, "d/1", log="d0-life"))
    peer.ask(peer.read(2, "", log="d0-life"))
    peer.desk.serving.closed(peer.link)
    peer.desk.serving.closed(peer.link)
    peer.desk.disk.answer()
    peer.desk.write("d/1")
    peer.desk.commit()
    peer.ask(peer.read())
    peer.link.drained()
    assert peer.take() == []


# Time


def test_heads_that_moved_without_anything_wanted_are_marked_once_a_second() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["a"]))
    peer.write("b", count=2)
    assert peer.take() == []
    peer.desk.serving.tick()
    assert peer.take() == [Mark(peer.log, 2, 0)]
    peer.desk.serving.tick()
    assert peer.take() == []


def test_a_log_that_began_anew_is_streamed_when_it_is_read() -> None:
    peer = Peer()
    peer.tell(Interest(1, "snapshot", ["a"]))
    log = peer.desk.renew(0).log.name
    peer.write("a")
    peer.desk.serving.tick()
    assert peer.take() == []
    (rows,) = peer.tell(peer.read(filter="", log=log))
    assert (positions(rows), rows.is_live) == ([1], True)
    peer.write("a")
    (frame,) = peer.take()
    assert (frame.log, frame.prev, positions(frame)) == (log, 1, [2])
