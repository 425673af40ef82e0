"""Storms at the edge: unfinished handshakes bounded, a full crowd refused by HTTP, a turn for who waited."""

from collections.abc import Callable

import pytest
from attrs import define
from triode_broker.config import Limits

from tests.edge.rig import CLOSE, HANDSHAKE, Rig, close_payload, frame, text

MakeRig = Callable[..., Rig]
PAGE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@define
class Crowd:
    """As full as the test says."""

    is_full: bool = False
    after_ms: int = 1_500

    def later_ms(self) -> int:
        """A little later for each."""
        self.after_ms += 1_000
        return self.after_ms


def test_unfinished_handshakes_are_bounded_and_the_rest_told_when_to_come_back(make_rig: MakeRig) -> None:
    """S6, SPEC 1.1: without reading what they say."""
    rig = make_rig(Limits(max_handshakes=3), is_connected=False, crowd=Crowd())
    heads = [rig.client(b"") for _ in range(2)]
    opened = rig.client()
    answers = [rig.client(b"").receive().decode() for _ in range(2)]
    assert all(answer.startswith("HTTP/1.1 503 ") for answer in answers)
    assert ["Retry-After: 3\r\n" in answers[0], "Retry-After: 4\r\n" in answers[1]] == [True, True]
    opened.send(text("connect"))
    rig.client()
    heads[0].socket.close()
    rig.turn()
    rig.client()
    assert rig.client(b"").receive().startswith(b"HTTP/1.1 503 ")


def test_0_means_no_bound_but_that_of_connections(make_rig: MakeRig) -> None:
    rig = make_rig(Limits(max_handshakes=0, max_connections=4), is_connected=False)
    assert [rig.client(b"").receive()[:12] for _ in range(5)] == [b""] * 4 + [b"HTTP/1.1 503"]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        HANDSHAKE[:20],
        b"nonsense\r\n\r\n",
        PAGE,
        HANDSHAKE,
        HANDSHAKE + text("leave 4000"),
        HANDSHAKE + text("bug"),
    ],
)
def test_who_ends_in_any_way_is_unfinished_no_more(said: bytes, make_rig: MakeRig) -> None:
    routes = {"/healthz": lambda target: (200, "text/plain", b"ok")}
    rig = make_rig(Limits(max_handshakes=100), routes, is_connected=False)
    client = rig.client(b"")
    assert rig.edge.statistics().newcomers == 1
    client.send(said or b"G")
    client.send(frame(CLOSE, close_payload(1000)))
    client.socket.close()
    rig.turn()
    assert rig.edge.statistics().newcomers == 0


def test_who_is_connected_is_unfinished_no_more(make_rig: MakeRig) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    client.send(text("connect"))
    assert (rig.edge.statistics().connections, rig.edge.statistics().newcomers) == (1, 0)
    client.socket.close()
    rig.turn()
    assert rig.edge.statistics().newcomers == 0


def test_full_crowd_is_refused_at_the_upgrade_and_pages_are_served(make_rig: MakeRig) -> None:
    """SPEC 1.1: a probe must not take a storm for a broken node."""
    crowd = Crowd(is_full=True)
    rig = make_rig(routes={"/healthz": lambda target: (200, "text/plain", b"ok")}, crowd=crowd)
    refused = rig.client(HANDSHAKE.replace(b"/ws", b"/ws?")).receive().decode()
    assert refused.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 3\r\n" in refused
    assert rig.client(PAGE).receive().endswith(b"ok")
    crowd.is_full = False
    rig.client()
    assert len(rig.talkers) == 1


def test_woken_application_has_its_turn_and_is_connected_from_then_on(make_rig: MakeRig) -> None:
    rig = make_rig(is_connected=False)
    client = rig.client()
    talker = rig.talkers[0]
    talker.outbox.connection.wake()
    talker.is_connected = True  # as what it then serves would have it
    rig.turn()
    assert talker.rooms == 1
    assert rig.edge.statistics().newcomers == 0
    assert client.texts() == ["r" * 1024]


def test_waking_one_that_is_leaving_does_nothing(rig: Rig) -> None:
    client = rig.client()
    connection = rig.talkers[0].outbox.connection
    connection.close(4102, 2_000)
    connection.wake()
    rig.edge.flush()
    rig.turn()
    assert rig.talkers[0].rooms == 0
    assert b'"reconnect_after_ms":2000' in client.frames()[0][1]
