"""Tenancy: what a node keeps for each tenant: what its clients do, counted, and which topics they were let say.

Knows names and numbers, nothing of sessions. The surprising decision: a tenant is there for as long as anybody
holds it, its counts for as long as there is room. Tenants come with tokens, so nobody knows how many there will
be: beyond the bound the counts of those nobody holds are added up under OTHERS, and newcomers count there.
"""

from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

import attrs

from triode_broker.core.tenants import inside, is_tenant

#: The row of all tenants that have none of their own; no tenant is called that.
OTHERS: Final = "*"
#: Topics of one tenant that need not be checked again; then it begins anew.
MAX_TOPICS: Final = 1_024


#: Tenants that have a row of their own.
MAX_ROWS: Final = 1_000


@attrs.define
class Counts:
    """Of one tenant on one node: what is there now, and what was since the start.

    attrs, because each publish counts three times: 25 ns each, of a Struct 55.
    """

    connections: int = 0
    subscriptions: int = 0  # open ones, those with acknowledgements included
    publishes: int = 0  # packets, whatever came of them
    delivered: int = 0  # messages put into outboxes, live or with acknowledgements; without replays
    received_bytes: int = 0  # of packets, as UTF-8
    refused: int = 0  # errors that were answered

    def add(self, other: "Counts") -> None:
        """Take in what was counted elsewhere."""
        for name, value in attrs.asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


class Tenant:
    """One tenant, for those of its clients that are here."""

    __slots__ = ("__weakref__", "counts", "name", "topics")

    def __init__(self, name: str, counts: Counts) -> None:
        self.name = name
        self.counts = counts
        #: Topics that its clients may name in a publish, and what they are inside: read directly by the hot path.
        self.topics: dict[str, str] = {}

    def enter(self) -> Counts:
        """A connection of one of its clients is there: where it is counted what that does."""
        self.counts.connections += 1
        return self.counts

    def let_in(self, own: str, check: Callable[[str], None]) -> str:
        """A topic as it is inside, once `check` has let it pass; that raises Refused."""
        check(own)
        if len(self.topics) >= MAX_TOPICS:
            self.topics.clear()
        known = self.topics[own] = inside(self.name, own)
        return known


class Tenants:
    """All tenants of a node."""

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._max = max_rows
        self._here: WeakValueDictionary[str, Tenant] = WeakValueDictionary()
        self._others = Counts()
        self._counts: dict[str, Counts] = {}
        self.nobody = Counts()  # what is not any tenant's, or not yet
        self.default = self.of("")  # it keeps its row

    def of(self, name: str) -> Tenant:
        """The tenant of this name. Raises ValueError for what cannot be one: it would be part of another."""
        tenant = self._here.get(name)
        if tenant is None:
            if not is_tenant(name):
                raise ValueError(f"not the name of a tenant: {name!r}")
            tenant = self._here[name] = Tenant(name, self._counts_of(name))
        return tenant

    def counts_of(self, name: str) -> Counts:
        """Where it is counted what is done for a tenant; for one that nobody is of here, nothing is."""
        tenant = self._here.get(name)
        return self.nobody if tenant is None else tenant.counts

    def _counts_of(self, name: str) -> Counts:
        counts = self._counts.get(name)
        if counts is None:
            if len(self._counts) >= self._max and not self._make_room():
                return self._others
            counts = self._counts[name] = Counts()
        return counts

    def _make_room(self) -> bool:
        """One that nobody holds gives up its row, the one that has had it for longest."""
        for name, counts in self._counts.items():
            if name not in self._here:
                self._others.add(counts)
                del self._counts[name]
                return True
        return False

    @property
    def delivered(self) -> int:
        """Of all tenants."""
        return self._others.delivered + sum([counts.delivered for counts in self._counts.values()])

    def rows(self) -> dict[str, Counts]:
        """What was counted, by tenant; OTHERS where some have no row."""
        rows = {name: self._counts[name] for name in sorted(self._counts)}
        return rows | ({OTHERS: self._others} if self._others != Counts() else {})
