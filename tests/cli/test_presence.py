"""`triode presence` against a real broker (SPEC 10.4)."""

import json

import triode
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.presence import as_text

from tests.cli.programs import BrokerAt, run


async def test_members_are_listed_a_line_each(broker: BrokerAt) -> None:
    async with triode.connect(broker.url) as client:
        async with (
            client.subscribe("room", presence={"state": {"name": "Ann"}}),
            client.subscribe("room", presence={"state": "two\nlines \x1b[2J"}),
        ):
            ended = await run("presence", "room", url=broker.url)
            assert (ended.code, ended.errors) == (ExitCode.OK, "")
            first, second = ended.output.splitlines()
            assert first.partition(" ")[2] == '{"name":"Ann"}'
            assert second.isprintable()
            ended = await run("presence", "room", "--json", url=broker.url)
            states = [json.loads(line)["state"] for line in ended.output.splitlines()]
            assert states == [{"name": "Ann"}, "two\nlines \x1b[2J"]
        ended = await run("presence", "room", url=broker.url)
        assert (ended.code, ended.output) == (ExitCode.OK, "")


async def test_list_that_does_not_fit_is_told(broker: BrokerAt) -> None:
    await broker.stop()
    broker.settings["limits"] = {"max_frame_bytes": 8_300, "max_packet_bytes": 8_300}
    await broker.start()
    async with (
        triode.connect(broker.url) as client,
        client.subscribe("room", presence={"state": "x" * 200}),
    ):
        ended = await run("presence", "room", url=broker.url)
    assert (ended.code, ended.output) == (ExitCode.OK, "")
    assert "there may be more" in ended.errors


async def test_broker_that_is_not_there_is_told() -> None:
    ended = await run("presence", "room", "--timeout", "0.2", url="ws://127.0.0.1:1")
    assert ended.code == ExitCode.TIMEOUT
    assert "is it running?" in ended.errors


async def test_filter_is_no_topic(broker: BrokerAt) -> None:
    ended = await run("presence", "room/+", url=broker.url)
    assert ended.code == ExitCode.USAGE
    assert "not a topic" in ended.errors


def test_user_is_shown_where_there_is_one() -> None:
    assert as_text(triode.Member("p-1", 1, "ann")) == "p-1 ann 1"
