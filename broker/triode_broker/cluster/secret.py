"""The cluster's secret: what of a file is the secret.

Knows nothing of how a peer proves that it knows it (`hello`), nor which file may hold it (`secrets_on_disk`).
"""

from typing import Final

from triode_broker.secrets_on_disk import BadFile, read_private

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
        content = read_private(file, MAX_BYTES)
    except FileNotFoundError:
        raise BadSecret(f"there is no such file; {HOW_TO_MAKE_ONE}") from None
    except BadFile as error:
        raise BadSecret(str(error)) from None
    if len(secret := content.strip()) < MIN_BYTES:
        held = "is empty" if not secret else f"holds {len(secret)} bytes, fewer than {MIN_BYTES}"
        raise BadSecret(f"{held}; {HOW_TO_MAKE_ONE}")
    return secret
