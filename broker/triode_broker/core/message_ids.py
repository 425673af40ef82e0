"""Message ids: recognises a publish that was sent again (G2).

Knows ids, digests and places; nothing of sessions. One table per shard, bounded in bytes: the oldest ids go first,
so the promise is "the window, or as many ids as fit, whichever is less". The surprising decision: the order stands
in a deque of its own, because a dict that loses its first entry again and again is searched from its old start
(40 µs a publish once the bound was reached).
"""

from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from zlib import adler32, crc32

from msgspec import Struct
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import ABSENT, Publish

#: What an id costs beside its characters, in bytes (measured: about 340, the topic's name being shared).
ENTRY_OVERHEAD_BYTES = 340

Key = tuple[str, str, str]  # topic, identity, message_id


class Remembered(Struct, gc=False):
    """Where the first one went."""

    key: Key
    digest: int
    pos: int
    offset: int
    expires_ms: int

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return ENTRY_OVERHEAD_BYTES + len(self.key[1]) + len(self.key[2])


class MessageIds:
    """The ids of one shard, oldest first."""

    __slots__ = ("_by_age", "_by_key", "_max_bytes", "size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._by_key: dict[Key, Remembered] = {}
        self._by_age: deque[Remembered] = deque()
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._by_age)

    def entries(self) -> Iterator[Remembered]:
        """All whose publish has a place, oldest first."""
        return (entry for entry in self._by_age if entry.pos and self._by_key.get(entry.key) is entry)

    def find(self, key: Key, now_ms: int) -> Remembered | None:
        """The first publish with this key, while its window lasts."""
        entry = self._by_key.get(key)
        return entry if entry is not None and entry.expires_ms > now_ms else None

    def remember(self, entry: Remembered) -> None:
        """Add an entry whose key `find` did not find; the oldest make room."""
        self._by_key[entry.key] = entry
        self._by_age.append(entry)
        self.size += entry.size
        while self.size > self._max_bytes:
            self._forget_oldest()

    def bound(self, max_bytes: int) -> None:
        """Hold no more than that from now on."""
        self._max_bytes = max_bytes
        while self.size > max_bytes:
            self._forget_oldest()

    def forget(self, entry: Remembered) -> None:
        """Its publish came to nothing: the id may be used again."""
        if self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]  # its place among the ages goes in its turn

    def expire(self, now_ms: int) -> None:
        """Drop the oldest whose window is over."""
        while self._by_age and self._by_age[0].expires_ms <= now_ms:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        entry = self._by_age.popleft()
        self.size -= entry.size
        if self._by_key.get(entry.key) is entry:  # else its window was over and the key was remembered anew
            del self._by_key[entry.key]


def check_same(first: Remembered, digest: int) -> None:
    """Raise Refused where the id was used for another content (G2)."""
    if first.digest != digest:
        message = "this message_id was used for another content"
        raise Refused(ErrorName.CONFLICT, message, field="message_id")


def digest_of(packet: Publish) -> int:
    """Tells contents apart in memory; 64 bits, the same on every node, for a shard in memory may be handed over.

    Two checksums, no secret: whoever makes two contents that look alike loses one of his own. 0.5 µs where there
    is nothing beside the content; `lasting_digest_of` takes 2.5, and hashes keyed per process do not travel.
    """
    data, b64 = packet.data, packet.b64
    low, high = crc32(b64, crc32(data, b64 is not ABSENT)), adler32(b64, adler32(data))
    if packet.headers or packet.key or packet.ttl_ms or packet.deliver_at_ms:
        rest = repr(_rest(packet)).encode("utf-8", "surrogatepass")
        low, high = crc32(rest, low), adler32(rest, high)
    return high << 32 | low


def lasting_digest_of(packet: Publish) -> int:
    """Tells contents apart in every process; 63 bits, which any store can hold."""
    digest = blake2b(packet.data, digest_size=8)
    digest.update(packet.b64)
    digest.update(repr(_rest(packet)).encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()) >> 1


def _rest(packet: Publish) -> tuple[object, ...]:
    return packet.key, tuple(sorted(packet.headers.items())), packet.ttl_ms, packet.deliver_at_ms
