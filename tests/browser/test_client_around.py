"""Pages behind proxies that let no WebSocket through: they go on over HTTP, by themselves (SPEC 12.4, 12.3)."""

import pytest

from tests.browser.blocked import HANGS, Blocked
from tests.browser.client_page import Tabs
from tests.browser.processes import Broker

pytestmark = pytest.mark.browser

EVENT_SOURCE = """([url, topic]) => {
  window.heard = [], window.gaps = [];
  window.source = new EventSource(`${url}/v1/events?topic=${encodeURIComponent(topic)}`);
  source.onmessage = ({ data, lastEventId }) => { heard.push(JSON.parse(data).data); window.last = lastEventId; };
  source.addEventListener("gap", ({ data }) => gaps.push(JSON.parse(data)));
  return new Promise((resolve) => source.addEventListener("subscribed", resolve, { once: true }));
}"""


@pytest.mark.parametrize(("name", "status"), [("script", 502), ("module", HANGS)])
def test_page_whose_websockets_are_blocked_goes_on(tabs: Tabs, broker: Broker, name: str, status: int) -> None:
    """G4: it receives and publishes; the broker is killed and started again, and nothing is missing or doubled."""
    with Blocked(broker.port, status) as proxy:
        tab = tabs.open(name)
        tab.begin(f"ws://127.0.0.1:{proxy.port}", connectTimeoutMs=2_000 if status == HANGS else 10_000)
        tab.listen("disk/#")
        assert proxy.refused == 2
        assert tab.page.evaluate("client.transport") == "sse"
        tab.page.evaluate("void keepSaying('disk/orders')")
        tab.wait_for_more(10)
        if status != HANGS:
            broker.kill()
            tab.wait_for_state("waiting")
            broker.start()
            tab.wait_for_state("connected")
            tab.wait_for_more(10)
        tab.page.evaluate("finish()")
        tab.wait("finish.isDone && noted.published.length === noted.messages.length")
        assert tab.heard() == list(range(1, len(tab.heard()) + 1))
        assert tab.noted("gaps") == tab.noted("failed") == []
        tab.page.evaluate("client.close()")
        broker.wait_for_clients(0)


def test_page_that_loads_the_client_from_the_broker_loads_the_way_around_from_there(
    tabs: Tabs, broker: Broker
) -> None:
    """A script tag of another origin: a module is asked for by its whole address, and may be read."""
    page = tabs.context.new_page()
    with Blocked(broker.port, 403) as proxy:
        page.goto(f"{broker.url}/readyz")  # any page of another origin than the proxy's
        page.add_script_tag(url=f"http://127.0.0.1:{proxy.port}/triode.js")
        page.evaluate("url => { window.client = new Triode(url) }", f"ws://127.0.0.1:{proxy.port}")
        page.evaluate("client.connect()")
        assert page.evaluate("client.transport") == "sse"
        assert page.evaluate("client.publish('a', 1).then(({ offset }) => offset)") == 1
        page.evaluate("client.close()")


def test_event_source_comes_back_by_itself_and_misses_nothing(tabs: Tabs, broker: Broker) -> None:
    """SPEC 12.3.2, G4: kill -9 over a topic on disk; the browser sends Last-Event-ID."""
    page = tabs.context.new_page()
    page.goto(f"{broker.url}/readyz")
    page.add_script_tag(url=f"{broker.url}/triode.js")
    page.evaluate(EVENT_SOURCE, [broker.url, "disk/#"])
    say = "async numbers => { for (const each of numbers) await client.publish('disk/a', each) }"
    page.evaluate("url => { window.client = new Triode(url) }", broker.socket_url)
    page.evaluate(say, [1, 2, 3])
    page.wait_for_function("() => heard.length === 3")
    assert page.evaluate("last").startswith("d0-")
    broker.kill()
    broker.start()
    page.evaluate(say, [4, 5])
    page.wait_for_function("() => heard.length === 5", timeout=30_000)
    assert page.evaluate("heard") == [1, 2, 3, 4, 5]
    assert page.evaluate("gaps.filter(({ topic, after }) => topic?.startsWith('disk'))") == []
    page.evaluate("source.close()")
