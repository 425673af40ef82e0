"""Subscriptions and their positions: rules R1–R7 of the protocol, the inbox of each, and resuming (SPEC 4).

Knows packets and time, no transport. The surprising decision: an inbox that is full does not stop anything. Its
subscription is ended at the broker and asked for again, by position, when the consumer has caught up to half: the
socket stays drained, memory stays bounded, and the broker's log makes up what was missed or says `gap`. An
acknowledged subscription, one with a tray, does without: its window is the bound, the broker keeps its position.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Final

import msgspec
from msgspec import UNSET
from triode_protocol import packets
from triode_protocol.codec import DECODE_ERRORS
from triode_protocol.errors import GapReason
from triode_protocol.topics import HARD_MAX_BYTES, matches

from triode.backoff import Backoff, asked_seconds
from triode.consuming import Handed, Terms, Tray
from triode.errors import SubscriptionEnded, TriodeError
from triode.options import Options
from triode.outgoing import Outgoing
from triode.records import CaughtUp, Gap, Item, Joined, Left, Member, Message, Position
from triode.subscription import Malformed, Phase, Subscription, Wish

MAX_LOGS: Final = 64  # entries of one position, as the protocol has it
_CACHED_TOPICS: Final = 4_096
_MOST_UNWRITTEN: Final = 65_536  # answers to deliveries: a broker that sends on without reading them is dropped

_decode_message: Final = msgspec.json.Decoder(packets.Message).decode
_decode_member: Final = msgspec.json.Decoder(packets.Present).decode


class Subscriptions:
    """All subscriptions of one client.

    `ready` collects those with something new for their consumer; the front empties it.
    """

    def __init__(
        self, options: Options, outgoing: Outgoing, random: Callable[[], float], ready: list[Subscription]
    ) -> None:
        self._options = options
        self._outgoing = outgoing
        self._random = random
        self._ready = ready
        self._all: dict[Subscription, None] = {}  # in the order of subscribing
        self._numbered: dict[int, Subscription] = {}  # on this connection
        self._matching: dict[str, tuple[Subscription, ...]] = {}
        self._delayed: list[Subscription] = []
        self._last_number = 0
        self._is_attached = False

    # What programs ask for

    def add(
        self,
        filter: str,
        start: packets.From,
        after: Position | None,
        overflow: packets.Overflow,
        presence: Wish = UNSET,
    ) -> Subscription:
        """Subscribe, now or as soon as there is a connection. `filter` is checked already."""
        position = dict(after or {})
        backoff = Backoff(self._random)
        return self._add(
            Subscription(filter, start, overflow, position, after is not None, backoff, presence=presence)
        )

    def consume(self, filter: str, start: packets.From, terms: Terms) -> Subscription:
        """Subscribe with acknowledgements, the same way."""
        backoff = Backoff(self._random)
        return self._add(Subscription(filter, start, "replay", {}, False, backoff, tray=Tray(terms)))

    def _add(self, subscription: Subscription) -> Subscription:
        self._all[subscription] = None
        if self._is_attached:
            self._ask(subscription)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """The program wants no more of it; what is in the inbox stays there to be taken."""
        if subscription.phase is not Phase.ENDED:
            if subscription.phase is Phase.DELAYED:
                self._delayed.remove(subscription)
            self._unsubscribe(subscription)
            self._end(subscription, None)

    def take(self, subscription: Subscription) -> Item | None:
        """The next item of the inbox, if any. A paused subscription goes on once its inbox has drained to half."""
        item: Item | None = _take(subscription)
        if isinstance(item, Message):
            advance(subscription.taken, item.log, item.pos)
        elif isinstance(item, Gap | CaughtUp):
            subscription.taken = dict(item.after)
        if subscription.phase is Phase.PAUSED and self._is_half_empty(subscription):
            subscription.phase = Phase.WANTED
            if self._is_attached:
                self._ask(subscription)
        return item

    def take_handed(self, subscription: Subscription) -> Handed | Gap | None:
        """The next item of an acknowledged one."""
        item: Handed | Gap | None = _take(subscription)
        if isinstance(item, Handed) and subscription.tray is not None:
            subscription.tray.pop(item.place)
        return item

    def _is_half_empty(self, subscription: Subscription) -> bool:
        return (
            len(subscription.inbox) * 2 <= self._options.max_inbox_messages
            and subscription.inbox_bytes * 2 <= self._options.max_inbox_bytes
        )

    def knows(self, number: int) -> bool:
        """Whether an `error` with this number concerns us: a subscription's of ours, or none (R5)."""
        return not number or number in self._numbered

    # The connection comes and goes

    @property
    def has_any(self) -> bool:
        """Whether there is something to resume."""
        return bool(self._all)

    def attach(self) -> None:
        """A connection is open: ask for everything again, in the order of subscribing."""
        self._is_attached = True
        self._last_number = 0  # counted up from 1 on each connection (SPEC 3.2.1)
        for subscription in self._all:
            if subscription.phase is Phase.WANTED:
                self._ask(subscription)

    def detach(self) -> None:
        """The connection is gone, and with it every number."""
        self._is_attached = False
        self._numbered.clear()
        self._matching.clear()
        self._delayed.clear()
        for subscription in self._all:
            subscription.number = 0
            subscription.is_live = False
            subscription.snapshot.clear()
            subscription.skip.clear()
            subscription.give_back()
            if subscription.phase is not Phase.PAUSED:
                subscription.phase = Phase.WANTED

    def close(self, error: TriodeError | None) -> None:
        """The client is closed: every subscription ends, with `error` or (None) quietly."""
        self.detach()
        for subscription in list(self._all):
            self._end(subscription, error)

    def _ask(self, subscription: Subscription) -> None:
        subscription.phase = Phase.ASKED
        self._last_number += 1
        subscription.number = self._last_number
        subscription.ask_id = self._outgoing.next_id()
        self._numbered[subscription.number] = subscription
        self._matching.clear()
        packet = packets.Subscribe(
            subscription.number,
            subscription.filter,
            subscription.ask_id,
            presence=subscription.presence,
        )
        if subscription.overflow != "replay":  # what holds unless given
            packet.overflow = subscription.overflow
        if subscription.tray is not None:
            subscription.tray.terms.put_into(packet)
        if subscription.repeats_start:  # R7
            packet.from_ = subscription.start
        else:
            packet.after = subscription.position
        self._outgoing.put(packet)

    def _unsubscribe(self, subscription: Subscription) -> None:
        if subscription.number:
            self._outgoing.put(packets.Unsubscribe(subscription.number, self._outgoing.next_id()))
        self._release(subscription)

    def _release(self, subscription: Subscription) -> None:
        """Forget the number: from here on packets that name it are ignored (R5)."""
        self._numbered.pop(subscription.number, None)
        subscription.number = 0
        subscription.is_live = False
        subscription.give_back()
        self._matching.clear()

    def _end(self, subscription: Subscription, error: TriodeError | None) -> None:
        subscription.phase = Phase.ENDED
        subscription.is_registered = True
        subscription.error = error
        del self._all[subscription]
        self._ready.append(subscription)

    # What the broker says about one subscription

    def subscribed(self, packet: packets.Subscribed) -> None:
        """R1. From here on everything after `after` comes, or a gap says what does not."""
        subscription = self._numbered.get(packet.sub)
        if subscription is None:  # R5, here and below
            return
        subscription.phase = Phase.ACTIVE
        subscription.backoff.reset()
        subscription.is_registered = True
        self._ready.append(subscription)
        if subscription.tray is not None:  # the broker keeps its position, and R3 passes it over
            return
        subscription.has_position = True
        subscription.is_live = packet.live
        _place(subscription, packet.after)
        if packet.live:
            self._go_live(subscription)

    def catching_up(self, packet: packets.CatchingUp) -> None:
        """R1: it is served from the log for a while."""
        if subscription := self._unacknowledged(packet.sub):
            _place(subscription, packet.after)
            subscription.is_live = False

    def caught_up(self, packet: packets.CaughtUp) -> None:
        """R1: it is live again."""
        if subscription := self._unacknowledged(packet.sub):
            _place(subscription, packet.after)
            self._go_live(subscription)

    def _unacknowledged(self, number: int) -> Subscription | None:
        subscription = self._numbered.get(number)
        return subscription if subscription is not None and subscription.tray is None else None

    def _go_live(self, subscription: Subscription) -> None:
        subscription.is_live = True
        subscription.has_caught_up = True
        subscription.snapshot.clear()
        subscription.skip.clear()
        self._hand_over(subscription, CaughtUp(dict(subscription.position)))

    def gap(self, packet: packets.Gap) -> None:
        """R1: messages are missing; whether it is live stays as it was."""
        if subscription := self._numbered.get(packet.sub):
            gap = Gap(dict(packet.after), packet.reason, packet.topic, packet.from_, packet.to)
            if subscription.tray is not None:
                self._keep_gap(subscription, subscription.tray, gap)
                return
            self._hand_over(subscription, gap)
            _place(subscription, packet.after)

    def _keep_gap(self, subscription: Subscription, tray: Tray, gap: Gap) -> None:
        """Of an acknowledged one, which repeats its gaps at each attach (G5): one not taken yet is told once."""
        if gap in subscription.inbox:
            return
        if len(subscription.inbox) - len(tray) >= self._options.max_inbox_messages:
            raise Malformed("gaps without end")
        self._append(subscription, gap)

    def unsubscribed(self, packet: packets.Unsubscribed, now: float) -> None:
        """The broker ended it. (The answer to our own unsubscribe names a number that is forgotten.)"""
        if subscription := self._numbered.get(packet.sub):
            error = SubscriptionEnded(packet.name or "unsubscribed", packet.message, retry=packet.retry or "never")
            self._refuse(subscription, error, now)

    def refused(self, packet: packets.Error, now: float) -> bool:
        """The broker refused it: act by `retry`. False: it is none of ours.

        Once it is subscribed an `error` with its number answers something else, such as a nack that came too late.
        """
        subscription = self._numbered.get(packet.sub) or self._asked_with(packet.id)
        if subscription is None or subscription.phase is not Phase.ASKED:
            return False
        error = SubscriptionEnded(
            packet.name,
            packet.message,
            field=packet.field,
            retry=packet.retry,
            retry_after_ms=packet.retry_after_ms,
        )
        self._refuse(subscription, error, now)
        return True

    def _asked_with(self, id: int) -> Subscription | None:
        asked = (each for each in self._numbered.values() if each.ask_id == id)
        return next(asked, None)

    def _refuse(self, subscription: Subscription, error: SubscriptionEnded, now: float) -> None:
        self._release(subscription)
        if error.retry not in ("now", "backoff"):
            self._end(subscription, error)
            return
        is_first = subscription.backoff.attempts == 0
        delay = subscription.backoff.delay_seconds()
        asked = asked_seconds(error.retry_after_ms, self._options.max_wait_seconds)
        subscription.phase = Phase.DELAYED
        self._delayed.append(subscription)
        subscription.retry_at = now if error.retry == "now" and is_first else now + max(delay, asked)

    # Presence

    def joined(self, packet: packets.Joined) -> None:
        """To those who watch the topic; with `sub`, to the one that is seen."""
        item = Joined(packet.topic, decode_member(packet.member), bool(packet.sub))
        if packet.sub:
            if subscription := self._numbered.get(packet.sub):
                self._hand_over(subscription, item)
        else:
            self._tell(packet.topic, item)

    def left(self, packet: packets.Left) -> None:
        """To those who watch the topic."""
        self._tell(packet.topic, Left(packet.topic, decode_member(packet.member)))

    def _tell(self, topic: str, item: Joined | Left) -> None:
        for subscription in self._match(topic):
            if subscription.presence is not UNSET and subscription.phase is Phase.ACTIVE:
                self._hand_over(subscription, item)

    # Messages

    def message(self, packet: packets.Message) -> None:
        """R3: to every subscription that is live, matches, and has not had it."""
        matching = self._matching.get(packet.topic)  # `_match`, written out: most topics are known
        if matching is None:
            matching = self._match(packet.topic)
        message: Message | None = None
        for subscription in matching:
            if not subscription.is_live:
                continue
            known = subscription.position.get(packet.log)
            if known is not None and packet.pos <= known:
                continue
            if message is None:
                message = Message(packet)
            self._receive(subscription, message, known is None)

    def _match(self, topic: str) -> tuple[Subscription, ...]:
        if not 0 < len(topic) <= HARD_MAX_BYTES:
            raise Malformed("a message has a topic")
        if len(self._matching) >= _CACHED_TOPICS:
            self._matching.clear()
        matching = tuple(each for each in self._numbered.values() if matches(each.filter, topic))
        self._matching[topic] = matching
        return matching

    def delivery(self, packet: packets.Delivery) -> None:
        """R2: to its subscription and no other, whatever its position."""
        subscription = self._numbered.get(packet.sub)
        if subscription is None:
            return
        message = decode_message(packet.message, packet.attempt)
        if subscription.tray is not None:
            self._put_on_tray(
                subscription, subscription.tray, Handed(message, packet.attempt, subscription.tray.round)
            )
            return
        log, pos = message.log, message.pos
        if pos <= subscription.skip.get(log, -1):  # the inbox had it before it was full: our doing, not R2's
            return
        if subscription.start == "last" and not subscription.has_caught_up:
            advance(subscription.snapshot, log, pos)
        self._receive(subscription, message, log not in subscription.position)

    def _put_on_tray(self, subscription: Subscription, tray: Tray, handed: Handed) -> None:
        if not handed.can_be_answered:
            raise Malformed("a delivery to be acknowledged has a place and an attempt")
        if self._outgoing.backlog > _MOST_UNWRITTEN:
            raise Malformed("it sends on without reading the answers")
        gone = tray.put(handed)
        if gone is not None:
            subscription.drop(gone)
        self._append(subscription, handed)

    def _receive(self, subscription: Subscription, message: Message, is_new_log: bool) -> None:
        if is_new_log:  # R6
            self._hand_over(subscription, Gap(dict(subscription.position), GapReason.RESET))
        self._hand_over(subscription, message)
        advance(subscription.position, message.log, message.pos)  # R4

    def ping(self, at: Position) -> None:
        """R4: every live subscription has had everything up to there, in the logs it knows."""
        for subscription in self._numbered.values():
            if subscription.is_live and at:
                position = subscription.position
                for log in position.keys() & at.keys():
                    advance(position, log, at[log])

    def _hand_over(self, subscription: Subscription, item: Item) -> None:
        inbox = subscription.inbox
        if not inbox:
            subscription.taken = dict(subscription.position)
        self._append(subscription, item)
        options = self._options
        if len(inbox) >= options.max_inbox_messages or subscription.inbox_bytes >= options.max_inbox_bytes:
            self._pause(subscription)

    def _append(self, subscription: Subscription, item: Item | Handed) -> None:
        if not subscription.inbox:
            self._ready.append(subscription)
        subscription.inbox.append(item)
        subscription.inbox_bytes += item.size

    def _pause(self, subscription: Subscription) -> None:
        if subscription.number:
            subscription.phase = Phase.PAUSED
            subscription.skip = dict(subscription.snapshot)
            self._unsubscribe(subscription)

    # Time

    def deadline(self) -> float:
        """When the next refused subscription is due to be asked for again."""
        return min((each.retry_at for each in self._delayed), default=inf)

    def tick(self, now: float) -> None:
        """Ask again for what was refused for a while."""
        for subscription in [each for each in self._delayed if now >= each.retry_at]:
            self._delayed.remove(subscription)
            self._ask(subscription)


def decode_message(raw: msgspec.Raw, attempt: int = 0) -> Message:
    """A message packet inside another one. Raises Malformed."""
    try:
        return Message(_decode_message(raw), attempt)
    except DECODE_ERRORS as error:
        raise Malformed(f"not a message: {error}") from error


def decode_member(raw: msgspec.Raw) -> Member:
    """A member inside a packet about presence. Raises Malformed."""
    try:
        member = _decode_member(raw)
        return Member(member.id, msgspec.json.decode(member.state), member.user)
    except DECODE_ERRORS as error:
        raise Malformed(f"not a member: {error}") from error


def _take(subscription: Subscription) -> Any:
    """The next item of the inbox, or None."""
    if not subscription.inbox:
        return None
    item = subscription.inbox.popleft()
    subscription.inbox_bytes -= item.size
    return item


def _place(subscription: Subscription, after: Position) -> None:
    """R1: the whole map replaces the client's."""
    if len(after) > MAX_LOGS:
        raise Malformed("a position has too many logs")
    subscription.position = after


def advance(position: Position, log: str, pos: int) -> None:
    """R4: everything of that log up to there."""
    known = position.get(log)
    if known is None:
        if len(position) >= MAX_LOGS:  # logs that ended pile up: the oldest goes; missing it costs a gap, no loss
            del position[next(iter(position))]
        position[log] = pos
    elif pos > known:
        position[log] = pos
