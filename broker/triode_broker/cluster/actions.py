"""Actions: what ownership asks of the cluster around it. An interface beside its only consumer, nothing else.

It knows entries and names of shards; logs, links and clients are the implementer's. The surprising decision:
`seal` and `changed` are two calls, though one always follows the other, because nothing may be accepted in
between.
"""

from typing import Protocol

from triode_broker.cluster.frames import Entry


class Actions(Protocol):
    """What the cluster does for ownership. Called inside its methods; only `woke_late` may call back into it."""

    def own(self, shard: str, epoch: int) -> str:
        """Own a memory shard with a new log. Returns the log's name."""

    def seal(self, shard: str) -> None:
        """This node's log of a memory shard takes nothing any more."""

    def announce(self, entries: list[Entry]) -> None:
        """Send them to all peers."""

    def changed(self, entry: Entry) -> None:
        """It counts for its shard from here on, or again. Log "": nobody can serve the shard."""

    def orphaned(self, shard: str) -> None:
        """Its owner is dead, and nobody owns it yet."""

    def woke_late(self) -> None:
        """Close all links without a word and call `renew` with a new incarnation, here or soon."""
