"""The listener for operators as a part of a node: its start, its end, TLS, what keeps a node from starting."""

import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from msgspec import convert
from triode_broker.config import Config, Worker
from triode_broker.log.disk import StoreError
from triode_broker.server import Broker

from tests.admin.running import PATIENCE_SECONDS, EventLog, running
from tests.authority import issue
from tests.spec.client import RawClient

SECRET = "a-secret-of-operators"
SHOWN = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def admin(tmp_path: Path) -> dict[str, Any]:
    """Settings of the listener."""
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text(SECRET)
    return {"listen": "127.0.0.1:0", "token_file": str(file)}


def make(admin: dict[str, Any], worker: Worker | None = None, **more: Any) -> Broker:
    """A node that is not run."""
    return Broker(convert({"listen": "127.0.0.1:0", "admin": admin, **more}, Config), EventLog(), worker)


async def test_listener_speaks_tls_with_a_certificate_of_its_own(tmp_path: Path, admin: dict[str, Any]) -> None:
    files = issue(tmp_path, "localhost")
    tls = {"certificate": files.certificate, "key": files.key}
    async with running(tmp_path / "data", admin={**admin, "tls": tls}) as node:
        assert node.broker.operating is not None
        (url,) = node.broker.operating.urls
        assert (url[:8], node.url[:7]) == ("https://", "http://")
        assert node.log.told("operators_served") == [{"urls": [url], "console": [f"{url}/console"]}]
        url = url.replace("127.0.0.1", "localhost")
        context = ssl.create_default_context(cafile=files.ca)
        async with httpx.AsyncClient(verify=context, timeout=PATIENCE_SECONDS) as client:
            assert (await client.get(f"{url}/v1/connections", headers=SHOWN)).status_code == 200
            assert "admin.tls" in (await client.get(f"{url}/healthz")).json()["tls"]


async def test_secret_may_stand_in_the_environment(
    tmp_path: Path, admin: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERATORS", SECRET)
    async with running(tmp_path, admin={"listen": admin["listen"], "token_env": "OPERATORS"}) as node:
        assert node.broker.operating is not None
        async with httpx.AsyncClient(base_url=node.broker.operating.urls[0]) as client:
            assert (await client.get("/v1/connections", headers=SHOWN)).status_code == 200


@pytest.mark.parametrize("secret", ["", "short", "two words of a secret, or more", "\0" * 40])
def test_s14_node_with_a_secret_that_is_none_does_not_start(admin: dict[str, Any], secret: str) -> None:
    Path(admin["token_file"]).write_text(secret)
    with pytest.raises(StoreError, match=r"admin\.token_file"):
        make(admin)


def test_s31_secret_that_others_may_read_is_refused(admin: dict[str, Any]) -> None:
    Path(admin["token_file"]).chmod(0o644)
    with pytest.raises(StoreError, match="others of this machine may read it"):
        make(admin)


async def test_address_that_is_taken_is_told_and_the_node_does_not_start(admin: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = make({**admin, "listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(StoreError, match=r"admin.listen 127.0.0.1:\d+: Address already in use"):
            await broker.run()
    broker.edge.end()
    assert broker.operating is not None
    broker.operating.edge.end()


def test_of_the_processes_of_a_host_the_first_has_it(admin: dict[str, Any]) -> None:
    for number in (0, 1):
        broker = make(admin, Worker(number=number, count=2))
        assert (broker.operating is not None) == (number == 0)
        broker.edge.end()
        if broker.operating is not None:
            broker.operating.edge.end()


async def test_operators_are_told_of_the_end_and_what_clients_publish_reaches_them_at_once(
    tmp_path: Path, admin: dict[str, Any]
) -> None:
    """Two edges, one turn: nobody waits for the other one's next."""
    async with trio.open_nursery() as nursery:
        async with running(tmp_path, admin=admin) as node:
            assert node.broker.operating is not None
            (url,) = node.broker.operating.urls
            async with httpx.AsyncClient(base_url=url) as client:
                given = await client.post("/v1/console/token", headers=SHOWN, json={})
            operator = await RawClient.open(nursery, url)
            await operator.ask({"type": "connect", "id": 1, "token": given.json()["token"]})
            await operator.ask({"type": "subscribe", "id": 2, "sub": 1, "filter": "#"})
            other = await RawClient.open(nursery, node.url)
            await other.ask({"type": "connect", "id": 1})
            await other.ask({"type": "publish", "id": 2, "topic": "a", "data": 1})
            assert (await operator.expect("message"))["topic"] == "a"
            await other.cut()
        assert (await operator.expect("bye"))["code"] == 4100
        await operator.cut()
        nursery.cancel_scope.cancel()
