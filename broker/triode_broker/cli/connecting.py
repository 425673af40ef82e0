"""What `pub` and `sub` share: where to connect, with which token, and how failures of the client are told.

Knows the client library by its errors only. The surprising decision: a token is never an argument, because
every user of a machine can read the arguments of every process (S10); it comes from a file or the environment.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.config import Config
from triode_broker.printable import escape

DEFAULT_URL = f"ws://{Config().listen}/ws"  # where `triode serve` listens when nothing is set


def url(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The broker's address. Raises Failure for what is none."""
    address = str(arguments.url or environ.get("TRIODE_URL") or DEFAULT_URL)
    if not re.match(r"wss?://[^/]", address):
        raise Failure(ExitCode.USAGE, f"{address} is no address of a broker: allowed is {DEFAULT_URL} or wss://…")
    return address


def token(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The token to connect with, or "". Raises Failure if the file cannot be read; never shows the token."""
    if arguments.token_file is None:
        return environ.get("TRIODE_TOKEN", "").strip()
    try:
        found = Path(arguments.token_file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Failure(ExitCode.USAGE, f"--token-file {arguments.token_file}: cannot be read: {reason}") from None
    if not found:  # S14: an empty secret is a mistake, never "no secret"
        raise Failure(ExitCode.USAGE, f"--token-file {arguments.token_file}: is empty")
    return found


def tell(text: str) -> None:
    """A line on stderr, for the one who watches."""
    sys.stderr.write(escape(text) + "\n")
    sys.stderr.flush()
