"""Lagging: whether a node has fallen so far behind that new clients had better go elsewhere for a while.

A part of the composition root: looks at what the parts say of themselves and changes nothing. Behind is a node
whose loop comes late, whose disk has too much to take, or whose view of a shard elsewhere is not live. The
surprising decision: it is slow to say so and slower to take it back. Whoever asks moves clients by the answer, and
a node that went in and out with every hiccup would move them to and fro.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from triode_broker.config import Limits
from triode_broker.core.node import Node
from triode_broker.log.disk import DiskLog

#: A trouble is over below this share of the bound that it began at.
OVER_SHARE = 0.5


@attrs.define
class _Trouble:
    since_ms: int = -1  # over its bound without a break; -1: it is not
    is_told: bool = False
    well_since_ms: int = -1  # below OVER_SHARE of it without a break


@attrs.define(eq=False)
class Lagging:
    """One node's. `look` from time to time; `reason` says what came of it."""

    node: Node
    stores: Sequence[DiskLog]  # grows
    _troubles: dict[str, _Trouble] = attrs.field(factory=dict)

    def look(self, lag_us: int, now_ms: int) -> None:
        """Once more, on a steady clock; `lag_us`: how late the loop has just come."""
        limits = self.node.limits
        seen = dict(self._seen(lag_us, limits))
        for words in list(self._troubles):
            if words not in seen:
                seen[words] = 0.0
        for words, share in seen.items():
            trouble = self._troubles.setdefault(words, _Trouble())
            _judge(trouble, share, now_ms, limits)
            if trouble == _Trouble():
                del self._troubles[words]

    def _seen(self, lag_us: int, limits: Limits) -> Iterator[tuple[str, float]]:
        """What may be wrong, and how much of its bound it is."""
        if limits.ready_loop_lag_ms:
            yield "lagging: the event loop is late", lag_us / 1000 / limits.ready_loop_lag_ms
        if limits.ready_queue_bytes:
            for store in self.stores:
                name = store.name.partition("-")[0]
                yield f"lagging: the disk of {name} is behind", store.uncommitted_bytes / limits.ready_queue_bytes
        for shard in self.node.router.shards:
            log: Any = shard.log
            if not shard.is_here and shard.is_reachable:
                yield f"lagging: the view of {shard.name} is not live", float(not getattr(log, "is_live", True))

    def reason(self) -> str:
        """For readiness: "" while it keeps up."""
        return "; ".join(words for words, trouble in self._troubles.items() if trouble.is_told)


def _judge(trouble: _Trouble, share: float, now_ms: int, limits: Limits) -> None:
    if share >= 1:
        trouble.well_since_ms = -1
        if trouble.since_ms < 0:
            trouble.since_ms = now_ms
        trouble.is_told = trouble.is_told or now_ms - trouble.since_ms >= limits.lagging_after_ms
        return
    trouble.since_ms = -1
    if share > OVER_SHARE:
        trouble.well_since_ms = -1
    elif trouble.is_told:
        if trouble.well_since_ms < 0:
            trouble.well_since_ms = now_ms
        if now_ms - trouble.well_since_ms >= limits.lagging_until_ms:
            trouble.is_told, trouble.well_since_ms = False, -1
