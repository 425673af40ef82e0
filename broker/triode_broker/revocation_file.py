"""The file of revocations under `data`: written whole and flushed, read whole and checked (S14, S31).

Knows its form and nothing of who is revoked. The surprising decision: its first line says what the rest must be.
One that was cut, or edited by hand, would otherwise let in whom it no longer names; so it is refused, and with it
the start.

    {"format":1,"count":2,"sha256":"…"}
    {"kind":"user","value":"ada","at_ms":…,"until_ms":…}
    …
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from triode_broker.core.revocations import Revocation
from triode_broker.log.disk import StoreError

FILE_NAME: Final = "revocations"
FORMAT: Final = 1


class BadFile(StoreError):
    """It cannot be believed; `str()` says what to do."""


class _Head(Struct):
    format: int
    count: int
    sha256: str


_lines = msgspec.json.Decoder(Revocation)


def read(directory: Path) -> list[Revocation]:
    """What it holds; nothing where there is none. Raises BadFile."""
    path = directory / FILE_NAME
    try:
        head, _, rest = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        told = msgspec.json.decode(head, type=_Head)
        entries = [_lines.decode(line) for line in rest.splitlines()]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, f"not of its form ({error})") from None
    if told.format != FORMAT:
        raise BadFile(f"{path} is of form {told.format}, and this broker knows form {FORMAT}: start a newer one")
    if told.count != len(entries) or told.sha256 != sha256(rest).hexdigest():
        raise _bad(path, "cut or changed")
    return entries


def _bad(path: Path, what: str) -> BadFile:
    way_out = f"bring it back, or remove {path} and revoke again whom it had refused"
    return BadFile(f"{path} is {what}, and without it those who were revoked would be let in: {way_out}")


def write(directory: Path, entries: Sequence[Revocation]) -> None:
    """Put it in the place of the one before; it is on disk when this returns. Raises OSError: that one stays."""
    path, new = directory / FILE_NAME, directory / f"{FILE_NAME}.new"
    rest = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
    head = msgspec.json.encode(_Head(FORMAT, len(entries), sha256(rest).hexdigest()))
    try:
        with suppress(FileNotFoundError):
            new.unlink()  # of a process that was killed
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(head + b"\n" + rest)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    entry = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)
