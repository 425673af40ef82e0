"""Every session is visited once, some in each turn; and everybody is judged when the rules have changed (G10)."""

from triode_broker.core.identity import Identity
from triode_broker.core.rounds import STEP_MS, TURN_MS, VISITED_PER_TURN
from triode_broker.core.session import Session
from triode_broker.core.standing import DROP_MS
from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode, ErrorName

from tests.core.desk import Desk
from tests.core.gatekeeper import Guarded, rights


def test_sessions_are_visited_in_pieces_of_a_turn() -> None:
    desk = Desk()
    lines = [desk.connect() for _ in range(2 * VISITED_PER_TURN)]
    visited: list[Session] = []
    desk.node.visit_all(visited.append)
    assert visited == [], "whoever asks is not held up"
    desk.wait()
    assert len(visited) == VISITED_PER_TURN
    lines[-1].session.detach()
    late = desk.connect()
    desk.wait(STEP_MS)
    assert len(visited) == 2 * VISITED_PER_TURN - 1
    assert late.session not in visited
    desk.wait(10 * STEP_MS)
    assert len(visited) == 2 * VISITED_PER_TURN - 1


def test_a_round_in_the_place_of_another_begins_with_whom_that_had_not_come_to() -> None:
    """S8: one after the other, sooner than each comes to its end, they visit everybody, and no more in a turn."""
    desk = Desk()
    lines = [desk.connect() for _ in range(2 * VISITED_PER_TURN)]
    visited: list[Session] = []
    desk.node.visit_all(visited.append)
    desk.wait()
    desk.node.visit_all(visited.append)
    desk.node.visit_all(visited.append)
    desk.wait(STEP_MS)
    assert set(visited) == {line.session for line in lines}
    assert len(visited) == 2 * VISITED_PER_TURN
    desk.wait(STEP_MS)
    desk.wait(STEP_MS)
    assert len(visited) == 3 * VISITED_PER_TURN


def test_a_turn_ends_when_it_has_taken_long() -> None:
    """S8: whoever takes long to be judged holds up nobody but those behind it."""
    desk = Desk()
    for _ in range(3):
        desk.connect()
    visited: list[Session] = []

    def visit(session: Session) -> None:
        visited.append(session)
        desk.steady_ms += TURN_MS

    desk.node.visit_all(visit)
    for count in (1, 2, 3, 3):
        desk.node.timers.tick(desk.now_ms)
        assert len(visited) == count
        desk.steady_ms += STEP_MS


def test_rules_that_have_changed_judge_everybody() -> None:
    """SPEC 11.5.4: those with other rights go on by them, those who are nobody any more are closed."""
    guarded = Guarded()
    lines = {}
    for token in ("same", "less", "expired", "revoked", "unknown"):
        guarded.gate.know(token, filters={"subscribe": "a"})
        lines[token] = guarded.enter(token)
        lines[token].subscribe(1, "a")
    same = lines["same"].session.identity
    refusals = {
        "expired": ErrorName.TOKEN_EXPIRED,
        "revoked": ErrorName.REVOKED,
        "unknown": ErrorName.UNAUTHORIZED,
    }

    def judge(identity: Identity) -> Identity | Refused:
        if identity.user == "same":
            return identity
        if identity.user == "less":
            return Identity("less", rights=rights(subscribe="b"))
        return Refused(refusals[identity.user], "no more")

    guarded.desk.node.judge_all(judge)
    guarded.desk.wait()
    assert lines["same"].session.identity is same
    assert lines["same"].drain() == []
    (ended,) = lines["less"].drain()
    assert (ended["type"], ended["sub"], ended["name"]) == ("unsubscribed", 1, "forbidden")
    assert not lines["less"].closed_with
    assert [lines[token].closed_with for token in refusals] == [
        CloseCode.TOKEN_EXPIRED,
        CloseCode.REVOKED,
        CloseCode.AUTH_FAILED,
    ]
    assert not any(lines[token].is_dropped for token in refusals)
    guarded.desk.wait(DROP_MS)
    assert all(lines[token].is_dropped for token in refusals), "G10: whether they read their goodbye or not"
    assert not lines["less"].is_dropped


def test_sessions_can_be_closed_and_dropped_by_others() -> None:
    line = Desk().connect()
    line.session.close(CloseCode.REVOKED)
    assert (line.closed_with, line.is_dropped) == (CloseCode.REVOKED, False)
    line.session.drop()
    assert line.is_dropped
