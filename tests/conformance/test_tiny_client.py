"""The tiny client of docs/examples at a real broker: what scripts have shown is no show."""

import queue
from typing import Any

import tiny_client
import trio

from tests.client.running import running

PATIENCE_SECONDS = 30


async def test_it_receives_what_it_publishes_and_resumes_from_its_position() -> None:
    heard: queue.Queue[tuple[str, Any]] = queue.Queue()

    def tell(event: str, **values: Any) -> None:
        heard.put((event, values.get("message", {}).get("data")))

    async def next_message() -> Any:
        while True:
            event, data = await trio.to_thread.run_sync(lambda: heard.get(timeout=PATIENCE_SECONDS))
            if event == "message":
                return data

    async with running() as url:
        first = tiny_client.Client(f"ws{url.removeprefix('http')}/ws", tell)
        first.start()
        subscription = first.subscribe("rooms/#", tell, **{"from": "earliest"})
        first.publish("rooms/1", tell, data={"n": 1})
        assert await next_message() == {"n": 1}
        stored = subscription.position
        await trio.to_thread.run_sync(first.close)
        second = tiny_client.Client(first.url, tell)
        second.start()
        second.publish("rooms/1", tell, data={"n": 2})
        second.subscribe("rooms/#", tell, after=stored)
        assert await next_message() == {"n": 2}
        await trio.to_thread.run_sync(second.close)
