"""The ledger: what is open by what events have told: clients and members of all nodes, and occupied topics.

A follower of `$events/…`, and of nothing else. The surprising decision: nodes do not tell each other of their
clients. All is read from the events, so whoever has them can end what a lost node cannot end itself: its
neighbours, or the node in its next life. What retention took, or is beyond the bound, is never ended.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw, Struct

from triode_broker.config import Limits
from triode_broker.core.events import ENDING, LIFE, OCCUPIED, VACATED, Event, Events
from triode_broker.core.interfaces import PAGE_RECORDS, Log, Page
from triode_broker.core.occupancy import Occupancy
from triode_broker.core.record import Record
from triode_broker.core.shard import Shard
from triode_broker.core.tenants import inside

#: Read at a time.
PAGE_BYTES: Final = 1_048_576
_BEGINNINGS: Final = {ending: opening for opening, ending in ENDING.items()}


class _Told(Struct):
    """Of a message, what is read here."""

    data: Raw = Raw()
    headers: dict[str, str] = {}


_message: Final = msgspec.json.Decoder(_Told).decode
_event: Final = msgspec.json.Decoder(Event).decode


class Ledger:
    """One node's. `core.audience.Follower`."""

    def __init__(self, events: Events, occupancy: Occupancy, limits: Limits) -> None:
        self._events = events
        self._occupancy = occupancy
        self._limits = limits
        #: By id of what began it: the event, and the life of its node.
        self._open: OrderedDict[str, tuple[Event, str]] = OrderedDict()
        self._lives: dict[str, str] = {}  # by node, the one that was heard of last
        self._reading = 0
        self._ended: set[str] = set()  # while it reads
        self.beyond = 0  # forgotten, because there were too many

    def __len__(self) -> int:
        return len(self._open)

    def offer(self, record: Record) -> None:
        """From the router, or read from the log."""
        try:
            told = _message(record.payload)
            event = _event(told.data)
        except msgspec.MsgspecError:  # of a newer build
            return
        life = told.headers.get(LIFE, "")
        if event.kind == OCCUPIED:
            self._occupancy.heard(event, inside(event.tenant, event.topic), is_own=self._events.is_own_life(life))
        elif event.kind == VACATED:
            self._occupancy.ended(event, inside(event.tenant, event.topic))
        elif event.kind in ENDING:
            self._begin(event, life)
        elif event.kind in _BEGINNINGS:
            self._end(event, life)

    def read(self, filter: str, shards: Sequence[Shard], now_ms: Callable[[], int]) -> None:
        """What events of a tenant have told; and end what this node has left open in an earlier life.

        What they tell meanwhile is offered as ever: the caller has it follow the filter first. Each page is a
        turn of its own: there may be as many as a shard has, and most logs answer at once.
        """
        reading = dict.fromkeys(shards)
        self._reading += 1
        timers = self._events.timers

        def go_on(shard: Shard, log: Log, after: int) -> None:
            take = partial(took, shard, log)
            log.read(filter, after, PAGE_BYTES, PAGE_RECORDS, shard.clock(now_ms()), take)

        def took(shard: Shard, log: Log, page: Page) -> None:
            for record in page.records:
                self.offer(record)
            if shard.log is log and page.upto < log.head():
                timers.at(timers.steady_ms(), lambda _: go_on(shard, log, page.upto))
                return
            del reading[shard]
            if not reading:
                self._have_read()

        for shard in shards:
            go_on(shard, shard.log, 0)

    def _have_read(self) -> None:
        self._reading -= 1
        if not self._reading:
            self._ended.clear()
            self.lost(self._events.node, but=self._events.life)

    def _begin(self, event: Event, life: str) -> None:
        node = event.node
        if self._events.is_own_life(life):
            return  # it ends that itself
        if self._lives.setdefault(node, life) != life:
            self._lives[node] = life
            self.lost(node, but=life)  # a node has one life at a time
        if event.id in self._ended:
            return
        self._open[event.id] = event, life
        if len(self._open) > self._limits.max_open_events:
            self._open.popitem(last=False)
            self.beyond += 1

    def _end(self, event: Event, life: str) -> None:
        opening_id = event.id.partition("~")[0]
        if self._open.pop(opening_id, None) is None and self._reading:
            self._ended.add(opening_id)  # what began it is still to be read
        if not self._events.is_own_life(life):
            self._events.contradict(event)

    def lost(self, node: str, *, but: str = "") -> int:
        """A node is lost: end what was open there. `but`: not of this life. How many."""
        over = [event for event, life in self._open.values() if event.node == node and life != but]
        for event in over:
            del self._open[event.id]
            self._events.end(event, reason="node_lost")
        return len(over)
