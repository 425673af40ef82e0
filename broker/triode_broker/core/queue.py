"""Queue: what a name has ready to be delivered, in order of taking in; what has a key waits in its lane.

Knows items and lanes, nothing of who gets them. The surprising decision: nothing is ever taken out of the middle.
The heap keeps what was settled or delayed meanwhile, and drops it when it comes to the top.
"""

from heapq import heappop, heappush

from triode_broker.core.item import Item, State
from triode_broker.core.lanes import Lane

_READY = State.READY


class Queue:
    """Ready items by serial."""

    __slots__ = ("_heap", "_lanes")

    def __init__(self) -> None:
        self._heap: list[tuple[int, Item]] = []
        self._lanes: dict[tuple[str, str], Lane] = {}  # by topic and key (G5)

    def __len__(self) -> int:
        """At least so many as are ready; more when some are not any more."""
        return len(self._heap)

    def front(self) -> Item | None:
        """The next one."""
        heap = self._heap
        while heap:
            item = heap[0][1]
            if item.state == _READY and (item.lane is None or item.lane.next is item):
                return item
            heappop(heap)  # settled or delayed meanwhile, or another of its key goes first
            item.is_queued = False
        return None

    def pop(self) -> None:
        """Take the front out."""
        heappop(self._heap)[1].is_queued = False

    def add(self, item: Item, key: str) -> None:
        """A new one; ready unless its state says otherwise. `key` "" is none."""
        if not key:
            if item.state == _READY:
                self._push(item)
            return
        name = (item.record.topic, key)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name)
        item.lane = lane
        lane.waiting.append(item)
        if len(lane.waiting) == 1:
            self.activate(lane)

    def make_ready(self, item: Item) -> None:
        """One that was given back, or has waited long enough."""
        item.state = _READY
        if item.lane is None:
            self._push(item)
        else:
            self.activate(item.lane)

    def activate(self, lane: Lane) -> None:
        """Its front may be delivered, if it has one that is ready."""
        if (item := lane.next) is not None:
            self._push(item)

    def settle(self, lane: Lane, item: Item) -> None:
        """One of a lane is done with."""
        lane.settle(item)
        if lane.is_empty:
            del self._lanes[lane.key]
        else:
            self.activate(lane)

    def clear(self) -> None:
        """Forget all; that what is still to be settled belongs to no lane any more is the caller's to say."""
        for _, item in self._heap:
            item.is_queued = False
        self._heap.clear()
        self._lanes.clear()

    def _push(self, item: Item) -> None:
        if not item.is_queued:
            item.is_queued = True
            heappush(self._heap, (item.serial, item))
