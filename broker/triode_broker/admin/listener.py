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

from triode_broker.config import MAX_SOCKET_PATH_BYTES, SOCKET_NAME

MAX_LINE_BYTES = 65_536
BACKLOG = 128
MAX_PEERS = 32  # served at once; the next ones wait in the backlog
#: A peer that neither asks nor takes its answer gives its place to the next one after so long.
IDLE_SECONDS = 60.0
#: Until the next attempt, where a connection could not be accepted (no descriptors).
ACCEPT_AGAIN_SECONDS = 1.0

Call = Callable[[Mapping[str, Any]], Awaitable[object]]


class BadCall(Exception):
    """What was asked cannot be done; `str()` says why, to a person."""


async def serve_calls(
    directory: Path, calls: Mapping[str, Call], *, log: Any, task_status: trio.TaskStatus[None]
) -> None:
    """Answer until cancelled. Where there cannot be a socket the log says why, and the node goes on without."""
    path = directory / SOCKET_NAME
    try:
        listener = _listen(path)
    except OSError as error:
        log.warning("no_admin_socket", path=str(path), reason=error.strerror or str(error))
        task_status.started()
        return
    try:
        with listener:
            task_status.started()
            await _accept(listener, calls, log)
    finally:
        path.unlink(missing_ok=True)


def _listen(path: Path) -> trio.socket.SocketType:
    if len(os.fsencode(path.absolute())) > MAX_SOCKET_PATH_BYTES:
        raise OSError(f"its path is longer than {MAX_SOCKET_PATH_BYTES} bytes")
    path.unlink(missing_ok=True)  # of a process that was killed: the data's lock is ours, so it is nobody's now
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
            await _converse(stream, calls, log)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it has gone
    finally:
        places.release()


async def _converse(stream: trio.SocketStream, calls: Mapping[str, Call], log: Any) -> None:
    """Until it has said all, has said too much, or is idle."""
    rest = b""
    while len(rest) <= MAX_LINE_BYTES:
        with trio.move_on_after(IDLE_SECONDS) as patience:
            piece = await stream.receive_some()
        if patience.cancelled_caught or not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            answer = await _answer(line, calls, log)
            with trio.move_on_after(IDLE_SECONDS) as patience:
                await stream.send_all(answer + b"\n")
            if patience.cancelled_caught:
                return
    with trio.move_on_after(IDLE_SECONDS):
        await stream.send_all(_error(f"a line has at most {MAX_LINE_BYTES} bytes") + b"\n")


async def _answer(line: bytes, calls: Mapping[str, Call], log: Any) -> bytes:
    try:
        request = msgspec.json.decode(line, type=dict[str, Any])
        call = calls.get(str(request.pop("call", "")))
        if call is None:
            raise BadCall(f"no such call; there are {', '.join(sorted(calls))}")
        return msgspec.json.encode({"ok": await call(request)})
    except Refused as refused:
        return _error(refused.message)
    except msgspec.DecodeError as error:
        return _error(f"not a call: {error}")
    except (BadCall, RecursionError) as error:
        return _error(str(error))
    except Exception:
        log.exception("admin_call_failed")
        return _error("the call has failed; the broker's log says why")


def _error(message: str) -> bytes:
    return msgspec.json.encode({"error": message})
