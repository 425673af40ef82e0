"""The administration socket: who may open it, what garbage and floods come to, and that nothing ends it."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from triode_broker.admin import listener
from triode_broker.admin.listener import MAX_LINE_BYTES, MAX_PEERS, BadCall, BadSocket, serve_calls

from tests.admin.running import PATIENCE_SECONDS, EventLog, hear


class Calls:
    """Some calls to make."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.waiting = 0

    def table(self) -> dict[str, listener.Call]:
        return {"echo": self.echo, "refuse": self.refuse, "break": self.fail, "wait": self.wait}

    async def echo(self, parameters: Mapping[str, Any]) -> object:
        return parameters

    async def refuse(self, parameters: Mapping[str, Any]) -> object:
        raise BadCall("not today")

    async def fail(self, parameters: Mapping[str, Any]) -> object:
        raise LookupError("a bug")

    async def wait(self, parameters: Mapping[str, Any]) -> object:
        self.waiting += 1
        await self.gate.wait()
        return "waited"


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[tuple[Calls, EventLog]]:
    calls, log = Calls(), EventLog()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_calls, directory / "admin.sock", calls.table(), log=log))
        yield calls, log
        nursery.cancel_scope.cancel()


async def test_only_its_owner_may_open_it(tmp_path: Path) -> None:
    """S29: whatever the umask."""
    before = os.umask(0)
    try:
        async with serving(tmp_path):
            mode = (tmp_path / "admin.sock").stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
    finally:
        os.umask(before)


async def test_it_is_gone_at_the_end_and_one_left_behind_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "admin.sock"))
    left.close()  # as a kill does: the file stays
    async with serving(tmp_path):
        assert await hear(tmp_path, b'{"call":"echo","a":1}') == {"ok": {"a": 1}}
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "not a call"),
        (b"hello", "not a call"),
        (b"[]", "not a call"),
        (b"{}", "no such call; there are break, echo"),
        (b'{"call":7}', "no such call"),
        (b'{"call":["echo"]}', "no such call"),
        (b"\xff\xfe\x00", "not a call"),
        (b"[" * 50_000, "not a call"),
        (b'{"call":"refuse"}', "not today"),
        (b'{"call":"break"}', "the broker's log says why"),
    ],
    ids=range(10),
)
async def test_what_cannot_be_done_gets_a_sentence_and_ends_nothing(
    line: bytes, words: str, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (_, log):
        answer = await hear(tmp_path, line)
        assert words in answer["error"]
        assert await hear(tmp_path, b'{"call":"echo"}') == {"ok": {}}
        assert len(log.told("admin_call_failed")) == (line == b'{"call":"break"}')


async def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path):
        async with await trio.open_unix_socket(str(tmp_path / "admin.sock")) as stream:
            with trio.fail_after(PATIENCE_SECONDS):
                await stream.send_all(b"x" * (MAX_LINE_BYTES + 1))
                said = b"".join([piece async for piece in stream])
        assert f"at most {MAX_LINE_BYTES} bytes" in msgspec.json.decode(said)["error"]
        assert await hear(tmp_path, b'{"call":"echo"}') == {"ok": {}}


async def test_many_calls_in_one_piece_are_answered_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path), await trio.open_unix_socket(str(tmp_path / "admin.sock")) as stream:
        with trio.fail_after(PATIENCE_SECONDS):
            await stream.send_all(b"".join(b'{"call":"echo","n":%d}\n' % n for n in range(500)))
            said = b""
            while said.count(b"\n") < 500:
                said += await stream.receive_some()
        assert [msgspec.json.decode(line)["ok"]["n"] for line in said.splitlines()] == list(range(500))


async def test_a_peer_that_goes_in_the_middle_ends_only_its_own_call(tmp_path: Path) -> None:
    async with serving(tmp_path) as (calls, log):
        stream = await trio.open_unix_socket(str(tmp_path / "admin.sock"))
        await stream.send_all(b'{"call":"wait"}\n{"call":"echo"}\n')
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
        calls.gate.set()
        assert await hear(tmp_path, b'{"call":"echo"}') == {"ok": {}}
        assert {(level, event) for level, event, _ in log.events} == {("info", "admin_call")}


async def test_no_more_are_served_at_once_than_there_are_places_and_the_next_wait(tmp_path: Path) -> None:
    async with serving(tmp_path) as (calls, _), trio.open_nursery() as nursery:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await hear(tmp_path, b'{"call":"wait"}'))

        for _ in range(2 * MAX_PEERS):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert calls.waiting == MAX_PEERS
        calls.gate.set()
        with trio.fail_after(PATIENCE_SECONDS):
            while len(answers) < 2 * MAX_PEERS:
                await trio.testing.wait_all_tasks_blocked()
        assert answers == [{"ok": "waited"}] * 2 * MAX_PEERS


async def test_idle_peers_give_their_places_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "IDLE_SECONDS", 0.05)
    async with serving(tmp_path):
        idle = [await trio.open_unix_socket(str(tmp_path / "admin.sock")) for _ in range(MAX_PEERS)]
        assert await hear(tmp_path, b'{"call":"echo"}') == {"ok": {}}
        for stream in idle:
            await stream.aclose()


async def test_a_peer_that_does_not_take_its_answers_loses_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "IDLE_SECONDS", 0.05)
    line = b'{"call":"echo","x":"%b"}\n' % (b"x" * 60_000)
    async with serving(tmp_path), await trio.open_unix_socket(str(tmp_path / "admin.sock")) as stream:
        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(trio.BrokenResourceError):
            await stream.send_all(line * 100)
        assert await hear(tmp_path, b'{"call":"echo"}') == {"ok": {}}


class ShortOfDescriptors:
    """A listener that cannot accept a few times, then hands out one peer and no other."""

    def __init__(self, peer: trio.socket.SocketType) -> None:
        self._answers: list[object] = [OSError(errno.EMFILE, "Too many open files")] * 3 + [peer]

    async def accept(self) -> tuple[object, str]:
        """The next one."""
        if not self._answers:
            await trio.sleep_forever()
        answer = self._answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer, ""


async def test_no_descriptors_for_a_while_is_said_once_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "ACCEPT_AGAIN_SECONDS", 0.0)
    ours, theirs = trio.socket.socketpair()
    log = EventLog()
    short: Any = ShortOfDescriptors(theirs)
    async with trio.SocketStream(ours) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(listener._accept, short, Calls().table(), log)
        with trio.fail_after(PATIENCE_SECONDS):
            await stream.send_all(b'{"call":"echo"}\n')
            assert await stream.receive_some() == b'{"ok":{}}\n'
        nursery.cancel_scope.cancel()
    assert log.told("admin_accept_failed") == [{"reason": "Too many open files"}]


async def test_a_path_too_long_for_a_socket_costs_only_the_socket(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)
    directory.mkdir()
    async with serving(directory) as (_, log):
        (told,) = log.told("no_admin_socket")
        assert told["reason"] == "its path is longer than 107 bytes"
    assert os.listdir(directory) == []


@asynccontextmanager
async def demanded(path: Path, log: EventLog | None = None) -> AsyncIterator[None]:
    """The socket at a path that the settings name."""
    async with trio.open_nursery() as nursery:
        calls = Calls().table()
        await nursery.start(partial(serve_calls, path, calls, log=log or EventLog(), is_demanded=True))
        yield
        nursery.cancel_scope.cancel()


async def refusal(path: Path) -> str:
    """Why there is no socket where one is demanded."""
    with pytest.RaisesGroup(pytest.RaisesExc(BadSocket)) as raised:
        async with demanded(path):
            pass
    return str(raised.value.exceptions[0])


async def test_one_that_is_demanded_is_the_owners_alone_and_left_behind_it_is_replaced(tmp_path: Path) -> None:
    """S29: mode 0600, whatever the umask."""
    before = os.umask(0)
    try:
        for _ in range(2):
            async with demanded(tmp_path / "admin.sock"):
                assert stat.S_IMODE((tmp_path / "admin.sock").stat().st_mode) == 0o600
                assert stat.S_IMODE((tmp_path / "admin.sock.lock").stat().st_mode) == 0o600
                assert await hear(tmp_path, b'{"call":"echo"}') == {"ok": {}}
            assert os.listdir(tmp_path) == ["admin.sock.lock"]
            left = socket.socket(socket.AF_UNIX)
            left.bind(str(tmp_path / "admin.sock"))
            left.close()
            os.umask(before)
    finally:
        os.umask(before)


async def test_no_two_nodes_have_one_path(tmp_path: Path) -> None:
    async with demanded(tmp_path / "admin.sock"):
        assert "another node is administered there" in await refusal(tmp_path / "admin.sock")
        assert await hear(tmp_path, b'{"call":"echo"}') == {"ok": {}}
    async with serving(tmp_path):  # of a node whose data directory this is
        assert "another node is administered there" in await refusal(tmp_path / "admin.sock")
        assert await hear(tmp_path, b'{"call":"echo"}') == {"ok": {}}


async def test_one_whose_queue_is_full_is_another_nodes_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent, contextlib.ExitStack() as stack:
        silent.bind(str(tmp_path / "admin.sock"))
        silent.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(tmp_path / "admin.sock"))
        assert "another node" in await refusal(tmp_path / "admin.sock")


async def test_one_that_is_demanded_and_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    assert "No such file or directory" in await refusal(tmp_path / "nowhere" / "admin.sock")
    assert "longer than 107 bytes" in await refusal(tmp_path / ("x" * 120))
    (tmp_path / "link.lock").symlink_to(tmp_path / "elsewhere")
    assert "admin_socket" in await refusal(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707])
async def test_it_is_not_put_where_others_could_put_theirs(mode: int, tmp_path: Path) -> None:
    """S29: an operator's command must not reach a stranger."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    assert "others may write to" in await refusal(shared / "admin.sock")
    shared.chmod(mode | stat.S_ISVTX)  # as /tmp
    async with demanded(shared / "admin.sock"):
        assert await hear(shared, b'{"call":"echo"}') == {"ok": {}}


async def test_who_has_asked_for_what_is_in_the_log(tmp_path: Path) -> None:
    """S29: the user is the one that the kernel names, not one that the peer does; S27: values are values."""
    async with serving(tmp_path) as (_, log):
        await hear(tmp_path, b'{"call":"echo","uid":7,"value":"a\\nb"}')
        await hear(tmp_path, msgspec.json.encode({"call": "echo", "value": "x" * 5_000}))
        first, second = log.told("admin_call")
        assert first == {"call": "echo", "uid": os.getuid(), "parameters": '{"uid":7,"value":"a\\nb"}'}
        assert "(5012 characters)" in second["parameters"]


async def test_who_only_looks_is_not_in_everybodys_log(tmp_path: Path) -> None:
    log = EventLog()
    async with trio.open_nursery() as nursery:
        table = {"cluster": Calls().echo}
        await nursery.start(partial(serve_calls, tmp_path / "admin.sock", table, log=log))
        await hear(tmp_path, b'{"call":"cluster"}')
        nursery.cancel_scope.cancel()
    assert [(level, event) for level, event, _ in log.events] == [("debug", "admin_call")]


def test_where_the_kernel_does_not_say_who_it_is_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    assert listener.uid_of(None) == -1


async def test_a_file_in_its_place_is_not_taken_for_a_socket_that_was_left_behind(tmp_path: Path) -> None:
    """S31: a path that was mistyped deletes nothing."""
    file = tmp_path / "admin.sock"
    file.write_text("settings")
    assert "no socket" in await refusal(file)
    async with serving(tmp_path) as (_, log):
        assert log.told("no_admin_socket")
    assert file.read_text() == "settings"


async def test_a_directory_in_its_place_costs_only_the_socket(tmp_path: Path) -> None:
    (tmp_path / "admin.sock").mkdir()
    async with serving(tmp_path) as (_, log):
        assert log.told("no_admin_socket")
