"""Packets as events, and the position that each of them names (SPEC 12.2, 12.3)."""

from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.http.event_frames import EventFrames, one_line

from tests.http.event_stream import Event, read_events


class Page:
    """What a page with an EventSource makes of what it is sent."""

    def __init__(self, subscriptions: int = 1, *, is_snapshot: bool = False) -> None:
        self.changes = 0
        self.frames = EventFrames(
            subscriptions, is_snapshot=is_snapshot, retry_ms=1_234, changed=lambda: self.count()
        )
        self.id = ""

    def count(self) -> None:
        self.changes += 1

    def hears(self, type: str, **fields: Any) -> Event:
        """The event that a packet becomes; its id is the last one, where it has none of its own."""
        (event,) = read_events(self.frames.frame(msgspec.json.encode({"type": type, **fields})), self.id)
        self.id = event.id
        return event

    def subscribed(self, sub: int, after: Mapping[str, int], *, live: bool = True, **fields: Any) -> Event:
        return self.hears("subscribed", sub=sub, id=sub, after=after, live=live, **fields)

    def message(self, log: str, pos: int, **fields: Any) -> Event:
        return self.hears("message", **placed(log, pos), **fields)

    def delivery(self, sub: int, log: str, pos: int) -> Event:
        return self.hears("delivery", sub=sub, attempt=1, message={"type": "message", **placed(log, pos)})


def placed(log: str, pos: int) -> dict[str, Any]:
    return {"topic": "a", "log": log, "pos": pos, "offset": pos, "ts": 1, "data": pos}


def test_message_is_an_event_without_a_name_and_its_id_is_the_position_up_to_it() -> None:
    """SPEC 12.2.2, 12.3.1."""
    page = Page()
    page.subscribed(1, {"m0-a": 3, "m1-b": 0})
    event = page.message("m0-a", 4)
    assert (event.type, event.id) == ("message", "m0-a.4~m1-b.0")
    assert event.packet["pos"] == 4


def test_delivery_comes_as_the_message_in_it() -> None:
    """SPEC 12.2.2."""
    page = Page()
    page.subscribed(1, {"m0-a": 0}, live=False)
    event = page.delivery(1, "m0-a", 2)
    assert (event.type, event.id, event.packet["type"]) == ("message", "m0-a.2", "message")
    assert page.hears("caught_up", sub=1, after={"m0-a": 2}).id == "m0-a.2"


def test_line_ends_in_data_are_blanks() -> None:
    """SPEC 12.2.2: an event ends with its line."""
    assert one_line(b'{"a":\r\n1,\n\n"b":"\\n"}') == b'{"a":  1,  "b":"\\n"}'


def test_what_is_said_of_subscriptions_has_its_name_and_moves_the_position() -> None:
    """SPEC 12.2.3."""
    page = Page()
    assert page.subscribed(1, {"m0-a": 1}).type == "subscribed"
    gap = page.hears("gap", sub=1, after={"m0-z": 7}, reason="reset")
    assert (gap.type, gap.id, gap.packet["reason"]) == ("gap", "m0-z.7", "reset")
    assert page.hears("catching_up", sub=1, after={"m0-z": 6}, reason="slow").id == "m0-z.6"
    joined = page.hears("joined", topic="a", member={"id": "m"})
    assert (joined.type, joined.id) == ("joined", "m0-z.6")


def test_goodbye_says_when_to_come_back_and_so_does_the_beginning() -> None:
    """SPEC 12.2.5."""
    page = Page()
    assert page.hears("connected", connection="c-1").retry == 1_234
    bye = page.hears("bye", code=4200, name="draining", reconnect_after_ms=777)
    assert (bye.type, bye.retry, bye.packet["code"]) == ("bye", 777, 4200)
    assert page.hears("bye", code=4002, name="revoked").retry == 1_234


def test_sign_of_life_moves_the_last_id_without_an_event() -> None:
    """SPEC 12.3.4: R4."""
    page = Page()
    page.subscribed(1, {"m0-a": 1})
    event = page.hears("ping", at={"m0-a": 9, "m1-b": 3})
    assert (event.type, event.id) == ("", "m0-a.9")
    assert page.hears("ping").id == "m0-a.9"


def test_without_all_positions_there_is_no_id() -> None:
    """SPEC 12.3.3."""
    page = Page(2)
    assert page.subscribed(1, {"m0-a": 1}).id == ""
    assert page.message("m0-a", 2).id == ""
    assert not page.frames.is_answered
    assert page.subscribed(2, {"m0-a": 2}).id == "m0-a.2"
    assert page.frames.is_answered


def test_snapshot_that_is_not_complete_cannot_be_resumed() -> None:
    """SPEC 12.3.3: R7."""
    page = Page(is_snapshot=True)
    assert page.subscribed(1, {"m0-a": 9}, live=False).id == ""
    assert page.delivery(1, "m0-a", 2).id == ""
    assert page.hears("caught_up", sub=1, after={"m0-a": 9}).id == "m0-a.9"


def test_subscription_that_catches_up_holds_the_id_back() -> None:
    """SPEC 12.3.2."""
    page = Page(2)
    page.subscribed(1, {"m0-a": 5})
    page.subscribed(2, {"m0-a": 1, "m1-b": 4}, live=False)
    assert page.message("m0-a", 6).id == "m0-a.1~m1-b.4"
    assert page.delivery(2, "m0-a", 3).id == "m0-a.3~m1-b.4"
    assert page.hears("caught_up", sub=2, after={"m0-a": 6, "m1-b": 4}).id == "m0-a.6~m1-b.4"


def test_message_for_several_comes_once_and_what_was_had_not_at_all() -> None:
    """SPEC 12.2.4: R3."""
    page = Page(2)
    page.subscribed(1, {"m0-a": 5})
    page.subscribed(2, {"m0-a": 7})
    assert page.message("m0-a", 6).type == "message"  # new to one of them
    assert page.message("m0-a", 6).type == ""
    assert page.message("m0-a", 8).id == "m0-a.8"


def test_shard_out_of_reach_keeps_its_place_until_it_is_said_to_be_back() -> None:
    """SPEC 4.2.4: what another subscription has of it is not what this one has."""
    page = Page(2)
    page.subscribed(1, {"d1-a": 5})
    page.subscribed(2, {"d1-a": 3, "m0-b": 1}, unavailable=["d1"])
    assert page.message("d1-a", 9).id == "d1-a.3~m0-b.1"
    assert page.hears("gap", sub=2, after={"d1-a": 3, "m0-b": 2}, reason="partition").id == "d1-a.3~m0-b.2"
    assert page.message("d1-a", 10).id == "d1-a.3~m0-b.2"
    assert page.hears("ping", at={"d1-a": 10}).id == "d1-a.10~m0-b.2"
    assert page.message("d1-a", 11).id == "d1-a.11~m0-b.2"


def test_subscription_that_was_ended_holds_nothing_back() -> None:
    """SPEC 12.2.3, 12.2.5."""
    page = Page(2)
    page.subscribed(1, {"m0-a": 1})
    page.subscribed(2, {"m1-b": 1})
    ended = page.hears("unsubscribed", sub=1, name="forbidden", message="", retry="never")
    assert (ended.type, ended.id) == ("unsubscribed", "m1-b.1")
    assert page.delivery(1, "m0-a", 2).type == ""
    before = page.changes
    page.hears("unsubscribed", sub=2, name="forbidden", message="", retry="never")
    assert page.frames.is_over
    assert page.changes == before + 1


def test_refusals_are_kept_for_an_answer_that_has_not_begun() -> None:
    page = Page()
    page.hears("error", id=1, sub=1, name="forbidden", message="no", retry="never", field="filter")
    assert [(error.name, error.field) for error in page.frames.refused] == [("forbidden", "filter")]


LOGS = ("m0-a", "m1-b", "d0-c")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("message"), st.integers(0, 2)),
        st.tuples(st.just("leave"), st.integers(1, 3)),
        st.tuples(st.just("deliver"), st.integers(1, 3)),
        st.tuples(st.just("return"), st.integers(1, 3)),
        st.tuples(st.just("ping"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_id_is_never_ahead_of_what_a_subscription_has_had(steps: list[tuple[str, int]]) -> None:
    """SPEC 12.3.1, for any turns that three overlapping subscriptions may take."""
    page = Page(3)
    heads = dict.fromkeys(LOGS, 0)
    had = {sub: dict(heads) for sub in (1, 2, 3)}  # all that it has had
    away: set[int] = set()
    for sub in had:
        page.subscribed(sub, had[sub])
    for what, number in steps:
        if what == "message":
            log = LOGS[number]
            heads[log] += 1
            live = [sub for sub in had if sub not in away]
            for sub in live:
                had[sub][log] = heads[log]
            if live:
                page.message(log, heads[log])
        elif what == "leave" and number not in away:
            away.add(number)
            page.hears("catching_up", sub=number, after=had[number], reason="slow")
        elif what == "deliver" and number in away:
            behind = [log for log in LOGS if had[number][log] < heads[log]]
            if behind:
                had[number][behind[0]] += 1
                page.delivery(number, behind[0], had[number][behind[0]])
        elif what == "return" and number in away:
            away.remove(number)
            had[number] = dict(heads)
            page.hears("caught_up", sub=number, after=heads)
        elif what == "ping":
            page.hears("ping", at=heads)
        least = {log: min(position[log] for position in had.values()) for log in LOGS}
        assert page.id == "~".join(f"{log}.{least[log]}" for log in sorted(LOGS))
