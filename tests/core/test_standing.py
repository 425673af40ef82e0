"""How long a credential is good for, and how a client shows another one (SPEC 11.2, 11.3, G10)."""

from typing import Any

from triode_broker.core.identity import Arrival, Identity
from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode, ErrorName

from tests.core.desk import Line, Packet
from tests.core.gatekeeper import Guarded, error_of

NOW = 1_000_000  # the desk's wall clock at its start
AUTH = {"type": "auth", "id": 5, "token": "new"}


def connected(ms: int, **fields: Any) -> tuple[Guarded, Line, Packet]:
    """A client whose credential is good for so long, and its greeting."""
    guarded = Guarded()
    guarded.gate.know("t", "alice", expires_ms=NOW + ms, **fields)
    line = guarded.desk.dial()
    (greeting,) = line.ask({"type": "connect", "id": 1, "token": "t"})
    return guarded, line, greeting


def code(line: Line) -> int:
    """What it was closed with; 0: it is open."""
    return line.closed_with


def is_answered(line: Line) -> bool:
    return line.session.is_answered


# Time


def test_who_has_no_end_is_told_of_none() -> None:
    """SPEC 11.2.1."""
    guarded = Guarded()
    guarded.gate.know("t")
    line = guarded.desk.dial()
    assert "expires_in_ms" not in line.ask_one({"type": "connect", "token": "t"})
    guarded.desk.wait(10**9)
    assert not code(line)
    assert len(guarded.desk.node.calendar) == 0


def test_a_client_is_told_how_long_then_a_minute_ahead_then_it_is_closed() -> None:
    """SPEC 11.2.1-11.2.3, S19."""
    guarded, line, greeting = connected(600_000)
    assert greeting["expires_in_ms"] == 600_000
    guarded.desk.wait(539_000)
    assert line.drain() == []
    guarded.desk.wait(1_000)
    assert line.drain() == [{"type": "notice", "expires_in_ms": 60_000}]
    guarded.desk.wait(59_999)
    assert not code(line)
    guarded.desk.wait(1)
    assert code(line) == CloseCode.TOKEN_EXPIRED
    assert line.drain() == []


def test_notice_of_a_short_life_comes_at_half_of_it() -> None:
    """SPEC 11.2.2."""
    guarded, line, _ = connected(2_000)
    guarded.desk.wait(1_000)
    assert line.drain() == [{"type": "notice", "expires_in_ms": 1_000}]


def test_who_does_not_read_its_goodbye_is_dropped_in_time() -> None:
    """G10: with a full outbox, too, within 5 s of its end."""
    guarded, line, _ = connected(2_000)
    guarded.desk.wait(2_000)
    assert (code(line), line.is_dropped) == (CloseCode.TOKEN_EXPIRED, False)
    guarded.desk.wait(3_000)
    assert line.is_dropped


def test_a_clock_that_is_set_forward_ends_what_has_ended_by_it() -> None:
    """SPEC 11.2.4: within a second, and so does a machine that has slept."""
    guarded, line, _ = connected(3_600_000)
    guarded.desk.now_ms += 3_600_000
    guarded.desk.wait(1_000)
    assert code(line) == CloseCode.TOKEN_EXPIRED
    assert line.drain() == [], "a notice of the past is none"


def test_a_clock_that_is_set_back_leaves_more_time() -> None:
    guarded, line, _ = connected(60_000)
    guarded.desk.now_ms -= 3_600_000
    guarded.desk.wait(120_000)
    assert not code(line)
    guarded.desk.now_ms += 3_600_000
    guarded.desk.wait(1_000)
    assert code(line) == CloseCode.TOKEN_EXPIRED


def test_who_has_expired_on_its_way_in_is_closed_at_once() -> None:
    guarded, line, greeting = connected(-1)
    assert greeting["expires_in_ms"] == 1
    guarded.desk.wait()
    assert code(line) == CloseCode.TOKEN_EXPIRED


def test_nothing_is_awaited_for_who_is_gone() -> None:
    guarded, line, _ = connected(1_000)
    line.session.detach()
    guarded.desk.wait(2_000)
    assert not code(line)
    assert not line.outbox.items


# Another credential


def test_another_credential_gives_more_time() -> None:
    """SPEC 11.3.1."""
    guarded, line, _ = connected(60_000)
    guarded.gate.know("new", "alice", expires_ms=NOW + 600_000)
    assert line.ask(AUTH) == [{"type": "authorized", "id": 5, "expires_in_ms": 600_000}]
    guarded.desk.wait(61_000)
    assert not code(line)
    assert line.drain() == []
    guarded.desk.wait(539_000)
    assert code(line) == CloseCode.TOKEN_EXPIRED


def test_another_credential_may_be_good_for_ever_or_for_less() -> None:
    guarded, line, _ = connected(60_000)
    guarded.gate.know("new", "alice")
    assert line.ask_one(AUTH) == {"type": "authorized", "id": 5}
    guarded.gate.know("newer", "alice", expires_ms=NOW + 1_000)
    assert line.ask_one({"type": "auth", "token": "newer"}) == {"type": "authorized", "expires_in_ms": 1_000}
    guarded.desk.wait(1_000)
    assert code(line) == CloseCode.TOKEN_EXPIRED


def test_the_gate_is_asked_with_the_address_and_not_with_what_the_connection_came_with() -> None:
    """SPEC 11.3.1: a token of the header is not looked at again; who decides by the way it came is not misled."""
    guarded = Guarded()
    guarded.gate.know("t", "alice")
    line = guarded.desk.dial(Arrival("192.0.2.7", "t", ("cn",), True))
    line.ask({"type": "connect", "token": "t"}, AUTH)
    assert guarded.gate.asked[1:] == [("new", Arrival("192.0.2.7", is_encrypted=True))]


def test_refused_credential_changes_nothing() -> None:
    """SPEC 11.3.3: the connection goes on until its time is up."""
    guarded, line, _ = connected(60_000)
    for name in (ErrorName.UNAUTHORIZED, ErrorName.TOKEN_EXPIRED, ErrorName.REVOKED, ErrorName.UNAVAILABLE):
        guarded.gate.known["new"] = Refused(name, "no")
        error = line.ask_one(AUTH)
        assert (error["name"], error["id"]) == (name, 5)
    assert not code(line)
    assert line.ask_one({"type": "ping", "id": 6}) == {"type": "pong", "id": 6}
    guarded.desk.wait(60_000)
    assert code(line) == CloseCode.TOKEN_EXPIRED


def test_a_connection_keeps_its_user_and_its_tenant() -> None:
    """SPEC 11.3.2, S23."""
    guarded, line, _ = connected(60_000, tenant="acme")
    for user, tenant in (("bob", "acme"), ("alice", ""), ("alice", "other")):
        guarded.gate.know("new", user, tenant=tenant)
        error = line.ask_one(AUTH)
        assert (error["name"], error["field"], error["id"]) == ("unauthorized", "token", 5)
    assert line.session.identity.tenant == "acme"
    guarded.gate.know("new", "alice", tenant="acme")
    assert line.ask_one(AUTH)["type"] == "authorized"


def test_one_credential_is_judged_at_a_time() -> None:
    """SPEC 11.3.4; what is asked meanwhile is answered."""
    guarded, line, _ = connected(60_000)
    guarded.gate.know("new", "alice", expires_ms=NOW + 90_000)
    guarded.gate.is_slow = True
    assert is_answered(line)
    assert line.ask(AUTH) == []
    assert not is_answered(line)
    error, pong = line.ask(AUTH | {"id": 6}, {"type": "ping", "id": 7})
    assert (error["name"], error["id"], pong["id"]) == ("inflight", 6, 7)
    assert error["retry_after_ms"] > 0
    done = guarded.gate.answer()
    assert line.drain() == [{"type": "authorized", "id": 5, "expires_in_ms": 90_000}]
    assert is_answered(line)
    done(Identity("alice"))
    assert line.drain() == []
    assert line.session.identity.expires_ms == NOW + 90_000


def test_an_answer_that_comes_after_the_end_means_nothing() -> None:
    guarded, line, _ = connected(60_000)
    guarded.gate.know("new", "alice", expires_ms=NOW + 90_000)
    guarded.gate.is_slow = True
    line.send(AUTH)
    line.session.detach()
    guarded.gate.answer()
    assert line.drain() == []
    assert len(guarded.desk.node.calendar) <= 1, "at most what was dropped"


def test_auth_before_connect_is_no_first_packet() -> None:
    """SPEC 3.8.1."""
    line = Guarded().desk.dial()
    assert error_of(line.ask(AUTH))["name"] == "bad_state"
    assert code(line) == CloseCode.PROTOCOL
