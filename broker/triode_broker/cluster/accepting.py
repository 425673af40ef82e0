"""Accepting: publishes that other nodes forward to shards owned here; the owner's side of `cluster.forwarding`.

Knows no table: whether a shard is owned here is asked of the shard. For every entry node's incarnation and shard
there is a stream: which numbers were dealt with, and their answers for as long as the entry node may ask again.

A number is dealt with once, in order: accepted, refused, or refused as `moved`; `Forward.answered` skips what the
entry node has given up. A smaller one gets its kept answer again; a hole is a broken peer. The traces behind
`moved`, with owners A, B, A in one incarnation of A, publishes 5 6 7 of one publisher:

- 5 comes while A is no owner, 6 when it is again. Were 6 applied, 5 would come back as a new number and land
  behind it. So after a `moved` everything on that stream is `moved` until the entry node says (`answered`) that it
  has taken note of the last one; before that it writes nothing new, so what comes then is in order again.
- The answers to 5 and 6 are lost with the link, and 5 6 7 come again while A is owner: 5 and 6 get the kept
  `moved`, which holds for ever, for they may be on their way to somebody else; 7 is `moved` by the rule above.
- The entry node gave 5 to 7 up, its link was away for too long, and goes on with 8 when A owns a new log:
  `answered` is 7, so these can never come any more, and nothing they were to precede was applied before: 8 is.
- B was sent 8 and 9, A gets 10: numbers rise over all owners, `answered` is 9, and A waits for neither.
- A was sent 5 when it owned one log, on a link that is lost to the entry node; that gave 5 up and sent 6 to B, the
  next owner, whose log A takes over as its heir before it reads 5: the frame names another log, so 5 is `moved`.
- A has a new incarnation (`restart`): nothing it kept is worth anything, and no entry node sends any of it again.

The surprising decision: an answer is kept even for a publish that the log has not answered yet, as an empty place;
so what comes again in the meantime is not applied again, and its answer goes out on the newest link.
"""

from collections import deque
from collections.abc import Callable, Container
from typing import Protocol

from msgspec import Raw
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import ABSENT, Publish, Published, ServerPacket

from triode_broker.cluster.forwarded import MOVED, WINDOW_MESSAGES, Flushing, Link, answer_of, packet_of
from triode_broker.cluster.frames import Answer, Answered, Forward, Forwarded, Refusal
from triode_broker.core import own_topics
from triode_broker.core.interfaces import Publisher
from triode_broker.core.shard import Shard

#: When an entry node whose rules put the topic elsewhere may be asked again: nodes are being reconfigured.
RETRY_CONFLICT_MS = 1_000
#: Incarnations of entry nodes that are remembered; then those that were not heard of for longest are forgotten.
MAX_ENTRIES = 256
#: Answers in one frame.
FRAME_ANSWERS = 1_024

Kept = Answer | Refusal | None  # None: its log has not answered yet


class Places(Protocol):
    """What is needed of `core.router.Router`."""

    def publish(
        self, packet: Publish, user: str, now_ms: int, publisher: Publisher | None = None
    ) -> Published | None:
        """Accept a message. Raises Refused."""

    def publish_own(self, packet: Publish, user: str, now_ms: int, publisher: Publisher) -> None:
        """Accept one of the broker's own, on `$…`. Raises Refused."""

    def shard_named(self, name: str) -> Shard | None:
        """The shard of this name."""

    def shard_of(self, topic: str) -> Shard:
        """The shard of a topic."""


class Stream:
    """The publishes of one entry node for one shard: the `Publisher` of them all; their ids are the numbers."""

    __slots__ = (
        "_answers",
        "_dirty",
        "_is_dirty",
        "_kept",
        "_last_moved",
        "_link",
        "_refusals",
        "_router",
        "_settled",
        "_shard",
    )

    def __init__(self, shard: Shard, router: Places, link: Link, dirty: list[Flushing]) -> None:
        self._shard = shard
        self._router = router
        self._link = link
        self._dirty = dirty
        self._is_dirty = False
        self._settled = 0  # up to there the entry node has its answers, and needs none
        self._kept: deque[Kept] = deque()  # of the numbers behind
        self._last_moved = 0
        self._answers: list[Answer] = []  # to be sent
        self._refusals: list[Refusal] = []

    def receive(self, link: Link, frame: Forward, now_ms: int) -> None:
        """Deal with a frame. Raises ValueError for one that no entry node may send."""
        self._link = link
        self._settle(frame.answered)
        shard = self._shard
        is_meant = not frame.log or frame.log == shard.log.name
        if not (shard.is_here and is_meant) or self._last_moved > frame.answered:
            self._pass_on(frame)
            return
        kept, router, answers = self._kept, self._router, self._answers
        due = self._settled + len(kept) + 1
        for row in frame.rows:
            seq, topic = row.seq, row.topic
            if seq != due or len(kept) >= WINDOW_MESSAGES:
                self._repeat(seq)
                continue
            due += 1
            kept.append(None)
            if router.shard_of(topic) is not shard:
                self._misplaced(seq)
                continue
            packet = Publish(  # `forwarded.packet_of`, written out
                topic,
                Raw(row.data) if row.data else ABSENT,
                seq,
                row.message_id,
                row.key,
                row.headers,
                Raw(row.b64) if row.b64 else ABSENT,
                row.ttl_ms,
                row.deliver_at_ms,
            )
            try:
                published = router.publish(packet, row.user, now_ms, self)
            except Refused as refused:
                self._refused(row, refused, now_ms)
                continue
            if published is None:
                continue
            answer = answer_of(published)
            kept[-1] = answer
            answers.append(answer)
        if answers and not self._is_dirty:
            self._mark()

    def _pass_on(self, frame: Forward) -> None:
        """Another node is the owner, or what comes behind something `moved` was written too early."""
        for row in frame.rows:
            if row.seq != self._settled + len(self._kept) + 1 or len(self._kept) >= WINDOW_MESSAGES:
                self._repeat(row.seq)
                continue
            self._kept.append(None)
            self._last_moved = row.seq
            self._refuse(row.seq, MOVED, "the shard is owned by another node", "", "backoff", 0)

    def _settle(self, answered: int) -> None:
        """The entry node will not ask for these (again)."""
        kept = self._kept
        if answered >= self._settled + len(kept):
            kept.clear()
        else:
            for _ in range(answered - self._settled):
                kept.popleft()
        self._settled = max(self._settled, answered)

    def _repeat(self, seq: int) -> None:
        """Say again what became of one. Raises ValueError where the entry node may not have sent it."""
        kept = self._kept
        index = seq - self._settled - 1
        if index == len(kept):
            raise ValueError(f"more than {WINDOW_MESSAGES} publishes of {self._shard.name} wait for their answers")
        if not 0 <= index < len(kept):
            due = self._settled + len(kept) + 1
            raise ValueError(f"publish {seq} of {self._shard.name} where {due} was due")
        if (answer := kept[index]) is not None:
            self._send(answer)

    def _misplaced(self, seq: int) -> None:
        message = f"nodes disagree where this topic belongs: its owner does not have it in {self._shard.name}"
        self._refuse(seq, "conflict", message, "topic", "backoff", RETRY_CONFLICT_MS)

    def _refused(self, row: Forwarded, refused: Refused, now_ms: int) -> None:
        """But the broker's own are let in at another door; clients' `$…` were refused where they came in."""
        if refused.name == ErrorName.BAD_TOPIC and own_topics.is_known(row.topic):
            try:
                self._router.publish_own(packet_of(row, row.seq), row.user, now_ms, self)
                return
            except Refused as again:
                refused = again
        refused.id = row.seq
        self.refuse(refused)

    @property
    def kept(self) -> int:
        """Numbers that the entry node may send again."""
        return len(self._kept)

    # `interfaces.Publisher`

    @property
    def inflight(self) -> int:
        """The bound on a connection's is kept where the connection is."""
        return 0

    @inflight.setter
    def inflight(self, count: int) -> None:
        """It is not counted here."""

    def answer(self, packet: ServerPacket) -> None:
        """One was accepted."""
        assert type(packet) is Published
        index = packet.id - self._settled - 1
        if index < 0:  # the entry node gave it up
            return
        answer = answer_of(packet)
        self._kept[index] = answer
        self._answers.append(answer)
        if not self._is_dirty:
            self._mark()

    def refuse(self, refused: Refused) -> None:
        """One came to nothing."""
        self._refuse(
            refused.id, refused.name, refused.message, refused.field, refused.retry, refused.retry_after_ms
        )

    def _refuse(self, seq: int, name: str, message: str, field: str, retry: str, retry_after_ms: int) -> None:
        index = seq - self._settled - 1
        if index >= 0:
            self._kept[index] = refusal = Refusal(seq, name, message, field, retry, retry_after_ms)
            self._send(refusal)

    def _send(self, answer: Answer | Refusal) -> None:
        if isinstance(answer, Answer):
            self._answers.append(answer)
        else:
            self._refusals.append(answer)
        if not self._is_dirty:
            self._mark()

    def _mark(self) -> None:
        self._is_dirty = True
        self._dirty.append(self)

    def flush(self) -> None:
        """Put what was answered since the last time on the link."""
        self._is_dirty = False
        name, link = self._shard.name, self._link
        answers, self._answers = self._answers, []
        refusals, self._refusals = self._refusals, []
        while len(answers) > FRAME_ANSWERS or len(refusals) > FRAME_ANSWERS:
            link.put(Answered(name, answers[:FRAME_ANSWERS], refusals[:FRAME_ANSWERS]))
            del answers[:FRAME_ANSWERS], refusals[:FRAME_ANSWERS]
        link.put(Answered(name, answers, refusals))


class _Entry:
    """The streams of one incarnation of an entry node, by shard."""

    __slots__ = ("heard", "streams")

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.heard = 0  # the number of its newest frame among all


class Accepting:
    """All streams of an owner."""

    def __init__(self, router: Places, now_ms: Callable[[], int], dirty: list[Flushing]) -> None:
        """`now_ms`: the wall clock. Streams with answers put themselves into `dirty`; who flushes empties that."""
        self._router = router
        self._now_ms = now_ms
        self._dirty = dirty
        self._entries: dict[str, _Entry] = {}  # by incarnation
        self._frames = 0

    def receive(self, link: Link, entry_incarnation: str, frame: Forward) -> None:
        """Deal with publishes that came on the newest link from this incarnation of a node.

        Raises ValueError for what breaks the protocol; the link is to be closed, and what came before it holds.
        """
        entry = self._entries.get(entry_incarnation)
        if entry is None:
            entry = self._meet(entry_incarnation)
        self._frames = entry.heard = self._frames + 1
        stream = entry.streams.get(frame.shard)
        if stream is None:
            shard = self._router.shard_named(frame.shard)
            if shard is None:
                raise ValueError(f"there is no shard {frame.shard!r}")
            stream = entry.streams[frame.shard] = Stream(shard, self._router, link, self._dirty)
        stream.receive(link, frame, self._now_ms())

    def _meet(self, incarnation: str) -> _Entry:
        entries = self._entries
        if len(entries) >= MAX_ENTRIES:
            del entries[min(entries, key=lambda one: entries[one].heard)]
        entry = entries[incarnation] = _Entry()
        return entry

    def forget(self, entry_incarnation: str) -> None:
        """This incarnation will not be heard of again: its process has ended, or it calls itself anew.

        Not while it may come back with publishes that it has not given up (five seconds without a link): those
        would be applied a second time.
        """
        self._entries.pop(entry_incarnation, None)

    def forget_but(self, lingering: Container[str]) -> None:
        """Forget all incarnations but these."""
        for incarnation in [one for one in self._entries if one not in lingering]:
            self.forget(incarnation)

    def restart(self) -> None:
        """This node has a new incarnation: nobody asks it for what the old one was sent."""
        self._entries.clear()

    @property
    def kept(self) -> int:
        """Answers that are kept."""
        return sum(stream.kept for entry in self._entries.values() for stream in entry.streams.values())
