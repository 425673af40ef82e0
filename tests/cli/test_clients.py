"""`triode connections`, `kick`, `revoke`, `unrevoke` and `revocations` against a running broker (S19, S29)."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import triode
from triode_broker.cli import revoke as revoking
from triode_broker.cli.client_answers import check_answered, tell_kept, when
from triode_broker.cli.connections import as_text as as_connections
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.main import main
from triode_broker.cli.revocations import as_text as as_revocations

from tests.cli.programs import PATIENCE_SECONDS, BrokerAt, Ended, Triode, run
from tests.cli.test_serve import started
from tests.security.withdrawing import EVERYTHING, SECRET, settings, token

GOOD = ("kick", "revoke", "unrevoke", "revocations", "connections")


@asynccontextmanager
async def asking(folder: Path, **more: object) -> AsyncIterator[BrokerAt]:
    """A broker that asks for tokens."""
    async with trio.open_nursery() as nursery:
        broker = BrokerAt(nursery, {"data": str(folder / "data"), **settings(folder), **more})
        await broker.start()
        yield broker
        await broker.stop()


async def command(folder: Path, *arguments: str) -> Ended:
    return await run(*arguments, "--data", str(folder / "data"))


async def closed(client: triode.Client) -> triode.ConnectionClosed:
    """The client has given up: it would not come in again."""
    with trio.fail_after(PATIENCE_SECONDS):
        async for event in client.events():
            if isinstance(event, triode.StateChanged) and event.state is triode.State.CLOSED:
                break
    with pytest.raises(triode.ConnectionClosed) as raised:
        await client.publish("a", 1)
    return raised.value


async def test_an_operator_looks_kicks_revokes_and_takes_back(tmp_path: Path) -> None:
    """SPEC 5.3.2: a client of ours stays away after 4002 and 4006, and comes back after 4107."""
    ada = token("ada", jti="t1")
    async with asking(tmp_path) as broker:
        assert (await command(tmp_path, "connections")).output == "no connections\n"
        assert (await command(tmp_path, "revocations")).output == "nothing is revoked\n"
        async with triode.connect(broker.url, token=ada) as client:
            shown = (await command(tmp_path, "connections")).output
            assert shown.startswith("CONNECTION")
            assert "n1    ada   -       token  t1     -    127.0.0.1  0 s ago" in shown
            kicked = await command(tmp_path, "kick", "--user", "ada", "--come-back")
            assert (kicked.code, kicked.output) == (ExitCode.OK, "1 connection closed\n")
            await client.publish("a", 1)  # it has come back by itself
            ended = await command(tmp_path, "revoke", "--token", "t1", "--for", "2h")
            assert (ended.code, ended.errors) == (ExitCode.OK, "")
            assert ended.output.startswith("token t1 is revoked until 20")
            assert ended.output.endswith("Z: 1 connection closed\n")
            await closed(client)
        with pytest.raises(triode.ConnectionRefused, match="revoked"):
            await triode.connect(broker.url, token=ada).__aenter__()
        (listed,) = json.loads((await command(tmp_path, "revocations", "--json")).output)["revocations"]
        assert (listed["kind"], listed["value"], listed["tenant"], listed["also_new"]) == (
            "token",
            "t1",
            "",
            False,
        )
        assert listed["until_ms"] - listed["at_ms"] == 7_200_000
        assert (
            await command(tmp_path, "unrevoke", "--token", "t1")
        ).output == "token t1 is not revoked any more\n"
        async with triode.connect(broker.url, token=ada) as client:
            assert (await command(tmp_path, "kick", "--address", "127.0.0.1")).output == "1 connection closed\n"
            await closed(client)
        ended = await command(tmp_path, "unrevoke", "--token", "t1")
        assert (ended.code, "is not revoked: `triode revocations` lists" in ended.errors) == (
            ExitCode.REFUSED,
            True,
        )


async def test_a_key_that_outlasts_the_revocation_of_its_user_is_told(tmp_path: Path) -> None:
    """S19: a user's revocation ends when no token can be good any more, and a key has no end."""
    async with asking(tmp_path) as broker:
        key = (tmp_path / "key").read_text()
        async with triode.connect(broker.url, token=key) as client:
            ended = await command(tmp_path, "revoke", "--user", "billing")
            name = key.split("_")[1]
            assert (ended.code, ended.output.endswith(": 1 connection closed\n")) == (ExitCode.OK, True)
            assert ended.errors.startswith(
                f"API key {name} is good again after that: triode revoke --key {name}, or"
            )
            await closed(client)
        assert (await command(tmp_path, "revoke", "--user", "billing", "--for", "ever")).errors == ""
    assert list(revoking.outlasting([{"key": "", "method": "token"}])) == []
    (line,) = revoking.outlasting([{"key": "", "method": "certificate"}] * 2)
    assert "certificate" in line


def serve(folder: Path, *arguments: str) -> Triode:
    """A broker as a process, with a key in a file of its own."""
    key = folder / "key"
    key.touch(0o600)
    key.write_text(SECRET)
    rules = "\n".join(f"{name} = {json.dumps(filters)}" for name, filters in EVERYTHING.items())
    file = folder / "triode.toml"
    file.write_text(f'[[tokens]]\nalgorithm = "HS256"\nkey_file = "{key}"\n[[permissions]]\n{rules}\n')
    return Triode("serve", "--config", str(file), "--listen", "127.0.0.1:0", "--log-format", "json", *arguments)


async def test_what_was_revoked_is_so_after_a_kill(tmp_path: Path) -> None:
    """S19: answered means on disk."""
    data = str(tmp_path / "data")
    async with serve(tmp_path, "--data", data) as program:
        url = await started(program.errors())
        async with triode.connect(url, token=token("ada")) as client:
            assert (await command(tmp_path, "revoke", "--user", "ada", "--also-new")).code == ExitCode.OK
            program.signal(signal.SIGKILL)
            await program.code()
            await closed(client)
    async with serve(tmp_path, "--data", data) as program:
        url = await started(program.errors())
        with pytest.raises(triode.ConnectionRefused, match="revoked"):
            await triode.connect(url, token=token("ada")).__aenter__()
        async with triode.connect(url, token=token("bob")):
            pass


async def test_a_node_without_data_is_found_by_its_socket_and_has_it_alone(tmp_path: Path) -> None:
    """S29"""
    path = tmp_path / "operators.sock"
    async with serve(tmp_path, "--admin-socket", str(path)) as program:
        await started(program.errors())
        ended = await run("revoke", "--key", "billing", "--admin-socket", str(path))
        assert (ended.code, ended.output) == (
            ExitCode.OK,
            "key billing is revoked for ever: 0 connections closed\n",
        )
        assert ended.errors.startswith("kept in memory only, and forgotten when the broker restarts")
        listed = await run("revocations", environ={"TRIODE_ADMIN_SOCKET": str(path)})
        assert listed.output.splitlines()[1].split() == ["key", "billing", "-", *listed.output.split()[-4:]]
        async with serve(tmp_path, "--admin-socket", str(path)) as second:
            assert await second.code() == ExitCode.FAILURE
            said = (await second.errors().rest())[-1]
            assert said.startswith(f"triode serve: admin_socket {path}: another node is administered there")
    ended = await run("revocations", "--admin-socket", str(path))
    assert (ended.code, "no broker is running with --admin-socket" in ended.errors) == (ExitCode.TIMEOUT, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["kick"], "kick whom?"),
        (["kick", "--user", ""], "--user is empty"),
        (["revoke"], "revoke what?"),
        (["revoke", "--tenant", "acme"], "revoke what?"),
        (["revoke", "--user", "ada", "--token", "t1"], "revoke what?"),
        (["unrevoke"], "unrevoke what?"),
        (["revocations"], "which broker?"),
    ],
)
def test_wrong_arguments_are_told(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRIODE_DATA", "TRIODE_CONFIG", "TRIODE_ADMIN_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    assert main(arguments) == ExitCode.USAGE
    assert words in capsys.readouterr().err


def test_settings_without_a_place_to_be_asked_at_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which broker is clear; what it lacks is not."""
    for name in ("TRIODE_DATA", "TRIODE_CONFIG", "TRIODE_ADMIN_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "triode.toml"
    file.write_text('listen = "127.0.0.1:0"\n')
    assert main(["connections", "--config", str(file)]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert f'{file} has neither data nor admin_socket, so its broker cannot be asked: give it data = "DIR"' in told


@pytest.mark.parametrize("time", ["1", "x", "-1s", "1.5h", "1y", "", "9999999999d"])
def test_what_is_no_time_is_a_wrong_argument(time: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["revoke", "--user", "ada", f"--for={time}"])
    assert ended.value.code == ExitCode.USAGE
    assert "is no time: 90s, 15m, 2h, 30d or ever" in capsys.readouterr().err


@pytest.mark.parametrize("name", GOOD)
def test_each_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert f"  triode {name}" in capsys.readouterr().out


def test_nodes_that_did_not_answer_are_no_success() -> None:
    with pytest.raises(Failure, match="no answer from n2, n3: it holds there") as raised:
        check_answered({"unanswered": ["n2", "n3"]}, revoking._MISSED)
    assert raised.value.code == ExitCode.TIMEOUT


def test_what_is_not_kept_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    tell_kept({"kept": {"n1": "disk", "n2": "memory"}})
    assert capsys.readouterr().err == ""
    tell_kept({"kept": {"n1": "memory", "n2": "failed"}})
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("kept in memory only")
    assert said[1] == "in force, but not written down by n2: the log there says why"


def test_tables_show_what_there_is_and_drive_no_terminal() -> None:
    """S27"""
    entry = {
        "kind": "user",
        "value": "a\x1b[2J",
        "tenant": "acme",
        "at_ms": 1_000,
        "until_ms": 0,
        "also_new": True,
    }
    (_, row) = as_revocations({"revocations": [entry]}).splitlines()
    assert row.split() == ["user", "a\\u001b[2J", "acme", "1970-01-01", "00:00:01Z", "never", "all"]
    one = {
        "connection": "c-1", "node": "n1", "user": "", "tenant": "", "method": "anonymous", "token": "", "key": "",
        "address": "", "since_ms": 0, "subscriptions": 3, "refused": 40,
    }  # fmt: skip
    shown = as_connections({"connections": [one], "more": True}, 1_000).splitlines()
    assert shown[1].split() == ["c-1", "n1", "-", "-", "anonymous", "-", "-", "-", "1", "s", "ago", "3", "40"]
    assert shown[2] == "there are more: --after c-1, or a greater --limit"
    assert when(0) == "never"
