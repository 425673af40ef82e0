"""The JavaScript client in a real browser: brokers that die, lines that are cut, pages that are loaded again."""

from pathlib import Path

import pytest

from tests.browser.cable import Cable
from tests.browser.client_page import Tabs
from tests.browser.processes import Broker

pytestmark = pytest.mark.browser


def test_script_tag_publishes_and_hears_by_wildcard(tabs: Tabs, broker: Broker) -> None:
    tab = tabs.open("script")
    tab.begin(broker.socket_url)
    tab.listen("rooms/+/chat")
    tab.say("rooms/42/chat", "hello", {"text": "ä😀"})
    tab.say("rooms/42/other", "elsewhere")
    tab.say("rooms/7/chat", "last")
    tab.wait_for_last("last")
    assert tab.heard() == ["hello", {"text": "ä😀"}, "last"]
    tab.wait("noted.published.length === 4")
    assert tab.states() == ["connecting", "connected"]


def test_modules_speak_to_one_another(tabs: Tabs, broker: Broker) -> None:
    ann, bob = tabs.open(), tabs.open()
    for tab in (ann, bob):
        tab.begin(broker.socket_url)
        tab.listen("rooms/#")
    ann.say("rooms/1", "from Ann")
    bob.wait_for_last("from Ann")
    bob.say("rooms/2", "from Bob")
    ann.wait_for_last("from Bob")
    assert ann.heard() == bob.heard() == ["from Ann", "from Bob"]


def test_policy_is_enforced_and_noticed(tabs: Tabs) -> None:
    """Or the silence of all other tests would say nothing."""
    tab = tabs.open()
    tab.page.evaluate("void setTimeout(() => { try { eval('1') } catch (error) { window.caught = error.name } })")
    tab.wait("window.caught === 'EvalError' && window.violations.length === 1")
    assert tab.page.evaluate("violations.splice(0)")[0].startswith("script-src")


def test_broker_killed_over_a_topic_on_disk_loses_nothing(tabs: Tabs, broker: Broker) -> None:
    """G4: kill -9 in a stream of publishes. Each is stored once and heard once, in order, without a gap."""
    tab = tabs.open()
    tab.begin(broker.socket_url)
    tab.listen("disk/#")
    tab.page.evaluate("void keepSaying('disk/orders')")
    for _ in range(2):
        tab.wait_for_more(20)
        broker.kill()
        tab.wait_for_state("waiting")
        broker.start()
        tab.wait_for_state("connected")
    tab.wait_for_more(20)
    tab.page.evaluate("finish()")
    tab.wait("finish.isDone && noted.published.length === noted.messages.length")
    assert tab.heard() == list(range(1, len(tab.heard()) + 1))
    assert tab.noted("gaps") == tab.noted("failed") == []


def test_broker_killed_over_a_topic_in_memory_is_a_gap(tabs: Tabs, broker: Broker) -> None:
    """SPEC 2.8, 3.2.9: what was there is gone, and the page is told before the next message."""
    tab = tabs.open()
    tab.begin(broker.socket_url)
    tab.listen("memory")
    tab.say("memory", "before")
    tab.wait_for_last("before")
    broker.kill()
    tab.wait_for_state("waiting")
    tab.say("memory", "while it is away")
    broker.start()
    tab.wait_for_last("while it is away")
    assert tab.heard() == ["before", "while it is away"]
    assert [gap["reason"] for gap in tab.noted("gaps")] == ["reset"]


def test_page_that_is_online_again_does_not_wait(tabs: Tabs, tmp_path: Path) -> None:
    """The pause would be longer than this test's patience: what ends it is the browser's word for it."""
    broker = Broker(tmp_path / "broker.log", reconnect_min_ms=600_000, reconnect_max_ms=600_000)
    broker.start()
    try:
        with Cable(broker.port) as cable:
            tabs.context.add_init_script("Math.random = () => 0.99")
            tab = tabs.open()
            tab.begin(f"ws://127.0.0.1:{cable.port}")
            tab.listen("news")
            tabs.context.set_offline(True)
            cable.cut()
            tab.wait_for_state("waiting")
            tab.say("news", "written offline")
            cable.mend()
            tabs.context.set_offline(False)
            tab.wait_for_last("written offline")
            assert tab.noted("gaps") == []
    finally:
        broker.end()


def test_reloaded_page_goes_on_where_it_stood(tabs: Tabs, broker: Broker) -> None:
    """`subscription.position`, kept in sessionStorage, is `after` of the next life: nothing missed or doubled."""
    writer, reader = tabs.open(), tabs.open()
    for tab in (writer, reader):
        tab.begin(broker.socket_url)
    reader.listen("news", remember="news")
    writer.say("news", 1, 2, 3)
    reader.wait_for_last(3)
    reader.page.goto("about:blank")
    writer.say("news", 4, 5)
    writer.wait("noted.published.length === 5")
    reader.page.go_back()
    reader.wait("!!globalThis.begin")
    reader.begin(broker.socket_url)
    reader.listen("news", remember="news")
    writer.say("news", 6)
    reader.wait_for_last(6)
    assert reader.heard() == [4, 5, 6]
    assert reader.noted("gaps") == []


def test_queue_on_disk_outlives_the_page(tabs: Tabs, broker: Broker) -> None:
    """Published while the broker was away, by a page that is gone: stored once by the next life of that page."""
    tab = tabs.open()
    tab.begin(broker.socket_url, queue="orders")
    tab.listen("disk/orders")
    broker.kill()
    tab.wait_for_state("waiting")
    tab.say("disk/orders", "first", "second")
    tab.wait("() => stored('orders').then(count => count === 2)")
    tab.page.reload()
    tab.wait("!!globalThis.begin")
    broker.start()
    tab.begin(broker.socket_url, queue="orders")
    tab.listen("disk/orders", **{"from": "earliest"})
    tab.wait_for_last("second")
    tab.wait("() => stored('orders').then(count => count === 0)")
    tab.say("disk/orders", "third")
    tab.wait_for_last("third")
    assert tab.heard() == ["first", "second", "third"]
    assert tab.noted("failed") == tab.noted("complaints") == []
