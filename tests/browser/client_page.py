"""A page that uses the JavaScript client, driven as its user, its network and its machine would.

Knows pages/page.js and Playwright, nothing of packets. Everything here waits for a condition in the page.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, CDPSession, Page

from tests.browser.built import built_client
from tests.browser.chromium import PATIENCE_MS
from tests.browser.site import PAGES, serve_site

NOTE_VIOLATIONS: Final = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  violations.push(event.violatedDirective + " " + event.sourceFile);
});
"""


@contextmanager
def client_site(folder: Path) -> Iterator[str]:
    """Serves module.html (ES modules) and script.html (one script for a script tag), with the built client."""
    dist = built_client(folder)
    script = (dist / "triode.iife.js").read_text() + (PAGES / "page.js").read_text()
    (folder / "script.js").write_text(script)
    (folder / "triode-sse.js").write_text((dist / "triode-sse.js").read_text())
    with serve_site(folder, PAGES) as url:
        yield url


class Tab:
    """One page of a program."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def begin(self, url: str, **options: Any) -> None:
        """Make the client."""
        self.page.evaluate("([url, options]) => begin(url, options)", [url, options])

    def listen(self, filter: str, **options: Any) -> None:
        """Subscribe; returns when the broker has it."""
        self.page.evaluate("([filter, options]) => listen(filter, options)", [filter, options])

    def say(self, topic: str, *data: object) -> None:
        """Publish without waiting for anything."""
        self.page.evaluate("([topic, all]) => { for (const each of all) say(topic, each); }", [topic, list(data)])

    def wait(self, condition: str, argument: object = None) -> None:
        """Until a JavaScript expression, or a function of `argument`, is true."""
        function = condition if "=>" in condition else f"() => {condition}"  # anything else would be eval()
        self.page.wait_for_function(function, arg=argument, timeout=PATIENCE_MS)

    def wait_for_state(self, state: str) -> None:
        """Until the client is in it."""
        self.wait("state => client.state === state", state)

    def wait_for_last(self, data: object) -> None:
        """Until this is the last that was heard."""
        self.wait("data => noted.messages.length && noted.messages[noted.messages.length - 1].data === data", data)

    def wait_for_more(self, count: int) -> None:
        """Until so many messages more have been heard."""
        more = len(self.heard()) + count
        self.wait("more => noted.messages.length >= more", more)

    def heard(self) -> list[Any]:
        """What came, in order."""
        heard: list[Any] = self.page.evaluate("noted.messages.map(message => message.data)")
        return heard

    def noted(self, what: str) -> list[Any]:
        """A list of pages/page.js."""
        noted: list[Any] = self.page.evaluate("what => noted[what]", what)
        return noted

    def states(self) -> list[str]:
        """All so far."""
        return [event["state"] for event in self.noted("states")]

    def devtools(self) -> CDPSession:
        """What Playwright has no word for."""
        return self.page.context.new_cdp_session(self.page)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """No timers and no events in this page, as in a tab that nobody has looked at for a while.

        The debugger stops it: Chromium freezes hidden tabs only, and Playwright's never are.
        """
        devtools = self.devtools()
        paused: list[object] = []
        devtools.on("Debugger.paused", lambda event: paused.append(event))
        devtools.send("Debugger.enable")
        self.page.evaluate("void setTimeout(() => { debugger; })")
        while not paused:
            devtools.send("Debugger.setPauseOnExceptions", {"state": "none"})  # a turn in which events are told
        yield
        devtools.send("Debugger.disable")


class Tabs:
    """The tabs of one profile: they share workers, locks and storage."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self._url = url
        self._raised: list[str] = []
        context.add_init_script(NOTE_VIOLATIONS)

    def visit(self, name: str, rest: str = "") -> Page:
        """A page of the site in a new one; `rest`: from ? on."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self._raised.append(str(error)))
        page.goto(f"{self._url}/{name}.html{rest}")
        return page

    def open(self, name: str = "module") -> Tab:
        """A new one that is ready to begin; `name` is a page's."""
        page = self.visit(name)
        page.wait_for_function("() => globalThis.begin")
        return Tab(page)

    def complaints(self) -> list[str]:
        """Uncaught errors, and what the content security policy had to forbid."""
        violations = [each for page in self.context.pages for each in page.evaluate("window.violations")]
        return self._raised + violations


@contextmanager
def tabs_of(browser: Browser, url: str) -> Iterator[Tabs]:
    """A fresh profile. An uncaught error in a page, or a breach of its policy, fails the test."""
    context = browser.new_context()
    tabs = Tabs(context, url)
    yield tabs
    complaints = tabs.complaints()
    context.close()
    assert complaints == []
