"""A browser for a module of tests, a page for each test, a broker for those that want one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import open_browser
from tests.browser.client_page import Tabs, client_site, tabs_of
from tests.browser.processes import Broker

# What the demo says about its connection goes by quickly: every state it shows is kept.
KEEP_STATES = """
window.states = [];
document.addEventListener("DOMContentLoaded", () => {
  const keep = (changes) => changes.forEach((change) => states.push(change.addedNodes[0]?.textContent));
  new MutationObserver(keep).observe(document.getElementById("state"), { childList: true });
});
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: Playwright's event loop must not run under other modules' tests."""
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a fresh profile; an exception in its script fails the test."""
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(KEEP_STATES)
    raised: list[str] = []
    page.on("pageerror", lambda error: raised.append(str(error)))
    yield page
    context.close()
    assert not raised


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker with the demo, up."""
    broker = Broker(tmp_path / "broker.log")
    broker.start()
    try:
        yield broker
    finally:
        broker.end()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page with the JavaScript client; its URL."""
    with client_site(tmp_path_factory.mktemp("client")) as url:
        yield url


@pytest.fixture
def tabs(browser: Browser, site: str) -> Iterator[Tabs]:
    """Tabs of one profile on it."""
    with tabs_of(browser, site) as tabs:
        yield tabs
