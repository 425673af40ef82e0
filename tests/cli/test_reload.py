"""SIGHUP: who may connect and what they may do are read again, by one process or several (S14, SPEC 11.5)."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import trio
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, Triode, run
from tests.cli.test_serve import health
from tests.cli.test_workers import Events
from tests.spec.client import RawClient
from tests.spec.guarded import SECRET, token


def write(folder: Path, *, subscribe: str, more: str = "") -> Path:
    """A configuration file with one rule."""
    secret, file = folder / "secret", folder / "triode.toml"
    secret.touch(0o600)
    secret.write_text(SECRET)
    file.write_text(
        f'{more}\n[[tokens]]\nalgorithm = "HS256"\nkey_file = "{secret}"\n'
        f'[[permissions]]\nsubscribe = ["{subscribe}"]\n'
    )
    return file


def serve(file: Path, *more: str) -> Triode:
    return Triode("serve", "--config", str(file), "--listen", "127.0.0.1:0", "--log-format", "json", *more)


async def enter(nursery: trio.Nursery, url: str) -> tuple[RawClient, str]:
    """A client with two subscriptions, and the node that it is at."""
    client = await RawClient.open(nursery, url)
    await client.send({"type": "connect", "token": token("alice")})
    node = (await client.expect("connected"))["node"]
    for sub, filter in ((1, "a"), (2, "b")):
        await client.subscribe(sub, filter)
    return client, str(node)


async def report(url: str) -> dict[str, Any]:
    """What /healthz says."""
    return dict(json.loads((await health(url)).partition("\r\n\r\n")[2]))


def assert_settings(said: dict[str, Any], not_reloaded: str, need_a_restart: list[str]) -> None:
    """What health says of the settings."""
    settings = said["settings"]
    assert (settings["not_reloaded"], settings["need_a_restart"]) == (not_reloaded, need_a_restart)


async def test_rules_that_are_read_again_hold_for_who_is_connected(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with serve(write(tmp_path, subscribe="+")) as program:
        events = Events(program.errors())
        url = str((await events.until("started"))["urls"][0])
        client, _ = await enter(nursery, url)
        write(tmp_path, subscribe="a", more="demo = true")
        program.signal(signal.SIGHUP)
        line = await events.until("settings_reloaded")
        assert (line["need_a_restart"], line["level"]) == (["demo"], "warning")
        said = await report(url)
        assert (said["status"], said["degraded"]) == ("ok", [])
        assert_settings(said, "", ["demo"])
        await client.expect("unsubscribed", sub=2, name="forbidden", retry="never")
        (tmp_path / "triode.toml").write_text("[[permissions]]\nsubscribe = 5\n")
        program.signal(signal.SIGHUP)
        assert "permissions" in (await events.until("settings_not_reloaded"))["reason"]
        (tmp_path / "triode.toml").write_text("")
        program.signal(signal.SIGHUP)
        assert "decided at the start" in (await events.until("settings_not_reloaded"))["reason"]
        said = await report(url)
        assert (said["status"], len(said["degraded"])) == ("degraded", 1)
        assert "decided at the start" in said["degraded"][0]
        write(tmp_path, subscribe="a")
        program.signal(signal.SIGHUP)
        assert (await events.until("settings_reloaded"))["level"] == "info"
        said = await report(url)
        assert said["status"] == "ok"
        assert_settings(said, "", [])
        await client.has_nothing_more()
        await client.cut()


async def test_sub_goes_on_with_the_filters_that_are_left(tmp_path: Path) -> None:
    """SPEC 11.4.5: what is taken away is said, and is no success; nothing is left: it ends."""
    async with serve(write(tmp_path, subscribe="+", more='admin_socket = "%s"' % (tmp_path / "s"))) as program:
        events = Events(program.errors())
        url = str((await events.until("started"))["urls"][0]).replace("http", "ws") + "/ws"
        async with Triode("sub", "a", "b", url=url, environ={"TRIODE_TOKEN": token("alice")}) as listener:
            errors = listener.errors()
            await subscribed(tmp_path / "s", 2)
            for subscribe, told in (("a", "; the others go on"), ("c", "")):
                write(tmp_path, subscribe=subscribe)
                program.signal(signal.SIGHUP)
                line = await errors.next()
                assert "the broker refused: forbidden" in line
                assert line.endswith(told)
            assert await listener.code() == ExitCode.REFUSED


async def subscribed(socket: Path, count: int) -> None:
    """The only client has so many subscriptions."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            listed = json.loads((await run("connections", "--admin-socket", str(socket), "--json")).output)
            if [one["subscriptions"] for one in listed["connections"]] == [count]:
                return


async def test_all_workers_are_told(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with serve(write(tmp_path, subscribe="+"), "--workers", "2") as program:
        events = Events(program.errors())
        url, processes = await events.up()
        clients: dict[str, RawClient] = {}
        with trio.fail_after(PATIENCE_SECONDS):
            while len(clients) < len(processes):
                client, node = await enter(nursery, url)
                if node in clients:
                    await client.cut()
                else:
                    clients[node] = client
        write(tmp_path, subscribe="a")
        program.signal(signal.SIGHUP)
        for client in clients.values():
            await client.expect("unsubscribed", sub=2, name="forbidden", retry="never")
        (tmp_path / "triode.toml").write_text("x")
        program.signal(signal.SIGHUP)
        await events.until("settings_not_reloaded")
        while not (said := (await report(url))["settings"])["not_reloaded"]:
            pass
        assert said["not_reloaded"].startswith("1 problem in the settings ")
        write(tmp_path, subscribe="a", more="demo = true")
        program.signal(signal.SIGHUP)
        for _ in processes:
            assert (await events.until("settings_reloaded"))["need_a_restart"] == ["demo"]
        assert_settings(await report(url), "", ["demo"])
        for client in clients.values():
            await client.has_nothing_more()
            await client.cut()


async def test_a_worker_that_starts_later_is_told_what_could_not_be_read(tmp_path: Path) -> None:
    """S14: else one process of a host would look healthy, by settings that nobody believes to be in force."""
    async with serve(write(tmp_path, subscribe="+"), "--workers", "2") as program:
        events = Events(program.errors())
        url, processes = await events.up()
        (tmp_path / "triode.toml").write_text("x")
        program.signal(signal.SIGHUP)
        await events.until("settings_not_reloaded")
        os.kill(processes["n1-1"], signal.SIGKILL)
        await events.until("started", node="n1-1")
        with trio.fail_after(PATIENCE_SECONDS):
            while (said := await report(url))["node"] != "n1-1" or not said["settings"]["not_reloaded"]:
                pass
