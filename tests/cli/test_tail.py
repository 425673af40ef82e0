"""`triode tail`: as people read it, as programs do, over the socket and HTTP; nothing of it drives a terminal."""

import json
from pathlib import Path

import pytest
import trio
import triode
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.tail import as_line
from triode_broker.printable import escape

from tests.cli.programs import PATIENCE_SECONDS, BrokerAt, Triode, run


def test_a_line_says_when_where_who_and_what() -> None:
    packet = {"type": "publish", "id": 3, "topic": "rooms/1", "data_bytes": 7}
    event = {"at_ms": 1_000, "node": "n1", "event": "says", "connection": "c-1", "user": "ada", "packet": packet}
    line = as_line({**event, "tenant": ""})
    assert line.split(" ", 1)[1] == "n1 c-1 ada → publish id=3 topic=rooms/1 data_bytes=7"
    left = {"at_ms": 1_234, "node": "n1", "event": "disconnected", "connection": "c-1", "user": "", "code": 1001}
    line = as_line(left)
    assert line.split(" ", 1)[1] == "n1 disconnected connection=c-1 code=1001"
    assert line.split(" ")[0].endswith(".234")


def test_nothing_that_clients_chose_drives_the_terminal() -> None:
    """S27."""
    bad = "\x1b[2J\u202e\n"
    event = {"at_ms": 0, "node": "n1", "event": "says", "connection": bad, "user": bad, "packet": {bad: bad}}
    shown = escape(as_line(event))
    assert shown.isprintable()


@pytest.mark.parametrize("way", ["socket", "http"])
async def test_messages_of_a_filter_are_followed(nursery: trio.Nursery, tmp_path: Path, way: str) -> None:
    broker = BrokerAt(nursery, {"data": str(tmp_path)})
    await broker.start()
    where = ["--data", str(tmp_path)]
    if way == "http":
        where = ["--url", broker.url.replace("ws://", "http://").removesuffix("/ws")]
    words = ("tail", "--topic", "rooms/#", "--json", "--payloads", "--count", "2", *where)
    async with Triode(*words) as program, triode.connect(broker.url) as client:
        await is_followed(tmp_path)
        for number in range(3):
            await client.publish("rooms/1", number)
        shown = [json.loads(line) for line in await program.output().rest()]
        assert [(one["event"], one["topic"], one["data"]) for one in shown] == [
            ("message", "rooms/1", 0),
            ("message", "rooms/1", 1),
        ]
        assert await program.code() == ExitCode.OK
    await broker.stop()


async def is_followed(data: Path) -> None:
    """Until an operator is subscribed."""
    with trio.fail_after(PATIENCE_SECONDS):
        while '"method": "operator"' not in (await run("connections", "--data", str(data), "--json")).output:
            pass


async def test_what_cannot_be_followed_is_a_sentence(broker: BrokerAt) -> None:
    url = broker.url.replace("ws://", "http://").removesuffix("/ws")
    ended = await run("tail", "--topic", "a/#/b", "--url", url)
    assert ended.code == ExitCode.FAILURE
    assert "triode tail: " in ended.errors
    assert (await run("tail", "--url", url)).code == ExitCode.USAGE
