"""Traces with other nodes, from the core's side: who is asked, what they say, and who says nothing (SPEC 4.12)."""

from collections.abc import Sequence
from typing import Any

from triode_broker.core.observing import MAX_SEEN
from triode_broker.core.record import Record
from triode_broker.core.shard import Shard
from triode_broker.core.tracing import ANSWER_MS, TRACE_MS, Take
from triode_protocol.hops import Hop
from triode_protocol.packets import Published

from tests.core.desk import Desk, Line
from tests.core.test_tracing import end, hops, trace


class Others:
    """Nodes n2 and n3, which the test speaks for."""

    def __init__(self) -> None:
        self.take: Take = lambda node, hops, is_over: None
        self.placed: tuple[str, int] | None = None

    def owner_of(self, shard: Shard) -> str:
        return "n2"

    def watch(self, trace: str, topic: str, take: Take) -> Sequence[str]:
        self.take = take
        return ["n2", "n3"]

    def look_for(self, trace: str, log: str, pos: int) -> None:
        self.placed = log, pos

    def forget(self, trace: str) -> None:
        self.placed = None


class Peer:
    """Another node among the followers."""

    peer = "n9"

    def offer(self, record: Record) -> None:
        """Sent there."""


def among_others() -> tuple[Desk, Line, Others]:
    desk, others = Desk(), Others()
    desk.node.tracing.elsewhere = others
    return desk, desk.connect(), others


def test_what_others_say_is_passed_on_until_all_have_said_all() -> None:
    _, line, others = among_others()
    assert hops(trace(line)) == ["accepted", "owner n2", "forwarded n2", "position", "stored"]
    others.take("n2", [Hop("matched", "n2", 5, kind="group", count=1, names=["g"])], False)
    others.take("n2", [], True)
    others.take("n2", [Hop("sent", "n2", 5)], True)
    others.take("n3", [], True)
    packets = line.read()
    assert (hops(packets), end(packets)) == (["matched group 1"], "complete")
    assert "names" not in str(packets)
    others.take("n3", [], True)
    assert line.read() == []


def test_who_says_nothing_is_named() -> None:
    desk, line, others = among_others()
    trace(line)
    others.take("n2", None, True)
    desk.wait(TRACE_MS + ANSWER_MS)
    packets = line.read()
    assert (hops(packets), end(packets)) == (["unanswered n2", "unanswered n3"], "incomplete")


def test_place_that_another_node_gave_is_told_as_its_answer() -> None:
    desk, line, _ = among_others()
    shard = desk.router.shards[0]
    shard.is_here = False
    assert hops(trace(line))[-1] == "answered"


def test_node_that_sends_it_on_is_told() -> None:
    desk = Desk()
    line = desk.connect()
    desk.router.follow("a", Peer())
    packets = trace(line)
    assert (hops(packets)[4:], end(packets)) == (["forwarded n9", "dropped no_subscriber"], "complete")


def observed(desk: Desk, topic: str = "a") -> tuple[Any, list[tuple[list[Hop], bool]]]:
    """As another node has this one look out."""
    told: list[tuple[list[Hop], bool]] = []
    return desk.node.tracing.observe(topic), told


def test_owner_tells_its_place_and_one_without_anybody_ends_at_once() -> None:
    desk = Desk()
    observation, told = observed(desk)
    assert observation.placed("m0-life", 1, "memory") == []
    desk.publish("a", 1)
    assert [hop.hop for hop in observation.placed("m0-life", 1, "memory")] == ["position", "stored"]
    nobody, _ = observed(desk, "b")
    nobody.look_for("m1-other", 9, lambda hops, is_over: told.append((hops, is_over)))
    assert told == [([], True)]
    nobody.close()
    desk.router.shards[0].is_here = False
    desk.router.follow("c", Peer())
    assert observed(desk, "c")[0].is_alone


def test_message_that_came_before_the_word_is_told_as_found_then() -> None:
    desk = Desk()
    other = desk.connect()
    other.subscribe(1, "a")
    desk.publish("a", 1)
    other.read()
    observation, told = observed(desk)
    observation.look_for("m0-life", 1, lambda hops, is_over: told.append((hops, is_over)))
    assert [hop.hop for hops, _ in told for hop in hops] == ["matched", "queued", "sent"]
    assert told[-1][1]


def test_message_that_comes_later_is_told_then_and_no_other_one() -> None:
    desk = Desk()
    desk.connect().subscribe(1, "a")
    observation, told = observed(desk)
    observation.look_for("m0-life", 2, lambda hops, is_over: told.append((hops, is_over)))
    desk.publish("a", 1)
    assert told == []
    desk.publish("a", 2)
    assert [hop.hop for hop in told[0][0]] == ["matched", "queued"]
    desk.wait(TRACE_MS)
    desk.wait(TRACE_MS)
    assert [hop.hop for hop in told[-1][0]] == ["waiting"]


def test_what_is_waited_for_in_vain_is_told_and_so_many_are_kept_in_mind() -> None:
    desk = Desk()
    desk.connect().subscribe(1, "a")
    observation, told = observed(desk)
    for number in range(MAX_SEEN + 1):
        desk.publish("a", number)
    observation.look_for("m0-life", MAX_SEEN + 9, lambda hops, is_over: told.append((hops, is_over)))
    desk.wait(TRACE_MS)
    assert [(hop.hop, hop.reason) for hop in told[-1][0]] == [("waiting", "not_delivered")]
    observation.close()


def test_what_comes_after_the_end_is_nobodys() -> None:
    desk = Desk()
    line = desk.connect()
    trace_of = desk.node.tracing.begin("a", 5, line.session, "c", may_name=False)
    trace_of.close()
    trace_of.close()
    trace_of.answer(Published(5, "m0-life", 1, 1, "memory"))
    trace_of._observed([], True)
    assert [packet["type"] for packet in line.read()] == ["published"]


def test_nobody_is_told_of_what_nobody_has_looked_for() -> None:
    desk = Desk()
    desk.connect().subscribe(1, "a")
    observation, told = observed(desk)
    desk.wait(TRACE_MS)
    assert observation.is_over
    looked, _ = observed(desk)
    desk.publish("a", 1)
    looked.look_for("m0-life", 1, lambda hops, is_over: told.append((hops, is_over)))
    looked._look()
    assert [is_over for _, is_over in told] == [False]
    looked.close()


def test_names_are_not_looked_through_where_there_are_too_many() -> None:
    """S8."""
    desk = Desk()
    desk.connect().subscribe(1, "a", group="g")
    consumers = desk.node.consumers
    assert [len(consumers.matching("a", most)) for most in (0, 1)] == [0, 1]
