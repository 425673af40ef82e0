"""What waits for a peer: counted, joined, split, and bounded (G6: no queue without a bound in bytes)."""

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from triode_broker.cluster.frames import (
    Answer,
    Answered,
    AnyFrame,
    Behind,
    Call,
    Deliver,
    Entry,
    Forward,
    Forwarded,
    HandedOver,
    HandedRest,
    HandOver,
    Interest,
    Leave,
    Members,
    Older,
    Refusal,
    Reply,
    Rows,
    Table,
    Tell,
    Watch,
    decode,
    encode,
)
from triode_broker.cluster.link import MESSAGE_BYTES
from triode_broker.cluster.outgoing import Outgoing
from triode_broker.config import Limits
from triode_broker.core.handed import HandedFacts, HandedId, HandedTopic
from triode_broker.core.record import Record

from tests.cluster.rig import Gate, by_hand, identity, network

SMALL = Limits(max_peer_outbox_bytes=20_000)


def row(pos: int, size: int = 10) -> Record:
    return Record("a/b", pos, pos, 0, b"x" * size)


def deliver(pos: int, size: int = 10, log: str = "m0-1") -> Deliver:
    return Deliver(log, pos - 1, [row(pos, size)])


def forwarded(seq: int, size: int = 0) -> Forwarded:
    return Forwarded(seq, "a/b", b"x" * size, b"", "user", "", {"a": "b"}, "", 0, 0)


def taken(*frames: AnyFrame) -> list[AnyFrame]:
    outgoing = Outgoing()
    for frame in frames:
        outgoing.put(frame)
    return outgoing.take(MESSAGE_BYTES)[0]


def test_rows_of_one_log_become_one_frame_where_each_goes_on_behind_the_one_before() -> None:
    assert taken(deliver(1), deliver(2), deliver(3)) == [Deliver("m0-1", 0, [row(1), row(2), row(3)])]


def test_a_row_that_does_not_go_on_behind_the_one_before_stays_alone() -> None:
    hole = [deliver(1), deliver(3), deliver(4)]
    assert taken(*hole) == [deliver(1), Deliver("m0-1", 2, [row(3), row(4)])]


def test_rows_of_several_logs_become_one_frame_each_in_order_of_the_first() -> None:
    frames = taken(deliver(1), deliver(7, log="m1-1"), deliver(2), deliver(8, log="m1-1"))
    assert frames == [Deliver("m0-1", 0, [row(1), row(2)]), Deliver("m1-1", 6, [row(7), row(8)])]


def test_any_other_frame_ends_the_row() -> None:
    frames: list[AnyFrame] = [deliver(1), Behind("m0-1"), deliver(2)]
    assert taken(*frames) == frames


def test_a_frame_of_no_rows_says_nothing() -> None:
    assert taken(Deliver("m0-1", 0, []), deliver(1), Deliver("m0-1", 1, []), deliver(2)) == [
        Deliver("m0-1", 0, [row(1), row(2)])
    ]


def test_publishes_and_answers_of_a_shard_travel_together_as_well() -> None:
    one, two = forwarded(1), forwarded(2)
    assert taken(Forward("m0", 0, [one]), Forward("m1", 0, [one]), Forward("m0", 1, [two])) == [
        Forward("m0", 1, [one, two]),
        Forward("m1", 0, [one]),
    ]
    yes, no = Answer(1, "m0-1", 1, 1, "memory"), Refusal(2, "overloaded", "", "", "backoff", 100)
    assert taken(Answered("m0", [yes], []), Answered("m0", [], [no])) == [Answered("m0", [yes], [no])]


def test_frames_that_were_put_stay_as_they_were() -> None:
    """One frame may be put on several links."""
    first, second = deliver(1), deliver(2)
    taken(first, second)
    assert (first, second) == (deliver(1), deliver(2))


def test_a_row_grows_only_so_far() -> None:
    frames = taken(*[deliver(pos, 50_000) for pos in range(1, 13)])
    assert [len(frame.records) for frame in frames if isinstance(frame, Deliver)] == [5, 5, 2]


def test_what_was_taken_does_not_grow_any_more() -> None:
    outgoing = Outgoing()
    outgoing.put(deliver(1))
    first, _ = outgoing.take(MESSAGE_BYTES)
    outgoing.put(deliver(2))
    assert first == [deliver(1)]
    assert outgoing.take(MESSAGE_BYTES)[0] == [deliver(2)]


def test_more_than_a_message_holds_is_taken_in_pieces_and_at_least_one_frame() -> None:
    outgoing = Outgoing()
    frames: list[AnyFrame] = [Call(number, "m", b"x" * 400) for number in range(10)]
    for frame in frames:
        outgoing.put(frame)
    pieces = []
    while outgoing:
        piece, size = outgoing.take(1_000)
        pieces.append(len(piece))
        assert size <= 1_000
    assert pieces == [2] * 5
    assert outgoing.bytes == 0
    outgoing.put(frames[0])
    outgoing.put(frames[1])
    assert outgoing.take(1)[0] == frames[:1]


FRAMES: list[AnyFrame] = [
    deliver(1, 300),
    Deliver("m0-1", 0, [row(1, 200), row(2, 200)]),
    Rows(1, "m0-1", [row(1, 200)], [0], 1, 0, 0, 1, False),
    Older(1, "m0-1", [row(1, 200)] * 3, False, 3),
    HandOver(
        "m0",
        "m0-1",
        0,
        [HandedTopic("a/b", 1, 1, 1, 1, False)],
        [row(1, 200)],
        {"a/b": 1},
        [HandedId("a/b", "u", "i", 1, 2, 3, 4)],
        [b"{}"],
        HandedRest(HandedFacts(1, 0, 0, -1, 0, 0, -1, 0), 1, False),
    ),
    HandedOver("m0", "m0-1", 0, "more"),
    Leave(),
    Forward("m0", 0, [forwarded(1, 300)] * 2),
    Answered("m0", [Answer(1, "m0-1", 1, 1, "memory")], [Refusal(2, "unavailable", "x" * 60, "", "backoff", 1)]),
    Call(1, "m", b"x" * 300),
    Reply(1, b"x" * 300, "", "y" * 30),
    Table([Entry("m0", 1, "n1", "0" * 16, "m0-1")] * 5),
    Interest(1, "add", ["a/b/c"] * 20),
    Watch("add", ["a/b/c"] * 20),
    Tell(1, [b"x" * 300]),
    Members("snapshot", {"a/b": [b"x" * 100] * 3}),
    Behind("m0-1"),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_the_estimate_is_near_and_not_below_what_a_frame_takes(frame: AnyFrame) -> None:
    outgoing = Outgoing()
    outgoing.put(frame)
    actual = len(encode([frame]))
    assert actual <= outgoing.bytes <= 4 * actual + 100


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 2**32))
def test_every_log_hears_its_rows_in_order_however_they_are_put_and_taken(kinds: list[int], seed: int) -> None:
    source = random.Random(seed)
    outgoing = Outgoing()
    last = [0, 0, 0]
    frames: list[AnyFrame] = []
    for kind in kinds:
        last[kind] += 1
        outgoing.put(deliver(last[kind], source.randrange(100), f"m{kind}-1"))
        if source.random() < 0.2:
            frames += outgoing.take(source.randrange(1, 400))[0]
    while outgoing:
        frames += outgoing.take(source.randrange(1, 400))[0]
    seen = {f"m{kind}-1": 0 for kind in range(3)}
    for frame in decode(encode(frames)):
        assert isinstance(frame, Deliver)
        assert frame.prev == seen[frame.log]
        for record in frame.records:
            assert record.pos == seen[frame.log] + 1
            seen[frame.log] = record.pos
    assert list(seen.values()) == last
    assert outgoing.bytes == 0


# On a link


async def test_a_peer_that_reads_slowly_makes_the_link_full_and_room_comes_back(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", limits=SMALL)
        gate = Gate()
        async with by_hand(n1, identity("n2"), pair=gate.pair) as hand:
            link = n1.link(is_dialler=False)
            was_full = link.is_full
            gate.shut()
            for pos in range(1, 60):
                link.put(deliver(pos, 300))
            is_full = link.is_full
            assert link.outbox_bytes > 20_000
            link.put(Behind("m0-1"))  # answers still go in
            gate.opening.set()
            joined, last = await hand.receive()
            assert isinstance(joined, Deliver)
            assert (len(joined.records), last) == (59, Behind("m0-1"))
            await wait_all_tasks_blocked()
            assert link.outbox_bytes == 0
            assert (was_full, is_full, link.is_full) == (False, True, False)
            assert link.is_open


async def test_a_peer_that_reads_nothing_loses_its_link_at_twice_the_bound(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", limits=SMALL)
        gate = Gate()
        async with by_hand(n1, identity("n2"), pair=gate.pair):
            link = n1.link(is_dialler=False)
            events = len(n1.story.events)
            gate.shut()
            link.put(Call(0, "m", b"x" * 15_000))
            await wait_all_tasks_blocked()
            assert link.outbox_bytes > 15_000  # it is being sent
            for number in range(1, 4):
                link.put(Call(number, "m", b"x" * 10_000))
            assert len(n1.story.events) == events  # whoever puts is not called back from within
            assert not link.is_open
            link.put(Behind("m0-1"))
            await n1.story.until(lambda: n1.story.reasons)
            assert n1.story.reasons == ["outbox_full"]
            await wait_all_tasks_blocked()
            assert gate.is_closed
            assert link.outbox_bytes < 20_000


async def test_a_link_whose_send_was_cancelled_is_dropped_without_another_byte(autojump_clock: MockClock) -> None:
    """Half a message stands on the wire: nothing can follow it."""
    async with network() as net:
        n1 = await net.node("n1")
        gate = Gate()
        async with by_hand(n1, identity("n2"), pair=gate.pair):
            link = n1.link(is_dialler=False)
            gate.shut()
            link.put(Call(0, "m", b"x" * 100_000))
            await wait_all_tasks_blocked()
            before = trio.current_time()
            link.close("silent")
            await wait_all_tasks_blocked()
            assert trio.current_time() == before  # no goodbye is waited for
            assert gate.is_closed


async def test_more_than_a_message_goes_out_as_several(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1")
        async with by_hand(n1, identity("n2")) as hand:
            frames = [Call(number, "m", b"x" * 400_000) for number in range(5)]
            for frame in frames:
                n1.link(is_dialler=False).put(frame)
            assert [len(await hand.receive()) for _ in range(3)] == [2, 2, 1]


async def test_a_message_that_was_estimated_too_small_is_split(autojump_clock: MockClock) -> None:
    """Characters are not bytes: `€` is one of the first and three of the second."""
    async with network() as net:
        n1 = await net.node("n1", limits=Limits(max_peer_message_bytes=100_000))
        async with by_hand(n1, identity("n2")) as hand:
            frames = [Interest(number, "add", ["€" * 10_000]) for number in range(1, 6)]
            for frame in frames:
                n1.link(is_dialler=False).put(frame)
            got: list[AnyFrame] = []
            while len(got) < len(frames):
                got += await hand.receive()
            assert got == frames


async def test_a_frame_that_no_peer_would_take_closes_the_link_here(autojump_clock: MockClock) -> None:
    async with network() as net:
        n1 = await net.node("n1", limits=Limits(max_peer_message_bytes=100_000))
        async with by_hand(n1, identity("n2")):
            n1.link(is_dialler=False).put(Call(1, "m", b"x" * 100_000))
            await n1.story.until(lambda: n1.story.reasons)
        assert n1.story.reasons == ["too_big"]
        assert n1.log.of("peer_link_closed")[0]["detail"].startswith("Call of 1000")
