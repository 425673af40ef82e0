"""The log on disk as the loop sees it: questions and messages go into a queue, answers come out of one, in order.

Knows no trio and no thread: who calls `work` is the store thread (`committer.serve`); tests and simulations call
`run_inline`. What is appended and saved in one turn of the loop is one piece and never parted; the thread takes as
many pieces as wait, up to `commit_messages`, into one transaction. So nothing waits while the disk is idle, and a
busy disk makes the groups larger.

The surprising decision: there is one queue for everything. A read cannot overtake a commit, nor its answer the
news of it; so when a reader is told that it has got to the end, `head` is where it says, and it can go live in
that very step.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TypeVar

import attrs
from triode_protocol.packets import Start

from triode_broker.config import Limits, TopicRule
from triode_broker.core.histogram import Histogram
from triode_broker.core.interfaces import Loaded, Outcome, Page, Place, StoreState
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record
from triode_broker.log.disk.connection import Fault
from triode_broker.log.disk.reading import Reading
from triode_broker.log.disk.retention import held_of
from triode_broker.log.disk.store import Batch, Store

T = TypeVar("T")
Encode = Callable[[], bytes]
Done = Callable[[Outcome], None]
#: What is done in the loop with what was done in the thread.
Answer = Callable[[], None]


@attrs.define(eq=False)
class Turn:
    """What the loop appended and saved in one turn."""

    stops: int  # that the loop knew of when it began
    batch: Batch = attrs.Factory(Batch)
    saves: dict[str, Encode] = attrs.Factory(dict)
    dones: list[Done] = attrs.Factory(list)
    size: int = 0  # bytes
    now_ms: int = 0
    begun: float = 0.0  # on the log's clock: when its first message, or value, came

    @property
    def last_pos(self) -> int:
        """Of its newest record; 0: it has none."""
        appended = self.batch.appended
        return appended[-1][0].pos if appended else 0


#: Something that is done in the thread.
Job = Callable[[], Answer | None]


class DiskLog:
    """One life of one shard on disk; see `core.interfaces.DurableLog`."""

    level = "disk"

    def __init__(
        self,
        name: str,
        store: Store,
        reading: Reading,
        loaded: Loaded,
        limits: Limits,
        report: Callable[..., None],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`clock`: in seconds; asked once for a turn of the loop and twice for a commit."""
        self.name = name
        self.wake: Callable[[], None] = _nobody  # something waits for `close_turn`; called once a turn
        self.answered: Callable[[], None] = _nobody  # in the thread: something waits for `take_answers`
        self.barrier: Callable[..., None] = _plainly  # calls a callback; what that raises ends nothing else
        self.commits = 0
        self.committed_messages = self.committed_bytes = 0
        self.answering = Histogram()  # messages, from their turn in the loop to the one that tells of their commit
        self.committing = Histogram()  # commits, by how long the disk took; the thread adds to it
        self._clock = clock
        self._store = store
        self._reading = reading
        self._loaded = loaded
        self._report = report
        self._limits = limits
        # The loop's side
        self._head = store.contents.head
        self._state: StoreState = "failed" if store.has_failed else "ok"
        self._told: Callable[[int, Outcome], None] = _ignore
        self._turn: Turn | None = None
        self._known_stops = 0
        self._kept: dict[str, Encode] = {}  # values that a full disk did not take
        self._handed: deque[Turn] = deque()  # handed over and not told of
        self._uncommitted = 0
        self._is_probing = False
        # Between the two
        self._jobs: SimpleQueue[Turn | Job] = SimpleQueue()
        self._answers: deque[Answer] = deque()
        # The thread's side
        self._stops = 0
        self._next: Turn | Job | None = None  # taken from the queue, not done yet

    # What the core asks

    @property
    def state(self) -> StoreState:
        """Whether it takes appends."""
        return self._state

    @property
    def uncommitted_bytes(self) -> int:
        """Appended or saved, and not told of yet."""
        return self._uncommitted

    def head(self) -> int:
        """The newest pos whose commit was told of."""
        return self._head

    @property
    def epoch(self) -> int:
        """How often the file was opened, new lives included: rises at each start (cluster.md, ownership)."""
        return int(self._store.contents.meta["epoch"])

    @property
    def topic_count(self) -> int:
        """Topics that the file knows of."""
        return len(self._store.contents.topics)

    def held(self, topic: str) -> tuple[int, int]:
        """Messages and bytes retained of a topic, as retention counts them: at most so many."""
        known = self._store.contents.topics.get(topic)
        return held_of(known) if known is not None else (0, 0)

    @property
    def damaged_messages(self) -> int:
        """Found damaged since the start, each counted once; for health."""
        return self._reading.damaged

    def loaded(self) -> Loaded:
        """What the file held when it was opened."""
        return self._loaded

    def listen(self, told: Callable[[int, Outcome], None]) -> None:
        """Who is told of commits."""
        self._told = told

    def append(self, record: Record, rule: TopicRule, remembered: Remembered | None = None) -> None:
        """Queue a record; `listen` tells what became of it."""
        turn = self._turn or self._begin_turn()
        turn.batch.appended.append((record, rule, remembered))
        size = record.size
        turn.size += size
        turn.now_ms = record.ts
        self._uncommitted += size

    def save(self, name: str, value: Encode, done: Done | None = None) -> None:
        """Queue a value; it goes with the records of the same turn."""
        turn = self._turn or self._begin_turn()
        turn.saves[name] = value
        if done is not None:
            turn.dones.append(done)

    def read(
        self,
        filter: str,
        after: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[Page], None],
        newest_at: int = 0,
    ) -> None:
        """Ask for a page; see the interface."""
        reading = self._reading

        def ask() -> Page:
            if newest_at:
                return reading.snapshot(filter, after, max_bytes, max_records, now_ms, newest_at)
            return reading.read(filter, after, max_bytes, max_records, now_ms)

        self._ask(ask, lambda: reading.unreadable(after, max_records, newest_at), done)

    def read_back(
        self,
        topic: str,
        before: int,
        max_bytes: int,
        max_records: int,
        now_ms: int,
        done: Callable[[list[Record], bool], None],
    ) -> None:
        """Ask for the newest before `before`; see the interface."""

        def ask() -> tuple[list[Record], bool]:
            return self._reading.read_back(topic, before, max_bytes, max_records, now_ms)

        self._ask(ask, lambda: ([], True), lambda found: done(*found))

    def seek(self, filter: str, start: Start, now_ms: int, done: Callable[[Place], None]) -> None:
        """Ask where a start lies; see the interface."""

        self._ask(
            lambda: self._reading.seek(filter, start, now_ms),
            lambda: Place(self._store.contents.head if start.last or start.since >= 0 else 0, False, 0),
            done,
        )

    def _ask(self, ask: Callable[[], T], instead: Callable[[], T], done: Callable[[T], None]) -> None:
        """Queue a question. A storage fault costs the answer, not the asker: `instead` is what is still true."""

        def job() -> Answer:
            try:
                found = ask()
            except Exception as error:  # noqa: BLE001  # the thread's barrier: `done` is called once, come what may
                self._report("read_failed", error=repr(error), log=self.name)
                self._reading.note_fault(error)
                found = instead()
            if self._reading.fault is not None and not self._store.has_failed:
                self._store.has_failed = True
                self._answers.append(self._stop_for(self._reading.fault, []))
            return partial(self.barrier, done, found)

        self._jobs.put(job)

    def trim(self, now_ms: int) -> None:
        """Let retention follow, piece by piece; other work comes between."""

        def job() -> Answer | None:
            try:
                has_more = self._store.trim(now_ms)
                self._store.checkpoint_if_due()
            except Fault as fault:
                return self._stop_for(fault, [])
            if has_more:
                self._jobs.put(job)
            return None

        self._jobs.put(job)

    def rules_changed(self) -> None:
        """Let topics follow their rules: those that no message comes to would keep to the old ones."""

        def job() -> None:
            self._store.read_rules()

        self._jobs.put(job)

    def room(self, now_ms: int) -> None:
        """After a full disk: see whether a small write goes through again."""
        if self._state == "full" and not self._is_probing:
            self._is_probing = True
            self._jobs.put(self._probe)

    # A turn's end, and the answers: in the loop

    def _begin_turn(self) -> Turn:
        self._turn = turn = Turn(self._known_stops, begun=self._clock())
        self.wake()
        return turn

    def close_turn(self) -> None:
        """Hand over what was appended and saved since the last time."""
        turn = self._turn
        if turn is None:
            return
        if self._state != "ok":
            self._tell_stopped([], self._state)
            return
        self._turn = None
        turn.saves = self._kept | turn.saves
        self._kept = {}
        for name, encode in turn.saves.items():
            self.barrier(self._encode, turn, name, encode)
        self._handed.append(turn)
        self._jobs.put(turn)

    def _encode(self, turn: Turn, name: str, encode: Encode) -> None:
        value = turn.batch.values[name] = encode()
        turn.size += len(value)
        self._uncommitted += len(value)

    def take_answers(self) -> None:
        """Tell what the thread has done, in its order."""
        while self._answers:
            self._answers.popleft()()

    def _tell_committed(self, turns: list[Turn]) -> None:
        last = 0
        now = self._clock()
        for turn in turns:
            self._handed.popleft()
            self._uncommitted -= turn.size
            count = len(turn.batch.appended)
            self.committed_messages += count
            self.committed_bytes += turn.size
            self.answering.add(now - turn.begun, count)
            last = turn.last_pos or last
        if last:
            self._head = last
            self.barrier(self._told, last, "committed")
        for turn in turns:
            for done in turn.dones:
                self.barrier(done, "committed")

    def _stopped(self, turns: list[Turn], state: StoreState) -> None:
        self._known_stops += 1
        self._tell_stopped(turns, state)

    def _tell_stopped(self, turns: list[Turn], state: StoreState) -> None:
        """These turns came to nothing, and the store takes no more: what waits behind them is refused."""
        outcome: Outcome = "lost" if state == "full" else "unknown"
        if self._state != "failed":
            self._state = state
        waiting = [turn for turn in self._handed if turn not in turns]
        if self._turn is not None:
            waiting.append(self._turn)
        self._handed.clear()
        self._turn = None
        self._uncommitted = 0
        if self._state == "full":
            for turn in (*turns, *waiting):
                self._kept |= turn.saves
        failed, refused = (max((turn.last_pos for turn in some), default=0) for some in (turns, waiting))
        if failed:
            self.barrier(self._told, failed, outcome)
        if refused:
            self.barrier(self._told, refused, "refused")
        for some, word in ((turns, outcome), (waiting, "refused")):
            for turn in some:
                for done in turn.dones:
                    self.barrier(done, word)

    def _tell_room(self, has_room: bool) -> None:
        self._is_probing = False
        if has_room and self._state == "full":
            self._state = "ok"
            self._report("store_has_room", log=self.name)
            if self._kept and self._turn is None:
                self._begin_turn()

    # In the thread

    def work(self) -> None:
        """Do all that comes, until `stop`; then close the file."""
        while (item := self._next_item()) is not _STOP:
            self._do(item)
            if self._answers:
                self.answered()
        self._store.close()

    def run_inline(self) -> None:
        """Do all that waits in the calling thread, and tell of it: for tests and simulations."""
        while True:
            self.close_turn()
            try:
                while True:
                    self._do(self._jobs.get_nowait() if self._next is None else self._next_item())
            except Empty:
                pass
            if not self._answers and self._turn is None:
                return
            self.take_answers()

    def stop(self) -> None:
        """Let the thread end behind what was handed over."""
        self.close_turn()
        self._jobs.put(_STOP)

    def close(self) -> None:
        """Where there is no thread: do what waits, and close the file in good order."""
        self.run_inline()
        self._store.close()

    def _next_item(self) -> "Turn | Job":
        item, self._next = self._next, None
        return self._jobs.get() if item is None else item

    def _do(self, item: "Turn | Job") -> None:
        if not isinstance(item, Turn):
            try:
                answer = item()
            except Exception as error:  # noqa: BLE001  # the thread's barrier
                answer = self._stop_for(Fault("failed", repr(error)), [])
            if answer is not None:
                self._answers.append(answer)
            return
        turns = self._group(item)
        if turns:
            self._commit(turns)

    def _group(self, first: Turn) -> list[Turn]:
        """The turns that wait, up to so many messages; none of those that are refused."""
        turns: list[Turn] = []
        count = 0
        item: Turn | Job = first
        while isinstance(item, Turn):
            if item.stops == self._stops:
                turns.append(item)
                count += len(item.batch.appended)
            if count >= self._limits.commit_messages:
                return turns
            try:
                item = self._jobs.get_nowait()
            except Empty:
                return turns
        self._next = item
        return turns

    def _commit(self, turns: list[Turn]) -> None:
        batch = turns[0].batch
        if len(turns) > 1:
            batch = Batch()
            for turn in turns:
                batch.appended += turn.batch.appended
                batch.values |= turn.batch.values
        begun = self._clock()
        try:
            self._store.commit(batch, turns[-1].now_ms)
        except Fault as fault:
            self._answers.append(self._stop_for(fault, turns))
            return
        except Exception as error:  # noqa: BLE001  # the thread's barrier: these turns are told of, come what may
            self._answers.append(self._stop_for(Fault("failed", repr(error)), turns))
            return
        self.commits += 1
        self.committing.add(self._clock() - begun)
        self._answers.append(partial(self._tell_committed, turns))
        try:
            self._store.checkpoint_if_due()
        except Fault as fault:
            self._answers.append(self._stop_for(fault, []))
        except Exception as error:  # noqa: BLE001  # the thread's barrier: these turns have been committed
            self._answers.append(self._stop_for(Fault("failed", repr(error)), []))

    def _stop_for(self, fault: Fault, turns: list[Turn]) -> Answer:
        """Nothing of the loop's that is on its way here is taken any more."""
        self._stops += 1
        state: StoreState = "full" if fault.kind == "full" else "failed"
        self._report("store_full" if state == "full" else "store_failed", error=str(fault), log=self.name)
        return partial(self._stopped, turns, state)

    def _probe(self) -> Answer:
        try:
            self._store.probe()
        except Fault as fault:
            if fault.kind != "full":
                return self._stop_for(fault, [])
            return partial(self._tell_room, False)
        return partial(self._tell_room, True)


def _nobody() -> None:
    """Nobody waits."""


def _ignore(upto: int, outcome: Outcome) -> None:
    """Nobody listens."""


def _plainly(callback: Callable[..., None], *arguments: object) -> None:
    callback(*arguments)


def _STOP() -> None:
    """Stands in the queue for its end."""
