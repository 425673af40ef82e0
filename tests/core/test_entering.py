"""Who a client is, asked at connect (SPEC 11.1): a turn first, then the gate, at once or later; refusals."""

import json
import tracemalloc

import pytest
from triode_broker.config import Limits
from triode_broker.core.identity import OPEN, Arrival, Identity
from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode, ErrorName

from tests.core.desk import Desk, Line
from tests.core.gatekeeper import Gatekeeper, Guarded, error_of

CONNECT = {"type": "connect", "id": 1, "token": "t"}


def test_where_there_is_no_gate_everybody_is_open() -> None:
    line = Desk().connect(token="whatever")
    assert line.session.identity is OPEN
    assert line.ask_one({"type": "auth", "id": 2, "token": "t"})["name"] == "unsupported"


def test_a_token_says_who_a_client_is_and_is_stamped_on_what_it_publishes() -> None:
    """SPEC 11.1.1, S16."""
    guarded = Guarded()
    identity = guarded.gate.know("t", "alice")
    line = guarded.enter("t")
    assert line.session.identity is identity
    line.subscribe(1, "a")
    (message, _) = line.ask({"type": "publish", "id": 2, "topic": "a", "data": 1})
    assert message["user"] == "alice"
    error = line.ask_one({"type": "publish", "id": 3, "topic": "a", "data": 1, "user": "bob"})
    assert (error["name"], error["field"]) == ("unsupported", "user")


def test_the_gate_is_asked_with_the_packets_token_and_what_is_known_of_the_connection() -> None:
    guarded = Guarded()
    guarded.gate.know("t")
    arrival = Arrival("192.0.2.7", "of the header", ("cn",), True)
    line = guarded.desk.dial(arrival)
    line.send(CONNECT)
    assert guarded.gate.asked == [("t", arrival)]


def test_auth_is_offered_where_clients_have_credentials() -> None:
    """SPEC 11.3.1."""
    guarded = Guarded()
    guarded.gate.know("t")
    assert "auth" in guarded.desk.dial().ask_one(CONNECT)["capabilities"]
    assert "auth" not in Desk().dial().ask_one(CONNECT)["capabilities"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (ErrorName.UNAUTHORIZED, CloseCode.AUTH_FAILED),
        (ErrorName.FORBIDDEN, CloseCode.AUTH_FAILED),
        (ErrorName.TOKEN_EXPIRED, CloseCode.TOKEN_EXPIRED),
        (ErrorName.REVOKED, CloseCode.REVOKED),
        (ErrorName.UNAVAILABLE, CloseCode.OVERLOADED),
        (ErrorName.OVERLOADED, CloseCode.OVERLOADED),
    ],
)
def test_refused_credential_is_an_error_and_a_close(name: ErrorName, code: CloseCode) -> None:
    """SPEC 11.1.4: with the id of connect. What came behind it is not served."""
    guarded = Guarded()
    guarded.gate.known["t"] = Refused(name, "no")
    line = guarded.desk.dial()
    line.send(CONNECT, {"type": "publish", "id": 2, "topic": "a", "data": 1})
    error = error_of(line.drain())
    assert (error["name"], error["id"]) == (name, 1)
    assert line.closed_with == code
    assert (line.reconnect_after_ms > 0) == (code == CloseCode.OVERLOADED)
    assert guarded.desk.logs[0].head() == 0
    assert not guarded.desk.node.sessions


def test_those_who_cannot_be_judged_come_back_one_after_the_other() -> None:
    """SPEC 11.1.4: as with admission, and no earlier than the gate says."""
    guarded = Guarded(limits=Limits(max_connects_per_second=10, max_connect_burst=10))
    guarded.gate.known["t"] = Refused(ErrorName.UNAVAILABLE, "no", retry_after_ms=2_050)
    times = []
    for _ in range(3):
        line = guarded.desk.dial()
        line.send(CONNECT)
        times.append(line.reconnect_after_ms)
    assert times == [2_050, 2_100, 2_200]


def test_an_answer_may_be_kept_and_given_to_many() -> None:
    guarded = Guarded()
    guarded.gate.known["t"] = refused = Refused(ErrorName.UNAUTHORIZED, "no")
    for id in (7, 8):
        line = guarded.desk.dial()
        assert error_of(line.ask(CONNECT | {"id": id}))["id"] == id
    assert refused.id == 0


# Later


def slow() -> tuple[Guarded, Line]:
    """A gate that has been asked and has not answered."""
    guarded = Guarded()
    guarded.gate.is_slow = True
    guarded.gate.know("t", "alice")
    line = guarded.desk.dial()
    line.send(CONNECT, {"type": "ping", "id": 2})
    return guarded, line


def test_what_comes_behind_a_connect_that_is_judged_later_waits_with_it() -> None:
    """SPEC 11.1.3."""
    guarded, line = slow()
    line.send({"type": "ping", "id": 3})
    line.room()
    assert line.drain() == []
    assert len(guarded.gate.asked) == 1
    assert not line.session.is_connected
    guarded.gate.answer()
    assert not line.session.is_connected, "not in the turn of whoever answers"
    greeting, *pongs = line.drain()
    assert (greeting["type"], line.session.user) == ("connected", "alice")
    assert pongs == [{"type": "pong", "id": 2}, {"type": "pong", "id": 3}]


def test_a_late_refusal_ends_the_connection_in_a_turn_of_its_own() -> None:
    guarded, line = slow()
    del guarded.gate.known["t"]
    guarded.gate.answer()
    assert line.closed_with == 0
    assert error_of(line.drain())["name"] == "unauthorized"
    assert line.closed_with == CloseCode.AUTH_FAILED


def test_an_answer_that_comes_twice_counts_once() -> None:
    guarded, line = slow()
    done = guarded.gate.answer()
    done(Refused(ErrorName.UNAUTHORIZED, "after all"))
    assert line.drain()[0]["type"] == "connected"
    done(Identity("mallory"))
    assert line.session.user == "alice"


def test_an_answer_to_a_connection_that_is_gone_means_nothing() -> None:
    guarded, line = slow()
    line.session.detach()
    line.outbox.wants_room = False
    guarded.gate.answer()
    assert not line.outbox.wants_room
    assert not guarded.desk.node.sessions


def test_who_was_judged_by_rules_that_have_changed_since_is_judged_again() -> None:
    """G10: a round through the sessions does not find who is about to be one."""
    guarded, line = slow()
    done = guarded.gate.answer()
    guarded.gate.know("t", "alice", token_id="by the new rules")
    guarded.desk.node.visit_all(lambda session: None)
    line.room()
    assert len(guarded.gate.asked) == 2
    done(Identity("by the old rules"))
    assert line.drain() == []
    guarded.gate.answer()
    assert line.drain()[0]["type"] == "connected"
    assert line.session.identity.token_id == "by the new rules"


# Admission


def test_a_credential_is_judged_when_its_connection_has_had_its_turn() -> None:
    """A flood of bad credentials is let in no faster than a flood of good ones (S6)."""
    guarded = Guarded(limits=Limits(max_connects_per_second=10, max_connect_burst=1))
    first, second = guarded.desk.dial(), guarded.desk.dial()
    first.send(CONNECT)
    second.send(CONNECT)
    assert len(guarded.gate.asked) == 1
    assert first.closed_with == CloseCode.AUTH_FAILED
    guarded.desk.wait(100)
    assert len(guarded.gate.asked) == 1, "not in a timer's turn"
    second.drain()
    assert len(guarded.gate.asked) == 2
    assert second.closed_with == CloseCode.AUTH_FAILED


def test_room_before_its_turn_serves_nothing() -> None:
    desk = Desk(limits=Limits(max_connects_per_second=10, max_connect_burst=1))
    desk.connect()
    line = desk.dial()
    line.send(CONNECT)
    line.room()
    assert line.drain() == []
    desk.wait(100)
    assert line.drain()[0]["type"] == "connected"


def test_what_was_let_in_over_a_full_outbox_waits_for_room() -> None:
    """G6."""
    desk = Desk(limits=Limits(max_outbox_bytes=100))
    line = desk.dial()
    line.send_binary(b"x")
    line.send(CONNECT)
    assert not line.session.is_connected
    assert [packet["type"] for packet in line.drain()] == ["error", "connected"]


def test_gatekeepers_are_gates() -> None:
    gate = Gatekeeper()
    assert error_of(Desk(gate=gate).dial().ask(CONNECT))["name"] == "unauthorized"


def test_s2_what_waits_for_the_gate_is_no_larger_than_what_came() -> None:
    """S2: decoded, these 4,000 packets are 100 times as large as their text."""
    guarded = Guarded()
    guarded.gate.is_slow = True
    guarded.gate.know("t", "alice")
    lines = [guarded.desk.dial() for _ in range(8)]
    text = f"[{json.dumps(CONNECT)}{',{}' * 4_000}]"
    tracemalloc.start()
    try:
        for line in lines:
            line.send_text(text)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(lines) < 65_536
    guarded.gate.answer()
    greeting, *errors = lines[0].drain()
    assert greeting["type"] == "connected"
    assert [error["name"] for error in errors] == ["malformed"] * 4_000


@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("behind", [",{", ",[]]", ""])
def test_a_connect_in_a_text_that_is_none_is_no_first_packet(behind: str, is_slow: bool) -> None:
    """SPEC 1.12: nothing of it is served, nor what comes behind it, and nobody is left without an answer."""
    guarded = Guarded()
    guarded.gate.know("t")
    guarded.gate.is_slow = is_slow
    line = guarded.desk.dial()
    line.send_text("[" + json.dumps(CONNECT) + behind)
    line.send(CONNECT)
    if is_slow:
        guarded.gate.answer()
    assert error_of(line.drain())["name"] == "malformed"
    assert line.closed_with == CloseCode.PROTOCOL
    assert not guarded.desk.node.sessions
