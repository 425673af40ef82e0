"""The checker finds what is wrong: good histories pass, and each kind of lie in them is caught.

A checker that says yes to everything would prove anything, so every invariant is shown a history that breaks it.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from tests.history.checker import INVARIANTS, check, explain
from tests.history.events import Event, read, write
from tests.history.paper import PaperBroker


def good_history() -> PaperBroker:
    """Two publishers, live, resuming and acknowledging subscribers, two crashes, one publish sent again."""
    broker = PaperBroker()
    for who in ("p1", "p2", "s1", "s2", "w1"):
        broker.open(who)
    broker.subscribe("s1", 1, "durable/#")
    broker.subscribe("s2", 1, "#")
    broker.subscribe("w1", 1, "durable/#", durable="worker")
    for number in range(1, 5):
        broker.publish("p1", "durable/a", f"p1-{number}")
        broker.publish("p2", "durable/b", f"p2-{number}")
        broker.publish("p2", "live/x", f"p2-live-{number}")
    broker.ack("w1", 1, 1)
    broker.ack("w1", 1, 2)
    broker.lost("s1")
    broker.publish("p1", "durable/a", "p1-5")
    broker.publish("p1", "durable/a", "p1-6", answered=False)
    broker.kill()
    for who in ("p1", "p2", "s1", "s2", "w1"):
        broker.open(who)
    broker.subscribe("w1", 1, "durable/#")
    broker.subscribe("s2", 1, "#")
    broker.publish("p1", "durable/a", "p1-6")
    broker.publish("p2", "live/x", "p2-live-5")
    broker.publish("p2", "durable/b", "p2-5")
    broker.subscribe("s1", 1, "durable/#")
    broker.ack("w1", 1, 3, answered=False)
    broker.kill()
    for who in ("p1", "p2", "s1", "s2", "w1"):
        broker.open(who)
    for who, filter in (("s1", "durable/#"), ("s2", "#"), ("w1", "durable/#")):
        broker.subscribe(who, 1, filter)
    broker.publish("p1", "durable/a", "p1-7")
    broker.publish("p1", "durable/state", "p1-8")
    broker.publish("p2", "live/x", "p2-live-6")
    broker.read_back()
    return broker


def events() -> list[Event]:
    return deepcopy(good_history().events)


def found(events: list[Event]) -> set[str]:
    """Which invariants are broken; the numbering holds again after events were taken out or put in."""
    for t, event in enumerate(events, 1):
        event.t = t
    return {violation.invariant for violation in check(events)}


def of(events: list[Event], op: str, who: str, kind: str, number: int = 0) -> Event:
    """The n-th packet of a type that this client sent or got."""
    return [e for e in events if (e.op, e.who) == (op, who) and e.packet.get("type") == kind][number]


def answer(events: list[Event], message_id: str) -> Event:
    """The `published` of a publish."""
    sent = next(e for e in events if e.op == "sent" and e.packet.get("message_id") == message_id)
    return next(e for e in events if e.op == "got" and e.packet.get("id") == sent.packet["id"])


def message(event: Event) -> dict[str, object]:
    """The message of a `message` or `delivery`."""
    packet: dict[str, object] = event.packet
    inner = packet.get("message")
    return inner if isinstance(inner, dict) else packet


def is_handing(event: Event) -> bool:
    return event.packet.get("type") in ("message", "delivery")


def test_good_history_passes() -> None:
    assert check(events()) == []


def test_history_passes_after_it_was_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write(events(), path)
    assert read(path) == events()
    assert check(read(path)) == []


def test_every_message_dropped_from_the_final_reading_is_missed() -> None:
    """I1, I8."""
    start = next(e.t for e in events() if e.op == "final")
    for dropped in range(start + 1, len(events())):
        story = events()
        gone = message(story[dropped])
        del story[dropped]
        assert "I1" in found(story), gone


def test_every_message_dropped_from_a_subscriber_is_missed() -> None:
    """I6, I14: whichever it is, live or delivered late.

    But the last ones before a crash went with the memory, and a compacted topic may drop what is replaced.
    """
    excused = {"p2-live-4", "p2-live-5", "p1-8"}
    for dropped, event in enumerate(events()):
        if is_handing(event) and event.who in ("s1", "s2") and message(event)["message_id"] not in excused:
            story = events()
            del story[dropped]
            assert {"I6", "I14"} & found(story), event


def test_every_message_handed_twice_is_noticed() -> None:
    """I5, I10."""
    for number, event in enumerate(events()):
        if event.packet.get("type") == "delivery" and event.who in ("s1", "s2"):
            story = events()
            story.insert(number, deepcopy(event))
            assert {"I5", "I10"} <= found(story)


def test_every_answered_ack_that_comes_again_is_noticed() -> None:
    """G5: on the same connection, and on one that was opened later."""
    for number, event in enumerate(events()):
        if event.who == "w1" and (event.op == "open" or event.packet.get("type") == "acked") and event.line <= 2:
            story = events()
            if event.op == "open" and event.line == 1:
                continue
            again = deepcopy(of(story, "got", "w1", "delivery"))
            subscribed = (
                next(i for i, e in enumerate(story[number:], number) if e.who == "w1" and is_handing(e))
                if event.op == "open"
                else number + 1
            )
            again.line = event.line
            story.insert(subscribed, again)
            assert "G5" in found(story), event


def test_unanswered_ack_may_come_again() -> None:
    story = events()
    redelivered = deepcopy(of(story, "got", "w1", "delivery", 2))
    assert redelivered.packet["message"]["pos"] == 3
    last_open = max(i for i, e in enumerate(story) if e.op == "got" and e.who == "w1")
    redelivered.line = 3
    story.insert(last_open, redelivered)
    assert found(story) == set()


@pytest.mark.parametrize("is_on_its_way", [True, False])
def test_upto_settles_what_it_can_have_seen_and_no_more(is_on_its_way: bool) -> None:
    """SPEC 9.2.6: not what comes again, behind newer ones, while it is said; all else is settled (G5)."""
    story = events()
    ack = of(story, "sent", "w1", "ack", 1)
    ack.packet = {"type": "ack", "sub": 1, "log": "d0-a", "upto": 2, "id": ack.packet["id"]}
    crossing, later = (deepcopy(of(story, "got", "w1", "delivery", 1)) for _ in range(2))
    crossing.packet["attempt"], later.packet["attempt"] = 2, 3
    answer = story.index(ack) + 1
    assert story[answer].packet["type"] == "acked"
    story[answer:answer] = [crossing] if is_on_its_way else []
    story.insert(story.index(of(story, "got", "w1", "delivery", 8)), later)
    assert ("G5" in found(story)) is not is_on_its_way


def swap_two(story: list[Event]) -> None:
    """A subscriber is handed two messages in the wrong order."""
    first, second = [i for i, e in enumerate(story) if e.who == "s1" and e.packet.get("type") == "message"][2:4]
    story[first].packet, story[second].packet = story[second].packet, story[first].packet


def swap_late(story: list[Event]) -> None:
    """The same among deliveries, which no rule filters."""
    first, second = [i for i, e in enumerate(story) if e.who == "s1" and e.packet.get("type") == "delivery"][:2]
    story[first].packet, story[second].packet = story[second].packet, story[first].packet


def hide_a_gap(story: list[Event]) -> None:
    """A subscriber goes on in a new log and is not told that the old one is gone."""
    story.remove(of(story, "got", "s2", "gap"))


def fork_offsets(story: list[Event]) -> None:
    """Two subscribers are told of different messages at one place."""
    of(story, "got", "s1", "message", 2).packet |= {"message_id": "p1-4", "data": "p1-4"}


def reuse_an_offset(story: list[Event]) -> None:
    """After a restart a topic's number is given again."""
    for event in story:
        if is_handing(event) and message(event)["message_id"] == "p2-5":
            message(event)["offset"] = 4
    answer(story, "p2-5").packet["offset"] = 4


def reuse_a_pos(story: list[Event]) -> None:
    """After a restart a place is given again, and the old message is overwritten."""
    answer(story, "p2-5").packet["pos"] = 2


def store_twice(story: list[Event]) -> None:
    """A publish that was sent again is stored again."""
    again = deepcopy(of(story, "got", "final", "delivery"))
    again.packet["message"] |= {"message_id": "p1-6", "data": "p1-6", "pos": 99, "offset": 99}
    story.append(again)


def answer_another_place(story: list[Event]) -> None:
    """The answer to a publish sent again does not name the first one's place."""
    sent = of(story, "sent", "p1", "publish", -3)
    assert sent.packet["message_id"] == "p1-6"
    next(e for e in story if e.op == "got" and e.packet.get("id") == sent.packet["id"]).packet["pos"] = 98


def invent(story: list[Event]) -> None:
    """A message is delivered that nobody published."""
    story.append(deepcopy(story[-1]))
    story[-1].packet["message"] |= {"message_id": "p9-1", "pos": 99, "offset": 99}


def garble(story: list[Event]) -> None:
    """A message is delivered with another content."""
    message(of(story, "got", "s1", "message"))["data"] = "something else"


def disorder_a_publisher(story: list[Event]) -> None:
    """Two publishes of a connection change places."""
    one, two = answer(story, "p1-1").packet, answer(story, "p1-2").packet
    for name in ("pos", "offset"):
        one[name], two[name] = two[name], one[name]


def say_nothing(story: list[Event]) -> None:
    """A publish on a connection that stays is not answered."""
    story.remove(answer(story, "p1-7"))


def overstate(story: list[Event]) -> None:
    """A durable topic's publish is answered from memory."""
    answer(story, "p1-7").packet["level"] = "memory"


def deliver_what_is_lost(story: list[Event]) -> None:
    """A durable message that was not acknowledged is delivered and then gone."""
    for event in [e for e in story if is_handing(e) and message(e)["message_id"] == "p1-6" and e.who == "final"]:
        story.remove(event)
    sent = of(story, "sent", "p1", "publish", -3)
    story[:] = [e for e in story if e is not sent and e.packet.get("id") != sent.packet["id"]]


def forget_a_worker(story: list[Event]) -> None:
    """An acknowledged subscription never gets one of its messages."""
    story[:] = [e for e in story if not (e.who == "w1" and is_handing(e) and message(e)["message_id"] == "p2-5")]


def forget_what_was_delayed(story: list[Event]) -> None:
    """A publish is taken for later and never comes."""
    sent = deepcopy(of(story, "sent", "p1", "publish"))
    sent.line, sent.packet["id"], sent.packet["message_id"] = 3, 1_000, "p1-later"
    taken = deepcopy(sent)
    taken.op, taken.packet = "got", {"type": "published", "id": 1_000, "delayed": True}
    number = story.index(next(e for e in story if e.op == "open" and e.who == "final"))
    story[number:number] = [sent, taken]


def bury_nothing(story: list[Event]) -> None:
    """A message is rejected, and is in no dead letter."""
    ack = of(story, "sent", "w1", "ack", 1)
    ack.packet |= {"type": "nack", "attempt": 1, "reject": True}


def read_nothing(story: list[Event]) -> None:
    """Nobody looks what is left."""
    del story[next(i for i, e in enumerate(story) if e.op == "final") :]


def forget_the_state(story: list[Event]) -> None:
    """The newest message of a compacted topic's key is gone, and nothing newer has come."""
    story[:] = [
        e for e in story if not (e.who == "final" and is_handing(e) and message(e)["message_id"] == "p1-8")
    ]


def refuse_when_all_is_well(story: list[Event]) -> None:
    """I14: six seconds after the last fault."""
    refused = answer(story, "p1-7")
    refused.packet = {"type": "error", "id": refused.packet["id"], "name": "unavailable"}
    story.insert(1, Event(0, "heal", "network"))
    for event in story[2:]:
        event.ms = 6_000


def store_elsewhere_too(story: list[Event]) -> None:
    """I9: it was sent once, and is in two logs."""
    again = deepcopy(of(story, "got", "final", "delivery"))
    again.packet["message"] |= {"log": "d9-z", "pos": 1, "offset": 1}
    story.append(again)


def take_long(story: list[Event]) -> None:
    """I15: eleven seconds, and the node was stopped for a half of one."""
    story[1:1] = [Event(0, "stop", "n1"), Event(0, "continue", "n1", ms=500)]
    for event in story:
        if event.op == "open":
            event.about = {"node": "n1"}
    answer(story, "p1-1").ms = 11_000


def allow(story: list[Event], who: str, **rights: list[str]) -> None:
    """From the beginning a client may do no more than this."""
    story.insert(1, Event(0, "rights", who, about={"allow": rights}))


def deliver_too_much(story: list[Event]) -> None:
    """I12: a subscriber is handed a topic of its filter that is not its own."""
    allow(story, "s1", subscribe=["durable/a", "durable/state"])


def hand_to_a_worker(story: list[Event]) -> None:
    """I12: subscribing is not enough for an acknowledged subscription."""
    allow(story, "w1", subscribe=["#"])


def accept_too_much(story: list[Event]) -> None:
    """I12: a publish is accepted that is not allowed."""
    allow(story, "p1", publish=["durable/a", "live/#"])


def store_what_was_refused(story: list[Event]) -> None:
    """I12: it is refused, as it should be, and delivered all the same."""
    accept_too_much(story)
    refused = answer(story, "p1-8")
    refused.packet = {"type": "error", "id": refused.packet["id"], "name": "forbidden"}


def tell_the_past(story: list[Event]) -> None:
    """I12: a history request is answered to one who may only subscribe."""
    allow(story, "s1", subscribe=["#"])
    number = story.index(next(e for e in story if e.op == "open" and e.who == "final"))
    asked = {"type": "history", "id": 900, "topic": "durable/a"}
    story[number:number] = [
        Event(900, "sent", "s1", 3, asked),
        Event(901, "got", "s1", 3, {"type": "history", "id": 900, "messages": [], "complete": True, "after": {}}),
    ]


def disagree(story: list[Event]) -> None:
    """G3: another node lacks a message."""
    others = [event for event in deepcopy(story) if event.who == "final"]
    for event in others:
        event.who = "final-2"
    story += [event for event in others if event.packet.get("message", {}).get("message_id") != "p1-2"]


def keep_the_log_and_lose_of_it(story: list[Event]) -> None:
    """I1: what was acknowledged in memory may be lost with its log only."""
    log = answer(story, "p2-live-1").packet["log"]
    story.append(Event(0, "got", "final", 1, {"type": "caught_up", "sub": 1, "after": {log: 4}}))


def say_nothing_of_a_new_log(story: list[Event]) -> None:
    """I14: at the end a subscriber knows nothing of a log that is there."""
    unknown = {
        "type": "delivery",
        "sub": 1,
        "message": deepcopy(of(story, "got", "final", "delivery").packet["message"]),
    }
    unknown["message"] |= {"log": "d1-a"}
    after = {"type": "caught_up", "sub": 1, "after": {"d1-a": 1}}
    story += [Event(0, "got", "final", 1, unknown), Event(0, "got", "final", 1, after)]


LIES: list[tuple[Callable[[list[Event]], None], str]] = [
    (read_nothing, "reading"),
    (refuse_when_all_is_well, "I14"),
    (take_long, "I15"),
    (deliver_too_much, "I12"),
    (hand_to_a_worker, "I12"),
    (accept_too_much, "I12"),
    (store_what_was_refused, "I12"),
    (tell_the_past, "I12"),
    (store_elsewhere_too, "I9"),
    (disagree, "G3"),
    (keep_the_log_and_lose_of_it, "I1"),
    (say_nothing_of_a_new_log, "I14"),
    (forget_the_state, "I1"),
    (swap_two, "I6"),
    (forget_what_was_delayed, "I1"),
    (swap_late, "I10"),
    (hide_a_gap, "I6"),
    (fork_offsets, "I3"),
    (reuse_an_offset, "I3"),
    (reuse_an_offset, "I7"),
    (reuse_a_pos, "I3"),
    (reuse_a_pos, "I7"),
    (store_twice, "I9"),
    (answer_another_place, "I9"),
    (invent, "I2"),
    (garble, "I2"),
    (disorder_a_publisher, "I4"),
    (say_nothing, "I15"),
    (overstate, "I1"),
    (deliver_what_is_lost, "I8"),
    (forget_a_worker, "G5"),
    (bury_nothing, "G5"),
]


@pytest.mark.parametrize(("lie", "invariant"), LIES, ids=lambda value: getattr(value, "__name__", value))
def test_lie_is_caught(lie: Callable[[list[Event]], None], invariant: str) -> None:
    story = events()
    lie(story)
    assert invariant in found(story)


def test_rejected_message_that_is_a_dead_letter_is_right() -> None:
    story = events()
    bury_nothing(story)
    letter = deepcopy(of(story, "got", "final", "delivery"))
    letter.packet["message"] |= {"topic": "$dead/worker", "key": "d0-a.2", "pos": 50, "offset": 1}
    story.append(letter)
    assert found(story) == set()


def test_what_is_allowed_is_no_violation() -> None:
    """I12: rights that cover what happened, also if they are taken away when all is over."""
    story = events()
    allow(story, "s1", subscribe=["durable/#"])
    allow(story, "p1", publish=["durable/#"])
    allow(story, "w1", consume=["durable/#"])
    story += [Event(len(story) + 1, "rights", who) for who in ("s1", "p1", "w1")]
    assert found(story) == set()


def test_what_is_not_allowed_is_not_missed() -> None:
    """I6, I14: what rights keep from a subscriber is due to nobody."""
    story = events()
    allow(story, "s1", subscribe=["durable/a", "durable/state"])
    others = [e for e in story if e.who == "s1" and is_handing(e) and message(e)["topic"] == "durable/b"]
    assert others
    assert found([e for e in story if e not in others]) == set()


def test_every_invariant_is_shown_a_lie() -> None:
    names = {function.__name__.split("_")[0].upper() for function in INVARIANTS}
    shown = {invariant for _, invariant in LIES} | {"I5", "I14"}  # above: handed twice, dropped
    assert {"G5" if name in ("A1", "A2", "A3") else name for name in names} <= shown


def test_explanation_shows_the_events() -> None:
    story = events()
    say_nothing(story)
    text = explain(check(story), story)
    assert text.startswith("1 violations\nI15: p1-7 on durable/a was never answered (events ")
    assert '"message_id":"p1-7"' in text
