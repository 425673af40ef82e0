"""Tracing: a publish with `trace`, and the way its publisher is told of what becomes of it (SPEC 3.4.18, 4.12).

Knows the node it came in at, and the others behind `Elsewhere`. What happens on one node is found by
`core.observing`; here it is asked for, gathered and ended. The surprising decision: nothing of a message says
that it is traced, neither in memory nor on disk nor on the links: nodes are asked to look out for it before it
sets out, and are told its place once it has one. So messages that nobody traces are exactly what they were.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.hops import COMPLETE, INCOMPLETE, TRUNCATED, Hop
from triode_protocol.packets import Publish, Published, ServerPacket, Traced

from triode_broker.config import Limits
from triode_broker.core.consumers import Consumers
from triode_broker.core.interfaces import Publisher
from triode_broker.core.observing import Observation
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.core.timers import Timers

#: How long a message is followed.
TRACE_MS: Final = 5_000
#: What other nodes say is waited for a bit longer: their time began later.
ANSWER_MS: Final = 500
#: Of one message.
MAX_HOPS: Final = 100
#: Messages that are followed at a time: of this node's clients, and for each other node.
MAX_TRACES: Final = 64
RETRY_MS: Final = 1_000

#: Told what another node says, in pieces, and whether that is all; None: it did not answer.
Take = Callable[[str, Sequence[Hop] | None, bool], None]


class Elsewhere(Protocol):
    """The other nodes of the cluster."""

    def owner_of(self, shard: Shard) -> str:
        """The node that gives out its numbers; "" where that is not known."""

    def watch(self, trace: str, topic: str, take: Take) -> Sequence[str]:
        """Ask all nodes that are reached to look out for a message before it is published; which they are."""

    def look_for(self, trace: str, log: str, pos: int) -> None:
        """It has this place: they say what becomes of it, each until it has said all."""

    def forget(self, trace: str) -> None:
        """Nobody wants to know any more. Idempotent."""


class Alone:
    """There are no others."""

    def __init__(self, node: str) -> None:
        self._node = node

    def owner_of(self, shard: Shard) -> str:
        """This node, of all there are."""
        return self._node

    def watch(self, trace: str, topic: str, take: Take) -> Sequence[str]:
        """Nobody."""
        return ()

    def look_for(self, trace: str, log: str, pos: int) -> None:
        """Nobody."""

    def forget(self, trace: str) -> None:
        """Nobody."""


class Tracing:
    """All messages that are followed from this node on."""

    def __init__(self, node: str, router: Router, consumers: Consumers, limits: Limits, timers: Timers) -> None:
        self.node = node
        self._consumers = consumers
        self.router = router
        self.timers = timers
        self._limits = limits
        self.now_us: Callable[[], int] = lambda: timers.now_ms * 1000  # the wall clock; better ones are injected
        self.elsewhere: Elsewhere = Alone(node)
        self._traces: dict[Trace, None] = {}
        self._second = 0
        self._counts = Counter[int]()  # traced publishes in this second, by publisher
        self._serial = 0

    def publish(
        self, packet: Publish, user: str, now_ms: int, publisher: Publisher, connection: str, *, may_name: bool
    ) -> None:
        """As `Router.publish`, answered through the publisher. Raises Refused.

        `may_name`: durable subscriptions and groups are named.
        """
        self._check(packet, publisher)
        trace = self.begin(packet.topic, packet.id, publisher, connection, may_name=may_name)
        packet.trace = False
        try:
            acknowledgement = self.router.publish(packet, user, now_ms, trace)
        except Refused:
            trace.close()
            raise
        if acknowledgement is not None:
            trace.answer(acknowledgement)

    def begin(self, topic: str, id: int, publisher: Publisher, connection: str, *, may_name: bool) -> "Trace":
        """Look out for what is about to be published there. Raises Refused."""
        if len(self._traces) >= MAX_TRACES:
            message = f"{MAX_TRACES} messages are traced on this node already"
            raise Refused(ErrorName.OVERLOADED, message, retry_after_ms=RETRY_MS)
        self._serial += 1
        trace = Trace(self, f"{self.node}/{self._serial}", topic, id, publisher, connection, may_name)
        self._traces[trace] = None
        return trace

    def _check(self, packet: Publish, publisher: Publisher) -> None:
        most = self._limits.max_traces_per_second
        if not most:
            raise Refused(ErrorName.UNSUPPORTED, "this node does not offer trace", field="trace")
        if not packet.id:
            raise Refused(ErrorName.MALFORMED, "a publish with trace has an id", field="trace")
        second = self.timers.steady_ms() // 1000
        if second != self._second:
            self._second = second
            self._counts.clear()
        if self._counts[id(publisher)] >= most:
            message = f"a connection traces at most {most} messages a second"
            raise Refused(ErrorName.RATE_LIMITED, message, field="trace", retry_after_ms=RETRY_MS)
        self._counts[id(publisher)] += 1

    def observe(self, topic: str) -> Observation:
        """What becomes of messages of a topic on this node, from now on."""
        give_up_ms = self.timers.steady_ms() + TRACE_MS
        return Observation(self.node, self.router, self._consumers, self.timers, self.now_us, topic, give_up_ms)

    def ended(self, trace: "Trace") -> None:
        """It is followed no more. Idempotent."""
        self._traces.pop(trace, None)

    @property
    def count(self) -> int:
        """How many are followed."""
        return len(self._traces)


class Trace:
    """One message. Stands between the router and its publisher, to hear of its place."""

    def __init__(
        self,
        tracing: Tracing,
        name: str,
        topic: str,
        id: int,
        publisher: Publisher,
        connection: str,
        may_name: bool,
    ) -> None:
        self._tracing = tracing
        self._name = name
        self._id = id
        self._publisher = publisher
        self._may_name = may_name
        self._told = 0  # hops
        self._matched = 0
        self._is_here = False
        self._is_whole = True  # nobody has failed to say what became of it
        self._is_over = False
        self._shard = tracing.router.shard_of(topic)
        owner = tracing.elsewhere.owner_of(self._shard)
        self._hops = [
            Hop("accepted", tracing.node, tracing.now_us(), connection=connection),
            Hop("owner", tracing.node, tracing.now_us(), shard=self._shard.name, to=owner),
        ]
        self._asked = dict.fromkeys(tracing.elsewhere.watch(name, topic, self._take))
        if owner in self._asked:
            self._hops.append(Hop("forwarded", tracing.node, tracing.now_us(), to=owner))
        self._observation = tracing.observe(topic)
        timers = tracing.timers
        timers.at(timers.steady_ms() + 2 * TRACE_MS + ANSWER_MS, self._give_up)  # even if it gets no answer

    # Between the router and the publisher (`interfaces.Publisher`)

    @property
    def inflight(self) -> int:
        """The publisher's."""
        return self._publisher.inflight

    @inflight.setter
    def inflight(self, count: int) -> None:
        self._publisher.inflight = count

    def refuse(self, refused: Refused) -> None:
        """It was not published."""
        self.close()
        self._publisher.refuse(refused)

    def answer(self, packet: ServerPacket) -> None:
        """It has its place."""
        self._publisher.answer(packet)
        if self._is_over or not isinstance(packet, Published):
            return
        node, at_us = self._tracing.node, self._tracing.now_us()
        is_here = self._shard.is_here
        if packet.pos:
            kind = "position" if is_here else "answered"
            self._hops.append(Hop(kind, node, at_us, log=packet.log, pos=packet.pos, offset=packet.offset))
        if packet.delayed or packet.duplicate:
            reason = "delayed" if packet.delayed and not packet.duplicate else "duplicate"
            kind = "kept" if reason == "delayed" else "dropped"
            self._hops.append(Hop(kind, node, at_us, level=packet.level, reason=reason))
            self._flush(COMPLETE)
            return
        if is_here:
            self._hops.append(Hop("stored", node, at_us, level=packet.level))
        self._tracing.elsewhere.look_for(self._name, packet.log, packet.pos)
        timers = self._tracing.timers
        timers.at(timers.steady_ms() + TRACE_MS + ANSWER_MS, self._give_up)
        self._observation.look_for(packet.log, packet.pos, self._observed)
        self._flush()

    # What becomes of it

    def _observed(self, hops: Sequence[Hop], is_over: bool) -> None:
        self._is_here = self._is_here or is_over
        self._gather(hops)
        self._check_end()

    def _take(self, node: str, hops: Sequence[Hop] | None, is_over: bool) -> None:
        """From another node."""
        if self._is_over or node not in self._asked:
            return
        if hops is None:
            self._unanswered(node)
        else:
            self._gather(hops)
        if is_over or hops is None:
            del self._asked[node]
        self._check_end()

    def _gather(self, hops: Sequence[Hop]) -> None:
        for hop in hops:
            if hop.names and not self._may_name:
                hop.names = []
            if hop.hop == "matched" or hop.reason == "permission":
                self._matched += hop.count
            self._is_whole = self._is_whole and hop.hop != "waiting"
        self._hops += hops

    def _unanswered(self, node: str) -> None:
        self._is_whole = False
        self._hops.append(Hop("unanswered", self._tracing.node, self._tracing.now_us(), to=node))

    def _check_end(self) -> None:
        if self._is_over:
            return
        if self._is_here and not self._asked:
            if not self._matched and self._is_whole:
                self._hops.append(
                    Hop("dropped", self._tracing.node, self._tracing.now_us(), reason="no_subscriber")
                )
            self._flush(COMPLETE if self._is_whole else INCOMPLETE)
        else:
            self._flush()

    def _give_up(self, now_ms: int) -> None:
        """The time is up."""
        if self._is_over:
            return
        for node in self._asked:
            self._unanswered(node)
        self._flush(INCOMPLETE)

    def _flush(self, end: str = "") -> None:
        """Tell what is known by now."""
        hops, self._hops = self._hops, []
        room = MAX_HOPS - self._told
        if len(hops) > room:
            hops, end = hops[:room], TRUNCATED
        self._told += len(hops)
        if end:
            self.close()
        if hops or end:
            self._publisher.answer(Traced(self._id, hops, end))

    def close(self) -> None:
        """Follow it no more. Idempotent."""
        if not self._is_over:
            self._is_over = True
            self._observation.close()
            self._tracing.elsewhere.forget(self._name)
            self._tracing.ended(self)
