"""wss:// on the command line: whom clients trust, and settings of certificates that `serve` refuses."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.front_settings import certificate_problems, front_problems
from triode_broker.config import Config, Tls

from tests.authority import Files, issue
from tests.cli.programs import PATIENCE_SECONDS, run
from tests.cli.test_workers import Events, serve
from tests.security.test_tls import serial, served


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return issue(tmp_path / "broker", "localhost")


@pytest.fixture
async def url(files: Files) -> AsyncIterator[str]:
    """Of a broker that asks for certificates of its authority."""
    tls = {"certificate": files.certificate, "key": files.key, "client_ca": files.ca}
    async with served(tls=tls) as broker:
        yield broker.url


async def test_a_broker_of_ones_own_authority_is_trusted_by_its_file(url: str, files: Files) -> None:
    ended = await run("pub", "a", "x", "--ca", files.ca, url=url)
    assert (ended.code, ended.errors) == (ExitCode.OK, "")


async def test_insecure_asks_nobody(url: str) -> None:
    assert (await run("pub", "a", "x", "--insecure", url=url)).code == ExitCode.OK


async def test_without_either_it_is_refused_at_once(url: str) -> None:
    """No waiting changes it, and without a limit that would be for ever."""
    ended = await run("pub", "a", "-", url=url)
    assert ended.code == ExitCode.FAILURE
    assert "CERTIFICATE_VERIFY_FAILED" in ended.errors
    assert "--ca FILE" in ended.errors
    assert "triode serve" not in ended.errors


async def test_a_port_with_tls_says_so_to_who_speaks_none(url: str) -> None:
    ended = await run("pub", "a", "x", "--timeout", "1", url=url.replace("wss", "ws"))
    assert ended.code == ExitCode.TIMEOUT
    assert "write wss://" in ended.errors


async def test_a_client_shows_its_own_certificate(url: str, files: Files) -> None:
    ended = await run("pub", "a", "x", "--ca", files.ca, "--certificate", files.both, url=url)
    assert ended.code == ExitCode.OK


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--ca", "/nowhere/ca.pem"], "--ca /nowhere/ca.pem: cannot be read"),
        (["--ca", "/dev/null"], "--ca /dev/null: does not hold what is asked for"),
        (["--certificate", "/dev/null"], "--certificate /dev/null: does not hold what is asked for"),
        (["--ca", "a", "--insecure"], "not allowed with argument"),
    ],
)
async def test_a_file_of_no_use_is_told(flags: list[str], told: str) -> None:
    ended = await run("pub", "a", "x", *flags, url="wss://127.0.0.1:1")
    assert ended.code == ExitCode.USAGE
    assert told in ended.errors


# Settings


def told(**settings: Any) -> str:
    config = Config(**settings)
    return "\n".join(f"{name}{text}" for name, text in (*front_problems(config), *certificate_problems(config)))


def test_s14_settings_that_cannot_serve_are_told_before_they_do(files: Files) -> None:
    good = Tls(files.certificate, files.key, files.ca)
    assert told(tls=good, cluster_tls=good, cluster_listen="127.0.0.1:7401") == ""
    assert "tls.key" in told(tls=Tls(key=files.key))
    assert "tls.client_ca" in told(tls=Tls(client_ca=files.ca))
    assert "signed by whom" in told(tls=Tls(files.certificate, files.key, client_certificates="required"))
    assert "tls.certificate" in told(tls=Tls("/nowhere.pem", files.key))
    assert "cluster_tls.key" in told(cluster_tls=Tls(files.certificate, files.ca), cluster_listen="127.0.0.1:1")
    assert "there is no cluster" in told(cluster_tls=good)
    assert "wss://" in told(cluster_tls=good, cluster_listen="127.0.0.1:1", seeds=("ws://127.0.0.1:2",))
    assert "cluster_tls.client_ca" in told(
        cluster_tls=Tls(files.certificate, files.key), cluster_listen="127.0.0.1:1", workers=2
    )


def test_proxies_are_named_by_address() -> None:
    assert "of which proxies" in told(proxy_protocol=True)
    assert "no address and no network" in told(trusted_proxies=("proxy.example",))
    assert told(proxy_protocol=True, trusted_proxies=("10.0.0.0/8", "::1")) == ""


def test_a_node_with_tls_is_dialled_with_it() -> None:
    tls = Tls("cert.pem")
    assert Config(cluster_listen="10.0.0.1", cluster_tls=tls).cluster_advertise == "wss://10.0.0.1:7401"
    assert Config(cluster_listen="10.0.0.1").cluster_advertise == "ws://10.0.0.1:7401"


async def test_serve_check_names_the_setting_and_the_file(files: Files, tmp_path: Path) -> None:
    os.chmod(files.key, 0o644)
    config = tmp_path / "triode.toml"
    config.write_text(f'[tls]\ncertificate = "{files.certificate}"\nkey = "{files.key}"\n')
    ended = await run("serve", "--check", "--config", str(config))
    assert ended.code == ExitCode.USAGE
    assert f"tls.key = {files.key}: others of this machine may read it" in ended.errors.replace('"', "")


# Several processes


async def test_s14_workers_link_with_tls_and_all_renew_on_sighup(files: Files, tmp_path: Path) -> None:
    """S20: as nodes they name themselves by one certificate; newcomers see the new one, whoever takes them."""
    nodes = issue(tmp_path / "nodes", "n1", "n1-1")
    config = tmp_path / "triode.toml"
    table = 'certificate = "{}"\nkey = "{}"\n'
    config.write_text(
        f"[tls]\n{table.format(files.certificate, files.key)}"
        f'[cluster_tls]\n{table.format(nodes.certificate, nodes.key)}client_ca = "{nodes.ca}"\n'
    )
    with trio.fail_after(PATIENCE_SECONDS):
        async with serve("--config", str(config)) as program:
            events = Events(program.errors())
            url, _ = await events.up()
            assert url.startswith("https://")
            linked = {(await events.until("peer_link_opened"))["node"] for _ in range(2)}
            assert linked <= {"n1", "n1-1"}
            before = await serials(url)
            renewed = issue(tmp_path / "renewed", "localhost")
            os.replace(renewed.certificate, files.certificate)
            os.replace(renewed.key, files.key)
            program.signal(signal.SIGHUP)
            for _ in range(2):
                await events.until("certificate_loaded", table="tls")
            assert not before & await serials(url)


async def serials(url: str) -> set[str]:
    """Of the certificates that newcomers are shown."""
    port = int(url.rpartition(":")[2])
    return {await serial(port) for _ in range(8)}
