"""How the console looks and behaves, whatever it shows: themes, phones, keyboards, lost lines, hidden tabs."""

from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.console_stage import Client, Node, one_node
from tests.browser.console_visit import PHONE, Visit, visiting

pytestmark = pytest.mark.browser

#: Of text and ground, by the names of the style sheet.
PAIRS = (
    *(("--text", ground) for ground in ("--page", "--card", "--raised", "--good-card")),
    *(("--dim", ground) for ground in ("--page", "--card", "--raised")),
    *(("--accent", ground) for ground in ("--page", "--card", "--raised", "--good-card")),
    *(("--second", "--raised"), ("--third", "--raised"), ("--bad", "--raised")),
    *(("--on-accent", "--accent"), ("--warn", "--warn-card"), ("--bad", "--bad-card"), ("--bad", "--card")),
    *(("--warn", "--card"), ("--text", "--warn-card")),
)
MIN_CONTRAST = 4.5  # WCAG AA
NAME = "a-name-of-some-length-" * 2
TOPIC = "with-long-levels/" * 7 + "x"
USER = "a-user-with-a-long-name-" * 4
#: What stands in each view once it has been told.
SHOWN = {
    **dict.fromkeys(("overview", "topics", "tail?filter=%23&from=earliest"), TOPIC),
    **dict.fromkeys(("durable", f"durable/{NAME}"), NAME),
    **dict.fromkeys(("cluster", "node"), "berlin"),
    "connections": USER,
    "publish": "Trace it",
    "access": "Nobody is kept out",
}
_COLOUR = """name => {
  const probe = document.createElement("i");
  document.body.append(probe);
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found.match(/[\\d.]+/g).slice(0, 3).map(Number);
}"""
#: Controls that no words say what they are for.
_NAMELESS = """() => [...document.querySelectorAll("input, select, textarea, button, a, [role=button]")].filter(
  (one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label"))
).map((one) => one.outerHTML)"""
#: What is too small for a finger, of what can be pressed.
_SMALL = """() => [...document.querySelectorAll("button, input, select, nav a")].filter((one) => {
  const { width, height } = one.getBoundingClientRect();
  return one.type !== "checkbox" && width && (height < 36 || width < 36) && !one.closest("thead");
}).map((one) => one.outerHTML)"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """With something in every view."""
    with one_node(tmp_path_factory.mktemp("looks")) as node:
        client = Client(node, USER)
        client.subscribe("jobs/#", durable=NAME)
        client.publish(TOPIC, {"text": "long " * 90})
        client.publish("jobs/a", 1)
        yield node
        client.close()


def luminance(rgb: list[float]) -> float:
    """WCAG 2: relative luminance of an sRGB colour."""
    linear = [(c / 255 / 12.92) if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(visit: Visit, text: str, ground: str) -> float:
    """Between 1 and 21."""
    dark, light = sorted(luminance(visit.page.evaluate(_COLOUR, name)) for name in (text, ground))
    return (light + 0.05) / (dark + 0.05)


def ground(visit: Visit) -> float:
    """How bright the page is, 0 to 1."""
    return luminance(visit.page.evaluate(_COLOUR, "--page"))


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_colours_have_enough_contrast(browser: Browser, node: Node, colours: str) -> None:
    with visiting(browser, node, colours="dark" if colours == "dark" else "light") as visit:
        visit.open()
        assert {pair: ratio for pair in PAIRS if (ratio := contrast(visit, *pair)) < MIN_CONTRAST} == {}


def test_theme_follows_the_system_until_one_is_chosen(browser: Browser, node: Node) -> None:
    with visiting(browser, node, colours="dark") as visit:
        visit.open()
        assert ground(visit) < 0.1
        visit.page.get_by_label("Theme").select_option("light")
        assert ground(visit) > 0.8
        visit.page.reload()
        expect(visit.page.locator(".state")).to_have_text("Live")
        assert ground(visit) > 0.8
        visit.page.get_by_label("Theme").select_option("")
        assert ground(visit) < 0.1


def test_every_view_fits_a_phone_and_fingers(browser: Browser, node: Node) -> None:
    with visiting(browser, node, size=PHONE) as visit:
        visit.open()
        for view, what in SHOWN.items():
            visit.go(view)
            expect(visit.page.get_by_role("main")).to_contain_text(what)
            assert visit.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], view
            assert visit.page.evaluate(_NAMELESS) == [], view
            assert visit.page.evaluate(_SMALL) == [], view
        visit.page.locator(".menu").click()
        visit.page.get_by_role("link", name="Topics").click()
        expect(visit.page.locator("main h1")).to_have_text("Topics")
        expect(visit.page.locator("#menu")).to_be_hidden()


def test_keyboard_goes_everywhere(browser: Browser, node: Node) -> None:
    with visiting(browser, node) as visit:
        visit.open("topics")
        press = visit.page.keyboard.press
        press("Tab")
        expect(visit.page.get_by_role("link", name="To the content")).to_be_focused()
        for _ in range(2):
            press("Tab")
        expect(visit.page.get_by_role("link", name="Overview")).to_be_focused()
        press("Tab")
        press("Enter")
        expect(visit.page.locator("main h1")).to_have_text("Cluster")
        expect(visit.page.get_by_role("main")).to_be_focused()
        press("Tab")
        expect(visit.page.get_by_role("button", name="berlin:")).to_be_focused()
        press("Space")
        expect(visit.page.get_by_role("heading", name="Links of berlin")).to_be_visible()


def test_lost_node_is_said_and_found_again(browser: Browser, node: Node) -> None:
    with visiting(browser, node) as visit:
        visit.open("topics")
        expect(visit.row("with-long-levels")).to_be_visible()
        visit.page.route("**/v1/**", lambda route: route.abort())
        expect(visit.page.locator(".state")).to_contain_text("Connection lost")
        expect(visit.row("with-long-levels")).to_be_visible()  # what is known stays
        visit.page.unroute_all()
        expect(visit.page.locator(".state")).to_have_text("Live")
        assert all("ERR_FAILED" in said for said in visit.wrong)
        visit.wrong.clear()


def test_hidden_tab_asks_nothing(browser: Browser, node: Node) -> None:
    """Time is the test's: an hour goes by."""
    with visiting(browser, node) as visit:
        visit.page.clock.install()
        visit.open("topics")
        expect(visit.row("with-long-levels")).to_be_visible()
        hide = """isHidden => {
          Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
        visit.page.evaluate(hide, True)
        visit.page.wait_for_load_state("networkidle")
        asked: list[str] = []
        visit.page.on("request", lambda sent: asked.append(sent.url))
        visit.page.clock.run_for(3_600_000)
        assert asked == []
        with visit.page.expect_request("**/v1/figures"):
            visit.page.evaluate(hide, False)


def test_files_are_small_and_named_by_a_policy(node: Node) -> None:
    """No site may frame it (S9); what is loaded comes from here."""
    with urlopen(node.console) as answer:
        policy = answer.headers["Content-Security-Policy"]
        page = answer.read().decode()
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy + page
    assert "://" not in page
