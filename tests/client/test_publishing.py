"""Publishes: the window, acknowledgements, refusals, what is sent again and what is not. No event loop."""

from typing import Any

import pytest
from triode.errors import ConnectionClosed, Expired, OutcomeUnknown, PublishRefused, QueueFull, TriodeError
from triode.publishing import Publication
from triode.records import Complaint, HeldBack, Published, State
from triode_protocol import codec

from tests.client.play import LOG, Play


def connected(said: dict[str, int] | None = None, **limits: Any) -> Play:
    play = Play(**limits)
    play.connect(limits=said or {})
    return play


def published(packet: dict[str, Any], pos: int = 1, **more: Any) -> dict[str, Any]:
    place = {"type": "published", "id": packet["id"], "log": LOG, "pos": pos, "offset": pos, "level": "memory"}
    return {**place, **more}


def refused(packet: dict[str, Any], name: str, retry: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "id": packet["id"], "name": name, "message": "m", "retry": retry, **more}


def ids(packets: list[dict[str, Any]]) -> list[int]:
    return [packet["id"] for packet in packets if packet["type"] == "publish"]


def unknown(publication: Publication) -> OutcomeUnknown:
    assert isinstance(publication.result, OutcomeUnknown)
    assert publication.result.message_id == publication.message_id
    return publication.result


def test_publish_is_acknowledged_with_its_place() -> None:
    """G1. SPEC 4.5.1, 4.5.2"""
    play = connected()
    one = play.publish("a/b", b'{"x": 1}', key="k", headers={"h": "v"}, ttl_ms=5)
    (heard,) = play.hears()
    assert heard == {
        "type": "publish",
        "id": heard["id"],
        "topic": "a/b",
        "data": {"x": 1},
        "key": "k",
        "headers": {"h": "v"},
        "ttl_ms": 5,
        "message_id": one.message_id,
    }
    play.says(published(heard, 7, duplicate=True))
    assert one.result == Published(LOG, 7, 7, "memory", True, one.message_id)
    assert one.result.position == {LOG: 7}
    assert play.session.finished == [one]
    assert play.session.publisher.waiting_bytes == 0


def test_every_acknowledged_publish_has_a_message_id_of_its_own() -> None:
    """G2: made by the client, or given by the program."""
    play = connected()
    made = [play.publish().message_id for _ in range(3)]
    assert len(set(made)) == 3
    assert all(0 < len(one) <= 64 for one in made)
    assert play.publish(message_id="mine").message_id == "mine"


def test_queued_publishes_leave_as_one_array_within_the_frame() -> None:
    play = connected({"max_frame_bytes": 2_000, "max_packet_bytes": 1_500})
    for _ in range(10):
        play.publish(data=b'"' + b"x" * 500 + b'"')
    texts = []
    while (text := play.session.take_text(play.now)) is not None:
        texts.append(text)
    assert [text.count('"publish"') for text in texts] == [3, 3, 3, 1]
    assert all(len(text) <= 2_000 for text in texts)
    assert texts[3].startswith("{")


def test_array_holds_no_more_packets_than_a_broker_takes() -> None:
    """SPEC 1.5"""
    play = connected()
    for _ in range(codec.MAX_ARRAY_PACKETS + 5):
        play.send()
    counts = []
    while (text := play.session.take_text(play.now)) is not None:
        counts.append(text.count('"publish"'))
    assert counts == [codec.MAX_ARRAY_PACKETS, 5]


def test_no_more_than_the_window_are_unanswered() -> None:
    """SPEC 3.4.12"""
    play = connected({"max_inflight_publishes": 2})
    for _ in range(5):
        play.publish()
    first = play.hears()
    assert len(first) == 2
    assert not play.session.has_output(play.now)
    play.says(published(first[0]), {"type": "published", **published({"id": 999})})
    assert len(play.hears()) == 1


def test_publish_without_acknowledgement_takes_no_window_and_leaves_nothing() -> None:
    """SPEC 3.4.4"""
    play = connected({"max_inflight_publishes": 1})
    for _ in range(3):
        play.send()
    heard = play.hears()
    assert len(heard) == 3
    assert not any("id" in packet or "message_id" in packet for packet in heard)
    assert (play.session.publisher.waiting, play.session.publisher.waiting_bytes) == (0, 0)


def test_window_keeps_the_order_of_what_follows() -> None:
    """G3"""
    play = connected({"max_inflight_publishes": 1})
    play.publish()
    play.publish()
    play.send()
    first = play.hears()
    assert len(first) == 1
    play.says(published(first[0]))
    assert ["id" in packet for packet in play.hears()] == [True, False]


def test_unanswered_publishes_are_sent_again_in_order_in_the_first_flight() -> None:
    """G2. SPEC 3.4.5, 5.2.2, 5.4.1"""
    play = connected()
    several = [play.publish(data=str(n).encode()) for n in range(4)]
    heard = play.hears()
    play.says(published(heard[1]))
    play.publish(data=b"9")
    again = play.reconnect()
    assert [p["type"] for p in again] == ["connect", "publish", "publish", "publish"]
    assert again[1:] == [heard[0], heard[2], heard[3]]
    assert [p["data"] for p in play.hears()] == [9]
    play.says(*(published(packet, duplicate=True) for packet in again[1:]))
    assert all(isinstance(one.result, Published) for one in several)


def test_publish_is_not_sent_again_past_the_deduplication_window() -> None:
    """G2. SPEC 3.4.7"""
    play = connected({"dedupe_window_ms": 10_000}, publish_expiry_seconds=100)
    old, young = play.publish(), None
    play.hears()
    play.passes(6)
    young = play.publish()
    play.hears()
    play.cut()
    play.passes(4)
    unknown(old)
    play.session.dial = ""
    play.session.opened(play.now)
    assert ids(play.hears()) == [young.id]


def test_window_is_checked_again_when_there_is_time_to_send() -> None:
    play = connected({"dedupe_window_ms": 10_000})
    one = play.publish()
    play.hears()
    play.cut()
    play.wait()
    play.session.dial = ""
    play.session.opened(play.now)
    play.now += 20
    assert [p["type"] for p in play.hears()] == ["connect"]
    unknown(one)


def test_publish_of_a_broker_without_deduplication_is_never_sent_twice() -> None:
    """G2"""
    play = connected({"dedupe_window_ms": 0})
    one = play.publish()
    play.hears()
    play.passes(5)
    assert one.result is None
    play.cut()
    play.passes(0)
    unknown(one)


def test_unanswered_publish_ends_after_its_expiry() -> None:
    """I15 on the client's side"""
    play = connected(publish_expiry_seconds=20)
    one = play.publish()
    play.hears()
    play.passes(19)
    play.says({"type": "ping"})
    assert one.result is None
    play.passes(1)
    unknown(one)
    assert play.session.publisher.waiting_bytes == 0


def test_queue_offline_is_bounded_in_count_and_refuses_the_new() -> None:
    play = Play(max_queue_messages=3)
    kept = [play.publish(data=str(n).encode()) for n in range(3)]
    with pytest.raises(QueueFull, match="3 messages"):
        play.publish()
    with pytest.raises(QueueFull):
        play.send()
    play.connect()
    assert [p["data"] for p in play.hears()] == [0, 1, 2]
    assert all(one.result is None for one in kept)


def test_queue_offline_is_bounded_in_bytes() -> None:
    play = Play(max_queue_bytes=10_000)
    for _ in range(3):
        play.publish(data=b'"' + b"x" * 2_500 + b'"')
    with pytest.raises(QueueFull):
        play.publish(data=b'"' + b"x" * 2_500 + b'"')
    assert play.session.publisher.has_room


def test_queued_publish_that_was_never_sent_expires_surely_unstored() -> None:
    play = Play(publish_expiry_seconds=30)
    one = play.publish()
    play.send()
    play.passes(29)
    later = play.publish()
    play.passes(1)
    assert isinstance(one.result, Expired)
    assert later.result is None
    (complaint,) = [event for event in play.events() if isinstance(event, Complaint)]
    assert complaint.name == "expired"


@pytest.mark.parametrize("retry", ["never", "reauth", "unheard of"])
def test_refused_publish_ends_with_the_brokers_words(retry: str) -> None:
    """G2. SPEC 5.1.1"""
    play = connected()
    one = play.publish()
    play.says(refused(play.hears()[0], "forbidden", retry, field="topic"))
    assert isinstance(one.result, PublishRefused)
    assert (one.result.name, one.result.message, one.result.field) == ("forbidden", "m", "topic")
    assert "forbidden: m" in str(one.result)
    assert play.session.state is State.CONNECTED


def test_publish_refused_for_a_while_is_sent_again_and_holds_back_what_follows() -> None:
    """SPEC 5.1.3, 8.5"""
    play = connected()
    one, two = play.publish(), play.publish()
    heard = play.hears()
    play.says(*(refused(packet, "rate_limited", "backoff", retry_after_ms=3_000) for packet in heard))
    assert [event for event in play.events() if isinstance(event, HeldBack)] == [
        HeldBack("rate_limited", "m", 3.0)
    ], "once for all that were on their way"
    play.publish()
    play.passes(2.9)
    assert play.hears() == []
    play.passes(0.1)
    again = play.hears()
    assert again[:2] == heard
    assert len(again) == 3
    play.says(*(published(packet) for packet in again))
    assert all(isinstance(each.result, Published) for each in (one, two))


def test_pauses_grow_with_refusals_in_a_row_and_start_again_after_a_success() -> None:
    """SPEC 5.1.3: a pause of its own that grows"""
    play = connected()
    play.publish()
    pauses = []
    heard = play.hears()
    for _ in range(4):
        before = play.now
        play.says(refused(heard[0], "overloaded", "backoff"))
        while not (heard := play.hears()):
            play.passes(max(0.0, play.session.deadline() - play.now))
        pauses.append(round(play.now - before, 3))
    assert pauses == [0.125, 0.25, 0.5, 1.0]
    play.says(published(heard[0]))
    play.publish()
    heard = play.hears()
    play.says(refused(heard[0], "overloaded", "backoff"))
    assert play.session.deadline() == play.now + 0.125


def test_publish_to_be_sent_again_at_once_is_believed_three_times() -> None:
    """SPEC 5.1.3, S33"""
    play = connected()
    play.publish()
    for _ in range(3):
        play.says(refused(play.hears()[0], "internal", "now"))
    (heard,) = play.hears()
    play.says(refused(heard, "internal", "now"))
    assert play.hears() == []
    play.passes(1)
    assert play.hears() == [heard]


def test_publish_refused_until_it_expires_ends_with_the_last_refusal() -> None:
    play = connected(publish_expiry_seconds=10)
    one = play.publish()
    play.says(refused(play.hears()[0], "unavailable", "backoff", retry_after_ms=60_000))
    play.passes(10)
    assert isinstance(one.result, PublishRefused)
    assert one.result.name == "unavailable"


def test_outcome_once_unknown_stays_so_whatever_the_broker_says_later() -> None:
    """G2: it may be stored from the first time."""
    play = connected()
    one, other = play.publish(), play.publish()
    heard = play.hears()
    play.says(refused(heard[0], "timeout", "backoff"))
    play.passes(1)
    play.says(refused(play.hears()[0], "forbidden", "never"))
    assert isinstance(unknown(one).__cause__, PublishRefused)
    play.reconnect()
    play.hears()
    play.says(refused(heard[1], "forbidden", "never"))
    unknown(other)


def test_window_is_halved_by_an_overload_and_grows_again_with_successes() -> None:
    """G6: clients slow down by themselves."""
    play = connected({"max_inflight_publishes": 16})
    for _ in range(400):
        play.publish()
    sizes = []
    for _ in range(3):
        heard = play.hears()
        sizes.append(len(heard))
        play.says(*(refused(packet, "overloaded", "backoff", retry_after_ms=1_000) for packet in heard))
        play.passes(1)
    for _ in range(20):
        heard = play.hears()
        sizes.append(len(heard))
        play.says(*(published(packet) for packet in heard))
    assert sizes[:7] == [16, 8, 4, 2, 2, 3, 4]
    assert sizes[3:] == sorted(sizes[3:])
    assert sizes[-2:] == [16, 16]


@pytest.mark.parametrize("name", ["unavailable", "timeout"])
def test_topic_whose_store_is_away_rests_and_holds_up_no_other(name: str) -> None:
    """SPEC 3.4.14, 5.1.3: with the same message id, in order per topic, after the time that was asked for."""
    play = connected()
    first, second = play.publish("disk/1"), play.publish("disk/1")
    heard = play.hears()
    play.says(*(refused(packet, name, "backoff", retry_after_ms=3_000) for packet in reversed(heard)))
    third = play.publish("disk/1")
    play.send("disk/1")
    other = play.publish("memory/1")
    (through,) = play.hears()
    assert through["topic"] == "memory/1"
    play.says(published(through))
    assert isinstance(other.result, Published)
    play.passes(2.9)
    assert not play.session.has_output(play.now)
    assert play.session.publisher.waiting == 4
    play.passes(0.1)
    again = play.hears()
    assert again[:2] == heard
    assert [packet.get("id", 0) for packet in again[2:]] == [third.id, 0]
    play.says(*(published(packet) for packet in again[:3]))
    assert all(isinstance(each.result, Published) for each in (first, second, third))
    assert play.session.publisher.waiting_bytes == 0
    assert not play.session.publisher._resting


def test_topic_rests_longer_each_time_and_goes_on_with_its_first_success() -> None:
    """SPEC 5.1.3: a pause of its own that grows"""
    play = connected({"max_inflight_publishes": 1})
    first, second = play.publish("d"), play.publish("d")
    pauses = []
    heard = play.hears()
    for _ in range(4):
        before = play.now
        play.says(refused(heard[0], "unavailable", "backoff"))
        while not (heard := play.hears()):
            play.passes(max(0.0, play.session.deadline() - play.now))
        assert [packet["id"] for packet in heard] == [first.id]
        pauses.append(round(play.now - before, 3))
    assert pauses == [0.125, 0.25, 0.5, 1.0]
    play.says(published(heard[0]))
    (heard_second,) = play.hears()
    assert heard_second["id"] == second.id
    play.says(refused(heard_second, "unavailable", "backoff"))
    assert play.session.deadline() == play.now + 0.125


def test_success_on_a_resting_topic_wakes_it() -> None:
    play = connected()
    play.publish("d")
    play.publish("d")
    heard = play.hears()
    play.says(refused(heard[0], "unavailable", "backoff", retry_after_ms=60_000))
    assert play.hears() == []
    play.says(published(heard[1]))
    assert play.hears() == [heard[0]]


def test_publishes_of_a_resting_topic_end_in_time_and_can_be_abandoned() -> None:
    play = connected(publish_expiry_seconds=10)
    first, gone = play.publish("d"), play.publish("d")
    heard = play.hears()
    play.says(*(refused(packet, "unavailable", "backoff", retry_after_ms=60_000) for packet in heard))
    later = play.publish("d")
    assert play.hears() == []
    play.session.publisher.abandon(gone)
    play.passes(4)
    last = play.publish("d")
    play.passes(6)
    assert play.hears() == []
    assert isinstance(first.result, PublishRefused)
    assert isinstance(later.result, Expired)
    assert (gone.result, last.result) == (None, None)
    play.passes(4)
    assert isinstance(last.result, Expired)
    assert (play.session.publisher.waiting, play.session.publisher.waiting_bytes) == (0, 0)
    play.passes(60)
    assert not play.session.publisher._resting


def test_failure_for_good_forgets_that_its_topic_rested() -> None:
    play = connected()
    play.publish("d")
    play.says(refused(play.hears()[0], "unavailable", "backoff"))
    play.passes(1)
    play.says(refused(play.hears()[0], "forbidden", "never"))
    assert not play.session.publisher._resting


def test_resting_topics_are_sent_again_with_the_next_connection() -> None:
    """G2: what was sent goes first, with `connect`; what was not, in its place in the queue."""
    play = connected()
    play.publish("d")
    play.publish("e")
    heard = play.hears()
    play.says(*(refused(packet, "unavailable", "backoff", retry_after_ms=60_000) for packet in heard))
    for topic in ("d", "m", "e"):
        play.publish(topic)
    (through,) = play.hears()
    assert through["topic"] == "m"
    play.says(published(through))
    play.publish("m")
    assert play.reconnect()[1:] == heard
    assert [packet["topic"] for packet in play.hears()] == ["d", "e", "m"]


def test_message_for_later_has_no_place_yet() -> None:
    """G1. SPEC 3.4.15, 4.5.3"""
    play = connected()
    one = play.publish(deliver_at_ms=1_900_000_000_000)
    (heard,) = play.hears()
    assert heard["deliver_at_ms"] == 1_900_000_000_000
    play.says({"type": "published", "id": heard["id"], "delayed": True, "level": "disk"})
    assert one.result == Published("", 0, 0, "disk", message_id=one.message_id, delayed=True)
    assert one.result.position == {}


def test_close_1009_fails_the_largest_and_does_not_resend_it() -> None:
    """SPEC 5.3.3"""
    play = connected()
    small, large = play.publish(), play.publish(data=b'"' + b"x" * 500 + b'"')
    play.hears()
    play.cut(1009)
    unknown_or_refused = large.result
    assert isinstance(unknown_or_refused, PublishRefused)
    assert unknown_or_refused.name == "too_large"
    play.wait()
    assert ids(play.connect()) == [small.id]
    play.says({"type": "bye", "code": 1009, "name": "too_large"})
    assert isinstance(small.result, TriodeError)
    play.wait()
    play.connect()
    play.cut(1009)
    assert play.session.state is State.WAITING


def test_publish_over_the_packet_limit_is_refused_without_sending_it() -> None:
    """SPEC 1.10"""
    play = Play()
    big = b'"' + b"x" * 70_000 + b'"'
    one, small = play.publish(data=big), play.publish()
    play.send(data=big)
    play.connect()
    assert ids(play.hears()) == [small.id]
    assert isinstance(one.result, PublishRefused)
    assert one.result.name == "too_large"
    (complaint,) = [event for event in play.events() if isinstance(event, Complaint)]
    assert complaint.name == "too_large"


def test_abandoned_publish_is_not_sent_if_unsent_and_not_sent_again_if_sent() -> None:
    play = connected({"max_inflight_publishes": 2})
    first, second, third, fourth = (play.publish() for _ in range(4))
    heard = play.hears()
    play.session.publisher.abandon(first)
    play.session.publisher.abandon(third)
    play.says(refused(heard[1], "overloaded", "backoff"))
    play.session.publisher.abandon(second)
    play.passes(1)
    assert ids(play.reconnect() + play.hears()) == [fourth.id]
    assert play.session.publisher.waiting == 1
    assert play.session.publisher.waiting_bytes == fourth.size


def test_abandoned_publish_that_is_refused_for_a_while_is_forgotten() -> None:
    play = connected()
    one = play.publish()
    (heard,) = play.hears()
    play.session.publisher.abandon(one)
    play.says(refused(heard, "overloaded", "backoff"))
    play.passes(5)
    assert play.hears() == []
    assert play.session.publisher.waiting_bytes == 0


def test_closing_tells_what_is_surely_unstored_from_what_may_be_stored() -> None:
    """G2"""
    play = connected({"max_inflight_publishes": 1})
    sent, unsent = play.publish(), play.publish()
    play.hears()
    play.session.close()
    unknown(sent)
    assert isinstance(unsent.result, ConnectionClosed)


def test_message_without_acknowledgement_that_is_never_sent_is_told() -> None:
    play = connected()
    play.send()
    play.session.close()
    assert [event.name for event in play.events() if isinstance(event, Complaint)] == ["closed"]


def test_error_that_answers_nothing_is_told() -> None:
    """SPEC 3.4.4: a message without acknowledgement that fails"""
    play = connected()
    play.send()
    play.hears()
    error = {"type": "error", "name": "forbidden", "message": "no", "retry": "never", "field": "topic"}
    play.says(error, {**error, "id": 77})
    told = [event for event in play.events() if isinstance(event, Complaint)]
    assert told == [Complaint("forbidden", "no", "topic")] * 2
