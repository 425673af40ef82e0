"""Tokens (JWT): which key has signed one, and what it says of its bearer.

Knows keys by `SigningKey` and the clock by the time it is told. The surprising decision: PyJWT checks signatures
only. What is claimed is read here, strictly: its reader takes a claim that is there twice, or an `exp` of 1e400.

RFC 8725 stands behind most lines: algorithm from the key's row and never from the token (3.1), weak keys refused
(3.5, `signing_keys`), issuer and audience (3.8, 3.9), nothing fetched that a token names (3.10), type (3.11).
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
from triode_protocol.errors import ErrorName

from triode_broker.auth.grants import NOTHING, BadGrants, Grants, parse_grants
from triode_broker.auth.known import Known, NotAccepted, NotKnown, check_limits, check_name, check_tenant, shown
from triode_broker.auth.strict_json import BadJson, parse_object
from triode_broker.config import Auth, TokenKey

if TYPE_CHECKING:
    from triode_broker.auth.signing_keys import SigningKey

#: header.payload.signature, with nothing that two readers could take for the same.
FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
#: `typ`: a token for access or one that does not say; ID tokens are told apart by their audience.
_TYPES: Final = ("jwt", "at+jwt", "application/at+jwt", "application/jwt")
#: Header parameters that change how the rest is to be read (RFC 7515 4.1.11, RFC 7797, RFC 7516).
_REFUSED: Final = ("crit", "b64", "enc", "zip")
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999: no clock that is right says more
_MAX_SIGNATURES: Final = 16  # checked for one token that names no key
_MAX_ROLES: Final = 64
NO_SUCH_KEY: Final = "it names a key that none of the configured URLs has"


class Source(Protocol):
    """Where the keys of one row come from."""

    def find(self, algorithm: str, kid: str) -> "Sequence[SigningKey]":
        """Those of a name, or all of an algorithm; none where there are none. Raises NotKnown."""

    def may_know_more(self) -> bool:
        """Whether it is worth waiting for `renew`."""

    async def renew(self) -> None:
        """Wait until it knows what can be known now."""


@attrs.frozen
class OneKey:
    """A source that holds one key, whatever the token calls it."""

    key: "SigningKey"

    def find(self, algorithm: str, kid: str) -> "Sequence[SigningKey]":
        """It."""
        return (self.key,)

    def may_know_more(self) -> bool:
        """It never does."""
        return False

    async def renew(self) -> None:
        """There is nothing to wait for."""


@attrs.frozen(eq=False)
class Row:
    """One of `[[tokens]]`, and where its keys are."""

    config: TokenKey
    source: Source


class KeysLacking(Exception):
    """The token names a key that is not known, and these sources may know it soon."""

    def __init__(self, sources: list[Source]) -> None:
        super().__init__("a key that is not known yet")
        self.sources = sources


class Tokens:
    """Checks tokens against the rows of `[[tokens]]`."""

    def __init__(self, rows: Sequence[Row], auth: Auth) -> None:
        self._rows = tuple(rows)
        self._leeway_ms = auth.leeway_seconds * 1000
        self._max_ms = auth.max_token_seconds * 1000

    def check(self, token: str, now_ms: int) -> Known:
        """Who its bearer is. Raises NotAccepted, KeysLacking, and NotKnown where keys cannot be had."""
        header = _header(token)
        algorithm, kid = header["alg"], header.get("kid", "")
        rows = [row for row in self._rows if _fits(row.config, algorithm, kid)]
        if not rows:
            named = f" named {shown(kid)}" if kid else ""
            raise NotAccepted(f"no configured key{named} is for {shown(algorithm)}")
        failure, lacking, has_keys = None, [], False
        for row in rows:
            try:
                keys = row.source.find(row.config.algorithm, kid or row.config.kid)[:_MAX_SIGNATURES]
                has_keys |= bool(keys)
                signed = next(((key, said) for key in keys if (said := key.payload(token)) is not None), None)
                if signed is not None:
                    known = self._claims(row.config, signed[1], now_ms)
                    return attrs.evolve(known, signer=signed[0]) if isinstance(row.source, OneKey) else known
            except (
                NotAccepted,
                NotKnown,
            ) as error:  # another row may have the key, or the same key and this issuer
                failure = failure if isinstance(failure, NotAccepted) else error
            else:
                lacking += [row.source] if not keys and row.source.may_know_more() else []
        if lacking and not isinstance(failure, NotAccepted):
            raise KeysLacking(lacking)
        if failure is not None:
            raise failure
        raise NotAccepted("no configured key has made its signature" if has_keys else NO_SUCH_KEY)

    def has(self, signer: "SigningKey") -> bool:
        """Whether a key that stood in the settings still does."""
        sources = [row.source for row in self._rows]
        return any(isinstance(one, OneKey) and one.key.is_same(signer) for one in sources)

    def _claims(self, config: TokenKey, payload: bytes, now_ms: int) -> Known:
        claims = _parsed(payload, "its payload")
        _check_issuer(config, claims)
        expires_ms, issued_ms = self._times(claims, now_ms)
        roles = _roles(claim(claims, config.roles_claim)) if config.roles_claim else frozenset()
        tenant = claims.get(config.tenant_claim) if config.tenant_claim else None
        return Known(
            user=check_name(claims.get(config.user_claim), f"its {config.user_claim}"),
            method="token",
            tenant=config.tenant if tenant is None else check_tenant(tenant, f"its {config.tenant_claim}"),
            roles=roles,
            values=claims,
            grants=_grants(claims.get(config.permissions_claim) if config.permissions_claim else None),
            limits=check_limits(claims.get("limits", {}), "its limits"),
            expires_ms=expires_ms,
            issued_ms=issued_ms,
            token_id="" if "jti" not in claims else check_name(claims["jti"], "its jti"),
        )

    def _times(self, claims: Mapping[str, Any], now_ms: int) -> tuple[int, int]:
        """Until when it is good, and since when. Raises NotAccepted."""
        if "exp" not in claims:  # S17: what never ends can never be got rid of
            raise NotAccepted("it has no exp: tokens must say when they end")
        expires_ms, issued_ms = _time(claims, "exp"), _time(claims, "iat")
        if _time(claims, "nbf") > now_ms + self._leeway_ms:
            raise NotAccepted("its nbf is still to come")
        if issued_ms > now_ms + self._leeway_ms:
            raise NotAccepted("its iat is still to come")
        if self._max_ms:
            if issued_ms:
                expires_ms = min(expires_ms, issued_ms + self._max_ms)
            elif expires_ms > now_ms + self._max_ms + self._leeway_ms:
                raise NotAccepted("it has no iat and is good for longer than auth.max_token_seconds")
        if expires_ms + self._leeway_ms <= now_ms:
            raise NotAccepted("it has expired", ErrorName.TOKEN_EXPIRED)
        # Who comes with one that our clock calls expired has until the leeway ends; the others until it expires.
        return (expires_ms if expires_ms > now_ms else expires_ms + self._leeway_ms), issued_ms


def _fits(config: TokenKey, algorithm: str, kid: str) -> bool:
    return config.algorithm == algorithm and (not kid or config.kid in ("", kid))


def _header(token: str) -> dict[str, Any]:
    """The header, of which `alg` and `kid` are used, to choose among what is configured. Raises NotAccepted."""
    if not FORM.fullmatch(token):
        raise NotAccepted("it is not of the form header.payload.signature")
    header = _parsed(decoded(token.partition(".")[0]), "its header")
    if not isinstance(header.get("alg"), str) or not isinstance(header.get("kid", ""), str):
        raise NotAccepted("its header has no alg, or a kid that is not text")
    if strange := [name for name in _REFUSED if name in header]:
        raise NotAccepted(f"its header has {strange[0]}, which is not understood here")
    kind = header.get("typ", "jwt")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise NotAccepted("its header has a typ that is no access token's")
    return header


def decoded(segment: str) -> bytes:
    """The bytes of a part. Raises NotAccepted."""
    try:
        return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise NotAccepted("its header is not base64url") from None


def _parsed(text: bytes, what: str) -> dict[str, Any]:
    try:
        return parse_object(text)
    except BadJson as error:
        raise NotAccepted(f"{what} {error}") from None


def _check_issuer(config: TokenKey, claims: Mapping[str, Any]) -> None:
    if config.issuer and claims.get("iss") != config.issuer:
        raise NotAccepted("its iss is not the configured issuer")
    if config.audience:
        audience = claims.get("aud")
        if config.audience not in (audience if isinstance(audience, list) else [audience]):
            raise NotAccepted("its aud does not name the configured audience")


def _time(claims: Mapping[str, Any], name: str) -> int:
    """Wall-clock ms; 0 where it is not there. RFC 7519 allows fractions."""
    said = claims.get(name, 0)
    is_number = isinstance(said, int | float) and not isinstance(said, bool)
    if not is_number or not 0 <= said <= _LAST_SECOND:  # which no NaN and no infinity is
        raise NotAccepted(f"its {name} is not a time")
    return int(said * 1000)


def claim(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, or, where there is none, by a path of names with dots (`realm_access.roles`)."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _roles(said: object) -> frozenset[str]:
    """A list of texts, or one text with spaces between, as scopes are written (RFC 8693 4.2)."""
    if said is None:
        return frozenset()
    roles = said.split() if isinstance(said, str) else said
    if not isinstance(roles, list) or len(roles) > _MAX_ROLES:
        raise NotAccepted(f"its roles are not a list of at most {_MAX_ROLES}")
    return frozenset(check_name(role, "one of its roles") for role in roles)


def _grants(said: object) -> Grants:
    try:
        return NOTHING if said is None else parse_grants(said)
    except BadGrants as error:
        raise NotAccepted(f"its {error}") from None
