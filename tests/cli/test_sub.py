"""`triode sub` against a real broker: where it begins, what it prints, how it ends."""

import json
from signal import SIGINT

import msgspec
import pytest
import triode
from triode_broker.cli.exit_codes import INTERRUPTED, ExitCode, Failure
from triode_broker.cli.sub import MAX_LAST, parse_start
from triode_protocol import packets

from tests.cli.programs import BrokerAt, Triode, run


async def publish(broker: BrokerAt, topic: str, *texts: object) -> None:
    async with triode.connect(broker.url) as client:
        for text in texts:
            await client.publish(topic, text)


async def test_text_is_printed_as_text_and_the_rest_as_json(broker: BrokerAt) -> None:
    await publish(broker, "a/b", "hello", {"n": [1, 2.5, None]}, 7, b"\xff")
    ended = await run("sub", "a/b", "--from", "earliest", "--count", "4", url=broker.url)
    assert ended.output.splitlines() == ["a/b hello", 'a/b {"n":[1,2.5,null]}', "a/b 7", 'a/b {"b64":"/w=="}']
    assert (ended.code, ended.errors) == (ExitCode.OK, "")


async def test_json_has_every_field(broker: BrokerAt) -> None:
    async with triode.connect(broker.url) as client:
        headers = {"trace": "a1"}
        place = await client.publish("a/b", {"x": 1}, key="k", headers=headers, message_id="m1")
    ended = await run("sub", "a/#", "--from", "earliest", "--count", "1", "--json", url=broker.url)
    seen = json.loads(ended.output)
    assert seen.pop("ts") > 1_700_000_000_000
    assert seen == {
        "topic": "a/b",
        "data": {"x": 1},
        "log": place.log,
        "pos": place.pos,
        "offset": 1,
        "key": "k",
        "headers": headers,
        "message_id": "m1",
    }


@pytest.mark.parametrize("form", [[], ["--json"]])
async def test_remote_data_cannot_drive_the_terminal_or_forge_a_line(broker: BrokerAt, form: list[str]) -> None:
    await publish(broker, "a", "x\nb forged \x1b[2J\x9b1m\u2028\u202e", {"\x1b]0;t\x07": "\x7f\u0085"})
    ended = await run("sub", "a", "--from", "earliest", "--count", "2", *form, url=broker.url)
    assert len(ended.output.splitlines()) == 2
    assert all(line.isprintable() for line in ended.output.splitlines())
    if form:
        first, second = map(json.loads, ended.output.splitlines())
        assert first["data"] == "x\nb forged \x1b[2J\x9b1m\u2028\u202e"
        assert second["data"] == {"\x1b]0;t\x07": "\x7f\u0085"}


@pytest.mark.parametrize(
    ("start", "seen"),
    [
        ("earliest", ["a 1", "a 2", "a 3"]),
        ("last", ["a 3"]),
        ("last:2", ["a 2", "a 3"]),
        ("since:1h", ["a 1", "a 2", "a 3"]),
        ("since:0", ["a 1", "a 2", "a 3"]),
    ],
)
async def test_it_begins_where_it_is_told(broker: BrokerAt, start: str, seen: list[str]) -> None:
    await publish(broker, "a", 1, 2, 3)
    ended = await run("sub", "a", "--from", start, "--count", str(len(seen)), url=broker.url)
    assert ended.output.splitlines() == seen


async def test_several_filters_are_heard(broker: BrokerAt) -> None:
    await publish(broker, "a/1", "x")
    await publish(broker, "b", "y")
    ended = await run("sub", "a/+", "b", "--from", "earliest", "--count", "2", url=broker.url)
    assert sorted(ended.output.splitlines()) == ["a/1 x", "b y"]


async def test_lines_are_printed_as_they_come(broker: BrokerAt) -> None:
    await publish(broker, "a", "old")
    async with Triode("sub", "a", "--from", "earliest", url=broker.url) as program:
        lines = program.output()
        assert await lines.next() == "a old"
        await publish(broker, "a", "new")
        assert await lines.next() == "a new"


async def test_a_restart_is_told_with_the_gap_it_makes(broker: BrokerAt) -> None:
    await publish(broker, "a", "before")
    async with Triode("sub", "a", "--from", "earliest", url=broker.url) as program:
        lines, errors = program.output(), program.errors()
        assert await lines.next() == "a before"
        await broker.stop()
        assert (await errors.next()).startswith("connection lost (")
        await broker.start()
        told = await errors.take(2)  # by two tasks: in either order
        assert "connected again, to node n1" in told
        assert any("messages are missing here (reset" in line for line in told)
        await publish(broker, "a", "after")
        assert await lines.next() == "a after"


async def test_too_few_messages_in_time_end_with_4(broker: BrokerAt) -> None:
    await publish(broker, "a", "one")
    ended = await run("sub", "a", "--from", "earliest", "--count", "2", "--timeout", "1", url=broker.url)
    assert (ended.code, ended.output) == (ExitCode.TIMEOUT, "a one\n")


async def test_listening_for_a_while_ends_with_0(broker: BrokerAt) -> None:
    ended = await run("sub", "a", "--timeout", "0.3", url=broker.url)
    assert (ended.code, ended.output, ended.errors) == (ExitCode.OK, "", "")


async def test_no_broker_ends_with_4(broker: BrokerAt) -> None:
    await broker.stop()
    ended = await run("sub", "a", "--timeout", "0.3", url=broker.url)
    await broker.start()
    assert ended.code == ExitCode.TIMEOUT
    assert "no broker at" in ended.errors


async def test_a_refused_subscription_ends_with_3(broker: BrokerAt) -> None:
    deep = "/".join("123456789")
    ended = await run("sub", "a", deep, "--from", "earliest", url=broker.url)
    assert ended.code == ExitCode.REFUSED
    assert f"{deep}: the broker refused: bad_topic" in ended.errors
    assert "Traceback" not in ended.errors


async def test_it_ends_quietly_when_nobody_reads(broker: BrokerAt) -> None:
    await publish(broker, "a", 1)
    async with Triode("sub", "a", "--from", "earliest", url=broker.url) as program:
        errors = program.errors()
        assert await program.output().next() == "a 1"
        await program.stop_reading()
        await publish(broker, "a", 2)
        assert await program.code() == ExitCode.OK
        with pytest.raises(AssertionError, match="no further line; rest: b''"):
            await errors.next()


@pytest.mark.parametrize("command", [["sub", "a", "--from", "earliest"], ["pub", "a", "-", "--verbose"]])
async def test_ctrl_c_ends_with_130_and_no_traceback(broker: BrokerAt, command: list[str]) -> None:
    await publish(broker, "a", 1)
    async with Triode(*command, url=broker.url) as program:
        errors = program.errors()
        await program.write(b"x\n")
        await program.output().next()
        program.signal(SIGINT)
        assert await program.code() == INTERRUPTED
        with pytest.raises(AssertionError, match="no further line; rest: b''"):
            await errors.next()


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("new", "new"),
        ("last:20", {"last": 20}),
        ("since:1732281000123", {"since": 1_732_281_000_123}),
        ("since:90s", {"since": 1_000_000 - 90_000}),
        ("since:250ms", {"since": 999_750}),
        ("since:15m", {"since": 100_000}),
        ("since:1d", {"since": 0}),
    ],
)
def test_starts_are_read(text: str, start: object) -> None:
    assert parse_start(text, 1_000_000) == start


@pytest.mark.parametrize(
    "text",
    ["", "now", "last:", "last:0", "last:-1", "last:10001", "last:99999", "last:100000", "since:", "since:x"],
)
def test_a_wrong_start_is_told(text: str) -> None:
    with pytest.raises(Failure, match="allowed is new, last, earliest"):
        parse_start(text, 0)


def test_the_most_that_last_may_ask_for_is_what_the_protocol_allows() -> None:
    assert msgspec.convert(parse_start(f"last:{MAX_LAST}", 0), packets.Start).last == MAX_LAST
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"last": MAX_LAST + 1}, packets.Start)
