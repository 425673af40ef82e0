"""A shard in memory that goes to another node as it is: numbers, ids, losses and what is delayed (cluster.md)."""

import random
from typing import Any

import pytest
from msgspec import Raw
from triode_broker.config import Limits, TopicRule
from triode_broker.core.delayed import Later
from triode_broker.core.handed import HandedTopic
from triode_broker.core.message_ids import Remembered, digest_of
from triode_broker.core.record import Record
from triode_broker.core.shard import Shard
from triode_broker.log.memory import MemoryLog
from triode_protocol.packets import ABSENT, Publish

from tests.core.desk import Desk
from tests.core.far import Away

RULES = (
    TopicRule(filter="keyed/#", compact=True, retention_messages=3, tombstone_seconds=2),
    TopicRule(filter="brief/#", retention_messages=3),
    TopicRule(filter="short/#", retention_seconds=3),
    TopicRule(dedupe_seconds=300),
)


def refill(desk: Desk, log: MemoryLog) -> MemoryLog:
    """The same log once more, made of what the first one gives."""
    log.seal()
    heir = MemoryLog(log.name, desk.limits)
    for topic in log.give_topics():
        heir.take_topic(topic, desk.router.rule_of(topic.topic))
    for record in log.give_records():
        heir.take_record(Record(*[getattr(record, name) for name in Record.__struct_fields__]))
    heir.take_facts(log.give_facts())
    return heir


def give(desk: Desk) -> tuple[MemoryLog, list[Later]]:
    """The only log, sealed, and what is delayed."""
    (log,) = desk.logs
    assert isinstance(log, MemoryLog)
    return refill(desk, log), desk.router.delayed.take_out(desk.router.shards[0])


def take(desk: Desk, log: MemoryLog, laters: list[Later], source: Shard, counters: dict[str, int]) -> Shard:
    """The shard goes on at another desk."""
    (shard,) = desk.router.shards
    desk.router.own(shard, log)
    shard.ts, shard.has_forgotten = source.ts, source.has_forgotten
    desk.router.count_on(shard, counters)
    for one in source.ids.entries():
        shard.ids.remember(Remembered(one.key, one.digest, one.pos, one.offset, one.expires_ms))
    desk.router.delayed.take_in(shard, [later.value() for later in laters])
    return shard


def hand_over(one: Desk, other: Desk) -> Shard:
    """All of it."""
    (source,) = one.router.shards
    log, laters = give(one)
    return take(other, log, laters, source, one.router.counters(source))


def test_numbers_go_on() -> None:
    """G3, and I3: a topic counts on, the log counts on."""
    one, other = Desk(*RULES), Desk(*RULES)
    for topic in ("a", "b", "a"):
        one.publish(topic)
    hand_over(one, other)
    answer = other.publish("a")
    assert (answer["log"], answer["pos"], answer["offset"]) == ("m0-life", 4, 3)
    assert other.publish("c")["offset"] == 1


def test_dead_letters_go_on_too() -> None:
    """They are in memory where there is no disk; a letter has the next number of its topic."""
    one, other = Desk(*RULES), Desk(*RULES)
    (shard,) = one.router.shards
    one.router.count_on(shard, {"$dead/jobs": 4})
    one.publish("a")
    hand_over(one, other)
    assert other.router.own_topics == ("$dead/jobs",)
    assert other.router.counters(other.router.shards[0]) == {"$dead/jobs": 4, "a": 1}


def test_topics_that_were_forgotten_take_pos() -> None:
    one, other = Desk(*RULES, limits=Limits(max_shard_topics=1)), Desk(*RULES)
    for topic in ("a", "b", "c"):
        one.publish(topic)
    hand_over(one, other)
    answer = other.publish("a")
    assert answer["offset"] == answer["pos"] == 4


def test_ids_go_on() -> None:
    """G2: in their window, with their place; other content is a conflict there as here."""
    one, other = Desk(*RULES), Desk(*RULES)
    first = one.publish("a", "x", message_id="i", headers={"h": "1"})
    hand_over(one, other)
    again = other.publish("a", "x", message_id="i", headers={"h": "1"})
    assert (again["pos"], again["duplicate"]) == (first["pos"], True)
    assert other.publish("a", "x", message_id="i")["name"] == "conflict"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Publish("a", Raw(b'"x"'), 1, "i"), Publish("a", Raw(b'"y"'), 1, "i")),
        (Publish("a", Raw(b'"x"'), 1, "i"), Publish("a", ABSENT, 1, "i", b64=Raw(b'"x"'))),
        (Publish("a", ABSENT, 1, "i"), Publish("a", ABSENT, 1, "i", key="k")),
        (Publish("a", ABSENT, 1, "i"), Publish("a", ABSENT, 1, "i", ttl_ms=1)),
        (Publish("a", ABSENT, 1, "i", headers={"a": "b"}), Publish("a", ABSENT, 1, "i", headers={"a": "c"})),
    ],
)
def test_contents_that_differ_have_other_digests(one: Publish, other: Publish) -> None:
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(one)


def test_digest_is_the_same_in_every_process() -> None:
    """It travels with a shard that is handed over: this number is what other nodes have."""
    assert digest_of(Publish("a", Raw(b'{"a":1}'), 1, "i", headers={"h": "1"})) == 8_206_972_750_464_699_057


def test_what_is_delayed_is_delivered_there_in_order_and_not_here() -> None:
    one, other = Desk(*RULES), Desk(*RULES)
    reader = other.connect()
    for name, ms in (("b", 2_000), ("a", 1_000), ("c", 2_000)):
        one.publish("t", name, deliver_at_ms=one.now_ms + ms, message_id=name)
    hand_over(one, other)
    assert (one.router.delayed.count, one.router.delayed.size) == (0, 0)
    reader.subscribe(1, "t")
    one.router.tick(one.now_ms + 5_000)
    other.router.tick(other.now_ms + 5_000)
    assert [packet["data"] for packet in reader.drain()] == ["a", "b", "c"]
    again = other.publish("t", "a", deliver_at_ms=one.now_ms + 1_000, message_id="a")
    assert again["pos"] == 1, "its id has the place it came to"


def test_what_is_delayed_and_not_taken_goes_on_here() -> None:
    one = Desk(*RULES)
    one.publish("t", "x", deliver_at_ms=one.now_ms + 1_000)
    (shard,) = one.router.shards
    laters = one.router.delayed.take_out(shard)
    one.router.tick(one.now_ms + 2_000)
    assert shard.pos == 0
    one.router.delayed.put_back(laters)
    one.router.tick(one.now_ms + 2_000)
    assert shard.pos == 1
    assert one.router.delayed.count == 0


def test_subscriptions_of_who_has_handed_it_over_stay_live_and_groups_end() -> None:
    """G4: no gap where the log goes on; a group whose home it was ends with `unavailable`."""
    one = Desk(*RULES)
    (shard,) = one.router.shards
    line = one.connect()
    line.subscribe(1, "a")
    line.subscribe(2, "a", group="g")
    one.publish("a", 1)
    line.drain()
    (log,) = one.logs
    assert isinstance(log, MemoryLog)
    one.router.disown(shard, Away())
    one.router.follow_owner(shard, log, Away())
    assert shard.is_reachable
    (ended,) = line.drain()
    assert (ended["type"], ended["sub"], ended["name"]) == ("unsubscribed", 2, "unavailable")
    assert one.router.live_subscriptions == 1


def test_a_record_of_a_topic_that_was_not_named_is_refused() -> None:
    log = MemoryLog("m0-x", Limits())
    with pytest.raises(ValueError, match="not named"):
        log.take_record(Record("a", 1, 1, 1, b"{}"))


def test_a_sealed_log_changes_no_more() -> None:
    """What retention would take stays until it is given."""
    desk = Desk(*RULES)
    desk.publish("short/a")
    (log,) = desk.logs
    assert isinstance(log, MemoryLog)
    log.seal()
    desk.wait(10_000)
    log.trim(desk.now_ms)
    assert [topic.topic for topic in log.give_topics()] == ["short/a"]
    assert next(iter(log.give_topics())) == HandedTopic("short/a", 0, 0, -1, 0, False)
    assert [record.pos for record in log.give_records()] == [1]


@pytest.mark.parametrize("seed", range(20))
def test_a_log_that_was_handed_over_is_like_one_that_was_not(seed: int) -> None:
    """Every read from everywhere finds the same, losses and their numbers included."""
    source = random.Random(seed)
    limits = Limits(max_shard_bytes=source.choice((30_000, 1_000_000)), recent_bytes=source.choice((0, 1_000_000)))
    desks = [Desk(*RULES, limits=limits) for _ in range(2)]
    logs: list[Any] = [desk.logs[0] for desk in desks]
    for _ in range(source.choice((20, 200))):
        write(source, desks)
    desks[1].router.own(desks[1].router.shards[0], MemoryLog("m0-other", limits))
    logs[1] = refill(desks[1], logs[1])
    same(desks, logs)
    for desk in desks:
        desk.wait(4_000)
    same(desks, logs)


def write(source: random.Random, desks: list[Desk]) -> None:
    topic = source.choice(("keyed/a", "brief/a", "brief/b", "short/a", "x", f"many/{source.randrange(30)}"))
    fields: dict[str, Any] = {"data": "x" * source.choice((1, 300))}
    if topic.startswith("keyed"):
        fields = {"key": f"k{source.randrange(6)}", **(fields if source.random() < 0.8 else {})}
    if source.random() < 0.1:
        fields["ttl_ms"] = 1_500
    ms = source.choice((0, 0, 700))
    for desk in desks:
        desk.wait(ms)
        desk.publish(topic, **fields)


def same(desks: list[Desk], logs: list[MemoryLog]) -> None:
    """Reads and snapshots of both."""
    head = logs[0].head()
    assert logs[1].head() == head
    for filter in ("#", "", "brief/+", "keyed/a", "brief/a", "short/a", "x"):
        for after in (0, 1, head // 3, head // 2, head - 3, head):
            for newest_at in (0, head) if filter else (0,):
                found = []
                for desk, log in zip(desks, logs, strict=True):
                    pages: list[Any] = []
                    log.read(filter, max(after, 0), 1 << 30, 10_000, desk.now_ms, pages.append, newest_at)
                    (page,) = pages
                    rows = [(record.topic, record.pos, record.offset) for record in page.records]
                    found.append((rows, page.prevs, page.upto, page.loss, page.known))
                assert found[0] == found[1], (filter, after, newest_at)
    assert abs(logs[0].size - logs[1].size) <= logs[0].size // 4 + 4_000
