"""The commands' way to a node's administration socket: one call, one answer.

Knows the socket's place under the data directory and the form of lines. The surprising decision: plain blocking
calls, because nothing else goes on in these commands.
"""

import argparse
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.serve import read_settings
from triode_broker.config import MAX_SOCKET_PATH_BYTES, SOCKET_NAME

PATIENCE_SECONDS = 30.0


class Node:
    """A running node of this machine, found by its data directory or the path of its socket."""

    def __init__(self, directory: Path | None, socket_path: Path | None = None) -> None:
        """One of them."""
        assert directory is not None or socket_path is not None
        self._directory = directory
        self._path = socket_path or Path(directory or "") / SOCKET_NAME

    def call(self, name: str, /, **parameters: object) -> Any:
        """The result of one call. Raises Failure."""
        path = self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(PATIENCE_SECONDS)
                line.connect(str(path))
                line.sendall(msgspec.json.encode({"call": name, **parameters}) + b"\n")
                with line.makefile("rb") as answers:
                    answer = answers.readline()
        except OSError as error:
            raise self._failure(path, error) from None
        if not answer.endswith(b"\n"):
            raise Failure(ExitCode.FAILURE, "the broker ended before it had answered")
        result: dict[str, Any] = msgspec.json.decode(answer)
        if "error" in result:
            raise Failure(ExitCode.REFUSED, str(result["error"]))
        return result["ok"]

    def outlast(self, name: str, seconds: float) -> None:
        """Make a call that lasts as long as the node does. Raises Failure where that is longer than `seconds`."""
        path = self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(seconds)
                line.connect(str(path))
                line.sendall(msgspec.json.encode({"call": name}) + b"\n")
                line.recv(1)
        except TimeoutError:
            raise Failure(ExitCode.TIMEOUT, f"the broker has not ended within {seconds:.0f} s") from None
        except (FileNotFoundError, ConnectionError):
            return  # it had ended before it was asked, or in the middle of it
        except OSError as error:
            raise self._failure(path, error) from None

    def _failure(self, path: Path, error: OSError) -> Failure:
        directory = self._directory
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            message = f"{path} is too long for a socket: {MAX_SOCKET_PATH_BYTES} bytes are allowed"
            return Failure(ExitCode.USAGE, f"{message}; a relative --data, or a link to the directory, is shorter")
        is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        if directory is not None and is_absent and not directory.is_dir():
            return Failure(ExitCode.USAGE, f"there is no directory {directory}: --data names the broker's")
        if is_absent or isinstance(error, ConnectionRefusedError):
            where = f"--data {directory}" if directory is not None else f"--admin-socket {path}"
            message = f"no broker is running with {where} on this machine"
            return Failure(ExitCode.TIMEOUT, f"{message}; if one is, its log says no_admin_socket and why")
        if isinstance(error, PermissionError):
            message = f"{path}: only the user that the broker runs as may administer it"
            return Failure(ExitCode.FAILURE, f"{message} (sudo, or sudo -u USER, in front of the command)")
        if isinstance(error, TimeoutError | BlockingIOError):
            message = f"no answer within {PATIENCE_SECONDS:.0f} s; what was asked may still be done"
            return Failure(ExitCode.TIMEOUT, message)
        return Failure(ExitCode.FAILURE, f"{path}: {error.strerror or error}")


def node(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Node:
    """The node that flags, else the environment, else the file name. Raises Failure."""
    named = getattr(arguments, "admin_socket", None)
    for path, directory in (
        (named, arguments.data),
        (environ.get("TRIODE_ADMIN_SOCKET"), environ.get("TRIODE_DATA")),
        _from_file(arguments, environ),
    ):
        if path:
            return Node(None, Path(path))
        if directory:
            return Node(Path(directory))
    message = "which broker? give its data directory: --data DIR (or TRIODE_DATA, or --config FILE)"
    if file := _settings_file(arguments, environ):
        message = (
            f'{file} has neither data nor admin_socket, so its broker cannot be asked: give it data = "DIR" and'
        )
        message += " restart it. If it was started with --data DIR, say that here"
    raise Failure(ExitCode.USAGE, f"{message}, or --admin-socket PATH")


def _settings_file(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    return arguments.config or environ.get("TRIODE_CONFIG", "")


def _from_file(arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[str, str]:
    if not _settings_file(arguments, environ):
        return "", ""
    config = read_settings(arguments, environ).config
    return config.admin_socket, config.data
