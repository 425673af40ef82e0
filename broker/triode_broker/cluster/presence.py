"""Presence over nodes: who is where, told to the nodes whose clients want to know (cluster.md, SPEC 10).

Pure. The core's `Elsewhere`. On the link that a node has dialled it says which filters are watched (`Watch`).
On the same link the other node answers with its members of those topics and says from then on who comes and goes
(`Members`). A list that is said anew is gathered whole before it takes the place of what was known, so that a link
that comes back shows clients the difference and no more. However long it is, it goes in pieces, the next one when
the link has sent something. Who is asked for a topic that nobody watches asks the others (`Call`), for one that is
watched waits for their lists, and answers after ASK_MS at the latest, not complete.

The surprising decision: members of a node that is not reached stay for GONE_MS after it was last heard, unless it
is found dead. A cut that heals is then nothing to any client, and a ghost never lives longer.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from triode_protocol.topics import is_wildcard

from triode_broker.cluster.asked import COMPLETE, JOINED, KNOWN, LEFT, SNAPSHOT, Asked, Link, identify
from triode_broker.cluster.frames import Call, Frame, Members, Reply, Watch
from triode_broker.config import Limits
from triode_broker.core.identity import Identity
from triode_broker.core.node import Node
from triode_broker.core.presence import Answer, fitting
from triode_broker.core.topic_tree import TopicTree, is_any

#: `Call.method` of a question for the members of one topic, and of the notice that a connection was replaced.
ASK: Final = "presence"
REPLACED: Final = "replaced"
ASK_MS: Final = 2_000
GONE_MS: Final = 12_000
#: Bytes of members in one Members, and put before the link has sent something.
CHUNK_BYTES: Final = 262_144


class _Topic(Struct):
    """The parameters of ASK."""

    topic: str


class _Connection(Struct):
    """The parameters of REPLACED."""

    connection: str
    user: str
    tenant: str = ""


class _Listed(Struct):
    """The result of ASK."""

    members: list[Raw]
    complete: bool


class _Telling:
    """A node that wants to know of members here."""

    __slots__ = ("filters", "is_behind", "link", "list", "new", "unanswered")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.filters: dict[str, None] = {}
        self.is_behind = False  # it is to be told all: its link is new, or was full
        self.new: dict[str, None] = {}  # filters whose members it is to be told
        self.unanswered = 0  # Watches
        self.list: Iterator[tuple[int, Members]] | None = None  # that is on its way: what is left, with sizes


class _Question:
    """One request of a client that waits for other nodes."""

    __slots__ = ("due_ms", "is_partial", "listed", "then", "topic", "waiting", "was_watched")

    def __init__(self, topic: str, then: Answer, due_ms: int, *, was_watched: bool) -> None:
        self.topic = topic
        self.then = then
        self.due_ms = due_ms
        self.was_watched = was_watched
        self.waiting: dict[int, str] = {}  # calls that are not answered: their nodes
        self.is_partial = False  # somebody did not answer, or not all
        self.listed: dict[str, bytes] = {}  # what the others have said, by id


class FarPresence:
    """One node's side of it, towards all the others."""

    def __init__(
        self, node: Node, limits: Limits, steady_ms: Callable[[], int], others: Callable[[], list[str]]
    ) -> None:
        """`others`: all that are alive as far as this node knows, itself and those out of reach included."""
        self._node = node
        self._presence = node.presence
        self._limits = limits
        self._steady_ms = steady_ms
        self._others = others
        self._asked: dict[str, Asked] = {}  # by node
        self._due_ms: dict[str, int] = {}  # when members of a node that is not reached go
        self._telling: dict[Link, _Telling] = {}
        self._tree: TopicTree[_Telling, tuple[_Telling, ...]] = TopicTree(_once, limits.match_cache_values)
        self._last_id = 0  # counts down: ids of other calls count up
        self._questions: dict[int, _Question] = {}  # by the id of their calls, in order of `due_ms`
        self._presence.elsewhere = self
        self._presence.ask = self.ask

    # `core.presence.Elsewhere`

    def joined(self, topic: str, member: bytes) -> None:
        """To the nodes that watch the topic."""
        self._tell(JOINED, topic, member)

    def left(self, topic: str, member: bytes) -> None:
        """To the nodes that watch the topic."""
        self._tell(LEFT, topic, member)

    def _tell(self, kind: str, topic: str, member: bytes) -> None:
        for telling in self._tree.match(topic):
            if telling.link.is_full:
                telling.is_behind = True
            if not telling.is_behind:
                telling.link.put(Members(kind, {topic: [member]}))

    def watched(self, filter: str) -> None:
        """Ask all that are reached."""
        for asked in self._asked.values():
            asked.watch(filter)

    def unwatched(self, filter: str) -> None:
        """They need not say any more."""
        for asked in self._asked.values():
            asked.drop(filter)

    def replaced(self, connection: str, who: Identity) -> None:
        """Whoever has that connection ends it, and its will is not needed."""
        if connection not in self._node.sessions:
            params = msgspec.json.encode(_Connection(connection, who.user, who.tenant))
            for asked in self._asked.values():
                asked.link.put(Call(self._next_id(), REPLACED, params))

    def _next_id(self) -> int:
        self._last_id -= 1
        return self._last_id

    # Links

    def opened(self, link: Link) -> None:
        """A link is open."""
        if link.is_dialler:
            self._asked[link.peer.node] = Asked(link, self._presence.filters, self._limits)
        else:
            self._telling[link] = telling = _Telling(link)
            link.drained = partial(self._drained, telling, link.drained)

    def closed(self, link: Link) -> None:
        """A link is gone; what its node has said holds for a while."""
        if not link.is_dialler:
            self._forget(self._telling.pop(link))
            return
        node = link.peer.node
        if (asked := self._asked.get(node)) is not None and asked.link is link:
            del self._asked[node]
            self._due_ms.setdefault(node, link.heard_ms + GONE_MS)
            self._give_up(lambda other, question: other == node)

    def _forget(self, telling: _Telling) -> None:
        for filter in telling.filters:
            self._tree.remove(filter, telling)
        telling.filters.clear()

    def node_gone(self, node: str, incarnation: str) -> None:
        """A life of a node was found dead: of its members there are none."""
        asked = self._asked.get(node)
        if asked is None or asked.incarnation == incarnation:
            self._due_ms.pop(node, None)
            self._presence.drop_node(node)

    def tick(self) -> None:
        """What time brings; several times a second."""
        now_ms = self._steady_ms()
        for node in [node for node, due_ms in self._due_ms.items() if due_ms <= now_ms]:
            del self._due_ms[node]
            self._presence.drop_node(node)
        for telling in self._telling.values():
            self._go_on(telling)
        self._give_up(lambda node, question: question.due_ms <= now_ms)

    # What others watch

    def received_watch(self, link: Link, frame: Watch) -> None:
        """Another node says what it wants to know."""
        _expect(not link.is_dialler)
        telling = self._telling[link]
        if frame.kind == "drop":
            for filter in frame.filters:
                if filter in telling.filters:
                    del telling.filters[filter]
                    telling.new.pop(filter, None)
                    self._tree.remove(filter, telling)
            return
        if frame.kind == "snapshot":
            self._forget(telling)
            telling.is_behind = True
        for filter in frame.filters:
            if filter not in telling.filters:
                telling.filters[filter] = telling.new[filter] = None
                self._tree.add(filter, telling)
        _expect(len(telling.filters) <= self._limits.max_connections * self._limits.max_subscriptions)
        telling.unanswered += 1
        if telling.list is None:
            self._go_on(telling)

    def _drained(self, telling: _Telling, before: Callable[[], None]) -> None:
        before()
        self._go_on(telling)

    def _go_on(self, telling: _Telling) -> None:
        """Put what is due of lists: so much that others have their turn between, and nothing on a full link."""
        room = CHUNK_BYTES
        while room > 0 and not telling.link.is_full:
            if telling.list is None:
                telling.list = self._lists(telling)
            size, frame = next(telling.list, (0, None))
            if frame is None:
                telling.list = None
                return
            room -= size
            telling.link.put(frame)

    def _lists(self, telling: _Telling) -> Iterator[tuple[int, Members]]:
        """All that is due, each piece as things are when it is taken: changes go past it, on the same link."""
        while telling.is_behind or telling.new or telling.unanswered:
            is_whole, telling.is_behind = telling.is_behind, False
            filters = list(telling.filters if is_whole else telling.new)
            telling.new.clear()
            answers, telling.unanswered = telling.unanswered, 0
            if is_whole:
                yield 0, Members(SNAPSHOT, {})
            for size, part in self._parts(filters):
                yield size, Members(JOINED, part)
            if is_whole:
                yield 0, Members(COMPLETE, {})
            for _ in range(answers):
                yield 0, Members(KNOWN, {})

    def _parts(self, filters: list[str]) -> Iterator[tuple[int, dict[str, list[bytes]]]]:
        """The members here on topics that one of the filters matches, in pieces."""
        part: dict[str, list[bytes]] = {}
        size = 0
        for topic in self._topics(filters):
            for member in self._presence.here_on(topic):
                if not member.is_here:  # it has left since the piece before
                    continue
                part.setdefault(topic, []).append(member.json)
                size += len(topic) + len(member.json)
                if size >= CHUNK_BYTES:
                    yield size, part
                    part, size = {}, 0
        if part:
            yield size, part

    def _topics(self, filters: list[str]) -> list[str]:
        """Those that may have members; all are walked only for wildcards."""
        topics = dict.fromkeys(filter for filter in filters if not is_wildcard(filter))
        matching: TopicTree[str, bool] = TopicTree(is_any, 0)
        for filter in filters:
            if is_wildcard(filter):
                matching.add(filter, filter)
        if matching.size:
            topics |= dict.fromkeys(topic for topic in self._presence.topics if matching.match(topic))
        return list(topics)

    # What others say

    def received_members(self, link: Link, frame: Members) -> None:
        """Another node says who is there. Raises msgspec.MsgspecError for what is no member."""
        _expect(link.is_dialler)
        node = link.peer.node
        asked = self._asked.get(node)
        if asked is None or asked.link is not link:
            return
        if frame.kind == SNAPSHOT:
            asked.gathered, asked.is_whole = {}, False
        if frame.kind == KNOWN:
            asked.answered()
        elif frame.kind == COMPLETE:
            asked.is_whole = True
        else:
            wanted = asked.wanted(frame.topics)
            asked.count(wanted, partial(self._presence.count_there, node))
            if asked.gathered is None:
                self._presence.merge(node, frame.kind, wanted)
            else:
                asked.gather(frame.kind, wanted)
        if asked.gathered is not None and asked.is_whole and not asked.opening:
            self._take_all(asked, node, asked.gathered)
        if frame.kind in {KNOWN, COMPLETE}:
            self._has_said(asked, node)

    def _take_all(self, asked: Asked, node: str, gathered: dict[str, dict[str, bytes]]) -> None:
        asked.gathered = None
        asked.is_known = True
        self._due_ms.pop(node, None)
        self._presence.merge(
            node, SNAPSHOT, {topic: list(members.values()) for topic, members in gathered.items()}
        )

    # Questions

    def ask(self, topic: str, then: Answer) -> None:
        """The core's `Presence.ask`: at once where all is known, else when the others have answered."""
        was_watched = self._presence.is_watched(topic)
        question = _Question(topic, then, self._steady_ms() + ASK_MS, was_watched=was_watched)
        params = msgspec.json.encode(_Topic(topic))
        for node, asked in self._asked.items():
            if was_watched and asked.knows(topic):
                continue  # what it says is kept up to date
            id = self._next_id()
            question.waiting[id] = node
            self._questions[id] = question
            if not was_watched:
                asked.link.put(Call(id, ASK, params))
        if not question.waiting:
            self._answer(question)

    def called(self, link: Link, frame: Call) -> None:
        """Another node asks, or tells. Raises msgspec.MsgspecError."""
        if frame.method == REPLACED:
            told = msgspec.json.decode(frame.params, type=_Connection)
            self._node.replaced_elsewhere(told.connection, Identity(told.user, told.tenant))
            return
        topic = msgspec.json.decode(frame.params, type=_Topic).topic
        members = [member.json for member in self._presence.here_on(topic)]
        fit = fitting(members, self._limits.max_frame_bytes)
        listed = _Listed(list(map(Raw, fit)), len(fit) == len(members))
        link.put(Reply(frame.id, msgspec.json.encode(listed)))

    def replied(self, link: Link, frame: Reply) -> None:
        """Another node's answer; one that is too late is nobody's. Raises msgspec.MsgspecError."""
        question = self._questions.get(frame.id)
        if question is None:
            return
        if frame.error:
            question.is_partial = True
        else:
            listed = msgspec.json.decode(frame.result, type=_Listed)
            question.listed |= {identify(raw).id: bytes(raw) for raw in listed.members}
            question.is_partial |= not listed.complete
        self._waits_no_more(question, frame.id)

    def _has_said(self, asked: Asked, node: str) -> None:
        """Who has waited for its list has it."""
        for id, question in list(self._questions.items()):
            if question.was_watched and question.waiting[id] == node and asked.knows(question.topic):
                self._waits_no_more(question, id)

    def _waits_no_more(self, question: _Question, id: int) -> None:
        del self._questions[id], question.waiting[id]
        if not question.waiting:
            self._answer(question)

    def _give_up(self, is_over: Callable[[str, _Question], bool]) -> None:
        """Do without the answers that are over: of a node, of a question."""
        for id, question in list(self._questions.items()):
            if is_over(question.waiting[id], question):
                question.is_partial = True
                self._waits_no_more(question, id)

    def _answer(self, question: _Question) -> None:
        """Say what is known by now. Where somebody watches, that is newer than what was answered."""
        known = {identify(json).id: json for json in self._presence.members(question.topic)}
        is_watched = self._presence.is_watched(question.topic)
        if not (is_watched and question.was_watched):
            known |= question.listed
        # Who began to watch meanwhile may have been told that one of the listed is gone.
        is_certain = question.was_watched or not is_watched
        is_reached = all(name in self._asked for name in self._others() if name != self._node.name)
        question.then(list(known.values()), is_certain and is_reached and not question.is_partial)


def _expect(is_so: bool) -> None:
    """Raises ValueError for a frame that has no place on this link: it is then closed."""
    if not is_so:
        raise ValueError("a frame of the other role")


def _once(tellings: list[_Telling], topic: str) -> tuple[_Telling, ...]:
    return tuple(dict.fromkeys(tellings))


#: What a node says of presence, and the methods of its calls.
HANDLERS: Final[dict[type[Frame], Callable[[FarPresence, Link, Any], None]]] = {
    Watch: FarPresence.received_watch,
    Members: FarPresence.received_members,
}
METHODS: Final = frozenset({ASK, REPLACED})
