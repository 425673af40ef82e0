"""Secrets and keys of the configuration that stand in a file or a variable of the environment.

Knows where they stand; what a key must be is `signing_keys`' business.
"""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from triode_broker.auth.api_keys import ApiKeys, read_keys
from triode_broker.config import Admin, Auth, TokenKey, Webhook
from triode_broker.secrets_on_disk import BadFile, read_private, read_trusted

if TYPE_CHECKING:
    from triode_broker.auth.signing_keys import SigningKey

MAX_KEY_BYTES: Final = 65_536
MIN_SECRET_BYTES: Final = 16
_BEARER: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750 section 2.1


class BadCredentials(Exception):
    """What is wrong with a configured file or key: a setting's name, and a sentence in which no secret stands."""

    def __init__(self, setting: str, wrong: str) -> None:
        super().__init__(f"{setting}: {wrong}")
        self.setting = setting
        self.wrong = wrong


def read_key(row: TokenKey, number: int, environ: Mapping[str, str]) -> "SigningKey":
    """The key of a row of `[[tokens]]` that is not fetched; `number`: which, from 1. Raises BadCredentials."""
    # PyJWT and cryptography come with it, 0.1 s of a start: who has no such keys does without.
    from triode_broker.auth.signing_keys import SECRET_BYTES, BadKey, from_text

    is_secret = row.algorithm in SECRET_BYTES
    setting = f"tokens #{number} {'key_file' if row.key_file else 'key_env'}"
    text = _text(setting, row.key_file, row.key_env, environ, is_secret=is_secret)
    try:
        return from_text(row.algorithm, text)
    except BadKey as error:
        raise BadCredentials(setting, f"{_place(row.key_file)}{error}") from None


def read_api_keys(auth: Auth) -> ApiKeys:
    """Those of `auth.api_keys_file`. Raises BadCredentials."""
    if not auth.api_keys_file:
        return ApiKeys(())
    try:
        return ApiKeys(read_keys(auth.api_keys_file))
    except FileNotFoundError:
        how = f"triode token key create --file {auth.api_keys_file} makes it with a first key"
        wrong = f"{_place(auth.api_keys_file)}there is no such file; {how}"
        raise BadCredentials("auth.api_keys_file", wrong) from None
    except BadFile as error:
        raise BadCredentials("auth.api_keys_file", f"{_place(auth.api_keys_file)}{error}") from None


def read_callout_secret(auth: Auth, environ: Mapping[str, str]) -> str:
    """What is sent to the callout; "" where nothing is configured. Raises BadCredentials."""
    return _secret("auth.callout_secret", auth.callout_secret_file, auth.callout_secret_env, environ)


def read_operators_secret(admin: Admin, environ: Mapping[str, str]) -> str:
    """What operators show to the administration listener; "" where there is none. Raises BadCredentials."""
    secret = _secret("admin.token", admin.token_file, admin.token_env, environ)
    if secret and not _BEARER.fullmatch(secret):
        setting = "admin.token_file" if admin.token_file else "admin.token_env"
        raise BadCredentials(setting, "holds what cannot stand behind Bearer: letters, digits and ._~+/- can")
    return secret


def read_webhook_secrets(row: Webhook, number: int, environ: Mapping[str, str]) -> tuple[bytes, ...]:
    """Those that sign a webhook's requests, the new one first; `number`: which, from 1. Raises BadCredentials."""
    found = (
        _secret(f"webhooks #{number} secret", row.secret_file, row.secret_env, environ),
        _secret(f"webhooks #{number} old_secret", row.old_secret_file, row.old_secret_env, environ),
    )
    return tuple(secret.encode() for secret in found if secret)


def _secret(name: str, file: str, variable: str, environ: Mapping[str, str]) -> str:
    """`name`: of the setting, without _file or _env."""
    if not file and not variable:
        return ""
    setting = f"{name}_file" if file else f"{name}_env"
    secret = _text(setting, file, variable, environ, is_secret=True).strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise BadCredentials(setting, f"holds {len(secret)} bytes, fewer than {MIN_SECRET_BYTES}")
    if not secret.isascii() or not secret.decode("ascii").isprintable():
        raise BadCredentials(setting, "holds what cannot stand in an HTTP header: printable ASCII can")
    return secret.decode("ascii")


def _text(setting: str, file: str, variable: str, environ: Mapping[str, str], *, is_secret: bool) -> bytes:
    if not file:
        if not environ.get(variable, "").strip():
            raise BadCredentials(setting, f"the variable {variable} of the environment is not set")
        return environ[variable].encode("utf-8", "surrogateescape")
    try:
        return (read_private if is_secret else read_trusted)(file, MAX_KEY_BYTES)
    except FileNotFoundError:
        raise BadCredentials(setting, f"{_place(file)}there is no such file") from None
    except BadFile as error:
        raise BadCredentials(setting, f"{_place(file)}{error}") from None


def _place(file: str) -> str:
    """Where a file is looked for, which depends on the folder that the broker was started in."""
    return f"{os.path.abspath(file)}: " if file else ""
