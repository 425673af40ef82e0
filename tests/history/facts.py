"""Facts: what a history says, sorted for the checker. No judgement here."""

from functools import cached_property

import msgspec
from attrs import define, field
from triode_protocol.positions import MAX_INTEGER
from triode_protocol.topics import matches

from tests.history.events import Event, Packet, Rights, Rules
from tests.history.streams import Seen, Stream, content_of, seen


@define
class Attempt:
    """One publish that was sent, and its answer, if any came."""

    t: int
    who: str
    line: int
    topic: str
    message_id: str
    content: str
    key: str
    ms: int = 0
    answered: int = 0  # when
    answered_ms: int = 0
    error: str = ""
    place: Seen | None = None
    level: str = ""
    is_duplicate: bool = False
    is_delayed: bool = False  # answered, its place comes when it is due


@define
class Settled:
    """One delivery of an acknowledged subscription whose ack or reject was answered."""

    name: str
    place: tuple[str, int]
    who: str
    line: int
    t: int = 0  # of the answer
    is_rejected: bool = False


@define
class Look:
    """A history or presence request that was answered."""

    who: str
    action: str
    topic: str
    t: int
    answered: int = 0


@define(slots=False)
class Facts:
    """One history."""

    rules: Rules = field(factory=Rules)
    attempts: list[Attempt] = field(factory=list)
    streams: dict[tuple[str, int], Stream] = field(factory=dict)
    final: list[Seen] = field(factory=list)
    readers: dict[str, list[Seen]] = field(factory=dict)  # the same by who read it
    final_logs: set[str] = field(factory=set)  # that were there at the end
    kills: list[int] = field(factory=list)  # and whatever else may cost a log in memory
    healed: Event | None = None  # the end of the last fault
    nodes: dict[tuple[str, int], str] = field(factory=dict)  # that a connection was made to
    stops: list[tuple[str, int, int]] = field(factory=list)  # of a node: from, to, in ms
    settled: list[Settled] = field(factory=list)
    #: Per connection: (got, since): what comes after `got` was sent by the server after the moment `since`.
    barriers: dict[tuple[str, int], list[tuple[int, int]]] = field(factory=dict)
    lost: set[tuple[str, int]] = field(factory=set)
    looks: list[Look] = field(factory=list)
    rights: dict[str, list[tuple[int, Rights]]] = field(factory=dict)  # by client: since when, and what it may

    def in_force(self, who: str, since: int, until: int) -> list[Rights]:
        """All that a client's rights were at some moment between; none: nobody said that it has bounds."""
        known = self.rights.get(who, [])
        before = [rights for t, rights in known if t <= since]
        between = [rights for t, rights in known if since < t <= until]
        if not before and known:  # until the first of them it might do everything
            return []
        return before[-1:] + between

    def was_allowed(self, who: str, action: str, topic: str, since: int, until: int) -> bool:
        """Whether it was at some moment between."""
        known = self.in_force(who, since, until)
        return not known or any(rights.may(action, topic) for rights in known)

    def stayed_allowed(self, who: str, action: str, topic: str, since: int, until: int) -> bool:
        """Whether it was at every moment between."""
        known = self.rights.get(who, [])
        before = [rights for t, rights in known if t <= since][-1:]
        between = [rights for t, rights in known if since < t <= until]
        return all(rights.may(action, topic) for rights in before + between)

    def sent_after(self, who: str, line: int, t: int) -> int:
        """A moment behind which what came on a connection at `t` was sent by the server."""
        return max((since for got, since in self.barriers[who, line] if got < t), default=0)

    @property
    def was_read_back(self) -> bool:
        """Whether anybody looked at the end."""
        return bool(self.readers)

    @cached_property
    def readable(self) -> set[tuple[tuple[str, int], str, str]]:
        """Place, topic and message id of what everybody could read at the end."""
        found = [{(one.place, one.topic, one.message_id) for one in seen} for seen in self.readers.values()]
        return set.intersection(*found) if found else set()

    @cached_property
    def first_sent(self) -> dict[tuple[str, str], int]:
        """When each message was sent for the first time, by topic and message id."""
        found: dict[tuple[str, str], int] = {}
        for attempt in self.attempts:
            found.setdefault((attempt.topic, attempt.message_id), attempt.t)
        return found

    def is_durable(self, topic: str) -> bool:
        """Whether what is acknowledged on it outlives a crash."""
        return any(matches(filter, topic) for filter in self.rules.durable)

    def is_bounded(self, topic: str) -> bool:
        """Whether messages of it may be gone in good order."""
        return any(matches(filter, topic) for filter in self.rules.bounded) or self.is_expiring(topic)

    def is_expiring(self, topic: str) -> bool:
        """Whether messages of it may be gone without a word."""
        return any(matches(filter, topic) for filter in self.rules.expiring)

    def is_compacted(self, topic: str) -> bool:
        """Whether of it the newest of each key stays."""
        return any(matches(filter, topic) for filter in self.rules.compacted)

    def stopped_ms(self, attempt: Attempt) -> int:
        """How long its node was stopped while it waited for its answer."""
        node = self.nodes.get((attempt.who, attempt.line), "")
        spans = [
            min(end, attempt.answered_ms) - max(begin, attempt.ms) for who, begin, end in self.stops if who == node
        ]
        return sum(span for span in spans if span > 0)

    def handed(self) -> list[Seen]:
        """Everything that any subscription was given."""
        return [step.message for stream in self.streams.values() for step in stream.steps if step.message]

    def acknowledged(self) -> list[tuple[Attempt, Seen]]:
        """The publishes that were answered with a place."""
        return [(attempt, attempt.place) for attempt in self.attempts if attempt.place is not None]

    @cached_property
    def sightings(self) -> list[Seen]:
        """Every mention of a message at its place, in order of time."""
        places = [place for _, place in self.acknowledged()]
        return sorted([*places, *self.handed(), *self.final], key=lambda one: one.t)


@define
class _Request:
    """What was asked on a connection and not answered yet."""

    t: int
    attempt: Attempt | None = None
    look: Look | None = None
    settles: list[Settled] = field(factory=list)
    upto_on: tuple[str, int, int] | None = None  # who, line, sub, where it settles all up to a place


def collect(events: list[Event]) -> Facts:
    """Read a history."""
    collector = _Collector()
    for event in events:
        collector.take(event)
    return collector.facts


class _Collector:
    def __init__(self) -> None:
        self.facts = Facts()
        self._requests: dict[tuple[str, int, int], _Request] = {}
        self._held: dict[tuple[str, int, int], set[tuple[str, int]]] = {}  # deliveries, by who, line, sub
        self._newest: dict[tuple[str, int, int, str], int] = {}  # of these the highest pos, by log
        self._behind: dict[tuple[str, int, int], set[tuple[str, int]]] = {}  # those that came behind a higher one

    def take(self, event: Event) -> None:
        facts, line = self.facts, (event.who, event.line)
        match event.op:
            case "rules":
                facts.rules = msgspec.convert(event.about, Rules)
            case "rights":
                facts.rights.setdefault(event.who, []).append((event.t, msgspec.convert(event.about, Rights)))
            case "kill" | "fault":
                facts.kills.append(event.t)
            case "stop":
                facts.kills.append(event.t)
                facts.stops.append((event.who, event.ms, MAX_INTEGER))
            case "continue":
                facts.stops[:] = [
                    (who, begin, min(end, event.ms) if who == event.who else end)
                    for who, begin, end in facts.stops
                ]
            case "open":
                facts.nodes[line] = event.about.get("node", "")
                facts.barriers[line] = [(event.t, event.t)]
            case "lost":
                facts.lost.add(line)
                for stream in self._streams_on(event):
                    stream.lost(event.t)
            case "heal":
                facts.kills.append(event.t)
                facts.healed = event
            case "final":
                facts.readers[event.who] = []
            case "sent":
                self._sent(event)
            case "got":
                self._got(event)
            case _:
                pass

    def _streams_on(self, event: Event) -> list[Stream]:
        streams = self.facts.streams.values()
        return [stream for stream in streams if (stream.who, stream.line) == (event.who, event.line)]

    def _sent(self, event: Event) -> None:
        packet = event.packet
        request = _Request(event.t)
        if packet["type"] == "publish":
            identity = packet["topic"], packet.get("message_id", ""), content_of(packet), packet.get("key", "")
            request.attempt = Attempt(event.t, event.who, event.line, *identity, ms=event.ms)
            self.facts.attempts.append(request.attempt)
        elif packet["type"] == "subscribe":
            key = event.who, packet["sub"]
            name = packet.get("durable") or packet.get("group") or ""
            stream = self.facts.streams.get(key) or Stream(*key, packet["filter"], name)
            self.facts.streams[key] = stream
            stream.sent(event.line, packet)
        elif packet["type"] in ("history", "presence"):
            request.look = Look(event.who, packet["type"], packet["topic"], event.t)
        elif packet["type"] in ("ack", "nack"):
            request.settles = self._let_go(event)
            request.upto_on = (event.who, event.line, packet["sub"]) if "upto" in packet else None
        if id := packet.get("id"):
            self._requests[event.who, event.line, id] = request

    def _let_go(self, event: Event) -> list[Settled]:
        """What an ack or a reject settles, once it is answered; whatever it names is not held any more."""
        packet = event.packet
        held = self._held.get((event.who, event.line, packet["sub"]), set())
        if "upto" in packet:
            places = {place for place in held if place[0] == packet["log"] and place[1] <= packet["upto"]}
        else:
            numbers = packet["pos"] if isinstance(packet["pos"], list) else [packet["pos"]]
            places = {(packet["log"], pos) for pos in numbers}
        held -= places
        if packet["type"] == "nack" and not packet.get("reject"):
            return []
        name = self.facts.streams[event.who, packet["sub"]].name
        is_rejected = packet["type"] == "nack"
        return [Settled(name, place, event.who, event.line, is_rejected=is_rejected) for place in sorted(places)]

    def _got(self, event: Event) -> None:
        packet, line = event.packet, (event.who, event.line)
        if packet["type"] == "delivery":
            self._note_delivery((*line, packet["sub"]), packet["message"])
        if (request := self._requests.pop((*line, packet.get("id", 0)), None)) is not None:
            # Where there are several nodes, one answers for itself what does not concern the home of a name.
            if packet["type"] == "acked" or not self.facts.nodes[line]:
                self.facts.barriers[line].append((event.t, request.t))
            if request.attempt is not None:
                request.attempt.answered_ms = event.ms
                _answer(request.attempt, event.t, packet)
            elif request.look is not None and packet["type"] == request.look.action:
                request.look.answered = event.t
                self.facts.looks.append(request.look)
            elif packet["type"] == "acked":
                for settled in self._surely_settled(request):
                    settled.t = event.t
                    self.facts.settled.append(settled)
        if event.who in self.facts.readers:
            self._read_back(event)
        else:
            for stream in self._streams_on(event):
                stream.got(event.t, packet)

    def _note_delivery(self, sub: tuple[str, int, int], message: Packet) -> None:
        log, pos = place = message["log"], message["pos"]
        self._held.setdefault(sub, set()).add(place)
        if pos < self._newest.setdefault((*sub, log), pos):
            self._behind.setdefault(sub, set()).add(place)
        self._newest[(*sub, log)] = max(pos, self._newest[(*sub, log)])

    def _surely_settled(self, request: _Request) -> list[Settled]:
        """SPEC 9.2.6: `upto` may leave out what came, or was on its way, behind a newer one when it was heard."""
        if not request.upto_on:
            return request.settles
        behind = self._behind.get(request.upto_on, set())
        return [settled for settled in request.settles if settled.place not in behind]

    def _read_back(self, event: Event) -> None:
        packet = event.packet
        messages = packet["messages"] if packet["type"] == "history" else []
        if packet["type"] == "delivery":
            messages = [packet["message"]]
        elif packet["type"] == "message":
            messages = [packet]
        read = [seen(event.t, message) for message in messages]
        self.facts.final += read
        self.facts.readers[event.who] += read
        self.facts.final_logs.update(packet.get("after", ()))


def _answer(attempt: Attempt, t: int, packet: Packet) -> None:
    attempt.answered = t
    if packet["type"] == "error":
        attempt.error = packet["name"]
    elif packet.get("delayed"):
        attempt.is_delayed = True
    elif packet.get("pos"):
        attempt.place = Seen(
            t,
            attempt.topic,
            packet["log"],
            packet["pos"],
            packet["offset"],
            attempt.message_id,
            attempt.content,
            attempt.key,
        )
        attempt.level, attempt.is_duplicate = packet["level"], packet.get("duplicate", False)
