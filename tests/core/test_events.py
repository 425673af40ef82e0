"""Events: what is made of what happens, where it goes, and what becomes of it when its shard takes nothing."""

import json
from typing import Any

import pytest
from attrs import define, field
from triode_broker.config import Limits
from triode_broker.core import own_topics
from triode_broker.core.events import ALL, HOOK, METHOD, TOPICS, Events, client_of
from triode_broker.core.identity import OPEN, Arrival, Identity
from triode_broker.core.interfaces import Publisher
from triode_broker.core.ledger import Ledger
from triode_broker.core.occupancy import SETTLE_MS, Occupancy
from triode_broker.core.record import Record
from triode_broker.core.session import Session
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, Published

from tests.core.desk import Desk, Packet

EVERY = frozenset(TOPICS)


@define(eq=False)
class Reader:
    """A follower that keeps the events it is offered."""

    events: list[dict[str, Any]] = field(factory=list)

    def offer(self, record: Record) -> None:
        """One more."""
        self.events.append(json.loads(record.payload)["data"])

    def kinds(self) -> list[str]:
        """Of all."""
        return [event["kind"] for event in self.events]


@define(eq=False)
class World:
    """A desk with events, and who hears of them."""

    desk: Desk
    events: Events
    occupancy: Occupancy
    ledger: Ledger
    reader: Reader = field(factory=Reader)


def world(kinds: frozenset[str] = EVERY, desk: Desk | None = None, **limits: Any) -> World:
    desk = desk or Desk(limits=Limits(**limits))
    node = desk.node
    events = Events("n1", desk.router.publish_own, desk.limits, node.timers, node.random_id)
    occupancy = Occupancy(events, desk.router, desk.limits, node.timers, desk.router.coverage)
    ledger = Ledger(events, occupancy, desk.limits)
    node.tell(events, ledger.lost)
    for filter in node.open_filters():
        occupancy.hold(filter)
    desk.router.coverage = occupancy
    events.want({"": kinds})
    found = World(desk, events, occupancy, ledger)
    desk.router.follow(ALL, found.reader)
    desk.router.follow(ALL, ledger)
    ledger.read(ALL, desk.router.covered(ALL), lambda: desk.now_ms)
    return found


def told(world: World, kind: str) -> list[dict[str, Any]]:
    return [event for event in world.reader.events if event["kind"] == kind]


# What happens


def test_clients_come_and_go() -> None:
    made = world()
    line = made.desk.connect()
    client = client_of(line.session.connection_id)
    line.close(1000)
    line.session.detach()
    connected, disconnected = made.reader.events
    assert (connected["client"], connected["method"], disconnected["client"]) == (client, "open", client)
    assert (disconnected["code"], disconnected["reason"]) == (1000, "normal")
    assert line.session.connection_id not in repr(made.reader.events)
    assert disconnected["id"] == connected["id"] + "~end"


def test_a_lost_connection_and_a_code_of_the_clients_own_are_told() -> None:
    made = world()
    for code in (0, 4999):
        line = made.desk.connect()
        line.closed_with = code
        line.session.detach()
    assert [(one["code"], one.get("reason", "")) for one in told(made, "client.disconnected")] == [
        (1006, "lost"),
        (4999, ""),
    ]


def test_requests_and_the_brokers_own_are_no_clients() -> None:
    made = world()
    line = made.desk.dial(Arrival(is_request=True))
    line.ask({"type": "connect", "id": 1})
    line.session.detach()
    made.events.connected("c-1", Identity(method=METHOD), "")
    assert made.reader.events == []


def test_members_join_and_leave_once_whatever_their_state_does() -> None:
    made = world(presence_debounce_ms=0)
    line = made.desk.connect()
    line.subscribe(1, "rooms/1", presence={"state": 1})
    line.session.detach()
    joined, left = told(made, "member.joined")[0], told(made, "member.left")[0]
    assert (joined["topic"], joined["state"], joined["member"]) == ("rooms/1", 1, left["member"])


def test_a_member_that_comes_back_was_never_away() -> None:
    made = world()
    line = made.desk.connect()
    line.subscribe(1, "rooms/1", presence={"state": 1})
    line.session.detach()
    back = made.desk.connect(replaces=line.session.connection_id)
    back.subscribe(1, "rooms/1", presence={"state": 2})
    made.desk.wait(5_000)
    assert [kind for kind in made.reader.kinds() if kind.startswith("member")] == ["member.joined"]


def test_dead_letters_are_told_but_not_those_of_webhooks() -> None:
    made = world()
    desk = made.desk
    for name in ("work", HOOK + "x"):
        line = desk.dial()
        line.session.attend("c-x", Identity(method=METHOD))
        line.subscribe(1, "jobs/#", group=name, max_attempts=1)
        desk.publish("jobs/a", 1)
        deliveries = [packet for packet in line.drain() if packet["type"] == "delivery"]
        where = deliveries[-1]["message"]
        line.ask(
            {"type": "nack", "sub": 1, "log": where["log"], "pos": where["pos"], "attempt": 1, "reject": True}
        )
        line.session.detach()
    (letter,) = told(made, "dead_letter")
    assert (letter["name"], letter["topic"], letter["reason"], letter["attempts"]) == (
        "work",
        "jobs/a",
        "rejected",
        1,
    )


def test_only_what_is_wanted_is_made_and_pairs_are_whole() -> None:
    made = world(frozenset({"client.disconnected"}))
    line = made.desk.connect()
    line.subscribe(1, "rooms/1", presence={"state": 1})
    line.session.detach()
    made.desk.wait(5_000)
    assert made.reader.kinds() == ["client.connected", "client.disconnected"]
    assert made.events.tenants == [""]
    made.events.want({})
    made.desk.connect().session.detach()
    assert len(made.reader.events) == 2


def test_what_ends_when_nobody_wants_it_any_more_is_not_told() -> None:
    made = world()
    line = made.desk.connect()
    made.events.want({})
    line.session.detach()
    assert made.reader.kinds() == ["client.connected"]


# Names and rights


@pytest.mark.parametrize("method", ["open", "token"])
def test_clients_take_no_name_of_a_webhook(method: str) -> None:
    desk = Desk()
    line = desk.dial()
    line.session.attend("c-1", Identity(method=method))
    (error,) = line.subscribe(1, "jobs/#", group=HOOK + "x")
    assert (error["name"], error["field"]) == ("forbidden", "group")


def test_no_client_reads_events_to_whom_nobody_has_allowed_it() -> None:
    """G10: on a node that asks nobody who they are, everything but this is allowed."""
    line = Desk().connect()
    for sub, filter in enumerate(("$events/#", "$events/clients"), 1):
        (error,) = line.subscribe(sub, filter)
        assert error["name"] == "forbidden"
    (error,) = line.subscribe(3, "$events/#", group="g")
    assert error["name"] == "forbidden"


# On the way to the shard


class Taking:
    """Stands where the router does; answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Publish, Publisher]] = []
        self.error: ErrorName | None = None

    def publish_own(self, packet: Publish, user: str, now_ms: int, publisher: Publisher) -> None:
        self.asked.append((packet, publisher))
        if self.error is not None:
            raise Refused(self.error, "no")

    def answer(self) -> list[str]:
        """All there are; the kinds."""
        asked, self.asked = self.asked, []
        for packet, publisher in asked:
            publisher.answer(Published(packet.id))
        return [json.loads(bytes(packet.data))["kind"] for packet, _ in asked]


def queueing(**limits: Any) -> tuple[Events, Taking, Desk]:
    desk, taking = Desk(limits=Limits(**limits)), Taking()
    events = Events("n1", taking.publish_own, desk.limits, desk.node.timers, desk.node.random_id)
    events.want({"": EVERY})
    return events, taking, desk


def test_what_is_about_one_client_waits_for_what_was_told_before() -> None:
    events, taking, _ = queueing()
    events.connected("a", OPEN, "")
    events.disconnected("a", 1000)
    events.connected("b", OPEN, "")
    assert (len(taking.asked), events.waiting) == (1, 3)
    assert taking.answer() == ["client.connected"]
    assert taking.answer() == ["client.disconnected", "client.connected"]
    assert events.waiting == 0


def test_so_many_are_on_their_way_at_a_time() -> None:
    events, taking, _ = queueing()
    for number in range(300):
        events.connected(f"c{number}", OPEN, "")
    assert len(taking.asked) == 256
    taking.answer()
    assert len(taking.asked) == 44


def test_what_is_refused_for_a_while_goes_first_when_it_is_tried_again() -> None:
    events, taking, desk = queueing()
    taking.error = ErrorName.UNAVAILABLE
    events.connected("a", OPEN, "")
    events.connected("b", OPEN, "")
    assert len(taking.asked) == 1  # nothing more is tried for a while
    ((_, first),) = taking.asked
    taking.error, taking.asked = None, []
    desk.wait(500)
    assert [json.loads(bytes(packet.data))["client"] for packet, _ in taking.asked] == [
        client_of("a"),
        client_of("b"),
    ]
    first.inflight = 0  # who waits for a disk counts with it
    for _, publisher in list(taking.asked):
        publisher.refuse(Refused(ErrorName.TIMEOUT, "maybe"))
    assert events.waiting == 2


def test_what_is_there_already_is_no_loss_and_what_never_will_be_is_one() -> None:
    events, taking, _ = queueing()
    for name, lost in ((ErrorName.CONFLICT, 0), (ErrorName.TOO_LARGE, 1)):
        taking.error = name
        events.connected(f"{name}", OPEN, "")
        assert events.lost == lost
    assert events.waiting == 0


def test_beyond_the_bound_events_are_lost_and_that_is_told_when_there_is_room() -> None:
    events, taking, _ = queueing(max_waiting_events=4)
    for number in range(10):
        events.connected(f"c{number}", OPEN, "")
    assert (events.waiting, events.lost) == (4, 6)
    (_, one), *rest = taking.asked
    taking.asked = []
    one.answer(Published(1))
    assert taking.asked == []  # not yet: half of the room is to be free
    for packet, publisher in rest:
        publisher.answer(Published(packet.id))
    ((packet, _),) = taking.asked
    said = json.loads(bytes(packet.data))
    assert (packet.topic, said["kind"], said["count"]) == ("$events/lost", "events.lost", 6)
    taking.answer()
    assert events.waiting == 0


# The shard keeps one of what several nodes tell


def test_an_event_that_is_told_twice_is_there_once() -> None:
    made = world()
    packet = Publish("$events/lost", id=1, message_id="one", key="k", data=b"1")  # type: ignore[arg-type]  # bytes do as well
    answers: list[Packet] = []

    class Asker:
        inflight = 0

        def answer(self, packet: Any) -> None:
            answers.append({"duplicate": packet.duplicate})

        def refuse(self, refused: Refused) -> None:
            raise refused

    for _ in range(2):
        made.desk.router.publish_own(packet, "", made.desk.now_ms, Asker())
    assert answers == [{"duplicate": False}, {"duplicate": True}]


def test_the_rules_of_both_kinds_of_own_topics_hold_on_disk_and_in_memory() -> None:
    for durable in (False, True):
        router = Desk(durable=durable).router
        events, letters = router.rule_of("$events/clients"), router.rule_of("$dead/x")
        assert (events.compact, letters.compact) == (False, True)
        assert (events.storage == "disk") is (letters.storage == "disk") is durable


def test_long_keys_are_bounded() -> None:
    made = world(max_topic_bytes=1_024)
    line = made.desk.connect()
    line.subscribe(1, "a" * 1_000)
    assert told(made, "topic.occupied")[0]["topic"] == "a" * 1_000


# What is occupied


def test_a_topic_is_occupied_from_the_first_to_a_moment_after_the_last() -> None:
    made = world(vacated_after_ms=1_000)
    first, second = made.desk.connect(), made.desk.connect()
    first.subscribe(1, "rooms/1")
    second.subscribe(1, "rooms/1")
    second.subscribe(2, "rooms/#")
    second.subscribe(3, "jobs/1", group="g")
    for line in (first, second):
        line.session.detach()
    made.desk.wait(500)
    assert [one["topic"] for one in told(made, "topic.occupied")] == ["rooms/1", "jobs/1"]
    assert told(made, "topic.vacated") == []
    third = made.desk.connect()
    third.subscribe(1, "rooms/1")
    made.desk.wait(2_000)
    assert [one["topic"] for one in told(made, "topic.vacated")] == ["jobs/1"]
    third.ask({"type": "unsubscribe", "sub": 1, "id": 9})
    made.desk.wait(2_000)
    assert [one["topic"] for one in told(made, "topic.vacated")] == ["jobs/1", "rooms/1"]
    assert len(made.occupancy) == 0


def test_who_was_there_before_is_counted() -> None:
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "rooms/1")
    line.subscribe(2, "jobs/1", group="g")
    gone = desk.connect()
    gone.subscribe(1, "jobs/1", group="h")
    made = world(desk=desk)
    assert {one["topic"] for one in told(made, "topic.occupied")} == set()  # before anybody wanted it
    line.session.detach()
    gone.session.detach()
    desk.wait(5_000)
    assert told(made, "topic.vacated") == []
    made.occupancy.release("nobody/held")


def test_what_is_held_at_another_nodes_shard_is_for_that_node_to_tell() -> None:
    made = world()
    (shard,) = made.desk.router.shards
    shard.is_here = False
    made.occupancy.hold("rooms/1")
    assert told(made, "topic.occupied") == []
    shard.is_here = True
    made.occupancy.owned(shard)
    assert [one["topic"] for one in told(made, "topic.occupied")] == ["rooms/1"]
    shard.is_here = False
    made.occupancy.release("rooms/1")
    made.desk.wait(5_000)
    assert told(made, "topic.vacated") == []
    shard.is_here = True
    made.occupancy.owned(shard)
    made.desk.wait(SETTLE_MS)
    assert [one["topic"] for one in told(made, "topic.vacated")] == ["rooms/1"]


def test_no_more_topics_are_remembered_than_the_bound() -> None:
    made = world(max_open_events=2)
    for number in range(5):
        made.occupancy.hold(f"rooms/{number}")
    assert len(made.occupancy) == 2


class Behind:
    """A coverage that notes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def cover(self, filter: str, shards: Any, position: Any, then: Any) -> None:
        self.said.append(f"+{filter}")
        then([])

    def uncover(self, filter: str, shards: Any) -> None:
        self.said.append(f"-{filter}")


def test_the_coverage_behind_hears_all() -> None:
    desk = Desk()
    desk.router.coverage = behind = Behind()
    made = world(desk=desk)
    line = desk.connect()
    line.subscribe(1, "rooms/1")
    line.session.detach()
    assert behind.said == ["+rooms/1", "-rooms/1"]
    assert told(made, "topic.occupied")


# Other nodes, other lives


def other(made: World, name: str = "n2", **limits: Any) -> Events:
    """The events of another node, which go to the same shard."""
    desk = made.desk
    events = Events(name, desk.router.publish_own, desk.limits, desk.node.timers, desk.node.random_id)
    events.want({"": EVERY})
    return events


def test_what_a_lost_node_left_open_is_ended_once_by_all_who_notice() -> None:
    made = world()
    there = other(made)
    there.connected("c-1", Identity(user="ada"), "")
    there.connected("c-2", OPEN, "")
    there.disconnected("c-2", 1000)
    there.joined("rooms/1", b'{"id":"p-1","state":2}')
    assert len(made.ledger) == 2
    made.desk.node.presence.drop_node("n2")
    made.desk.node.presence.drop_node("n3")
    ended = [(one["client"], one["reason"]) for one in told(made, "client.disconnected")]
    assert (client_of("c-1"), "node_lost") in ended
    assert len(ended) == 2
    assert [one["member"] for one in told(made, "member.left")] == ["p-1"]
    there.disconnected("c-1", 1000)  # it lived, and its own word comes late
    assert len(told(made, "client.disconnected")) == 2


def test_a_node_that_lived_on_begins_again_what_others_have_ended() -> None:
    """A cut: the others took it for dead."""
    made = world()
    line = made.desk.connect()
    (opening,) = made.events.open.values()
    there = other(made)
    there.end(opening, reason="node_lost")
    assert made.reader.kinds() == ["client.connected", "client.disconnected", "client.connected"]
    there.end(opening, reason="node_lost")
    line.session.detach()
    assert made.reader.kinds()[3:] == ["client.disconnected"]
    stranger = told(made, "client.connected")[0] | {"client": "x", "id": "y"}
    there.end(opening.__class__(**stranger))
    assert made.reader.kinds()[4:] == ["client.disconnected"]


def test_a_node_has_one_life_at_a_time() -> None:
    made = world()
    before, after = other(made), other(made)
    before.connected("c-1", OPEN, "")
    after.connected("c-2", OPEN, "")
    assert [one["client"] for one in told(made, "client.disconnected")] == [client_of("c-1")]


def test_the_next_life_of_a_node_ends_what_its_last_one_left_open() -> None:
    made = world()
    made.desk.connect()
    made.occupancy.hold("rooms/1")
    again = Events(
        "n1", made.desk.router.publish_own, made.desk.limits, made.desk.node.timers, lambda: "other life"
    )
    again.want({"": EVERY})
    occupancy = Occupancy(again, made.desk.router, made.desk.limits, made.desk.node.timers, None)
    ledger = Ledger(again, occupancy, made.desk.limits)
    made.desk.router.follow(ALL, ledger)
    ledger.read(ALL, made.desk.router.covered(ALL), lambda: made.desk.now_ms)
    assert [one["reason"] for one in told(made, "client.disconnected")] == ["node_lost"]
    made.desk.wait(SETTLE_MS)
    assert [one["topic"] for one in told(made, "topic.vacated")] == ["rooms/1"]


def test_a_topic_that_another_has_vacated_too_soon_is_told_again() -> None:
    made = world()
    made.occupancy.hold("rooms/1")
    (opening,) = made.occupancy._told.values()
    there = other(made)
    there.end(opening)
    assert made.reader.kinds() == ["topic.occupied", "topic.vacated", "topic.occupied"]
    there.end(opening)
    made.occupancy.release("rooms/1")
    (again,) = made.occupancy._told.values()
    there.end(again)
    assert len(made.occupancy) == 0


def test_a_topic_that_another_node_has_told_is_not_told_again() -> None:
    made = world()
    there = other(made)
    there.occupied("rooms/1")
    made.occupancy.hold("rooms/1")
    there.occupied("rooms/1")
    made.desk.wait(SETTLE_MS)
    assert made.reader.kinds() == ["topic.occupied", "topic.occupied"]


def test_no_more_is_remembered_of_other_nodes_than_the_bound() -> None:
    made = world(max_open_events=2)
    there = other(made)
    for number in range(5):
        there.connected(f"c-{number}", OPEN, "")
    assert (len(made.ledger), made.ledger.beyond) == (2, 3)


def test_what_is_no_event_is_passed_over() -> None:
    made = world()
    for payload in (b"not json", b'{"data":1}', b'{"data":{"id":"1","kind":"new","time":1,"node":"n9"}}'):
        made.ledger.offer(Record("$events/clients", 1, 1, 1, payload))
    assert len(made.ledger) == 0


def test_what_has_ended_while_the_past_is_read_stays_ended() -> None:
    """The log answers later; what is live comes first."""
    made = world()
    there = other(made)
    there.connected("c-1", OPEN, "")
    there.connected("c-2", OPEN, "")
    ledger = Ledger(made.events, made.occupancy, made.desk.limits)
    (shard,) = made.desk.router.covered(ALL)
    pages: list[Any] = []

    class Late:
        """A log that answers when it is told to, in pages of one."""

        name = shard.log.name

        def head(self) -> int:
            return shard.log.head()

        def read(self, filter: str, after: int, max_bytes: int, most: int, now_ms: int, done: Any) -> None:
            pages.append(lambda: shard.log.read(filter, after, max_bytes, 1, now_ms, done))

    class Place:
        """A shard with that log."""

        log = Late()
        clock = shard.clock

    for _ in range(2):
        ledger.read(ALL, [Place(), Place()], lambda: made.desk.now_ms)  # type: ignore[list-item]  # enough of a shard
    made.desk.router.follow(ALL, ledger)
    there.disconnected("c-1", 1000)
    while pages:
        pages.pop()()
        made.desk.wait(1)
    assert len(ledger) == 1


def test_a_long_past_is_read_in_pieces_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """S8: whoever turns webhooks on is not to hold up everybody, nor to go down a level with each page."""
    made = world()
    for _ in range(600):
        made.desk.connect()
    monkeypatch.setattr("triode_broker.core.ledger.PAGE_RECORDS", 1)
    next_life = Events("n1", made.desk.router.publish_own, made.desk.limits, made.desk.node.timers, lambda: "2")
    reading = Ledger(next_life, made.occupancy, made.desk.limits)
    reading.read(ALL, made.desk.router.covered(ALL), lambda: made.desk.now_ms)
    assert len(reading) < 600
    for _ in range(1_000):
        made.desk.wait(1)
    assert len(reading) == 0, "all was read, and what was open is ended"


def test_names_without_members_hold_nothing() -> None:
    desk = Desk(durable=True)
    line = desk.connect()
    line.subscribe(1, "jobs/1", durable="work")
    desk.commit()
    assert list(desk.node.open_filters()) == ["jobs/1"]
    line.session.detach()
    assert list(desk.node.open_filters()) == []


def test_each_topic_is_vacated_in_its_own_time() -> None:
    made = world(vacated_after_ms=1_000)
    for topic in ("a", "b"):
        made.occupancy.hold(topic)
    made.occupancy.release("a")
    made.desk.wait(500)
    made.occupancy.release("b")
    made.desk.wait(600)
    assert [one["topic"] for one in told(made, "topic.vacated")] == ["a"]
    made.desk.wait(600)
    assert [one["topic"] for one in told(made, "topic.vacated")] == ["a", "b"]


@pytest.mark.parametrize(
    ("topic", "is_so"),
    [
        ("$dead/x", True),
        ("$events/clients", True),
        ("$events:acme/lost", True),
        ("$sys/x", False),
        ("events/x", False),
    ],
)
def test_which_topics_nodes_publish_on_for_each_other(topic: str, is_so: bool) -> None:
    assert own_topics.is_known(topic) is is_so


def test_sessions_of_the_brokers_own_reach_names_that_are_at_home_elsewhere() -> None:
    desk = Desk()
    line = desk.dial()
    assert isinstance(line.session, Session)
    line.session.attend("c-1", Identity(method=METHOD), None)
    assert line.session.acknowledged is not None
