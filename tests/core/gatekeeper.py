"""A gate that knows its clients by heart: at once, or when it is told to answer."""

from collections.abc import Callable
from typing import Any

from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.rights import Action, Rights
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from tests.core.desk import Desk, Line, Packet

Done = Callable[[Identity | Refused], None]
EVERYWHERE = "#"


def rights(**filters: str) -> Rights:
    """Rights to some filters by action, `deny_…` included; several filters are parted by a space."""
    allow: dict[Action, list[str]] = {}
    deny: dict[Action, list[str]] = {}
    for action, said in filters.items():
        into = deny if action.startswith("deny_") else allow
        into[action.removeprefix("deny_")] = said.split()  # type: ignore[index]  # a test's own word
    return Rights(allow, deny)


class Gatekeeper:
    """`interfaces.Gate`. While `is_slow` nobody is answered before `answer`."""

    def __init__(self) -> None:
        self.known: dict[str, Identity | Refused] = {}
        self.asked: list[tuple[str, Arrival]] = []
        self.waiting: list[tuple[str, Done]] = []
        self.is_slow = False

    def ask(self, token: str, arrival: Arrival, done: Done) -> None:
        """Who this is."""
        self.asked.append((token, arrival))
        if self.is_slow:
            self.waiting.append((token, done))
        else:
            done(self._judge(token))

    def _judge(self, token: str) -> Identity | Refused:
        return self.known.get(token, Refused(ErrorName.UNAUTHORIZED, "nobody has this token"))

    def answer(self) -> Done:
        """Who has waited longest has its answer; returned for whoever gives it twice."""
        token, done = self.waiting.pop(0)
        done(self._judge(token))
        return done

    def know(self, token: str, user: str = "", **fields: Any) -> Identity:
        """From here on this token is that user's; `filters` are its rights, as for `rights`."""
        if (filters := fields.pop("filters", None)) is not None:
            fields["rights"] = rights(**filters)
        identity = self.known[token] = Identity(user or token, **fields)
        return identity


class Guarded:
    """A desk with a gatekeeper."""

    def __init__(self, *rules: Any, **settings: Any) -> None:
        self.gate = Gatekeeper()
        self.desk = Desk(*rules, gate=self.gate, **settings)

    def enter(self, token: str, **fields: Any) -> Line:
        """A connected client."""
        return self.desk.connect(token=token, **fields)

    def allow(self, token: str, line: Line | None = None, **filters: str) -> Line:
        """A connected client with these rights: a new one, or the one that shows this token now."""
        user = token if line is None else line.session.user
        self.gate.know(token, user, filters=filters)
        if line is None:
            return self.enter(token)
        line.send({"type": "auth", "id": 77, "token": token})
        return line


def error_of(packets: list[Packet]) -> Packet:
    """The one that there is, and nothing else."""
    (packet,) = packets
    assert packet["type"] == "error", packet
    return packet
