"""Who comes in by the administration listener: its secret, wrong ones, and tickets for its WebSocket (S29)."""

from typing import Any

import pytest
from triode_broker.auth import operators
from triode_broker.auth.operators import MAX_WRONG, Attempts, Operators, Tickets
from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.rights import EVERYTHING
from triode_protocol.codec import Refused

from tests.auth.making import Clock, Lines

SECRET = "a secret of operators"


def answer(gate: Any, token: str = "", address: str = "10.0.0.1", header: str = "") -> Identity | Refused:
    """What it says of one."""
    found: list[Identity | Refused] = []
    gate.ask(token, Arrival(address, header), found.append)
    (one,) = found
    return one


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Operators:
    return Operators(SECRET, Lines(), clock, clock)


def test_the_secret_lets_in_wherever_it_stands_and_nothing_else_does(gate: Operators) -> None:
    for one in (answer(gate, SECRET), answer(gate, header=SECRET)):
        assert isinstance(one, Identity)
        assert (one.user, one.method, one.rights.may("operate", "drain")) == ("operator", "operator", True)
    for wrong in ("", SECRET[:-1], SECRET + " ", SECRET.upper(), "\udc80"):
        refused = answer(gate, wrong)
        assert isinstance(refused, Refused)
        assert refused.name == "unauthorized"
        assert refused.message.endswith("that is not its secret" if wrong else "show its secret")


def test_wrong_secrets_wear_their_address_out_and_time_forgives(gate: Operators, clock: Clock) -> None:
    """S29: guessing is slow, from one address and one network of IPv6 alike; others are not held up."""
    names = [getattr(answer(gate, f"guess {number}"), "name", "let in") for number in range(MAX_WRONG + 2)]
    assert names == ["unauthorized"] * MAX_WRONG + ["rate_limited"] * 2
    waiting = answer(gate, SECRET)
    assert isinstance(waiting, Refused)
    assert 0 < waiting.retry_after_ms <= operators.FORGIVEN_MS
    assert isinstance(answer(gate, SECRET, "10.0.0.2"), Identity)
    for number in range(MAX_WRONG):
        answer(gate, "guess", f"2001:db8::{number}")
    assert isinstance(answer(gate, SECRET, "2001:db8::ffff"), Refused)
    clock.ms += waiting.retry_after_ms
    assert isinstance(answer(gate, SECRET), Identity)


def test_addresses_that_were_wrong_are_remembered_in_bounds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "MAX_ADDRESSES", 3)
    attempts = Attempts(clock)
    for address in "abcd":
        for _ in range(MAX_WRONG):
            attempts.wrong(address)
    assert [attempts.wait_ms(address) > 0 for address in "abcd"] == [False, True, True, True]


def test_ticket_is_one_tenants_for_a_minute_and_operates_nothing(clock: Clock) -> None:
    tickets = Tickets(Lines(), clock, clock)
    ticket = tickets.give("acme")
    one = answer(tickets, ticket)
    assert isinstance(one, Identity)
    assert (one.tenant, one.rights) == ("acme", EVERYTHING)
    for wrong in (answer(tickets), answer(tickets, "guess"), answer(tickets, header=ticket)):
        assert isinstance(wrong, Refused)
    clock.ms += operators.TICKET_SECONDS * 1000
    assert isinstance(answer(tickets, ticket), Refused)


def test_tickets_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "MAX_TICKETS", 2)
    tickets = Tickets(Lines(), clock, clock)
    given = [tickets.give("") for _ in range(3)]
    assert [isinstance(answer(tickets, one), Identity) for one in given] == [False, True, True]
