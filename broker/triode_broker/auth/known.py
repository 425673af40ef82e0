"""What a credential says of its bearer, once it was checked, and the ways in which it is not accepted.

Records and rules for names; knows no kind of credential. The surprising decision: reasons are for the operator's
log, and hold no part of a token that is longer than a name. What the client is told says less (`authority`).
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs
from triode_protocol.errors import ErrorName

from triode_broker.auth.grants import NOTHING, Grants
from triode_broker.core.identity import NO_LIMITS
from triode_broker.core.quotas import check_claim
from triode_broker.printable import escape, shorten

if TYPE_CHECKING:  # the command line knows names where the libraries for keys are not installed
    from triode_broker.auth.signing_keys import SigningKey

MAX_NAME_BYTES: Final = 255
TENANT: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class NotAccepted(Exception):
    """A credential that lets nobody in, and why; `name` is unauthorized, token_expired or revoked."""

    def __init__(self, reason: str, name: ErrorName = ErrorName.UNAUTHORIZED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.name = name


class NotKnown(Exception):
    """It cannot be found out at the moment, and when it may be worth asking again."""

    def __init__(self, reason: str, retry_after_ms: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_ms = retry_after_ms


@attrs.frozen(eq=False)
class Known:
    """One bearer. Times are wall-clock ms; an `expires_ms` of 0 is never."""

    user: str
    method: str
    tenant: str = ""
    roles: frozenset[str] = frozenset()
    values: Mapping[str, object] = attrs.field(factory=dict)  # claims, for placeholders in rules
    grants: Grants = NOTHING  # what the credential itself allows and denies
    limits: Mapping[str, int] = NO_LIMITS  # what lowers its quotas
    expires_ms: int = 0
    issued_ms: int = 0
    token_id: str = ""
    key: str = ""
    signer: "SigningKey | None" = None  # of its token, where that key stands in the settings


def bare(credential: str) -> str:
    """A credential without the white space of ASCII around it, as files end with. Raises NotAccepted."""
    found = credential.strip(" \t\n\v\f\r")
    if credential and not found:  # it is no good one, and not "none" either
        raise NotAccepted("it is nothing but white space")
    return found


def check_name(name: object, what: str) -> str:
    """A user's, key's or role's name as it stands: text that can be shown and sent. Raises NotAccepted."""
    if not isinstance(name, str):
        raise NotAccepted(f"{what} is not text")
    # isprintable: no control, format or unassigned characters, no half surrogate pairs that could not be sent.
    if not name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        raise NotAccepted(f"{what} is empty, longer than {MAX_NAME_BYTES} bytes or cannot be printed")
    return name


def check_tenant(name: object, what: str) -> str:
    """A tenant's name as it stands. Raises NotAccepted."""
    if not isinstance(name, str) or not TENANT.fullmatch(name):
        raise NotAccepted(f"{what} is not a tenant's name: 1 to 64 of A-Z, a-z, 0-9, _, ., -")
    return name


def check_limits(limits: object, what: str) -> Mapping[str, int]:
    """What lowers the quotas of a bearer. Raises NotAccepted."""
    try:
        return check_claim(limits)
    except ValueError as error:
        raise NotAccepted(f"{what} cannot hold: {error}") from None


def shown(text: str) -> str:
    """A name from outside, for the log: bounded and escaped (S27)."""
    return shorten(escape(text), 80)
