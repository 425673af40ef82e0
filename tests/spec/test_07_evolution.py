"""SPEC 7: what is offered, what is reserved, and that a client of today can live with a server of tomorrow."""

from pathlib import Path
from typing import Any

import pytest
from triode_protocol import codec, packets

from tests.spec.broker import RunningBroker
from tests.spec.client import SCHEMAS
from tests.spec.conftest import StartBroker
from tests.spec.reader import Reader
from tests.spec.transcripts import SPEC


async def capabilities(broker: RunningBroker) -> list[str]:
    client = await broker.open()
    await client.send({"type": "connect"})
    offered: list[str] = (await client.expect("connected"))["capabilities"]
    return offered


def rows(clause: str, end: str) -> list[list[str]]:
    """The cells of a clause's table."""
    section = SPEC.read_text(encoding="utf-8").split(f"**{clause}**")[1].split(end)[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return lines[2:]


async def test_server_offers_what_the_table_says(
    broker: RunningBroker, start_broker: StartBroker, tmp_path: Path
) -> None:
    """SPEC 7.2, 4.1.2: `durable` where there is a disk, `auth` with credentials, `delay` where allowed."""
    all = {name.strip("`") for name, _ in rows("7.2", "**7.3**")}
    assert set(await capabilities(broker)) == all - {"durable", "auth"}
    assert set(await capabilities(await start_broker(data=str(tmp_path), auth={"anonymous": True}))) == all
    strict = await start_broker(limits={"max_delay_seconds": 0})
    assert set(await capabilities(strict)) == all - {"durable", "auth", "delay"}
    client = await strict.connect()
    error = await client.publish("a", 1, deliver_at_ms=5)
    assert (error["name"], error["field"]) == ("unsupported", "deliver_at_ms")


RESERVED: list[tuple[dict[str, Any], str]] = [
    ({"type": "publish", "topic": "a", "data": 1, "reply_to": "$inbox/x"}, "reply_to"),
    ({"type": "auth", "token": "t"}, "type"),
]


@pytest.mark.parametrize(("packet", "field"), RESERVED, ids=lambda value: str(value)[:60])
async def test_reserved_name_is_unsupported(broker: RunningBroker, packet: dict[str, Any], field: str) -> None:
    """SPEC 7.3"""
    client = await broker.connect()
    error = await client.request(packet)
    assert (error["name"], error["field"], error["retry"]) == ("unsupported", field, "never")


async def test_no_capability_is_offered_whose_names_are_refused(broker: RunningBroker) -> None:
    """SPEC 7.3"""
    reserved = {cell.strip("`") for *_, cell in rows("7.3", "**7.4**")} - {"–"}
    assert reserved.isdisjoint(await capabilities(broker))


def test_client_that_ignores_the_unknown_lives_on() -> None:
    """SPEC 7.1, 1.8: new types, new fields and new names change nothing for it."""
    reader = Reader()
    subscription = reader.add(1, "a")
    reader.feed({"type": "subscribed", "sub": 1, "after": {"m0": 0}, "live": True, "weather": "fine"})
    reader.feed({"type": "applause", "sub": 1})
    reader.feed({"type": "gap", "sub": 1, "after": {"m0": 3}, "reason": "moonlight"})
    reader.feed({"type": "message", "topic": "a", "log": "m0", "pos": 4, "data": 1, "scent": "pine"})
    assert subscription.data == [1]
    assert [gap["reason"] for gap in subscription.gaps] == ["moonlight"]


def test_every_packet_of_the_server_has_a_schema() -> None:
    """SPEC 7.4: the raw client of these tests holds every packet that it receives against it."""
    assert set(SCHEMAS) == {kind.__struct_config__.tag for kind in packets.SERVER_PACKETS}
    bye = packets.Bye(4100, "shutdown")
    SCHEMAS["bye"].validate({"type": "bye", "code": 4100, "name": "shutdown"})
    assert codec.encode(bye) == b'{"type":"bye","code":4100,"name":"shutdown"}'
