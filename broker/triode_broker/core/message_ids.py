"""Message ids: recognises a publish that was sent again (G2).

Knows ids, digests and places; nothing of sessions. One table per shard, bounded in bytes: the oldest ids go first,
so the promise is "the window, or as many ids as fit, whichever is less". At 160 bytes an entry the default bound
is about 100,000 ids.
"""

from msgspec import Struct

ENTRY_OVERHEAD_BYTES = 160

Key = tuple[str, str, str]  # topic, identity, message_id


class Remembered(Struct, gc=False):
    """Where the first one went."""

    digest: int
    pos: int
    offset: int
    expires_ms: int


def _cost(key: Key) -> int:
    return ENTRY_OVERHEAD_BYTES + len(key[0]) + len(key[1]) + len(key[2])


class MessageIds:
    """The ids of one shard, oldest first."""

    __slots__ = ("_entries", "_max_bytes", "size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: dict[Key, Remembered] = {}
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key, now_ms: int) -> Remembered | None:
        """The first publish with this key, while its window lasts."""
        entry = self._entries.get(key)
        if entry is not None and entry.expires_ms <= now_ms:
            self._forget(key)
            return None
        return entry

    def remember(self, key: Key, entry: Remembered) -> None:
        """Add a key that `find` did not find; the oldest make room."""
        self._entries[key] = entry
        self.size += _cost(key)
        while self.size > self._max_bytes:
            self._forget(next(iter(self._entries)))

    def expire(self, now_ms: int) -> None:
        """Drop the oldest whose window is over."""
        while self._entries:
            key = next(iter(self._entries))
            if self._entries[key].expires_ms > now_ms:
                return
            self._forget(key)

    def _forget(self, key: Key) -> None:
        del self._entries[key]
        self.size -= _cost(key)
