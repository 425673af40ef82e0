"""The two ways a packet can fail: `Refused` is answered and the connection lives, `Disconnect` ends it.

Anything else that is raised is a bug and meets the connection's one exception barrier in the edge.
"""

from triode_protocol.codec import Refused, encode
from triode_protocol.packets import Error

__all__ = ["Disconnect", "Refused", "answer_to"]


class Disconnect(Exception):
    """The connection must end with this close code (SPEC 5.3, or 1000); the edge says bye and closes."""

    def __init__(self, code: int, reconnect_after_ms: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.reconnect_after_ms = reconnect_after_ms


def answer_to(refused: Refused) -> bytes:
    """The `error` that says why (SPEC 5.1), encoded."""
    return encode(
        Error(
            refused.name,
            refused.message,
            refused.retry,
            refused.id,
            refused.sub,
            refused.field,
            refused.retry_after_ms,
        )
    )
