"""The React example as people use it: two of them in a room, in strict mode, with a broker that dies."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.built import CLIENT, built_client, installed_client
from tests.browser.client_page import Tabs, tabs_of
from tests.browser.processes import Broker
from tests.browser.site import PAGES, bundle, serve_site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Built for development: in strict mode every effect runs twice. Beside it, the pages of other tests."""
    folder = tmp_path_factory.mktemp("example")
    built_client(folder)
    bundle(CLIENT / "examples" / "react" / "src" / "main.tsx", folder, development=True)
    with serve_site(folder, PAGES) as url:
        yield url


@pytest.fixture
def tabs(browser: Browser, site: str) -> Iterator[Tabs]:
    with tabs_of(browser, site) as tabs:
        yield tabs


def enter(tabs: Tabs, broker: Broker, name: str, room: str = "tea") -> Page:
    """Come in at the door."""
    page = tabs.visit("main", f"?broker={broker.socket_url}#{room}")
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Come in").click()
    expect(page.get_by_role("status")).to_have_text("connected")
    return page


def say(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="message")
    box.fill(text)
    box.press("Enter")


def lines(page: Page) -> Locator:
    """What was said, and what may be missing."""
    return page.get_by_label("messages").locator("li:not(.end)")


def people(page: Page) -> Locator:
    return page.get_by_label("people").get_by_role("listitem")


def test_two_meet_talk_and_part(tabs: Tabs, broker: Broker) -> None:
    ann = enter(tabs, broker, "Ann")
    expect(people(ann)).to_contain_text(["Ann you"])
    say(ann, "anybody <b>here</b>?")
    expect(lines(ann)).to_contain_text(["anybody <b>here</b>?"])
    bob = enter(tabs, broker, "Bob")
    expect(lines(bob)).to_contain_text(["Ann"])  # what was said before he came
    expect(people(bob)).to_contain_text(["Ann", "Bob you"])
    expect(people(ann)).to_contain_text(["Ann you", "Bob"])
    say(bob, "me")
    expect(lines(ann)).to_have_count(2)
    expect(lines(ann).nth(1)).to_contain_text("Bob")
    bob.close()
    expect(people(ann)).to_have_count(1)
    assert broker.health()["members"] == 1


def test_what_is_said_while_the_broker_is_away_is_said_once_it_is_back(tabs: Tabs, broker: Broker) -> None:
    ann = enter(tabs, broker, "Ann")
    say(ann, "before")
    expect(ann.locator(".pending")).to_have_count(0)
    broker.kill()
    expect(ann.get_by_role("status")).to_have_text("offline, trying again")
    say(ann, "in between")
    expect(ann.locator(".pending")).to_contain_text("in between")
    broker.start()
    expect(ann.get_by_role("status")).to_have_text("connected")
    expect(ann.locator(".pending")).to_have_count(0)
    expect(lines(ann)).to_contain_text(["before", "something may be missing here (reset)", "in between"])
    expect(people(ann)).to_contain_text(["Ann you"])


def test_rooms_are_apart_and_earlier_messages_can_be_read(tabs: Tabs, broker: Broker) -> None:
    ann = tabs.open()
    ann.begin(broker.socket_url)
    ann.say("chat/tea", *({"name": "Ann", "text": f"line {number}"} for number in range(35)))
    ann.wait("noted.published.length === 35")
    bob = enter(tabs, broker, "Bob", "coffee")
    expect(bob.get_by_text("Nothing was said here yet.")).to_be_visible()
    bob.evaluate("location.hash = 'tea'")
    expect(lines(bob)).to_have_count(30)
    bob.get_by_role("button", name="earlier messages").click()
    expect(lines(bob)).to_have_count(35)
    expect(lines(bob).first).to_contain_text("line 0")
    expect(bob.get_by_role("button", name="earlier messages")).to_have_count(0)


def test_example_is_built_for_production_with_the_packed_client(
    browser: Browser, broker: Broker, tmp_path: Path
) -> None:
    """In a project with a React of its own, which is the only one: with two, every hook fails."""
    installed_client(tmp_path)
    packages = tmp_path / "node_modules"
    for name in ("react", "react-dom", "scheduler"):
        shutil.copytree(CLIENT / "node_modules" / name, packages / name)
    shutil.copytree(CLIENT / "examples" / "react" / "src", tmp_path / "src")
    settings = ["--bundle", "--jsx=automatic", "--minify", "--log-level=warning", f"--outdir={tmp_path}"]
    settings.append('--define:process.env.NODE_ENV="production"')
    esbuild = CLIENT / "node_modules" / ".bin" / "esbuild"
    subprocess.run([esbuild, "src/main.tsx", *settings], cwd=tmp_path, check=True)
    with serve_site(tmp_path) as url, tabs_of(browser, url) as tabs:
        ann = enter(tabs, broker, "Ann")
        say(ann, "hello")
        expect(lines(ann)).to_contain_text(["hello"])
        expect(people(ann)).to_contain_text(["Ann you"])
