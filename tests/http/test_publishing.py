"""Publishing by HTTP through a whole broker: one, many, and streams (SPEC 3.4 by another way in)."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.admin.running import Running
from tests.http.asking import LINES, error_of, served
from tests.spec.client import RawClient

Served = tuple[Running, httpx.AsyncClient]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, limits={"max_packet_bytes": 2_000, "max_inflight_publishes": 8}) as found:
        yield found


async def history(client: httpx.AsyncClient, topic: str) -> list[Any]:
    """The messages of a topic."""
    answer = await client.get("/v1/history", params={"topic": topic, "limit": 1_000})
    return list(answer.json()["messages"])


async def test_message_arrives_as_if_by_websocket(here: Served, nursery: trio.Nursery) -> None:
    """S13: one way in like the other; `data` is passed on byte by byte."""
    running, client = here
    subscriber = await RawClient.open(nursery, running.url)
    await subscriber.ask({"type": "connect", "id": 1})
    await subscriber.subscribe(1, "room/#")
    fields = {
        "topic": "room/a",
        "data": {"n": 1.50, "text": "é\u2028", "deep": [[[]]]},
        "message_id": "m1",
        "headers": {"trace": "1"},
        "ttl_ms": 60_000,
    }
    answer = await client.post("/v1/publish", json=fields)
    assert answer.status_code == 200
    receipt = answer.json()
    got = await subscriber.expect("message", topic="room/a", message_id="m1", headers={"trace": "1"})
    assert got["data"] == fields["data"]
    assert {name: got[name] for name in ("log", "pos", "offset")} == {
        name: receipt[name] for name in ("log", "pos", "offset")
    }
    assert receipt["level"] == "memory"
    answer = await client.post("/v1/publish", json={"topic": "room/b", "b64": "AP8="})
    assert (await subscriber.expect("message", topic="room/b"))["b64"] == "AP8="
    answer = await client.post("/v1/publish", json={"topic": "room/c", "data": None})
    assert (await subscriber.expect("message", topic="room/c"))["data"] is None
    await subscriber.cut()


async def test_disk_is_waited_for(here: Served) -> None:
    """G3: the answer comes when it is there."""
    _, client = here
    answer = await client.post("/v1/publish", json={"topic": "jobs/1", "data": 1})
    assert answer.json()["level"] == "disk"


async def test_again_is_the_first_answer_and_says_so(here: Served) -> None:
    """G2: by `message_id`, or by the header where there is none."""
    _, client = here
    body = {"topic": "room/a", "data": 1}
    first = (await client.post("/v1/publish", json={**body, "message_id": "k"})).json()
    for headers in ({"Idempotency-Key": "k"}, {"Idempotency-Key": '"k"'}, {"Idempotency-Key": "other"}):
        fields = body if "other" not in headers.values() else {**body, "message_id": "k"}
        again = (await client.post("/v1/publish", json=fields, headers=headers)).json()
        assert again == {**first, "duplicate": True}
    assert len(await history(client, "room/a")) == 1


async def test_trace_context_of_the_request_becomes_the_messages(here: Served) -> None:
    """Where the message has none of its own; in a batch and a stream, of each."""
    _, client = here
    given = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "k=v"}
    own = {"traceparent": "00-" + "c" * 32 + "-" + "d" * 16 + "-00"}
    body = {"topic": "room/t", "data": 1}
    await client.post("/v1/publish", json={**body, "headers": {"x": "y"}}, headers=given)
    await client.post("/v1/publish", json={**body, "headers": own}, headers=given)
    await client.post("/v1/publish/batch", json={"messages": [body]}, headers=given)
    await client.post("/v1/publish", json=body, headers={"tracestate": "k=v"})
    line = b'{"topic":"room/t","data":1}'
    kind = {"Content-Type": "application/x-ndjson"}
    await client.post("/v1/publish/stream", content=line, headers={**given, **kind})
    headers = [message.get("headers", {}) for message in await history(client, "room/t")]
    assert headers == [{"x": "y", **given}, own, given, {}, given]


async def test_later_is_said(here: Served) -> None:
    _, client = here
    answer = await client.post("/v1/publish", json={"topic": "a", "data": 1, "deliver_at_ms": 2**52})
    assert error_of(answer)["field"] == "deliver_at_ms"
    soon = time.time_ns() // 1_000_000 + 3_600_000
    answer = await client.post("/v1/publish", json={"topic": "a", "data": 1, "deliver_at_ms": soon})
    assert answer.json() == {"delayed": True, "level": "memory"}


async def test_what_became_of_it_is_told(here: Served) -> None:
    """SPEC 4.12"""
    _, client = here
    answer = await client.post("/v1/publish", json={"topic": "a", "data": 1, "trace": True})
    receipt = answer.json()
    assert receipt["end"] == "complete"
    assert receipt["hops"][0]["hop"] == "accepted"
    assert receipt["hops"][-1]["reason"] == "no_subscriber"


WRONG: list[tuple[Any, int, str, str]] = [
    ({"topic": "a"}, 400, "malformed", "data"),
    ({"data": 1}, 400, "malformed", "topic"),
    ({"topic": 5, "data": 1}, 400, "malformed", "topic"),
    ({"topic": "a", "data": 1, "extra": 1}, 400, "unsupported", "extra"),
    ({"topic": "a", "data": 1, "id": 1}, 400, "unsupported", "id"),
    ({"topic": "a", "data": 1, "type": "publish"}, 400, "unsupported", "type"),
    ({"topic": "a", "data": 1, "b64": "AA=="}, 400, "malformed", "b64"),
    ({"topic": "a", "b64": "!"}, 400, "malformed", "b64"),
    ({"topic": "a/+", "data": 1}, 400, "bad_topic", "topic"),
    ({"topic": "$dead/x", "data": 1}, 400, "bad_topic", "topic"),
    ({"topic": "a", "data": 1, "ttl_ms": 0}, 400, "malformed", "ttl_ms"),
    ({"topic": "a", "data": 1, "message_id": "x" * 100}, 400, "malformed", "message_id"),
    ({"topic": "a", "data": 1, "headers": {"a": 1}}, 400, "malformed", "headers[...]"),
    ({"topic": "a", "data": "x" * 3_000}, 413, "too_large", ""),
    ({"topic": "a", "data": json.loads("[" * 40 + "]" * 40)}, 400, "malformed", "data"),
    ([], 400, "malformed", ""),
    ("text", 400, "malformed", ""),
]


async def test_what_is_wrong_is_said_with_its_field(here: Served) -> None:
    """SPEC 5.1"""
    _, client = here
    for body, status, name, field in WRONG:
        answer = await client.post("/v1/publish", json=body)
        error = error_of(answer)
        assert (answer.status_code, error["name"], error.get("field", "")) == (status, name, field), error
        assert error["message"]
        assert error["retry"] == "never"


RUBBISH = [
    b"",
    b"{",
    b"\xff",
    b'{"topic":"a","data":"\xff"}',
    b'{"topic":"a","data":NaN}',
    b"[" * 3_000,
    b'{"topic":"\\ud800","data":1}',
    b'{"topic":"a","data":' + b"[" * 5_000,
]


async def test_rubbish_is_malformed(here: Served) -> None:
    """S26"""
    _, client = here
    for body in RUBBISH:
        answer = await client.post("/v1/publish", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, error_of(answer)["name"]) == (400, "malformed"), body
    assert (await client.post("/v1/publish", json={"topic": "a", "data": 1})).status_code == 200


async def test_batch_answers_each_in_its_place(here: Served) -> None:
    _, client = here
    messages: list[Any] = [{"topic": "room/b", "data": number} for number in range(50)]
    answer = await client.post("/v1/publish/batch", json={"messages": messages})
    assert answer.status_code == 200
    assert [result["offset"] for result in answer.json()["results"]] == list(range(1, 51))
    messages[1:3] = [{"topic": "a//b", "data": 1}, "rubbish"]
    answer = await client.post("/v1/publish/batch", json={"messages": messages})
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert results[1]["error"]["name"] == "bad_topic"
    assert results[2]["error"]["name"] == "malformed"
    assert [result["offset"] for result in results if "offset" in result] == list(range(51, 99))
    assert [message["data"] for message in await history(client, "room/b")] == [*range(50), 0, *range(3, 50)]


async def test_batch_on_disk_goes_in_windows(here: Served) -> None:
    """As many on their way as a session may have."""
    _, client = here
    messages = [{"topic": f"jobs/{number % 3}", "data": number} for number in range(40)]
    answer = await client.post("/v1/publish/batch", json={"messages": messages})
    assert answer.status_code == 200
    assert {result["level"] for result in answer.json()["results"]} == {"disk"}


async def test_batch_that_is_none_is_refused_whole(here: Served) -> None:
    _, client = here
    bodies: list[Any] = [{"messages": []}, {"messages": [{}] * 1_001}, {"messages": 1}, {}, {"x": 1}]
    for body in bodies:
        answer = await client.post("/v1/publish/batch", json=body)
        assert answer.status_code == 400


async def test_stream_answers_line_by_line_and_goes_on_behind_bad_ones(here: Served) -> None:
    _, client = here
    lines = [
        b'{"topic":"s","data":1}\n',
        b"\n  \n",
        b'{"topic":"s",',
        b'"data":2}\n{"topic":"s","dato":1,"data":1}\n{"topic":"+","data":1}\nrubbish\n',
        b'{"topic":"s","data":"' + b"x" * 5_000,
        b'"}\n{"topic":"s","data":3}',
    ]

    async def send() -> AsyncIterator[bytes]:
        for line in lines:
            yield line

    answer = await client.post("/v1/publish/stream", content=send(), headers=LINES)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == LINES["Content-Type"]
    results = [json.loads(line) for line in answer.text.splitlines()]
    assert [result.get("offset") or result["error"]["name"] for result in results] == [
        *(1, 2),
        *("unsupported", "bad_topic", "malformed", "too_large"),
        3,
    ]
    assert [message["data"] for message in await history(client, "s")] == [1, 2, 3]


async def test_stream_answers_before_the_next_line_is_sent(here: Served) -> None:
    """One by one, on a disk, by a client that waits for each answer."""
    running, _ = here
    host, port = running.url.removeprefix("http://").split(":")
    with trio.fail_after(30):
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            head = "POST /v1/publish/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            await stream.send_all(f"{head}Content-Type: application/x-ndjson\r\n\r\n".encode())
            said = b""
            for number in range(1, 6):
                line = b'{"topic":"jobs/s","data":%d}\n' % number
                await stream.send_all(b"%x\r\n%b\r\n" % (len(line), line))
                while b'"offset":%d,' % number not in said:
                    said += await stream.receive_some()
            await stream.send_all(b"0\r\n\r\n")
            while piece := await stream.receive_some():
                said += piece
    assert said.endswith(b"\r\n0\r\n\r\n")


async def test_stream_that_breaks_off_says_so_and_ends(here: Served) -> None:
    running, _ = here
    host, port = running.url.removeprefix("http://").split(":")
    with trio.fail_after(30):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            head = "POST /v1/publish/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            await stream.send_all(f"{head}Content-Type: application/x-ndjson\r\n\r\nxyz\r\n".encode())
            said = b""
            while piece := await stream.receive_some():
                said += piece
    assert b'{"error":{"name":"malformed","message":"not a valid body' in said
    assert said.endswith(b"\r\n0\r\n\r\n")


async def test_long_stream_keeps_its_order(here: Served) -> None:
    """More than is on its way at a time, on disk and in memory by turns."""
    _, client = here
    body = b"".join(b'{"topic":"%b","data":%d}\n' % (b"jobs/x" if n % 2 else b"y", n) for n in range(600))
    answer = await client.post("/v1/publish/stream", content=body, headers=LINES)
    results = [json.loads(line) for line in answer.text.splitlines()]
    assert [result["level"] for result in results] == ["memory", "disk"] * 300
    assert [result["offset"] for result in results[::2]] == list(range(1, 301))
    assert [result["offset"] for result in results[1::2]] == list(range(1, 301))
