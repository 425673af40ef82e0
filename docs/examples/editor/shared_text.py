"""A text that several people edit at once: which operations count, and what becomes of one's own meanwhile.

Knows no broker and does no I/O: it is given what the log brings and says what to publish. The rules, for clients
in any language, are in README.md beside this file. The surprising decision: an operation that was made for an
older text counts for nothing, so nobody ever has to transform what somebody else published, and all texts are
equal by construction; only who lost the race does some work, and tries again.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

MOST_CHANGES = 1_000  # in one operation

#: What it does from the beginning of the text on: keep n characters, delete n (negative), insert a string.
Change = list[int | str]


class DoesNotFit(ValueError):
    """A change is none, or runs over the end of the text."""


def parse(data: object) -> Change:
    """A change as it came in a message. Raises DoesNotFit."""
    if not isinstance(data, list):
        raise DoesNotFit(f"no change: {data!r}")
    return [_parse_step(step) for step in data]


def _parse_step(step: object) -> int | str:
    if isinstance(step, str) and step:
        return step
    if isinstance(step, int) and not isinstance(step, bool) and step:
        return step
    if isinstance(step, float) and step and step.is_integer():  # for JavaScript 1.0 is 1, so it is for everybody
        return int(step)
    raise DoesNotFit(f"no step of a change: {step!r}")


def apply(change: Change, text: str) -> str:
    """The text that a change makes of this one. Raises DoesNotFit."""
    done: list[str] = []
    at = 0
    for step in change:
        if isinstance(step, str):
            done.append(step)
        else:
            if step > 0:
                done.append(text[at : at + step])
            at += abs(step)
    if at > len(text):
        raise DoesNotFit(f"{at} characters of {len(text)}")
    return "".join(done) + text[at:]


def rebase(mine: Change, theirs: Change, *, mine_first: bool = False) -> Change:
    """A change with the same intent for the text that `theirs` makes of the text that both were made for.

    `mine_first`: what `mine` inserts stands before what `theirs` inserts at the same place.
    """
    rebased: Change = []
    my, their = _Steps(mine), _Steps(theirs)
    while my.is_left:
        if isinstance(my.step, str) and (mine_first or not isinstance(their.step, str)):
            _add(rebased, my.step)
            my.forth()
        elif isinstance(their.step, str):
            _add(rebased, len(their.step))
            their.forth()
        else:
            assert not isinstance(my.step, str)
            length = min(abs(my.step), abs(their.step)) if their.step else abs(my.step)
            if their.step >= 0:  # what they delete is gone, whatever I say of it
                _add(rebased, length if my.step > 0 else -length)
            my.forth(length)
            their.forth(length)
    if rebased and isinstance(rebased[-1], int) and rebased[-1] > 0:
        rebased.pop()  # the rest is kept anyhow
    return rebased


def rebase_all(mine: list[Change], theirs: Change) -> list[Change]:
    """Changes that follow each other, rebased over one that was made for the text before the first of them."""
    rebased = []
    for change in mine:
        if moved := rebase(change, theirs):
            rebased.append(moved)
        theirs = rebase(theirs, change, mine_first=True)
    return rebased


def difference(old: str, new: str) -> Change:
    """The change that makes `new` of `old`, in one place; empty if they are equal."""
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    tail = 0
    while tail < min(len(old), len(new)) - same and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    change: Change = []
    for step in (same, new[same : len(new) - tail], same + tail - len(old)):
        if step:
            _add(change, step)
    return [] if old == new else change


class _Steps:
    """The steps of a change, taken in pieces; 0 behind the last one: keeps all that is left."""

    def __init__(self, change: Change) -> None:
        self._rest = iter(change)
        self.step: int | str = next(self._rest, 0)

    @property
    def is_left(self) -> bool:
        return bool(self.step)

    def forth(self, length: int = 0) -> None:
        """Past this step, or past so many characters of it."""
        if isinstance(self.step, int) and abs(self.step) > length:
            self.step += -length if self.step > 0 else length
        elif self.step:
            self.step = next(self._rest, 0)


def _add(change: Change, step: int | str) -> None:
    """Add a step; neighbours of one kind become one."""
    match (change[-1] if change else 0, step):
        case str(last), str(more):
            change[-1] = last + more
        case int(last), int(more) if last * more > 0:
            change[-1] = last + more
        case _:
            change.append(step)


@dataclass
class Operation:
    """What an editor publishes: changes to the text of the version `parent`."""

    id: str
    parent: int
    changes: list[Change]

    @property
    def data(self) -> dict[str, Any]:
        """As it is published."""
        return {"parent": self.parent, "changes": self.changes}


@dataclass
class SharedText:
    """One editor's copy.

    `take` what the log brings, in its order; `edit` as you like; publish what `next_operation` gives, with its id
    as message id, and ask again after each of the two.
    """

    #: The text as the log has it, and how many operations have made it.
    agreed: str = ""
    version: int = 0
    #: Own changes that have not counted yet. The first `_sent` of them are on their way.
    pending: list[Change] = field(default_factory=list)
    _on_its_way: Operation | None = None

    @property
    def text(self) -> str:
        """What the editor shows: what is agreed, and one's own changes."""
        text = self.agreed
        for change in self.pending:
            text = apply(change, text)
        return text

    def edit(self, change: Change) -> None:
        """Change what is shown. Raises DoesNotFit."""
        apply(change, self.text)
        if change:
            self.pending.append(change)

    def next_operation(self) -> Operation | None:
        """What is to be published now; None while one is on its way, or nothing is pending."""
        if self._on_its_way is not None or not self.pending:
            return None
        self._on_its_way = Operation(uuid4().hex, self.version, self.pending[:MOST_CHANGES])
        return self._on_its_way

    def waits_for(self, operation: Operation) -> bool:
        """Whether an operation is on its way and may still count."""
        return self._on_its_way is operation

    def take(self, message_id: str, data: object) -> bool:
        """What a message of the log does to the text; whether it counts and is one's own."""
        changed = self._counts(data)
        if changed is None:
            return False
        changes, self.agreed = changed
        self.version += 1
        mine, self._on_its_way = self._on_its_way, None  # it has counted, or its parent is old: it never will
        if mine is not None and mine.id == message_id:
            del self.pending[: len(mine.changes)]
            return True
        for change in changes:
            self.pending = rebase_all(self.pending, change)
        return False

    def begin_again(self, text: str, version: int) -> None:
        """From a snapshot, after a gap. What is pending goes along."""
        self.pending = rebase_all(self.pending, difference(self.agreed, text))
        self.agreed, self.version, self._on_its_way = text, version, None

    def _counts(self, data: object) -> tuple[list[Change], str] | None:
        """The changes of an operation and the text that they make, if it counts."""
        match data:
            case {"parent": int() | float() as parent, "changes": [_, *_] as said}:
                pass
            case _:
                return None
        if parent != self.version or isinstance(parent, bool) or len(said) > MOST_CHANGES:
            return None
        text = self.agreed
        try:
            changes = [parse(change) for change in said]
            for change in changes:
                text = apply(change, text)
        except DoesNotFit:
            return None
        return changes, text
