"""The JavaScript client in a browser that sleeps, is throttled, or lives longer than its token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import browser_asleep
from tests.browser.client_page import Tab, Tabs
from tests.browser.processes import Broker, publish_json
from tests.browser.scripted import Packet, Peer, Scripted, scripted_server

pytestmark = pytest.mark.browser

LIMITS = {
    "max_packet_bytes": 65_536,
    "max_frame_bytes": 1_048_576,
    "max_subscriptions": 200,
    "max_inflight_publishes": 256,
    "dedupe_window_ms": 300_000,
}


@pytest.fixture
def script() -> Iterator[Scripted]:
    with scripted_server() as script:
        yield script


def connected(peer: Peer, **fields: Any) -> Packet:
    """Answers `connect`."""
    return {
        "type": "connected",
        "id": peer.first[0]["id"],
        "connection": "c-1",
        "node": "n1",
        "protocol": 1,
        "capabilities": ["batch"],
        "limits": LIMITS,
        "ping_ms": 25_000,
        "reconnect": {"min_ms": 1, "max_ms": 2},
        **fields,
    }


def message(pos: int, data: object) -> Packet:
    place = {"offset": pos, "log": "m0", "pos": pos, "ts": 1_732_281_000_123}
    return {"type": "message", "topic": "news", **place, "data": data}


def listening(tab: Tab, script: Scripted, **options: Any) -> Peer:
    """A tab that is live on `news`, and its connection."""
    tab.begin(script.socket_url, **options)
    tab.page.evaluate("void listen('news')")
    peer = script.next_peer()
    subscribe = peer.first[1]
    answer = {
        "type": "subscribed",
        "id": subscribe["id"],
        "sub": subscribe["sub"],
        "after": {"m0": 0},
        "live": True,
    }
    peer.send(connected(peer), answer)
    tab.wait("globalThis.subscription?.isLive")
    return peer


def test_lid_closed_and_opened_the_broker_is_asked_before_it_is_given_up(tabs: Tabs, script: Scripted) -> None:
    """SPEC 1.15: an hour has passed, and nothing was heard. That says nothing about the broker."""
    tabs.context.clock.install()
    tab = tabs.open()
    peer = listening(tab, script)
    tab.page.clock.fast_forward("01:00:00")
    ping = peer.receive()
    assert ping["type"] == "ping"
    peer.send({"type": "pong", "id": ping["id"]}, message(1, "still there"))
    tab.wait_for_last("still there")
    assert tab.states() == ["connecting", "connected"]


def test_lid_opened_elsewhere_the_silent_connection_is_replaced(tabs: Tabs, script: Scripted) -> None:
    """No answer to the question: then it is given up, and what was missed comes with the next connection."""
    tabs.context.clock.install()
    tab = tabs.open()
    peer = listening(tab, script)
    tab.page.clock.fast_forward("01:00:00")
    assert peer.receive()["type"] == "ping"
    tab.page.clock.fast_forward("00:10")
    connect, subscribe = script.next_peer().first
    assert (connect["replaces"], subscribe["after"]) == ("c-1", {"m0": 0})


def test_token_is_renewed_ahead_of_its_end_one_at_a_time(tabs: Tabs, script: Scripted) -> None:
    """SPEC 8: over the living connection, with one call of the program's function for two reasons to call it."""
    tabs.context.clock.install()
    tab = tabs.open()
    tab.begin(script.socket_url, tokens=True)
    tab.page.evaluate("void client.connect()")
    peer = script.next_peer()
    assert peer.first[0]["token"] == "token 1"
    peer.send(connected(peer, expires_in_ms=600_000))
    tab.wait_for_state("connected")
    tab.page.clock.fast_forward("09:31")
    while (auth := peer.receive())["type"] == "ping":  # nothing was heard for nine minutes, too
        peer.send({"type": "pong", "id": auth["id"]})
    assert (auth["type"], auth["token"]) == ("auth", "token 2")
    peer.send({"type": "notice", "expires_in_ms": 1_000})
    tab.wait("noted.notices.length === 1")
    peer.send({"type": "authorized", "id": auth["id"], "expires_in_ms": 600_000}, {"type": "ping"})
    assert peer.receive() == {"type": "pong"}
    assert tab.page.evaluate("noted.tokens") == 2
    assert tab.states() == ["connecting", "connected"]


def test_frozen_tab_goes_on_where_it_stood(tabs: Tabs, broker: Broker) -> None:
    """A browser freezes tabs in the background; the broker dies and lives again meanwhile."""
    writer, reader = tabs.open(), tabs.open()
    for tab in (writer, reader):
        tab.begin(broker.socket_url)
        tab.listen("disk/#")
    writer.say("disk/news", 1)
    reader.wait_for_last(1)
    with reader.frozen():
        writer.say("disk/news", *range(2, 50))
        writer.wait_for_last(49)
        broker.kill()
        writer.wait_for_state("waiting")
        broker.start()
        writer.say("disk/news", *range(50, 100))
        writer.wait_for_last(99)
    reader.wait_for_last(99)
    assert reader.heard() == list(range(1, 100))
    assert reader.noted("gaps") == []


def test_throttled_tab_keeps_its_connection(tabs: Tabs, script: Scripted) -> None:
    """A twentieth of the speed, and a flood: slow is not dead."""
    tab = tabs.open()
    peer = listening(tab, script)
    devtools = tab.devtools()
    devtools.send("Emulation.setCPUThrottlingRate", {"rate": 20})
    for first in range(1, 2_001, 100):
        peer.send(*(message(pos, pos) for pos in range(first, first + 100)))
        peer.send({"type": "ping"})
    for _ in range(20):
        assert peer.receive() == {"type": "pong"}
    devtools.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    tab.wait_for_last(2_000)
    assert tab.heard() == list(range(1, 2_001))
    assert tab.states() == ["connecting", "connected"]


def test_laptop_that_slept_goes_on_where_it_stood(tabs: Tabs, tmp_path: Path) -> None:
    """The whole browser stands still, until the broker has given it up; nothing is missed, nothing comes twice."""
    broker = Broker(tmp_path / "broker.log", ping_ms=250)
    broker.start()
    try:
        tab = tabs.open()
        tab.begin(broker.socket_url)
        tab.listen("news")
        tab.say("news", 1)
        tab.wait_for_last(1)
        with browser_asleep():
            publish_json(broker, "news", "2")
            broker.wait_for_clients(0)  # its silence was too long
            publish_json(broker, "news", "3")
        tab.wait_for_last(3)
        assert tab.heard() == [1, 2, 3]
        assert tab.noted("gaps") == []
    finally:
        broker.end()
