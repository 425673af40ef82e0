"""Interest: which filters this node wants to hear of, counted, and which owners know it. The core's `Coverage`.

Pure. An exact topic is told to the one node that owns its shard, a wildcard to every node there is a link to, for
all of its shards: so wildcards cost filters times nodes, in memory at owners and in bytes at every opening of a
link. What is wanted anew in one turn is one frame; what nobody wants any more is dropped by the tick, so that who
comes back soon finds it in force.

A barrier waits until the owner of each shard has answered a frame that has the filter, and this node's view of the
log is where the owner was then. It follows its shards: whatever link opens and whoever owns a shard meanwhile, it
waits for the present one. The surprising decision: it never holds anybody for longer than BARRIER_MS, because a
subscriber is better told which shards are missing than kept waiting for a node that may not come back.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from triode_protocol.topics import is_wildcard

from triode_broker.cluster.forwarded import Flushing as Flushes
from triode_broker.cluster.frames import Interest, Interested
from triode_broker.cluster.mirror import Mirror
from triode_broker.cluster.owner import Owner
from triode_broker.cluster.questions import Link
from triode_broker.core.shard import Shard

#: How long `subscribed` waits for owners.
BARRIER_MS: Final = 2_000
#: Filters in one frame, and that an owner has not answered: its turns stay short (each takes it 6-10 µs), and its
#: clients and life signs get theirs between them.
CHUNK: Final = 1_000


class _Barrier:
    """One subscribe, and the shards whose owner has not answered yet."""

    __slots__ = ("due_ms", "filter", "missing", "position", "then")

    def __init__(
        self,
        filter: str,
        shards: Sequence[Shard],
        position: Mapping[str, int],
        then: Callable[[list[str]], None],
        due_ms: int,
    ) -> None:
        self.filter = filter
        self.missing = dict.fromkeys(shards)
        self.position = position  # that it resumes after
        self.then = then
        self.due_ms = due_ms


class _Told:
    """What one owner was told over its present link, and what of it is in force."""

    __slots__ = ("adding", "asked", "base", "confirmed", "due", "held", "link", "sent", "seq", "waiting")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.seq = 0
        self.sent: dict[
            str, int
        ] = {}  # by filter: the frame that has it; one behind `seq`: it comes with the flush
        self.adding: dict[str, None] = {}
        self.base = 0  # the last frame of what was told at the opening
        self.confirmed = 0
        self.due = 0  # who does without a shard of it wants to hear what this frame and those before it name
        self.waiting: deque[tuple[int, _Barrier, Shard]] = deque()
        self.asked: deque[Interest] = deque()  # on the link, not answered
        self.held: deque[Interest] = deque()  # go there when there are fewer of these

    def put(self, kind: str, filters: list[str]) -> None:
        """Tell it, as soon as it has digested what it was told before."""
        self.seq += 1
        self.held.append(Interest(self.seq, kind, filters))
        self._go_on()

    def confirm(self, seq: int) -> None:
        """It has registered everything up to there."""
        self.confirmed = seq
        while self.asked and self.asked[0].seq <= seq:
            self.asked.popleft()
        self._go_on()

    def _go_on(self) -> None:
        room = CHUNK - sum([len(frame.filters) for frame in self.asked])
        while self.held and (len(self.held[0].filters) <= room or not self.asked):
            frame = self.held.popleft()
            room -= len(frame.filters)
            self.asked.append(frame)
            self.link.put(frame)


class Interests:
    """Those of one node."""

    def __init__(
        self, shard_of: Callable[[str], Shard], steady_ms: Callable[[], int], dirty: "list[Flushes]"
    ) -> None:
        """`shard_of`: of an exact topic. `dirty`: who is in it is flushed at the end of the turn."""
        self._shard_of = shard_of
        self._steady_ms = steady_ms
        self._dirty = dirty
        self._is_dirty = False
        self._counts: dict[str, int] = {}
        self._wildcards: dict[str, None] = {}
        self._exact: dict[Shard, dict[str, None]] = {}
        self._idle: dict[str, None] = {}  # not wanted since the last tick
        self._told: dict[Owner, _Told] = {}  # those with a link
        self._barriers: dict[_Barrier, None] = {}  # in order of `due_ms`
        self._behind: list[tuple[_Barrier, Shard, Mirror, int]] = []  # wait for a log to be read up to there

    @property
    def filters(self) -> int:
        """How many different ones are wanted."""
        return len(self._counts)

    @property
    def barriers(self) -> int:
        """How many subscribes wait."""
        return len(self._barriers)

    # `core.interfaces.Coverage`

    def cover(
        self,
        filter: str,
        shards: Sequence[Any],
        position: Mapping[str, int] | None,
        then: Callable[[list[str]], None],
    ) -> None:
        """Want it; see the interface."""
        count = self._counts.get(filter, 0)
        self._counts[filter] = count + 1
        if not count:
            self._want(filter)
        barrier = _Barrier(filter, shards, position or {}, then, self._steady_ms() + BARRIER_MS)
        self._barriers[barrier] = None
        for shard in shards:
            self._ask(barrier, shard)
        if not shards:
            self._finish(barrier)

    def uncover(self, filter: str, shards: Sequence[Any]) -> None:
        """Want it no more, if nobody else does."""
        self._counts[filter] -= 1
        if self._counts[filter]:
            return
        del self._counts[filter]
        self._idle[filter] = None
        if is_wildcard(filter):
            del self._wildcards[filter]
        else:
            del self._exact[self._shard_of(filter)][filter]

    def _want(self, filter: str) -> None:
        if is_wildcard(filter):
            self._wildcards[filter] = None
            for each in self._told.values():
                self._add(each, filter)
            return
        shard = self._shard_of(filter)
        self._exact.setdefault(shard, {})[filter] = None
        if (told := self._told_of(shard)) is not None:
            self._add(told, filter)

    def _told_of(self, shard: Shard) -> _Told | None:
        """What the owner of a shard was told, where it is elsewhere and there is a link to it."""
        return self._told.get(shard.log.owner) if isinstance(shard.log, Mirror) else None

    def _add(self, told: _Told, filter: str, *, again: bool = False) -> None:
        if filter in told.adding or (filter in told.sent and not again):
            return
        if len(told.adding) >= CHUNK:
            self._tell_added(told)
        told.adding[filter] = None
        told.sent[filter] = told.seq + 1
        if not self._is_dirty:
            self._is_dirty = True
            self._dirty.append(self)

    def flush(self) -> None:
        """Tell owners what came up in this turn."""
        self._is_dirty = False
        for told in self._told.values():
            if told.adding:
                self._tell_added(told)

    @staticmethod
    def _tell_added(told: _Told) -> None:
        adding, told.adding = list(told.adding), {}
        told.put("add", adding)

    def tick(self) -> None:
        """Drop what nobody wants any more; let those go on who have waited long enough."""
        self.flush()
        idle, self._idle = [filter for filter in self._idle if filter not in self._counts], {}
        for told in self._told.values():
            dropped = [filter for filter in idle if told.sent.pop(filter, 0)]
            for start in range(0, len(dropped), CHUNK):
                told.put("drop", dropped[start : start + CHUNK])
        now_ms = self._steady_ms()
        due = [barrier for barrier in self._barriers if barrier.due_ms <= now_ms]
        for barrier in due:
            for shard in barrier.missing:
                self._owe(shard)
            self._finish(barrier)

    def _owe(self, shard: Shard) -> None:
        """Somebody does without it: the gap comes when its owner has registered all there is by now."""
        log = shard.log
        if isinstance(log, Mirror):
            log.owes = True
            if (told := self._told.get(log.owner)) is not None:
                told.due = told.seq + bool(told.adding)

    def has_all_due(self, owner: Owner) -> bool:
        """Whether an owner has registered what those wait for who do without one of its shards."""
        told = self._told.get(owner)
        return told is not None and told.confirmed >= told.due

    # Barriers

    def _ask(self, barrier: _Barrier, shard: Shard) -> None:
        """Wait for the present owner of a shard, if there is anything to wait for."""
        log = shard.log
        if not isinstance(log, Mirror):
            if log.name:
                self._arrived(barrier, shard)
            return  # nobody owns it: `moved` asks again
        told = self._told.get(log.owner)
        if told is None:
            return  # `opened` asks again
        seq = told.sent.get(barrier.filter, 0)
        is_ahead = barrier.position.get(log.name, 0) > log.head()  # it comes from a node that had more
        self._add(told, barrier.filter, again=is_ahead or (seq <= told.confirmed and not log.is_live))
        seq = told.sent[barrier.filter]
        if seq <= told.confirmed:
            self._arrived(barrier, shard)
        else:
            told.waiting.append((seq, barrier, shard))

    def _arrived(self, barrier: _Barrier, shard: Shard) -> None:
        barrier.missing.pop(shard, None)
        if not barrier.missing:
            self._finish(barrier)

    def _finish(self, barrier: _Barrier) -> None:
        if barrier in self._barriers:
            del self._barriers[barrier]
            missing, barrier.missing = [shard.name for shard in barrier.missing], {}
            barrier.then(missing)

    def interested(self, owner: Owner, frame: Interested) -> None:
        """An owner has registered everything up to `seq`."""
        told = self._told[owner]
        told.confirm(frame.seq)
        if frame.seq == told.base:
            owner.confirmed(frame.heads)
        waiting = told.waiting
        while waiting and waiting[0][0] <= frame.seq:
            _, barrier, shard = waiting.popleft()
            log = shard.log
            if shard in barrier.missing and isinstance(log, Mirror) and log.owner is owner:
                self._wait_for_head(barrier, shard, log, frame.heads.get(log.name, 0))
        for mirror in list(owner.mirrors.values()):
            mirror.pay()

    def _wait_for_head(self, barrier: _Barrier, shard: Shard, log: Mirror, head: int) -> None:
        """At once while its stream is live: what was sent before has been delivered."""
        if log.is_ready and log.head() >= head:
            self._arrived(barrier, shard)
        else:
            self._behind.append((barrier, shard, log, head))
            log.notice(head)

    def progressed(self, mirror: Mirror) -> None:
        """A log was read on."""
        behind, self._behind = self._behind, []
        for barrier, shard, log, head in behind:
            if shard not in barrier.missing or shard.log is not log:
                continue  # it is over, or waits elsewhere
            if log is mirror:
                self._wait_for_head(barrier, shard, log, head)
            else:
                self._behind.append((barrier, shard, log, head))

    # Owners

    def opened(self, owner: Owner, link: Link) -> None:
        """Tell it all, and have the barriers wait for it that have to."""
        self._told[owner] = told = _Told(link)
        filters = list(self._wildcards)
        for shard, exact in self._exact.items():
            if self._told_of(shard) is told:
                filters += exact
        kind = "snapshot"
        for start in range(0, max(len(filters), 1), CHUNK):
            chunk = filters[start : start + CHUNK]
            told.put(kind, chunk)
            told.sent |= dict.fromkeys(chunk, told.seq)
            kind = "add"
        told.base = told.seq
        self._ask_again([shard for barrier in self._barriers for shard in barrier.missing])

    def closed(self, owner: Owner) -> None:
        """Barriers wait for its next link, or the next owner."""
        del self._told[owner]
        self._behind = [one for one in self._behind if one[2].owner is not owner]

    def moved(self, shard: Shard) -> None:
        """A shard has another log now: tell its owner of the topics in it, and have the barriers wait for that."""
        if (told := self._told_of(shard)) is not None:
            for filter in self._exact.get(shard, {}):
                self._add(told, filter)
        if isinstance(shard.log, Mirror) and shard.log.owes:
            self._owe(shard)
        self._ask_again([shard])

    def _ask_again(self, shards: Sequence[Shard]) -> None:
        wanted = dict.fromkeys(shards)
        for barrier in list(self._barriers):
            for shard in list(barrier.missing):
                if shard in wanted:
                    self._ask(barrier, shard)
