"""docs/examples/django_service under gunicorn: what was committed is said once, what was rolled back never is."""

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio
import triode

from tests.examples.programs import EXAMPLES, Broker, Program, program, received

FOLDER = EXAMPLES / "django_service"


@asynccontextmanager
async def shop(url: str, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Program]]:
    """The shop under gunicorn, as its README starts it, with a database in a folder."""
    environment = {"TRIODE_URL": url, "SHOP_DATABASE": str(folder / "shop.sqlite3")}
    async with program("django_service/manage.py", "migrate", environment=environment) as migrate:
        await migrate.ends()
    how = ("--preload", "--workers", "2", "--threads", "4", "--bind", "127.0.0.1:0", "--no-control-socket")
    command = ("-m", "gunicorn", "--chdir", FOLDER, *how, "shop.wsgi")
    async with program(*command, environment=environment) as gunicorn:
        address = re.search(r"http://\S+", await gunicorn.until(lambda line: "Listening at" in line))
        assert address
        async with httpx.AsyncClient(base_url=address[0]) as http:
            yield http, gunicorn


async def test_committed_orders_are_told_once_from_all_workers(broker: Broker, tmp_path: Path) -> None:
    """G2, over a fork: the client was in use before the workers were there; each has a connection of its own."""
    url = broker.socket_url
    answers: list[int] = []

    async def order(http: httpx.AsyncClient, count: int) -> None:
        answers.append((await http.post("/orders", data={"item": "tea", "count": count})).status_code)

    async with triode.connect(url) as client, client.subscribe("shop/#") as told:
        async with shop(url, tmp_path) as (http, gunicorn):
            (opened,) = await received(told, 1)
            assert (opened.topic, opened.data) == ("shop/announcements", {"text": "The shop is open"})
            async with trio.open_nursery() as nursery:
                for count in range(81, 121):  # the last twenty are declined
                    nursery.start_soon(order, http, count)
            assert sorted(answers) == [201] * 20 + [402] * 20
            answer = await http.post("/announcements", data={"text": "Closing at six"})
            messages = await received(told, 21)
            gunicorn.process.send_signal(signal.SIGTERM)
            await gunicorn.ends()
        orders = [message for message in messages if message.topic == "shop/orders"]
        assert sorted(message.data["count"] for message in orders) == list(range(81, 101))
        assert {message.message_id for message in orders} == {f"order-{message.data['id']}" for message in orders}
        (announced,) = [message for message in messages if message.topic == "shop/announcements"]
        assert announced.position == answer.json()["position"]
