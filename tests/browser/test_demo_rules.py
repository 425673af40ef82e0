"""The demo page against a scripted server: SPEC 4.3, 5.3 and what a client owes, packet by packet."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from triode_protocol.topics import matches

from tests.browser.screen import rows, states, texts
from tests.browser.scripted import Packet, Peer, Scripted, scripted_server

pytestmark = pytest.mark.browser

SUB = 2  # the first subscription of the page
OTHER = 3


@pytest.fixture
def script() -> Iterator[Scripted]:
    with scripted_server() as script:
        yield script


def connected(connection: str = "c-1", **fields: Any) -> Packet:
    reconnect = {"min_ms": 1, "max_ms": 2}
    return {
        "type": "connected",
        "id": 1,
        "connection": connection,
        "ping_ms": 25_000,
        "reconnect": reconnect,
        **fields,
    }


def subscribed(after: dict[str, int], *, sub: int = SUB, live: bool = True) -> Packet:
    return {"type": "subscribed", "id": sub, "sub": sub, "after": after, "live": live}


def message(pos: int, data: object, *, topic: str = "logs/app", log: str = "m0") -> Packet:
    return {
        "type": "message",
        "topic": topic,
        "offset": pos,
        "log": log,
        "pos": pos,
        "ts": 1_732_281_000_123,
        "data": data,
    }


def delivery(sub: int, inner: Packet) -> Packet:
    return {"type": "delivery", "sub": sub, "attempt": 1, "message": inner}


def about(kind: str, after: dict[str, int], *, sub: int = SUB, **fields: Any) -> Packet:
    return {"type": kind, "sub": sub, "after": after, **fields}


def opened(page: Page, script: Scripted, *filters: str) -> Peer:
    """The page, subscribed to these filters and not answered yet."""
    page.goto(
        script.url
        + "?"
        + "&".join("filter=" + filter.replace("#", "%23").replace("+", "%2B") for filter in filters)
    )
    return script.next_peer()


def online(page: Page, script: Scripted, after: dict[str, int]) -> Peer:
    """The page, live on logs/# after a position."""
    peer = opened(page, script, "logs/#")
    peer.send(connected(), subscribed(after))
    expect(page.locator("#state")).to_have_text("live")
    return peer


def shown(page: Page, *expected: str, topic: str = "logs/app") -> None:
    """Wait until the last of these rows is there; then they are all there, in order, and nothing else."""
    expect(page.locator("#messages tr").first).to_contain_text(expected[-1])
    assert texts(page, topic) == list(expected)


def test_first_flight_is_connect_and_every_subscribe(page: Page, script: Scripted) -> None:
    """SPEC 1.11."""
    page.goto(script.url)
    peer = script.next_peer()
    connect, *subscribes = peer.first
    assert connect == {"type": "connect", "id": 1, "capabilities": ["batch"]}
    assert [(s["type"], s["filter"]) for s in subscribes] == [
        ("subscribe", "demo/host/#"),
        ("subscribe", "logs/#"),
    ]
    assert all({*s} == {"type", "id", "sub", "filter"} for s in subscribes)
    assert len({connect["id"], *(s["id"] for s in subscribes)}) == 3


def test_state_is_live_once_every_subscription_is(page: Page, script: Scripted) -> None:
    """SPEC 4.2.2, 4.4.2."""
    peer = opened(page, script, "logs/#", "demo/#")
    peer.send(connected(), subscribed({"m0": 0}))
    expect(page.locator("#state")).to_have_text("catching up")
    peer.send(subscribed({"m0": 0}, sub=OTHER, live=False))
    peer.send(about("caught_up", {"m0": 4}, sub=OTHER))
    expect(page.locator("#state")).to_have_text("live")


def test_states_carry_the_position_that_replaces_the_clients(page: Page, script: Scripted) -> None:
    """R1 (SPEC 4.3.5): also backwards, and entries that are gone are gone."""
    peer = online(page, script, {"m0": 5, "m1": 9})
    peer.send(about("gap", {"m0": 3}, reason="retention"), message(4, "behind"), message(3, "not behind"))
    shown(page, "behind")
    peer.send(about("catching_up", {"m0": 4}, reason="slow"), message(5, "not live"))
    peer.send(about("caught_up", {"m0": 5}), message(5, "had"), message(6, "live again"))
    shown(page, "behind", "live again")
    peer.close(4100)
    assert script.next_peer().first[1]["after"] == {"m0": 6}


def test_delivery_goes_to_its_subscription_whatever_the_position(page: Page, script: Scripted) -> None:
    """R2 (SPEC 4.3.6); R5 (4.3.9): one for an unknown `sub` goes nowhere."""
    peer = opened(page, script, "logs/#", "logs/app")
    peer.send(connected(), subscribed({"m0": 9}), subscribed({"m0": 9}, sub=OTHER))
    peer.send(delivery(99, message(8, "nobody's")), delivery(SUB, message(7, "once")), message(10, "twice"))
    shown(page, "once", "twice", "twice")


def test_message_goes_to_live_matching_subscriptions_behind_it(page: Page, script: Scripted) -> None:
    """R3 (SPEC 4.3.7)."""
    peer = opened(page, script, "logs/#", "logs/app")
    peer.send(connected(), subscribed({"m0": 5}), subscribed({"m0": 6}, sub=OTHER, live=False))
    peer.send(message(5, "had"), message(6, "first only"), about("caught_up", {"m0": 6}, sub=OTHER))
    peer.send(message(7, "elsewhere", topic="demo"), message(8, "both"))
    shown(page, "first only", "both", "both")


FILTERS = ("#", "+", "logs/#", "logs/+", "+/app", "+/+", "logs/app", "logs/+/b", "+/#", "$sys/#", "$sys/+", "$sys")
TOPICS = ("logs", "logs/app", "logs/apps", "logs/a/b", "log", "app", "a/app", "$sys", "$sys/app", "$sys/a/b")


def test_filters_match_as_chapter_6_says(page: Page, script: Scripted) -> None:
    """SPEC 6.3, 6.4: the page agrees with the reference on every pair."""
    peer = opened(page, script, *FILTERS)
    peer.send(connected(), *(subscribed({"m0": 0}, sub=SUB + place) for place in range(len(FILTERS))))
    peer.send(*(message(pos, "x", topic=topic) for pos, topic in enumerate(TOPICS, 1)))
    expected = [topic for topic in TOPICS for filter in FILTERS if matches(filter, topic)]
    expect(page.locator("#messages tr")).to_have_count(len(expected))
    assert [row.topic for row in rows(page)] == expected


def test_bookmarks_raise_the_logs_that_a_live_subscription_has(page: Page, script: Scripted) -> None:
    """R4 (SPEC 4.3.8); the ping is answered (1.15)."""
    peer = opened(page, script, "logs/#", "logs/app")
    peer.send(connected(), subscribed({"m0": 5, "m1": 9}), subscribed({"m0": 1}, sub=OTHER, live=False))
    peer.send({"type": "ping", "at": {"m0": 7, "m1": 8, "m2": 3}})
    assert peer.receive() == {"type": "pong"}
    peer.close(4100)
    _, first, second = script.next_peer().first
    assert (first["after"], second["after"]) == ({"m0": 7, "m1": 9}, {"m0": 1})


def test_message_of_an_unknown_log_is_handed_over_with_a_gap(page: Page, script: Scripted) -> None:
    """R6 (SPEC 4.3.10)."""
    peer = online(page, script, {"m0": 5})
    peer.send(message(1, "new life", log="m0-again"), message(2, "goes on", log="m0-again"))
    shown(page, "new life", "goes on")
    gap = rows(page)[0]
    assert (gap.kind, gap.topic, gap.text) == ("gap", "logs/#", "gap: reset")
    expect(page.locator("#gaps")).to_have_text("1")
    peer.close(4100)
    assert script.next_peer().first[1]["after"] == {"m0": 5, "m0-again": 2}


def test_subscription_cut_off_before_it_was_answered_is_asked_for_again(page: Page, script: Scripted) -> None:
    """R7 (SPEC 4.3.11); `replaces` names the connection before (3.1.4)."""
    first = opened(page, script, "logs/#", "demo/#")
    first.send(connected("c-first"), subscribed({"m0": 5}))
    expect(page.locator("#state")).to_have_text("catching up")
    first.close(4100)
    connect, resumed, anew = script.next_peer().first
    assert connect["replaces"] == "c-first"
    assert (resumed["after"], resumed["sub"]) == ({"m0": 5}, SUB)
    assert "after" not in anew
    assert "live" not in resumed


def test_subscription_is_not_live_on_a_new_connection_before_it_is_said(page: Page, script: Scripted) -> None:
    """SPEC 4.10.1: nothing of another subscription's live stream gets past what is being caught up."""
    peer = opened(page, script, "logs/#", "#")
    peer.send(connected(), subscribed({"m0": 5}), subscribed({"m0": 5}, sub=OTHER))
    expect(page.locator("#state")).to_have_text("live")
    peer.close(4100)
    again = script.next_peer()
    again.send(connected("c-2"), subscribed({"m0": 6}, sub=OTHER), message(7, "for the other"))
    again.send(
        subscribed({"m0": 5}, live=False), delivery(SUB, message(6, "missed")), delivery(SUB, message(7, "too"))
    )
    again.send(about("caught_up", {"m0": 7}), message(8, "both"))
    shown(page, "for the other", "missed", "too", "both", "both")
    expect(page.locator("#reconnects")).to_have_text("1")


def test_page_comes_back_after_a_close(page: Page, script: Scripted) -> None:
    """SPEC 5.3.2, 5.3.3."""
    peer = online(page, script, {"m0": 5})
    for count, code in enumerate((1000, 1011, 4100, 4104, 4199, 4200, 4300), 1):
        peer.send({"type": "bye", "code": code, "name": f"because {code}", "reconnect_after_ms": 20})
        peer.close(code)
        peer = script.next_peer()
        peer.send(connected(), subscribed({"m0": 5}))
        expect(page.locator("#reconnects")).to_have_text(str(count))
        assert states(page)[-4:] == ["live", "waiting", "connecting", "live"]
        assert rows(page)[-1].text == f"bye: because {code}"


def waits(page: Page) -> list[str]:
    """The pauses that the page has announced, in order."""
    return [text for text in page.evaluate("window.states") if text.startswith("waiting")]


def test_pauses_double_up_to_the_servers_bound(page: Page, script: Scripted) -> None:
    """SPEC 5.3.4; the die always falls high."""
    page.add_init_script("Math.random = () => 0.99")
    peer = opened(page, script, "logs/#")
    peer.send(connected(reconnect={"min_ms": 100, "max_ms": 350}), subscribed({"m0": 5}))
    expect(page.locator("#state")).to_have_text("live")
    for _ in range(4):
        peer.close(4102)
        peer = script.next_peer()
    assert waits(page) == [
        f"waiting {pause} s for attempt {n}" for n, pause in enumerate(("0.1", "0.2", "0.3", "0.3"), 1)
    ]


def test_page_that_is_called_back_comes_once_without_a_die(page: Page, script: Scripted) -> None:
    """SPEC 5.3.2: 4200-4299; after five seconds of service the count starts anew (5.3.4)."""
    page.add_init_script("Math.random = () => 0.99")
    peer = opened(page, script, "logs/#")
    for _ in range(2):
        peer.send(connected(reconnect={"min_ms": 500, "max_ms": 500}), {"type": "ping"})
        assert peer.receive() == {"type": "pong"}
        page.evaluate("const now = Date.now; Date.now = () => now() + 6000")
        peer.send(subscribed({"m0": 5}), {"type": "ping"})
        assert peer.receive() == {"type": "pong"}
        peer.send({"type": "bye", "code": 4200, "name": "draining", "reconnect_after_ms": 100})
        peer.close(4200)
        peer = script.next_peer()
    peer.close(4200)
    script.next_peer()
    assert waits(page) == [
        f"waiting {pause} s for attempt {n}" for n, pause in ((1, "0.1"), (1, "0.1"), (2, "0.5"))
    ]


@pytest.mark.parametrize("code", [4000, 4005, 4099])
def test_page_stays_away_after_a_close_that_says_stop(page: Page, script: Scripted, code: int) -> None:
    """SPEC 5.3.2."""
    online(page, script, {"m0": 5}).close(code)
    expect(page.locator("#state")).to_have_text(f"stopped by {code}")
    assert states(page)[-1] == "stopped"


def test_who_is_not_let_in_is_asked_for_a_token(page: Page, script: Scripted) -> None:
    """SPEC 11.1: it goes into `connect` and nowhere else; the subscriptions are asked for again, as they were."""
    peer = opened(page, script, "logs/#")
    field = page.get_by_label("Token")
    expect(field).to_be_hidden()
    for token in ("wrong", "right"):
        peer.send({"type": "error", "id": 1, "name": "unauthorized", "message": "no credential", "retry": "never"})
        peer.close(4001)
        expect(page.locator("#state")).to_have_text("stopped by 4001")
        page.evaluate("const now = Date.now; Date.now = () => now() + 60000")  # it takes a while to find one
        field.fill(token)
        field.press("Enter")
        peer = script.next_peer()
        assert peer.first[0] == {"type": "connect", "id": 1, "capabilities": ["batch"], "token": token}
        assert [packet.get("filter") for packet in peer.first] == [None, "logs/#"]
    peer.send(connected(), subscribed({"m0": 5}))
    expect(page.locator("#state")).to_have_text("live")
    expect(field).to_be_hidden()
    assert page.url.endswith("?filter=logs/%23")
    peer.close(4100)
    assert script.next_peer().first[0]["token"] == "right"


def test_refused_subscription_is_shown_and_ends_alone(page: Page, script: Scripted) -> None:
    """SPEC 4.10.1, 5.1."""
    peer = opened(page, script, "logs/#", "a//b")
    refusal = {
        "type": "error",
        "id": OTHER,
        "sub": OTHER,
        "name": "bad_topic",
        "message": "an empty level",
        "retry": "never",
    }
    peer.send(connected(), subscribed({"m0": 5}), refusal)
    expect(page.locator("#state")).to_have_text("live")
    assert [(row.kind, row.topic, row.text) for row in rows(page)] == [("error", "a//b", "error: an empty level")]
    peer.close(4100)
    assert [packet.get("filter") for packet in script.next_peer().first] == [None, "logs/#"]


def test_unknown_packets_and_fields_change_nothing(page: Page, script: Scripted) -> None:
    """SPEC 1.8."""
    peer = online(page, script, {"m0": 5})
    peer.send({"type": "weather", "after": {"m0": 99}}, {**message(6, "known"), "user": "ann", "colour": "red"})
    shown(page, "known")


def test_server_gone_silent_is_left(page: Page, script: Scripted) -> None:
    """SPEC 1.15: two pings' time of silence."""
    peer = opened(page, script, "logs/#")
    peer.send(connected("c-1", ping_ms=1), subscribed({"m0": 5}))
    assert script.next_peer().first[0]["replaces"] == "c-1"


HOSTILE = [
    ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    ({"busy_percent": "<b>50</b>"}, '{"busy_percent":"<b>50</b>"}'),
    ({"busy_percent": {"valueOf": 1, "toString": 1}}, '{"busy_percent":{"valueOf":1,"toString":1}}'),
    ({"__proto__": {"live": True}, "constructor": 1}, '{"__proto__":{"live":true},"constructor":1}'),
    (None, "null"),
    (0, "0"),
    ("", ""),
    (["a", [1.5, False]], '["a",[1.5,false]]'),
    ("the end", "the end"),
]


def test_whatever_is_published_is_shown_as_text(page: Page, script: Scripted) -> None:
    """What others publish can neither run here, nor stop the page, nor become markup."""
    peer = opened(page, script, "#")
    topic = "demo/host/cpu"
    peer.send(connected(), subscribed({"m0": 0}))
    peer.send(*(message(pos, data, topic=topic) for pos, (data, _) in enumerate(HOSTILE, 1)))
    shown(page, *(text for _, text in HOSTILE), topic=topic)
    assert page.locator("#messages img, .tiles b").count() == 0


def test_topics_are_text_too_and_no_name_of_the_page(page: Page, script: Scripted) -> None:
    peer = opened(page, script, "#")
    topics = ["<b>bold</b>", "filter", "messages", "state", "viewport", "__proto__"]
    peer.send(
        connected(), subscribed({"m0": 0}), *(message(i, "x", topic=topic) for i, topic in enumerate(topics, 1))
    )
    expect(page.locator("#messages tr")).to_have_count(len(topics))
    assert [row.topic for row in rows(page)] == topics
    expect(page.locator("#state")).to_have_text("live")
    expect(page.locator("input[name=filter]")).to_have_value("")


def test_table_keeps_the_newest_200(page: Page, script: Scripted) -> None:
    peer = online(page, script, {"m0": 0})
    peer.send(*(message(number, f"line {number}") for number in range(1, 251)))
    shown(page, *(f"line {number}" for number in range(51, 251)))


def test_binary_payload_is_shown_as_base64(page: Page, script: Scripted) -> None:
    peer = online(page, script, {"m0": 0})
    packet = message(1, "")
    del packet["data"]
    peer.send({**packet, "b64": "aGVsbG8="})
    shown(page, '"aGVsbG8="')
