"""The administration socket: one JSON object a line in, one a line out.

Knows a table of calls, nothing of what they do. The surprising decision: no port. As long as clients are not
asked who they are, nothing that deletes may be reachable from a network or a browser; a socket file with mode 0600
in the data directory is reachable for exactly those who could delete the files anyway.

Request: {"call": "subs.list", …parameters…}. Answer: {"ok": result} or {"error": sentence for a person}.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio
from triode_protocol.codec import Refused

SOCKET_NAME = "admin.sock"
MAX_LINE_BYTES = 65_536
MAX_PATH_BYTES = 107  # of a Unix socket, on Linux; a few less elsewhere
BACKLOG = 16

Call = Callable[[Mapping[str, Any]], Awaitable[object]]


class BadCall(Exception):
    """What was asked cannot be done; `str()` says why, to a person."""


async def serve_calls(
    directory: Path, calls: Mapping[str, Call], *, log: Any, task_status: trio.TaskStatus[None]
) -> None:
    """Answer until cancelled. Without a socket where the path is too long for one: the log says so."""
    path = directory / SOCKET_NAME
    if len(os.fsencode(path.absolute())) > MAX_PATH_BYTES:
        log.warning("no_admin_socket", reason=f"its path is longer than {MAX_PATH_BYTES} bytes", path=str(path))
        task_status.started()
        return
    listener = _listen(path)
    try:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                peer, _ = await listener.accept()
                nursery.start_soon(_serve_one, trio.SocketStream(peer), calls, log)
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _listen(path: Path) -> trio.socket.SocketType:
    path.unlink(missing_ok=True)  # of a process that was killed: the data's lock is ours, so it is nobody's now
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # 0600 from the first moment on
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return trio.socket.from_stdlib_socket(listener)


async def _serve_one(stream: trio.SocketStream, calls: Mapping[str, Call], log: Any) -> None:
    """One connection, behind the one barrier: nothing it sends ends more than itself."""
    rest = b""
    try:
        async with stream:
            while piece := await stream.receive_some():
                rest += piece
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    await stream.send_all(await _answer(line, calls) + b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    return
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
    except Exception:
        log.exception("admin_call_failed")


async def _answer(line: bytes, calls: Mapping[str, Call]) -> bytes:
    try:
        request = msgspec.json.decode(line, type=dict[str, Any])
        call = calls.get(str(request.pop("call", "")))
        if call is None:
            raise BadCall(f"no such call; there are {', '.join(sorted(calls))}")
        return msgspec.json.encode({"ok": await call(request)})
    except (BadCall, Refused, msgspec.MsgspecError, RecursionError) as error:
        return msgspec.json.encode({"error": getattr(error, "message", None) or str(error)})
