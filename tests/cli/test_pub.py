"""`triode pub` against a real broker: single messages, pipes, refusals, restarts, tokens."""

import json
from pathlib import Path

import msgspec
import pytest
import triode
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import BrokerAt, Triode, run


async def stored(broker: BrokerAt, topic: str) -> list[triode.Message]:
    """What the broker holds of a topic."""
    async with triode.connect(broker.url) as client:
        return list((await client.history(topic, last=1_000, limit=1_000)).messages)


async def test_one_message_arrives_and_its_place_is_printed(broker: BrokerAt) -> None:
    ended = await run(
        "pub", "rooms/1", "hello", "--key", "k", "--header", "a=1", "--header", "b=x=y", url=broker.url
    )
    (message,) = await stored(broker, "rooms/1")
    assert (message.data, message.key, message.headers) == ("hello", "k", {"a": "1", "b": "x=y"})
    assert ended.code == ExitCode.OK
    assert ended.output == f"{message.log}.{message.pos} offset 1 memory\n"
    assert ended.errors == ""


async def test_json_goes_through_as_it_stands(broker: BrokerAt) -> None:
    text = '{"big": 123456789012345678901234567890, "huge": 1e400, "n": 1.0}'
    assert (await run("pub", "a", text, "--json", url=broker.url)).code == ExitCode.OK
    assert [message.raw.decode() for message in await stored(broker, "a")] == [text]


async def test_without_acknowledgement_it_arrives_and_nothing_is_printed(broker: BrokerAt) -> None:
    async with triode.connect(broker.url) as client, client.subscribe("a") as messages:
        ended = await run("pub", "a", "x", "--no-ack", url=broker.url)
        assert (ended.code, ended.output, ended.errors) == (ExitCode.OK, "", "")
        assert (await anext(aiter(messages))).data == "x"


async def test_lines_of_stdin_arrive_in_order(broker: BrokerAt) -> None:
    texts = [f"line {number}" for number in range(1_000)]
    ended = await run("pub", "a", "-", url=broker.url, stdin=["\n".join(texts).encode()])
    assert (ended.code, ended.output, ended.errors) == (ExitCode.OK, "", "")
    assert [message.data for message in await stored(broker, "a")] == texts


async def test_lines_without_acknowledgement_arrive_in_order(broker: BrokerAt) -> None:
    async with triode.connect(broker.url) as client, client.subscribe("a") as messages:
        lines = b"".join(b"%d\n" % number for number in range(300))
        assert (await run("pub", "a", "-", "--no-ack", url=broker.url, stdin=[lines])).code == ExitCode.OK
        received = aiter(messages)
        assert [(await anext(received)).data for _ in range(300)] == [str(number) for number in range(300)]


async def test_lines_beyond_a_rate_are_slowed_down_and_told_once(broker: BrokerAt) -> None:
    """SPEC 5.1.3, 11.7.1"""
    broker.settings["limits"] = {"rate_burst_ms": 200}
    broker.settings["quotas"] = [{"publishes_per_second": 200}]
    await broker.stop()
    await broker.start()
    lines = b"".join(b"%d\n" % number for number in range(120))
    ended = await run("pub", "a", "-", url=broker.url, stdin=[lines])
    (told,) = ended.errors.splitlines()
    assert ended.code == ExitCode.OK
    assert told.startswith(
        "slower from here on, as the broker asks (rate_limited: publishes_per_second is 200: come"
    )
    assert [message.data for message in await stored(broker, "a")] == [str(number) for number in range(120)]


async def test_lines_without_acknowledgement_that_are_refused_are_no_success(broker: BrokerAt) -> None:
    """SPEC 11.7.2: one error stands for all that came before the time it names."""
    broker.settings["quotas"] = [{"publishes_per_second": 10}]
    await broker.stop()
    await broker.start()
    ended = await run("pub", "a", "-", "--no-ack", url=broker.url, stdin=[b"x\n" * 300])
    first, *_, counted, last = ended.errors.splitlines()
    assert ended.code == ExitCode.REFUSED
    assert counted == "300 lines read, 300 sent"
    assert first.startswith(
        "the broker refused a message: rate_limited: publishes_per_second is 10: come back in "
    )
    assert last.startswith("of these the broker has refused some, ")
    assert 0 < len(await stored(broker, "a")) < 300


async def test_lines_of_a_live_pipe_arrive_as_they_come(broker: BrokerAt) -> None:
    async with (
        triode.connect(broker.url) as client,
        client.subscribe("logs/app") as messages,
        Triode("pub", "logs/app", "-", url=broker.url) as program,
    ):
        received = aiter(messages)
        for text in ("one", "", "three"):
            await program.write(f"{text}\n".encode())
            assert (await anext(received)).data == text
        await program.end_input()
        assert await program.code() == ExitCode.OK


async def test_lines_survive_a_restart_of_the_broker(broker: BrokerAt) -> None:
    async with Triode("pub", "a", "-", "--verbose", url=broker.url) as program:
        errors, output = program.errors(), program.output()
        await program.write(b"before\n")
        await output.next()
        await broker.stop()
        await errors.until("connection lost")
        await program.write(b"during 1\nduring 2\n")
        await broker.start()
        await errors.until("connected again, to node n1")
        await program.write(b"after\n")
        await output.take(3)
        await program.end_input()
        assert await program.code() == ExitCode.OK
    assert [message.data for message in await stored(broker, "a")] == ["during 1", "during 2", "after"]


async def test_a_refused_line_is_told_and_the_others_go_on(broker: BrokerAt) -> None:
    ended = await run("pub", "a", "-", url=broker.url, stdin=[b"1\n", b"x" * 70_000, b"\n3\n"])
    assert ended.code == ExitCode.REFUSED
    told, summary = ended.errors.splitlines()
    assert told.startswith("line 2: the broker refused: too_large")
    assert summary == "3 lines read, 2 published"
    assert [message.data for message in await stored(broker, "a")] == ["1", "3"]


async def test_a_line_that_is_not_json_is_told_and_the_others_go_on(broker: BrokerAt) -> None:
    ended = await run("pub", "a", "-", "--json", url=broker.url, stdin=[b'{"a":1}\n\n{"a":\n\xff\n[2]\n'])
    assert ended.code == ExitCode.FAILURE
    assert [line.partition(":")[0] for line in ended.errors.splitlines()[:2]] == ["line 3", "line 4"]
    assert [message.data for message in await stored(broker, "a")] == [{"a": 1}, [2]]


async def test_many_refused_lines_are_counted_not_told(broker: BrokerAt) -> None:
    ended = await run("pub", "a", "-", "--json", url=broker.url, stdin=[b"nojson\n" * 500])
    assert len(ended.errors.splitlines()) == 12
    assert "500 lines read, 0 published" in ended.errors


async def test_a_line_too_long_to_hold_is_told(broker: BrokerAt) -> None:
    ended = await run("pub", "a", "-", url=broker.url, stdin=[b"x" * 1_100_000, b"\nnext"])
    assert ended.code == ExitCode.FAILURE
    assert ended.errors.startswith("line 1: longer than 1048576 bytes\n")
    assert [message.data for message in await stored(broker, "a")] == ["next"]


async def test_bytes_that_are_no_text_are_replaced(broker: BrokerAt) -> None:
    await run("pub", "a", "-", url=broker.url, stdin=[b"caf\xe9\n\x00\x1b[2J\n"])
    assert [message.data for message in await stored(broker, "a")] == ["caf\ufffd", "\x00\x1b[2J"]


async def test_without_a_broker_it_says_what_to_do(broker: BrokerAt) -> None:
    await broker.stop()
    ended = await run("pub", "a", "x", "--timeout", "0.5", url=broker.url)
    await broker.start()
    assert ended.code == ExitCode.TIMEOUT
    assert f"no broker at {broker.url}" in ended.errors
    assert "triode serve" in ended.errors
    assert len(ended.errors.splitlines()) == 1


@pytest.mark.parametrize("way", ["environment", "arguments"])
async def test_of_several_addresses_any_that_is_there_will_do(broker: BrokerAt, way: str) -> None:
    """SPEC 5.3.6"""
    addresses = ["ws://127.0.0.1:1/ws", broker.url, "ws://127.0.0.1:2"]
    given = [word for address in addresses for word in ("--url", address)] if way == "arguments" else []
    environ = {} if given else {"TRIODE_URL": ", ".join(addresses)}
    for number in range(3):  # wherever it begins
        assert (await run("pub", "a", str(number), *given, environ=environ)).code == ExitCode.OK
    heard = await run("sub", "a", "--from", "earliest", "--count", "3", *given, environ=environ)
    assert heard.output.split()[1::2] == ["0", "1", "2"]


async def test_where_no_address_answers_each_is_told_with_its_reason() -> None:
    addresses = ["ws://127.0.0.1:1/ws", "ws://127.0.0.1:2/ws"]
    ended = await run("pub", "a", "x", "--timeout", "0.5", url=",".join(addresses))
    assert ended.code == ExitCode.TIMEOUT
    assert "no broker at ws://127.0.0.1:1/ws or ws://127.0.0.1:2/ws (" in ended.errors
    assert all(f"{address}: all attempts to connect" in ended.errors for address in addresses)


async def test_lines_wait_for_a_broker_that_is_not_there_yet(broker: BrokerAt) -> None:
    await broker.stop()
    async with Triode("pub", "a", "-", url=broker.url) as program:
        errors = program.errors()
        told = await errors.next()
        assert told.startswith(f"cannot connect to {broker.url} (")
        assert told.endswith("trying until there is one")
        await broker.start()
        assert await errors.next() == "connected, to node n1"
        await program.write(b"late\n")
        await program.end_input()
        assert await program.code() == ExitCode.OK
    assert [message.data for message in await stored(broker, "a")] == ["late"]


@pytest.mark.parametrize("arguments", [["pub", "a", "x"], ["pub", "a", "-"], ["sub", "a"]])
async def test_how_long_it_is_tried_is_told_with_the_reason(broker: BrokerAt, arguments: list[str]) -> None:
    wrong = f"{broker.url}/nowhere"
    ended = await run(*arguments, "--timeout", "3", url=wrong)
    told, end = ended.errors.splitlines()
    assert told.startswith(f"cannot connect to {wrong} (the broker answered the WebSocket handshake with HTTP 404")
    assert told.endswith("trying for 3 s in all")
    assert (ended.code, f"no broker at {wrong}" in end) == (ExitCode.TIMEOUT, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pub", "a/#", "x"], "not a topic or filter: a topic has no wildcard"),
        (["pub", "a", "{", "--json"], "DATA is not JSON"),
        (["pub", "a", "x", "--header", "novalue"], "--header novalue: allowed is NAME=VALUE"),
        (["pub", "a", "x", "--header", "a=1", "--header", "a=2"], "each name once"),
        (["pub", "a", "x", "--url", "nowhere"], "--url: not a broker's URL: 'nowhere'"),
        (["pub", "a", "x", "--url", "ws://[x"], "--url ws://[x: Invalid IPv6 URL"),
        (["pub", "a", "x", "--url", "ws://h:99999"], "--url ws://h:99999: Port out of range"),
        (["pub", "a", "x", "--url", ""], "--url: is empty; an address looks like ws://"),
        (["sub", "a", "--url", ""], "--url: is empty"),
        (["sub", "a", "--url", "ws://h,"], "--url: is empty"),
        (["sub", "a", "--url", "ws://h", "--url", "ws://u@h"], "--url: a broker's URL has no user"),
        (["pub", "a", "x", "--token-file", "/nowhere/token"], "--token-file /nowhere/token: cannot be read"),
        (["sub", "a/+", "--from", "last:3"], "--from last:N is for exact topics"),
        (["sub", "a", "--from", "yesterday"], "--from yesterday: allowed is new, last"),
        (["sub", "a//b"], "not a topic or filter: it has an empty level"),
    ],
)
async def test_wrong_arguments_are_told_in_one_line(broker: BrokerAt, arguments: list[str], words: str) -> None:
    ended = await run(*arguments, environ={} if "--url" in arguments else {"TRIODE_URL": broker.url})
    assert ended.code == ExitCode.USAGE
    assert words in ended.errors
    assert len(ended.errors.splitlines()) == 1


@pytest.mark.parametrize("command", [["pub", "a", "x"], ["sub", "a"]])
async def test_an_empty_address_is_never_the_default(command: list[str]) -> None:
    ended = await run(*command, environ={"TRIODE_URL": ""})
    assert (ended.code, ended.errors.startswith(f"triode {command[0]}: TRIODE_URL: is empty")) == (
        ExitCode.USAGE,
        True,
    )


@pytest.mark.parametrize("way", ["file", "environment"])
async def test_a_token_is_used_and_never_shown(tmp_path: Path, broker: BrokerAt, way: str) -> None:
    """S10: a canary token is in no argument, output or error."""
    canary = "canary-7f3a"
    (tmp_path / "token").write_text(f"{canary}\n")
    extra = ["--token-file", str(tmp_path / "token")] if way == "file" else []
    environ = {} if extra else {"TRIODE_TOKEN": canary}
    ended = await run("pub", "a", "x", "--verbose", *extra, url=broker.url, environ=environ)
    assert ended.code == ExitCode.OK
    await broker.stop()
    failed = await run("pub", "a", "x", "--timeout", "0.3", *extra, url=broker.url, environ=environ)
    await broker.start()
    assert canary not in ended.output + ended.errors + failed.output + failed.errors


async def test_an_empty_token_file_is_refused(tmp_path: Path, broker: BrokerAt) -> None:
    """S14: an empty secret file is never "no secret"."""
    (tmp_path / "token").write_text("\n")
    ended = await run("pub", "a", "x", "--token-file", str(tmp_path / "token"), url=broker.url)
    assert (ended.code, "is empty" in ended.errors) == (ExitCode.USAGE, True)


async def test_positions_of_lines_are_printed_when_asked(broker: BrokerAt) -> None:
    ended = await run("pub", "a", "-", "--verbose", url=broker.url, stdin=[b"1\n2\n3\n"])
    places = [f"{m.log}.{m.pos} offset {m.offset} memory" for m in await stored(broker, "a")]
    assert ended.output.splitlines() == places


async def test_lines_are_not_dropped_in_silence_when_nobody_reads_their_positions(broker: BrokerAt) -> None:
    async with Triode("pub", "a", "-", "--verbose", url=broker.url) as program:
        errors = program.errors()
        await program.write(b"1\n")
        await program.output().next()
        await program.stop_reading()
        await program.write(b"2\n")
        assert await errors.until("stdout: nobody reads it any more")
        assert await program.code() == ExitCode.FAILURE


async def test_what_pub_and_sub_say_is_the_same_json(broker: BrokerAt) -> None:
    """The output of `sub --json` feeds `pub - --json`."""
    await run("pub", "a", '{"text": "é\\u2028\\ud83d\\ude42"}', "--json", url=broker.url)
    heard = await run("sub", "a", "--from", "earliest", "--count", "1", "--json", url=broker.url)
    data = json.dumps(json.loads(heard.output)["data"]).encode()
    await run("pub", "b", "-", "--json", url=broker.url, stdin=[data])
    (first,), (second,) = await stored(broker, "a"), await stored(broker, "b")
    assert first.data == second.data == msgspec.json.decode('{"text": "é\\u2028🙂"}')
