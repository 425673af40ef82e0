"""The cluster's secret: which file may hold it, and what of the file is the secret.

Knows nothing of how a peer proves that it knows it (`hello`). The surprising decision: a file that others of the
machine may read is refused, not warned about, by the rule PostgreSQL has for its keys: nobody but the owner, and
where root owns it (a mounted secret) also the group that this process is in.
"""

import os
import stat
from pathlib import Path
from typing import Final

MIN_BYTES: Final = 16  # less could be guessed from one overheard challenge
MAX_BYTES: Final = 4_096
HOW_TO_MAKE_ONE: Final = (
    "make one: (umask 077; head -c 32 /dev/urandom | base64 > cluster.secret), the same for every node"
)


class BadSecret(Exception):
    """Why a file cannot give the secret; ends a sentence that began with its name."""


def read_secret(file: str) -> bytes:
    """What is in the file but for white space around it. Raises BadSecret."""
    try:
        with Path(file).open("rb") as opened:
            status = os.fstat(opened.fileno())
            content = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BadSecret(f"there is no such file; {HOW_TO_MAKE_ONE}") from None
    except OSError as error:
        raise BadSecret(f"cannot be read: {error.strerror or error}") from None
    if stat.S_ISREG(status.st_mode) and is_too_open(status.st_mode, status.st_uid, os.geteuid()):
        raise BadSecret("others of this machine may read it: chmod 600 takes that away")
    if len(content) > MAX_BYTES:
        raise BadSecret(f"holds more than {MAX_BYTES} bytes: hardly a secret")
    if len(secret := content.strip()) < MIN_BYTES:
        held = "is empty" if not secret else f"holds {len(secret)} bytes, fewer than {MIN_BYTES}"
        raise BadSecret(f"{held}; {HOW_TO_MAKE_ONE}")
    return secret


def is_too_open(mode: int, owner: int, user: int) -> bool:
    """Whether a file's mode lets somebody read its secret who is neither its owner nor meant by root's group."""
    private = 0o037 if owner == 0 and user != 0 else 0o077
    return bool(mode & private)
