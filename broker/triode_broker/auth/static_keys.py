"""Keys of `[[tokens]]` that stand in a file or a variable of the environment.

Knows where they stand; what a key must be is `signing_keys`' business.
"""

from collections.abc import Mapping

from triode_broker.auth.signing_keys import SECRET_BYTES, BadKey, SigningKey, from_text
from triode_broker.config import TokenKey
from triode_broker.secrets_on_disk import BadFile, read_private, read_trusted

MAX_KEY_BYTES = 65_536


class BadCredentials(Exception):
    """What is wrong with a configured file or key: a whole sentence, in which no secret stands."""


def read_key(row: TokenKey, environ: Mapping[str, str]) -> SigningKey:
    """The key of a row that is not fetched. Raises BadCredentials."""
    place = f"key_file {row.key_file}" if row.key_file else f"key_env {row.key_env}"
    try:
        return from_text(row.algorithm, _text(row, environ))
    except FileNotFoundError:
        raise BadCredentials(f"{place}: there is no such file") from None
    except (BadFile, BadKey) as error:
        raise BadCredentials(f"{place}: {error}") from None


def _text(row: TokenKey, environ: Mapping[str, str]) -> bytes:
    if not row.key_file:
        if not environ.get(row.key_env, "").strip():
            raise BadKey("this variable of the environment is not set")
        return environ[row.key_env].encode("utf-8", "surrogateescape")
    read = read_private if row.algorithm in SECRET_BYTES else read_trusted
    return read(row.key_file, MAX_KEY_BYTES)
