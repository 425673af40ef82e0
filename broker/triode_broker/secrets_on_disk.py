"""Files with secrets: which file may hold one, and what of it is read.

Knows files and modes, nothing of what is in them. The surprising decision: a file that others of the machine may
read is refused, not warned about, by the rule PostgreSQL has for its keys: nobody but the owner, and where root
owns it (a mounted secret) also the group that this process is in.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 1_048_576  # of a file with many keys; what holds one is far below
_ZEROS: Final = b"\0"


class BadFile(Exception):
    """Why a file cannot be used; ends a sentence that began with its name."""


def read_private(file: str, max_bytes: int = MAX_BYTES) -> bytes:
    """What is in a file that nobody else may read or change (S14). Raises BadFile; FileNotFoundError."""
    return _read(file, max_bytes, is_too_open, "others of this machine may read it: chmod 600 takes that away")


def read_trusted(file: str, max_bytes: int = MAX_BYTES) -> bytes:
    """What is in a file that anybody may read, but not change: public keys. Raises BadFile; FileNotFoundError."""
    return _read(file, max_bytes, is_changeable, "everybody may change it: chmod o-w takes that away")


def _read(file: str, max_bytes: int, is_wrong: Callable[[int, int, int], bool], wrong: str) -> bytes:
    try:
        with Path(file).open("rb") as opened:
            status = os.fstat(opened.fileno())
            content = opened.read(max_bytes + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadFile(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISREG(status.st_mode) and is_wrong(status.st_mode, status.st_uid, os.geteuid()):
        raise BadFile(wrong)
    if len(content) > max_bytes:
        raise BadFile(f"holds more than {max_bytes} bytes: hardly a secret")
    if content and not content.strip(_ZEROS):  # as a crash leaves a file: a secret that everybody can guess
        raise BadFile("holds nothing but zeros: it was not written to its end; write it again")
    return content


def is_too_open(mode: int, owner: int, user: int) -> bool:
    """Whether a file's mode lets somebody read its secret who is neither its owner nor meant by root's group."""
    private = 0o037 if owner == 0 and user != 0 else 0o077
    return bool(mode & private)


def is_changeable(mode: int, _owner: int, _user: int) -> bool:
    """Whether a file's mode lets everybody change it."""
    return bool(mode & stat.S_IWOTH)
