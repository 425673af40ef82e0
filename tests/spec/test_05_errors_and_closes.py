"""SPEC 5: errors, which when and what to do about them; bye and close codes. Black box."""

import re
from typing import Any

import pytest
import trio
from triode_protocol.errors import CLOSE_RANGES, RETRY, CloseCode, ErrorName

from tests.spec.broker import RunningBroker
from tests.spec.conftest import StartBroker
from tests.spec.transcripts import SPEC


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nonsense", {"name": "malformed"}),
        ('{"type":"nope","id":7,"sub":3}', {"name": "unsupported", "id": 7, "sub": 3, "field": "type"}),
        ('{"type":"subscribe","id":7,"sub":"x"}', {"name": "malformed", "id": 7, "field": "sub"}),
        ('{"type":"subscribe","sub":3}', {"name": "malformed", "sub": 3, "field": "filter"}),
        ('{"type":"publish","id":7,"topic":"","data":1}', {"name": "bad_topic", "id": 7, "field": "topic"}),
        ('{"type":"unsubscribe","sub":3}', {"name": "no_such_subscription", "sub": 3, "field": "sub"}),
    ],
)
async def test_error_names_what_failed(broker: RunningBroker, text: str, expected: dict[str, Any]) -> None:
    """SPEC 5.1.1: `id` and `sub` of the packet where they could be read, and nothing that is not so."""
    client = await broker.connect()
    await client.send_text(text)
    error = await client.expect("error")
    assert error == {"type": "error", "message": error["message"], "retry": RETRY[expected["name"]]} | expected
    assert isinstance(error["message"], str)
    await client.has_nothing_more()


async def test_error_says_a_bounded_amount(broker: RunningBroker) -> None:
    """SPEC 5.1.1, 8.7: whatever the client wrote, it does not come back at length."""
    client = await broker.connect()
    await client.send_text('{"type":"' + "x" * 60_000 + '","id":2}')
    assert len(await client.receive_text()) < 1_000
    await client.send_text('{"type":"ping","' + "y" * 60_000 + '":1}')
    assert len(await client.receive_text()) < 1_000


async def test_errors_cost_a_packet_each_and_never_the_connection(broker: RunningBroker) -> None:
    """SPEC 5.1.2"""
    client = await broker.connect()
    await client.send(*({"type": "publish", "id": n, "topic": "a//b", "data": 1} for n in range(2, 502)))
    assert [(await client.expect("error"))["id"] for _ in range(500)] == list(range(2, 502))
    await client.has_nothing_more()


def test_every_error_has_a_retry_of_the_list() -> None:
    """SPEC 5.1.3"""
    assert set(RETRY) == {name.value for name in ErrorName}
    assert set(RETRY.values()) <= {"never", "now", "backoff", "reauth"}


def table_of_errors() -> dict[str, set[str]]:
    """SPEC 5.2.1 as data."""
    section = SPEC.read_text(encoding="utf-8").split("**5.2.1**")[1].split("**5.2.2**")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    return {packet.strip("`"): set(re.findall("`([a-z_]+)`", errors)) for packet, errors in rows}


@pytest.mark.parametrize(
    "packet",
    [
        {"type": "connect"},
        {"type": "subscribe", "sub": 2, "filter": "a//b"},
        {"type": "subscribe", "sub": 1, "filter": "a"},
        {"type": "subscribe", "sub": 2, "filter": "b"},
        {"type": "unsubscribe", "sub": 9},
        {"type": "publish", "topic": "a/+", "data": 1},
        {"type": "publish", "topic": "a", "data": 2, "message_id": "m"},
        {"type": "history", "topic": "a/+"},
    ],
    ids=str,
)
async def test_errors_come_where_the_table_says(start_broker: StartBroker, packet: dict[str, Any]) -> None:
    """SPEC 5.2.1"""
    table = table_of_errors()
    assert set().union(*table.values()) <= set(RETRY)
    broker = await start_broker(limits={"max_subscriptions": 1})
    client = await broker.connect()
    await client.subscribe(1, "a")
    await client.publish("a", 1, message_id="m")
    error = await client.request(packet)
    assert error["type"] == "error"
    assert error["name"] in table[packet["type"]]
    assert error["retry"] == RETRY[error["name"]]


async def test_publish_whose_answer_was_lost_can_be_made_sure_of(broker: RunningBroker) -> None:
    """SPEC 5.2.2, 8.2: sent, cut before the answer was read, sent again: stored once."""
    watcher = await broker.connect()
    await watcher.subscribe(1, "a")
    for n in range(20):
        client = await broker.connect()
        packet = {"type": "publish", "topic": "a", "data": n, "message_id": f"m-{n}"}
        await client.send({**packet, "id": 2})
        await client.cut()
        again = await broker.connect()
        assert (await again.request(packet))["offset"] == n + 1
    assert [(await watcher.expect("message"))["data"] for _ in range(20)] == list(range(20))
    await watcher.has_nothing_more()


async def test_server_that_ends_says_bye_to_everybody(start_broker: StartBroker) -> None:
    """SPEC 5.3.1, 3.8.1: connected or not."""
    broker = await start_broker()
    clients = [await broker.connect(), await broker.connect(capabilities=["batch"]), await broker.open()]
    await clients[0].subscribe(1, "#")
    await broker.stop()
    for client in clients:
        await client.expect("bye", code=4100, name="shutdown")
        assert await client.closed() == 4100


async def test_publish_that_was_answered_is_delivered_before_the_bye(start_broker: StartBroker) -> None:
    """SPEC 8.5, 5.3.1: what was accepted for a client that reads is not dropped by the end."""
    broker = await start_broker()
    client = await broker.connect()
    await client.subscribe(1, "a")
    await client.send(*({"type": "publish", "id": n, "topic": "a", "data": n} for n in range(2, 302)))
    assert (await client.receive())["type"] == "message"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.stop)
        assert await client.closed() == 4100
    kinds = [packet["type"] for packet in client.packets]
    assert (kinds.count("published"), kinds.count("message"), kinds[-1]) == (300, 299, "bye")


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_close_of_the_client_is_answered_with_its_code(broker: RunningBroker, code: int) -> None:
    """SPEC 3.8.1"""
    client = await broker.connect()
    await client.close(code)
    assert client.websocket.closed is not None
    assert client.websocket.closed.code == code


def test_every_close_code_belongs_to_one_range_and_its_action_follows() -> None:
    """SPEC 5.3.2"""
    for code in CloseCode:
        assert sum(first <= code <= last for first, last, _ in CLOSE_RANGES) == 1
    assert {action for _, _, action in CLOSE_RANGES} == {"stop", "backoff", "once"}


def test_tables_of_the_specification_name_every_code_and_error() -> None:
    """SPEC 5.1.1, 5.3.1, 4.6.4"""
    text = SPEC.read_text(encoding="utf-8")
    for code in CloseCode:
        assert f"| {code.value} | `{code.name.lower()}` |" in text
    for name in ErrorName:
        assert f"| `{name.value}` | {RETRY[name]} |" in text
