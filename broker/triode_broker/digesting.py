"""Digesting: the settings of a node as they are compared with those of others, secrets as hashes of themselves.

Reads the files that the settings name. The surprising decision: what cannot be read makes no error here but
another digest. Whoever needs the file says what is wrong with it.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from triode_broker.config import Config, TokenKey
from triode_broker.config.digest import digest, shared

_MARK = "sha256:"


def as_shared(config: Config, environ: Mapping[str, str]) -> Config:
    """What all nodes should have alike; keys of tokens and API keys by what is in their files.

    These keys are long and random (`triode_broker.auth` takes no others), so a hash tells nobody anything of them.
    """
    alike = shared(config)
    auth = replace(alike.auth, api_keys_file=_file(alike.auth.api_keys_file))
    return replace(alike, auth=auth, tokens=tuple(_row(row, environ) for row in alike.tokens))


def digest_of(config: Config, environ: Mapping[str, str]) -> str:
    """The one that /healthz, `triode cluster` and `triode serve --check` show."""
    return digest(as_shared(config, environ))


def _row(row: TokenKey, environ: Mapping[str, str]) -> TokenKey:
    """The same key is the same, in a file or in the environment."""
    found = _file(row.key_file) if row.key_file else _hash(environ.get(row.key_env, "").encode())
    return replace(row, key_file=found if row.key_file or row.key_env else "", key_env="")


def _file(name: str) -> str:
    if not name:
        return ""
    try:
        return _hash(Path(name).read_bytes())
    except (OSError, ValueError):
        return _MARK


def _hash(content: bytes) -> str:
    return _MARK + sha256(b"triode settings\0" + content.strip()).hexdigest()[:16]
