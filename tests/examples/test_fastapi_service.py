"""docs/examples/fastapi_service under uvicorn: an order that was answered with 201 is in the log."""

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio
import triode

from tests.examples.programs import EXAMPLES, Broker, program, received

FOLDER = EXAMPLES / "fastapi_service"


@asynccontextmanager
async def service(url: str, **environment: str) -> AsyncIterator[httpx.AsyncClient]:
    """The service on a port of its own; told to end, it does."""
    command = ("-m", "uvicorn", "--app-dir", FOLDER, "--port", "0", "orders_api:app")
    async with program(*command, environment={"TRIODE_URL": url, **environment}) as uvicorn:
        line = await uvicorn.until(lambda line: "running on http" in line)
        address = re.search(r"http://\S+", line)
        assert address
        async with httpx.AsyncClient(base_url=address[0]) as http:
            yield http
        uvicorn.process.send_signal(signal.SIGTERM)
        await uvicorn.until(lambda line: "Finished server process" in line)


async def test_orders_of_many_requests_are_published_once_each(broker: Broker) -> None:
    """G1, G2"""
    url = broker.socket_url
    answers: dict[int, dict[str, Any]] = {}

    async def order(http: httpx.AsyncClient, count: int) -> None:
        answer = await http.post("/orders", json={"item": "tea", "count": count})
        assert answer.status_code == 201
        answers[count] = answer.json()

    async with (
        triode.connect(url) as client,
        client.subscribe("orders/placed") as placed,
        service(url) as http,
    ):
        async with trio.open_nursery() as nursery:
            for count in range(1, 31):
                nursery.start_soon(order, http, count)
        messages = await received(placed, 30)
        assert {message.data["count"]: message.position for message in messages} == {
            count: answer["position"] for count, answer in answers.items()
        }
        assert {(answer["level"], answer["repeated"]) for answer in answers.values()} == {("disk", False)}
        recent = (await http.get("/orders/recent")).json()
        assert recent == [message.data for message in messages[-10:]]


async def test_an_order_sent_again_is_stored_once(broker: Broker) -> None:
    """G2"""
    key = {"idempotency-key": "4711"}
    async with service(broker.socket_url) as http:
        first = (await http.post("/orders", json={"item": "tea", "count": 1}, headers=key)).json()
        again = (await http.post("/orders", json={"item": "tea", "count": 1}, headers=key)).json()
        other = await http.post("/orders", json={"item": "milk", "count": 1}, headers=key)
        no_order = await http.post("/orders", json={"item": "tea", "count": 0})
    assert again == {**first, "repeated": True}
    assert (other.status_code, no_order.status_code) == (409, 422)


async def test_service_without_a_broker_starts_and_says_503() -> None:
    async with service("ws://127.0.0.1:9", ORDERS_PATIENCE_SECONDS="0.1") as http:
        answer = await http.post("/orders", json={"item": "tea", "count": 1})
        assert answer.status_code == 503
