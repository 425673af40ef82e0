"""Withholding: shards whose log is here, and which for a while must not take anything.

Knows the shards of this node and who owns what by the table; changes only who takes their publishes. The
surprising decision: a durable shard that two nodes announce is served by neither. Each of them may have what the
other lacks, and no rule could say which one is the copy.
"""

from typing import Any

from triode_broker.cluster.frames import Entry
from triode_broker.cluster.outside import Withheld
from triode_broker.cluster.ownership import Ownership
from triode_broker.core.interfaces import Acceptor
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard


class Withholding:
    """One node's."""

    def __init__(self, router: Router, ownership: Ownership, log: Any) -> None:
        self.stores: dict[str, Acceptor] = {}  # who takes the publishes of a durable shard whose file is here
        self._router = router
        self._ownership = ownership
        self._log = log

    def give_or_withhold(self, shard: Shard, entry: Entry) -> None:
        """A durable shard whose file is here: served, unless somebody else says that it is there too."""
        ownership = self._ownership
        if ownership.owns(shard.name) or ownership.has_failed(shard.name):  # that one refuses by itself
            shard.acceptor = self.stores[shard.name]
            return
        if shard.name in ownership.conflicts():
            self._log.error("durable_shard_in_conflict", shard=shard.name, announced_by=entry.node)
        shard.acceptor = Withheld(
            f"this node is not the only one to announce shard {shard.name}: see triode cluster"
        )

    def check_suspended(self) -> None:
        """Shards that may have been claimed meanwhile take nothing until that is known."""
        for shard in self._router.shards:
            if not shard.is_here or shard.name in self.stores:
                continue
            if not self._ownership.is_suspended(shard.name):
                shard.acceptor = None
            elif shard.acceptor is None:
                shard.acceptor = Withheld(f"this node has slept and asks whether it still owns {shard.name}")
