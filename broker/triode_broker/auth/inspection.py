"""What a broker would say of a credential, found out without one: for `triode token inspect`.

Knows the parts that `authority` is made of, and asks nobody. The surprising decision: what would be fetched or
asked for is "not known" here, never taken for good or bad; keys of a URL may be given as a document.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from triode_broker.auth.api_keys import PREFIX
from triode_broker.auth.asking import NoReply
from triode_broker.auth.jwks import Named, parse_keys
from triode_broker.auth.known import Known, NotAccepted, NotKnown
from triode_broker.auth.rules import Rules
from triode_broker.auth.signing_keys import SigningKey
from triode_broker.auth.static_keys import read_api_keys, read_key
from triode_broker.auth.strict_json import BadJson, parse_object
from triode_broker.auth.tokens import FORM, KeysLacking, OneKey, Row, Source, Tokens, decoded
from triode_broker.config import Config
from triode_broker.core.identity import Identity


@attrs.frozen
class GivenKeys:
    """Keys of a document that was fetched by somebody else; None: there is no document. `tokens.Source`."""

    url: str
    keys: Mapping[Named, SigningKey] | None

    def find(self, algorithm: str, kid: str) -> Sequence[SigningKey]:
        """`tokens.Source.find`."""
        if self.keys is None:
            raise NotKnown(f"its key is fetched from {self.url}: save that document and name it with --jwks FILE")
        return [key for (named, name), key in self.keys.items() if named == algorithm and kid in ("", name)]

    def may_know_more(self) -> bool:
        """It never does."""
        return False

    async def renew(self) -> None:
        """There is nothing to wait for."""


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Header and claims of a token, unchecked; None where it is not a JWT."""
    if not FORM.fullmatch(token):
        return None
    try:
        header, claims = (parse_object(decoded(part)) for part in token.split(".")[:2])
    except (BadJson, NotAccepted):
        return None
    return header, claims


def judge(
    config: Config, token: str, now_ms: int, environ: Mapping[str, str], jwks: bytes | None = None
) -> Identity:
    """Who its bearer is to a broker with these settings.

    `jwks`: the document of every `jwks_url`. Raises NotAccepted, NotKnown; BadCredentials for its own keys.
    """
    return Rules(config.permissions).identity(_known(config, token, now_ms, environ, jwks))


def _known(config: Config, token: str, now_ms: int, environ: Mapping[str, str], jwks: bytes | None) -> Known:
    if token.startswith(PREFIX) and config.auth.api_keys_file:
        return read_api_keys(config.auth).check(token, now_ms)
    if len(token) > config.limits.max_token_bytes:
        raise NotAccepted(f"it is longer than {config.limits.max_token_bytes} bytes")
    if config.tokens and FORM.fullmatch(token):
        try:
            return Tokens(_rows(config, environ, jwks), config.auth).check(token, now_ms)
        except KeysLacking as error:
            raise NotKnown(str(error)) from None
    if config.auth.callout_url:
        raise NotKnown(f"{config.auth.callout_url} would be asked who that is")
    raise NotAccepted("it looks like none of the kinds that are configured")


def _rows(config: Config, environ: Mapping[str, str], jwks: bytes | None) -> list[Row]:
    rows = []
    for number, row in enumerate(config.tokens, 1):
        source: Source
        if row.jwks_url:
            source = GivenKeys(row.jwks_url, None if jwks is None else _parsed(jwks, row.algorithm))
        else:
            source = OneKey(read_key(row, number, environ))
        rows.append(Row(row, source))
    return rows


def _parsed(jwks: bytes, algorithm: str) -> Mapping[Named, SigningKey]:
    try:
        return parse_keys(jwks, [algorithm])
    except NoReply:  # the document of another row
        return {}
