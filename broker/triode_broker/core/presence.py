"""Presence: who is on which topic, here and on other nodes, and who wants to know (SPEC 10, G9).

Knows members, topics and outboxes; nothing of links: `elsewhere` is told of local changes, and hands in what other
nodes say. The surprising decision: a member is a JSON text with an id and is never looked
into again. Its id is random and not made from the connection's, which is a secret (SPEC 3.1.4).

A member whose connection is lost stays for a moment, so that one who comes back at once was never away.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import UNSET, Raw, Struct
from triode_protocol.codec import Refused, encode
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Joined, Left, Present, Seen, Subscribe
from triode_protocol.topics import is_wildcard

from triode_broker.config import Limits
from triode_broker.core.events import Events
from triode_broker.core.identity import Identity
from triode_broker.core.outbox import Outbox
from triode_broker.core.tenants import is_own, outside
from triode_broker.core.timers import Timers
from triode_broker.core.watchers import Watchers, Watching

#: Room in a `presence` reply for everything but the members.
REPLY_OVERHEAD_BYTES = 8_192

Answer = Callable[[list[bytes], bool], None]


class Member(Struct, eq=False):
    """Somebody on a topic of this node."""

    id: str
    topic: str
    json: bytes  # as everybody sees it
    is_here: bool = True


class Attendance(Struct, eq=False):
    """What one subscription has to do with presence."""

    sub: int
    watching: Watching
    _begin: Callable[["Attendance"], None]
    member: Member | None = None  # where it is seen
    is_watching: bool = False  # from its `subscribed` on

    def begin(self) -> None:
        """`subscribed` was said."""
        self._begin(self)


class _Held(Struct):
    """Members of a lost connection, until their time is up or it is replaced."""

    who: Identity
    members: list[Member]
    serial: int  # of the timer


class Elsewhere(Protocol):
    """The other nodes, as far as presence goes."""

    def joined(self, topic: str, member: bytes) -> None:
        """Somebody is on a topic here, or has another state."""

    def left(self, topic: str, member: bytes) -> None:
        """Somebody is not any more."""

    def watched(self, filter: str) -> None:
        """Somebody here wants to know of a filter that nobody watched before."""

    def unwatched(self, filter: str) -> None:
        """Nobody does any more."""

    def replaced(self, connection: str, who: Identity) -> None:
        """A connection here takes the place of one that may be there."""


class Nobody:
    """A node on its own."""

    def joined(self, topic: str, member: bytes) -> None:
        """Nobody else to tell."""

    def left(self, topic: str, member: bytes) -> None:
        """Nobody else to tell."""

    def watched(self, filter: str) -> None:
        """Nobody else to ask."""

    def unwatched(self, filter: str) -> None:
        """Nobody else was asked."""

    def replaced(self, connection: str, who: Identity) -> None:
        """Then it is nowhere."""


class _Identified(Struct):
    """All that is read of what another node says of a member."""

    id: str


_identify = msgspec.json.Decoder(_Identified).decode


class Presence:
    """The members and watchers of one node, and what other nodes say of theirs."""

    def __init__(self, limits: Limits, timers: Timers, random_id: Callable[[], str]) -> None:
        self._limits = limits
        self._timers = timers
        self._random_id = random_id
        self._watchers = Watchers(limits)
        self.limits_changed = self._watchers.limits_changed
        self._here: dict[str, dict[str, Member]] = {}  # by topic and id
        self._there: dict[str, dict[str, dict[str, bytes]]] = {}  # by node, topic and id
        self._held: dict[str, _Held] = {}  # by connection
        self.elsewhere: Elsewhere = Nobody()
        self.events: Events | None = None
        self.lost: Callable[[str], object] | None = None  # told of a node that counts as lost
        self.ask: Callable[[str, Answer], None] = self._answer_alone

    # What sessions do

    def check(self, packet: Subscribe, connection: str, who: Identity) -> None:
        """Raise Refused unless a subscribe may watch, and be seen where it asks for that."""
        wish = packet.presence
        if wish is UNSET:
            return
        if is_own(packet.filter):
            message = "topics beginning with $ belong to the broker: nobody is present there"
            raise Refused(ErrorName.BAD_TOPIC, message, field="filter")
        if isinstance(wish, Seen):
            self._check_seen(packet.filter, wish, connection, who)

    def _check_seen(self, topic: str, wish: Seen, connection: str, who: Identity) -> None:
        limits = self._limits
        if is_wildcard(topic):
            message = "one is present on exact topics; a filter can only be watched"
            raise Refused(ErrorName.UNSUPPORTED, message, field="presence")
        if len(memoryview(wish.state)) > limits.max_presence_state_bytes:
            message = f"a state has at most {limits.max_presence_state_bytes} bytes"
            raise Refused(ErrorName.TOO_LARGE, message, field="state")
        if len(self._here.get(topic, ())) >= limits.max_presence_members:
            held = self._held.get(connection)
            if held is None or not held.who.is_same(who) or not _of_topic(held.members, topic):
                message = f"{limits.max_presence_members} are present on this topic already"
                raise Refused(ErrorName.QUOTA, message, field="presence")

    def attend(self, packet: Subscribe, outbox: Outbox, connection: str, who: Identity) -> Attendance | None:
        """For a checked subscribe: it is seen from here on, and watches from `begin` on."""
        wish = packet.presence
        if wish is UNSET:
            return None
        attendance = Attendance(packet.sub, Watching(packet.filter, outbox), self._begin)
        if isinstance(wish, Seen):
            attendance.member = self._join(packet.filter, wish, connection, who)
        return attendance

    def _join(self, topic: str, wish: Seen, connection: str, who: Identity) -> Member:
        member = self._take_back(topic, connection, who)
        is_new = member is None
        if member is None:
            member = Member("p-" + self._random_id(), topic, b"")
            self._here.setdefault(topic, {})[member.id] = member
        json = encode(Present(member.id, wish.state, who.user))
        if json != member.json:
            member.json = json
            self._tell_joined(topic, member.id, json, is_new=is_new)
            self.elsewhere.joined(topic, json)
            if is_new and self.events is not None:
                self.events.joined(topic, json)
        return member

    def _take_back(self, topic: str, connection: str, who: Identity) -> Member | None:
        """The member that a connection has from the one it replaced."""
        held = self._held.get(connection)
        if held is None or not held.who.is_same(who):
            return None
        found = _of_topic(held.members, topic)
        if found is not None:
            held.members.remove(found)
        return found

    def _begin(self, attendance: Attendance) -> None:
        """It watches; who is seen is told which member it is (SPEC 10.2)."""
        attendance.is_watching = True
        watching = attendance.watching
        if self._watchers.add(watching):
            self.elsewhere.watched(watching.filter)
        if (member := attendance.member) is not None:
            watching.outbox.put(encode(Joined(outside(member.topic), Raw(member.json), attendance.sub)))

    def unwatch(self, attendance: Attendance | None) -> None:
        """Its connection hears no more because of it. Idempotent."""
        if attendance is None or not attendance.is_watching:
            return
        attendance.is_watching, watching = False, attendance.watching
        if self._watchers.remove(watching):
            self._forget_unwatched(watching.filter)
            self.elsewhere.unwatched(watching.filter)

    def leave(self, attendance: Attendance, connection: str, who: Identity, *, is_clean: bool) -> None:
        """It is not seen any more. Unless `is_clean` the member is held for the connection that comes back."""
        if attendance.member is None:
            return
        if is_clean or not self._limits.presence_debounce_ms:
            self._leave(attendance.member)
        else:
            self._hold(connection, who, [attendance.member])

    def gone(self, outbox: Outbox) -> None:
        """A connection's subscriptions have ended, and so has what it is owed."""
        self._watchers.forget(outbox)

    def room(self, outbox: Outbox) -> None:
        """A connection that was full has room."""
        self._watchers.room(outbox)

    # Coming back

    def _hold(self, connection: str, who: Identity, members: list[Member]) -> None:
        """The latest to be held has its whole time, and those held before have it with it."""
        before = self._held.pop(connection, None)
        if before is not None:
            self._timers.drop(before.serial)
            members = before.members + members
        due_ms = self._timers.steady_ms() + self._limits.presence_debounce_ms
        serial = self._timers.at(due_ms, lambda now_ms: self._let_go(connection))
        self._held[connection] = _Held(who, members, serial)

    def replace(self, old: str, new: str, who: Identity) -> None:
        """A connection takes the place of a lost one: it has its members for as long as it may be coming back."""
        held = self._held.get(old)
        if held is None or not held.who.is_same(who):
            return
        del self._held[old]
        self._timers.drop(held.serial)
        self._hold(new, who, held.members)

    def _let_go(self, connection: str) -> None:
        for member in self._held.pop(connection).members:
            self._leave(member)

    def _leave(self, member: Member) -> None:
        member.is_here = False
        members = self._here[member.topic]
        del members[member.id]
        if not members:
            del self._here[member.topic]
        self._tell_left(member.topic, member.id, member.json)
        self.elsewhere.left(member.topic, member.json)
        if self.events is not None:
            self.events.left(member.id)

    # Telling

    def _tell_joined(self, topic: str, id: str, json: bytes, *, is_new: bool) -> None:
        self._watchers.joined(topic, id, encode(Joined(outside(topic), Raw(json))), is_new=is_new)

    def _tell_left(self, topic: str, id: str, json: bytes) -> None:
        self._watchers.left(topic, id, encode(Left(outside(topic), Raw(json))))

    def answered(self, outbox: Outbox, topic: str) -> None:
        """A connection has been told who is on a topic."""
        self._watchers.told_all(outbox, topic)

    def _answer_alone(self, topic: str, then: Answer) -> None:
        then(self.members(topic), True)

    def members(self, topic: str) -> list[bytes]:
        """Everybody on a topic as far as this node knows: those here, then those of other nodes."""
        known = [member.json for member in self._here.get(topic, {}).values()]
        for topics in self._there.values():
            known += topics.get(topic, {}).values()
        return known

    # For the other nodes

    @property
    def member_count(self) -> int:
        """Members of this node, those included that are held."""
        return sum(map(len, self._here.values()))

    def is_watched(self, topic: str) -> bool:
        """Whether somebody here is told of a topic's members."""
        return self._watchers.has_any(topic)

    @property
    def filters(self) -> list[str]:
        """What is watched here."""
        return list(self._watchers.filters)

    @property
    def topics(self) -> list[str]:
        """Where there are members of this node."""
        return list(self._here)

    def here_on(self, topic: str) -> list[Member]:
        """The members of this node on one topic."""
        return list(self._here.get(topic, {}).values())

    def count_there(self, node: str) -> int:
        """Members of another node that are known here."""
        return sum(map(len, self._there.get(node, {}).values()))

    def merge(self, node: str, kind: str, topics: dict[str, list[bytes]]) -> None:
        """What another node says: a "snapshot" replaces all it has said before, "joined" and "left" change it.

        Raises msgspec.MsgspecError for a text that is no member.
        """
        if kind == "snapshot":
            wanted = {topic: {_identify(json).id for json in members} for topic, members in topics.items()}
            self._drop(node, lambda topic, id: id not in wanted.get(topic, ()))
        known = self._there.setdefault(node, {})
        for topic, members in topics.items():
            for json in members:
                if kind == "left":
                    self._gone_there(known, topic, _identify(json).id)
                else:
                    self._seen_there(known, topic, json)
        if not known:
            del self._there[node]

    def _seen_there(self, known: dict[str, dict[str, bytes]], topic: str, json: bytes) -> None:
        if not self._watchers.has_any(topic):  # nobody wants to know any more
            return
        members = known.setdefault(topic, {})
        id = _identify(json).id
        before = members.get(id)
        if before != json:
            members[id] = json
            self._tell_joined(topic, id, json, is_new=before is None)

    def _gone_there(self, known: dict[str, dict[str, bytes]], topic: str, id: str) -> None:
        json = known.get(topic, {}).pop(id, None)
        if json is None:
            return
        if not known[topic]:
            del known[topic]
        self._tell_left(topic, id, json)

    def drop_node(self, node: str) -> None:
        """Another node is dead, or was not heard of for so long that its members count as gone."""
        self._drop(node, lambda topic, id: True)
        if self.lost is not None:
            self.lost(node)

    def _drop(self, node: str, is_gone: Callable[[str, str], bool]) -> None:
        known = self._there.get(node, {})
        gone = [(topic, id) for topic, members in known.items() for id in members if is_gone(topic, id)]
        for topic, id in gone:
            self._gone_there(known, topic, id)
        if not known:
            self._there.pop(node, None)

    def _forget_unwatched(self, filter: str) -> None:
        """What other nodes say of topics that nobody watches is not kept: they do not say more."""
        for node, known in list(self._there.items()):
            for topic in [filter] if not is_wildcard(filter) else list(known):
                if topic in known and not self._watchers.has_any(topic):
                    del known[topic]
            if not known:
                del self._there[node]


def _of_topic(members: list[Member], topic: str) -> Member | None:
    return next((member for member in members if member.topic == topic), None)


def fitting(members: list[bytes], max_frame_bytes: int) -> list[bytes]:
    """As many as one reply may hold, the first ones (SPEC 10.4)."""
    room = max_frame_bytes - REPLY_OVERHEAD_BYTES
    for count, json in enumerate(members):
        room -= len(json) + 1
        if room < 0:
            return members[:count]
    return members
