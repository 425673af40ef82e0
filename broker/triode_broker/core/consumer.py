"""Consumer: an acknowledged subscription behind one name (G5): who gets what, and what becomes of it.

Knows its members and its sources, nothing of sessions or of other names. Everything is dispatched in one place,
`_dispatch`, from one heap in order of taking in, so that what comes again goes before what is new. The surprising
decision: nothing is written per acknowledgement; the state is marked, and encoded once when a batch is closed.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count

from triode_protocol.codec import encode
from triode_protocol.errors import GapReason
from triode_protocol.packets import Gap, Subscribed

from triode_broker.core.dead_letters import FAILED, REJECTED
from triode_broker.core.interfaces import PAGE_RECORDS
from triode_broker.core.item import Item, State, encode_delivery
from triode_broker.core.queue import Queue
from triode_broker.core.record import RECORD_OVERHEAD_BYTES, Record
from triode_broker.core.roster import Member, Roster
from triode_broker.core.shard import Shard
from triode_broker.core.skips import Skips
from triode_broker.core.source import Before, Place, Source
from triode_broker.core.statistics import Statistics
from triode_broker.core.tenancy import Tenant
from triode_broker.core.tenants import only_topic
from triode_broker.core.timers import Alarm, Timers

#: What is offered live is held for so many messages while no member has room; beyond, the log is read later.
READ_AHEAD = 256
#: When a dead letter that the store did not take is tried again.
RETRY_LETTER_MS = 1_000
#: Entries of delayed items that were acknowledged meanwhile, before they are swept out.
MAX_SETTLED_DELAYED = 64

_READY, _IN_FLIGHT, _DELAYED, _DYING, _SETTLED = State


class Consumer:
    """One name's state."""

    __slots__ = (
        "_alarm",
        "_bury",
        "_delayed",
        "_in_turn",
        "_is_pumping",
        "_looked",
        "_max_bytes",
        "_only",
        "_queue",
        "_roster",
        "_save",
        "_serial",
        "_skips",
        "_source_of",
        "_statistics",
        "_tenant",
        "_timers",
        "absent_ms",
        "ack_wait_ms",
        "by_log",
        "created_ms",
        "filter",
        "held_bytes",
        "is_covered",
        "is_durable",
        "is_marked",
        "is_open",
        "is_ready",
        "is_shared",
        "letters",
        "max_attempts",
        "members",
        "name",
        "now_ms",
        "seen_ms",
        "shards",
        "sources",
        "unplaced",
    )

    def __init__(
        self,
        name: str,
        filter: str,
        shards: Sequence[Shard],
        shard_of: Callable[[str], Shard],
        *,
        is_durable: bool,
        is_shared: bool,
        ack_wait_ms: int,
        max_attempts: int,
        timers: Timers,
        max_bytes: int,
        bury: Callable[["Consumer", Item], None],
        save: Callable[["Consumer"], None],
        tenant: Tenant,
        statistics: Statistics,
    ) -> None:
        self.name = name
        self.filter = filter
        self.is_durable, self.is_shared = is_durable, is_shared
        self.ack_wait_ms = ack_wait_ms  # who subscribes and gives these sets them for all
        self.max_attempts = max_attempts
        self.sources = [Source(self, shard) for shard in shards]
        self.shards = tuple(shards)
        self.by_log = {source.shard.log.name: source for source in self.sources if source.is_placed}
        self.unplaced: dict[str, Place] = {}  # by log: where it stood in logs that are not reached yet
        self.is_covered = True  # the owners of its shards know that it wants to be fed
        by_shard = {source.shard: source for source in self.sources}
        self._only = self.sources[0] if len(self.sources) == 1 else None
        self._source_of: Callable[[str], Source] = lambda topic: by_shard[shard_of(topic)]
        self.members: dict[Member, None] = {}
        self.held_bytes = 0  # of all items
        self.is_open, self.is_ready = True, False  # ready: it has its start, and is on disk if it is to be
        self.is_marked = True  # nothing more to be done for its state to be saved; a group's never is
        self.now_ms = self.created_ms = self.seen_ms = 0  # the wall clock, as last heard
        self.absent_ms = 0  # how long a node has been running while it had no members
        self.letters = 0  # dead letters written, since it was created
        self._save, self._timers = save, timers
        self._tenant, self._statistics = tenant, statistics
        self._max_bytes = max_bytes
        self._bury = bury  # publishes an item's dead letter; tells `buried` or `postpone`
        self._roster, self._queue = Roster(), Queue()
        self._delayed: list[tuple[int, int, Item]] = []  # by due time
        self._serial = count()
        self._skips = Skips()
        self._alarm = Alarm(timers, self._ring)
        self._looked = 0  # records looked at in this turn
        self._is_pumping = False
        self._in_turn = False  # goes on reading in the next turn

    @property
    def kind(self) -> str:
        """What it is called in sentences."""
        return "group" if not self.is_durable else "shared" if self.is_shared else "durable"

    def changed(self) -> None:
        """What is kept on disk is not what holds any more."""
        if not self.is_marked:
            self.is_marked = True
            self._save(self)

    # Members

    def join(self, member: Member) -> None:
        """It counts as a member; it gets nothing before `welcome`."""
        self.members[member] = None

    def welcome(self, member: Member, id: int, now_ms: int) -> None:
        """Answer its subscribe, tell it of gaps, and let it take part."""
        member.outbox.put(encode(Subscribed(member.number, self.floors(), True, id)))
        for source in self.sources:
            if source.gap_reason:
                self._tell_gap(member, source)
        self.place(member)
        self.pump(now_ms)

    def place(self, member: Member) -> None:
        """The room in its window, or in its outbox, has changed."""
        self._roster.place(member)
        if member.parked and member.free:
            parked, member.parked = member.parked, {}
            for lane in parked:
                self._queue.activate(lane)

    def room(self, member: Member, now_ms: int) -> None:
        """Its outbox has drained."""
        if member.is_stalled and member.outbox.has_room:
            member.is_stalled = False
            self.place(member)
            self.pump(now_ms)
        elif member.is_stalled:
            member.outbox.wants_room = True

    def leave(self, member: Member, now_ms: int, *, is_clean: bool) -> None:
        """It is a member no more; what it held comes again, to others at once."""
        self.now_ms = self.seen_ms = now_ms
        del self.members[member]
        member.window = 0
        self._roster.place(member)
        for item in list(member.held):
            if item.state == _IN_FLIGHT and item.holder is member:  # else it came back behind one of its key
                self.fail(item, counts=not is_clean)
        if self.members:
            self.pump(now_ms)

    def give_back(self) -> None:
        """All that is in flight comes again, as if it had not been delivered."""
        for member in self.members:
            for item in list(member.held):
                if item.holder is member:
                    self.fail(item, counts=False)

    def rest(self) -> None:
        """The last member has left, all it held has come back: keep places, not messages."""
        for source in self.sources:
            source.fold(self._timers.offset_ms)
        self.clear()

    def close(self) -> None:
        """The name is no more: what is still on its way to it, or from it, is nobody's."""
        self.is_open = False
        self._alarm.stop()
        for source in self.sources:
            source.start(0)
        for member in self.members:
            member.window = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything on its way; sources are the caller's."""
        self._queue.clear()
        self._delayed = [entry for entry in self._delayed if self._is_kept(entry[2])]
        self.held_bytes = 0
        for source in self.sources:
            for item in source.items.values():  # its dead letter is on its way
                item.lane = None
                self.held_bytes += item.record.size
        self._skips = Skips()
        for member in self.members:
            member.held.clear()
            member.parked.clear()
            self.place(member)

    def _is_kept(self, item: Item) -> bool:
        return item.source.items.get(item.record.pos) is item

    def floors(self) -> dict[str, int]:
        """Everything up to there is settled."""
        return {log: source.floor for log, source in self.by_log.items()}

    # Taking in

    def offer(self, record: Record) -> None:
        """From the router: a message, in the step in which it becomes the head of its log."""
        source = self._only or self._source_of(record.topic)
        if not source.is_live or record.pos <= source.cursor:
            return
        if self.held_bytes >= self._max_bytes or (len(self._queue) >= READ_AHEAD and self._roster.pick() is None):
            source.leave_live(record.pos)
            return
        source.cursor = record.pos
        self.take(source, record, -1)
        self._dispatch()

    def take(self, source: Source, record: Record, prev: int) -> None:
        """A message that is new to this name; `prev` -1: offset − 1."""
        pos = record.pos
        item = Item(source, record, next(self._serial), prev)
        source.items[pos] = item
        self.held_bytes += len(record.payload) + RECORD_OVERHEAD_BYTES
        self._queue.add(item, record.key if self.is_shared else "")

    def take_again(self, source: Source, record: Record, before: Before, now_ms: int) -> None:
        """A message that was taken in before."""
        item = Item(source, record, next(self._serial), 0, before.failed)
        source.items[record.pos] = item
        self.held_bytes += len(record.payload) + RECORD_OVERHEAD_BYTES
        self._skips.note(record.topic)
        if before.reason or before.failed >= self.max_attempts:
            item.reason = before.reason or FAILED
            self._delay(item, 0)  # its dead letter is no business of a reader's
        elif before.due_ms > now_ms:
            self._delay(item, before.due_ms - now_ms)
        self._queue.add(item, record.key if self.is_shared else "")

    def lost(self, source: Source, reason: GapReason, at: int) -> None:
        """Something due is missing behind `at`: tell everybody, and remember to tell those who come."""
        source.note_gap(reason, at)
        for member in self.members:
            if member.subscribe_id < 0:
                self._tell_gap(member, source)
        self.changed()

    def _tell_gap(self, member: Member, source: Source) -> None:
        after = self.floors() | {source.shard.log.name: source.gap_at}
        self._statistics.gaps[source.gap_reason] += 1
        member.outbox.put(encode(Gap(member.number, after, source.gap_reason, only_topic(self.filter))))

    def have_read(self, looked_at: int, now_ms: int) -> None:
        """A log has answered."""
        self._looked += looked_at
        self.pump(now_ms)

    def pump(self, now_ms: int) -> None:
        """Deliver what can be delivered, and read on while members have room for more."""
        self.now_ms = now_ms
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._wants_more() and self._pull(now_ms):
                pass
        finally:
            self._is_pumping = False

    def _pull(self, now_ms: int) -> bool:
        """Ask every log that has more; whether any was asked."""
        is_asked = False
        for source in self.sources:
            is_asked = source.pull(now_ms) or is_asked
        return is_asked

    def _wants_more(self) -> bool:
        """Hand out what there is; whether members have room for more."""
        self._dispatch()
        if self._queue.front() is not None or self.held_bytes >= self._max_bytes or self._roster.pick() is None:
            return False
        if self._looked >= PAGE_RECORDS:  # enough for one turn
            self._go_on_later()
            return False
        return True

    def _go_on_later(self) -> None:
        if not self._in_turn:
            self._in_turn = True
            self._timers.at(self._timers.steady_ms(), self._go_on)

    def _go_on(self, now_ms: int) -> None:
        self._in_turn = False
        self._looked = 0
        self.pump(now_ms)

    # Delivering

    def _dispatch(self) -> None:
        """Hand out what is ready, in order, while anybody can take it."""
        queue, roster = self._queue, self._roster
        while (item := queue.front()) is not None:
            if item.record.expires_ms and item.record.is_expired(max(self.now_ms, item.source.shard.ts)):
                queue.pop()
                self._skips.note(item.record.topic)
                self.settle(item)
                self.changed()
                continue
            lane = item.lane
            member = lane.holder if lane is not None else None
            if member is None:
                member = roster.pick()
                if member is None:
                    return
            elif not member.free:  # the key waits for its member, the others do not
                assert lane is not None
                member.parked[lane] = None
                queue.pop()
                continue
            if not member.outbox.has_room:
                self._stall(member)
                continue
            queue.pop()
            self._deliver(item, member)

    def _stall(self, member: Member) -> None:
        """Its connection takes no more: the others go on."""
        member.is_stalled = True
        member.outbox.wants_room = True
        self._roster.place(member)

    def _deliver(self, item: Item, member: Member) -> None:
        item.state = _IN_FLIGHT
        item.holder = member
        if (lane := item.lane) is not None:
            lane.deliver(member)
            self._queue.activate(lane)
        member.held[item] = None
        self._roster.place(member)
        item.due_ms = due_ms = self._timers.steady_ms() + self.ack_wait_ms
        alarm = self._alarm
        if not alarm.due_ms or due_ms < alarm.due_ms:
            alarm.by(due_ms)
        source, record = item.source, item.record
        item.is_behind = record.pos < source.delivered_upto
        if not item.is_behind:
            source.delivered_upto = record.pos
        self._tenant.counts.delivered += 1
        prev = 0 if self.is_shared else self._skips.prev(item)
        member.outbox.put(encode_delivery(member.number, record, item.failed + 1, prev))
        self.changed()

    # What becomes of them

    def settle(self, item: Item) -> None:
        """It is done with."""
        record = item.record
        del item.source.items[record.pos]
        self.held_bytes -= len(record.payload) + RECORD_OVERHEAD_BYTES
        if (holder := item.holder) is not None:
            del holder.held[item]
            item.holder = None
        item.state = _SETTLED
        if (lane := item.lane) is not None:
            self._queue.settle(lane, item)
        if holder is not None:
            self.place(holder)

    def fail(self, item: Item, *, counts: bool = True, delay_ms: int = 0) -> None:
        """A delivery has come to nothing: it comes again, or becomes a dead letter. `pump` is the caller's."""
        self._take_back(item)
        self._statistics.redelivered += 1
        item.failed += counts
        if item.failed >= self.max_attempts and counts:
            self.bury(item, FAILED)
        elif delay_ms:
            self._delay(item, delay_ms)
        else:
            self._queue.make_ready(item)
        self.changed()

    def reject(self, item: Item) -> None:
        """Its holder says that it cannot be processed at all. `pump` is the caller's."""
        self._take_back(item)
        item.failed += 1
        self.bury(item, REJECTED)

    def _take_back(self, item: Item) -> None:
        if item.lane is not None:
            for other in item.lane.take_back(item):
                self._release(other)
                other.state = _READY
        self._release(item)

    def _release(self, item: Item) -> None:
        """Out of its holder's window; who had it may still acknowledge it."""
        holder = item.holder
        assert holder is not None
        item.holder = None
        del holder.held[item]
        item.note_earlier(holder.outbox)
        item.prev = 0  # what comes again follows nothing
        self._skips.note(item.record.topic)
        self.place(holder)

    def bury(self, item: Item, reason: str) -> None:
        """Have its dead letter written; it and the settled state go in one step."""
        item.reason = reason
        item.state = _DYING
        self._bury(self, item)
        self.changed()

    def buried(self, item: Item) -> None:
        """Its dead letter is written."""
        self.letters += 1
        if self._is_kept(item):
            self.settle(item)
            self.changed()
            self.pump(self.now_ms)

    def postpone(self, item: Item) -> None:
        """The store did not take its dead letter: again in a moment."""
        if self._is_kept(item):
            self._delay(item, RETRY_LETTER_MS)
            self.changed()

    # Time

    def extend(self, item: Item, ms: int) -> None:
        """Its holder has so long from now on."""
        item.due_ms = self._timers.steady_ms() + ms
        self._alarm.by(item.due_ms)

    def _delay(self, item: Item, delay_ms: int) -> None:
        item.state = _DELAYED
        if len(self._delayed) > 2 * sum(len(source.items) for source in self.sources) + MAX_SETTLED_DELAYED:
            self._delayed = [entry for entry in self._delayed if entry[2].state == _DELAYED]
            heapify(self._delayed)
        item.due_ms = self._timers.steady_ms() + delay_ms
        heappush(self._delayed, (item.due_ms, item.serial, item))
        self._alarm.by(item.due_ms)

    def _ring(self, now_ms: int) -> None:
        """Something may be due; what was acknowledged meanwhile is not."""
        steady_ms = self._timers.steady_ms()
        self.now_ms = now_ms
        self._wake_delayed(steady_ms)
        next_ms = self._delayed[0][0] if self._delayed else 0
        for member in self.members:
            for item in list(member.held):
                if item.holder is not member:
                    continue  # taken back meanwhile, behind one of its key
                if item.due_ms <= steady_ms:
                    self.fail(item)
                elif not next_ms or item.due_ms < next_ms:
                    next_ms = item.due_ms
        if next_ms:
            self._alarm.by(next_ms)
        if self.members:
            self.pump(now_ms)

    def _wake_delayed(self, steady_ms: int) -> None:
        while self._delayed and self._delayed[0][0] <= steady_ms:
            item = heappop(self._delayed)[2]
            if item.state != _DELAYED or not self._is_kept(item):
                continue
            if item.reason:
                self.bury(item, item.reason)
            else:
                self._queue.make_ready(item)
