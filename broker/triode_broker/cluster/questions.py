"""Questions: what one other node is asked about its logs, over whatever link there is to it at the time.

Pure. Knows frames and who waits for an answer, nothing of what the answers mean. At most MAX_RUNNING are under
way; the rest wait. Their number is bounded by who asks: a subscription, a name and a history request each wait for
one answer at a time (`Outbox.questions`), and what several ask is one question. A lost link costs no answer: what
was under way is asked again over the next one.

The surprising decision: a question that is already under way is not joined. Its answer may be older than what the
second asker has been told of; so the second waits until the first is answered, and is joined by all that come
meanwhile. However many ask the same, two questions serve them.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from triode_broker.cluster.frames import Found, Frame, Older, Read, ReadBack, Rows, Seek

MAX_RUNNING = 32

Answer = Rows | Older | Found
#: Takes what was answered, or None: it will not be.
Take = Callable[[Answer | None], None]
#: A question, and who waits for its answer.
Asked = tuple[type[Read | ReadBack | Seek], tuple[str | int, ...], Take]


class Link(Protocol):
    """What is said to another node: in order, and for as long as the link is open."""

    drained: Callable[[], None]  # called when some of what waits has been sent

    @property
    def outbox_bytes(self) -> int:
        """How much waits to be sent."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits that streams are to stop."""

    def put(self, frame: Frame) -> None:
        """Send it; never blocks."""

    def close(self, reason: str) -> None:
        """End it."""


class _Question:
    """One frame that is asked, and all who wait for its answer."""

    __slots__ = ("fields", "is_urgent", "key", "kind", "takes")

    def __init__(self, kind: type[Read | ReadBack | Seek], fields: tuple[str | int, ...], take: Take) -> None:
        self.kind = kind
        self.fields = fields
        self.key = (kind, fields)
        self.takes = [take]
        self.is_urgent = False

    @property
    def log(self) -> str | int:
        """Every question is about one log, and names it first."""
        return self.fields[0]


_Key = tuple[type[Read | ReadBack | Seek], tuple[str | int, ...]]


class Questions:
    """Those to one node."""

    def __init__(self) -> None:
        self._link: Link | None = None
        self._last_id = 0
        self._running: dict[int, _Question] = {}
        self._asked: dict[_Key, None] = {}  # of the running ones
        self._waiting: deque[_Question] = deque()
        self._unsent: dict[_Key, _Question] = {}  # those that wait, for their turn or for one like them

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many are not."""
        return len(self._unsent)

    def ask(self, kind: type[Read | ReadBack | Seek], fields: tuple[str | int, ...], take: Take) -> None:
        """Ask as soon as there is a link and room. `take` is called once, never before this returns."""
        if (like := self._unsent.get((kind, fields))) is not None:
            like.takes.append(take)
            return
        question = _Question(kind, fields, take)
        self._unsent[question.key] = question
        if question.key not in self._asked:
            self._waiting.append(question)
            self._go_on()

    def ask_first(self, fields: tuple[str | int, ...], take: Take) -> None:
        """A Read that all others wait for. It ends with the link, unanswered."""
        question = _Question(Read, fields, take)
        question.is_urgent = True
        self._waiting.appendleft(question)
        self._go_on()

    def _go_on(self) -> None:
        while self._link is not None and self._waiting and len(self._running) < MAX_RUNNING:
            question = self._waiting.popleft()
            if not question.is_urgent:
                del self._unsent[question.key]
                self._asked[question.key] = None
            self._last_id += 1
            self._running[self._last_id] = question
            self._link.put(question.kind(self._last_id, *question.fields))  # type: ignore[arg-type]  # as it says

    def opened(self, link: Link) -> None:
        """Ask all there is to ask."""
        self._link = link
        self._go_on()

    def closed(self) -> None:
        """Nothing that is under way will be answered."""
        self._link = None
        again, self._running = list(self._running.values()), {}
        self._asked.clear()
        for question in reversed(again):
            if question.is_urgent:
                continue
            if (like := self._unsent.get(question.key)) is not None:
                question.takes += like.takes
            self._unsent[question.key] = question
            self._waiting.appendleft(question)
        self._waiting = deque(question for question in self._waiting if not question.is_urgent)

    def answered(self, frame: Answer) -> None:
        """Hand an answer to all who wait for it; of what is not known any more, nobody does."""
        question = self._running.pop(frame.id, None)
        if question is None:
            return
        self._asked.pop(question.key, None)
        if not question.is_urgent and (like := self._unsent.get(question.key)) is not None:
            self._waiting.append(like)
        self._go_on()
        for take in question.takes:
            take(frame)

    def take_out(self, log: str) -> list[Asked]:
        """What is asked about a log and is to be asked of somebody else; what others wait for is dropped."""
        found: list[Asked] = []
        for question in self._running.values():
            if question.log == log:
                takes, question.takes = question.takes, []
                found += [] if question.is_urgent else [(question.kind, question.fields, take) for take in takes]
        for question in [one for one in self._unsent.values() if one.log == log]:
            found += [(question.kind, question.fields, take) for take in question.takes]
            del self._unsent[question.key]
        self._waiting = deque(
            one for one in self._waiting if one.log != log and (one.is_urgent or one.key in self._unsent)
        )
        return found

    def withdraw(self, log: str) -> list[Take]:
        """Those who wait for answers about a log, and do so no more."""
        found: list[Take] = []
        for question in self._running.values():
            if question.log == log and not question.is_urgent:
                found += question.takes
                question.takes = []
        for question in [one for one in self._unsent.values() if one.log == log]:
            found += question.takes
            del self._unsent[question.key]
        self._waiting = deque(one for one in self._waiting if one.is_urgent or one.key in self._unsent)
        return found
