"""Departures: why connections end, counted and logged: code, reason, initiator (docs/disconnects.md).

Knows sessions as they leave and what the edge says of their end. The surprising decision: a storm is told of in
one line a second. Ten thousand clients that a cut cable takes away would otherwise fill the disk with what is one
fact.
"""

from collections import Counter
from typing import Any, Final

from triode_protocol.errors import INITIATORS, MEANINGS, CloseCode

from triode_broker.core.session import Session
from triode_broker.core.timers import Timers

#: In one second; what is more is told of together.
LINES_A_SECOND: Final = 20
_SECOND_MS: Final = 1_000
_LOST: Final = 1006
#: Codes of RFC 6455 that are counted by themselves.
_NAMES: Final[dict[int, tuple[str, str]]] = {
    1000: ("normal", "It said goodbye."),
    1001: ("going_away", "The page was closed or left."),
    1002: ("protocol_error", "It broke the rules of WebSockets."),
    1003: ("unsupported_data", "It does not take what it was sent."),
    1005: ("no_code", "It closed without saying why."),
    1006: ("lost", "The connection was lost without a word."),
    1007: ("invalid_text", "Text that is not UTF-8."),
    1008: ("policy_violation", "Too many frames of one kind."),
    1009: ("too_big", "A message that is too large."),
    1011: ("internal_error", "A fault at the end that closed it."),
}
_OWN: Final = {int(code): code.name.lower() for code in CloseCode}
#: What those are called that are counted by themselves.
CODE_NAMES: Final = {str(code): name for code, (name, _) in _NAMES.items()} | {
    str(code): name for code, name in _OWN.items()
}


def describe(code: int, *, is_clients: bool) -> tuple[int, str, str, str]:
    """Code, name, reason and initiator of an end; `is_clients`: the client has said this code first."""
    code = code or _LOST
    if code in _OWN and not is_clients:
        return code, _OWN[code], MEANINGS[code], INITIATORS[code]
    name, reason = _NAMES.get(code, ("", "A code of the client's own."))
    if code == _LOST:
        return code, name, reason, "network"
    # 1000 from here answers the client's `disconnect`.
    return code, name, reason, "client" if is_clients or code == 1000 else "server"


def label(code: int, *, is_clients: bool) -> str:
    """What it is counted under: of what clients may choose freely, the class."""
    if code in _NAMES or (code in _OWN and not is_clients):
        return str(code)
    return {3: "3xxx", 4: "4xxx"}.get(code // 1000, "other")


class Departures:
    """One node's."""

    def __init__(self, log: Any, timers: Timers) -> None:
        self._log = log
        self._timers = timers
        self.counts: Counter[tuple[str, str]] = Counter()  # by code, or its class, and initiator
        self._until_ms = 0  # the end of the second that is counted
        self._lines = 0
        self._more: Counter[str] = Counter()  # not logged, by code

    def tell(self, session: Session, connection: Any) -> None:
        """A connection has ended."""
        is_clients = bool(getattr(connection, "is_closed_by_client", False))
        code, name, reason, initiator = describe(connection.close_code, is_clients=is_clients)
        counted = label(code, is_clients=is_clients)
        self.counts[counted, initiator] += 1
        if not self._may_log():
            self._more[counted] += 1
            return
        seconds = (self._timers.now_ms - session.since_ms) / 1000 if session.is_connected else 0
        say = self._log.warning if initiator == "server" else self._log.info
        say(
            "disconnected",
            connection=session.connection_id,
            user=session.identity.user,
            tenant=session.identity.tenant,
            address=session.address,
            code=code,
            name=name,
            reason=reason,
            initiator=initiator,
            seconds=round(max(seconds, 0), 3),
        )

    def _may_log(self) -> bool:
        now_ms = self._timers.steady_ms()
        if now_ms >= self._until_ms:
            self._until_ms = now_ms + _SECOND_MS
            self._lines = 0
        self._lines += 1
        if self._lines == LINES_A_SECOND + 1:
            self._timers.at(self._until_ms, self._tell_more)
        return self._lines <= LINES_A_SECOND

    def _tell_more(self, now_ms: int) -> None:
        more, self._more = self._more, Counter()
        if more:
            self._log.info("more_disconnects", count=more.total(), codes=dict(more))
