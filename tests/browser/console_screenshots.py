"""Takes docs/console*.png (`make screenshot`): two real nodes, real clients, one of which reads nothing."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Final

from playwright.sync_api import Browser, expect
from websockets.exceptions import ConnectionClosed

from tests.browser.chromium import open_browser
from tests.browser.console_stage import Client, Deaf, Node, two_nodes
from tests.browser.console_visit import DESK, PHONE, visiting

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
MAX_BYTES: Final = 200_000
SECONDS: Final = 62  # of traffic, so that the charts are full
TOPICS: Final = (
    "orders/tea",
    "orders/coffee",
    "rooms/42/chat",
    "rooms/7/chat",
    "sensors/oslo/air",
    "sensors/berlin/air",
)


def talk(node: Node, user: str, number: int, is_over: Event) -> None:
    """Publish, more in some seconds than in others."""
    client, count = Client(node, user), 0
    while not is_over.wait(0.004 + 0.012 * ((time.monotonic() / 9 + number / 3) % 1)):
        client.publish(TOPICS[(count + number) % len(TOPICS)], {"n": count, "by": user, "ok": True})
        count += 1
    client.close()


def listen(node: Node, user: str, filter: str, is_over: Event) -> None:
    """Take what comes."""
    client = Client(node, user)
    client.subscribe(filter)
    with suppress(ConnectionClosed):  # at the end nobody talks any more, and then the node goes
        while not is_over.is_set():
            client.hear("message")
    client.close()


@contextmanager
def busy(nodes: tuple[Node, Node]) -> Iterator[None]:
    """Traffic until the end of the block."""
    is_over = Event()
    berlin, paris = nodes
    listeners = (
        *((berlin, "ada", "rooms/#"), (berlin, "grace", "orders/+"), (berlin, "alan", "#")),
        *((paris, "linus", "sensors/#"), (paris, "barbara", "#"), (paris, "edsger", "orders/#")),
    )
    talkers = ((berlin, "shop", 0), (paris, "house", 1), (paris, "web", 2))
    threads = [Thread(target=listen, args=(*one, is_over), daemon=True) for one in listeners]
    threads += [Thread(target=talk, args=(*one, is_over), daemon=True) for one in talkers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(5)


def sleepy(node: Node) -> Deaf:
    """A subscriber that takes nothing; who does not answer pings either is sent away soon."""
    deaf, flood = Deaf(node, "sleepy", "flood/#"), Client(node, "import")
    for _ in range(100):
        flood.publish("flood/a", "x" * 60_000)
    flood.close()
    return deaf


def jobs(node: Node) -> None:
    """A durable subscription that is behind, and has a letter that nobody could do."""
    worker = Client(node, "worker")
    worker.subscribe("jobs/#", durable="mailer")
    worker.publish("jobs/mail", {"to": "ada@example.org", "template": "welcome"})
    said = worker.hear("delivery")
    place = {name: said["message"][name] for name in ("log", "pos")}
    worker.ask("nack", "acked", sub=said["sub"], attempt=1, reject=True, **place)
    worker.close()
    client = Client(node, "shop")
    for number in range(40):
        client.publish("jobs/mail", {"to": "grace@example.org", "n": number})
    client.close()


def take(browser: Browser, node: Node) -> None:
    """The pictures."""
    with (
        visiting(browser, node) as light,
        visiting(browser, node, colours="dark") as dark,
        visiting(browser, node, size=PHONE) as phone,
    ):
        for visit in (light, dark, phone):
            visit.open()
        light.page.wait_for_timeout(SECONDS * 1_000)
        light.page.screenshot(path=DOCS / "console.png", clip={"x": 0, "y": 0, **DESK})
        dark.go("cluster")
        expect(dark.page.locator("g.node")).to_have_count(2)
        dark.page.screenshot(path=DOCS / "console-dark.png")
        phone.page.screenshot(path=DOCS / "console-phone.png")
        deaf = sleepy(node)
        for view in ("connections", "topics", "durable", "tail"):
            light.go(view if view != "tail" else "tail?filter=rooms/%23")
            light.page.wait_for_timeout(3_000)
            light.page.screenshot(path=DOCS / f"console-{view}.png")
        deaf.close()


def main() -> None:
    """Write them."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser, two_nodes(Path(folder)) as nodes:
        jobs(nodes[0])
        with busy(nodes):
            take(browser, nodes[0])
    for picture in DOCS.glob("console*.png"):
        assert picture.stat().st_size <= MAX_BYTES, picture


if __name__ == "__main__":
    main()
