"""The token that comes with a handshake: in its `Authorization` header, or in its URL where that is allowed (S10).

Pure: a request in, a token out. Whether it is a good one is asked elsewhere, and no word of it goes into a
refusal or a log. The surprising decision: what is there but cannot be read is refused, not overlooked. Otherwise a
mistyped header would let its sender in as somebody without a token, where such are let in.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from triode_broker.edge.head import Refusal, Request

_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/:]+=*")  # RFC 6750 2.1, and the colon
_PARAMETER: Final = "token"


def token_of(request: Request, *, takes_query_token: bool) -> str:
    """The token, "" where there is none. Other schemes than Bearer are somebody else's. Raises Refusal."""
    scheme, _, value = request.headers.get(b"authorization", b"").decode("ascii").partition(" ")
    token = ""
    if scheme.lower() == "bearer":
        token = value.strip()
        if _TOKEN.fullmatch(token) is None:
            raise Refusal(400, "Authorization: Bearer is followed by one token.")
    if not takes_query_token:
        return token
    in_url = _of_query(request.target.partition("?")[2])
    if in_url and token:
        raise Refusal(400, "A token comes in the URL or in the header, not in both.")
    return token or in_url


def _of_query(query: str) -> str:
    values = [value for name, _, value in (pair.partition("=") for pair in query.split("&")) if name == _PARAMETER]
    if len(values) > 1:
        raise Refusal(400, "There is more than one token in the URL.")
    token = unquote_to_bytes(values[0]).decode("latin-1") if values else ""
    if token and _TOKEN.fullmatch(token) is None:
        raise Refusal(400, "The token in the URL cannot be one.")
    return token
