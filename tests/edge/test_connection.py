"""A connection in its good days: messages in, packets out, pages, pings. And a bug in it, which costs no other."""

from collections.abc import Callable

import msgspec
import pytest
from triode_broker.config import Limits
from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox

from tests.edge.rig import BINARY, CLOSE, HANDSHAKE, PING, PONG, TEXT, Rig, frame, text


def test_messages_reach_the_application_in_order_with_the_time_of_the_turn(rig: Rig) -> None:
    client = rig.client()
    client.send(text("one") + text("two") + frame(BINARY, b"\xff"), text("three"))
    assert rig.talkers[0].heard == ["one", "two", b"\xff", "three"]
    assert rig.talkers[0].times == [1_000_000] * 3


def test_frames_right_behind_the_head_are_served(rig: Rig) -> None:
    client = rig.client(HANDSHAKE + text("say 3") + text("half")[:-1])
    assert client.receive().endswith(b"\r\n\r\n\x81\x03xxx")
    client.send(text("half")[-1:])
    assert rig.talkers[0].heard == ["say 3", "half"]


def test_head_may_come_byte_by_byte(rig: Rig) -> None:
    client = rig.client(b"")
    client.send(*(HANDSHAKE[place : place + 1] for place in range(len(HANDSHAKE))))
    assert client.receive().startswith(b"HTTP/1.1 101 ")


def test_frame_of_the_largest_size_comes_in_whole_however_it_is_cut(rig: Rig) -> None:
    client = rig.client()
    said = "x" * Limits().max_frame_bytes
    data = text(said)
    client.send(*(data[place : place + 50_000] for place in range(0, len(data), 50_000)))
    assert rig.talkers[0].heard == [said]


def test_packets_of_one_turn_leave_in_one_send_as_frames(rig: Rig) -> None:
    client = rig.client()
    before = rig.edge.statistics().bytes_out
    client.send(text("say 1") + text("say 2"))
    assert client.texts() == ["x", "xx"]
    assert rig.edge.statistics().bytes_out - before == 3 + 4


def test_packets_of_one_turn_leave_as_one_array_for_a_client_with_batch(rig: Rig) -> None:
    client = rig.client()
    client.send(text("batch"))
    rig.talkers[0].outbox.put(b"1")
    rig.edge.flush()
    assert client.texts() == ["1"]  # alone it goes unwrapped
    for packet in (b"1", b'{"two":2}', b"[3]"):
        rig.talkers[0].outbox.put(packet)
    rig.edge.flush()
    assert client.texts() == ['[1,{"two":2},[3]]']


def test_arrays_are_no_longer_than_a_frame_may_be(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(Limits(max_frame_bytes=40))
    client = rig.client()
    client.send(text("batch"))
    packets = [b"%d" % (10**9 + number) for number in range(20)]
    for packet in packets:
        rig.talkers[0].outbox.put(packet)
    rig.edge.flush()
    arrays = client.texts()
    assert all(len(array) <= 40 for array in arrays)
    assert [number for array in arrays for number in msgspec.json.decode(array)] == [int(p) for p in packets]


def test_flush_sends_what_was_put_from_outside(rig: Rig) -> None:
    client = rig.client()
    rig.talkers[0].outbox.put(b"tick")
    assert client.texts() == []
    rig.edge.flush()
    assert client.texts() == ["tick"]
    assert rig.edge.dirty == []


def test_ping_is_answered_with_its_payload_between_fragments_too(rig: Rig) -> None:
    client = rig.client()
    client.send(frame(PING, b"one"), frame(TEXT, b"fir", fin=False) + frame(PING) + frame(0, b"st"))
    assert client.frames() == [(PONG, b"one"), (PONG, b"")]
    assert rig.talkers[0].heard == ["first"]


def test_pong_nobody_asked_for_is_ignored(rig: Rig) -> None:
    client = rig.client()
    client.send(frame(PONG, b"?"), text("say 1"))
    assert client.texts() == ["x"]


def route(target: str) -> tuple[int, str, bytes]:
    """A page that shows what it was asked for."""
    if "bug" in target:
        raise RuntimeError("a bug in a page")
    return 200, "text/plain", target.encode()


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /page?a=1 HTTP/1.1", b"200 OK", b"/page?a=1"),
        (b"HEAD /page HTTP/1.1", b"200 OK", b""),
        (b"GET /page HTTP/1.0", b"200 OK", b"/page"),
        (b"POST /page HTTP/1.1", b"405 Method Not Allowed", b"/page serves GET and HEAD only.\n"),
        (b"GET /nowhere HTTP/1.1", b"404 Not Found", b"There is nothing at /nowhere.\n"),
        (b"HEAD /nowhere HTTP/1.1", b"404 Not Found", b""),
        (
            b"GET /page?bug HTTP/1.1",
            b"500 Internal Server Error",
            b"Something went wrong here; it was logged.\n",
        ),
    ],
)
def test_page_is_served_and_the_connection_ends(
    make_rig: Callable[..., Rig], request_line: bytes, status: bytes, body: bytes
) -> None:
    rig = make_rig(routes={"/page": route})
    client = rig.client(request_line + b"\r\nHost: x\r\n\r\n")
    answer = client.receive()
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == body
    assert client.is_closed
    client.socket.close()
    rig.turn()
    assert rig.edge.statistics().connections == 0
    assert rig.log.events == (["connection_failed"] if b"bug" in request_line else [])


def test_page_larger_than_the_socket_takes_arrives_whole(make_rig: Callable[..., Rig]) -> None:
    page = b"p" * 3_000_000
    rig = make_rig(routes={"/": lambda target: (200, "text/plain", page)})
    client = rig.client(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", send_buffer=4096)
    answer = b""
    while not client.is_closed:
        answer += client.receive()
        rig.turn()
    assert answer.endswith(b"\r\n\r\n" + page)


def test_s1_bug_in_an_application_is_logged_once_and_closes_its_connection_alone(rig: Rig) -> None:
    victim, other = rig.client(), rig.client()
    victim.send(text("say 1") + text("bug") + text("say 2"))
    [(_, said), (_, bye), (opcode, closing)] = victim.frames()
    assert said == b"x"  # what was put before it is still sent
    assert msgspec.json.decode(bye) == {"type": "bye", "code": 4101, "name": "internal"}
    assert (opcode, closing[:2]) == (CLOSE, (4101).to_bytes(2))
    [(event, values)] = rig.log.entries
    assert event == "connection_failed"
    assert isinstance(values["exc_info"], RuntimeError)
    assert rig.talkers[0].heard == ["say 1", "bug"]
    assert rig.talkers[0].detached == 1
    other.send(text("say 3"))
    assert other.texts() == ["xxx"]


class Broken:
    """An application that has a bug in every call."""

    is_connected = True
    is_answered = True

    def __init__(self, outbox: Outbox, arrival: Arrival) -> None:
        self.outbox = outbox

    def receive_text(self, said: str, now_ms: int) -> None:
        """But for this one, which works for `room`."""
        if said != "room":
            raise ZeroDivisionError
        self.outbox.wants_room = True
        self.outbox.put(b"x")

    def receive_binary(self, data: bytes, now_ms: int) -> None:
        """Fails."""
        raise ZeroDivisionError

    def room(self, now_ms: int) -> None:
        """Fails."""
        raise ZeroDivisionError

    def keepalive(self, now_ms: int) -> None:
        """Fails."""
        raise ZeroDivisionError

    def detach(self) -> None:
        """Fails."""
        raise ZeroDivisionError


@pytest.mark.parametrize("data", [text("x"), frame(BINARY, b"x"), text("room"), frame(CLOSE), b"\x89", b""])
def test_s1_bugs_in_every_call_are_kept_inside(make_rig: Callable[..., Rig], data: bytes) -> None:
    rig = make_rig(accept=Broken)
    client = rig.client()
    client.send(data)
    rig.after(Limits().ping_ms / 1000)
    client.socket.close()
    rig.turn()
    assert rig.edge.statistics().connections == 0
    assert set(rig.log.events) == {"connection_failed"}
    rig.client()


def test_s1_output_that_is_no_bytes_ends_its_connection_alone(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    rig.talkers[0].outbox.items += [b"x", "no bytes"]  # type: ignore[list-item]  # what a bug in the core could do
    rig.edge.dirty.append(rig.talkers[0].outbox)
    rig.talkers[1].outbox.put(b"x")
    rig.edge.flush()
    assert other.texts() == ["x"]
    client.receive()
    assert client.is_closed
    assert rig.talkers[0].detached == 1
    assert rig.log.events == ["connection_failed"] * 2


def test_s1_application_that_cannot_be_made_ends_its_connection_alone(make_rig: Callable[..., Rig]) -> None:
    def accept(outbox: Outbox, arrival: Arrival) -> Broken:
        raise ZeroDivisionError

    rig = make_rig(accept=accept)
    client = rig.client(HANDSHAKE.replace(b"/ws", b"/ws?"))
    assert client.receive().endswith(b"\x10\x05internal".replace(b"\x10", (4101 >> 8).to_bytes()))
    assert rig.log.events == ["connection_failed"]


def test_statistics_count_what_happened(rig: Rig) -> None:
    client = rig.client()
    rig.client(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    client.send(text("say 5") + frame(PING) + frame(TEXT, b"a", fin=False) + frame(0, b"b"))
    client.send(frame(CLOSE, (1001).to_bytes(2)))
    client.receive()
    seen = rig.edge.statistics()
    assert (seen.accepted, seen.upgraded, seen.refused, seen.frames_in) == (2, 1, 1, 5)
    assert seen.closes == {1001: 1}
    assert seen.bytes_in > 2 * len("GET / HTTP/1.1")
    assert seen.bytes_out > 0
