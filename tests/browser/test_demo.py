"""The main job as users run it: a broker process, a log that the command line follows, a real browser."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cable import Cable
from tests.browser.processes import Broker, follow, publish_lines
from tests.browser.screen import rows, states, texts
from tests.security.withdrawing import SECRET, token

pytestmark = pytest.mark.browser

SOME_FIGURES = "?filter=demo/host/load&filter=logs/%23"  # one row a second: the table keeps 200
ONLY_LOGS = "?filter=logs/%23"
TOPIC = "logs/app"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[logging.Logger]:
    """A program's log, in a real file: log.handlers[0].baseFilename."""
    log = logging.Logger("shop", logging.INFO)
    file = logging.FileHandler(tmp_path / "shop.log")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    log.addHandler(file)
    yield log
    file.close()


def file_of(log: logging.Logger) -> Path:
    handler = log.handlers[0]
    assert isinstance(handler, logging.FileHandler)
    return Path(handler.baseFilename)


def newest(page: Page, topic: str, text: str) -> None:
    """Wait until a message with this text is shown."""
    expect(page.locator("#messages tr", has_text=topic).filter(has_text=text).first).to_be_visible()


def test_page_shows_this_machines_figures_live(page: Page, broker: Broker) -> None:
    page.goto(broker.url)
    expect(page.locator("#state")).to_have_text("live")
    for figure in ("CPU busy, %", "Load, 1 minute", "Memory used, %", "Network in, bytes/s"):
        expect(page.get_by_label(figure)).not_to_be_empty()
    expect(page.locator("#messages tr", has_text="demo/host/memory").nth(2)).to_be_visible()
    offsets = [int(row.offset) for row in rows(page, "demo/host/memory")]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


def test_page_asks_for_a_token_where_one_is_needed(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S15: and with one it shows what this machine publishes, which has let itself in."""
    secret, file = tmp_path / "secret", tmp_path / "guarded.toml"
    secret.touch(0o600)
    secret.write_text(SECRET)
    rule = '[[permissions]]\nsubscribe = ["demo/#", "logs/#"]\n'
    file.write_text(f'[[tokens]]\nalgorithm = "HS256"\nkey_file = "{secret}"\n{rule}')
    monkeypatch.setenv("TRIODE_CONFIG", str(file))
    broker = Broker(tmp_path / "broker.log")
    broker.start()
    try:
        page.goto(broker.url)
        expect(page.locator("#state")).to_have_text("stopped by 4001")
        page.get_by_label("Token").fill(token("ada"))
        page.get_by_label("Token").press("Enter")
        expect(page.locator("#state")).to_have_text("live")
        expect(page.get_by_label("Load, 1 minute")).not_to_be_empty()
    finally:
        broker.end()


def test_page_survives_the_death_of_the_broker(page: Page, broker: Broker, log: logging.Logger) -> None:
    """kill -9 and a new life under the open page: it waits, comes back, says what is lost, and is live again."""
    page.goto(broker.url + SOME_FIGURES)
    expect(page.locator("#state")).to_have_text("live")
    newest(page, "demo/host/load", "load_1_minute")
    log.info("order 1 paid")
    with follow(file_of(log), broker, TOPIC):
        newest(page, TOPIC, "order 1 paid")
        log.warning("order 2 refused: card expired")
        newest(page, TOPIC, "order 2 refused: card expired")
        expect(page.locator("#gaps")).to_have_text("0")

        broker.kill()
        expect(page.locator("#state")).to_contain_text("waiting")
        log.info("order 3 paid")
        broker.start()

        expect(page.locator("#reconnects")).to_have_text("1")
        expect(page.locator("#state")).to_have_text("live")
        newest(page, TOPIC, "order 3 paid")
        log.info("order 4 paid")
        newest(page, TOPIC, "order 4 paid")
    said = states(page)
    assert said[said.index("waiting") - 1] == "live"
    assert said[-1] == "live"
    everything = [line.strip() for line in file_of(log).read_text().splitlines()]
    assert texts(page, TOPIC) == everything
    gaps = [row for row in rows(page) if row.kind == "gap"]
    assert {gap.topic for gap in gaps} == {"demo/host/load", "logs/#"}
    assert {gap.text for gap in gaps} == {"gap: reset"}
    expect(page.locator("#gaps")).to_have_text(str(len(gaps)))
    shown = [row.text for row in rows(page)]
    lost_at = next(place for place, row in enumerate(rows(page)) if row.kind == "gap" and row.topic == "logs/#")
    assert shown.index(everything[1]) < lost_at < shown.index(everything[2])


def test_reconnect_loses_nothing(page: Page, broker: Broker) -> None:
    """G4: the line is cut while messages go on; each is shown once, in order, and no gap."""
    lines = [f"request {number} served in {number % 7} ms" for number in range(120)]
    with Cable(broker.port) as cable:
        page.goto(f"http://127.0.0.1:{cable.port}/{ONLY_LOGS}")
        expect(page.locator("#state")).to_have_text("live")
        publish_lines(broker, TOPIC, lines[:30])
        newest(page, TOPIC, lines[29])

        cable.cut()
        expect(page.locator("#state")).to_contain_text("waiting")
        publish_lines(broker, TOPIC, lines[30:90])
        assert texts(page, TOPIC) == lines[:30]
        cable.mend()

        newest(page, TOPIC, lines[89])
        expect(page.locator("#state")).to_have_text("live")
        publish_lines(broker, TOPIC, lines[90:])
        newest(page, TOPIC, lines[-1])
        assert texts(page, TOPIC) == lines
        assert [int(row.offset) for row in rows(page, TOPIC)] == list(range(1, 121))
        expect(page.locator("#gaps")).to_have_text("0")
        expect(page.locator("#reconnects")).to_have_text("1")


def test_cuts_in_the_stream_lose_nothing(page: Page, broker: Broker, log: logging.Logger) -> None:
    """G4, with lines on their way at the moment of every cut."""
    with Cable(broker.port) as cable, follow(file_of(log), broker, TOPIC):
        page.goto(f"http://127.0.0.1:{cable.port}/{ONLY_LOGS}")
        expect(page.locator("#state")).to_have_text("live")
        for cut in range(3):
            for number in range(50):
                log.info("cut %d line %d", cut, number)
            newest(page, TOPIC, f"cut {cut} line ")
            cable.cut()
            log.info("cut %d in the dark", cut)
            cable.mend()
        log.info("the end")
        newest(page, TOPIC, "the end")
        assert texts(page, TOPIC) == file_of(log).read_text().splitlines()
        expect(page.locator("#gaps")).to_have_text("0")
        assert int(page.locator("#reconnects").inner_text()) >= 1


def test_what_people_publish_is_shown_as_text(page: Page, broker: Broker) -> None:
    page.goto(broker.url + ONLY_LOGS.replace("logs/", ""))
    expect(page.locator("#state")).to_have_text("live")
    markup = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    publish_lines(broker, "logs/<b>", [markup, "after it"])
    newest(page, "logs/<b>", "after it")
    assert texts(page, "logs/<b>") == [markup, "after it"]
    assert page.locator("#messages img, #messages script, #messages b").count() == 0
    expect(page).to_have_title("Triode")


def test_order_of_end_is_told_to_the_page(page: Page, broker: Broker) -> None:
    """SIGTERM: bye with 4200, so the page waits as long as it is told and comes back to the next life."""
    page.goto(broker.url)
    expect(page.locator("#state")).to_have_text("live")
    assert broker.stop() == 0
    expect(page.locator("#state")).to_contain_text("waiting")
    assert "bye: draining" in [row.text for row in rows(page)]
    broker.start()
    expect(page.locator("#state")).to_have_text("live")
    expect(page.locator("#reconnects")).to_have_text("1")
