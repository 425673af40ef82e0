"""`triode reload` and `triode log-level` with real processes: under load, with connections open, with workers."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, Triode, run
from tests.cli.test_reload import report
from tests.cli.test_workers import Events
from tests.spec.client import RawClient

MESSAGES = 3_000


class Host:
    """A broker of a file, and the commands that find it by its socket."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "triode.toml"
        self.socket = folder / "s"
        self.url = ""
        self.write("")

    def write(self, text: str) -> None:
        """The file from now on."""
        self.file.write_text(f'admin_socket = "{self.socket}"\n{text}\n')

    async def command(self, *words: str, code: ExitCode = ExitCode.OK) -> Any:
        """What a command answers in JSON."""
        ended = await run(*words, "--admin-socket", str(self.socket), "--json")
        assert ended.code == code, ended
        return json.loads(ended.output)

    async def is_whole(self) -> None:
        """Until its processes, which are up before they have dialled each other, reach each other both ways."""
        with trio.fail_after(PATIENCE_SECONDS):
            while (await run("cluster", "--admin-socket", str(self.socket))).code != ExitCode.OK:
                pass

    async def words(self, *words: str, code: ExitCode = ExitCode.OK) -> str:
        """What a command says to people."""
        ended = await run(*words, "--admin-socket", str(self.socket))
        assert ended.code == code, ended
        return ended.output


@asynccontextmanager
async def host(folder: Path, *more: str) -> AsyncIterator[tuple[Host, Triode, Events]]:
    made = Host(folder)
    words = ("serve", "--config", str(made.file), "--listen", "127.0.0.1:0", "--log-format", "json", *more)
    async with Triode(*words) as program:
        events = Events(program.errors())
        if "--workers" in more:
            made.url, _ = await events.up()
        else:
            made.url = str((await events.until("started"))["urls"][0])
        yield made, program, events


async def test_reloads_under_load_drop_no_connection_and_no_message(tmp_path: Path, nursery: trio.Nursery) -> None:
    """G1, G7: 0 gaps."""
    async with host(tmp_path) as (here, program, _):
        clients = [await RawClient.open(nursery, here.url) for _ in range(4)]
        for client in clients:
            await client.send({"type": "connect", "id": 1})
            await client.expect("connected")
            await client.subscribe(1, "load/#")
        publisher, done = clients[0], trio.Event()

        async def publish() -> None:
            for number in range(0, MESSAGES, 50):
                batch: list[Any] = [
                    {"type": "publish", "topic": "load/a", "data": one} for one in range(number, number + 50)
                ]
                await publisher.send(*batch)
                await trio.lowlevel.checkpoint()
            done.set()

        got: dict[int, list[int]] = {number: [] for number in range(len(clients))}

        async def listen(number: int) -> None:
            while len(got[number]) < MESSAGES:
                packet = await clients[number].receive()
                assert packet["type"] == "message", packet
                got[number].append(packet["data"])

        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as load:
                load.start_soon(publish)
                for number in got:
                    load.start_soon(listen, number)
                changed: list[str] = []
                for bound in (100, 2_000):
                    here.write(
                        f"[limits]\nmax_history_messages = {bound}\nmax_shard_topics = {bound}\n"
                        f'[[topics]]\nfilter = "load/#"\nretention_messages = {bound}'
                    )
                    answer = (await here.command("reload"))["nodes"]["n1"]
                    assert answer["reloaded"]
                    changed += answer["changed"]
                    program.signal(signal.SIGHUP)  # which may read the next file before the next command does
                assert "topics" in changed
        assert all(seen == [*range(MESSAGES)] for seen in got.values())
        for client in clients:
            await client.cut()


async def test_the_command_says_what_changed_what_waits_and_what_is_wrong(tmp_path: Path) -> None:
    async with host(tmp_path) as (here, _, events):
        digest = (await report(here.url))["settings"]["digest"]
        checked = await run("serve", "--config", str(here.file), "--check")
        assert f"# digest of what all nodes should have alike: {digest}\n" in checked.output
        here.write('memory_shards = 4\norigins = ["https://a.example"]\n[limits]\nping_ms = 9000')
        assert await here.words("reload") == (
            "n1: changed: origins\nn1: wait for a restart: memory_shards, limits.ping_ms\n"
        )
        line = await events.until("settings_reloaded")
        assert (line["changed"], line["need_a_restart"]) == (["origins"], ["memory_shards", "limits.ping_ms"])
        here.write("limits = 5")
        said = await here.words("reload", code=ExitCode.REFUSED)
        assert said.startswith("n1: nothing has changed: 1 problem in the settings")
        assert (await report(here.url))["status"] == "degraded"
        here.write("")
        assert await here.words("reload", "--cluster") == "n1: changed: origins\n"
        assert (await report(here.url))["settings"]["digest"] == digest


async def test_a_level_is_set_for_a_while_and_by_the_file(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with host(tmp_path) as (here, _, events):
        assert await here.words("log-level") == "n1: info\n"
        assert (
            await here.words("log-level", "debug", "--for", "10m")
            == "n1: debug (configured: info, for 600 s more)\n"
        )
        assert (await events.until("log_level_set"))["to"] == "debug"
        assert await here.words("log-level", "error") == "n1: error (configured: info)\n"
        here.write('log_level = "debug"')
        assert (await here.command("reload"))["nodes"]["n1"]["changed"] == ["log_level"]
        assert await here.words("log-level") == "n1: debug\n"
        await here.words("log-level", "warning", "--for", "1s")
        assert (await events.until("log_level_set", reason="the time is over"))["to"] == "debug"
        assert await here.words("log-level", "configured", "--for", "1h", code=ExitCode.USAGE) == ""
        assert await here.words("log-level", "configured") == "n1: debug\n"


async def test_one_worker_is_asked_and_all_have_read(tmp_path: Path) -> None:
    async with host(tmp_path, "--workers", "2") as (here, _, events):
        here.write("demo = true\n[limits]\nmax_history_messages = 7")
        answer = await here.command("reload")
        (one,) = answer["nodes"].values()
        assert (one["changed"], one["need_a_restart"]) == (["limits.max_history_messages"], ["demo"])
        for _ in range(2):
            assert (await events.until("settings_reloaded"))["changed"] == ["limits.max_history_messages"]
        here.write("[limits]\nmax_history_messages = 0")
        answer = await here.command("reload", code=ExitCode.REFUSED)
        assert "max_history_messages" in next(iter(answer["nodes"].values()))["reason"]
        here.write("")
        await here.is_whole()
        everywhere = (await here.command("reload", "--cluster"))["nodes"]
        assert len(everywhere) == 2
        assert len({one["digest"] for one in everywhere.values()}) == 1
