"""One connection for many tabs, in a real browser: through a SharedWorker, and without one through a tab."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error

from tests.browser.client_page import Tab, Tabs, client_site, tabs_of
from tests.browser.processes import Broker

pytestmark = pytest.mark.browser

WITHOUT_WORKERS = "delete globalThis.SharedWorker"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with client_site(tmp_path_factory.mktemp("client")) as url:
        yield url


@pytest.fixture(params=["worker", "leader"])
def tabs(request: pytest.FixtureRequest, browser: Browser, site: str) -> Iterator[Tabs]:
    """Of a browser that has SharedWorker, and of one that has not."""
    with tabs_of(browser, site) as tabs:
        if request.param == "leader":
            tabs.context.add_init_script(WITHOUT_WORKERS)
        yield tabs


@pytest.fixture
def followers(browser: Browser, site: str) -> Iterator[Tabs]:
    """Tabs of a browser without SharedWorker."""
    with tabs_of(browser, site) as tabs:
        tabs.context.add_init_script(WITHOUT_WORKERS)
        yield tabs


def sharing(tabs: Tabs, broker: Broker, filter: str, count: int) -> list[Tab]:
    """So many tabs that listen; the first is there before the others."""
    opened = []
    for _ in range(count):
        tab = tabs.open()
        tab.begin(broker.socket_url, shared={})
        tab.listen(filter)
        opened.append(tab)
    return opened


def hosts(*tabs: Tab) -> list[str]:
    """Who holds the connection, as each sees it."""
    return [tab.page.evaluate("sharing.status().host") for tab in tabs]


def heard_all(*tabs: Tab) -> None:
    """Each has heard 1, 2, 3, … up to what was published, once and in order, and was told of no gap."""
    last = max(tab.page.evaluate("noted.published.length") for tab in tabs)
    for tab in tabs:
        tab.wait("last => noted.messages.some(message => message.data === last)", last)
        assert tab.heard()[-last:] == list(range(last - len(tab.heard()) + 1, last + 1))
        assert tab.noted("gaps") == tab.noted("failed") == []


def test_tabs_share_one_connection(tabs: Tabs, broker: Broker) -> None:
    ann, bob, cid = sharing(tabs, broker, "rooms/#", 3)
    assert broker.clients() == 1
    has_worker = ann.page.evaluate("'SharedWorker' in globalThis")
    assert hosts(ann, bob, cid) == (["worker"] * 3 if has_worker else ["leader", "follower", "follower"])
    ann.say("rooms/1", "to all")
    for tab in (ann, bob, cid):
        tab.wait_for_last("to all")
    bob.page.evaluate("subscription.unsubscribe()")
    cid.say("rooms/1", "not to Bob")
    ann.wait_for_last("not to Bob")
    assert (ann.heard(), bob.heard()) == (["to all", "not to Bob"], ["to all"])
    assert broker.health()["live_subscriptions"] == 1
    for tab in (ann, bob, cid):
        assert tab.states() == ["connecting", "connected"]


def test_tab_that_goes_is_no_matter_to_the_others(tabs: Tabs, broker: Broker) -> None:
    first, *others = sharing(tabs, broker, "disk/#", 3)
    others[1].page.evaluate("void keepSaying('disk/orders')")
    others[0].wait_for_more(10)
    first.page.close()
    others[0].wait_for_more(50)
    others[1].page.evaluate("finish()")
    others[1].wait("finish.isDone")
    heard_all(*others)
    broker.wait_for_clients(1)


def test_leader_that_crashes_is_followed_without_a_gap(followers: Tabs, broker: Broker) -> None:
    leader, reader, writer = sharing(followers, broker, "disk/#", 3)
    assert hosts(leader, reader, writer) == ["leader", "follower", "follower"]
    writer.page.evaluate("void keepSaying('disk/orders')")
    reader.wait_for_more(10)
    crash(leader)
    reader.wait_for_more(50)
    writer.page.evaluate("finish()")
    writer.wait("finish.isDone")
    heard_all(reader, writer)
    assert sorted(hosts(reader, writer)) == ["follower", "leader"]
    broker.wait_for_clients(1)


def test_leader_that_is_frozen_is_followed_and_follows_when_it_wakes(followers: Tabs, tmp_path: Path) -> None:
    """Browsers freeze tabs in the background, also those that others depend on."""
    broker = Broker(tmp_path / "broker.log", ping_ms=1_000)
    broker.start()
    try:
        leader, reader, writer = sharing(followers, broker, "disk/#", 3)
        writer.page.evaluate("void keepSaying('disk/orders')")
        reader.wait_for_more(10)
        with leader.frozen():
            reader.wait("() => noted.states.some(event => event.state === 'waiting')")
            reader.wait_for_more(20)
            assert sorted(hosts(reader, writer)) == ["follower", "leader"]
        leader.wait("client.state === 'connected' && sharing.status().host === 'follower'")
        writer.page.evaluate("finish()")
        writer.wait("finish.isDone")
        heard_all(leader, reader, writer)
        broker.wait_for_clients(1)
    finally:
        broker.end()


def crash(tab: Tab) -> None:
    """Its process is gone: nothing of the page runs any more."""
    with pytest.raises(Error, match="crash"):
        tab.page.goto("chrome://crash")
    tab.page.close()


def test_broker_killed_under_shared_tabs_loses_nothing(tabs: Tabs, broker: Broker) -> None:
    reader, writer = sharing(tabs, broker, "disk/#", 2)
    writer.page.evaluate("void keepSaying('disk/orders')")
    reader.wait_for_more(10)
    broker.kill()
    reader.wait_for_state("waiting")
    broker.start()
    reader.wait_for_more(20)
    writer.page.evaluate("finish()")
    writer.wait("finish.isDone")
    heard_all(reader, writer)
    broker.wait_for_clients(1)
