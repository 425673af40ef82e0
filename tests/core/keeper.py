"""A gate for tests of permission: who has the token `ann` is ann, with the rights that the test gives her."""

from collections.abc import Callable, Iterable

from triode_broker.core.identity import OPEN, Arrival, Identity
from triode_broker.core.rights import ACTIONS, Rights
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from tests.core.desk import Desk, Line


def everything_on(*filters: str, but: Iterable[str] = ()) -> Rights:
    """All actions on these topics, but for those."""
    denied = tuple(but)
    return Rights(dict.fromkeys(ACTIONS, filters), dict.fromkeys(ACTIONS, denied))


class Keeper:
    """The rules in force, on all of some nodes; without a token everybody may everything."""

    def __init__(self, *desks: Desk) -> None:
        self._desks = desks
        self._who: dict[str, Identity | Refused] = {"": OPEN}
        for desk in desks:
            desk.node.gate = self
            desk.node.wills.judge = self._judge

    def _judge(self, who: Identity) -> Identity | Refused:
        return self._who[who.user]

    def ask(self, token: str, arrival: Arrival, done: Callable[[Identity | Refused], None]) -> None:
        """`interfaces.Gate`."""
        done(self._who[token])

    def let(self, user: str, rights: Rights) -> None:
        """From here on; also where it is connected already."""
        self._set(user, Identity(user, rights=rights))

    def revoke(self, user: str) -> None:
        """From here on it is nobody."""
        self._set(user, Refused(ErrorName.REVOKED, "it was revoked"))

    def _set(self, user: str, who: Identity | Refused) -> None:
        self._who[user] = who
        for desk in self._desks:
            desk.node.judge_all(self._judge)
            desk.wait()

    def connect(self, user: str, rights: Rights) -> Line:
        """A connection of a user, with these rights from here on."""
        self.let(user, rights)
        return self._desks[0].connect(token=user)
