"""Tapping: what a connection says and is told, for an operator who looks into it.

Knows sessions and outboxes, nothing of who listens or why. The surprising decision: a connection that is tapped
becomes another class, and its outbox's list another one, and both become again what they were. So all others,
which are nearly all, pay nothing for it: not a branch, not a look at a field.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from triode_broker.core.node import Node
from triode_broker.core.session import Session


class Ear(Protocol):
    """Whoever listens. Nothing in it may raise."""

    def wants(self, session: Session) -> bool:
        """Whether it listens to this one."""

    def entered(self, session: Session) -> None:
        """From here on it hears it."""

    def heard(self, session: Session, text: str) -> None:
        """The broker has this from it."""

    def told(self, session: Session, item: bytes, *, is_payload: bool) -> None:
        """It is sent this; `is_payload`: a bare packet, else as it is written to the wire."""

    def left(self, session: Session, code: int) -> None:
        """It is gone."""


class Taps:
    """Of one node; it is the node's `taps` while anybody listens."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ears: list[Ear] = []
        self._tapped: dict[Session, list[Ear]] = {}

    def __len__(self) -> int:
        """Connections that somebody listens to."""
        return len(self._tapped)

    def open(self, ear: Ear) -> None:
        """Listen to those that it wants of who is connected, and to those that come in from now on."""
        self._ears.append(ear)
        self._node.taps = self
        for session in list(self._node.sessions.values()):
            self._attach(session, ear)

    def close(self, ear: Ear) -> None:
        """No more."""
        self._ears.remove(ear)
        for session, ears in list(self._tapped.items()):
            if ear in ears:
                ears.remove(ear)
                if not ears:
                    del self._tapped[session]
                    Tapped.end(session)
        if not self._ears:
            self._node.taps = None

    def entered(self, session: Session) -> None:
        """It has connected."""
        for ear in self._ears:
            self._attach(session, ear)

    def _attach(self, session: Session, ear: Ear) -> None:
        if not ear.wants(session):
            return
        if session not in self._tapped:
            self._tapped[session] = []
            Tapped.begin(session)
        self._tapped[session].append(ear)
        ear.entered(session)

    def heard(self, session: Session, text: str) -> None:
        """It has said something."""
        for ear in self._tapped[session]:
            ear.heard(session, text)

    def told(self, session: Session, item: bytes, *, is_payload: bool) -> None:
        """It is told something."""
        for ear in self._tapped[session]:
            ear.told(session, item, is_payload=is_payload)

    def left(self, session: Session, code: int) -> None:
        """It is gone: nobody listens to it any more."""
        for ear in self._tapped.pop(session):
            ear.left(session, code)


class _Items(list[bytes]):
    """An outbox's list that tells what is put into it."""

    __slots__ = ("hear",)

    hear: Callable[[bytes], None]

    def append(self, item: bytes, /) -> None:
        super().append(item)
        self.hear(item)


class Tapped(Session):
    """A session that is listened to. Its fields are those of any other."""

    __slots__ = ()

    @staticmethod
    def begin(session: Session) -> None:
        """From here on it is one."""
        session.__class__ = Tapped
        outbox = session._outbox
        items = _Items(outbox.items)
        items.hear = partial(Tapped._told, session)
        outbox.items = items

    @staticmethod
    def end(session: Session) -> None:
        """It is one no longer."""
        session._outbox.items = list(session._outbox.items)
        session.__class__ = Session

    def _told(self: Session, item: bytes) -> None:
        taps = self._node.taps
        assert taps is not None
        taps.told(self, item, is_payload=self._outbox.is_batch)

    def receive_text(self, text: str, now_ms: int) -> None:
        """`Session.receive_text`."""
        taps = self._node.taps
        assert taps is not None
        taps.heard(self, text)
        super().receive_text(text, now_ms)

    def detach(self) -> None:
        """`Session.detach`."""
        taps = self._node.taps
        assert taps is not None
        code = self._outbox.connection.close_code
        super().detach()
        Tapped.end(self)
        taps.left(self, code)
