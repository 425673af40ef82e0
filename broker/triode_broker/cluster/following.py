"""Following: the shards that other nodes own, as seen from here: whose log is mirrored, and where publishes go.

Pure. Told what the table says and which links there are; it decides nothing about who owns what. The surprising
decision: where a log goes on at another node under the same name, its mirror goes there with everything it knows;
nobody who reads or listens here can tell that the owner has changed.
"""

from collections.abc import Callable
from typing import Any, Final

from triode_broker.cluster.forwarding import Forwarder
from triode_broker.cluster.frames import Entry
from triode_broker.cluster.interest import Interests
from triode_broker.cluster.link import Link
from triode_broker.cluster.membership import Membership
from triode_broker.cluster.mirror import Mirror, Shown
from triode_broker.cluster.owner import Owner
from triode_broker.cluster.table import Table
from triode_broker.core.node import Node
from triode_broker.core.shard import Shard

#: How long an owner may be out of reach before whoever catches up goes on without it.
LOST_MS: Final = 2_000


class Following:
    """All of one node's."""

    def __init__(
        self,
        node: Node,
        table: Table,
        membership: Membership,
        interests: Interests,
        steady_ms: Callable[[], int],
        log: Any,
    ) -> None:
        self._node = node
        self._table = table
        self._membership = membership
        self._interests = interests
        self._steady_ms = steady_ms
        self._log = log
        self.owners: dict[str, Owner] = {}
        self.forwarders: dict[str, Forwarder] = {}
        self.mirrors: dict[str, Mirror] = {}
        self.entries: dict[str, Entry] = {}  # as last told by ownership
        self._unreached_ms: dict[str, int] = {}  # shards whose owner has no link, since when
        self._shown = Shown(node.router.deliver, node.router.interrupt, self._mirror_changed)

    def is_mine(self, entry: Entry) -> bool:
        """Whether this life of this node has made it."""
        return (entry.node, entry.incarnation) == (self._membership.node, self._membership.incarnation)

    def owner(self, node: str) -> Owner:
        """Another node, for what it may own."""
        owner = self.owners.get(node)
        if owner is None:
            self._forget_owners()
            owner = self.owners[node] = Owner(node, self._interests)
        return owner

    def _forget_owners(self) -> None:
        """Those of nodes that membership has forgotten, where nothing of theirs is left here."""
        for node, owner in list(self.owners.items()):
            if owner.link is None and not owner.mirrors and not self._membership.knows(node):
                del self.owners[node]

    def link_opened(self, link: Link) -> None:
        """One that asks."""
        self.owner(link.peer.node).opened(link)
        for entry in self.entries.values():
            self._connect(entry)

    def link_closed(self, link: Link) -> None:
        """One that asked."""
        self.owner(link.peer.node).closed(link)
        for forwarder in self.forwarders.values():
            forwarder.closed(link)

    # What the table says

    def changed(self, shard: Shard, entry: Entry) -> None:
        """Another node has it, or nobody; or this one hands it over."""
        if entry.heir:
            self.forwarders[shard.name].suspend()
            if not self.is_mine(entry):
                self._follow(shard, entry)
        elif not entry.log:
            self.orphaned(shard.name)
        else:
            self._follow(shard, entry)
            self._connect(entry)

    def _follow(self, shard: Shard, entry: Entry) -> None:
        """Have its log mirrored here, where it is not."""
        known = self.mirrors.get(shard.name)
        owner = self.owner(entry.node)
        if known is not None and known.name == entry.log:
            if known.owner is not owner:
                self._go_over(known, owner)
            return
        level = "disk" if shard.name in self._table.holders else "memory"
        head = shard.log.head() if shard.log.name == entry.log else 0
        mirror = Mirror(entry.log, level, shard, owner, self._shown, is_new=shard.log.name != "", head=head)
        self._log.info("shard_followed", shard=shard.name, owner=entry.node, log=entry.log)
        self._node.router.follow_owner(shard, mirror, self.forwarders[shard.name])
        self._end_mirror(shard.name)
        self.mirrors[shard.name] = mirror
        self._tell_interest(shard)
        mirror.begin()

    def _go_over(self, mirror: Mirror, owner: Owner) -> None:
        self._log.info("shard_followed", shard=mirror.shard.name, owner=owner.node, log=mirror.name)
        mirror.go_over(owner)
        self._tell_interest(mirror.shard)
        mirror.go_on()

    def _tell_interest(self, shard: Shard) -> None:
        """Before the log is read: what is read is what the owner knows to be wanted."""
        self._interests.moved(shard)
        self._interests.flush()

    def owned(self, shard: Shard) -> None:
        """This node has it from here on, with another log than the mirror's or with all of that."""
        self._end_mirror(shard.name)
        self._interests.moved(shard)

    def _end_mirror(self, shard: str) -> None:
        if (mirror := self.mirrors.pop(shard, None)) is not None:
            mirror.end()

    def _connect(self, entry: Entry) -> None:
        """Publishes go where the shard is, if there is a link to that very life of the node."""
        if self.is_mine(entry) or not entry.log or entry.heir:
            return
        owner = self.owners.get(entry.node)
        if owner is not None and owner.link is not None and _leads_to(owner.link, entry):
            self.forwarders[entry.shard].link_to(owner.link, entry.incarnation, entry.log)
        else:
            self.orphaned(entry.shard)

    def orphaned(self, shard: str) -> None:
        """Its owner is not reached, or dead, or was to hand it over and did not: publishes are refused."""
        forwarder = self.forwarders[shard]
        forwarder.link_lost()
        forwarder.resume()

    def owner_link(self, shard: Shard) -> Any:
        """The link that asks the owner of a shard: None where it is this node, nobody, or not reached."""
        entry = self.entries.get(shard.name)
        if entry is None or self.is_mine(entry) or not entry.log or entry.heir or entry.node not in self.owners:
            return None
        link = self.owners[entry.node].link
        return link if link is not None and _leads_to(link, entry) else None

    # Reached and lost

    def _mirror_changed(self, mirror: Mirror) -> None:
        shard = mirror.shard
        if shard.log is mirror and mirror.is_live and (mirror.owes or not shard.is_reachable):
            self._node.moving.back(shard)

    def look_for_lost(self) -> None:
        """Several times a second."""
        now_ms = self._steady_ms()
        for name, mirror in self.mirrors.items():
            if mirror.owner.is_confirmed:
                self._unreached_ms.pop(name, None)
            elif now_ms - self._unreached_ms.setdefault(name, now_ms) >= LOST_MS and mirror.shard.is_reachable:
                mirror.fail_pending()
                self._node.moving.lost(mirror.shard)


def _leads_to(link: Any, entry: Entry) -> bool:
    return bool(link.peer.incarnation == entry.incarnation)
