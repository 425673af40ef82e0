"""The administration socket: one JSON object a line in, one a line out.

Knows a table of calls, nothing of what they do; who asks for a change stands in the log. The surprising decision:
no port. Nothing that deletes, or lets somebody in again, may be reachable from a network or a browser; a
socket file with mode 0600 in the data directory is reachable for exactly those who could delete the files anyway
(docs/decisions/0006).

Request: {"call": "subs.list", …parameters…}. Answer: {"ok": result} or {"error": sentence for a person}.
"""

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from triode_protocol.codec import Refused

from triode_broker.config import MAX_SOCKET_PATH_BYTES
from triode_broker.printable import shorten

MAX_LINE_BYTES = 65_536
BACKLOG = 128
MAX_PEERS = 32  # served at once; the next ones wait in the backlog
#: A peer that neither asks nor takes its answer gives its place to the next one after so long.
IDLE_SECONDS = 60.0
#: Until the next attempt, where a connection could not be accepted (no descriptors).
ACCEPT_AGAIN_SECONDS = 1.0
MAX_LOGGED_CHARACTERS = 1_000  # of a call's parameters
#: Calls that change nothing.
LOOKING = frozenset(
    {
        *("subs.list", "subs.show", "dead.list", "tenants.list", "cluster", "drain.end"),
        *("connections", "revocations", "subscriptions", "figures", "topics", "slow", "metrics", "tail.read"),
        "webhooks",
    }
)
_CREDENTIALS = struct.Struct("iII")  # of SO_PEERCRED: process, user, group

Call = Callable[[Mapping[str, Any]], Awaitable[object]]


class BadCall(Exception):
    """What was asked cannot be done; `str()` says why, to a person."""


class Missing(BadCall):
    """There is nothing of that name."""


class Unable(BadCall):
    """It could be done elsewhere, or with more installed; `str()` says with what."""


class BadSocket(Exception):
    """The socket that was asked for cannot be had; `str()` says what to do."""


async def serve_calls(
    path: Path,
    calls: Mapping[str, Call],
    *,
    log: Any,
    is_demanded: bool = False,
    task_status: trio.TaskStatus[None],
) -> None:
    """Answer until cancelled. Where there cannot be a socket the log says why, and the node goes on without.

    `is_demanded`: settings name the path, and no lock on the directory keeps another node away from it. Then
    whatever speaks against it is raised as BadSocket.
    """
    with ExitStack() as stack:
        try:
            if is_demanded:
                stack.enter_context(_claimed(path))
            listener = stack.enter_context(_listen(path))
        except OSError as error:
            reason = error.strerror or str(error)
            if is_demanded:
                raise BadSocket(f"admin_socket {path}: {reason}") from None
            log.warning("no_admin_socket", path=str(path), reason=reason)
            task_status.started()
            return
        stack.callback(path.unlink, missing_ok=True)
        task_status.started()
        await _accept(listener, calls, log)


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """It is this process's alone, by a lock on a file beside it. Raises OSError, BadSocket."""
    directory = path.absolute().parent
    mode = directory.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise BadSocket(
            f"admin_socket {path}: others may write to {directory} and put a socket of their own there"
        )
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(path) from None
        if _answers(path):  # one that did not ask for it by name: the socket of somebody's data directory
            raise _taken(path)
        yield
    finally:
        os.close(lock)


def _taken(path: Path) -> BadSocket:
    return BadSocket(f"admin_socket {path}: another node is administered there; give each a path of its own")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # so many wait
            return True
        except OSError:
            return False
    return True


def _listen(path: Path) -> trio.socket.SocketType:
    if len(os.fsencode(path.absolute())) > MAX_SOCKET_PATH_BYTES:
        raise OSError(f"its path is longer than {MAX_SOCKET_PATH_BYTES} bytes")
    if path.exists() and not path.is_socket():  # a path that was mistyped: somebody's settings, or a key
        raise OSError("there is a file that is no socket: it stays")
    path.unlink(missing_ok=True)  # of a process that was killed: the lock is ours, so it is nobody's now
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # 0600 from the first moment on
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return trio.socket.from_stdlib_socket(listener)


async def _accept(listener: trio.socket.SocketType, calls: Mapping[str, Call], log: Any) -> None:
    places = trio.Semaphore(MAX_PEERS)
    is_short = False
    async with trio.open_nursery() as nursery:
        while True:
            await places.acquire()
            try:
                peer, _ = await listener.accept()
            except OSError as error:
                places.release()
                if not is_short:
                    log.warning("admin_accept_failed", reason=error.strerror or str(error))
                is_short = True
                await trio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            is_short = False
            nursery.start_soon(_serve_one, trio.SocketStream(peer), calls, log, places)


async def _serve_one(
    stream: trio.SocketStream, calls: Mapping[str, Call], log: Any, places: trio.Semaphore
) -> None:
    """One connection, behind the one barrier: nothing it sends ends more than itself."""
    try:
        async with stream:
            await _converse(stream, calls, _Audit(log, uid_of(stream.socket)))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it has gone
    finally:
        places.release()


async def _converse(stream: trio.SocketStream, calls: Mapping[str, Call], audit: "_Audit") -> None:
    """Until it has said all, has said too much, or is idle."""
    rest = b""
    while len(rest) <= MAX_LINE_BYTES:
        with trio.move_on_after(IDLE_SECONDS) as patience:
            piece = await stream.receive_some()
        if patience.cancelled_caught or not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            answer = await _answer(line, calls, audit)
            with trio.move_on_after(IDLE_SECONDS) as patience:
                await stream.send_all(answer + b"\n")
            if patience.cancelled_caught:
                return
    with trio.move_on_after(IDLE_SECONDS):
        await stream.send_all(_error(f"a line has at most {MAX_LINE_BYTES} bytes") + b"\n")


async def _answer(line: bytes, calls: Mapping[str, Call], audit: "_Audit") -> bytes:
    try:
        request = msgspec.json.decode(line, type=dict[str, Any])
        name = str(request.pop("call", ""))
        call = calls.get(name)
        if call is None:
            raise BadCall(f"no such call; there are {', '.join(sorted(calls))}")
        audit.note(name, request)
        return msgspec.json.encode({"ok": await call(request)})
    except Refused as refused:
        return _error(refused.message)
    except msgspec.DecodeError as error:
        return _error(f"not a call: {error}")
    except (BadCall, RecursionError) as error:
        return _error(str(error))
    except Exception:
        audit.log.exception("admin_call_failed")
        return _error("the call has failed; the broker's log says why")


def note(log: Any, call: str, parameters: Mapping[str, Any], **who: object) -> None:
    """Who asks for what, in the log, before it is done: at info what changes something, else at debug."""
    given = shorten(msgspec.json.encode(parameters).decode(), MAX_LOGGED_CHARACTERS)
    say = log.debug if call in LOOKING else log.info
    say("admin_call", call=call, **who, parameters=given)


class _Audit:
    """Who asks through the socket."""

    def __init__(self, log: Any, uid: int) -> None:
        self.log = log
        self._uid = uid

    def note(self, call: str, parameters: Mapping[str, Any]) -> None:
        """Before it is done."""
        note(self.log, call, parameters, uid=self._uid)


def uid_of(peer: Any) -> int:
    """The user of the process at the other end, which only the kernel can say; -1 where it does not."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def _error(message: str) -> bytes:
    return msgspec.json.encode({"error": message})
