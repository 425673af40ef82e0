"""S19: the gate with revocations around it: who is asked, who is refused, who waits."""

from collections.abc import Callable

from attrs import define, field
from triode_broker.core.guarded import ASKED_PER_TURN, Guarded
from triode_broker.core.identity import UNKNOWN, Arrival, Identity
from triode_broker.core.revocations import Revocation, Revocations
from triode_broker.core.timers import Timers
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from tests.core.gatekeeper import Guarded as Keepers

NOW = 1_000


@define
class Desk:
    """A gate that answers when the test says so."""

    asked: list[tuple[str, Callable[[Identity | Refused], None]]] = field(factory=list)
    revocations: Revocations = field(factory=lambda: Revocations(10))
    timers: Timers = field(factory=lambda: Timers(lambda: NOW))
    answers: list[str] = field(factory=list)
    guarded: Guarded = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.timers.hear(NOW)
        self.guarded = Guarded(self, self.revocations, self.timers)

    def ask(self, token: str, arrival: Arrival, done: Callable[[Identity | Refused], None]) -> None:
        self.asked.append((token, done))

    def knock(self, token: str) -> None:
        """Somebody wants to come in."""
        self.guarded.ask(token, UNKNOWN, self.take)

    def take(self, answer: Identity | Refused) -> None:
        self.answers.append(answer.user if isinstance(answer, Identity) else answer.name)

    def answer(self) -> None:
        """Everybody is who the token says."""
        asked, self.asked = self.asked, []
        for token, done in asked:
            done(Identity(token) if token != "bad" else Refused(ErrorName.UNAUTHORIZED, "no"))


def test_who_is_revoked_when_the_answer_comes_is_refused() -> None:
    desk = Desk()
    for token in ("ada", "bob", "bad"):
        desk.knock(token)
    desk.revocations.add(Revocation("user", "ada", NOW, 0))
    desk.answer()
    assert desk.answers == ["revoked", "bob", "unauthorized"]


def test_while_it_is_held_everybody_waits_and_nobody_is_asked() -> None:
    desk = Desk()
    desk.guarded.hold()
    desk.guarded.hold()
    desk.knock("ada")
    assert (desk.asked, desk.guarded.waiting) == ([], 1)
    desk.guarded.release()
    desk.knock("bob")  # behind those who wait
    desk.guarded.release()
    desk.timers.tick(NOW)
    desk.answer()
    assert (desk.answers, desk.guarded.waiting) == (["ada", "bob"], 0)
    desk.timers.tick(NOW)
    desk.knock("eve")
    desk.answer()
    assert desk.answers[-1] == "eve"


def test_those_who_have_waited_are_asked_in_pieces() -> None:
    desk = Desk()
    desk.guarded.hold()
    for number in range(ASKED_PER_TURN + 1):
        desk.knock(str(number))
    desk.guarded.release()
    desk.timers.tick(NOW)
    assert len(desk.asked) == ASKED_PER_TURN
    desk.guarded.hold()  # cut off again
    desk.timers.tick(NOW)
    assert (len(desk.asked), desk.guarded.waiting) == (ASKED_PER_TURN, 1)
    desk.guarded.release()
    desk.timers.tick(NOW)
    assert len(desk.asked) == ASKED_PER_TURN + 1


def test_s2_who_is_gone_waits_no_longer() -> None:
    """Neither with its connect nor with an auth: nothing of it stays, and nobody is asked who it was."""
    keeper = Keepers()
    keeper.gate.know("t", "alice")
    connected, stranger = keeper.enter("t"), keeper.desk.dial()
    guarded = keeper.desk.node.guarded
    assert guarded is not None
    guarded.hold()
    stranger.send({"type": "connect", "id": 1, "token": "t"})
    connected.send({"type": "auth", "id": 2, "token": "t"})
    assert guarded.waiting == 2
    stranger.session.detach()
    connected.session.detach()
    assert guarded.waiting == 0
    guarded.release()
    keeper.desk.wait()
    assert len(keeper.gate.asked) == 1
