"""`serve --workers N` as processes: one port, a parent, and workers that come back or end with it."""

import json
import os
import random
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import triode
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, Lines, Triode, run
from tests.cli.test_serve import health

RULE = '[[topics]]\nfilter = "jobs/#"\nstorage = "disk"\n'
CONFIG = f"durable_shards = 3\n{RULE}"
TOPICS = [f"jobs/{number}" for number in range(12)]  # some in every shard


def serve(*arguments: str, count: int = 2) -> Triode:
    return Triode("serve", "--workers", str(count), "--listen", "127.0.0.1:0", "--log-format", "json", *arguments)


def durable(folder: Path) -> tuple[str, ...]:
    """Three durable shards in a directory."""
    file = folder / "triode.toml"
    file.write_text(CONFIG)
    return ("--config", str(file), "--data", str(folder / "data"))


class Events:
    """The lines of a log, as they are or by name."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def until(self, event: str, **facts: object) -> dict[str, Any]:
        """The next event of this name that has these facts; None: does not have it."""
        while True:
            found = json.loads(await self._lines.until(f'"{event}"'))
            if found["event"] == event and all(found.get(name) == value for name, value in facts.items()):
                return dict(found)

    async def up(self) -> tuple[str, dict[str, int]]:
        """Until all workers serve: the URL, and the process of each node."""
        processes: dict[str, int] = {}
        while True:
            event = json.loads(await self._lines.next())
            if event["event"] == "worker_starts":
                processes[event["node"]] = event["pid"]
            elif event["event"] == "workers_up":
                return event["urls"][0], processes

    async def started(self, count: int) -> str:
        """Until so many serve, and know all shards: the URL. One is alone, without a parent."""
        if count == 1:
            return str((await self.until("started"))["urls"][0])
        url, _ = await self.up()
        await known_everywhere(url, count)
        return url

    async def rest(self) -> list[dict[str, Any]]:
        """All that is still said, until nobody is left who could."""
        return [json.loads(line) for line in await self._lines.rest()]


async def nodes(url: str, count: int) -> set[str]:
    """The names of so many nodes that answer at one address."""
    found: set[str] = set()
    with trio.fail_after(PATIENCE_SECONDS):
        while len(found) < count:
            found.add(json.loads((await health(url)).partition("\r\n\r\n")[2])["node"])
    return found


async def known_everywhere(url: str, count: int) -> None:
    """Until every node knows the owner of every shard: 8 in memory, 3 on disk."""
    knowing: set[str] = set()
    with trio.fail_after(PATIENCE_SECONDS):
        while len(knowing) < count:
            report = json.loads((await health(url)).partition("\r\n\r\n")[2])
            if len(report["heads"]) == 8 + 3:
                knowing.add(report["node"])


@asynccontextmanager
async def at_every_worker(url: str, count: int) -> AsyncIterator[list[triode.Client]]:
    """A client at each node behind an address."""
    found: dict[str, triode.Client] = {}
    async with AsyncExitStack() as stack:
        while len(found) < count:
            client = triode.connect(url)
            events = client.events()
            await stack.enter_async_context(client)
            async for event in events:
                if isinstance(event, triode.StateChanged) and event.state is triode.State.CONNECTED:
                    found.setdefault(event.node, client)
                    break
        yield list(found.values())


def first_of_free_ports(count: int) -> int:
    """So many in a row, below those that the system gives to others; others look for theirs at the same time."""
    for port in random.sample(range(20_000, 32_000, count), 100):
        try:
            with ExitStack() as stack:
                for number in range(count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port + number)))
        except OSError:
            continue
        return port
    raise AssertionError("no free ports")


async def test_all_workers_serve_at_one_address_and_end_with_0() -> None:
    async with serve(count=3) as program:
        events = Events(program.errors())
        url, processes = await events.up()
        assert sorted(processes) == ["n1", "n1-1", "n1-2"]
        assert await nodes(url, 3) == set(processes)
        program.signal(signal.SIGTERM)
        assert await program.code() == ExitCode.OK
        said = await events.rest()
        assert {event["node"] for event in said if event["event"] == "stopped"} == set(processes)
        assert said[-1]["event"] == "workers_stopped"


async def test_for_people_it_says_once_what_to_open() -> None:
    async with serve("--log-format", "console") as program:
        output = program.output()
        url = (await output.until("Triode is up: ")).removeprefix("Triode is up: ")
        http = url.replace("ws", "http", 1).removesuffix("/ws")
        assert await nodes(http, 2) == {"n1", "n1-1"}
        program.signal(signal.SIGINT)
        assert await program.code() == ExitCode.OK
        assert not [line for line in await output.rest() if "Triode is up" in line]


async def test_one_worker_has_no_parent() -> None:
    async with serve(count=1) as program:
        events = Events(program.errors())
        assert (await events.until("started"))["node"] == "n1"
        program.signal(signal.SIGTERM)
        assert await program.code() == ExitCode.OK
        assert "workers_stopped" not in {event["event"] for event in await events.rest()}


async def test_a_worker_that_crashed_starts_again_and_the_others_go_on() -> None:
    async with serve() as program:
        events = Events(program.errors())
        url, processes = await events.up()
        for delay in (0.1, 0.2):
            os.kill(processes["n1-1"], signal.SIGKILL)
            ended = await events.until("worker_ended")
            assert (ended["node"], ended["pid"], ended["signal"]) == ("n1-1", processes["n1-1"], "SIGKILL")
            assert (await events.until("worker_restarts"))["seconds"] == delay
            assert await nodes(url, 1) == {"n1"}
            processes["n1-1"] = (await events.until("worker_starts", node="n1-1"))["pid"]
            await events.until("started", node="n1-1")
        assert await nodes(url, 2) == {"n1", "n1-1"}
        program.signal(signal.SIGTERM)
        assert await program.code() == ExitCode.OK


async def test_a_worker_that_was_told_to_end_alone_starts_again() -> None:
    async with serve() as program:
        events = Events(program.errors())
        url, processes = await events.up()
        os.kill(processes["n1"], signal.SIGTERM)
        assert (await events.until("worker_ended"))["exit_code"] == 0
        await events.until("started", node="n1")
        assert await nodes(url, 2) == {"n1", "n1-1"}


async def test_workers_end_when_their_parent_was_killed() -> None:
    async with serve(count=3) as program:
        events = Events(program.errors())
        _, processes = await events.up()
        program.signal(signal.SIGKILL)
        said = await events.rest()  # to the end: none of them holds stderr any longer
        for name in ("parent_gone", "stopped"):
            assert {event["node"] for event in said if event["event"] == name} == set(processes)


async def test_a_further_signal_does_not_wait_and_one_more_kills() -> None:
    async with serve("--data", "") as program:
        events = Events(program.errors())
        _, processes = await events.up()
        os.kill(processes["n1-1"], signal.SIGSTOP)  # it minds nothing but SIGKILL
        for _ in range(2):
            program.signal(signal.SIGTERM)
            await events.until("signal", name="SIGTERM", node=None)
        program.signal(signal.SIGTERM)
        assert (await events.until("worker_ended"))["signal"] == "SIGKILL"
        assert await program.code() == ExitCode.FAILURE


async def test_a_signal_to_all_processes_is_one_to_each() -> None:
    async with serve() as program:
        events = Events(program.errors())
        _, processes = await events.up()
        for process in processes.values():  # as systemd does, and a terminal with Ctrl-C
            os.kill(process, signal.SIGTERM)
        program.signal(signal.SIGTERM)
        assert await program.code() == ExitCode.OK
        said = [event for event in await events.rest() if event["event"] in ("signal", "draining", "stopped")]
        for node in processes:
            seen = [event["event"] for event in said if event.get("node") == node]
            assert (seen.count("signal") <= 1, seen.count("draining"), seen[-1]) == (True, 1, "stopped")


async def test_who_is_told_to_end_while_starting_ends_in_good_order() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        async with serve(count=3) as program:
            await Events(program.errors()).until("worker_starts")
            program.signal(number)
            assert await program.code() == ExitCode.OK


async def test_a_drain_is_one_of_the_whole_host(tmp_path: Path) -> None:
    async with serve("--data", str(tmp_path / "data"), count=3) as program:
        events = Events(program.errors())
        _, processes = await events.up()
        drained = await run("drain", "--seconds", "0", "--data", str(tmp_path / "data"))
        assert (drained.code, drained.errors) == (ExitCode.OK, "")
        assert await program.code() == ExitCode.OK
        said = await events.rest()
        assert {event["node"] for event in said if event["event"] == "draining"} == set(processes)
        assert "worker_restarts" not in {event["event"] for event in said}


async def test_a_drain_of_the_host_leaves_every_worker_the_time_in_which_it_is_not_ready(tmp_path: Path) -> None:
    file = tmp_path / "triode.toml"
    file.write_text("[limits]\ndrain_delay_ms = 300\ndrain_window_ms = 0\n")
    async with serve("--data", str(tmp_path / "data"), "--config", str(file)) as program:
        events = Events(program.errors())
        await events.up()
        assert (await run("drain", "--data", str(tmp_path / "data"))).code == ExitCode.OK
        assert await program.code() == ExitCode.OK
        said = await events.rest()
        assert [event["seconds"] for event in said if event["event"] == "draining"] == [0, 0]
        assert [event["seconds"] for event in said if event["event"] == "workers_drain"] == [None]


async def test_a_taken_port_is_told_once() -> None:
    async with serve() as program:
        url, _ = await Events(program.errors()).up()
        address = url.removeprefix("http://")
        for count in (1, 2):  # also by somebody who would share it
            ended = await run("serve", "--workers", str(count), "--listen", address)
            assert ended.code == ExitCode.FAILURE
            assert ended.errors.startswith(f"triode serve: {address} is taken by another program")
            assert ended.errors.count("\n") == 1


async def test_a_worker_that_cannot_start_ends_all_with_its_code(tmp_path: Path) -> None:
    """The list of holders is checked by the holder itself: in a cluster it has others to ask first."""
    data = str(tmp_path / "data")
    async with Triode("serve", "--listen", "127.0.0.1:0", "--data", data) as other:
        await other.errors().until('"started"')
        ended = await run("serve", "--workers", "2", "--listen", "127.0.0.1:0", "--data", data, "--durable", "n1")
    assert ended.code == ExitCode.FAILURE
    assert ended.errors.count(f"triode serve: {data} is in use by another triode: ") == 1
    assert "worker_restarts" not in ended.errors
    assert "Traceback" not in ended.errors


async def test_files_that_are_in_use_are_told_once(tmp_path: Path) -> None:
    async with serve(*durable(tmp_path)) as program:
        await Events(program.errors()).up()
        ended = await run("serve", "--workers", "3", "--listen", "127.0.0.1:0", *durable(tmp_path))
    assert ended.code == ExitCode.FAILURE
    assert ended.errors.startswith(f"triode serve: {tmp_path}/data is in use by another triode: ")


async def test_a_file_that_is_missing_is_told_before_any_worker_starts(tmp_path: Path) -> None:
    async with serve(*durable(tmp_path)) as program:
        await Events(program.errors()).up()
        program.signal(signal.SIGINT)
        assert await program.code() == ExitCode.OK
    (tmp_path / "data" / "d1.sqlite").unlink()
    ended = await run("serve", "--workers", "3", "--listen", "127.0.0.1:0", *durable(tmp_path))
    assert ended.code == ExitCode.FAILURE
    assert "d1.sqlite is missing, others are there" in ended.errors
    assert "worker_starts" not in ended.errors


async def test_nobody_is_a_worker_without_a_parent() -> None:
    for said in (b"", b"{}\n"):
        ended = await run("serve", "--as-worker", "n1", stdin=[said])
        assert ended.code == ExitCode.USAGE
        assert ended.errors == "triode serve: --as-worker is for the processes that --workers starts\n"
    assert "--as-worker" not in (await run("serve", "--help")).output


async def test_the_number_of_workers_may_change_over_one_directory(tmp_path: Path) -> None:
    """G1: the logs go on under their names, whoever opens them, and every worker answers for all of them."""
    logs: dict[str, str] = {}
    for life, count in enumerate((1, 3, 2, 1), 1):
        async with serve(*durable(tmp_path), count=count) as program:
            events = Events(program.errors())
            url = await events.started(count)
            async with at_every_worker(url, count) as clients:
                for number, topic in enumerate(TOPICS):
                    place = await clients[number % count].publish(topic, life)
                    assert (place.offset, logs.setdefault(topic, place.log)) == (life, place.log)
                for client in clients:
                    for topic in TOPICS:
                        held = (await client.history(topic, last=9)).messages
                        assert [one.data for one in held] == list(range(1, life + 1))
                        assert {one.log for one in held} == {logs[topic]}
            program.signal(signal.SIGTERM)
            assert await program.code() == ExitCode.OK
            assert "new_log" not in {event["event"] for event in await events.rest()}
    assert len(set(logs.values())) == 3


async def test_what_is_published_at_one_worker_reaches_the_clients_of_all(tmp_path: Path) -> None:
    """G3: one order per topic, whichever of the processes behind the port took it in."""
    topics = [*TOPICS, *(f"rooms/{number}" for number in range(24))]
    async with serve(*durable(tmp_path), count=3) as program:
        url = await Events(program.errors()).started(3)
        async with at_every_worker(url, 3) as clients, AsyncExitStack() as stack:
            heard = [await stack.enter_async_context(client.subscribe("#")) for client in clients]
            sent: dict[str, list[int]] = {topic: [] for topic in topics}
            for number in range(3):
                for topic in topics:
                    await clients[number].publish(topic, number)
                    sent[topic].append(number)
            for messages in heard:
                got: dict[str, list[int]] = {topic: [] for topic in topics}
                with trio.fail_after(PATIENCE_SECONDS):
                    while got != sent:
                        message = await anext(messages)
                        got[message.topic].append(message.data)
                        assert message.offset == len(got[message.topic])


async def test_a_restarted_worker_brings_its_durable_shard_back(tmp_path: Path) -> None:
    async with serve(*durable(tmp_path), count=3) as program:
        events = Events(program.errors())
        url, processes = await events.up()
        await known_everywhere(url, 3)
        async with at_every_worker(url, 3) as clients:
            places = {topic: await clients[0].publish(topic, 1) for topic in TOPICS}
        os.kill(processes["n1-1"], signal.SIGKILL)
        await events.until("started", node="n1-1")
        await known_everywhere(url, 3)
        async with at_every_worker(url, 3) as clients:
            for topic in TOPICS:
                again = await clients[0].publish(topic, 2)
                assert (again.log, again.offset) == (places[topic].log, 2)


async def test_a_host_of_a_cluster_may_have_any_number_of_workers(tmp_path: Path) -> None:
    """The list of holders names hosts: worker 0 has the name of its own."""
    file = tmp_path / "cluster.toml"
    file.write_text(f'durable = ["n1", "n2"]\n{RULE}')
    common = ("--config", str(file), "--listen", "127.0.0.1:0", "--log-format", "json")
    here = ("--cluster-listen", f"127.0.0.1:{first_of_free_ports(3)}", "--data", str(tmp_path / "n1"))
    there = ("--cluster-listen", "127.0.0.1:0", "--data", str(tmp_path / "n2"), "--node", "n2")
    async with Triode("serve", *common, *there) as other:
        lines = other.errors()
        address = json.loads(await lines.until('"peer_listening"'))["address"]
        seed = "ws://127.0.0.1:" + re.findall("[0-9]+", str(address))[-1]
        url = str((await Events(lines).until("started"))["urls"][0])
        logs: dict[str, str] = {}
        async with triode.connect(url) as client:
            for life, count in enumerate((2, 1, 3), 1):
                async with serve(*common, *here, "--seed", seed, count=count) as program:
                    await Events(program.errors()).until("workers_up" if count > 1 else "started")
                    for topic in TOPICS:
                        place = await client.publish(topic, life)
                        assert (place.offset, logs.setdefault(topic, place.log)) == (life, place.log)
                    program.signal(signal.SIGINT)
                    assert await program.code() == ExitCode.OK
    assert len(set(logs.values())) == 2
