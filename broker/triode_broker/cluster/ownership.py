"""Who owns which shard: what this node claims, announces, seals and waits for.

Pure: it decides on the table (what was announced) and membership (who is dead) and tells the cluster what to do
through `Actions`. It knows no links, no logs, no clients. Every entry a node makes raises the shard's epoch.

**Memory shards.** The owner keeps its shard; an orphan is claimed by the live node with the fewest. Every node
works that out for all orphans in the order of their names with running counts, so those that see the same nodes
agree without asking; those that do not may both claim: the greater (epoch, node) counts and the loser seals. Three
waits keep claims from being made in ignorance: at the start until every seed has answered or 3 s have passed;
while a peer's link is new and its table has not come, again 3 s at most; and one second if the dead owner's node
is back under a new incarnation, for it may have slept and be about to go on. A candidate that does not claim
within 4 s (it is going, or stuck) is passed over.

**Durable shards.** Who has the file open announces it, nobody else ever, so there are no claims and nobody seals.
Somebody who announces one and is not its configured holder makes a conflict while it lives: the shard has no owner
then (log ""), which makes both refuse. A life's first epoch is the file's, which rises with each opening, times
65,536: the steps between are for the same opening's later incarnations, after sleeps, so that no two of them ever
announce the same epoch. Where the cluster remembers a greater epoch of this holder (it lost its file and made a
new one) it announces with one more.

**After a sleep** (a tick that comes more than 5 s after the last) this node does not know what it missed. It has
not lost its logs, but others may have found it dead and claimed its shards, and have accepted messages since. So
it must not serve before it knows, and must not raise its epochs before it knows either: an entry with epoch + 1
would stand beside the claimer's and beat it by mere name. It takes a new incarnation, so that nothing on its way
to or from the old one is taken for the new one's (a forward with the old incarnation is not applied twice), keeps
its old entries, and listens. If the first peer's table has a greater entry for a shard, merging seals that log;
whatever is left after it was claimed by nobody that peer knows of, nothing of the log is lost, and the node goes
on with the *same* log, epoch + 1 and the new incarnation. Alone for 10 s it goes on too: then it is one side of a
partition, as it would be without the sleep. If a claim that the first peer did not know turns up later, it is the
same as after any partition. A node that has never met another one and has no seeds has nobody to ask and goes on
at once. A durable owner just goes on, for the file lock never left it.

The surprising decision: until `renew` is called after `woke_late`, tables are not taken in at all: they came over
links that are being closed, maybe from before the sleep.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from triode_broker.cluster.actions import Actions
from triode_broker.cluster.frames import Entry
from triode_broker.cluster.membership import Membership
from triode_broker.cluster.table import Table

#: At the start, and on a new link: how long a claim waits for tables that have not come.
GRACE_MS: Final = 3_000
#: A tick later than this was a sleep.
FENCE_MS: Final = 5_000
#: After it a sleeper that has met nobody goes on.
ALONE_MS: Final = 10_000
#: How long a node's new life has to say that it goes on with the old one's shards.
SUCCESSOR_MS: Final = 1_000
#: How long others wait for the node whose turn it is to claim: longer than that one's own waits.
PATIENCE_MS: Final = 4_000
#: What the epoch of a durable shard's file counts for in the table.
EPOCHS_PER_OPENING: Final = 65_536
#: How long an heir may take to announce what it was handed.
HEIR_MS: Final = 5_000
#: The same once the node that hands over is dead: what has not come does not come any more, and with 5 s publishes
#: would be refused for longer than that after the last fault (I14).
BEREFT_HEIR_MS: Final = 2_000


class Ownership:
    """This node's part in it. `durable`: the epoch and log of each durable shard whose file is open here."""

    def __init__(
        self,
        table: Table,
        membership: Membership,
        actions: Actions,
        steady_ms: Callable[[], int],
        *,
        durable: Mapping[str, tuple[int, str]],
        seeds: Sequence[str] = (),
        creates_stores: bool = False,
    ) -> None:
        self.table: Final = table
        self.membership: Final = membership
        self._actions = actions
        self._steady_ms = steady_ms
        self._creates_stores = creates_stores
        self.seeds = tuple(seeds)
        self.silent_seeds = dict.fromkeys(seeds)
        self._start_ms = steady_ms()
        self._ticked_ms: int | None = None
        self._needs_renewal = False
        self._suspended_ms: int | None = None
        self._is_leaving = False
        self.is_outcast = False  # the others refuse this node: what they own is not known, so nothing is an orphan
        self._mine: dict[str, Entry] = {}  # memory shards whose unsealed log is here
        self._durable: dict[str, Entry] = {}
        self._raised_over: dict[str, str] = {}  # the last earlier incarnation, by durable shard
        self._heard_tables: dict[str, str] = {}  # incarnation by node
        self._told: dict[str, Entry] = {}
        self._orphans: dict[str, tuple[Entry | None, int]] = {}  # as what, since when
        self._awaited: dict[str, tuple[str, str, int]] = {}  # whose turn it is, since when
        self._passed: dict[str, str] = {}  # nodes that did not take their turn
        self._released: dict[str, tuple[Entry, int]] = {}
        for shard, (epoch, log) in durable.items():
            self._durable[shard] = self._entry(shard, epoch * EPOCHS_PER_OPENING, log)
            self.table.announce(self._durable[shard])

    # Questions

    def owner(self, shard: str) -> Entry | None:
        """The entry that counts, its owner dead or not. None: never owned. Log "": nobody can serve it."""
        entry = self.table.get(shard)
        if shard in self.table.holders and self._rivals(shard):
            epoch = entry.epoch if entry else 1
            return Entry(shard, epoch, self.table.holders[shard], entry.incarnation if entry else "", "")
        return entry

    def owns(self, shard: str) -> bool:
        """Whether this node is the one to serve it. A suspended shard is owned, but not served."""
        if shard in self.table.holders:
            entry = self.owner(shard)
            return entry is not None and bool(entry.log) and self._durable.get(shard) == entry
        return shard in self._mine

    def is_suspended(self, shard: str) -> bool:
        """Whether it is owned but must not be served: after a sleep."""
        return shard in self.suspended()

    def suspended(self) -> list[str]:
        """All that is owned and must not be served."""
        return [] if self._suspended_ms is None else sorted(self._mine)

    def has_failed(self, shard: str) -> bool:
        """Whether a durable shard's file is here, and cannot be served any more."""
        return shard in self._durable and not self._durable[shard].log

    def is_orphan(self, shard: str) -> bool:
        """Whether nobody alive owns it, as of the last tick."""
        return shard in self._orphans

    def is_late(self) -> bool:
        """Whether this process has slept and no tick has noticed yet. Worth asking before anything is accepted."""
        return self._ticked_ms is not None and self._steady_ms() - self._ticked_ms > FENCE_MS

    def conflicts(self) -> list[str]:
        """The durable shards that more than one node, or the wrong one, announces."""
        return [shard for shard in self.table.holders if self._rivals(shard)]

    # What happens

    def has_heard(self, node: str) -> bool:
        """Whether its present life's table was taken in."""
        return self._heard_tables.get(node) == self.membership.incarnation_of(node) is not None

    def seed_answered(self, seed: str) -> None:
        """Its table was taken in, or it is this node itself."""
        self.silent_seeds.pop(seed, None)

    def received(self, node: str, incarnation: str, entries: Sequence[Entry]) -> None:
        """A Table frame of a peer. The first on a link has all that the peer knows."""
        if self.is_late():
            self.tick()
        if self._needs_renewal:
            return
        for entry in filter(self.table.accepts, entries):
            self.membership.mention(entry.node, entry.incarnation)
        news = self.table.merge(entries)
        self._heard_tables[node] = incarnation
        self._lose(news)
        self._passed = {name: life for name, life in self._passed.items() if not _has_taken(name, life, news)}
        mine = self._go_on() if self._suspended_ms is not None else []
        mine += self._raise_durable(is_first=True)
        self._settle()
        if news or mine:  # what was news here may be news to a peer that the announcer does not reach
            self._actions.announce([*news, *mine])

    def tick(self) -> list[tuple[str, str]]:
        """At least once a second. Returns the lives found dead. Calls `woke_late` instead if it comes too late."""
        now = self._steady_ms()
        is_late = self.is_late()
        self._ticked_ms = now
        if is_late:
            self._suspended_ms = now
            self._needs_renewal = True
            self._actions.woke_late()
            return []
        if self._needs_renewal:
            return []
        dead = self.membership.tick()
        entries = self._raise_durable()
        if self._suspended_ms is not None and now - self._suspended_ms >= ALONE_MS and not self.is_outcast:
            entries += self._go_on()
        self._settle()
        entries += self._claim(now)
        if entries:
            self._settle()
            self._actions.announce(entries)
        return dead

    def renew(self, incarnation: str) -> None:
        """All links are closed, and this node goes on as a new life."""
        self.membership.renew(incarnation)
        self._needs_renewal = False
        self._suspended_ms = self._ticked_ms = self._steady_ms()
        self._heard_tables.clear()
        self._awaited.clear()
        self._passed.clear()
        self._raise_durable()
        if not self.seeds and self.membership.is_alone():
            self._go_on()
        self._settle()

    # Durable shards

    def opened(self, shard: str, epoch: int, log: str) -> None:
        """Its file is open here, for the `epoch`th time."""
        known = self.table.get(shard)
        least = known.epoch + 1 if known is not None and known.node == self.membership.node else 1
        self._publish(self._put_durable(self._entry(shard, max(epoch * EPOCHS_PER_OPENING, least), log)))

    def failed(self, shard: str) -> None:
        """Its file cannot be served any more, as long as this process lives."""
        entry = self._durable.get(shard)
        if entry is not None and entry.log:
            self._publish(self._put_durable(self._entry(shard, entry.epoch + 1, "")))

    def waiting_to_create(self, shard: str) -> list[str]:
        """The nodes of the list that have not said whether they know a log of it, in the list's order."""
        others = dict.fromkeys(node for node in self.table.holders.values() if node != self.membership.node)
        return [node for node in others if node not in self._heard_tables]

    def may_create(self, shard: str) -> bool:
        """Whether a file for this shard, which is missing here, may be made. Ask again after each table."""
        if self.table.holders.get(shard) != self.membership.node or shard in self._durable:
            return False
        return self._creates_stores or knows_no_log(self.waiting_to_create(shard), self._announced(shard))

    # Draining

    def leaving(self) -> None:
        """This node claims nothing any more."""
        self._is_leaving = True

    def release(self, shard: str, heir: str = "") -> Entry | None:
        """Seal a memory shard for good, for one heir ("node/incarnation") or for whoever claims it.

        None: there is nothing to release, it was done before or the shard is lost: there is no second heir.
        """
        mine = self._mine.pop(shard, None)
        if mine is None:
            return None
        self._actions.seal(shard)
        entry = self._entry(shard, mine.epoch + 1, mine.log if heir else "", heir)
        return self._publish(entry)

    def refused(self, shard: str) -> None:
        """The heir of a shard that was released here does not take it: it is an orphan."""
        entry = self.table.get(shard)
        if entry is not None and entry.heir and self._is_me(entry.node, entry.incarnation):
            self._publish(self._entry(shard, entry.epoch + 1, ""))

    def is_heir(self, shard: str, log: str) -> bool:
        """Whether it was handed to this life of this node, and nobody has claimed it since."""
        entry = self.table.get(shard)
        is_named = entry is not None and entry.log == log and entry.heir == self._name()
        return is_named and self._suspended_ms is None and self.table.has_room(shard)

    def adopt(self, shard: str, log: str) -> bool:
        """Go on with a log that was handed to this node, if it is the heir still."""
        entry = self.table.get(shard)
        if entry is None or not self.is_heir(shard, log):
            return False
        self._mine[shard] = self._entry(shard, entry.epoch + 1, log)
        self._publish(self._mine[shard])
        return True

    # Health

    def degraded(self) -> list[str]:
        """What an operator should know, in words."""
        return [
            *(f"node {node} unreachable for {ms // 1000} s" for node, ms in self.membership.unreachable()),
            *self._said_of_sleep(),
            *(text for shard in self._shards() if (text := self._said_of(shard))),
        ]

    def missed_seeds(self) -> list[str]:
        """Those that have not answered in time."""
        is_early = self._steady_ms() - self._start_ms < GRACE_MS
        return [] if is_early else list(self.silent_seeds)

    def _said_of_sleep(self) -> Iterable[str]:
        if suspended := self.suspended():
            yield f"suspended after a pause: {', '.join(suspended)}"

    def _said_of(self, shard: str) -> str:
        if shard in self.table.memory:
            return f"shard {shard}: no owner" if shard in self._orphans else ""
        holder = self.table.holders[shard]
        if rivals := self._rivals(shard):
            return f"shard {shard}: announced by {', '.join(rivals)}, held by {holder}"
        if holder == self.membership.node and shard not in self._durable:
            return self._said_of_missing(shard)
        if shard in self._orphans:
            return f"shard {shard}: holder {holder} away"
        entry = self.table.get(shard)
        return "" if entry is None or entry.log else f"shard {shard}: its store failed on {holder}"

    def _said_of_missing(self, shard: str) -> str:
        if known := self._announced(shard):
            log = known[0].log or "of a store that failed"
            return f"shard {shard}: no file here, but the cluster knows its log {log}"
        waiting = self.waiting_to_create(shard)
        return f"shard {shard}: no file here, waiting for the word of {', '.join(waiting)}" if waiting else ""

    # Entries of this node

    def _entry(self, shard: str, epoch: int, log: str, heir: str = "") -> Entry:
        return Entry(shard, epoch, self.membership.node, self.membership.incarnation, log, heir)

    def _name(self) -> str:
        return f"{self.membership.node}/{self.membership.incarnation}"

    def _is_me(self, node: str, incarnation: str) -> bool:
        return node == self.membership.node and incarnation == self.membership.incarnation

    def _publish(self, entry: Entry) -> Entry:
        self.table.announce(entry)
        self._settle()
        self._actions.announce([entry])
        return entry

    def _put_durable(self, entry: Entry) -> Entry:
        self._durable[entry.shard] = entry
        return entry

    def _raise_durable(self, *, is_first: bool = False) -> list[Entry]:
        """Announce over entries of this node's earlier lives, which outlive them in others' tables.

        `is_first`: over each of them once. Were it a twin that does the same, the two would do it without end;
        so they do it at the pace of their ticks.
        """
        raised = []
        for shard, mine in list(self._durable.items()):
            known = next((one for one in self._announced(shard) if one.node == self.membership.node), mine)
            is_again = is_first and self._raised_over.get(shard) == known.incarnation
            if not self._is_me(known.node, known.incarnation) and not is_again:
                self._raised_over[shard] = known.incarnation
                raised.append(self._put_durable(self._entry(shard, known.epoch + 1, mine.log)))
        return self.table.merge(raised)

    def _go_on(self) -> list[Entry]:
        """The sleep is over: whatever was not claimed meanwhile is served again, as the same logs."""
        self._suspended_ms = None
        for shard, mine in self._mine.items():
            self._mine[shard] = self._entry(shard, mine.epoch + 1, mine.log)
        return self.table.merge(list(self._mine.values()))

    def _lose(self, news: Iterable[Entry]) -> None:
        """Seal what others own by a greater entry."""
        for shard in dict.fromkeys(entry.shard for entry in news):
            if shard in self._mine and self.table.get(shard) != self._mine[shard]:
                del self._mine[shard]
                self._actions.seal(shard)

    # What others are told

    def _settle(self) -> None:
        """Find the orphans and tell what has changed since it was told."""
        now = self._steady_ms()
        for shard in self._shards():
            entry = self.owner(shard)
            is_orphan = self._has_no_owner(shard, entry, now)
            was_orphan = shard in self._orphans
            if not is_orphan:
                self._orphans.pop(shard, None)
            elif not was_orphan or self._orphans[shard][0] != entry:
                self._orphans[shard] = (entry, now)
            if entry is not None and (self._told.get(shard) != entry or (was_orphan and not is_orphan)):
                self._told[shard] = entry
                self._actions.changed(entry)
                was_orphan = False
            if is_orphan and not was_orphan and entry is not None:
                self._actions.orphaned(shard)

    def _has_no_owner(self, shard: str, entry: Entry | None, now: int) -> bool:
        if entry is None:
            return True
        if shard in self.table.holders:
            return not self._rivals(shard) and self.membership.is_dead(entry.node, entry.incarnation)
        if self._mine.get(shard) == entry:  # suspended, maybe
            return False
        if entry.heir:
            return self._heir_is_late(entry, now)
        return not entry.log or self.membership.is_dead(entry.node, entry.incarnation)

    def _heir_is_late(self, entry: Entry, now: int) -> bool:
        released, since = self._released.get(entry.shard, (None, now))
        if released != entry:
            since = now
            self._released[entry.shard] = (entry, since)
        node, _, incarnation = entry.heir.partition("/")
        is_bereft = self.membership.is_dead(entry.node, entry.incarnation)
        patience_ms = BEREFT_HEIR_MS if is_bereft else HEIR_MS
        return now - since >= patience_ms or self.membership.is_dead(node, incarnation)

    def _announced(self, shard: str) -> list[Entry]:
        """All entries of a durable shard."""
        entry = self.table.get(shard)
        return [*([entry] if entry else []), *self.table.strays(shard)]

    def _rivals(self, shard: str) -> list[str]:
        """The live nodes that announce a durable shard that another one is to hold."""
        return [
            stray.node
            for stray in self.table.strays(shard)
            if stray.log and not self.membership.is_dead(stray.node, stray.incarnation)
        ]

    def _shards(self) -> list[str]:
        return [*self.table.memory, *self.table.holders]

    # Claims

    def _claim(self, now: int) -> list[Entry]:
        """Take the orphans whose turn is this node's. Returns its entries."""
        if not self._may_claim(now):
            return []
        claimed = []
        for shard, node in self.claimers().items():
            if node != self.membership.node:
                self._wait_for(shard, node, now)
            elif self._is_due(shard, now) and self.table.has_room(shard):
                claimed.append(self._take(shard))
        return claimed

    def claimers(self) -> dict[str, str]:
        """Whose turn it is to claim each orphan: who owns fewest, ties by name, shard by shard."""
        counts = dict.fromkeys(self._candidates(), 0)
        for shard in self.table.memory:
            entry = self.table.get(shard)
            if shard not in self._orphans and entry is not None and entry.node in counts:
                counts[entry.node] += 1
        turns = {}
        for shard in self.table.memory:
            if shard in self._orphans and counts:
                turns[shard] = min(counts, key=lambda node: (counts[node], node))
                counts[turns[shard]] += 1
        return turns

    def _candidates(self) -> list[str]:
        return [node for node in self.membership.live() if not self._is_out(node)]

    def _is_out(self, node: str) -> bool:
        if node == self.membership.node:
            return self._is_leaving
        return self.membership.has_left(node) or self._passed.get(node) == self.membership.incarnation_of(node)

    def _may_claim(self, now: int) -> bool:
        if self._suspended_ms is not None or self._is_leaving or self.is_outcast:
            return False
        if self.silent_seeds and now - self._start_ms < GRACE_MS:
            return False
        return not any(
            now - life.opened_ms < GRACE_MS and self._heard_tables.get(life.node) != life.incarnation
            for life in self.membership.linked()
        )

    def _is_due(self, shard: str, now: int) -> bool:
        """Whether the dead owner's node has no new life, or that has had its second."""
        entry, since = self._orphans[shard]
        if entry is None or not entry.log:
            return True
        if self.membership.incarnation_of(entry.node) in (None, entry.incarnation):
            return True
        return now - since >= SUCCESSOR_MS

    def _wait_for(self, shard: str, node: str, now: int) -> None:
        """Give a node its time to claim; after it the turn is somebody else's."""
        life = self.membership.incarnation_of(node) or ""
        if self._awaited.get(shard, ("", "", 0))[:2] != (node, life):
            self._awaited[shard] = (node, life, now)
        elif now - self._awaited[shard][2] >= PATIENCE_MS:
            del self._awaited[shard]
            self._passed[node] = life

    def _take(self, shard: str) -> Entry:
        known = self.table.get(shard)
        epoch = known.epoch + 1 if known else 1
        entry = self._entry(shard, epoch, self._actions.own(shard, epoch))
        self._mine[shard] = entry
        self.table.announce(entry)
        return entry


def knows_no_log(unheard: Sequence[str], announced: Sequence[Entry]) -> bool:
    """Whether a missing file is known to be new: everybody was heard, nobody knows a log, be it a failed one."""
    return not unheard and not announced


def _has_taken(node: str, incarnation: str, news: Iterable[Entry]) -> bool:
    """Whether a node that was passed over announces something after all."""
    return any((entry.node, entry.incarnation) == (node, incarnation) and entry.log for entry in news)
