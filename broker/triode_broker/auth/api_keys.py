"""API keys for services: `tk_<id>_<secret>`, of which only a hash is kept.

Knows the records and one file of them, one JSON object a line. The surprising decision: the hash is plain SHA-256.
Slow hashes protect what people think up; a secret of 256 random bits is not guessed, however fast one may try, and
a slow one would let anybody keep the broker busy with wrong keys.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from triode_protocol.errors import ErrorName

from triode_broker.auth.grants import BadGrants, parse_grants
from triode_broker.auth.known import Known, NotAccepted, check_name, check_tenant
from triode_broker.auth.strict_json import BadJson, parse_object
from triode_broker.secrets_on_disk import BadFile, read_private

PREFIX: Final = "tk_"
_FORM: Final = re.compile(r"tk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_SECRET_BYTES: Final = 32
MAX_FILE_BYTES: Final = 16_777_216

_Time = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key; a line of the file. Times are wall-clock ms, 0 = never."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$")]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]  # of the secret
    user: str
    tenant: str = ""
    roles: tuple[str, ...] = ()
    permissions: dict[str, Any] = {}
    created_ms: _Time = 0
    expires_ms: _Time = 0
    revoked_ms: _Time = 0


def make_key(**fields: Any) -> tuple[ApiKey, str]:
    """A new key, and its text, which nobody can have again."""
    name, secret = secrets.token_hex(6), secrets.token_urlsafe(_SECRET_BYTES)
    return ApiKey(id=name, sha256=_hash(secret), **fields), f"{PREFIX}{name}_{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def read_keys(file: str) -> list[ApiKey]:
    """All keys of a file. Raises BadFile, with the number of the line; FileNotFoundError."""
    content = read_private(file, MAX_FILE_BYTES)
    if not content.strip():
        raise BadFile("is empty; triode token key create makes a key")
    if not content.endswith(b"\n"):
        raise BadFile("has no end of line at its end: it was cut off")
    found: dict[str, ApiKey] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            key = msgspec.convert(parse_object(line), ApiKey)
            _known(key)
        except (BadJson, msgspec.ValidationError, BadGrants, NotAccepted) as error:
            raise BadFile(f"line {number} is not a key: {error}") from None
        if key.id in found:
            raise BadFile(f"line {number} is a second key {key.id}")
        found[key.id] = key
    return list(found.values())


def write_keys(file: str, change: Callable[[list[ApiKey]], list[ApiKey]]) -> None:
    """Put other keys in place of those of a file, which is made where there is none; nobody sees half of it.

    Raises BadFile, OSError. Others who do so meanwhile wait.
    """
    path = Path(os.path.realpath(file))
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        keys = change(read_keys(file) if path.exists() else [])
        _replace(path, b"".join(msgspec.json.encode(key) + b"\n" for key in keys))
        os.fsync(directory)
    finally:
        os.close(directory)


def _replace(path: Path, content: bytes) -> None:
    before = path.stat() if path.exists() else None
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(number, "wb") as opened:
            if before is not None:  # the broker may run as somebody else than who looks after its keys
                os.fchown(number, before.st_uid, before.st_gid)
                os.fchmod(number, before.st_mode & 0o640)
            opened.write(content)
            opened.flush()
            os.fsync(number)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _known(key: ApiKey) -> Known:
    return Known(
        user=check_name(key.user, "its user"),
        method="key",
        tenant=check_tenant(key.tenant, "its tenant") if key.tenant else "",
        roles=frozenset(check_name(role, "one of its roles") for role in key.roles),
        grants=parse_grants(key.permissions),
        expires_ms=key.expires_ms,
        issued_ms=key.created_ms,
        key=key.id,
    )


def state(key: ApiKey, now_ms: int) -> str:
    """In a word: good, revoked or expired."""
    wrong = _state(key, now_ms)
    return "good" if wrong is None else "revoked" if wrong is ErrorName.REVOKED else "expired"


class ApiKeys:
    """The keys that are accepted."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys: Mapping[str, tuple[ApiKey, Known]] = {key.id: (key, _known(key)) for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def now(self, id: str) -> Known | None:
        """What a key that was shown once says now; None: it was withdrawn. Its time is looked after elsewhere."""
        key, known = self._keys.get(id, (None, None))
        return None if key is None or key.revoked_ms else known

    def check(self, text: str, now_ms: int) -> Known:
        """Whose key this is. Raises NotAccepted."""
        form = _FORM.fullmatch(text)
        if form is None:
            raise NotAccepted("it begins like an API key and has not the form of one")
        key, known = self._keys.get(form[1], (None, None))
        if key is None or known is None:
            raise NotAccepted(f"there is no API key {form[1]}")
        if not hmac.compare_digest(_hash(form[2]), key.sha256):
            raise NotAccepted(f"the secret is not that of API key {form[1]}")
        if (wrong := _state(key, now_ms)) is not None:
            raise NotAccepted(f"API key {key.id} is no longer good", wrong)
        return known


def _state(key: ApiKey, now_ms: int) -> ErrorName | None:
    """What is wrong with a key; None = nothing."""
    if key.revoked_ms:
        return ErrorName.REVOKED
    return ErrorName.TOKEN_EXPIRED if key.expires_ms and key.expires_ms <= now_ms else None
