"""Subscription: one connection's interest in one filter, live or served from the logs.

State only; `router` and `catch_up` decide. While live it holds no position: everything up to the logs' heads is in
its outbox, so its position *is* the heads. Out of live, `pending` knows what it still has to be told.
"""

from collections import Counter
from typing import Protocol

from triode_protocol.codec import encode
from triode_protocol.errors import GapReason
from triode_protocol.packets import Gap
from triode_protocol.topics import is_wildcard

from triode_broker.core.outbox import Outbox
from triode_broker.core.presence import Attendance
from triode_broker.core.rights import Allows
from triode_broker.core.shard import Shard
from triode_broker.core.tenants import only_topic


class Pending(Protocol):
    """What stands between a subscription and live delivery."""

    def advance(self, now_ms: int) -> None:
        """Say what fits into the outbox now; go live when all is said."""

    def report(self, reason: GapReason) -> None:
        """Tell the client of something due that is missing; delivery goes on behind the position so far."""


class Subscription:
    """What one `subscribe` asked for (SPEC 3.2)."""

    __slots__ = (
        "allows",
        "allows_past",
        "attendance",
        "filter",
        "gaps",
        "id",
        "is_answered",
        "is_live",
        "is_open",
        "is_past",
        "is_wildcard",
        "missing",
        "number",
        "outbox",
        "overflow",
        "pending",
        "shards",
    )

    def __init__(
        self,
        number: int,
        filter: str,
        overflow: str,
        outbox: Outbox,
        shards: tuple[Shard, ...],
        gaps: Counter[str],
    ) -> None:
        """`gaps`: where those of all subscriptions are counted, by reason."""
        self.number = number  # `sub`, chosen by the client
        self.filter = filter
        self.is_wildcard = is_wildcard(filter)
        self.overflow = overflow
        self.outbox = outbox
        self.gaps = gaps
        self.shards = shards  # those the filter can match, but for `missing` ones
        self.missing: dict[Shard, tuple[str, int, bool]] = {}  # their owner is not reached; see `leave_out`
        self.id = 0  # of its subscribe, which waits for `subscribed`
        self.is_answered = False
        self.is_open = True
        self.is_live = False
        self.pending: Pending | None = None
        self.attendance: Attendance | None = None  # what it has to do with presence
        self.is_past = False  # it asked for the past, and has not had all of it
        self.allows_past: Allows = None  # ... of these topics; None: of all that it may have
        self.allows: Allows = None  # topics it may be told of; None: all that match

    def may_have(self, topic: str) -> bool:
        """Whether the rights in force let messages of a topic into its outbox, live ones aside (G10).

        What is live on a connection goes by the right to subscribe alone: it is sent to the connection and not to
        a subscription (SPEC 4.3.7). So the right to the past is asked for until the past is over.
        """
        if self.allows is not None and not self.allows(topic):
            return False
        return self.allows_past is None or self.allows_past(topic)

    @property
    def has_all(self) -> bool:
        """Whether nothing of its filter is kept from it."""
        return self.allows is None and self.allows_past is None

    def heads(self) -> dict[str, int]:
        """The position that has everything so far, of the shards that are reached."""
        return {shard.log.name: shard.log.head() for shard in self.shards}

    def whole(self, position: dict[str, int]) -> dict[str, int]:
        """A position as the client is told of it: with its places in logs that are not reached (SPEC 4.2)."""
        if self.missing:
            return position | {log: pos for log, pos, _ in self.missing.values() if log}
        return position

    def leave_out(self, shard: Shard, log: str, pos: int, *, is_whole: bool = True) -> None:
        """Its owner is not reached: it goes on from there when it is; log "": from whatever there is then.

        `is_whole`: up to there it has had all that it was due.
        """
        self.shards = tuple([one for one in self.shards if one is not shard])
        self.missing[shard] = (log, pos, is_whole)

    def take_in(self, shard: Shard) -> tuple[str, int, bool]:
        """It is reached again; where this subscription goes on, as it was left out."""
        self.shards = (*self.shards, shard)
        return self.missing.pop(shard)

    def tell_gap(self, position: dict[str, int], reason: GapReason) -> None:
        """Tell its client that something due is missing; it goes on behind that position (SPEC 4.6)."""
        self.gaps[reason] += 1
        self.outbox.put(encode(Gap(self.number, self.whole(position), reason, self.only_topic)))

    @property
    def only_topic(self) -> str:
        """The topic as its client knows it, where the filter names exactly one; else ""."""
        return only_topic(self.filter)
