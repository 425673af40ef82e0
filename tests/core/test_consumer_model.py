"""Acknowledged subscriptions against a model: random members, acknowledgements, failures, cuts and restarts (G5).

Nothing is lost: at the end every message was acknowledged or is a dead letter. What was answered `acked` never
comes again, attempts only rise, windows are kept, and of each key none is with two members or out of order.
"""

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Limits, TopicRule
from triode_broker.core.consumer import Consumer
from triode_broker.core.item import State

from tests.core.desk import Desk, Line, Packet

DISK = TopicRule(filter="d/#", storage="disk")
SMALL = Limits(max_outbox_bytes=1_600, max_consumer_bytes=1_500)
MAX_ATTEMPTS = 4
ACK_WAIT_MS = 10_000

Place = tuple[str, int]


@attrs.define(eq=False)
class Worker:
    """A client that works on deliveries."""

    line: Line
    held: dict[Place, int] = attrs.field(factory=dict)  # attempt by place: what it believes to have


class Play:
    """One run."""

    def __init__(self, fields: Packet, *, is_late: bool) -> None:
        self.desk = Desk(DISK, durable=True, limits=SMALL)
        self.desk.disk.is_late = is_late
        self.fields = {"max_attempts": MAX_ATTEMPTS, "ack_wait_ms": ACK_WAIT_MS, **fields}
        self.workers: list[Worker] = []
        self.serial = 100
        self.published: set[Place] = set()
        self.acked: set[Place] = set()  # an ack was sent
        self.asked: dict[int, list[Place]] = {}  # acks that wait for their answer
        self.confirmed: set[Place] = set()
        self.attempts: dict[Place, int] = {}

    def id(self) -> int:
        """A new one."""
        self.serial += 1
        return self.serial

    @property
    def is_shared(self) -> bool:
        """Whether several members may be."""
        return "group" in self.fields or "shared" in self.fields

    def join(self, window: int) -> None:
        """A new worker; of an exclusive name the one before is out."""
        if not self.is_shared:
            self.hear()
            self.workers = []
        line = self.desk.connect()
        self.workers.append(Worker(line))
        subscribe = {"type": "subscribe", "id": self.id(), "sub": 1, "filter": "d/#", "from": "earliest"}
        line.send({**subscribe, "window": window, **self.fields})
        self.hear()

    def cut(self, index: int, *, is_clean: bool) -> None:
        """One leaves."""
        if self.workers:
            worker = self.workers.pop(index % len(self.workers))
            self.hear_one(worker)
            if is_clean:
                worker.line.send({"type": "disconnect"})
            worker.line.session.detach()
            if not self.workers and "group" in self.fields:  # the group is gone, and begins anew
                self.confirmed.clear()
                self.attempts.clear()
                self.asked.clear()

    def publish(self, topic: str, key: str) -> None:
        """A message, on disk at some time."""
        line = self.desk.connect()
        line.send({"type": "publish", "id": 9, "topic": f"d/{topic}", "data": "x" * 50, "key": key})
        self.commit()
        for packet in line.drain():
            if packet["type"] == "published":  # else the disk is full
                self.published.add((packet["log"], packet["pos"]))
        line.session.detach()

    def commit(self) -> None:
        """All that waits for the disk."""
        if self.desk.disk.state == "ok":
            self.desk.commit()
        self.hear()

    def fill(self) -> None:
        """The disk is full: what waits for it is lost."""
        self.desk.disk.fill()
        self.hear()

    def drain(self) -> None:
        """There is room again."""
        self.desk.disk.drain()

    def hear(self) -> None:
        """Everybody reads."""
        for worker in self.workers:
            self.hear_one(worker)

    def hear_one(self, worker: Worker) -> None:
        """What has come."""
        for packet in worker.line.drain():
            if packet["type"] == "delivery":
                self.delivered(worker, packet)
            elif packet["type"] == "acked":
                self.confirmed |= set(self.asked.pop(packet["id"], ()))
            else:
                assert packet["type"] in ("subscribed", "error"), packet
                assert packet.get("name") in (None, "conflict", "unavailable"), packet

    def delivered(self, worker: Worker, packet: Packet) -> None:
        """One delivery."""
        place = (packet["message"]["log"], packet["message"]["pos"])
        attempt = packet["attempt"]
        assert place not in self.confirmed, "what is settled stays settled"
        assert attempt >= self.attempts.get(place, 0)
        assert attempt <= MAX_ATTEMPTS
        self.attempts[place] = attempt
        worker.held[place] = attempt

    def ack(self, index: int, number: int, *, is_asked: bool) -> None:
        """A worker acknowledges one of what it holds, in force or not."""
        worker, place = self.pick(index, number)
        if worker is not None:
            del worker.held[place]
            id = self.id() if is_asked else 0
            self.acked.add(place)
            if id:
                self.asked[id] = [place]
            worker.line.send(
                {"type": "ack", "sub": 1, "log": place[0], "pos": place[1], **({"id": id} if id else {})}
            )
            self.hear()

    def nack(self, index: int, number: int, **fields: Any) -> None:
        """A worker gives one back."""
        worker, place = self.pick(index, number)
        if worker is not None:
            attempt = worker.held.pop(place)
            worker.line.send(
                {"type": "nack", "sub": 1, "log": place[0], "pos": place[1], "attempt": attempt, **fields}
            )
            self.hear()

    def extend(self, index: int, number: int) -> None:
        """A worker asks for more time, or for less."""
        worker, place = self.pick(index, number)
        if worker is not None:
            extend = {"type": "extend", "sub": 1, "log": place[0], "pos": place[1], "attempt": worker.held[place]}
            worker.line.send({**extend, "ms": 1_000 if number % 2 else 2 * ACK_WAIT_MS})
            self.hear()

    def pick(self, index: int, number: int) -> Any:
        """A worker and one of its deliveries."""
        workers = [worker for worker in self.workers if worker.held]
        if not workers:
            return None, None
        worker = workers[index % len(workers)]
        return worker, list(worker.held)[number % len(worker.held)]

    def wait(self, ms: int) -> None:
        """Time passes."""
        self.desk.wait(ms)
        self.hear()

    def answer(self) -> None:
        """The store reads."""
        self.desk.disk.answer(1)
        self.hear()

    def restart(self) -> None:
        """A kill: what was not committed is gone."""
        if "durable" in self.fields:
            self.desk.restart()
            self.desk.disk.drain()
            self.workers.clear()
            self.asked.clear()
            self.attempts.clear()  # a delivery that was not written down does not count

    def finish(self) -> None:
        """Everything is healed; one worker finishes the work."""
        self.drain()
        self.desk.disk.is_late = False
        self.desk.disk.answer()
        while self.workers:
            self.cut(0, is_clean=True)
        self.desk.commit()
        for _ in range(60):
            if not self.workers:
                self.join(50)
            self.commit()
            for worker in self.workers:
                while worker.held:
                    self.ack(0, 0, is_asked=True)
            self.commit()
            if self.published <= self.acked | self.dead():
                break
            self.wait(ACK_WAIT_MS)
        self.wait(0)
        self.commit()
        dead = self.dead()
        assert self.published <= self.acked | dead, "nothing is lost"
        if "durable" in self.fields:  # a group that began anew may have had both
            assert not self.confirmed & dead - self.excused()

    def excused(self) -> set[Place]:
        """An ack that came too late: the message had become a dead letter already."""
        return {place for place in self.confirmed if self.attempts.get(place) == MAX_ATTEMPTS}

    def dead(self) -> set[Place]:
        """The places of the dead letters."""
        line = self.desk.connect()
        (page,) = line.ask({"type": "history", "id": 1, "topic": "$dead/w", "limit": 1_000})
        heads = [message["headers"] for message in page["messages"]]
        return {(head["triode-dead-log"], int(head["triode-dead-pos"])) for head in heads}

    def check(self) -> None:
        """What holds at any time."""
        consumer = self.desk.node.consumers.by_name.get("w")
        if consumer is not None:
            check(consumer)


def check(consumer: Consumer) -> None:
    """The state of one name is one."""
    items = [item for source in consumer.sources for item in source.items.values()]
    assert consumer.held_bytes == sum(item.record.size for item in items)
    for member in consumer.members:
        assert len(member.held) <= member.window
        assert all(item.holder is member and item.state == State.IN_FLIGHT for item in member.held)
        free = 0 if member.is_stalled else member.window - len(member.held)
        assert member.free == (free if member.subscribe_id < 0 else 0)
    lanes = {item.lane for item in items if item.lane is not None}
    for lane in lanes:
        assert {item.holder for item in lane.in_flight} == ({lane.holder} if lane.in_flight else set())
        serials = [item.serial for item in (*lane.in_flight, *lane.waiting)]
        assert serials == sorted(serials), "in order"
    is_free = any(member.free and member.outbox.has_room for member in consumer.members)
    ready = [item for item in items if item.state == State.READY and (item.lane is None or item.lane.next is item)]
    for item in ready if is_free else ():
        assert item.lane is not None, "somebody could have it"
        assert item.lane.holder is not None, "somebody could have it"
        assert not item.lane.holder.free
        assert item.lane in item.lane.holder.parked


INDEX = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("ab"), st.sampled_from(["", "", "k", "l"])),
        st.tuples(st.just("publish"), st.sampled_from("ab"), st.sampled_from(["", "k"])),
        st.tuples(st.just("ack"), INDEX, INDEX),
        st.tuples(st.just("ask"), INDEX, INDEX),
        st.tuples(st.just("nack"), INDEX, INDEX),
        st.tuples(st.just("delay"), INDEX, INDEX),
        st.tuples(st.just("reject"), INDEX, INDEX),
        st.tuples(st.just("join"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("cut"), INDEX, st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([0, 3_000, ACK_WAIT_MS]), st.just(0)),
        st.tuples(st.just("answer"), st.just(0), st.just(0)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
        st.tuples(st.just("fill"), st.just(0), st.just(0)),
        st.tuples(st.just("drain"), st.just(0), st.just(0)),
        st.tuples(st.just("extend"), INDEX, INDEX),
    ),
    min_size=10,
    max_size=60,
)
KINDS: list[Packet] = [{"durable": "w"}, {"durable": "w", "shared": True}, {"group": "w"}]


@pytest.mark.parametrize("fields", KINDS, ids=str)
@settings(max_examples=80, deadline=None)
@given(steps=STEPS, is_late=st.booleans())
def test_every_message_is_acknowledged_or_a_dead_letter(
    fields: Packet, steps: list[tuple[str, Any, Any]], is_late: bool
) -> None:
    """G5, SPEC 9.4, 9.5: whatever happens in between."""
    play = Play(fields, is_late=is_late)
    moves: dict[str, Any] = {
        "publish": play.publish,
        "ack": lambda a, b: play.ack(a, b, is_asked=False),
        "ask": lambda a, b: play.ack(a, b, is_asked=True),
        "nack": play.nack,
        "delay": lambda a, b: play.nack(a, b, delay_ms=2_000),
        "reject": lambda a, b: play.nack(a, b, reject=True),
        "join": lambda window, _: play.join(window),
        "cut": lambda index, is_clean: play.cut(index, is_clean=is_clean),
        "wait": lambda ms, _: play.wait(ms),
        "answer": lambda _, __: play.answer(),
        "commit": lambda _, __: play.commit(),
        "restart": lambda _, __: play.restart(),
        "fill": lambda _, __: play.fill(),
        "drain": lambda _, __: play.drain(),
        "extend": play.extend,
    }
    for name, first, second in steps:
        moves[name](first, second)
        play.check()
    play.finish()
    play.check()
