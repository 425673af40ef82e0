"""The two ways a packet can fail: `Refused` is answered and the connection lives, `Disconnect` ends it.

Anything else that is raised is a bug and meets the connection's one exception barrier in the edge.
"""

from typing import Final

from triode_protocol.codec import Refused, encode
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.packets import Error

__all__ = ["Disconnect", "Refused", "answer_to", "close_code"]

_CLOSES: Final[dict[str, CloseCode]] = {
    ErrorName.UNAUTHORIZED: CloseCode.AUTH_FAILED,
    ErrorName.FORBIDDEN: CloseCode.AUTH_FAILED,
    ErrorName.TOKEN_EXPIRED: CloseCode.TOKEN_EXPIRED,
    ErrorName.REVOKED: CloseCode.REVOKED,
}


class Disconnect(Exception):
    """The connection must end with this close code (SPEC 5.3, or 1000); the edge says bye and closes."""

    def __init__(self, code: int, reconnect_after_ms: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.reconnect_after_ms = reconnect_after_ms


def answer_to(refused: Refused, id: int = 0) -> bytes:
    """The `error` that says why (SPEC 5.1), encoded; `id`: where it does not know of which packet."""
    return encode(
        Error(
            refused.name,
            refused.message,
            refused.retry,
            id or refused.id,
            refused.sub,
            refused.field,
            refused.retry_after_ms,
        )
    )


def close_code(refused: Refused) -> CloseCode:
    """How a connection ends whose credential is refused (SPEC 11.1.4)."""
    if refused.retry == "backoff":
        return CloseCode.OVERLOADED
    return _CLOSES.get(refused.name, CloseCode.PROTOCOL)
