"""Closes, by either side and in every phase: the right code, a bye where it is ours, one detach, nothing lost."""

import socket
from collections.abc import Callable

import msgspec
import pytest
from triode_broker.config import Limits
from triode_broker.edge.poller import HANGUP, WRITE
from triode_protocol.errors import CloseCode

from tests.edge.rig import BINARY, CLOSE, HANDSHAKE, PING, TEXT, Client, Rig, close_payload, frame, text


def gone(rig: Rig) -> bool:
    """Whether nothing is left of any connection, and each application was told once."""
    return rig.edge.statistics().connections == 0 and all(talker.detached == 1 for talker in rig.talkers)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_close_of_the_client_is_answered_with_its_code(rig: Rig, code: int) -> None:
    client = rig.client()
    client.send(text("say 3") + frame(CLOSE, close_payload(code, "enough")) + text("late"))
    assert client.frames() == [(TEXT, b"xxx"), (CLOSE, close_payload(code))]
    assert client.is_closed
    assert gone(rig)
    assert rig.talkers[0].heard == ["say 3"]
    assert rig.edge.statistics().closes == {code: 1}


def test_close_without_a_code_is_answered_without_one(rig: Rig) -> None:
    client = rig.client()
    client.send(frame(CLOSE))
    assert client.frames() == [(CLOSE, b"")]
    assert gone(rig)


@pytest.mark.parametrize("payload", [b"\x03", close_payload(999), close_payload(1005), close_payload(2000)])
def test_close_with_an_invalid_code_is_a_protocol_error(rig: Rig, payload: bytes) -> None:
    client = rig.client()
    client.send(frame(CLOSE, payload))
    assert code_of(client) == 1002


def code_of(client: Client) -> int:
    """The code of the close frame, which is all there is."""
    [(opcode, payload)] = client.frames()
    assert opcode == CLOSE
    return int.from_bytes(payload[:2])


def test_close_of_ours_says_bye_and_waits_for_the_clients(rig: Rig) -> None:
    client = rig.client()
    client.send(text("say 2") + text("leave 4100") + text("not served"))
    frames = client.frames()
    assert frames[0] == (TEXT, b"xx")
    assert msgspec.json.decode(frames[1][1]) == {
        "type": "bye",
        "code": 4100,
        "name": "shutdown",
        "reconnect_after_ms": 77,
    }
    assert frames[2:] == [(CLOSE, close_payload(4100, "shutdown"))]
    assert rig.talkers[0].detached == 1
    assert rig.edge.statistics().connections == 1
    client.send(text("on its way") + frame(PING) + frame(BINARY, b"x" * 300), frame(CLOSE, close_payload(4100)))
    client.receive()
    assert client.is_closed
    assert rig.talkers[0].heard == ["say 2", "leave 4100"]
    assert gone(rig)


def test_close_from_within_a_message_serves_nothing_behind_it(rig: Rig) -> None:
    client = rig.client()
    client.send(text("end") + text("say 1"))
    assert client.frames()[-1] == (CLOSE, close_payload(4005, "replaced"))
    assert rig.talkers[0].heard == ["end"]


def test_close_1000_of_ours_has_no_bye(rig: Rig) -> None:
    client = rig.client()
    client.send(text("leave 1000"))
    assert code_of(client) == 1000
    client.send(frame(CLOSE, close_payload(1000)))
    assert gone(rig)


def test_close_that_came_with_what_made_us_close_completes_the_handshake_at_once(rig: Rig) -> None:
    client = rig.client()
    client.send(text("leave 4100") + text("skipped") + frame(CLOSE, close_payload(1000)))
    assert [opcode for opcode, _ in client.frames()] == [TEXT, CLOSE]
    assert gone(rig)


def test_close_in_the_middle_of_a_fragmented_message_is_found_behind_it(rig: Rig) -> None:
    client = rig.client()
    data = frame(BINARY, b"x" * 1000, fin=False)
    client.send(data[:500])
    rig.talkers[0].outbox.connection.close(CloseCode.REPLACED)
    rig.edge.flush()
    assert client.frames()[-1] == (CLOSE, close_payload(4005, "replaced"))
    client.send(data[500:700], data[700:] + frame(CLOSE)[:3], frame(CLOSE)[3:])
    assert gone(rig)


def test_close_only_marks_until_the_turn_or_the_flush_ends(rig: Rig) -> None:
    first, second = rig.client(), rig.client()
    connection = rig.talkers[1].outbox.connection
    connection.close(CloseCode.REPLACED, 5)
    connection.close(CloseCode.INTERNAL)  # the first holds
    rig.talkers[1].outbox.put(b"put after")
    assert second.frames() == []
    assert rig.talkers[1].detached == 0
    first.send(text("any turn"))
    assert [payload for _, payload in second.frames()] == [
        b"put after",
        b'{"type":"bye","code":4005,"name":"replaced","reconnect_after_ms":5}',
        close_payload(4005, "replaced"),
    ]
    rig.talkers[1].outbox.put(b"into nothing")
    connection.close(CloseCode.INTERNAL)
    rig.edge.flush()
    assert second.frames() == []


def test_bytes_of_a_marked_connection_are_not_served(rig: Rig) -> None:
    client = rig.client()
    rig.talkers[0].outbox.connection.close(CloseCode.REPLACED)
    client.send(text("too late"))
    assert rig.talkers[0].heard == []
    client.send(frame(CLOSE))
    assert gone(rig)


def test_client_that_never_answers_a_close_is_dropped_after_close_timeout(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(Limits(close_timeout_ms=2_000))
    client = rig.client()
    client.send(text("leave 4100"))
    client.receive()
    rig.after(1.75)
    client.send(text("still talking"))
    assert rig.edge.statistics().connections == 1
    rig.after(0.5)
    client.receive()
    assert client.is_closed
    assert gone(rig)


def test_frame_that_never_ends_while_we_wait_is_not_kept_in_memory(rig: Rig) -> None:
    client = rig.client()
    client.send(text("leave 4100"))
    endless = frame(TEXT, b"x" * 70_000)
    client.send(endless[:2] + (2**40).to_bytes(8) + b"mask", *([b"x" * 60_000] * 40))
    assert len(rig.talkers[0].outbox.connection._buffer) == 0
    rig.after(Limits().close_timeout_ms / 1000 + 0.25)
    assert gone(rig)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xc3\x28"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xe2\x82", fin=False) + frame(0, b"x"), 1007),
        (frame(CLOSE, close_payload(1000) + b"\xff"), 1007),
        (b"\x81\x03abc", 1002),
        (b"\xc1" + text("x")[1:], 1002),
        (frame(0, b"x"), 1002),
        (frame(3, b"x"), 1002),
        (frame(PING, fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(TEXT, b"x", fin=False) + text("x"), 1002),
        (b"\x81\xfe\x00\x05abcdxxxxx", 1002),
    ],
)
def test_broken_websocket_is_closed_with(rig: Rig, data: bytes, code: int) -> None:
    client = rig.client()
    client.send(data)
    assert code_of(client) == code
    assert client.is_closed  # shut for writing at once: nothing more will be understood
    assert rig.talkers[0].detached == 1
    client.send(b"whatever comes is read and thrown away" * 1000)
    client.socket.shutdown(socket.SHUT_WR)
    rig.turn()
    assert gone(rig)


def test_bad_utf8_costs_nothing_that_came_before(rig: Rig) -> None:
    client = rig.client()
    client.send(text("say 1") + frame(TEXT, b"\xff") + text("say 2"))
    assert [payload[:2] for _, payload in client.frames()] == [b"x", close_payload(1007)]


def test_client_that_hangs_up_is_forgotten(rig: Rig) -> None:
    client = rig.client()
    client.send(text("half a frame")[:4])
    client.socket.close()
    rig.turn()
    assert gone(rig)
    assert rig.edge.statistics().closes == {1006: 1}
    rig.talkers[0].outbox.connection.close(CloseCode.INTERNAL)  # no harm
    rig.talkers[0].outbox.put(b"into nothing")
    rig.edge.flush()


def test_client_that_hangs_up_in_its_head_is_forgotten(rig: Rig) -> None:
    client = rig.client(HANDSHAKE[:20])
    client.socket.close()
    rig.turn()
    assert rig.edge.statistics().connections == 0
    assert rig.edge.statistics().closes == {}


def test_client_that_is_gone_when_we_write_is_forgotten(rig: Rig) -> None:
    client = rig.client()
    client.socket.close()
    rig.talkers[0].outbox.put(b"x")
    rig.edge.flush()
    assert gone(rig)


def test_detach_of_one_may_put_into_others_and_it_is_sent_in_the_same_turn(rig: Rig) -> None:
    leaving, staying = rig.client(), rig.client()
    rig.talkers[0].friends.append(rig.talkers[1].outbox)  # as presence will
    leaving.send(text("leave 4100"))
    assert staying.texts() == ["left"]


def test_end_drops_everybody_and_tells_each_application_once(rig: Rig) -> None:
    clients = [rig.client() for _ in range(3)]
    rig.edge.end()
    assert gone(rig)
    clients[0].receive()
    assert clients[0].is_closed


def test_goodbye_of_a_client_with_batch_is_part_of_its_last_array(rig: Rig) -> None:
    client = rig.client()
    client.send(text("batch"))
    rig.talkers[0].outbox.put(b'"last words"')
    rig.talkers[0].outbox.connection.close(CloseCode.REPLACED)
    rig.edge.flush()
    [(_, array), (opcode, _)] = client.frames()
    assert msgspec.json.decode(array) == ["last words", {"type": "bye", "code": 4005, "name": "replaced"}]
    assert opcode == CLOSE


def test_client_that_hangs_up_before_its_upgrade_is_answered_is_forgotten(rig: Rig) -> None:
    client = rig.client(b"")
    client.socket.send(HANDSHAKE)
    client.socket.close()
    rig.turn()
    assert gone(rig)
    assert len(rig.talkers) == 1


def test_client_that_hangs_up_after_its_close_was_marked_is_forgotten(rig: Rig) -> None:
    rig.client()
    connection = rig.talkers[0].outbox.connection
    connection.close(CloseCode.REPLACED)
    connection.drop()
    rig.edge.flush()
    assert gone(rig)
    assert rig.edge.statistics().closes == {1006: 1}


def test_readiness_that_proves_wrong_is_harmless(rig: Rig) -> None:
    clients = [rig.client(b""), rig.client()]
    fds = list(rig.edge._shared.connections)
    rig.edge.turn([(fd, 1) for fd in fds] + [(fd, 5) for fd in fds], rig.now)
    assert rig.edge.statistics().connections == len(clients)


@pytest.mark.parametrize("event", [HANGUP, WRITE | HANGUP])
def test_hang_up_that_leaves_nothing_to_read_ends_the_connection(rig: Rig, event: int) -> None:
    rig.client()
    rig.edge.turn([(rig.talkers[0].outbox.connection.fd, event)], rig.now)
    assert gone(rig)


def test_nothing_follows_the_close_frame_whoever_puts_it(rig: Rig) -> None:
    client = rig.client()
    rig.talkers[0].friends.append(rig.talkers[0].outbox)
    client.send(text("leave 4100"))
    rig.talkers[0].outbox.put(b"late")
    rig.edge.flush()
    assert client.frames()[-1][0] == CLOSE
