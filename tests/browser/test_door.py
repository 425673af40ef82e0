"""What a real browser is told at the door: pages that may not connect (S9), and compressed messages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.security.victim import Victim

pytestmark = pytest.mark.browser

#: A document of no site. (Those of another site Chromium keeps from this machine by itself.)
NOWHERE = '<iframe sandbox="allow-scripts" srcdoc="<p>x</p>"></iframe>'
#: Opens a WebSocket, sends `packets`, and tells what came until the socket closed or `count` messages were there.
TALK = """([url, packets, count]) => new Promise((resolve) => {
  const heard = [];
  const socket = new WebSocket(url, "triode.v1.json");
  socket.onopen = () => packets.forEach((packet) => socket.send(JSON.stringify(packet)));
  const end = (code) => resolve({ code, heard, extensions: socket.extensions });
  socket.onmessage = (event) => {
    heard.push(JSON.parse(event.data));
    if (heard.length === count) end(0);
  };
  socket.onclose = (event) => end(event.code);
})"""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Compresses, and lists nobody."""
    victim = Victim(tmp_path_factory.mktemp("victim"))
    yield victim
    assert victim.end() == 0


@pytest.fixture
def page_of(browser: Browser) -> Iterator[Page]:
    """A page that the test takes somewhere."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_s9_page_that_may_not_connect_is_told_so(page_of: Page, victim: Victim) -> None:
    """SPEC 1.17: by a code that a page can read; an HTTP status it could not."""
    page_of.goto(f"http://127.0.0.1:{victim.port}/healthz")
    page_of.set_content(NOWHERE)
    _, sandbox = page_of.frames
    url = f"ws://127.0.0.1:{victim.port}/ws"
    told = sandbox.evaluate(TALK, [url, [{"type": "connect", "id": 1}], 9])
    assert told["code"] == 4003
    assert told["heard"] == [{"type": "bye", "code": 4003, "name": "forbidden_origin"}]
    assert victim.logged("origin_refused")["origin"] == "null"


def test_browser_agrees_on_compression_and_reads_and_writes_it(page_of: Page, victim: Victim) -> None:
    """SPEC 1.17, 1.19: the broker's own page."""
    page_of.goto(f"http://127.0.0.1:{victim.port}/healthz")
    said = {"rows": ["ä😀 and the same words again"] * 200}
    packets = [
        {"type": "connect", "id": 1},
        {"type": "subscribe", "id": 2, "sub": 1, "filter": "a"},
        {"type": "publish", "topic": "a", "data": said},
        {"type": "publish", "topic": "a", "data": said},
    ]
    told = page_of.evaluate(TALK, [f"ws://127.0.0.1:{victim.port}/ws", packets, 4])
    assert told["extensions"].startswith("permessage-deflate")
    assert [packet.get("data") for packet in told["heard"][2:]] == [said, said]
