"""Acknowledged subscriptions (G5): asking, deliveries, answers, and what a lost connection makes of them."""

from typing import Any

import pytest
from triode.consuming import Handed
from triode.errors import ConnectionClosed, DeliveryLost, DeliveryRefused, SubscriptionEnded
from triode.outgoing import MAX_ACKED_AT_ONCE
from triode.records import Complaint, Gap, State
from triode.settling import Settlement
from triode.subscription import Phase, Subscription
from triode_protocol.positions import MAX_INTEGER
from triode_protocol.topics import BadTopic

from tests.client.play import LOG, Play, delivery, message

GAP: dict[str, Any] = {"type": "gap", "sub": 1, "after": {LOG: 4}, "reason": "retention"}


def connected(**limits: Any) -> Play:
    play = Play(**limits)
    play.connect()
    return play


def consuming(*positions: int, **terms: Any) -> tuple[Play, Subscription, list[Handed]]:
    """A consumer that has been handed these and has taken them."""
    play = connected()
    one = play.consume(**terms)
    play.says(*(delivery(1, pos) for pos in positions))
    return play, one, play.deliveries(one)


def brief(items: list[Handed | Gap]) -> list[Any]:
    """Deliveries as (pos, attempt), gaps as their reason."""
    return [item.reason if isinstance(item, Gap) else (item.message.pos, item.attempt) for item in items]


def is_lost(settlement: Settlement) -> bool:
    return settlement.is_done and isinstance(settlement.error, DeliveryLost)


# Asking


def test_consumer_asks_with_its_terms() -> None:
    """G5. protocol.md 3"""
    play = Play()
    play.consume("a/+", "earliest", durable="w", shared=True, window=8, ack_wait_ms=5_000, max_attempts=3)
    play.consume("b", durable="", group="g", window=2)
    (_, first, second) = play.connect()
    assert {key: first[key] for key in first if key != "id"} == {
        "type": "subscribe",
        "sub": 1,
        "filter": "a/+",
        "from": "earliest",
        "durable": "w",
        "shared": True,
        "window": 8,
        "ack_wait_ms": 5_000,
        "max_attempts": 3,
    }
    assert {key: second[key] for key in second if key != "id"} == {
        "type": "subscribe",
        "sub": 2,
        "filter": "b",
        "group": "g",
        "window": 2,
    }


def test_bad_filter_and_a_closed_client_are_told_at_once() -> None:
    play = Play()
    with pytest.raises(BadTopic):
        play.consume("a/#/b")
    play.session.close()
    with pytest.raises(ConnectionClosed):
        play.consume("a")


def test_consumer_subscribes_again_under_its_name_without_a_position() -> None:
    """G5: the broker keeps the position."""
    play, _, _ = consuming(5, 6)
    again = play.reconnect()[1]
    assert (again["durable"], again["sub"]) == ("w", 1)
    assert "after" not in again


def test_consumer_that_is_taken_over_ends_and_what_waits_goes() -> None:
    """G5: what it was handed is given back, so nobody may start on it."""
    play = connected()
    one = play.consume()
    play.says(delivery(1, 5), GAP, {"type": "unsubscribed", "sub": 1, "name": "conflict", "retry": "never"})
    assert brief(play.handed(one)) == ["retention"]
    assert one.phase is Phase.ENDED
    assert isinstance(one.error, SubscriptionEnded)
    assert one.error.name == "conflict"


def test_consumer_whose_home_is_away_asks_again_after_a_while() -> None:
    play, one, (held,) = consuming(5)
    play.says({"type": "unsubscribed", "sub": 1, "name": "unavailable", "retry": "backoff"})
    assert is_lost(play.session.settler.ack(one, held))
    assert play.hears() == []
    play.passes(1)
    (asked,) = play.hears()
    assert (asked["durable"], asked["sub"]) == ("w", 2)


def test_consumer_that_is_refused_ends_with_the_brokers_words() -> None:
    play = connected()
    one = play.session.consume("a", "new", play.consume().tray.terms)  # type: ignore[union-attr]  # it has one
    asked = play.hears()[-1]
    error = {"type": "error", "name": "unsupported", "message": "", "retry": "never", "field": "durable"}
    play.says({**error, "id": asked["id"], "sub": asked["sub"]})
    assert isinstance(one.error, SubscriptionEnded)
    assert one.error.field == "durable"


# Deliveries


def test_deliveries_come_in_order_with_their_attempts() -> None:
    """R2"""
    play = connected()
    one = play.consume()
    play.says(delivery(1, 7, attempt=3), delivery(1, 5), delivery(1, 9))
    assert play.session.ready == [one]
    assert brief(play.handed(one)) == [(7, 3), (5, 1), (9, 1)]
    assert one.inbox_bytes == 0


def test_live_messages_and_words_of_catching_up_are_not_for_consumers() -> None:
    """R3: not acknowledged"""
    play = connected()
    one = play.consume()
    play.says(
        {"type": "catching_up", "sub": 1, "after": {LOG: 1}, "reason": "slow"},
        {"type": "caught_up", "sub": 1, "after": {LOG: 1}},
        message(6),
        {"type": "ping", "at": {LOG: 9}},
    )
    assert play.handed(one) == []


def test_newer_attempt_replaces_the_one_that_waits() -> None:
    """It waited longer than `ack_wait`; the program sees it once, and messages of one key in their order."""
    play = connected()
    one = play.consume()
    play.says(delivery(1, 5), delivery(1, 6), delivery(1, 5, attempt=2), delivery(1, 6, attempt=2))
    assert brief(play.handed(one)) == [(5, 2), (6, 2)]
    play.says(delivery(1, 5, attempt=3), delivery(1, 5, attempt=3))
    assert brief(play.handed(one)) == [(5, 3)]


def test_no_more_than_the_window_waits_whatever_the_broker_sends() -> None:
    play = connected()
    one = play.consume(window=3)
    play.says(*(delivery(1, pos) for pos in range(1, 11)), GAP)
    assert brief(play.handed(one)) == [(8, 1), (9, 1), (10, 1), "retention"]
    assert one.inbox_bytes == 0


def test_gaps_stand_before_what_follows_them_and_outlive_the_connection() -> None:
    """G5: repeated at each attach; one that nobody has seen yet is told once."""
    play = connected()
    one = play.consume()
    play.says(GAP, delivery(1, 5))
    play.reconnect()
    play.accept(one)
    play.says(GAP, delivery(1, 5, attempt=2))
    assert brief(play.handed(one)) == ["retention", (5, 2)]
    play.says(GAP)
    assert brief(play.handed(one)) == ["retention"]


@pytest.mark.parametrize(
    "said",
    [
        {"type": "delivery", "sub": 1, "message": message(5)},  # without an attempt
        delivery(1, 5, attempt=-1),
        delivery(1, 5, attempt=MAX_INTEGER + 1),
        delivery(1, 0),
        delivery(1, MAX_INTEGER + 1),
        delivery(1, 5, log=""),
        delivery(1, 5, log="x" * 40),
        delivery(1, 5, log="Not A Log"),
        {"type": "delivery", "sub": 1, "message": 5, "attempt": 1},
    ],
)
def test_delivery_that_nobody_could_acknowledge_costs_the_connection(said: dict[str, Any]) -> None:
    """S33"""
    play = connected()
    play.consume()
    play.says(said)
    assert play.session.state is State.WAITING


def test_gaps_without_end_cost_the_connection() -> None:
    """S33"""
    play = connected(max_inbox_messages=10)
    one = play.consume()
    for pos in range(1, 20):
        if play.session.state is State.CONNECTED:
            play.says({**GAP, "after": {LOG: pos}}, delivery(1, pos))
    assert play.session.state is State.WAITING
    assert len(one.inbox) == 10


def test_broker_that_sends_without_reading_costs_the_connection() -> None:
    """S33: what is acknowledged and cannot be written is bounded."""
    play = connected()
    one = play.consume()
    for first in range(1, 70_000, 10_000):
        for pos in range(first, first + 10_000, 4):
            if play.session.state is State.CONNECTED:
                play.says(*(delivery(1, pos + n) for n in range(4)))
                for held in play.deliveries(one):
                    play.session.settler.ack(one, held)
    assert play.session.state is State.WAITING
    assert play.session._outgoing.backlog == 0


# Answers


def test_acks_of_one_turn_leave_as_one_packet_for_each_log() -> None:
    """protocol.md 3"""
    play = connected()
    one, other = play.consume(), play.consume(durable="v")
    play.says(delivery(1, 5), delivery(1, 3, log="m1-x"), delivery(1, 6), delivery(2, 5), delivery(1, 5))
    for subscription in (one, other):
        for held in play.deliveries(subscription):
            assert play.session.settler.ack(subscription, held).is_done
    assert play.session.wants_to_write
    assert play.hears() == [
        {"type": "ack", "sub": 1, "log": "m1-x", "pos": 3},
        {"type": "ack", "sub": 1, "log": LOG, "pos": [6, 5]},
        {"type": "ack", "sub": 2, "log": LOG, "pos": 5},
    ]
    assert not play.session.wants_to_write


def test_many_acks_leave_as_many_packets_as_the_protocol_wants() -> None:
    play = connected()
    one = play.consume(window=3_000)
    play.says(*(delivery(1, pos) for pos in range(1, 2_501)))
    for held in play.deliveries(one):
        play.session.settler.ack(one, held)
    heard = play.hears()
    assert [len(packet["pos"]) for packet in heard] == [MAX_ACKED_AT_ONCE, MAX_ACKED_AT_ONCE, 452]
    assert [pos for packet in heard for pos in packet["pos"]] == list(range(1, 2_501))


def test_answered_ack_is_done_when_the_broker_says_so() -> None:
    play, one, (held,) = consuming(5)
    settlement = play.session.settler.ack(one, held, play.now)
    (heard,) = play.hears()
    assert heard == {"type": "ack", "sub": 1, "log": LOG, "pos": 5, "id": heard["id"]}
    assert not settlement.is_done
    play.says(
        {"type": "acked", "id": 999}, {"type": "acked", "id": heard["id"]}, {"type": "acked", "id": heard["id"]}
    )
    assert (settlement.is_done, settlement.error) == (True, None)
    assert play.session.finished == [settlement]


def test_refused_answer_has_the_brokers_words_and_the_consumer_goes_on() -> None:
    play, one, (held,) = consuming(5)
    settlement = play.session.settler.extend(one, held, 30_000, play.now)
    (heard,) = play.hears()
    assert heard == {
        "type": "extend",
        "sub": 1,
        "log": LOG,
        "pos": 5,
        "attempt": 1,
        "ms": 30_000,
        "id": heard["id"],
    }
    error = {"type": "error", "id": heard["id"], "sub": 1, "name": "conflict", "message": "m", "retry": "never"}
    play.says(error)
    assert isinstance(settlement.error, DeliveryRefused)
    assert (settlement.error.name, settlement.error.message) == ("conflict", "m")
    assert one.phase is Phase.ACTIVE
    play.says(delivery(1, 6))
    assert brief(play.handed(one)) == [(6, 1)]


def test_unanswered_nack_that_is_refused_is_an_event() -> None:
    play, one, (held,) = consuming(5)
    assert play.session.settler.nack(one, held, 5_000).is_done
    assert play.hears() == [{"type": "nack", "sub": 1, "log": LOG, "pos": 5, "attempt": 1, "delay_ms": 5_000}]
    play.events()
    play.says({"type": "error", "sub": 1, "name": "conflict", "message": "too late", "retry": "never"})
    assert play.events() == [Complaint("conflict", "too late")]
    assert one.phase is Phase.ACTIVE


def test_reject_is_a_nack_for_the_dead_letters() -> None:
    play, one, (held,) = consuming(5)
    settlement = play.session.settler.nack(one, held, reject=True, now=play.now)
    (heard,) = play.hears()
    assert heard == {
        "type": "nack",
        "sub": 1,
        "log": LOG,
        "pos": 5,
        "attempt": 1,
        "reject": True,
        "id": heard["id"],
    }
    play.says({"type": "acked", "id": heard["id"]})
    assert settlement.is_done


@pytest.mark.parametrize("terms", [{"shared": True}, {"durable": "", "group": "g"}])
@pytest.mark.parametrize("reject", [False, True])
def test_given_back_message_of_a_key_takes_along_those_that_wait_behind_it(
    terms: dict[str, Any], reject: bool
) -> None:
    """G5. SPEC 9.5.3: they are taken back too and come again in order."""
    play = connected()
    one = play.consume(window=8, **terms)
    play.says(*(delivery(1, pos, key=key) for pos, key in ((3, "k"), (5, "k"), (6, "j"), (7, "k"))))
    play.says(delivery(1, 8), delivery(1, 4, log="m1-x", key="k"), delivery(1, 9, topic="a/c", key="k"))
    held = play.session.subscriptions.take_handed(one)
    second = play.session.subscriptions.take_handed(one)
    assert isinstance(held, Handed)
    assert isinstance(second, Handed)
    play.session.settler.nack(one, held, reject=reject)
    assert brief(play.handed(one)) == [(6, 1), (8, 1), (4, 1), (9, 1)]
    play.says(delivery(1, 3, key="k", attempt=2), delivery(1, 5, key="k"), delivery(1, 7, key="k"))
    play.session.settler.nack(one, held, reject=reject)
    assert brief(play.handed(one)) == [(3, 2), (5, 1), (7, 1)]


def test_given_back_message_of_an_exclusive_consumer_goes_alone() -> None:
    play = connected()
    one = play.consume()
    play.says(delivery(1, 3, key="k"), delivery(1, 5, key="k"))
    held = play.session.subscriptions.take_handed(one)
    assert isinstance(held, Handed)
    play.session.settler.nack(one, held)
    assert brief(play.handed(one)) == [(5, 1)]


def test_ack_takes_along_the_same_message_that_came_again_meanwhile() -> None:
    """G5: an ack from any recipient settles."""
    play, one, (held, _) = consuming(5, 6)
    play.says(delivery(1, 5, attempt=2), delivery(1, 6, attempt=2))
    play.session.settler.ack(one, held)
    assert brief(play.handed(one)) == [(6, 2)]
    assert one.inbox_bytes == 0


def test_acks_are_written_before_what_is_asked_for_later() -> None:
    """A subscription that ends has its acks told first, or they would be given back."""
    play, one, (first, second) = consuming(5, 6)
    play.session.settler.ack(one, first)
    play.session.settler.ack(one, second)
    play.session.subscriptions.remove(one)
    play.session.finish(play.now)
    assert [packet["type"] for packet in play.hears()] == ["ack", "unsubscribe", "disconnect"]


# The connection is lost


def test_deliveries_of_a_lost_connection_are_void() -> None:
    """G5: they come again; the number of the subscription is the same by chance and must not mislead."""
    play, one, (held,) = consuming(5)
    play.says(delivery(1, 6))
    play.session.settler.ack(one, held)
    play.reconnect()
    play.accept(one)
    settler = play.session.settler
    assert play.handed(one) == []
    assert is_lost(settler.ack(one, held))
    assert is_lost(settler.ack(one, held, play.now))
    assert is_lost(settler.nack(one, held))
    assert is_lost(settler.nack(one, held, now=play.now))
    assert is_lost(settler.extend(one, held, 1, play.now))
    assert play.hears() == []
    play.says(delivery(1, 5, attempt=2))
    (again,) = play.deliveries(one)
    settler.ack(one, again)
    assert play.hears() == [{"type": "ack", "sub": 1, "log": LOG, "pos": 5}]


def test_answer_without_the_brokers_word_when_the_connection_is_lost_is_unknown() -> None:
    play, one, (held, other) = consuming(5, 6)
    settlements = [
        play.session.settler.ack(one, held, play.now),
        play.session.settler.nack(one, other, now=play.now),
    ]
    play.hears()
    play.cut()
    assert all(map(is_lost, settlements))
    assert play.session.finished == settlements


def test_answer_that_the_broker_never_gives_ends_in_time() -> None:
    play = connected(request_timeout_seconds=10)
    one = play.consume()
    play.says(delivery(1, 5))
    settlement = play.session.settler.ack(one, play.deliveries(one)[0], play.now)
    (heard,) = play.hears()
    play.passes(9)
    assert not settlement.is_done
    play.passes(1)
    assert is_lost(settlement)
    play.says({"type": "acked", "id": heard["id"]})
    assert play.session.state is State.CONNECTED


def test_closing_loses_what_is_unanswered() -> None:
    play, one, (held, other) = consuming(5, 6)
    settlement = play.session.settler.ack(one, held, play.now)
    play.session.close()
    assert is_lost(settlement)
    assert is_lost(play.session.settler.ack(one, other))
    assert (one.phase, one.error) == (Phase.ENDED, None)
