"""A visit to the console in a browser that lets nothing pass: what goes wrong in it fails the test.

Knows the page's address and how one comes in, not what its views show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from attrs import define, field
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tests.browser.console_stage import ADMIN_SECRET, Node

DESK: Final = ViewportSize(width=1280, height=860)
PHONE: Final = ViewportSize(width=375, height=812)
_COME_IN: Final = f"""
sessionStorage.setItem("triode.console.secret", "{ADMIN_SECRET}");
localStorage.setItem("triode.console.every", localStorage.getItem("triode.console.every") ?? "1000");
"""
_KEEP_VIOLATIONS: Final = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


@define
class Visit:
    """One tab."""

    page: Page
    node: Node
    wrong: list[str] = field(factory=list)  # what the console of the browser complained of
    strange: list[str] = field(factory=list)  # requests that went elsewhere

    def open(self, view: str = "overview") -> None:
        """By its address."""
        self.page.goto(f"{self.node.console}#/{view}")
        expect(self.page.locator(".state, .door")).to_be_visible()

    def go(self, view: str) -> None:
        """Within the open page."""
        self.page.evaluate("hash => { location.hash = hash; }", f"#/{view}")

    def row(self, text: str) -> Locator:
        """The lines of tables that have this text."""
        return self.page.locator("tbody tr", has_text=text)

    def press(self, name: str) -> None:
        """A button of this name, exactly."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def confirm(self, name: str) -> None:
        """In the dialog that asks."""
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("button", name=name, exact=True).click()
        expect(dialog).to_have_count(0)

    def said(self, text: str) -> None:
        """A notice says so."""
        expect(self.page.locator("#notices")).to_contain_text(text)


@contextmanager
def visiting(
    browser: Browser,
    node: Node,
    *,
    size: ViewportSize = DESK,
    colours: Literal["light", "dark"] = "light",
    is_in: bool = True,
) -> Iterator[Visit]:
    """Until the end of the block, where nothing may have gone wrong. `is_in`: the secret is in the tab already."""
    context = browser.new_context(viewport=size, color_scheme=colours, locale="en-GB")
    page = context.new_page()
    visit = Visit(page, node)
    origin = f"127.0.0.1:{node.admin_port}/"
    page.on("console", lambda said: visit.wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: visit.wrong.append(str(error)))
    page.on("request", lambda sent: None if origin in sent.url else visit.strange.append(sent.url))
    page.on("websocket", lambda opened: None if origin in opened.url else visit.strange.append(opened.url))
    page.add_init_script(_KEEP_VIOLATIONS)
    if is_in:
        page.add_init_script(_COME_IN)
    try:
        yield visit
        assert page.url == "about:blank" or page.evaluate("violations") == []
        assert visit.wrong == []
        assert visit.strange == []
    finally:
        context.close()
