"""The pages of docs/examples as people use them, with the broker's configuration and the programs that are there.

Everything here waits for what a page shows.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.built import built_client
from tests.browser.client_page import Tabs, tabs_of
from tests.browser.site import serve_site
from tests.examples.programs import CONFIG, EXAMPLES, Broker, broker_of
from tests.house.tree import ROOT

pytestmark = pytest.mark.browser

#: Each letter is one operation: the next one waits until it is saved.
TYPE_ONE_BY_ONE = """async (count) => {
  const [area, saved] = ["#text", "#saved"].map((selector) => document.querySelector(selector));
  const change = () => new Promise((resolve) => {
    const observer = new MutationObserver(() => resolve(observer.disconnect()));
    observer.observe(saved, { childList: true });
  });
  for (let number = 1; number <= count; number++) {
    area.value += "x";
    area.dispatchEvent(new Event("input"));
    while (saved.textContent !== `saved · version ${number}`) await change();
  }
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The root of the checkout, as README.md says, only with a client that is surely built."""
    folder = tmp_path_factory.mktemp("site")
    built_client(folder / "clients" / "js")
    with serve_site(folder, ROOT) as url:
        yield url


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One for all: each test has topics of its own. Who is lost leaves soon; one room is forgotten by a kill."""
    folder = tmp_path_factory.mktemp("broker")
    config = folder / "triode.toml"
    forgetful = '[[topics]]\nfilter = "chat/forgetful"\nstorage = "memory"\n\n'
    config.write_text(CONFIG.read_text(encoding="utf-8").replace("[[topics]]", forgetful + "[[topics]]", 1))
    with broker_of(config, folder, presence_debounce_ms=200) as broker:
        yield broker


@pytest.fixture
def tabs(browser: Browser, site: str) -> Iterator[Tabs]:
    with tabs_of(browser, site) as tabs:
        yield tabs


@pytest.fixture
def other_tabs(browser: Browser, site: str) -> Iterator[Tabs]:
    """Of somebody else."""
    with tabs_of(browser, site) as tabs:
        yield tabs


def open_page(tabs: Tabs, broker: Broker, example: str, place: str = "", settings: str = "") -> Page:
    """The page of an example."""
    return tabs.visit(f"docs/examples/{example}/index", f"?broker={broker.socket_url}{settings}#{place}")


def enter(tabs: Tabs, broker: Broker, example: str, place: str, name: str) -> Page:
    """Come in at its door."""
    page = open_page(tabs, broker, example, place)
    page.get_by_label("Your name").fill(name)
    page.locator("#door button").click()
    is_connected(page)
    return page


def is_connected(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("connected")


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="message").fill(text)
    page.keyboard.press("Enter")


def lines(page: Page) -> Locator:
    """What was said, without who came and went."""
    return page.get_by_label("messages").locator("li:not(.notice)")


def items(page: Page, label: str) -> Locator:
    return page.get_by_label(label, exact=True).get_by_role("listitem")


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of docs/examples; the broker's address is its last argument."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / command[0]), *command[1:]], stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_chat_of_two_shows_who_comes_and_goes_and_what_was_said_before(
    tabs: Tabs, other_tabs: Tabs, broker: Broker
) -> None:
    """SPEC 10: joined and left; 3.2.5: what was said before."""
    ann = enter(tabs, broker, "chat", "tea", "Ann")
    say(ann, "anybody <b>here</b>?")
    expect(lines(ann)).to_contain_text(["anybody <b>here</b>?"])
    bob = enter(other_tabs, broker, "chat", "tea", "Bob")
    expect(lines(bob)).to_contain_text(["anybody <b>here</b>?"])
    expect(items(bob, "people")).to_have_text(["AAnn", "BBobyou"])
    expect(items(ann, "people")).to_have_text(["AAnnyou", "BBob"])
    expect(ann.get_by_text("Bob came in")).to_be_visible()
    say(bob, "me")
    expect(lines(ann)).to_contain_text(["anybody", "me"])
    expect(bob.locator(".pending")).to_have_count(0)
    bob.close()
    expect(ann.get_by_text("Bob left")).to_be_visible()
    expect(items(ann, "people")).to_have_count(1)
    ann.reload()
    expect(lines(ann)).to_contain_text(["anybody", "me"])


def test_chat_in_two_tabs_is_one_connection(tabs: Tabs, broker: Broker) -> None:
    one = enter(tabs, broker, "chat", "coffee", "Cid")
    two = enter(tabs, broker, "chat", "coffee", "Dan")
    for page in (one, two):
        expect(page.get_by_text("2 tabs, one connection")).to_be_visible()
        expect(items(page, "people")).to_have_count(2)
    say(one, "to the other tab")
    expect(lines(two)).to_contain_text(["to the other tab"])


def test_chat_shows_earlier_lines_and_sends_what_was_said_offline(tabs: Tabs, broker: Broker) -> None:
    """In memory, so that a killed broker leaves a gap (G4)."""
    ann = enter(tabs, broker, "chat", "forgetful", "Ann")
    for number in range(35):
        say(ann, f"line {number}")
    expect(ann.locator(".pending")).to_have_count(0)
    ann.reload()
    expect(lines(ann)).to_have_count(30)
    ann.get_by_role("button", name="earlier messages").click()
    expect(lines(ann)).to_have_count(35)
    expect(lines(ann).first).to_contain_text("line 0")
    expect(ann.get_by_role("button", name="earlier messages")).to_be_hidden()
    broker.kill()
    expect(ann.get_by_role("status")).to_have_text("offline, trying again")
    say(ann, "in between")
    expect(ann.locator(".pending")).to_contain_text("in between")
    broker.start()
    expect(ann.locator(".pending")).to_have_count(0)
    expect(ann.get_by_text("messages may be missing here (reset)")).to_be_visible()
    expect(lines(ann).last).to_contain_text("in between")


def where(page: Page, name: str) -> str:
    """Where a player is, as a page sees it."""
    return items(page, "players").filter(has_text=name).locator("small").inner_text()


def test_players_see_each_other_move_and_go_where_they_point(tabs: Tabs, other_tabs: Tabs, broker: Broker) -> None:
    with running("game/game_server.py", "pages", broker.socket_url):
        ann = enter(tabs, broker, "game", "pages", "Ann")
        bob = enter(other_tabs, broker, "game", "pages", "Bob")
        for page in (ann, bob):
            expect(items(page, "players")).to_have_count(2)
        for mover, watcher, name in ((ann, bob, "Ann"), (bob, ann, "Bob")):
            before = where(watcher, name)
            away = "ArrowLeft" if float(before.partition(",")[0]) > 50 else "ArrowRight"
            mover.keyboard.down(away)
            place = items(watcher, "players").filter(has_text=name).locator("small")
            expect(place).not_to_have_text(before)
            mover.keyboard.up(away)
        bob.close()
        expect(items(ann, "players")).to_have_count(1)
        hold_pointer(ann, 0.25, 0.75)
        ann.wait_for_function(
            """() => {
              const [x, y] = document.querySelector("#players .me small")?.textContent.split(", ") ?? [];
              return Math.abs(x - 25) <= 2 && Math.abs(y - 75) <= 2;
            }"""
        )


def hold_pointer(page: Page, x: float, y: float) -> None:
    """Press it there in the yard; each from 0 to 1."""
    yard = page.locator("canvas").bounding_box()
    assert yard
    page.mouse.move(yard["x"] + yard["width"] * x, yard["y"] + yard["height"] * y)
    page.mouse.down()


def host(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name)


def test_dashboard_shows_figures_and_what_of_them_is_old(tabs: Tabs, broker: Broker) -> None:
    """A stopped machine is silent, a killed one is gone (its will), and offline nothing is known."""
    source = ("dashboard/dashboard_source.py", "--interval", "0.05", "--url", broker.socket_url)
    with running(*source, "db-1"), running(*source, "web-1") as web:
        page = open_page(tabs, broker, "dashboard", settings="&silent=1")
        for name in ("db-1", "web-1"):
            expect(host(page, name).locator(".state")).to_have_text("live")
            expect(host(page, name).get_by_role("listitem")).to_have_count(7)
        cpu = host(page, "web-1").get_by_role("listitem").filter(has_text="cpu").locator("b")
        expect(cpu).not_to_have_text(cpu.inner_text())  # another figure is there
        web.send_signal(signal.SIGSTOP)
        expect(host(page, "web-1").locator(".state")).to_contain_text("silent for")
        expect(host(page, "db-1").locator(".state")).to_have_text("live")
        web.send_signal(signal.SIGCONT)
        expect(host(page, "web-1").locator(".state")).to_have_text("live")
        web.kill()
        expect(host(page, "web-1").locator(".state")).to_have_text("gone")
        broker.kill()
        expect(page.get_by_role("alert")).to_contain_text("these figures are old")
        expect(host(page, "db-1").locator(".state")).to_have_text("unknown")
        broker.start()
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(host(page, "db-1").locator(".state")).to_have_text("live")


def text_of(page: Page) -> Locator:
    return page.get_by_role("textbox", name="text")


def test_rules_of_the_editor_hold_in_javascript(tabs: Tabs, broker: Broker) -> None:
    """vectors.json: the same cases as in Python."""
    page = open_page(tabs, broker, "editor", "vectors")
    vectors = json.loads((EXAMPLES / "editor" / "vectors.json").read_text(encoding="utf-8"))
    rebased = page.evaluate(
        """async (cases) => {
          const { apply, rebase } = await import("./shared_text.js");
          return cases.map(({ text, mine, theirs }) => {
            const rebased = rebase(mine, theirs);
            apply(rebased, apply(theirs, text));
            return [rebased, rebase(mine, theirs, true)];
          });
        }""",
        vectors["rebase"],
    )
    assert rebased == [[case["rebased"], case["mine_first"]] for case in vectors["rebase"]]
    logs = page.evaluate(
        """async (logs) => {
          const { SharedText } = await import("./shared_text.js");
          return logs.map(({ messages }) => {
            const shared = new SharedText();
            const counts = messages.map((data, number) => {
              const before = shared.version;
              shared.take(`m${number}`, data);
              return shared.version > before;
            });
            return [counts, shared.text, shared.version];
          });
        }""",
        vectors["logs"],
    )
    assert logs == [[case["counts"], case["text"], case["version"]] for case in vectors["logs"]]


def test_editors_type_at_once_and_have_one_text_over_a_kill_of_the_broker(
    tabs: Tabs, other_tabs: Tabs, broker: Broker
) -> None:
    """G2, G3, G4 at work: nothing typed is lost, online or not, and the caret stays where it is."""
    ann, bob = (open_page(each, broker, "editor", "poem") for each in (tabs, other_tabs))
    for page in (ann, bob):
        expect(text_of(page)).to_be_enabled()
    text_of(ann).press_sequentially("ann😀 ")
    expect(text_of(bob)).to_have_value("ann😀 ")
    text_of(bob).press("End")
    type_in_turns(ann, bob, "abcdefgh", "ABCDEFGH")
    have_one_text(ann, bob)
    broker.kill()
    for page in (ann, bob):
        expect(page.get_by_role("status")).to_have_text("offline, trying again")
    type_in_turns(ann, bob, "ijkl", "IJKL")
    expect(ann.locator("#saved")).to_contain_text("saving")
    broker.start()
    type_in_turns(ann, bob, "mnop", "MNOP")
    have_one_text(ann, bob)
    text = text_of(ann).input_value()
    assert sorted(text) == sorted("ann😀 abcdefghijklmnopABCDEFGHIJKLMNOP")
    for letters in ("abcdefghijklmnop", "ABCDEFGHIJKLMNOP"):
        assert "".join(letter for letter in text[5:] if letter in letters) == letters  # as they were typed
    late = open_page(tabs, broker, "editor", "poem")
    expect(text_of(late)).to_have_value(text)


def type_in_turns(ann: Page, bob: Page, one: str, other: str) -> None:
    """A letter here, a letter there, without waiting for anything."""
    for letter, another in zip(one, other, strict=True):
        text_of(ann).press(letter)
        text_of(bob).press(another)


def are_equally_far(*pages: Page) -> None:
    """Until everything is saved and known everywhere: who has saved something last knows the version."""
    for page in pages:
        expect(page.locator("#saved")).to_contain_text("saved")
    newest = max(int(page.locator("#saved").inner_text().rpartition(" ")[2]) for page in pages)
    for page in pages:
        expect(page.locator("#saved")).to_have_text(f"saved · version {newest}")


def have_one_text(ann: Page, bob: Page) -> None:
    are_equally_far(ann, bob)
    expect(text_of(bob)).to_have_value(text_of(ann).input_value())


def test_word_that_is_being_composed_is_not_disturbed(tabs: Tabs, other_tabs: Tabs, broker: Broker) -> None:
    """With an input method: what others type meanwhile is shown when the word is done, and nothing is lost."""
    ann, bob = (open_page(each, broker, "editor", "words") for each in (tabs, other_tabs))
    text_of(ann).press_sequentially("[]")
    text_of(ann).press("ArrowLeft")
    expect(text_of(bob)).to_have_value("[]")
    devtools = ann.context.new_cdp_session(ann)
    devtools.send("Input.imeSetComposition", {"text": "ni", "selectionStart": 2, "selectionEnd": 2})
    text_of(bob).press("Home")
    text_of(bob).press_sequentially("so: ")
    are_equally_far(ann, bob)
    expect(text_of(ann)).to_have_value("[ni]")
    devtools.send("Input.insertText", {"text": "你"})
    for page in (ann, bob):
        expect(text_of(page)).to_have_value("so: [你]")


def test_editor_takes_line_ends_of_others(tabs: Tabs, broker: Broker) -> None:
    page = open_page(tabs, broker, "editor", "lines")
    expect(text_of(page)).to_be_enabled()
    page.evaluate(
        """async (url) => {
          const another = new Triode(url);
          await another.publish("documents/lines/ops", { parent: 0, changes: [["one\\r\\ntwo\\r\\nthree"]] });
          await another.close();
        }""",
        broker.socket_url,
    )
    expect(text_of(page)).to_have_value("one\ntwo\nthree")
    text_of(page).press("Control+End")
    text_of(page).press("!")
    expect(text_of(page)).to_have_value("one\ntwo\nthree!")
    late = open_page(tabs, broker, "editor", "lines")
    expect(text_of(late)).to_have_value("one\ntwo\nthree!")


def test_editor_begins_from_a_snapshot_and_meets_the_one_in_the_terminal(tabs: Tabs, broker: Broker) -> None:
    page = open_page(tabs, broker, "editor", "long")
    expect(text_of(page)).to_be_enabled()
    page.evaluate(TYPE_ONE_BY_ONE, 101)
    later = open_page(tabs, broker, "editor", "long")
    expect(text_of(later)).to_have_value("x" * 101)
    expect(later.locator("#saved")).to_have_text("saved · version 101")
    editor = [sys.executable, str(EXAMPLES / "editor" / "editor.py"), "long", broker.socket_url]
    subprocess.run(editor, input=b"\nfrom the terminal\n", stdout=subprocess.DEVNULL, check=True, timeout=30)
    expect(text_of(page)).to_have_value("x" * 101 + "\nfrom the terminal\n")
