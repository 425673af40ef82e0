"""Plain request heads read by hand: a GET whose every line is beyond doubt. Whatever else is h11's to judge.

Pure function on a whole head. The surprising decision: this stands in front of a library that does the same,
because a storm of reconnects is mostly heads, and one takes 6 µs here and 55 µs there (docs/decisions/0001). A
property test holds it to h11: what it reads, h11 reads the same; it never accepts what h11 refuses.
"""

import re
from typing import Final

_TOKEN: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-z]+")  # RFC 9110 5.6.2, in lower case
#: Headers whose meaning h11 checks: where one is present, it is not plain.
_JUDGED: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})


def plain_head(head: bytes) -> tuple[str, dict[bytes, bytes]] | None:
    """Target and headers (names in lower case) of a plain GET, or None.

    `head` ends with its empty line and has only printable ASCII, tabs and CR LF pairs: the caller saw to that.
    """
    request, *lines = head[:-4].split(b"\r\n")
    method, _, rest = request.partition(b" ")
    target, _, version = rest.partition(b" ")
    if method != b"GET" or version != b"HTTP/1.1" or not target or b"\t" in target:
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or name in headers or name in _JUDGED or _TOKEN.fullmatch(name) is None:
            return None  # repeated, folded, or malformed
        headers[name] = value.strip(b" \t")
    return (target.decode(), headers) if b"host" in headers else None
