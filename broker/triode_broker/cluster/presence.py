"""Presence over nodes: who is where, told to the nodes whose clients want to know (cluster.md, SPEC 10).

Pure. The core's `Elsewhere`. On the link that a node has dialled it says which filters are watched (`Watch`).
On the same link the other node answers with its members of those topics and says from then on who comes and goes
(`Members`). A list that is said anew is gathered whole before it takes the place of what was known, so that a link
that comes back shows clients the difference and no more. Who is asked for a topic that nobody watches asks the
others (`Call`), and answers after ASK_MS at the latest, not complete.

The surprising decision: members of a node that is not reached stay for GONE_MS after it was last heard, unless it
is found dead. A cut that heals is then nothing to any client, and a ghost never lives longer.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw, Struct

from triode_broker.cluster.frames import Call, Frame, Members, Reply, Watch
from triode_broker.config import Limits
from triode_broker.core.node import Node
from triode_broker.core.presence import Answer, fitting
from triode_broker.core.topic_tree import TopicTree

#: `Call.method` of a question for the members of one topic, and of the notice that a connection was replaced.
ASK: Final = "presence"
REPLACED: Final = "replaced"
ASK_MS: Final = 2_000
GONE_MS: Final = 12_000
#: Filters in one Watch, bytes of members in one Members.
CHUNK: Final = 1_000
CHUNK_BYTES: Final = 262_144

#: Kinds of `Members`: a whole list begins, goes on as "joined", and ends; a Watch has its answer.
SNAPSHOT: Final = "snapshot"
JOINED: Final = "joined"
LEFT: Final = "left"
COMPLETE: Final = "complete"
KNOWN: Final = "known"


class Link(Protocol):
    """What of a link is needed here."""

    heard_ms: int

    @property
    def peer(self) -> Any:
        """Who is at the other end."""

    @property
    def is_dialler(self) -> bool:
        """Whether this node asks on it."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits that streams are to stop."""

    def put(self, frame: Frame) -> None:
        """Send; never blocks."""


class _Topic(Struct):
    """The parameters of ASK."""

    topic: str


class _Connection(Struct):
    """The parameters of REPLACED."""

    connection: str
    user: str


class _Listed(Struct):
    """The result of ASK."""

    members: list[Raw]
    complete: bool


class _Identified(Struct):
    id: str


_identify: Final = msgspec.json.Decoder(_Identified).decode


class _Asked:
    """A node whose members this one is told of."""

    __slots__ = ("gathered", "incarnation", "is_known", "is_whole", "link", "opening", "unanswered")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.incarnation = link.peer.incarnation
        self.unanswered = 0  # Watches
        self.opening = 0  # those of them that said all that is watched, when the link was new
        self.is_whole = False  # the list that has begun has ended
        self.is_known = False  # a whole list has come over this link
        self.gathered: dict[str, dict[str, bytes]] | None = None  # of a list that has begun

    def watch(self, kind: str, filters: list[str]) -> None:
        """Say what is watched here, or not any more."""
        for start in range(0, max(len(filters), 1), CHUNK):
            self.link.put(Watch(kind, filters[start : start + CHUNK]))
            if kind != "drop":
                self.unanswered += 1
                kind = "add"


class _Telling:
    """A node that wants to know of members here."""

    __slots__ = ("filters", "is_behind", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.filters: dict[str, None] = {}
        self.is_behind = False  # its link was full: it is told all again when there is room


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
        self._asked: dict[str, _Asked] = {}  # by node
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
            asked.watch("add", [filter])

    def unwatched(self, filter: str) -> None:
        """They need not say any more."""
        for asked in self._asked.values():
            asked.watch("drop", [filter])

    def replaced(self, connection: str, user: str) -> None:
        """Whoever has that connection ends it, and its will is not needed."""
        if connection not in self._node.sessions:
            params = msgspec.json.encode(_Connection(connection, user))
            for asked in self._asked.values():
                asked.link.put(Call(self._next_id(), REPLACED, params))

    def _next_id(self) -> int:
        self._last_id -= 1
        return self._last_id

    # Links

    def opened(self, link: Link) -> None:
        """A link is open."""
        if link.is_dialler:
            asked = self._asked[link.peer.node] = _Asked(link)
            asked.watch("snapshot", self._presence.filters)
            asked.opening = asked.unanswered
        else:
            self._telling[link] = _Telling(link)

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
            if telling.is_behind and not telling.link.is_full:
                telling.is_behind = False
                self._tell_all(telling)
        self._give_up(lambda node, question: question.due_ms <= now_ms)

    # What others watch

    def received_watch(self, link: Link, frame: Watch) -> None:
        """Another node says what it wants to know."""
        _expect(not link.is_dialler)
        telling = self._telling[link]
        if frame.kind == "snapshot":
            self._forget(telling)
        new = [filter for filter in frame.filters if filter not in telling.filters]
        if frame.kind == "drop":
            for filter in frame.filters:
                if filter in telling.filters:
                    del telling.filters[filter]
                    self._tree.remove(filter, telling)
            return
        for filter in dict.fromkeys(new):
            telling.filters[filter] = None
            self._tree.add(filter, telling)
        if frame.kind == "snapshot":
            self._tell_all(telling)
        elif not telling.is_behind:
            self._put_members(link, JOINED, self._members_of(new))
        link.put(Members(KNOWN, {}))

    def _members_of(self, filters: list[str]) -> dict[str, list[bytes]]:
        """Those here on topics that one of the filters matches."""
        matching: TopicTree[str, bool] = TopicTree(bool, 0)
        for filter in dict.fromkeys(filters):
            matching.add(filter, filter)
        return self._presence.here(matching.match)

    def _tell_all(self, telling: _Telling) -> None:
        """The whole list of what a node watches."""
        self._put_members(telling.link, SNAPSHOT, self._members_of(list(telling.filters)))
        telling.link.put(Members(COMPLETE, {}))

    def _put_members(self, link: Link, kind: str, members: dict[str, list[bytes]]) -> None:
        for part in _parts(members):
            link.put(Members(kind, part))
            kind = JOINED
        if kind == SNAPSHOT:
            link.put(Members(SNAPSHOT, {}))

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
            asked.unanswered -= 1
            asked.opening = max(asked.opening - 1, 0)
        elif frame.kind == COMPLETE:
            asked.is_whole = True
        elif asked.gathered is None:
            self._presence.merge(node, frame.kind, frame.topics)
        else:
            _gather(asked.gathered, frame)
        if asked.gathered is not None and asked.is_whole and not asked.opening:
            self._take_all(asked, node, asked.gathered)

    def _take_all(self, asked: _Asked, node: str, gathered: dict[str, dict[str, bytes]]) -> None:
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
            if was_watched and asked.is_known and not asked.unanswered:
                continue  # what it says is known, and kept up to date
            id = self._next_id()
            question.waiting[id] = node
            self._questions[id] = question
            asked.link.put(Call(id, ASK, params))
        if not question.waiting:
            self._answer(question)

    def called(self, link: Link, frame: Call) -> None:
        """Another node asks, or tells. Raises msgspec.MsgspecError."""
        if frame.method == REPLACED:
            told = msgspec.json.decode(frame.params, type=_Connection)
            self._node.replaced_elsewhere(told.connection, told.user)
            return
        topic = msgspec.json.decode(frame.params, type=_Topic).topic
        members = self._presence.here_on(topic)
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
            question.listed |= {_identify(raw).id: bytes(raw) for raw in listed.members}
            question.is_partial |= not listed.complete
        self._waits_no_more(question, frame.id)

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
        known = {_identify(json).id: json for json in self._presence.members(question.topic)}
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


def _once(tellings: list[_Telling]) -> tuple[_Telling, ...]:
    return tuple(dict.fromkeys(tellings))


def _gather(gathered: dict[str, dict[str, bytes]], frame: Members) -> None:
    for topic, members in frame.topics.items():
        known = gathered.setdefault(topic, {})
        for json in members:
            if frame.kind == LEFT:
                known.pop(_identify(json).id, None)
            else:
                known[_identify(json).id] = json


def _parts(members: dict[str, list[bytes]]) -> Iterator[dict[str, list[bytes]]]:
    """In pieces that fit into a frame."""
    part: dict[str, list[bytes]] = {}
    size = 0
    for topic, jsons in members.items():
        for json in jsons:
            part.setdefault(topic, []).append(json)
            size += len(topic) + len(json)
            if size >= CHUNK_BYTES:
                yield part
                part, size = {}, 0
    if part:
        yield part


#: What a node says of presence, and the methods of its calls.
HANDLERS: Final[dict[type[Frame], Callable[[FarPresence, Link, Any], None]]] = {
    Watch: FarPresence.received_watch,
    Members: FarPresence.received_members,
}
METHODS: Final = frozenset({ASK, REPLACED})
