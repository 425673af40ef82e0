"""The page of metrics: of a busy broker, read as Prometheus reads it; bounded, rising, without anybody's names."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
import triode
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from triode_broker.cli.main import main
from triode_broker.departures import label
from triode_broker.http.metrics_page import MISSING, NoMetrics, page
from triode_broker.http.metrics_table import METRICS
from triode_protocol.packets import Publish

from tests.admin.running import PATIENCE_SECONDS, Running, running

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(node: Running, accept: str = "") -> str:
    """The page, as an operator gets it at the socket."""
    answer = await node.ask("metrics", accept=accept)
    assert ("openmetrics" in answer["content_type"]) == ("openmetrics" in accept)
    return str(answer["text"])


def samples(text: str, kinds: tuple[str, ...] = ("counter", "histogram")) -> Samples:
    """Those of families of these kinds."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in plain_text(text)
        if family.type in kinds
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    """Of the one sample with these labels."""
    found = [
        sample.value
        for family in plain_text(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    (one,) = found
    return one


async def be_busy(client: triode.Client, count: int) -> None:
    """Publish to memory and to disk, and read."""
    async with client.subscribe("news/#") as news:
        for number in range(count):
            await client.publish("news/one", number)
            await client.publish("jobs/one", number)
            await anext(news)


async def test_page_of_a_busy_broker_is_what_prometheus_reads_and_counters_only_rise(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        async with triode.connect(node.url) as client:
            await be_busy(client, 5)
            first = await scrape(node)
            await be_busy(client, 5)
            second = await scrape(node)
        last = await scrape(node)
    names = {family.name for family in plain_text(second)}
    assert names >= {f"triode_{one.name}" for one in METRICS if one.kind != "info"}
    for before, after in ((first, second), (second, last)):
        earlier, later = samples(before), samples(after)
        assert earlier.keys() <= later.keys()
        fallen = [key for key, was in earlier.items() if later[key] < was]
        assert fallen == []
    assert value(second, "triode_messages_published_total") == 20
    assert value(second, "triode_publish_ack_seconds_count", shard="memory") == 10
    assert value(second, "triode_publish_ack_seconds_count", shard="d0") == 10
    assert value(second, "triode_publish_send_seconds_count", listener="clients") == 10
    assert value(second, "triode_engine_state", engine="d0", state="ok") == 1
    assert value(last, "triode_disconnects_total", code="1000", initiator="client") == 1


async def test_publishes_by_http_are_counted_as_acknowledged_too(tmp_path: Path) -> None:
    """One by one, as a batch of more than one window, as a stream."""
    async with running(tmp_path) as node, httpx.AsyncClient(base_url=node.url.replace("ws", "http", 1)) as client:
        one = {"topic": "news/one", "data": 1}
        assert (await client.post("/v1/publish", json=one)).status_code == 200
        assert (await client.post("/v1/publish/batch", json={"messages": [one] * 100})).status_code == 200
        headers = {"Content-Type": "application/x-ndjson"}
        lines = f"{json.dumps(one)}\n" * 3
        streamed = await client.post("/v1/publish/stream", content=lines, headers=headers)
        assert len(streamed.text.splitlines()) == 3
        text = await scrape(node)
    assert value(text, "triode_messages_published_total") == 104
    assert value(text, "triode_publish_ack_seconds_count", shard="memory") == 104


async def test_openmetrics_is_spoken_where_it_is_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        text = await scrape(node, "application/openmetrics-text; version=1.0.0")
    read: Any = open_metrics  # it has no types
    families = {family.name: family for family in read(text)}
    assert families["triode_messages_published"].type == "counter"
    assert families["triode_build"].type == "info"
    assert text.endswith("# EOF\n")


async def test_s8_page_does_not_grow_with_topics_users_and_tenants(tmp_path: Path) -> None:
    """Labels come from bounded sets."""
    async with running(tmp_path) as node:
        before = await scrape(node)
        router = node.broker.router
        for number in range(10_000):
            router.publish(Publish(f"topic/{number}", msgspec.Raw(b"1")), f"user-{number}", 1_000)
            router.tenants.of(f"tenant-{number}")
        for code in range(3_000, 5_000):  # clients choose theirs
            node.broker.departures.counts[label(code, is_clients=True), "client"] += 1
        after = await scrape(node)
    assert value(after, "triode_messages_published_total") == 10_000
    assert len(after.splitlines()) - len(before.splitlines()) < 40
    assert "tenant-1" not in after
    assert "user-1" not in after
    assert "topic/" not in after


async def test_s16_page_tells_of_no_token(tmp_path: Path) -> None:
    keys = [{"name": "one", "key": "k" * 32, "user": "ann"}]
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    secret = "a-token-that-nobody-may-see"
    async with running(tmp_path) as node, triode.connect(node.url, token=secret) as client:
        await be_busy(client, 1)
        assert secret not in await scrape(node)
        assert secret not in json.dumps(await node.ask("figures"))


async def test_metrics_by_http_are_for_who_may_operate_them(tmp_path: Path) -> None:
    """On an open broker: to this machine, and to nobody who only pretends to be there (S9)."""
    async with running(tmp_path) as node:
        desk = node.broker.desk
        desk.is_open_here = True
        head, body = await fetch(node.url, "/metrics", "Accept: text/plain")
        assert head.startswith("HTTP/1.1 200")
        assert "content-type: text/plain; version=" in head.lower()
        assert value(body, "triode_ready") == 1
        head, _ = await fetch(node.url, "/metrics", "Accept: application/openmetrics-text; version=1.0.0")
        assert "openmetrics-text" in head
        head, _ = await fetch(node.url, "/metrics", "X-Forwarded-For: 10.1.2.3")
        assert head.startswith("HTTP/1.1 403")
        desk.is_open_here = False
        head, _ = await fetch(node.url, "/metrics", "")
        assert head.startswith("HTTP/1.1 403")
        text = await scrape(node)
        assert value(text, "triode_http_requests_total", operation="GET /metrics", status="200") == 2
        assert value(text, "triode_http_requests_total", operation="GET /metrics", status="403") == 2


async def test_metrics_on_the_administration_listener_are_for_its_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 40 + "\n")
    secret.chmod(0o600)
    admin = {"listen": "127.0.0.1:0", "token_file": str(secret)}
    async with running(tmp_path / "data", admin=admin) as node:
        assert node.broker.operating is not None
        host, port = node.broker.operating._listeners[0].getsockname()
        url = f"http://{host}:{port}"
        head, body = await fetch(url, "/metrics", f"Authorization: Bearer {'s' * 40}")
        assert head.startswith("HTTP/1.1 200")
        assert value(body, "triode_listener_accepted_total", listener="operators") == 1
        head, body = await fetch(url, "/metrics", "Authorization: Bearer wrong")
        assert head.startswith("HTTP/1.1 401")
        assert "triode_" not in body


async def fetch(url: str, path: str, header: str) -> tuple[str, str]:
    """Head and body of an answer."""
    host = url.removeprefix("http://")
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *filter(None, [header]), "", ""]
    with trio.fail_after(PATIENCE_SECONDS):
        async with await trio.open_tcp_stream(host.partition(":")[0], int(host.partition(":")[2])) as stream:
            await stream.send_all("\r\n".join(lines).encode())
            answer = b"".join([piece async for piece in stream])
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head, body


async def test_triode_metrics_prints_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(tmp_path):
        for arguments in (["metrics"], ["metrics", "--json"]):
            assert await trio.to_thread.run_sync(main, [*arguments, "--data", str(tmp_path)]) == 0
    text, figures = capsys.readouterr().out.split("\n{", 1)
    assert value(text + "\n", "triode_ready", node="n1") == 1
    assert json.loads("{" + figures)["nodes"]["n1"]["gauges"]["ready"] == 1


async def test_without_the_library_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(NoMetrics, match="triode\\[metrics\\]"):
        page([])
    async with running(tmp_path) as node:
        assert await node.refused("metrics") == MISSING
        async with httpx.AsyncClient(base_url=node.url.replace("ws", "http", 1)) as client:
            answer = await client.get("/metrics")
    assert (answer.status_code, answer.json()["error"]["name"]) == (501, "unsupported")
    assert "pip install '.[metrics]'" in answer.json()["error"]["message"]


def test_names_are_those_prometheus_wants() -> None:
    """https://prometheus.io/docs/practices/naming/: units in full, base units, `_total` at counters only."""
    names = [one.name for one in METRICS]
    assert len(set(names)) == len(names)
    units: Any = ("_ms", "_us", "_mb", "_total", "_count", "_sum", "_bucket")
    assert [one for one in names if one.endswith(units)] == []
    assert [one.name for one in METRICS if one.kind == "histogram" and not one.name.endswith("_seconds")] == []
    assert [one.name for one in METRICS if not one.help.endswith(".")] == []
