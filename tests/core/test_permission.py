"""Rights and one subscription: what it is told when it is filtered, and when its rights change under it (G10)."""

from typing import Any

import pytest
from triode_broker.config import Limits
from triode_broker.core.rights import ACTIONS, Rights

from tests.core.desk import Desk, Line, Packet
from tests.core.keeper import Keeper, everything_on
from tests.core.test_late_logs import LateDesk

LOG = "m0-life"
ALL, PART, NONE = everything_on("rooms/#"), everything_on("rooms/#", but=["rooms/b"]), Rights({})
OTHER = everything_on("rooms/#", but=["rooms/a"])


def types(packets: list[Packet]) -> list[str]:
    return [packet["type"] for packet in packets]


def topics(packets: list[Packet]) -> list[str]:
    """Of all messages, however they came."""
    messages = (packet.get("message", packet) for packet in packets)
    return [one["topic"] for one in messages if one["type"] == "message"]


def without(*actions: str) -> Rights:
    """All of it, but for some actions."""
    return Rights({action: ["rooms/#"] for action in ACTIONS if action not in actions})


def begin(rights: Rights, limits: Limits | None = None) -> tuple[Desk, Keeper, Line]:
    desk = Desk(limits=limits)
    keeper = Keeper(desk)
    return desk, keeper, keeper.connect("ann", rights)


# Being filtered


@pytest.mark.parametrize(("rights", "is_filtered"), [(ALL, False), (PART, True), (without("presence"), False)])
def test_subscription_is_told_that_it_is_filtered(rights: Rights, is_filtered: bool) -> None:
    """SPEC 11.4.2: only where its filter is allowed in part."""
    _, _, ann = begin(rights)
    (answer,) = ann.subscribe(1, "rooms/+")
    assert answer.get("filtered", False) == is_filtered


def test_past_is_delivered_of_topics_whose_past_is_allowed() -> None:
    """SPEC 11.4.2: who asks for the past needs `history` beside `subscribe` for each topic."""
    desk, _, ann = begin(Rights({"subscribe": ["rooms/+"], "history": ["rooms/b", "rooms/c"]}))
    for topic in ("rooms/a", "rooms/b"):
        desk.publish(topic)
    answer, *packets = ann.subscribe(1, "rooms/+", from_="earliest")
    assert answer["filtered"]
    assert topics(packets) == ["rooms/b"]
    assert types(packets) == ["delivery", "gap", "caught_up"]
    assert (packets[1]["reason"], packets[1]["after"]) == ("permission", packets[2]["after"])
    desk.publish("rooms/a", 2)
    assert topics(ann.drain()) == ["rooms/a"]  # live it may have it
    answer, *packets = ann.subscribe(2, "rooms/+", after={LOG: 0})  # what it has missed is no past to it
    assert "filtered" not in answer
    assert topics(packets) == ["rooms/a", "rooms/b", "rooms/a"]


def test_past_of_a_shard_that_was_not_reached_is_still_the_past() -> None:
    """S13, SPEC 11.4.2: it is told when its owner is back, long after the rest was over."""
    desk = Desk(shards=2)
    ann = Keeper(desk).connect("ann", Rights({"subscribe": ["rooms/#"], "history": ["rooms/+/b"]}))
    shard = desk.router.shards[1]
    there = [
        topic for topic in (f"rooms/{number}/a" for number in range(40)) if desk.router.shard_of(topic) is shard
    ]
    past = [
        topic for topic in (f"rooms/{number}/b" for number in range(40)) if desk.router.shard_of(topic) is shard
    ]
    for topic in (there[0], past[0]):
        desk.publish(topic)
    shard.is_reachable = False
    answer, *packets = ann.subscribe(1, "rooms/#", from_="earliest")
    assert (answer["unavailable"], topics(packets)) == (["m1"], [])
    desk.node.moving.back(shard)
    assert topics(ann.drain()) == [past[0]]
    desk.publish(there[0])
    assert topics(ann.drain()) == [there[0]]


def test_each_topic_is_judged_once_and_not_each_message() -> None:
    """S11, G10: the cost of permission does not grow with the messages."""
    desk, _, ann = begin(PART)
    ann.subscribe(1, "rooms/+")
    asked: list[str] = []
    (sub,) = ann.session.subscriptions
    allows = sub.allows
    assert allows is not None

    def counting(topic: str) -> bool:
        asked.append(topic)
        return allows(topic)

    sub.allows = counting
    for _ in range(5):
        desk.publish("rooms/a")
        desk.publish("rooms/b")
    assert topics(ann.drain()) == ["rooms/a"] * 5
    assert asked == ["rooms/a", "rooms/b"]


def test_message_that_is_not_allowed_takes_nobody_out_of_live() -> None:
    """G7: what is kept from a connection does not fill it."""
    desk, _, ann = begin(PART, Limits(max_outbox_bytes=2_000))
    ann.subscribe(1, "rooms/+")
    for _ in range(50):
        desk.publish("rooms/b", "x" * 100)
    assert desk.router.live_subscriptions == 1
    assert ann.drain() == []


# Rights that change


def test_rules_that_say_the_same_of_a_filter_are_not_told() -> None:
    """SPEC 11.5.3"""
    desk, keeper, ann = begin(PART)
    ann.subscribe(1, "rooms/+")
    keeper.let("ann", everything_on("rooms/#", "users/ann", but=["rooms/b", "users/eve"]))
    desk.publish("rooms/a")
    assert types(ann.drain()) == ["message"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [(ALL, PART, ["rooms/a"]), (PART, ALL, ["rooms/a", "rooms/b"]), (PART, OTHER, ["rooms/b"])],
    ids=["narrower", "wider", "others"],
)
def test_live_subscription_is_told_that_its_topics_have_changed(
    before: Rights, after: Rights, told: list[str]
) -> None:
    """SPEC 11.5.2, 4.6.1: a gap at its position, and on it goes."""
    desk, keeper, ann = begin(before)
    ann.subscribe(1, "rooms/+")
    for topic in ("rooms/a", "rooms/b"):
        desk.publish(topic)
    keeper.let("ann", after)
    for topic in ("rooms/a", "rooms/b"):
        desk.publish(topic)
    packets = ann.drain()
    (gap,) = [packet for packet in packets if packet["type"] == "gap"]
    assert (gap["sub"], gap["reason"], gap["after"]) == (1, "permission", {LOG: 2})
    assert topics(packets[packets.index(gap) :]) == told


def test_exact_topic_is_allowed_or_over() -> None:
    """SPEC 11.5.1: there is no part of it."""
    desk, keeper, ann = begin(ALL)
    ann.subscribe(1, "rooms/a")
    ann.subscribe(2, "rooms/b")
    keeper.let("ann", PART)
    desk.publish("rooms/a")
    ended, message = ann.drain()
    assert (ended["type"], ended["sub"], ended["name"], ended["retry"]) == (
        "unsubscribed",
        2,
        "forbidden",
        "never",
    )
    assert message["topic"] == "rooms/a"
    assert desk.router.live_subscriptions == 1
    keeper.let("ann", ALL)
    assert ann.drain() == []  # it does not come back by itself


def test_one_that_catches_up_is_told_where_it_is() -> None:
    """SPEC 11.5.2, 4.6.1: the gap lies between what the old rules let through and what the new ones do."""
    desk, keeper, ann = begin(PART, Limits(max_outbox_bytes=2_000))
    for _ in range(10):  # more than one page
        desk.publish("rooms/a", "x" * 30_000)
        desk.publish("rooms/b", "x" * 30_000)
    ann.send({"type": "subscribe", "id": 1, "sub": 1, "filter": "rooms/+", "from": "earliest"})
    before = ann.read()
    keeper.let("ann", OTHER)
    after = ann.drain()
    position = before[-1]["message"]["pos"]
    assert set(topics(before)) == {"rooms/a"}
    assert (after[0]["type"], after[0]["reason"]) == ("gap", "permission")
    assert position <= after[0]["after"][LOG] < 20
    assert set(topics(after)) == {"rooms/b"}
    assert after[-1]["type"] == "caught_up"
    assert min(one["message"]["pos"] for one in after if one["type"] == "delivery") > after[0]["after"][LOG]


def stall(desk: Desk, ann: Line, overflow: str) -> None:
    """Out of live by an outbox that is full of what is allowed."""
    ann.subscribe(1, "rooms/+", overflow=overflow)
    while desk.router.live_subscriptions:
        desk.publish("rooms/a", "x" * 100)
    desk.publish("rooms/b", "b")
    desk.publish("rooms/c", "c")


def test_one_that_skips_is_told_of_both_when_there_is_room() -> None:
    """SPEC 11.5.2, 3.2.11"""
    desk, keeper, ann = begin(ALL, Limits(max_outbox_bytes=2_000))
    stall(desk, ann, "gap")
    keeper.let("ann", PART)
    packets = [packet for packet in ann.drain() if packet["type"] not in ("message", "catching_up")]
    assert [(packet["type"], packet.get("reason")) for packet in packets] == [
        ("gap", "slow"),
        ("gap", "permission"),
        ("caught_up", None),
    ]
    assert packets[0]["after"] == packets[1]["after"] == packets[2]["after"]


def test_one_that_conflates_gives_up_what_is_not_allowed_any_more() -> None:
    """SPEC 11.4.4, 3.2.13: what was kept is judged again; what was not allowed was never kept."""
    desk, keeper, ann = begin(PART, Limits(max_outbox_bytes=2_000))
    stall(desk, ann, "conflate")
    (sub,) = ann.session.subscriptions
    keeper.let("ann", everything_on("rooms/#", but=["rooms/c"]))
    packets = ann.drain()
    reasons = [packet["reason"] for packet in packets if packet["type"] == "gap"]
    assert reasons == ["permission"]
    kept = [packet["message"]["topic"] for packet in packets if packet["type"] == "delivery"]
    assert kept == ["rooms/a"]
    assert sub.is_live


def test_one_that_waits_for_its_logs_is_told_with_its_answer() -> None:
    """SPEC 11.5.2: it has no position yet that a gap could be at."""
    desk = LateDesk()
    keeper = Keeper(desk)
    ann = keeper.connect("ann", ALL)
    for topic in ("rooms/a", "rooms/b"):
        desk.publish(topic)
    assert ann.subscribe(1, "rooms/+", from_="earliest") == []
    keeper.let("ann", PART)
    assert ann.drain() == []
    desk.answer()
    answer, *packets = ann.drain()
    assert (answer["type"], answer["filtered"]) == ("subscribed", True)
    assert types(packets) == ["delivery", "caught_up"]


def test_one_that_ends_while_it_waits_is_refused() -> None:
    """SPEC 11.5.1, 4.10.1: what it asked is answered, and nothing more comes."""
    desk = LateDesk()
    keeper = Keeper(desk)
    ann = keeper.connect("ann", ALL)
    desk.publish("rooms/a")
    assert ann.subscribe(1, "rooms/+", from_="earliest") == []
    keeper.let("ann", NONE)
    desk.answer()
    (error,) = ann.drain()
    assert (error["type"], error["id"], error["sub"], error["name"]) == ("error", 101, 1, "forbidden")


def test_past_that_is_not_allowed_any_more_ends_who_still_reads_it() -> None:
    """SPEC 11.5.1: who has read it goes on."""
    desk, keeper, ann = begin(ALL, Limits(max_outbox_bytes=2_000))
    for _ in range(40):
        desk.publish("rooms/a", "x" * 100)
    ann.subscribe(1, "rooms/+", from_="last")
    ann.send({"type": "subscribe", "id": 2, "sub": 2, "filter": "rooms/+", "from": "earliest"})
    keeper.let("ann", without("history"))
    ended = [packet for packet in ann.drain() if packet["type"] == "unsubscribed"]
    assert [(packet["sub"], packet["name"]) for packet in ended] == [(2, "forbidden")]
    desk.publish("rooms/a", 1)
    assert topics(ann.drain()) == ["rooms/a"]


# Dead letters


def letter(desk: Desk, name: str = "billing") -> None:
    """A message that a group rejects."""
    worker = desk.connect()
    worker.subscribe(1, "jobs", group=name)
    desk.publish("jobs", {"amount": 7})
    (delivery,) = worker.drain()
    place = {"log": LOG, "pos": delivery["message"]["pos"]}
    worker.send({"type": "nack", "sub": 1, "attempt": 1, "reject": True, **place})
    worker.drain()
    worker.session.detach()


@pytest.mark.parametrize(
    ("rules", "filter", "came"),
    [
        (["#"], "$dead/billing", None),
        (["#"], "$dead/#", None),
        (["+/billing"], "$dead/billing", None),
        (["$dead/billing"], "$dead/billing", ["$dead/billing"]),
        (["$dead/billing"], "$dead/+", ["$dead/billing"]),
        (["$dead/#"], "$dead/#", ["$dead/billing", "$dead/mail"]),
    ],
)
def test_dead_letters_are_for_rules_that_name_them(rules: list[str], filter: str, came: list[str] | None) -> None:
    """S13, SPEC 11.4.1, 9.8.3: a wildcard in a rule never reaches a first level that begins with $."""
    desk, _, ann = begin(Rights({"subscribe": rules, "history": rules}))
    letter(desk)
    letter(desk, "mail")
    answer, *packets = ann.subscribe(1, filter, from_="earliest")
    if came is None:
        assert (answer["type"], answer["name"]) == ("error", "forbidden")
    else:
        assert topics(packets) == came
    asked = ann.ask_one({"type": "history", "id": 5, "topic": "$dead/billing"})
    assert asked["type"] == ("error" if came is None else "history")


# Wills


def test_will_that_is_not_allowed_when_it_is_due_is_refused() -> None:
    """S13, SPEC 11.4.5: and counted."""
    desk, keeper, _ = begin(ALL)
    ann = desk.connect(token="ann", will={"topic": "rooms/b", "data": 1, "delay_ms": 500})
    ann.session.detach()
    keeper.let("ann", PART)
    desk.wait(500)
    assert (desk.node.wills.published, desk.node.wills.refused) == (0, 1)


def test_will_of_somebody_who_was_revoked_is_refused() -> None:
    """S13, S19"""
    desk, keeper, _ = begin(ALL)
    ann = desk.connect(token="ann", will={"topic": "rooms/b", "data": 1, "delay_ms": 500})
    ann.session.detach()
    keeper.revoke("ann")
    desk.wait(500)
    assert (desk.node.wills.published, desk.node.wills.refused) == (0, 1)


def test_will_outlives_the_token_that_it_came_with() -> None:
    """SPEC 11.4.5: it ran out, that is all; the rules still let its topic."""
    desk, _, _ = begin(ALL)
    ann = desk.connect(token="ann", will={"topic": "rooms/b", "data": 1, "delay_ms": 500})
    ann.close(4201)
    ann.session.detach()
    desk.wait(500)
    assert (desk.node.wills.published, desk.node.wills.refused) == (1, 0)


def test_will_that_is_not_allowed_at_connect_ends_the_connect() -> None:
    """S29, SPEC 11.1.4, 11.4.5"""
    desk, _, _ = begin(PART)
    line = desk.dial()
    (error,) = line.ask({"type": "connect", "id": 1, "token": "ann", "will": {"topic": "rooms/b", "data": 1}})
    assert (error["type"], error["name"], error["id"]) == ("error", "forbidden", 1)
    assert line.closed_with


# Presence


def enter(line: Line, topic: str = "rooms/b", sub: int = 7, state: Any = 1) -> None:
    assert types(line.subscribe(sub, topic, presence={"state": state})) == ["subscribed", "joined"]


def test_presence_needs_all_of_a_filter() -> None:
    """SPEC 11.4.1: who hears of some would take those it does not hear of for absent."""
    _, _, ann = begin(PART)
    (error,) = ann.subscribe(1, "rooms/+", presence="watch")
    assert (error["name"], error["field"]) == ("forbidden", "presence")
    assert types(ann.subscribe(2, "rooms/a", presence="watch")) == ["subscribed"]


def test_who_may_not_be_seen_any_more_is_gone() -> None:
    """S13: others are told at once; it is not held for a connection that comes back."""
    desk, keeper, ann = begin(ALL)
    enter(ann)
    watcher = desk.connect()
    watcher.subscribe(1, "rooms/+", presence="watch")
    keeper.let("ann", without("presence"))
    assert types(watcher.drain()) == ["left"]
    assert types(ann.drain()) == ["unsubscribed"]
    assert desk.node.presence.member_count == 0


def test_who_may_not_watch_any_more_is_not_told_what_it_is_owed() -> None:
    """S13, I12: changes that waited for room."""
    desk, keeper, ann = begin(ALL, Limits(max_outbox_bytes=2_000))
    ann.subscribe(1, "rooms/+", presence="watch")
    ann.subscribe(2, "rooms/a", presence="watch")
    ann.subscribe(3, "rooms/x")
    for number in range(30):
        ann.send({"type": "ping", "id": number + 1})
    while not ann.outbox.is_over:
        desk.publish("rooms/x", "x" * 300)
        ann.send({"type": "ping", "id": 1})
    bob = desk.connect()
    enter(bob, "rooms/a", 1)
    enter(bob, "rooms/b", 2)
    keeper.let("ann", Rights({"subscribe": ["rooms/#"], "presence": ["rooms/a"]}))
    packets = ann.drain()
    assert [packet["topic"] for packet in packets if packet["type"] == "joined"] == ["rooms/a"]
    assert [packet["sub"] for packet in packets if packet["type"] == "unsubscribed"] == [1]


# What was accepted


def test_delayed_message_was_accepted_and_comes() -> None:
    """G6, SPEC 11.4.6: its publisher's rights were asked for when it was taken; its readers' are when it comes."""
    desk, keeper, ann = begin(ALL)
    reader = keeper.connect("bob", PART)
    reader.subscribe(1, "rooms/+")
    for sub, topic in enumerate(("rooms/a", "rooms/b"), 1):
        later = {"type": "publish", "id": sub, "topic": topic, "data": 1, "deliver_at_ms": desk.now_ms + 500}
        assert ann.ask_one(later)["delayed"]
    keeper.let("ann", NONE)
    desk.wait(500)
    desk.router.tick(desk.now_ms)
    assert topics(reader.drain()) == ["rooms/a"]
