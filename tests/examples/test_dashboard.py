"""docs/examples/dashboard: every figure of every machine, and which machine has gone silent."""

import signal

import trio
import triode

from tests.examples.programs import PATIENCE_SECONDS, Broker, next_of, program

METRICS = {"cpu", "memory", "disk", "load", "requests", "latency", "errors"}


async def test_dashboard_has_all_figures_and_learns_who_is_gone(broker: Broker) -> None:
    """SPEC 3.2.5, 10.7: a machine that says goodbye tells it itself; for one that dies its will does."""
    url = broker.socket_url
    async with (
        triode.connect(url) as client,
        client.subscribe("dash/+/up") as up,
        program("dashboard/dashboard_source.py", "web-1", "--interval", "0.01", "--url", url) as one,
        program("dashboard/dashboard_source.py", "web-2", "--interval", "0.01", "--url", url) as two,
    ):
        for host in ("web-1", "web-2"):
            assert await first_figures(client, host) == METRICS
        one.process.send_signal(signal.SIGTERM)
        await next_of(up, lambda message: message.topic == "dash/web-1/up" and message.data is False)
        await one.ends()
        await two.dies()
        await next_of(up, lambda message: message.topic == "dash/web-2/up" and message.data is False)


async def first_figures(client: triode.Client, host: str) -> set[str]:
    """The metrics that a page has of a host: those of the past and of now."""
    found: set[str] = set()
    async with client.subscribe(f"dash/{host}/+", from_="last", overflow="conflate") as messages:
        with trio.fail_after(PATIENCE_SECONDS):
            while len(found) < len(METRICS):
                message = await anext(messages)
                if not message.topic.endswith("/up"):
                    found.add(message.topic.rpartition("/")[2])
    return found


async def test_figures_are_the_same_for_the_same_seed(broker: Broker) -> None:
    url = broker.socket_url
    found = []
    async with triode.connect(url) as client:
        for _ in range(2):
            async with client.subscribe("dash/twin/cpu") as messages:
                command = ("dashboard/dashboard_source.py", "twin", "--interval", "0.01", "--url", url)
                async with program(*command):
                    found.append([(await next_of(messages, lambda _: True)).data for _ in range(3)])
        page = await client.history("dash/twin/cpu", last=100)
    assert found[0] == found[1]
    assert len({figure["value"] for figure in found[0]}) > 1
    assert found[0] == [message.data for message in page.messages[:3]]
    assert all(0 <= message.data["value"] <= 100 for message in page.messages)
