"""S10: tokens that come with the handshake; where they may stand, and that nothing of them is ever shown."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox
from triode_broker.edge.application import Application
from triode_broker.edge.door import Door

from tests.edge.rig import HANDSHAKE, Rig, Talker, text

CANARY = "canary-8f3a.eyJzdWIi_~+/OiJhIn0.c2ln="


@attrs.define
class Arrivals:
    """Who came, in order."""

    seen: list[Arrival] = attrs.field(factory=list)

    def accept(self, outbox: Outbox, arrival: Arrival) -> Application:
        """Take note."""
        self.seen.append(arrival)
        return Talker(outbox)


@pytest.fixture
def arrivals() -> Arrivals:
    """Nobody yet."""
    return Arrivals()


MakeRig = Callable[..., Rig]


def handshake(*headers: str, query: str = "") -> bytes:
    """One with these headers more, and this query."""
    head = HANDSHAKE.replace(b"/ws ", b"/ws" + query.encode() + b" ")
    return head[:-2] + "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_s10_token_comes_in_the_authorization_header(make_rig: MakeRig, arrivals: Arrivals, scheme: str) -> None:
    """SPEC 1.18"""
    rig = make_rig(accept=arrivals.accept)
    client = rig.client(handshake(f"Authorization: {scheme} {CANARY}"))
    assert client.receive().startswith(b"HTTP/1.1 101 ")
    assert [arrival.token for arrival in arrivals.seen] == [CANARY]


def test_s10_other_schemes_are_somebody_elses(make_rig: MakeRig, arrivals: Arrivals) -> None:
    """SPEC 1.18"""
    rig = make_rig(accept=arrivals.accept)
    rig.client(handshake("Authorization: Basic dTpw"))
    assert [arrival.token for arrival in arrivals.seen] == [""]


@pytest.mark.parametrize(
    "headers",
    [
        [f"Authorization: Bearer {CANARY}", f"Authorization: Bearer {CANARY}"],
        ["Authorization: Bearer"],
        ["Authorization: Bearer  "],
        [f"Authorization: Bearer {CANARY} {CANARY}"],
        [f"Authorization: Bearer {CANARY}, Bearer {CANARY}"],
        [f'Authorization: Bearer "{CANARY}"'],
        [f"Authorization: Bearer\t{CANARY}\tx"],
        ["Authorization: Bearer ="],
    ],
)
def test_s10_token_that_cannot_be_read_is_refused_and_not_overlooked(
    make_rig: MakeRig, arrivals: Arrivals, headers: list[str]
) -> None:
    """SPEC 1.18: its sender would come in as nobody, where nobody may."""
    rig = make_rig(accept=arrivals.accept)
    answer = rig.client(handshake(*headers)).receive()
    if headers == [f"Authorization: Bearer\t{CANARY}\tx"]:  # another scheme, by its name
        assert [arrival.token for arrival in arrivals.seen] == [""]
        return
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"canary" not in answer
    assert arrivals.seen == []


@pytest.mark.parametrize("query", [f"?token={CANARY}", f"?a=1&token={CANARY}&b"])
def test_s10_token_in_the_url_counts_only_where_it_is_allowed(
    make_rig: MakeRig, arrivals: Arrivals, query: str
) -> None:
    """SPEC 1.18"""
    rig = make_rig(accept=arrivals.accept)
    rig.client(handshake(query=query))
    assert arrivals.seen[-1].token == ""
    rig = make_rig(accept=arrivals.accept, door=Door(takes_query_token=True))
    rig.client(handshake(query=query))
    assert arrivals.seen[-1].token == CANARY


def test_s10_token_in_the_url_may_be_escaped(make_rig: MakeRig, arrivals: Arrivals) -> None:
    rig = make_rig(accept=arrivals.accept, door=Door(takes_query_token=True))
    rig.client(handshake(query="?token=a%2Bb%3D"))
    assert arrivals.seen[-1].token == "a+b="


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (f"?token={CANARY}&token={CANARY}", []),
        ("?token=%00", []),
        ("?token=%C3%A4", []),
        (f"?token={CANARY}", [f"Authorization: Bearer {CANARY}"]),
    ],
)
def test_s10_url_with_another_token_is_refused(
    make_rig: MakeRig, arrivals: Arrivals, query: str, headers: list[str]
) -> None:
    """SPEC 1.18"""
    rig = make_rig(accept=arrivals.accept, door=Door(takes_query_token=True))
    answer = rig.client(handshake(*headers, query=query)).receive()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"canary" not in answer
    assert arrivals.seen == []


def test_s10_no_refusal_repeats_what_was_asked_for(make_rig: MakeRig) -> None:
    rig = make_rig()
    for asked in (
        handshake(query=f"/nowhere?token={CANARY}"),
        handshake(query=f"?token={CANARY}").replace(b"GET", b"POST"),
        handshake(f"Authorization: Bearer {CANARY}").replace(b"Version: 13", b"Version: 7"),
        handshake(f"Authorization: Bearer {CANARY}", "Sec-WebSocket-Protocol: mqtt"),
        handshake(f"Authorization: Bearer {CANARY}\x7f"),
    ):
        answer = rig.client(asked).receive()
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"canary" not in answer
    assert rig.log.entries == []


def test_s10_application_that_fails_on_it_does_not_show_it(make_rig: MakeRig) -> None:
    """The traceback of the barrier has names and lines, no values."""

    def fail(outbox: Outbox, arrival: Arrival) -> Any:
        raise RuntimeError("a bug")

    rig = make_rig(accept=fail)
    client = rig.client(handshake(f"Authorization: Bearer {CANARY}") + text("x"))
    assert b"canary" not in client.receive()
    assert rig.log.events == ["connection_failed"]
    assert "canary" not in repr(rig.log.entries)
