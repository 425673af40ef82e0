"""The shard table: who owns which shard, as far as this node has heard.

Pure: it merges what nodes announce and judges nothing. Who is alive is membership's, what follows is ownership's.

Merging takes the greater of two entries in one total order, so it does not matter in which order, how often or by
whom an entry arrives: nodes that have heard the same entries have the same table. The order is (epoch, node)
first. Two different entries with the same (epoch, node) are nearly impossible: a node raises the epoch with every
entry it makes. The exception is a node that claims, is killed, and in its next life claims again before anybody
told it of the first claim. Then the greater incarnation counts, which says nothing about who came first, and need
not: if the dead life wins, its shard is an orphan like any other and is claimed with the next epoch.

The surprising decision: a memory shard has one entry, a durable one has an entry per announcing node. Nobody ever
takes a durable shard over, so a second announcer is not a successor but an error that all nodes have to see, the
losing announcer's peers too; a table that kept the winner alone would hide it.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from triode_broker.cluster.frames import Entry

#: Entries of nodes that are not the holder, kept per durable shard: enough to show that something is wrong.
MAX_STRAYS: Final = 4
#: Above it no honest node comes, and numbers stay exact in JSON, those behind it too.
MAX_EPOCH: Final = 2**52
_NAME: Final = re.compile(r"[^\x00-\x20\x7f]{1,128}")


class Table:
    """Entries by shard. It knows the shards from the cluster's configuration and takes no others.

    `holders[i]` is the node that holds the durable shard d<i>. `dropped` counts entries that were none.
    """

    def __init__(self, memory_shards: int, holders: Sequence[str]) -> None:
        self.memory: Final = tuple(f"m{number}" for number in range(memory_shards))
        self.holders: Final = {f"d{number}": node for number, node in enumerate(holders)}
        self.dropped = 0
        self._entries: dict[str, Entry] = {}  # of memory shards
        self._announced: dict[str, dict[str, Entry]] = {shard: {} for shard in self.holders}  # by node

    def get(self, shard: str) -> Entry | None:
        """The entry that counts; of a durable shard, what its configured holder last announced."""
        if shard in self.holders:
            return self._announced[shard].get(self.holders[shard])
        return self._entries.get(shard)

    def has_room(self, shard: str) -> bool:
        """Whether a greater entry can follow; only a broken node announces the last one there is."""
        entry = self.get(shard)
        return entry is None or entry.epoch < MAX_EPOCH

    def strays(self, shard: str) -> list[Entry]:
        """What nodes that are not its holder announce of a durable shard; of a memory shard, nothing."""
        announced = self._announced.get(shard, {})
        return [announced[node] for node in sorted(announced) if node != self.holders[shard]]

    def merge(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take in what was announced. Returns the entries that were news, for the other peers."""
        news = []
        for entry in entries:
            if not self.accepts(entry):
                self.dropped += 1
            elif self._take(entry):
                news.append(entry)
        return news

    def announce(self, entry: Entry) -> bool:
        """The same for an entry of this node's own. False: a greater one stands."""
        return bool(self.merge([entry]))

    def accepts(self, entry: Entry) -> bool:
        """Whether it can be an entry of this cluster: a known shard, an epoch in bounds, names that are some."""
        return (
            (entry.shard in self.holders or entry.shard in self.memory)
            and 0 < entry.epoch <= MAX_EPOCH
            and _is_name(entry.node)
            and _is_name(entry.incarnation)
            and (not entry.log or (entry.log.startswith(f"{entry.shard}-") and _is_name(entry.log)))
            and len(entry.heir) <= 256
        )

    def entries(self) -> list[Entry]:
        """All there is, in order of shard and node: the first thing said on a link."""
        return list(self._all())

    def digest(self) -> str:
        """Equal on nodes that have equal tables, and, but for chance, on no others."""
        text = "\n".join("\t".join(map(str, rank(entry))) for entry in self._all())
        return f"{zlib.crc32(text.encode()):08x}"

    def _all(self) -> Iterator[Entry]:
        for shard in self.memory:
            if shard in self._entries:
                yield self._entries[shard]
        for announced in self._announced.values():
            yield from (announced[node] for node in sorted(announced))

    def _take(self, entry: Entry) -> bool:
        """Keep it if it is greater than what is kept in its place."""
        place, key = self._place(entry)
        known = place.get(key)
        if known is not None and rank(known) >= rank(entry):
            return False
        place[key] = entry
        return entry.shard not in self.holders or self._is_kept(entry)

    def _place(self, entry: Entry) -> tuple[dict[str, Entry], str]:
        if entry.shard in self.holders:
            return self._announced[entry.shard], entry.node
        return self._entries, entry.shard

    def _is_kept(self, entry: Entry) -> bool:
        """Drop the least stray of a shard that has too many. Whether `entry` is still there."""
        strays = sorted(self.strays(entry.shard), key=rank)
        for stray in strays[:-MAX_STRAYS]:
            del self._announced[entry.shard][stray.node]
            self.dropped += 1
        return entry.node in self._announced[entry.shard]


def rank(entry: Entry) -> tuple[int, str, str, str, str, str]:
    """What entries of one shard are compared by. All fields are in it, so that only equal entries are equal."""
    return entry.epoch, entry.node, entry.incarnation, entry.heir, entry.log, entry.shard


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None
