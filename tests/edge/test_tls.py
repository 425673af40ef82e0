"""TLS in front of a connection: handshakes in pieces, records and turns, back-pressure, ends of all kinds."""

import ssl
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from triode_broker.config import Limits
from triode_broker.edge.tls import CHUNK_BYTES

from tests.edge.authority import TlsClient, client_context, tls_door
from tests.edge.rig import CLOSE, HANDSHAKE, Rig, close_payload, frame, text

MakeRig = Callable[..., Rig]


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    return make_rig(door=tls_door())


def receive_all(client: TlsClient, rig: Rig) -> bytes:
    """All that the edge has to say, however little the kernel takes at once."""
    got = bytearray()
    before = -1
    while before != rig.edge.statistics().bytes_out or rig.talkers[0].outbox.size:
        before = rig.edge.statistics().bytes_out
        got += client.receive()
        rig.turn()
    return bytes(got + client.receive())


def test_a_websocket_over_tls_works_as_one_without(rig: Rig) -> None:
    client = TlsClient(rig).upgrade()
    client.send(text("hello"), text("say 5"))
    assert rig.talkers[0].heard == ["hello", "say 5"]
    assert client.receive() == b"\x81\x05xxxxx"
    assert client.tls.selected_alpn_protocol() == "http/1.1"
    assert rig.talkers[0].arrival.is_encrypted


def test_a_page_is_served_over_tls_and_the_end_is_said(make_rig: MakeRig) -> None:
    rig = make_rig(routes={"/x": lambda target: (200, "text/plain", b"here")}, door=tls_door())
    client = TlsClient(rig).shake()
    client.send(b"GET /x HTTP/1.1\r\nHost: broker.example\r\n\r\n")
    assert client.receive().endswith(b"\r\n\r\nhere")
    assert client.is_told_the_end()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_handshake_may_come_byte_by_byte(rig: Rig, version: ssl.TLSVersion) -> None:
    context = client_context()
    context.minimum_version = context.maximum_version = version
    client = TlsClient(rig, context)
    is_done = False
    while not is_done:
        is_done = client.step()
        said = client.said()
        client.below.send(*(said[at : at + 1] for at in range(len(said))))
    client.send(HANDSHAKE)
    assert client.receive().startswith(b"HTTP/1.1 101 ")


def test_a_frame_cut_in_records_and_records_cut_in_pieces_are_heard_once(rig: Rig) -> None:
    client = TlsClient(rig).upgrade()
    said = text("x" * 300)
    records = client.encrypt(said[:1], said[1:5], said[5:200], said[200:], text("after"))
    for at in range(0, len(records), 7):
        client.below.send(records[at : at + 7])
    assert rig.talkers[0].heard == ["x" * 300, "after"]


def test_what_came_with_the_end_of_the_handshake_is_heard_at_once(rig: Rig) -> None:
    """The kernel holds nothing more then: a level-triggered poller would never tell of it."""
    client = TlsClient(rig)
    assert not client.step()
    client.below.send(client.said())
    assert client.step()
    client.below.send(client.said() + client.encrypt(HANDSHAKE, text("early")))
    assert rig.talkers[0].heard == ["early"]


def test_all_whole_records_of_a_turn_are_heard_in_it(rig: Rig) -> None:
    client = TlsClient(rig).upgrade()
    client.send(*(text(f"{number} " + "y" * 1_500) for number in range(40)))
    assert [said.split()[0] for said in rig.talkers[0].heard if isinstance(said, str)] == [
        str(number) for number in range(40)
    ]


def test_bulk_behind_a_cut_record_is_no_flood(rig: Rig) -> None:
    """S4 is about bytes with nothing in them: a turn's worth of messages behind the rest of a record is not."""
    client = TlsClient(rig).upgrade()
    records = client.encrypt(*(text(f"{number} " + "y" * 1_500) for number in range(80)))
    client.below.send(records[:700], records[700:])
    rig.turn()
    assert len(rig.talkers[0].heard) == 80


def test_records_that_cannot_leave_count_as_waiting_and_come_in_order(make_rig: MakeRig) -> None:
    """G6: back-pressure sees through TLS; the poller is asked to write only while there is something to write."""
    rig = make_rig(limits=Limits(max_outbox_bytes=400_000), door=tls_door())
    client = TlsClient(rig, send_buffer=4_096).upgrade()
    for number in range(10):
        client.send(text(f"say {30_000 + number}"))
    waiting = rig.talkers[0].outbox.size
    assert 200_000 < waiting <= 10 * 30_100
    got = receive_all(client, rig)
    assert rig.talkers[0].outbox.size == 0
    expected = b"".join(
        b"\x81\x7e" + (30_000 + number).to_bytes(2) + b"x" * (30_000 + number) for number in range(10)
    )
    assert got == expected


def test_one_large_output_is_cut_in_records_that_together_are_the_whole(rig: Rig) -> None:
    client = TlsClient(rig, send_buffer=4_096).upgrade()
    client.send(text(f"say {5 * CHUNK_BYTES + 17}"))
    got = receive_all(client, rig)
    assert len(got) == 10 + 5 * CHUNK_BYTES + 17


def test_a_close_handshake_ends_with_a_word_of_tls(rig: Rig) -> None:
    client = TlsClient(rig).upgrade()
    client.send(frame(CLOSE, close_payload(1000)))
    assert client.receive() == b"\x88\x02\x03\xe8"
    assert client.is_told_the_end()
    assert rig.edge.statistics().connections == 0


def test_an_end_without_a_word_is_a_lost_connection(rig: Rig) -> None:
    client = TlsClient(rig).upgrade()
    client.below.socket.close()
    rig.turn()
    assert rig.edge.statistics().closes == {1006: 1}
    assert rig.talkers[0].detached == 1


def test_an_end_said_behind_a_message_is_seen_in_the_next_turn(rig: Rig) -> None:
    client = TlsClient(rig).upgrade()
    last = client.encrypt(text("last"))
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.below.socket.sendall(last + client.said())
    client.below.socket.shutdown(1)
    rig.turn()
    assert rig.talkers[0].heard == ["last"]
    assert rig.edge.statistics().connections == 0


def test_s6_a_handshake_that_never_ends_is_dropped(rig: Rig) -> None:
    """S6: as a slow head; what was begun of it does not matter."""
    client = TlsClient(rig)
    assert not client.step()
    client.below.send(client.said()[:100])
    rig.after(4.9)
    assert rig.edge.statistics().connections == 1
    rig.after(0.5)
    assert rig.edge.statistics().connections == 0
    assert rig.log.events == []


def test_s6_a_slow_reader_of_the_handshake_is_dropped_too(rig: Rig) -> None:
    client = TlsClient(rig, send_buffer=1_024)
    client.step()
    client.below.send(client.said())
    rig.after(5.5)
    assert rig.edge.statistics().connections == 0


def test_s2_handshake_bytes_count_as_all_before_connect(make_rig: MakeRig) -> None:
    """S2: a ClientHello that goes on and on is cut where an endless head would be."""
    rig = make_rig(limits=Limits(max_before_connect_bytes=16_384), door=tls_door())
    client = rig.client(b"")
    client.send(b"\x16\x03\x01\x40\x00\x01\x00\xff\xff")
    for _ in range(20):
        try:
            client.send(b"\0" * 1_000)
        except BrokenPipeError:
            break
    assert rig.edge.statistics().connections == 0


def test_s5_plain_http_to_a_tls_port_is_told_so_in_plain(rig: Rig) -> None:
    client = rig.client(b"GET / HTTP/1.1\r\nHost: broker.example\r\n\r\n")
    answer = client.receive()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in answer
    assert client.is_closed


def test_s5_a_tls_hello_to_a_plain_port_is_refused(make_rig: MakeRig) -> None:
    client = TlsClient(make_rig())
    client.step()
    client.below.send(client.said())
    answer = client.below.receive()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"plain" in answer


def test_s1_garbage_drops_its_connection_and_does_not_fill_the_log(rig: Rig) -> None:
    """S1: every error of TLS ends at the connection; S27: a flood of them is one line, and then their number."""
    healthy = TlsClient(rig).upgrade()
    for number in range(50):
        rig.client(b"\x16\x03\x01\x00\x05" + bytes([number + 7]) * 5)
    assert rig.log.events == ["tls_handshake_failed"]
    assert rig.edge.statistics().connections == 1
    healthy.send(text("alive"))
    assert rig.talkers[0].heard == ["alive"]


def test_s1_garbage_behind_the_handshake_is_a_lost_connection(rig: Rig) -> None:
    client = TlsClient(rig).upgrade()
    client.below.send(b"\x17\x03\x03\x00\x20" + b"z" * 32)
    assert rig.edge.statistics().closes == {1006: 1}
    assert rig.log.events == []


def test_s1_a_handshake_cut_at_every_byte_leaves_nothing_behind(rig: Rig) -> None:
    first = TlsClient(rig)
    first.step()
    hello = first.said()
    for size in range(1, len(hello)):
        client = rig.client(b"")
        client.send(hello[:size])
        client.socket.close()
        rig.turn()
    assert rig.edge.statistics().connections == 1
    assert set(rig.log.events) <= {"tls_handshake_failed"}
    assert {values["reason"] for _, values in rig.log.entries} == {"cut off"}


def test_a_refusal_before_the_handshake_is_told_behind_it(make_rig: MakeRig) -> None:
    rig = make_rig(limits=Limits(max_connections=1), door=tls_door())
    TlsClient(rig).upgrade()
    late = TlsClient(rig).shake()
    assert late.receive().startswith(b"HTTP/1.1 503 ")
    assert late.is_told_the_end()


def test_a_session_that_goes_on_needs_no_second_full_handshake(rig: Rig) -> None:
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = TlsClient(rig, context).upgrade()
    session = first.tls.session
    again = TlsClient(rig, context)
    again.tls.session = session
    again.upgrade()
    assert again.tls.session_reused


def test_old_versions_are_refused(rig: Rig) -> None:
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    client = TlsClient(rig, context)
    with pytest.raises(ssl.SSLError):
        client.shake()
    assert rig.edge.statistics().connections == 0


def test_who_looks_whether_a_port_is_open_is_no_line_in_the_log(rig: Rig) -> None:
    for _ in range(3):
        rig.client(b"").socket.close()
        rig.turn()
    assert rig.edge.statistics().connections == 0
    assert rig.log.events == []


def test_an_outbox_over_its_bound_pauses_reading_until_records_have_left(make_rig: MakeRig) -> None:
    """G6: who does not read is not read from, and is closed in the end."""
    rig = make_rig(limits=Limits(max_outbox_bytes=10_000, drain_timeout_ms=1_000), door=tls_door())
    client = TlsClient(rig, send_buffer=4_096).upgrade()
    client.send(text("say 60000"))
    client.below.socket.sendall(client.encrypt(text("unheard")))
    rig.turn()
    assert rig.talkers[0].heard == ["say 60000"]
    receive_all(client, rig)
    assert rig.talkers[0].heard == ["say 60000", "unheard"]
    client.send(text("say 60000"))
    rig.after(1.5)
    assert rig.edge.statistics().closes[4104] == 1


class KeyUpdates:
    """Records of TLS 1.3 that ask for new keys, each under the keys that the one before has brought (RFC 8446)."""

    def __init__(self, keylog: str) -> None:
        (line,) = [line for line in keylog.splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")]
        self._secret = bytes.fromhex(line.split()[2])

    def _expand(self, label: bytes, size: int) -> bytes:
        info = size.to_bytes(2) + bytes((6 + len(label),)) + b"tls13 " + label + b"\0"
        return HKDFExpand(hashes.SHA384(), size, info).derive(self._secret)

    def next(self) -> bytes:
        """One record; its answer is a key update too."""
        key, nonce = self._expand(b"key", 32), self._expand(b"iv", 12)
        message = b"\x18\x00\x00\x01\x01" + b"\x16"
        header = b"\x17\x03\x03" + (len(message) + 16).to_bytes(2)
        self._secret = self._expand(b"traffic upd", 48)
        return header + AESGCM(key).encrypt(nonce, message, header)


def test_s4_keys_that_are_renewed_for_ever_end_the_connection(rig: Rig, tmp_path: Path) -> None:
    """S4: they are no life sign, their answers are not piled up, and nobody else notices."""
    healthy = TlsClient(rig).upgrade()
    context = client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.keylog_filename = str(tmp_path / "keys")
    client = TlsClient(rig, context, send_buffer=4_096).shake()
    assert client.tls.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
    updates = KeyUpdates((tmp_path / "keys").read_text())
    client.below.send(updates.next())
    assert rig.edge.statistics().connections == 2
    for _ in range(5_000):
        try:
            client.below.send(updates.next())
        except OSError:
            break
    assert rig.edge.statistics().connections == 1
    healthy.send(text("alive"))
    assert rig.talkers[0].heard == ["alive"]
