"""Names that are at home on other nodes when the rights of their client change (SPEC 11.5.1, 9.9)."""

from triode_broker.core.identity import Identity
from triode_protocol.errors import CloseCode

from tests.core.desk import Line, Packet
from tests.core.gatekeeper import rights
from tests.core.test_away import Tape, join, joined, make


def delivery(sub: int, data: int) -> Packet:
    return {"type": "delivery", "sub": sub, "attempt": 1, "message": {"type": "message", "data": data}}


def members() -> tuple[Line, Tape, Packet]:
    """A client with two members, of which it may only keep the second; what it is told of the first."""
    desk, roads = make()
    line = desk.connect()
    joined(line, roads, 1, filter="m/a", name="g")
    tape = joined(line, roads, 2, filter="m/b", name="h")
    line.session.become(Identity("", rights=rights(consume="m/b")))
    (told,) = line.drain()
    return line, tape, told


def test_home_is_told_to_end_what_is_not_allowed_any_more() -> None:
    line, tape, told = members()
    assert (told["type"], told["sub"], told["name"], told["retry"]) == ("unsubscribed", 1, "forbidden", "never")
    assert tape.told[-1] == {"type": "unsubscribe", "sub": 1}
    assert line.session.subscription_count == 1


def test_what_its_home_still_says_of_it_reaches_nobody() -> None:
    """G10: a delivery that was on its way is not passed on, and its home gives it to another one."""
    line, tape, _ = members()
    tape.say(delivery(1, 1), delivery(2, 2), {"type": "gap", "sub": 1, "after": {}, "reason": "slow"})
    assert line.drain() == [delivery(2, 2)]
    tape.say({"type": "unsubscribed", "sub": 1})
    tape.say(delivery(2, 3))
    assert line.drain() == [delivery(2, 3)]
    assert not tape.away._expelled


def test_what_was_asked_of_it_before_is_answered() -> None:
    desk, roads = make()
    line = desk.connect()
    tape = joined(line, roads)
    line.send({"type": "ack", "id": 7, "sub": 1, "log": "m0-x", "pos": 1})
    line.session.become(Identity("", rights=rights(consume="other")))
    line.drain()
    error = {"type": "error", "id": 7, "sub": 1, "name": "conflict", "message": "no", "retry": "never"}
    tape.say(error)
    assert line.drain() == [error]


def test_one_that_was_not_answered_yet_is_refused() -> None:
    desk, roads = make()
    line = desk.connect()
    join(line)
    line.session.become(Identity("", rights=rights(consume="other")))
    (error,) = line.drain()
    assert (error["type"], error["id"], error["sub"], error["name"]) == ("error", 101, 1, "forbidden")
    roads.tape.say({"type": "subscribed", "id": 101, "sub": 1, "after": {}, "live": True}, delivery(1, 1))
    assert line.drain() == []
    assert line.session.subscription_count == 0


def test_home_that_is_lost_meanwhile_changes_nothing() -> None:
    line, tape, _ = members()
    tape.away.lost(tape)
    (lost,) = line.drain()
    assert (lost["sub"], lost["name"]) == (2, "unavailable")
    line.close(CloseCode.REVOKED)
    line.session.detach()
