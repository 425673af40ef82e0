"""Why a first connection did not come about, and what to do about it, for somebody who typed a command.

Knows the words in which the client gives reasons: what OpenSSL calls things, statuses of HTTP, names of errors.
The surprising decision: some are final. Whose certificate is not trusted now is not in ten seconds either.
"""

import re
from typing import Final

import attrs
from triode_protocol.errors import ErrorName


@attrs.frozen
class Advice:
    """What to do; ends a sentence. `is_final`: waiting changes nothing."""

    text: str
    is_final: bool = False


_UNTRUSTED: Final = Advice(
    "this certificate is not trusted here: name the file of the authority that signed it with --ca FILE"
    " (--insecure asks nobody, and then anybody may answer)",
    is_final=True,
)
_MISNAMED: Final = Advice("call it by a name that stands in its certificate", is_final=True)
_OUTDATED: Final = Advice("its certificate has to be renewed, or a clock is wrong", is_final=True)
_PLAIN: Final = Advice("no TLS is spoken there: write ws:// in the place of wss://", is_final=True)
_MAY_BE_TLS: Final = Advice(
    "something answers there; where TLS is spoken, write wss:// in the place of ws:// (and --ca FILE, for an"
    " authority of your own)"
)
_MAY_WANT_CERTIFICATE: Final = Advice(
    "something answers there; it may ask for a client's certificate: --certificate FILE"
)
_ANSWERED: Final = Advice("it runs, and that is what it says")
_ELSEWHERE: Final = Advice(
    "something answers there, but not at this path: a broker's is /ws, behind a proxy its own"
)
_SILENT: Final = Advice("is it running? Start one with `triode serve`, or name another with --url")

_NAMES: Final = "|".join(ErrorName)
#: What is found first holds.
_REASONS: Final = (
    (re.compile(r"CERTIFICATE_VERIFY_FAILED.*mismatch"), _MISNAMED),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED.*(has expired|not yet valid)"), _OUTDATED),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED"), _UNTRUSTED),
    (re.compile(r"with HTTP 404"), _ELSEWHERE),
    (re.compile(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE"), _PLAIN),
    (re.compile(rf"with HTTP (403|429|503)|said goodbye|\b({_NAMES}): "), _ANSWERED),
)
#: Reasons that say more together with how the address begins.
_BY_SCHEME: Final = (
    (re.compile(r"with HTTP 400"), "ws://", _MAY_BE_TLS),
    (re.compile(r"with HTTP 400"), "wss://", _ANSWERED),
    (re.compile(r"closed during the WebSocket handshake|CERTIFICATE_REQUIRED"), "wss://", _MAY_WANT_CERTIFICATE),
)


def advice(reason: str, address: str) -> Advice:
    """What to do about a reason; `address`: where that was."""
    for pattern, found in _REASONS:
        if pattern.search(reason):
            return found
    for pattern, scheme, found in _BY_SCHEME:
        if pattern.search(reason) and _websocket(address).startswith(scheme):
            return found
    return _SILENT


def no_connection(reason: str, address: str) -> str:
    """The whole sentence."""
    found = advice(reason, address)
    head = "no broker at" if found in (_SILENT, _ELSEWHERE) else "no connection to"
    return f"{head} {address} ({reason}); {found.text}"


def _websocket(address: str) -> str:
    return re.sub(r"^http", "ws", address)
