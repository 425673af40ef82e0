"""Checksums: what every row says, in 32 bits, so that a flipped bit is noticed before it is served.

Knows rows, nothing of where they lie. The surprising decision: a message has two, one of its payload and one of
everything else and that sum, so that a scan which passes over foreign payloads still knows whose they are.
"""

from zlib import crc32


def row_sum(*facts: object) -> int:
    """Of a row of few columns: text, numbers, and digests of what is larger."""
    return crc32("\0".join(map(str, facts)).encode("utf-8", "surrogatepass"))


def message_sum(
    pos: int,
    topic: str,
    offset: int,
    ts: int,
    expires: int,
    cum: int,
    key: str,
    compacted: int,
    tombstone: int,
    payload_sum: int,
) -> int:
    """Of a message's row; once per message, hence no `row_sum`."""
    text = f"{pos} {offset} {ts} {expires} {cum} {compacted}{tombstone} {payload_sum} {topic}\0{key}"
    return crc32(text.encode("utf-8", "surrogatepass"))
