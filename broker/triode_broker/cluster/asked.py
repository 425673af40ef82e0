"""A node that is asked who is there: what it was told to watch, and the list that it gives (cluster.md, SPEC 10).

Pure; knows one link and nothing of clients. Filters are told in rounds of CHUNK, each when the one before was
answered, so that no number of them fills a link. The surprising decision: what was watched, is not, and is again,
is dropped first and asked for anew, and until then what comes for it is not believed: it may be from before, and
of whoever leaves between the two nobody would be told.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct
from triode_protocol.topics import is_wildcard

from triode_broker.cluster.frames import Frame, Watch
from triode_broker.config import Limits
from triode_broker.core.topic_tree import TopicTree, is_any

#: Filters in one Watch, and that are not answered.
CHUNK: Final = 1_000

#: Kinds of `Members`: a whole list begins, goes on as "joined", and ends; a Watch has its answer.
SNAPSHOT: Final = "snapshot"
JOINED: Final = "joined"
LEFT: Final = "left"
COMPLETE: Final = "complete"
KNOWN: Final = "known"


class Link(Protocol):
    """What of a link is needed here."""

    heard_ms: int
    drained: Callable[[], None]  # called when some of what waits has been sent

    @property
    def peer(self) -> Any:
        """Who is at the other end."""

    @property
    def is_dialler(self) -> bool:
        """Whether this node asks on it."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits that streams are to stop."""

    def put(self, frame: Frame) -> None:
        """Send; never blocks."""


class _Identified(Struct):
    id: str


identify: Final = msgspec.json.Decoder(_Identified).decode


class Asked:
    """A node whose members this one is told of, over one link."""

    __slots__ = (
        "_limits",
        "_unknown",
        "adding",
        "due",
        "gathered",
        "incarnation",
        "is_busy",
        "is_known",
        "is_whole",
        "link",
        "opening",
        "taken",
        "told",
        "trusted",
        "waiting",
    )

    def __init__(self, link: Link, filters: list[str], limits: Limits) -> None:
        """Say what is watched."""
        self.link = link
        self.incarnation = link.peer.incarnation
        self.due: dict[str, bool] = dict.fromkeys(filters, True)  # what it is to be told: whether it is watched
        self.told: dict[str, None] = {}  # what it was told to watch
        # ... and is watched ever since
        self.trusted: TopicTree[str, bool] = TopicTree(is_any, limits.match_cache_values)
        self.adding: dict[str, None] = {}  # of those it was told, what it has not answered
        self.is_busy = False  # it is to answer
        self.waiting: dict[str, None] = {}  # what is watched, and is due or not answered
        self._unknown: TopicTree[str, bool] = TopicTree(is_any, limits.match_cache_values)  # the same
        for filter in filters:
            self._wait(filter)
        self.opening = max(-(-len(filters) // CHUNK), 1)  # answers that belong to the first list
        self.is_whole = False  # the list that has begun has ended
        self.is_known = False  # a whole list has come over this link
        self.gathered: dict[str, dict[str, bytes]] | None = None  # of a list that has begun
        self._limits = limits
        self.taken = 0  # members, since they were counted
        self._go_on("snapshot")

    @property
    def _max_members(self) -> int:
        """As many as can be on a node."""
        return self._limits.max_connections * self._limits.max_subscriptions

    def watch(self, filter: str) -> None:
        """It is watched now."""
        self.due[filter] = True
        self._wait(filter)
        self._go_on()

    def _wait(self, filter: str) -> None:
        self.waiting[filter] = None
        self._unknown.add(filter, filter)

    def _wait_no_more(self, filter: str) -> None:
        if filter in self.waiting:
            del self.waiting[filter]
            self._unknown.remove(filter, filter)

    def knows(self, topic: str) -> bool:
        """Whether it has said who is on a watched topic, and goes on to say it."""
        return self.is_known and not self._unknown.match(topic)

    def drop(self, filter: str) -> None:
        """It is not any more."""
        if filter in self.told and filter not in self.due:
            self.trusted.remove(filter, filter)
            for topic in list(self.gathered or ()) if is_wildcard(filter) else [filter]:
                if self.gathered and not self.trusted.match(topic):
                    self.gathered.pop(topic, None)
        self.due[filter] = False
        self._wait_no_more(filter)
        self._go_on()

    def answered(self) -> None:
        """It has done what it was told."""
        self.is_busy = False
        for filter in self.adding:
            if filter not in self.due:  # else it is asked for anew
                self._wait_no_more(filter)
        self.opening = max(self.opening - 1, 0)
        self._go_on()

    def _go_on(self, kind: str = "add") -> None:
        """A round ends with filters to watch, if only none: those are answered, what is dropped is not."""
        while not self.is_busy and (self.due or self.opening):
            filters = {filter: self.due.pop(filter) for filter in list(islice(self.due, CHUNK))}
            drop = [filter for filter in filters if filter in self.told]
            add = [filter for filter, is_watched in filters.items() if is_watched and filter not in self.told]
            for filter in drop:
                del self.told[filter]
                if filters[filter]:
                    self.due[filter] = True
            for filter in add:
                self.told[filter] = None
                self.trusted.add(filter, filter)
            if drop:
                self.link.put(Watch("drop", drop))
            if drop or add or self.opening:
                self.is_busy = True
                self.adding = dict.fromkeys(add)
                self.link.put(Watch(kind, add))

    def wanted(self, topics: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
        """What of them it was asked for."""
        return {topic: members for topic, members in topics.items() if self.trusted.match(topic)}

    def count(self, topics: dict[str, list[bytes]], known: Callable[[], int]) -> None:
        """Raise ValueError where it names more members than a node can have: counted only once it may be so."""
        self.taken += sum(map(len, topics.values()))
        if self.taken > 2 * self._max_members:
            self.taken = known() + sum(map(len, (self.gathered or {}).values()))
            if self.taken > 2 * self._max_members:
                raise ValueError("more members than a node has")

    def gather(self, kind: str, topics: dict[str, list[bytes]]) -> None:
        """Of the list that has begun. Raises msgspec.MsgspecError for a text that is no member."""
        assert self.gathered is not None
        for topic, members in topics.items():
            known = self.gathered.setdefault(topic, {})
            for json in members:
                if kind == LEFT:
                    known.pop(identify(json).id, None)
                else:
                    known[identify(json).id] = json
