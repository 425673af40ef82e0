"""Owner: another node, as the owner of logs that are mirrored here: what it says on the link that asks it.

Pure. Knows which link is the newest and hands each frame to the mirror it is for; what the frames mean is theirs.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from triode_broker.cluster.frames import (
    Behind,
    Deliver,
    Found,
    Frame,
    Interested,
    Mark,
    Older,
    Rows,
)
from triode_broker.cluster.mirror import Mirror
from triode_broker.cluster.questions import Answer, Link, Questions


class Register(Protocol):
    """Who tells owners what this node wants to hear; `interest.Interests`."""

    def opened(self, owner: "Owner", link: Link) -> None:
        """Tell it everything."""

    def closed(self, owner: "Owner") -> None:
        """It knows nothing any more."""

    def interested(self, owner: "Owner", frame: Interested) -> None:
        """It knows so much."""

    def progressed(self, mirror: Mirror) -> None:
        """The head has moved by reading."""

    def has_all_due(self, owner: "Owner") -> bool:
        """Whether it knows what those want who do without one of its shards."""


class Owner:
    """Another node, as the owner of logs that are mirrored here: what it says on the link that asks it."""

    def __init__(self, node: str, register: "Register") -> None:
        self.node = node
        self._register = register
        self.link: Link | None = None  # the newest
        self.is_confirmed = False  # all interest there was when the link opened is registered there
        self.mirrors: dict[str, Mirror] = {}
        self.questions = Questions()

    def opened(self, link: Link) -> None:
        """A link that this node dialled is open; what comes of an earlier one is not looked at any more."""
        if self.link is not None:
            self.closed(self.link)
        self.link = link
        self._register.opened(self, link)
        self.questions.opened(link)

    def closed(self, link: Link) -> None:
        """The link is gone."""
        if link is not self.link:
            return
        self.link = None
        self.is_confirmed = False
        self._register.closed(self)
        self.questions.closed()
        for mirror in self.mirrors.values():
            mirror.cut()

    def received(self, link: Link, frame: Frame) -> None:
        """One of the frames of HANDLERS."""
        if self._is_newest(link):
            HANDLERS[type(frame)](self, frame)

    def _is_newest(self, link: Link) -> bool:
        return link is self.link

    def confirmed(self, heads: dict[str, int]) -> None:
        """The owner has all interest there was; everything behind these heads is streamed."""
        self.is_confirmed = True
        for mirror in list(self.mirrors.values()):
            mirror.joined(heads.get(mirror.name))

    @property
    def has_all_due(self) -> bool:
        """Whether it has registered what those want who do without one of its shards."""
        return self.is_confirmed and self._register.has_all_due(self)

    def progressed(self, mirror: Mirror) -> None:
        """The head of a log has moved by reading."""
        self._register.progressed(mirror)

    def tick(self) -> None:
        """About once a second."""
        for mirror in list(self.mirrors.values()):
            mirror.tick()

    def _interested(self, frame: Interested) -> None:
        self._register.interested(self, frame)

    def _deliver(self, frame: Deliver) -> None:
        if (mirror := self.mirrors.get(frame.log)) is not None:
            mirror.deliver(frame)

    def _mark(self, frame: Mark) -> None:
        if (mirror := self.mirrors.get(frame.log)) is not None:
            mirror.mark(frame)

    def _behind(self, frame: Behind) -> None:
        if (mirror := self.mirrors.get(frame.log)) is not None:
            mirror.behind(frame)

    def _answered(self, frame: Answer) -> None:
        self.questions.answered(frame)


HANDLERS: Final[dict[type[Frame], Callable[[Owner, Any], None]]] = {
    Interested: Owner._interested,
    Deliver: Owner._deliver,
    Mark: Owner._mark,
    Behind: Owner._behind,
    Rows: Owner._answered,
    Older: Owner._answered,
    Found: Owner._answered,
}
