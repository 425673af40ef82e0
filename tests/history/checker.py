"""The one checker: the invariants of the guarantees, judged over a whole history, each by one function.

Knows nothing of how a history was made: the crash suite, the power cuts and later the cluster use the same. The
surprising decision: it trusts nobody's count. A hole is found twice, by the offsets a subscriber saw (I6) and by
what everybody else knows to stand at the places it passed over (I6 too), since a broker that skips a message may
well skip its number with it.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from attrs import frozen
from triode_protocol.positions import MAX_INTEGER
from triode_protocol.topics import matches

from tests.history.events import Event
from tests.history.facts import Attempt, Facts, collect
from tests.history.streams import Position, Seen, Step, Stream

Place = tuple[str, int]
#: After the last fault a publish succeeds (I14), and in any case it is answered (I15).
SUCCEED_MS = 5_000
ANSWER_MS = 10_000


@frozen
class Violation:
    """A promise that was broken, and the events that show it."""

    invariant: str
    text: str
    events: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text} (events {', '.join(map(str, self.events))})"


def check(events: Sequence[Event]) -> list[Violation]:
    """Everything that is wrong with a history."""
    facts = collect(list(events))
    return [violation for invariant in INVARIANTS for violation in invariant(facts)]


def explain(violations: Iterable[Violation], events: Sequence[Event], most: int = 10) -> str:
    """For people: the first violations, each with its events as they were recorded."""
    found = list(violations)
    lines = [f"{len(found)} violations"]
    for violation in found[:most]:
        lines.append(str(violation))
        lines += [f"    {_short(msgspec.json.encode(events[t - 1]).decode())}" for t in violation.events]
    return "\n".join(lines)


def _short(line: str) -> str:
    """Without the length of its payload."""
    return re.sub(r"(.)\1{9,}", r"\1…", line)[:600]


def i1_acknowledged_is_readable(facts: Facts) -> Iterator[Violation]:
    """I1: acked − readable = ∅; in memory only while nothing has happened since, or the log is still there."""
    readable = facts.readable
    if not facts.was_read_back:
        yield Violation("reading", "nothing was read back at the end", ())
        return
    last_kill = facts.kills[-1] if facts.kills else 0
    for attempt, place in facts.acknowledged():
        is_quiet = attempt.t > last_kill and (facts.healed is None or attempt.ms > facts.healed.ms + SUCCEED_MS)
        is_promised = attempt.level != "memory" or is_quiet or place.log in facts.final_logs
        if is_promised and not facts.is_bounded(place.topic):
            if (place.place, place.topic, place.message_id) not in readable:
                yield Violation("I1", f"{_say(place)} was acknowledged and is lost", (attempt.t, attempt.answered))
            if facts.is_durable(place.topic) and attempt.level == "memory":
                yield Violation("I1", f"{_say(place)} is of a durable topic", (attempt.t, attempt.answered))


def i1_delayed_becomes_readable(facts: Facts) -> Iterator[Violation]:
    """I1: what was taken for later on a durable topic is there at the end, which is after it was due."""
    readable = {(one.topic, one.message_id) for one in facts.final}
    for attempt in facts.attempts:
        is_promised = (
            facts.was_read_back
            and attempt.is_delayed
            and facts.is_durable(attempt.topic)
            and not facts.is_bounded(attempt.topic)
        )
        if is_promised and (attempt.topic, attempt.message_id) not in readable:
            text = f"{attempt.message_id} on {attempt.topic} was taken for later and is lost"
            yield Violation("I1", text, (attempt.t, attempt.answered))


def i1_newest_of_a_key_is_readable(facts: Facts) -> Iterator[Violation]:
    """I1 on compacted topics: what was acknowledged is there, or something newer of its key."""
    newest: dict[tuple[str, str, str], int] = {}
    for one in facts.final:
        slot = one.log, one.topic, one.key
        newest[slot] = max(one.pos, newest.get(slot, 0))
    for attempt, place in facts.acknowledged():
        is_promised = facts.is_durable(place.topic) and facts.is_compacted(place.topic) and facts.was_read_back
        if is_promised and newest.get((place.log, place.topic, place.key), 0) < place.pos:
            text = f"{_say(place)} was acknowledged, and the state of {place.key} is older"
            yield Violation("I1", text, (attempt.t, attempt.answered))


def i2_nothing_from_nowhere(facts: Facts) -> Iterator[Violation]:
    """I2: read − attempted = ∅, contents included."""
    first: dict[tuple[str, str, str], int] = {}
    for attempt in facts.attempts:
        first.setdefault((attempt.topic, attempt.message_id, attempt.content), attempt.t)
    for one in facts.sightings:
        if not one.topic.startswith("$") and first.get((one.topic, one.message_id, one.content), one.t) >= one.t:
            yield Violation("I2", f"{_say(one)} was never published with {one.content}", (one.t,))


def i3_one_message_at_a_place(facts: Facts) -> Iterator[Violation]:
    """I3: (log, pos) and (topic, log, offset) name one message, for everybody and for ever."""
    by_pos: dict[Place, Seen] = {}
    by_offset: dict[tuple[str, str, int], Seen] = {}
    for one in facts.sightings:
        first = by_pos.setdefault(one.place, one)
        if _identity(first) != _identity(one):
            yield Violation("I3", f"{_say(first)} and {_say(one)} have one place", (first.t, one.t))
            continue
        first = by_offset.setdefault((one.topic, one.log, one.offset), one)
        if first.pos != one.pos:
            yield Violation("I3", f"{_say(first)} and {_say(one)} have one offset", (first.t, one.t))


def _identity(one: Seen) -> tuple[str, int, str, str]:
    return one.topic, one.offset, one.message_id, one.content


def i4_publishers_keep_their_order(facts: Facts) -> Iterator[Violation]:
    """I4: per connection and log places rise in the order of acceptance, which is the order of sending."""
    times = _times_sent(facts)
    final = {(one.topic, one.message_id): one for one in facts.final}
    newest: dict[tuple[str, int, str], tuple[Attempt, Seen]] = {}
    for attempt in facts.attempts:
        place = None if attempt.is_duplicate else attempt.place
        if not attempt.answered and times[attempt.topic, attempt.message_id] == 1:
            place = final.get((attempt.topic, attempt.message_id))
        if place is None:
            continue
        key = attempt.who, attempt.line, place.log
        before = newest.get(key)
        if before is not None and before[1].pos >= place.pos:
            events = before[0].t, before[1].t, attempt.t, place.t
            yield Violation("I4", f"{_say(place)} was sent after {_say(before[1])}", events)
        newest[key] = attempt, place


def i5_nothing_twice(facts: Facts) -> Iterator[Violation]:
    """I5: an unacknowledged subscription is handed nothing twice, over all its connections."""
    for stream in _plain(facts):
        places: dict[Place, Seen] = {}
        ids: dict[tuple[str, str, str], Seen] = {}
        top: dict[str, int] = {}
        asked: Position = {}
        for step in stream.steps:
            asked = step.asked or asked if step.kind == "subscribed" else asked
            if _goes_back(step, top, asked):
                places.clear()
                ids.clear()
            if (one := step.message) is None:
                continue
            top[one.log] = max(one.pos, top.get(one.log, 0))
            first = places.setdefault(one.place, one)
            if first is one and one.message_id:
                first = ids.setdefault((one.log, one.topic, one.message_id), one)
            if first is not one:
                yield Violation("I5", f"{_of(stream)} was handed {_say(one)} twice", (first.t, one.t))


def i6_offsets_skip_nothing(facts: Facts) -> Iterator[Violation]:
    """I6: offset ≠ last + 1 ⇒ a gap between, prev ≤ last, offset = pos, or live on a topic that expires."""
    for stream in _plain(facts):
        last: dict[tuple[str, str], Seen | None] = {}
        begun_at_nothing: set[str] = set()
        was_filtered = False
        for step in stream.steps:
            if step.kind == "gap" or (step.kind == "subscribed" and step.asked is None):
                last.clear()
                empty = {log for log, pos in step.after.items() if pos == 0 and step.kind == "subscribed"}
                begun_at_nothing = empty
            if step.kind == "subscribed":
                if step.is_filtered or was_filtered:  # rights may have kept some topics from it until now
                    last.clear()
                    begun_at_nothing = set()
                was_filtered = step.is_filtered
            if (one := step.message) is None:
                continue
            key = one.topic, one.log
            before = last.get(key)
            is_known = before is not None or (one.log in begun_at_nothing and not facts.is_bounded(one.topic))
            if (
                is_known
                and not step.is_snapshot
                and not _follows(facts, step, one, before.offset if before else 0)
            ):
                events = (before.t, one.t) if before else (one.t,)
                number = before.offset if before else 0
                text = f"{_of(stream)} was handed {_say(one)} after offset {number} and told of no gap"
                yield Violation("I6", text, events)
            last[key] = one


def _follows(facts: Facts, step: Step, one: Seen, last: int) -> bool:
    if one.offset == last + 1 or one.offset == one.pos:
        return True
    if step.is_delivery:
        return 0 <= step.prev <= last
    return one.offset > last and facts.is_expiring(one.topic)


def i6_places_hide_nothing(facts: Facts) -> Iterator[Violation]:
    """I6: a position moves over a message that was due only by handing it over or by a gap."""
    known = _Known(facts)
    for stream in _plain(facts):
        walk = _Walk(facts, known, stream)
        for step in stream.steps:
            yield from walk.take(step)


def i6_new_logs_are_announced(facts: Facts) -> Iterator[Violation]:
    """I6, R6: the first message of a log comes behind a `subscribed` or a `gap` that has it in its position."""
    for stream in _plain(facts):
        for step in stream.steps:
            if (one := step.message) is not None and one.log not in step.before:
                text = f"{_of(stream)} was handed {_say(one)}, of a log that is not in its position"
                yield Violation("I6", text, (one.t,))


class _Walk:
    """One subscription's way through its logs, and what it passes over."""

    def __init__(self, facts: Facts, known: "_Known", stream: Stream) -> None:
        self._facts = facts
        self._known = known
        self._stream = stream
        self._position: dict[str, int] = {}
        self._owed: set[str] = set()  # logs whose loss has to be told before anything else of them
        self._in_gap = False  # told of a gap, or begun with what is held, and not live since
        self._had: set[str] = set()  # topics that went on since
        self._last = 0  # when it was told something

    def take(self, step: Step) -> Iterator[Violation]:
        """The next step."""
        if step.kind == "gap" or (step.kind == "subscribed" and step.asked is None):
            self._owed.clear()
            self._had.clear()
            self._in_gap = not step.is_live
        elif step.kind != "lost":
            if step.kind == "subscribed" and step.asked is not None:
                self._owed = {log for log in step.after if log not in step.asked}
            yield from self._move(step)
        self._position, self._last = step.after, step.t

    def _move(self, step: Step) -> Iterator[Violation]:
        if (one := step.message) is not None:
            yield from self._passed(step, one.log, one.pos - 1)
            self._had.add(one.topic)
        else:
            for log in step.after.keys() & self._position.keys():
                yield from self._passed(step, log, step.after[log])
        if log := min(self._owed & _goes_on_in(step), default=""):
            text = f"{_of(self._stream)} goes on in {log}, where it had no position, and was told of no gap"
            yield Violation("I6", text, (step.t,))
            self._owed.clear()
        if step.is_live:
            self._in_gap = False

    def _passed(self, step: Step, log: str, upto: int) -> Iterator[Violation]:
        """What is known to stand between the position and `upto`, which was not handed over."""
        if log not in self._position or step.is_snapshot:
            return
        for one in self._known.between(self._stream.filter, log, self._position[log], upto):
            # Retention takes the oldest of a topic: what a gap is about ends where the topic goes on.
            if not _stayed_allowed(self._facts, self._stream, step, one, step.t):
                continue
            if not (self._in_gap and self._facts.is_bounded(one.topic) and one.topic not in self._had):
                text = f"{_of(self._stream)} was never handed {_say(one)} and told of no gap"
                yield Violation("I6", text, (one.t, self._last, step.t))


def _stayed_allowed(facts: Facts, stream: Stream, step: Step, one: Seen, until: int) -> bool:
    """Whether rights kept nothing of it from a subscription."""
    actions = ("subscribe", "history") if step.is_past else ("subscribe",)
    since = facts.first_sent.get((one.topic, one.message_id), one.t)
    return all(facts.stayed_allowed(stream.who, action, one.topic, since, until) for action in actions)


def i14_everybody_catches_up(facts: Facts) -> Iterator[Violation]:
    """I14: at the end whoever is connected has had everything, or was told what is missing."""
    known = _Known(facts)
    for stream in _plain(facts):
        if stream.steps and stream.steps[-1].kind != "lost":
            # Logs that were there at the end are due to everybody, whether they knew them or not.
            for log, pos in (dict.fromkeys(sorted(facts.final_logs), 0) | stream.position).items():
                for one in known.between(stream.filter, log, pos, MAX_INTEGER):
                    if not _stayed_allowed(facts, stream, stream.steps[-1], one, MAX_INTEGER):
                        continue
                    text = f"{_of(stream)} was never handed {_say(one)}"
                    yield Violation("I14", text, (one.t, stream.steps[-1].t))


def _goes_on_in(step: Step) -> set[str]:
    """The logs in which more is said than where the position stands."""
    if step.message is not None:
        return {step.message.log}
    return set(step.after) if step.kind == "moved" and step.is_live else set()


def i7_numbers_do_not_go_back(facts: Facts) -> Iterator[Violation]:
    """I7: what is sent after an answer gets a higher pos in that log, and a higher offset in that topic."""
    answers = sorted(facts.acknowledged(), key=lambda one: one[0].answered)
    top: dict[tuple[str, str], tuple[int, Seen]] = {}
    done = 0
    for attempt in facts.attempts:
        while done < len(answers) and answers[done][0].answered < attempt.t:
            place = answers[done][1]
            for key, number in _numbers(place):
                if key not in top or top[key][0] < number:
                    top[key] = number, place
            done += 1
        if attempt.place is None or attempt.is_duplicate:
            continue
        for key, number in _numbers(attempt.place):
            if key in top and top[key][0] >= number:
                events = top[key][1].t, attempt.t, attempt.answered
                yield Violation("I7", f"{_say(attempt.place)} came after {_say(top[key][1])}", events)


def _numbers(one: Seen) -> tuple[tuple[tuple[str, str], int], ...]:
    """The two that must rise: of its log, and of its topic there."""
    return ((one.log, ""), one.pos), ((one.log, one.topic), one.offset)


def i8_delivered_stays(facts: Facts) -> Iterator[Violation]:
    """I8: what anybody was handed of a durable topic is still there at the end."""
    readable = facts.readable
    told: set[Place] = set()
    for one in facts.handed():
        is_promised = facts.was_read_back and facts.is_durable(one.topic) and not facts.is_bounded(one.topic)
        if one.place in told or not is_promised:
            continue
        if (one.place, one.topic, one.message_id) not in readable:
            told.add(one.place)
            yield Violation("I8", f"{_say(one)} was delivered and is lost", (one.t,))


def i9_sent_again_is_stored_once(facts: Facts) -> Iterator[Violation]:
    """I9: one message_id on one topic has one place in a log, whoever tells of it."""
    first: dict[tuple[str, str, str], Seen] = {}
    for one in facts.sightings:
        if one.message_id and not one.topic.startswith("$"):
            before = first.setdefault((one.log, one.topic, one.message_id), one)
            if before.pos != one.pos:
                yield Violation("I9", f"{_say(before)} is stored again as {_say(one)}", (before.t, one.t))


def i9_sent_once_is_stored_once(facts: Facts) -> Iterator[Violation]:
    """I9: what was sent one time has one place, in whatever log: nobody else may send it again."""
    times: dict[tuple[str, str, str], int] = defaultdict(int)
    for attempt in facts.attempts:
        times[attempt.topic, attempt.message_id, attempt.content] += 1
    first: dict[tuple[str, str, str], Seen] = {}
    for one in facts.sightings:
        key = one.topic, one.message_id, one.content
        before = first.setdefault(key, one)
        if times.get(key) == 1 and before.place != one.place:
            text = f"{_say(before)} was sent once and stored again as {_say(one)}"
            yield Violation("I9", text, (before.t, one.t))


def i10_places_rise(facts: Facts) -> Iterator[Violation]:
    """I10: per unacknowledged subscription and log pos rises strictly, over all topics."""
    for stream in _plain(facts):
        top: dict[str, Seen] = {}
        asked: Position = {}
        for step in stream.steps:
            asked = step.asked or asked if step.kind == "subscribed" else asked
            if _goes_back(step, {log: one.pos for log, one in top.items()}, asked):
                top.clear()
            if (one := step.message) is None:
                continue
            before = top.get(one.log)
            if before is not None and before.pos >= one.pos:
                text = f"{_of(stream)} was handed {_say(one)} after {_say(before)}"
                yield Violation("I10", text, (before.t, one.t))
            top[one.log] = one


def i12_what_is_handed_over_is_allowed(facts: Facts) -> Iterator[Violation]:
    """I12: delivered ⇒ allowed at a moment at which it can have entered the connection's outbox."""
    first = facts.first_sent
    for stream in facts.streams.values():
        action = "consume" if stream.name else "subscribe"
        for step in stream.steps:
            if (one := step.message) is None:
                continue
            begin = max(facts.sent_after(stream.who, step.line, step.t), first.get((one.topic, one.message_id), 0))
            if not facts.was_allowed(stream.who, action, one.topic, begin, step.t):
                text = f"{_of(stream)} was handed {_say(one)}, which it was not allowed"
                yield Violation("I12", text, (begin, step.t))


def i12_what_is_accepted_is_allowed(facts: Facts) -> Iterator[Violation]:
    """I12: accepted ⇒ allowed at a moment between sending and the answer, or its first sight."""
    times = _times_sent(facts)
    first: dict[tuple[str, str], int] = {}
    for one in facts.sightings:
        first.setdefault((one.topic, one.message_id), one.t)
    for attempt in facts.attempts:
        key = attempt.topic, attempt.message_id
        is_seen = key in first and times[key] == 1
        if not is_seen and (not attempt.answered or attempt.error):
            continue
        until = min(attempt.answered or MAX_INTEGER, first.get(key, MAX_INTEGER))
        if not facts.was_allowed(attempt.who, "publish", attempt.topic, attempt.t, until):
            text = (
                f"{attempt.message_id} on {attempt.topic} was accepted from {attempt.who}, who may not publish it"
            )
            yield Violation("I12", text, (attempt.t, until))


def i12_what_is_looked_at_is_allowed(facts: Facts) -> Iterator[Violation]:
    """I12: an answer to a history or presence request ⇒ allowed at a moment between."""
    for look in facts.looks:
        if not facts.was_allowed(look.who, look.action, look.topic, look.t, look.answered):
            text = f"{look.who} was told the {look.action} of {look.topic}, which it was not allowed"
            yield Violation("I12", text, (look.t, look.answered))


def i14_publishes_succeed_again(facts: Facts) -> Iterator[Violation]:
    """I14: a while after the last fault every publish is taken."""
    for attempt in facts.attempts:
        if facts.healed is not None and attempt.error and attempt.ms > facts.healed.ms + SUCCEED_MS:
            text = (
                f"{attempt.message_id} on {attempt.topic} was refused, {attempt.error}, long after all was healed"
            )
            yield Violation("I14", text, (facts.healed.t, attempt.t, attempt.answered))


def i15_every_publish_is_answered(facts: Facts) -> Iterator[Violation]:
    """I15: no publish is met with silence while its connection lives, and its node is not stopped."""
    for attempt in facts.attempts:
        if not attempt.answered and (attempt.who, attempt.line) not in facts.lost:
            yield Violation("I15", f"{attempt.message_id} on {attempt.topic} was never answered", (attempt.t,))
        late_ms = attempt.answered_ms - attempt.ms - facts.stopped_ms(attempt)
        if attempt.answered and late_ms > ANSWER_MS:
            text = f"{attempt.message_id} on {attempt.topic} was answered after {late_ms} ms"
            yield Violation("I15", text, (attempt.t, attempt.answered))


def g3_readers_agree(facts: Facts) -> Iterator[Violation]:
    """G3: at the end every node has the same to say."""
    told: set[Place] = set()
    for one in facts.final:
        is_there = (one.place, one.topic, one.message_id) in facts.readable
        if not is_there and not facts.is_bounded(one.topic) and one.place not in told:
            told.add(one.place)
            yield Violation("G3", f"{_say(one)} can be read from some nodes only", (one.t,))


def a1_everything_is_delivered(facts: Facts) -> Iterator[Violation]:
    """G5: an acknowledged subscription gets every acknowledged publish, a gap that covers it, or a dead letter."""
    for name, streams in _acknowledged(facts).items():
        told = {step.message.place for stream in streams for step in stream.steps if step.message}
        gaps = [step for stream in streams for step in stream.steps if step.kind == "gap"]
        dead = _dead(facts, name)
        begin = min(
            (step for stream in streams for step in stream.steps if step.kind == "subscribed"),
            key=lambda step: step.t,
            default=None,
        )
        for attempt, one in facts.acknowledged() if begin is not None else ():
            is_due = matches(streams[0].filter, one.topic) and not facts.is_expiring(one.topic)
            if not is_due or begin is None or one.pos <= begin.after.get(one.log, 0):
                continue
            first = facts.first_sent[one.topic, one.message_id]
            if facts.is_bounded(one.topic) and first < begin.t:  # maybe not held any more
                continue
            if one.place in told | dead or any(_may_have_taken(facts, gap, first, one) for gap in gaps):
                continue
            if facts.is_durable(one.topic) or not facts.kills:
                text = f"subscription {name} was never given {_say(one)} and told of no gap"
                yield Violation("G5", text, (attempt.t, attempt.answered))


def _may_have_taken(facts: Facts, gap: Step, first: int, one: Seen) -> bool:
    """Whether a gap of an acknowledged subscription can be about this message."""
    if gap.reason == "reset":
        return one.log not in gap.after
    if gap.reason == "partition":  # a source that was reached for the first time after this
        return one.log not in gap.before and one.pos <= gap.after.get(one.log, 0)
    return facts.is_bounded(one.topic) and gap.t > first


def a2_settled_stays_settled(facts: Facts) -> Iterator[Violation]:
    """G5: what was acknowledged, and that answered, does not come again, not even after a crash."""
    settled: dict[tuple[str, Place], int] = {}
    for one in facts.settled:
        settled.setdefault((one.name, one.place), one.t)
    own = {(one.name, one.place, one.who, one.line): one.t for one in facts.settled}
    for name, streams in _acknowledged(facts).items():
        for stream in streams:
            for step in stream.steps:
                if step.message is None or (name, step.message.place) not in settled:
                    continue
                t = settled[name, step.message.place]
                mine = own.get((name, step.message.place, stream.who, step.line), step.t)
                if _since(facts, stream.who, step) > t or mine < step.t:
                    text = f"subscription {name} was given {_say(step.message)} again after its ack was answered"
                    yield Violation("G5", text, (t, step.t))


def a3_rejected_is_a_dead_letter(facts: Facts) -> Iterator[Violation]:
    """G5: what was rejected, and that answered, is in the subscription's dead letters."""
    letters = {name: _dead(facts, name) for name in {one.name for one in facts.settled if one.is_rejected}}
    for one in facts.settled:
        if facts.was_read_back and one.is_rejected and one.place not in letters[one.name]:
            text = f"log {one.place[0]}, pos {one.place[1]} was rejected on {one.name} and is no dead letter"
            yield Violation("G5", text, (one.t,))


def _dead(facts: Facts, name: str) -> set[Place]:
    """The places of the messages that became dead letters: theirs stands in `key` (SPEC 9.8.2)."""
    keys = [one.key.rpartition(".") for one in facts.sightings if one.topic == f"$dead/{name}"]
    return {(log, int(pos)) for log, _, pos in keys}


def _since(facts: Facts, who: str, step: Step) -> int:
    """A moment before which the server cannot have sent what the step brought."""
    barriers = facts.barriers.get((who, step.line), [])
    return max((since for got, since in barriers if got < step.t), default=0)


class _Known:
    """All that is known to stand somewhere, for questions by place; without what expires."""

    def __init__(self, facts: Facts) -> None:
        logs: dict[str, dict[int, Seen]] = defaultdict(dict)
        for one in facts.sightings:
            if not facts.is_expiring(one.topic):
                logs[one.log].setdefault(one.pos, one)
        self._logs = {log: sorted(ones.items()) for log, ones in logs.items()}
        self._numbers = {log: [pos for pos, _ in ones] for log, ones in self._logs.items()}

    def between(self, filter: str, log: str, after: int, upto: int) -> Iterator[Seen]:
        """What matches with after < pos ≤ upto."""
        numbers = self._numbers.get(log, [])
        for _, one in self._logs.get(log, [])[bisect_right(numbers, after) : bisect_right(numbers, upto)]:
            if matches(filter, one.topic):
                yield one


def _plain(facts: Facts) -> Iterator[Stream]:
    """The unacknowledged subscriptions."""
    return (stream for stream in facts.streams.values() if not stream.name)


def _acknowledged(facts: Facts) -> dict[str, list[Stream]]:
    """The members of each durable subscription and group."""
    names: dict[str, list[Stream]] = defaultdict(list)
    for stream in facts.streams.values():
        if stream.name:
            names[stream.name].append(stream)
    return names


def _goes_back(step: Step, top: dict[str, int], asked: Position) -> bool:
    """A reset that says openly that older messages come again (SPEC 3.2.9).

    `top`: the newest it was handed of each log; `asked`: what it resumed after. Between the sides of a split a
    client may come back to a log that a reset had taken it away from.
    """
    return step.reason == "reset" and any(
        pos < (step.before[log] if log in step.before and log in asked else top.get(log, 0))
        for log, pos in step.after.items()
    )


def _times_sent(facts: Facts) -> dict[tuple[str, str], int]:
    times: dict[tuple[str, str], int] = defaultdict(int)
    for attempt in facts.attempts:
        times[attempt.topic, attempt.message_id] += 1
    return times


def _say(one: Seen) -> str:
    return (
        f"{one.message_id or 'a message'} (topic {one.topic}, log {one.log}, pos {one.pos}, offset {one.offset})"
    )


def _of(stream: Stream) -> str:
    return f"{stream.who}'s subscription {stream.sub} to {stream.filter}"


INVARIANTS: tuple[Callable[[Facts], Iterator[Violation]], ...] = (
    i1_acknowledged_is_readable,
    i1_delayed_becomes_readable,
    i1_newest_of_a_key_is_readable,
    i2_nothing_from_nowhere,
    i3_one_message_at_a_place,
    i4_publishers_keep_their_order,
    i5_nothing_twice,
    i6_offsets_skip_nothing,
    i6_places_hide_nothing,
    i6_new_logs_are_announced,
    i7_numbers_do_not_go_back,
    i8_delivered_stays,
    i9_sent_again_is_stored_once,
    i9_sent_once_is_stored_once,
    i10_places_rise,
    i12_what_is_handed_over_is_allowed,
    i12_what_is_accepted_is_allowed,
    i12_what_is_looked_at_is_allowed,
    i14_everybody_catches_up,
    i14_publishes_succeed_again,
    i15_every_publish_is_answered,
    g3_readers_agree,
    a1_everything_is_delivered,
    a2_settled_stays_settled,
    a3_rejected_is_a_dead_letter,
)
