"""Subscriptions: rules R1 to R7, gaps, refusals, the bounded inbox. No event loop."""

from typing import Any

import pytest
from triode.errors import ConnectionClosed, SubscriptionEnded
from triode.records import CaughtUp, Gap, Item, Message, State
from triode.subscription import Phase, Subscription
from triode_protocol.packets import Start
from triode_protocol.topics import BadTopic

from tests.client.play import LOG, Play, delivery, message


def brief(items: list[Item]) -> list[Any]:
    """Messages as their pos, gaps as their reason, the rest by name."""
    return [
        item.pos if isinstance(item, Message) else item.reason if isinstance(item, Gap) else "caught up"
        for item in items
    ]


def connected(**limits: Any) -> Play:
    play = Play(**limits)
    play.connect()
    return play


def test_subscribe_asks_with_numbers_from_one() -> None:
    """SPEC 3.2, 3.2.1"""
    play = connected()
    play.publish()
    play.hears()
    play.subscribe("a/+", "earliest")
    play.subscribe("b", Start(last=20), overflow="gap")
    assert [{k: p[k] for k in p if k != "id"} for p in play.hears()] == [
        {"type": "subscribe", "sub": 1, "filter": "a/+", "from": "earliest"},
        {"type": "subscribe", "sub": 2, "filter": "b", "from": {"last": 20}, "overflow": "gap"},
    ]
    assert [p["sub"] for p in play.reconnect() if p["type"] == "subscribe"] == [1, 2]


def test_subscription_before_connecting_is_asked_for_in_the_first_flight() -> None:
    play = Play()
    play.subscribe("a")
    assert [p["type"] for p in play.open()] == ["connect", "subscribe"]


def test_bad_filter_is_refused_at_once() -> None:
    with pytest.raises(BadTopic):
        Play().subscribe("a/#/b")


def test_subscribed_places_it_and_live_makes_it_caught_up() -> None:
    """R1. SPEC 4.2.1, 4.2.2, 4.3.5"""
    play = connected()
    one = play.subscribe()
    assert not one.is_registered
    play.says({"type": "subscribed", "sub": 1, "after": {LOG: 5}, "live": True})
    assert (one.is_live, one.is_registered, one.position) == (True, True, {LOG: 5})
    assert play.items(one) == [CaughtUp({LOG: 5})]
    assert play.session.ready == [one, one]


def test_catching_up_caught_up_and_gap_replace_the_whole_position() -> None:
    """R1. SPEC 4.3.5, 4.4.1, 4.4.2, 4.6.1, 4.6.3"""
    play = connected()
    one = play.subscribed(after={LOG: 5, "m1-x": 5})
    play.says({"type": "catching_up", "sub": 1, "after": {LOG: 4}, "reason": "slow"})
    assert (one.is_live, one.position) == (False, {LOG: 4})
    gap = {"type": "gap", "sub": 1, "after": {LOG: 9}, "reason": "slow", "topic": "a/b", "from": 5, "to": 9}
    play.says(gap)
    assert (one.is_live, one.position) == (False, {LOG: 9})
    play.says({"type": "caught_up", "sub": 1, "after": {LOG: 12}})
    assert (one.is_live, one.position) == (True, {LOG: 12})
    assert play.items(one) == [Gap({LOG: 9}, "slow", "a/b", 5, 9), CaughtUp({LOG: 12})]
    play.says(gap | {"after": {LOG: 11}, "reason": "brand_new"})
    assert (one.is_live, one.position) == (True, {LOG: 11})


def test_delivery_goes_to_its_subscription_whatever_the_position() -> None:
    """R2. SPEC 4.3.6"""
    play = connected()
    one, other = play.subscribed("a/b", after={LOG: 50}), play.subscribed("a/#", after={LOG: 0})
    play.says(delivery(1, 7), delivery(1, 8))
    assert brief(play.items(one)) == [7, 8]
    assert play.items(other) == []
    assert one.position == {LOG: 50}


def test_message_goes_to_every_subscription_that_is_live_matches_and_has_not_had_it() -> None:
    """R3. SPEC 4.3.7"""
    play = connected()
    live = play.subscribed("a/+", after={LOG: 5})
    ahead = play.subscribed("a/#", after={LOG: 7})
    behind = play.subscribed("a/b", after={LOG: 0}, live=False)
    other = play.subscribed("b/#", after={LOG: 0})
    play.says(message(5), message(6), message(7), message(8))
    assert [brief(play.items(one)) for one in (live, ahead, behind, other)] == [[6, 7, 8], [8], [], []]


def test_message_is_one_object_for_all_and_decodes_when_asked() -> None:
    play = connected()
    one, other = play.subscribed("a/+"), play.subscribed("a/#")
    play.says(message(1, data={"x": [1, None]}, key="k", headers={"h": "v"}, message_id="i", user="u"))
    (mine,) = play.items(one)
    assert play.items(other) == [mine]
    assert isinstance(mine, Message)
    assert mine.data == {"x": [1, None]}
    assert (mine.topic, mine.offset, mine.log, mine.pos, mine.ts) == ("a/b", 1, LOG, 1, 1)
    assert (mine.key, mine.headers, mine.message_id, mine.user, mine.attempt) == ("k", {"h": "v"}, "i", "u", 0)
    assert mine.position == {LOG: 1}
    assert mine.raw == b'{"x": [1, null]}'
    assert "a/b" in repr(mine)


def test_handing_over_raises_the_position() -> None:
    """R4. SPEC 4.3.8"""
    play = connected()
    one = play.subscribed(after={LOG: 5})
    play.says(message(9), delivery(1, 7))
    assert one.position == {LOG: 9}


def test_ping_raises_the_positions_of_live_subscriptions_in_logs_they_have() -> None:
    """R4. SPEC 4.3.8, 4.8.1"""
    play = connected()
    live, behind = play.subscribed(after={LOG: 5}), play.subscribed("b", after={LOG: 5}, live=False)
    play.says({"type": "ping", "at": {LOG: 8, "m7-other": 3}}, {"type": "ping", "at": {LOG: 6}})
    assert (live.position, behind.position) == ({LOG: 8}, {LOG: 5})


def test_packets_for_an_unknown_subscription_are_ignored() -> None:
    """R5. SPEC 4.3.9"""
    play = connected()
    unknown: dict[str, Any] = {"sub": 9, "after": {LOG: 1}}
    play.says(
        {"type": "subscribed", "live": True, **unknown},
        {"type": "catching_up", "reason": "slow", **unknown},
        {"type": "caught_up", **unknown},
        {"type": "gap", "reason": "slow", **unknown},
        {"type": "unsubscribed", "sub": 9},
        {"type": "error", "sub": 9, "name": "conflict", "message": "", "retry": "never"},
        delivery(9, 1),
    )
    assert play.session.state is State.CONNECTED
    assert play.states() == [State.CONNECTING, State.CONNECTED]


def test_new_log_is_a_reset_before_its_first_message() -> None:
    """R6. SPEC 4.3.10"""
    play = connected()
    one = play.subscribed(after={LOG: 5})
    play.says(message(1, log="m0-second"), message(2, log="m0-second"), delivery(1, 1, log="m0-third"))
    items = play.items(one)
    assert brief(items) == ["reset", 1, 2, "reset", 1]
    assert items[0] == Gap({LOG: 5}, "reset")
    assert one.position == {LOG: 5, "m0-second": 2, "m0-third": 1}


@pytest.mark.parametrize("start", ["new", "earliest", Start(last=3), Start(since=5)])
def test_cut_subscription_resumes_with_its_position(start: Any) -> None:
    """R7. SPEC 4.3.11, 4.10.1"""
    play = connected()
    play.subscribed("a/#", start, after={LOG: 5}, live=False)
    play.says(delivery(1, 6))
    (again,) = play.reconnect()[1:]
    assert again["after"] == {LOG: 6}
    assert "from" not in again


def test_cut_subscription_repeats_what_it_asked_before_it_was_answered() -> None:
    """R7. SPEC 4.3.11"""
    play = connected()
    play.subscribe("a", Start(since=5))
    assert play.reconnect()[1]["from"] == {"since": 5}


def test_cut_snapshot_is_asked_for_again_until_it_has_caught_up() -> None:
    """R7. SPEC 4.3.11"""
    play = connected()
    one = play.subscribed("a/#", "last", after={LOG: 5}, live=False)
    play.says(delivery(1, 3))
    again = play.reconnect()[1]
    assert again["from"] == "last"
    assert "after" not in again
    play.accept(one, after={LOG: 5}, live=False)
    play.says(delivery(1, 3), {"type": "caught_up", "sub": 1, "after": {LOG: 5}})
    assert brief(play.items(one)) == [3, "caught up"]
    assert play.reconnect()[1]["after"] == {LOG: 5}


def test_given_position_is_resumed_from_the_start() -> None:
    """SPEC 3.2.8"""
    play = connected()
    play.subscribe(after={LOG: 3})
    (asked,) = play.hears()
    assert asked["after"] == {LOG: 3}


def test_consumed_position_follows_what_was_taken() -> None:
    play = connected()
    one = play.subscribed(after={LOG: 5})
    assert one.consumed() == {LOG: 5}
    play.says(message(6), message(7), {"type": "gap", "sub": 1, "after": {LOG: 9}, "reason": "slow"}, message(12))
    seen = []
    for _ in range(4):
        seen.append(one.consumed()[LOG])
        play.session.subscriptions.take(one)
    assert [*seen, one.consumed()[LOG]] == [5, 6, 7, 9, 12]


def test_removed_subscription_is_unsubscribed_and_forgotten() -> None:
    """SPEC 3.3"""
    play = connected()
    one = play.subscribed()
    play.session.subscriptions.remove(one)
    play.session.subscriptions.remove(one)
    (heard,) = play.hears()
    assert (heard["type"], heard["sub"]) == ("unsubscribe", 1)
    play.says(message(1), {"type": "unsubscribed", "id": heard["id"], "sub": 1})
    assert (one.phase, one.error, play.items(one)) == (Phase.ENDED, None, [])
    assert [p["type"] for p in play.reconnect()] == ["connect"]


def test_subscription_removed_while_disconnected_is_not_asked_for_again() -> None:
    play = connected()
    one = play.subscribed()
    play.cut()
    play.session.subscriptions.remove(one)
    play.wait()
    assert [p["type"] for p in play.connect()] == ["connect"]


@pytest.mark.parametrize("retry", ["never", "reauth", "unheard of"])
def test_refused_subscription_ends_with_the_brokers_words(retry: str) -> None:
    """SPEC 4.10.1, 5.1.1"""
    play = connected()
    one, other = play.subscribe("a"), play.subscribe("b")
    asked = play.hears()
    error = {"type": "error", "name": "quota", "message": "no more", "retry": retry, "field": "filter"}
    play.says({**error, "id": asked[0]["id"], "sub": 1}, {**error, "id": asked[1]["id"]})
    for ended in (one, other):
        assert ended.phase is Phase.ENDED
        assert isinstance(ended.error, SubscriptionEnded)
        assert (ended.error.name, ended.error.field, ended.error.retry) == ("quota", "filter", retry)
    assert play.session.state is State.CONNECTED


def refusal(**fields: Any) -> dict[str, Any]:
    return {"type": "error", "sub": 1, "name": "overloaded", "message": "", "retry": "backoff", **fields}


def test_subscription_refused_for_a_while_is_asked_for_again() -> None:
    """SPEC 5.1.3"""
    play = connected()
    one = play.subscribe()
    play.hears()
    play.says(refusal(retry_after_ms=4_000))
    play.passes(3.9)
    assert (one.phase, play.hears()) == (Phase.DELAYED, [])
    play.passes(0.1)
    (asked,) = play.hears()
    assert asked["sub"] == 2
    play.accept(one)
    assert one.phase is Phase.ACTIVE


def test_subscription_to_be_asked_for_at_once_is_so_only_the_first_time() -> None:
    play = connected()
    one = play.subscribe()
    play.hears()
    play.says(refusal(retry="now"))
    play.passes(0)
    assert [p["type"] for p in play.hears()] == ["subscribe"]
    play.says(refusal(sub=2, retry="now"))
    play.passes(0.2)
    assert (one.phase, play.hears()) == (Phase.DELAYED, [])


def test_delayed_subscription_is_asked_for_with_the_next_connection() -> None:
    play = connected()
    play.subscribe()
    play.hears()
    play.says(refusal(retry_after_ms=60_000))
    assert [p["type"] for p in play.reconnect()] == ["connect", "subscribe"]


def test_delayed_subscription_can_be_removed() -> None:
    play = connected()
    one = play.subscribe()
    play.hears()
    play.says(refusal())
    play.session.subscriptions.remove(one)
    play.passes(10)
    assert play.hears() == []


def test_subscription_ended_by_the_broker_ends_or_comes_again() -> None:
    """SPEC 4.9.1"""
    play = connected()
    one, other, third = play.subscribed("a"), play.subscribed("b"), play.subscribed("c", after={LOG: 4})
    said = {"type": "unsubscribed", "name": "forbidden", "message": "rules", "retry": "never"}
    play.says({**said, "sub": 1}, {"type": "unsubscribed", "sub": 2}, {**said, "sub": 3, "retry": "backoff"})
    assert isinstance(one.error, SubscriptionEnded)
    assert one.error.name == "forbidden"
    assert isinstance(other.error, SubscriptionEnded)
    assert third.phase is Phase.DELAYED
    play.passes(1)
    (asked,) = play.hears()
    assert asked["after"] == {LOG: 4}


def test_closing_ends_subscriptions_quietly_or_with_the_reason() -> None:
    play = connected()
    one = play.subscribed()
    play.session.close()
    assert (one.phase, one.error) == (Phase.ENDED, None)
    play = connected()
    one = play.subscribed()
    play.cut(4002)
    assert isinstance(one.error, ConnectionClosed)
    assert one.error.code == 4002


def fill(play: Play, first: int, last: int) -> None:
    play.says(*(message(pos) for pos in range(first, last + 1)))


def test_full_inbox_pauses_at_the_broker_and_resumes_by_position_at_half() -> None:
    """G7 on the client's side: late, not lost, and bounded."""
    play = connected(max_inbox_messages=10)
    one = play.subscribed()
    fill(play, 1, 15)
    assert one.phase is Phase.PAUSED
    assert [p["type"] for p in play.hears()] == ["unsubscribe"]
    assert len(one.inbox) == 10
    for _ in range(4):
        play.session.subscriptions.take(one)
    assert play.hears() == []
    play.session.subscriptions.take(one)
    (asked,) = play.hears()
    assert (asked["sub"], asked["after"]) == (2, {LOG: 10})
    play.says({"type": "subscribed", "sub": 2, "after": {LOG: 10}, "live": False}, delivery(2, 11))
    assert brief(play.items(one)) == [6, 7, 8, 9, 10, 11]


def test_message_behind_the_gap_that_filled_the_inbox_is_kept_with_it() -> None:
    """R6 hands over two; resuming behind the message must not lose it."""
    play = connected(max_inbox_messages=3)
    one = play.subscribed()
    fill(play, 1, 2)
    play.says(message(1, log="m0-second"))
    assert [p["type"] for p in play.hears()] == ["unsubscribe"]
    assert brief(play.items(one)) == [1, 2, "reset", 1]
    (asked,) = play.hears()
    assert asked["after"] == {LOG: 2, "m0-second": 1}


def test_inbox_is_bounded_in_bytes_too() -> None:
    play = connected(max_inbox_bytes=10_000)
    one = play.subscribed()
    play.says(*(message(pos, data="x" * 2_000, headers={"h": "v" * 400}) for pos in range(1, 9)))
    assert one.phase is Phase.PAUSED
    assert len(one.inbox) == 4
    assert one.inbox_bytes < 13_000
    play.items(one)
    assert one.inbox_bytes == 0


def test_paused_subscription_stays_so_across_a_reconnect_and_resumes_when_taken_from() -> None:
    play = connected(max_inbox_messages=4)
    one = play.subscribed()
    fill(play, 1, 6)
    play.hears()
    assert [p["type"] for p in play.reconnect()] == ["connect"]
    play.items(one)
    (asked,) = play.hears()
    assert asked["after"] == {LOG: 4}


def test_subscription_drained_while_disconnected_is_asked_for_with_the_next_connection() -> None:
    play = connected(max_inbox_messages=4)
    one = play.subscribed()
    fill(play, 1, 6)
    play.cut()
    play.items(one)
    play.wait()
    assert play.connect()[1]["after"] == {LOG: 4}


def test_paused_subscription_can_be_removed() -> None:
    play = connected(max_inbox_messages=4)
    one = play.subscribed()
    fill(play, 1, 6)
    play.hears()
    play.session.subscriptions.remove(one)
    assert play.hears() == []
    assert brief(play.items(one)) == [1, 2, 3, 4]
    assert play.hears() == []


def test_snapshot_larger_than_the_inbox_comes_in_parts_without_doubles() -> None:
    """R7 repeats the snapshot from its beginning; what the inbox had already taken of it is passed over."""
    play = connected(max_inbox_messages=3)
    one = play.subscribed("a/#", "last", after={LOG: 9}, live=False)
    got: list[Any] = []
    for sub in (1, 2):
        play.says(*(delivery(sub, pos) for pos in (2, 4, 5, 7, 9)))
        play.says({"type": "caught_up", "sub": sub, "after": {LOG: 9}})
        got += brief(play.items(one))
        asked = next(p for p in play.hears() if p["type"] == "subscribe")
        play.says({"type": "subscribed", "sub": asked["sub"], "after": {LOG: 9}, "live": False})
        assert ("from" in asked) == (sub == 1)
    assert got == [2, 4, 5, 7, 9, "caught up"]


def test_position_never_has_more_than_64_logs() -> None:
    """SPEC 2.5: the oldest of many dead logs goes; missing it would be a gap, not a loss."""
    play = connected()
    one = play.subscribed(after={LOG: 1})
    play.says(*(message(1, log=f"m0-{n}") for n in range(70)))
    assert len(one.position) == 64
    assert LOG not in one.position
    assert "m0-69" in one.position


def test_broker_that_sends_absurd_places_is_dropped() -> None:
    """S33"""
    for said in (
        {"type": "gap", "sub": 1, "after": {f"m{n}-x": 1 for n in range(65)}, "reason": "slow"},
        message(1, topic=""),
        message(1, topic="a/" * 600),
        {"type": "delivery", "sub": 1, "message": {"type": "pong"}},
        {"type": "delivery", "sub": 1, "message": 5},
    ):
        play = connected()
        play.subscribed()
        play.says(said)
        assert play.session.state is State.WAITING


def test_topics_without_end_do_not_fill_the_memory() -> None:
    """S33"""
    play = connected()
    play.subscribed("b")
    for first in range(0, 5_000, 1_000):
        play.says(*(message(1, topic=f"a/{n}") for n in range(first, first + 1_000)))
    assert len(play.session.subscriptions._matching) <= 4_096


def test_binary_payload_comes_as_bytes_and_bad_payloads_raise_for_who_reads_them() -> None:
    play = connected()
    one = play.subscribed()
    binary = message(1, b64="aGVsbG8=")
    del binary["data"]
    broken = message(2, b64="not base64!")
    del broken["data"]
    nothing = message(3)
    del nothing["data"]
    play.says(binary, broken, nothing)
    first, second, third = (item for item in play.items(one) if isinstance(item, Message))
    assert (first.is_binary, first.data, first.data) == (True, b"hello", b"hello")
    with pytest.raises(ValueError, match=r".+"):
        _ = second.data
    assert (third.data, third.raw, third.is_binary) == (None, b"", False)


def test_message_that_deletes_a_key_says_so() -> None:
    """SPEC 3.4.17, 4.3.1: neither `data` nor `b64`; `null` is data."""
    play = connected()
    one = play.subscribed()
    deleted = message(1, key="k")
    del deleted["data"]
    play.says(deleted, message(2, key="k", data=None), message(3))
    items = [item for item in play.items(one) if isinstance(item, Message)]
    assert [(item.deletes_key, item.data) for item in items] == [(True, None), (False, None), (False, 3)]


def test_conflating_subscription_asks_for_it_and_takes_what_is_left() -> None:
    """G7. SPEC 3.2.13"""
    play = connected()
    one = play.subscribe(overflow="conflate")
    assert play.hears()[0]["overflow"] == "conflate"
    play.accept(one, after={LOG: 5})
    play.says(
        {"type": "catching_up", "sub": 1, "after": {LOG: 5}, "reason": "slow"},
        {**delivery(1, 9), "prev": 5},
        {"type": "caught_up", "sub": 1, "after": {LOG: 9}},
        message(9),
        message(10),
    )
    assert brief(play.items(one)) == [9, "caught up", 10]


def test_waiting_consumer_is_named_once_per_text() -> None:
    """One wake-up for a text of a thousand messages."""
    play = connected()
    one: Subscription = play.subscribed()
    play.session.ready.clear()
    fill(play, 1, 1_000)
    assert play.session.ready == [one]
