"""Hand-over of memory shards at drain: one heir, the same log, no gap (cluster.md, Hand-over at drain)."""

from typing import Any

import pytest
from triode_broker.cluster import giving
from triode_broker.cluster.forwarding import HAND_OVER_MS
from triode_broker.cluster.frames import HandedOver, HandOver
from triode_broker.cluster.membership import TAKEN_MS
from triode_broker.cluster.ownership import HEIR_MS, PATIENCE_MS
from triode_broker.config import Limits, TopicRule
from triode_broker.core.shard import shard_index

from tests.cluster.town import SHARDS, Citizen, Town, data
from tests.core.desk import Line

#: One in each of the two shards.
TOPICS = tuple(
    next(f"t/{number}" for number in range(9) if shard_index(f"t/{number}", SHARDS) == index)
    for index in range(SHARDS)
)
FIRST, SECOND = TOPICS
RULES = (
    TopicRule(filter="keyed/#", compact=True, dedupe_seconds=300),
    TopicRule(filter="brief/#", retention_messages=2),
    TopicRule(dedupe_seconds=300),
)


def publish(town: Town, citizen: Citizen, topic: str, text: Any, **fields: Any) -> dict[str, Any]:
    """From a client of its own; its answer."""
    line = citizen.connect()
    line.send({"type": "publish", "id": 9, "topic": topic, "data": text, **fields})
    town.carry()
    (answer,) = line.drain()
    line.session.detach()
    return answer


def subscriber(town: Town, citizen: Citizen, filter: str = "#", **fields: Any) -> Line:
    """A live one, that has read all."""
    line = citizen.connect()
    line.send({"type": "subscribe", "id": 1, "sub": 1, "filter": filter, **fields})
    town.carry()
    line.drain()
    return line


def leave(town: Town, citizen: Citizen) -> None:
    """All of a drain's hand-over."""
    citizen.cluster.leave()
    town.carry()
    town.wait(600)
    assert citizen.cluster.giving.is_done


def test_the_shards_go_on_at_others_as_the_same_logs() -> None:
    """G3: numbers go on; each shard went to who had fewest, ties by name."""
    town = Town(3, *RULES)
    n1, n2, n3 = town.citizens
    for topic in TOPICS * 2:
        publish(town, n1, topic, "x")
    before = n1.logs_by_shard()
    leave(town, n1)
    assert (n1.owned(), n2.owned(), n3.owned()) == ([], ["m0"], ["m1"])
    assert n1.logs_by_shard() == n2.logs_by_shard() == n3.logs_by_shard() == before
    for topic in TOPICS:
        answer = publish(town, n1, topic, "y")
        assert (answer["type"], answer["offset"]) == ("published", 3)
        assert answer["log"] in before.values()


@pytest.mark.parametrize("filter", ["#", FIRST, "t/+"])
def test_subscribers_everywhere_go_on_without_a_gap(filter: str) -> None:
    """G4: of the old owner, of the heir, of a third node; live ones stay live."""
    town = Town(3, *RULES)
    lines = [subscriber(town, citizen, filter) for citizen in town.citizens]
    publish(town, town.citizens[0], FIRST, 1)
    leave(town, town.citizens[0])
    for number, citizen in enumerate(town.citizens, 2):
        publish(town, citizen, FIRST, number)
    town.carry()
    assert [data(line.drain()) for line in lines] == [[1, 2, 3, 4]] * 3


def test_what_the_heir_had_not_heard_of_comes_out_of_the_log() -> None:
    """The old owner's stream to the heir is late: its subscribers get the rest from the log itself, once."""
    town = Town(2, *RULES)
    n1, n2 = town.citizens
    line = subscriber(town, n2, FIRST)
    late = town.way(n1, n2, asking=False)
    for number in range(5):
        publish_held(town, n1, FIRST, number, late)
    n1.cluster.leave()
    town.carry(late)
    assert "m0" in n2.owned() or "m1" in n2.owned()
    assert data(line.drain()) == [0, 1, 2, 3, 4]
    town.carry()
    assert data(line.drain()) == []


def publish_held(town: Town, citizen: Citizen, topic: str, text: Any, *held: Any) -> None:
    line = citizen.connect()
    line.send({"type": "publish", "id": 9, "topic": topic, "data": text})
    town.carry(*held)
    line.session.detach()


def test_history_and_losses_are_the_same_after_it() -> None:
    """Retention's losses are told of at the heir as at the owner; compacted topics keep their keys."""
    town = Town(2, *RULES)
    n1, n2 = town.citizens
    for number in range(5):
        publish(town, n1, "brief/a", number)
        publish(town, n1, "keyed/a", number, key=f"k{number % 2}")
        publish(town, n1, FIRST, number)
    told = [everything(town, n1, filter) for filter in ("brief/a", "keyed/a", FIRST, "#")]
    leave(town, n1)
    again = [everything(town, n2, filter) for filter in ("brief/a", "keyed/a", FIRST, "#")]
    assert again == told
    assert [message["data"] for message in again[0] if message["type"] == "message"][-2:] == [3, 4]


def everything(town: Town, citizen: Citizen, filter: str) -> list[dict[str, Any]]:
    """What a new subscriber from the earliest on is told."""
    line = citizen.connect()
    line.send({"type": "subscribe", "id": 1, "sub": 1, "filter": filter, "from": "earliest"})
    town.carry()
    packets = line.drain()
    line.session.detach()
    found = [packet.get("message", packet) for packet in packets]
    return [packet for packet in found if packet["type"] in ("message", "gap")]


def test_an_id_that_was_used_is_known_to_the_heir() -> None:
    """G2: once, in the same place; with other content it is a conflict."""
    town = Town(2, *RULES)
    n1, n2 = town.citizens
    first = publish(town, n2, FIRST, "x", message_id="a")
    leave(town, n1)
    again = publish(town, n2, FIRST, "x", message_id="a")
    assert again["duplicate"]
    assert (again["log"], again["pos"], again["offset"]) == (first["log"], first["pos"], first["offset"])
    assert publish(town, n1, FIRST, "y", message_id="a")["name"] == "conflict"


def test_delayed_messages_are_delivered_once_by_the_heir() -> None:
    town = Town(2, *RULES)
    n1, n2 = town.citizens
    line = subscriber(town, n1, FIRST)
    for name in ("a", "b"):
        answer = publish(town, n1, FIRST, name, message_id=name, deliver_at_ms=n1.now_ms + 5_000)
        assert answer["delayed"]
    leave(town, n1)
    assert (n1.router.delayed.count, n2.router.delayed.count) == (0, 2)
    again = publish(town, n2, FIRST, "a", message_id="a", deliver_at_ms=n1.now_ms + 3_000)
    assert again["name"] == "conflict"
    town.wait(6_000)
    assert data(line.drain()) == ["a", "b"]
    assert n1.router.delayed.count == n2.router.delayed.count == 0


def test_forgotten_topics_stay_forgotten() -> None:
    """I3: the heir does not count on from 1 where the owner would not have."""
    town = Town(2, *RULES, limits=Limits(max_shard_topics=1))
    n1, n2 = town.citizens
    answers = [publish(town, n1, f"many/{number}", 1) for number in range(8)]
    leave(town, n1)
    again = publish(town, n2, "many/0", 2)
    assert again["offset"] == again["pos"] > answers[0]["offset"]


def test_a_large_shard_goes_in_pieces_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "PIECE_BYTES", 2_000)
    town = Town(2, *RULES)
    n1, n2 = town.citizens
    for number in range(200):
        publish(town, n1, TOPICS[number % 2], "x" * 100, message_id=f"id{number}")
    way = town.way(n1, n2, asking=True)
    n1.cluster.leave()
    sent = [frame for frame in way.waiting() if isinstance(frame, HandOver)]
    assert [frame.number for frame in sent] == list(range(giving.PIECES))
    most = 0
    while n1.owned() or n1.cluster.giving.given < 2:
        most = max(most, sum(isinstance(frame, HandOver) for frame in way.waiting()))
        if not any(end.queue for end in town.ends()):
            town.wait(200)
        for end in town.ends():
            if end.queue:
                end.carry_one()
    assert most == giving.PIECES
    assert len([one for one in everything(town, n2, "#") if one["type"] == "message"]) == 200


# Publishes meanwhile


def test_publishes_wait_for_the_heir_and_keep_their_order() -> None:
    """G3: from every node; what was under way when it was sealed comes back and goes first."""
    town = Town(3, *RULES)
    n1, n2, n3 = town.citizens
    reader = subscriber(town, n3, FIRST, **{"from": "earliest"})
    lines = [citizen.connect() for citizen in town.citizens]
    number = 0

    def send() -> None:
        nonlocal number
        number += 1
        for name, line in zip("abc", lines, strict=True):
            line.send({"type": "publish", "id": 100 + number, "topic": FIRST, "data": f"{name}{number}"})

    send()
    for citizen in town.citizens:
        citizen.cluster.flush()
    held = [town.way(n1, other, asking=True) for other in (n2, n3)]
    n1.cluster.leave()
    send()
    town.carry(*held)
    send()
    assert not any(citizen.owned() for citizen in (n2, n3))
    town.carry()
    town.wait(600)
    send()
    town.carry()
    texts = data(reader.drain())
    assert sorted(texts) == sorted(f"{name}{count}" for name in "abc" for count in range(1, 5))
    for name in "abc":
        assert [text for text in texts if text[0] == name] == [f"{name}{count}" for count in range(1, 5)]
    answers = [packet for line in lines for packet in line.drain() if packet["type"] != "ping"]
    assert {packet["type"] for packet in answers} == {"published"}


def test_no_publish_waits_for_longer_than_a_second() -> None:
    """G6: then it is `overloaded`, and may be sent again."""
    town = Town(2, *RULES)
    n1, n2 = town.citizens
    held = town.way(n1, n2, asking=True)
    n1.cluster.leave()
    line = n1.connect()
    for topic in TOPICS:
        line.send({"type": "publish", "id": 1, "topic": topic, "data": 1})
    town.wait(HAND_OVER_MS + 200, held)
    errors = [packet for packet in line.drain() if packet["type"] == "error"]
    assert errors
    assert {error["name"] for error in errors} == {"overloaded"}


def test_a_history_asked_for_meanwhile_is_answered_in_full() -> None:
    """What was asked of the old owner and not answered is asked of the new one, or found at the heir."""
    town = Town(3, *RULES)
    n1, n2, n3 = town.citizens
    for number in range(3):
        publish(town, n1, FIRST, number)
        publish(town, n1, SECOND, number)
    late = [town.way(n1, other, asking=False) for other in (n2, n3)]
    lines = [citizen.connect() for citizen in (n2, n3)]
    for line in lines:
        line.send({"type": "history", "id": 1, "topic": FIRST, "last": 10})
        line.send({"type": "history", "id": 2, "topic": SECOND, "last": 10})
        line.send({"type": "subscribe", "id": 3, "sub": 1, "filter": "t/+", "from": "earliest"})
    town.carry(*late)
    n1.cluster.leave()
    town.carry(*late)
    town.wait(600, *late)
    for line in lines:
        packets = line.drain()
        found = [len(packet["messages"]) for packet in packets if packet["type"] == "history"]
        assert found == [3, 3], packets
        assert not [packet for packet in packets if packet["type"] == "gap"]
    town.cut(n1, n2)
    town.cut(n1, n3)


# What comes to nothing


def test_a_silent_heir_leaves_an_orphan_that_is_claimed_with_a_new_log() -> None:
    """Never a second heir: after HEIR_MS the shard begins anew, and its subscribers are told (G4)."""
    town = Town(3, *RULES)
    n1, n2, n3 = town.citizens
    before = n1.logs_by_shard()
    line = subscriber(town, n3)
    held = town.way(n1, n2, asking=True)
    n1.cluster.leave()
    named = [entry.heir.partition("/")[0] for entry in n1.cluster.table.entries() if entry.heir]
    assert named == ["n2"]
    town.wait(HEIR_MS + PATIENCE_MS + 2_000, held)
    assert "shard_not_taken" in n1.said.loud()
    town.carry()
    town.wait(1_000)
    logs = n3.logs_by_shard()
    assert logs["m0"] != before["m0"]
    assert logs["m1"] == before["m1"], "the other one went its way"
    assert {packet["reason"] for packet in line.drain() if packet["type"] == "gap"} == {"reset"}
    assert publish(town, n1, FIRST, 1)["type"] == "published"


def test_an_heir_that_is_none_refuses() -> None:
    """It has a greater entry of another node: the shard was claimed."""
    town = Town(2, *RULES)
    n1, n2 = town.citizens
    way = town.way(n1, n2, asking=True)
    n1.cluster.leave()
    entry = next(entry for entry in n1.cluster.table.entries() if entry.heir)
    n2.cluster.table.merge([type(entry)(entry.shard, entry.epoch + 5, "n9", "9" * 16, f"{entry.shard}-other")])
    answers = town.way(n2, n1, asking=False)
    town.carry(answers)
    refused = [frame for frame in answers.waiting() if isinstance(frame, HandedOver)]
    assert (refused[0].shard, refused[0].answer) == (entry.shard, giving.REFUSED)
    town.carry()
    assert entry.shard not in n2.owned() or n2.logs_by_shard()[entry.shard] != entry.log
    assert way.is_open


def test_delayed_messages_stay_where_the_heir_does_not_take_them() -> None:
    """They go to whoever has claimed the shard, once; the heir that was silent takes nothing any more."""
    town = Town(3, *RULES)
    n1, n2, n3 = town.citizens
    for topic in TOPICS:
        publish(town, n1, topic, "late", deliver_at_ms=n1.now_ms + 60_000)
    held = town.way(n1, n2, asking=True)
    n1.cluster.leave()
    town.wait(HEIR_MS + PATIENCE_MS + 2_000, held)
    assert n1.router.delayed.count == 1
    assert sorted(n2.owned() + n3.owned()) == ["m0", "m1"]
    town.carry()
    line = subscriber(town, n2)
    town.wait(62_000)
    assert data(line.drain()) == ["late"] * 2


def test_over_a_new_link_everything_is_sent_again() -> None:
    town = Town(2, *RULES)
    n1, n2 = town.citizens
    for topic in TOPICS:
        publish(town, n1, topic, 1)
    before = n1.logs_by_shard()
    n1.cluster.leave()
    town.cut(n1, n2)
    town.link(n1, n2)
    town.link(n2, n1)
    town.carry()
    town.wait(600)
    assert n2.owned() == ["m0", "m1"]
    assert n2.logs_by_shard() == before


def test_nobody_who_is_silent_is_made_an_heir() -> None:
    """There is no second heir: who may be dead is passed over, or, if there is nobody else, waited for."""
    town = Town(3, *RULES)
    n1, n2, n3 = town.citizens
    n1.wait(TAKEN_MS)
    n1.cluster.leave()
    assert not any(entry.heir for entry in n1.cluster.table.entries())
    assert not n1.cluster.giving.is_done
    n1.cluster.membership.heard_from("n3", n3.cluster.identity.incarnation)
    n1.cluster.tick()
    assert [entry.heir.partition("/")[0] for entry in n1.cluster.table.entries() if entry.heir] == ["n3"]
    town.carry()
    town.wait(600)
    assert sorted(n2.owned() + n3.owned()) == ["m0", "m1"]


def test_nobody_who_is_leaving_is_made_an_heir() -> None:
    town = Town(3, *RULES)
    n1, n2, n3 = town.citizens
    leave(town, n2)
    leave(town, n1)
    assert n3.owned() == ["m0", "m1"]
    n3.cluster.leave()
    assert n3.cluster.giving.is_done, "there is nobody left"
    assert n3.owned() == ["m0", "m1"]
    assert publish(town, n3, FIRST, 1)["offset"] == 1
