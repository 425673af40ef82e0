"""G6: an outbox over its bound stops the reading of its connection, and only of that; it goes on at half."""

from collections.abc import Callable

import pytest
from triode_broker.config import Limits

from tests.edge.rig import CLOSE, TEXT, Client, Rig, close_payload, frame, text

SMALL = Limits(max_outbox_bytes=20_000)


@pytest.fixture
def small(make_rig: Callable[..., Rig]) -> Rig:
    """A rig whose outboxes are small."""
    return make_rig(SMALL)


def stalled(rig: Rig) -> Client:
    """A client that has asked for more than its outbox and its socket hold, and does not read."""
    client = rig.client(send_buffer=4096)
    client.send(text("say 90000") + text("say 1") + text("say 2"), text("say 3") + text("half")[:3])
    assert rig.talkers[-1].heard == ["say 90000"]
    assert rig.talkers[-1].outbox.is_over
    return client


def read_all(rig: Rig, client: Client) -> list[tuple[int, bytes]]:
    """Read until nothing more comes."""
    while data := client.receive():
        client.buffer += data
        rig.turn()
    return client.frames()


def test_outbox_over_its_bound_pauses_reading_until_it_has_drained(small: Rig) -> None:
    client, other = stalled(small), small.client()
    other.send(text("say 4"))
    assert other.texts() == ["xxxx"]
    frames = read_all(small, client)
    assert [payload for _, payload in frames] == [b"x" * 90_000, b"x", b"xx", b"xxx"]
    client.send(text("half")[3:])
    assert small.talkers[0].heard == ["say 90000", "say 1", "say 2", "say 3", "half"]


@pytest.mark.parametrize("parts", [(b"say 90000", b""), (b"say ", b"90000")])
def test_outbox_over_its_bound_pauses_reading_behind_fragments_too(small: Rig, parts: tuple[bytes, bytes]) -> None:
    client = small.client(send_buffer=4096)
    client.send(frame(TEXT, parts[0], fin=False) + frame(0, parts[1]) + text("say 1") + frame(0x9, b"p"))
    assert small.talkers[0].heard == ["say 90000"]
    assert [len(payload) for _, payload in read_all(small, client)] == [90_000, 1, 1]


def test_outbox_that_the_socket_empties_at_once_pauses_nothing_for_long(small: Rig) -> None:
    client = small.client(send_buffer=1 << 20)
    client.send(text("say 30000") + text("say 1"))
    assert [len(said) for said in client.texts()] == [30_000, 1]
    assert small.edge._shared.connections[small.talkers[0].outbox.connection.fd]._interest == 1


def test_nothing_is_read_from_a_paused_connection(small: Rig) -> None:
    client = stalled(small)
    before = small.edge.statistics().bytes_in
    client.send(text("not read"))
    small.after(10)
    assert small.edge.statistics().bytes_in == before


def test_outbox_that_does_not_drain_closes_its_connection_with_4104(small: Rig) -> None:
    client = stalled(small)
    small.after(29.75)
    assert small.talkers[0].detached == 0
    small.after(0.25)
    assert small.talkers[0].detached == 1
    frames = read_all(small, client)
    assert frames[-1] == (CLOSE, close_payload(4104, "slow_consumer"))
    assert b'"code":4104' in frames[-2][1]
    client.send(text("half")[3:] + frame(CLOSE, close_payload(4104)))
    assert small.edge.statistics().connections == 0


def test_outbox_that_does_not_drain_even_then_is_dropped_after_close_timeout(small: Rig) -> None:
    stalled(small)
    small.after(30 + SMALL.close_timeout_ms / 1000)
    assert small.edge.statistics().connections == 0


def test_outbox_that_drains_in_time_is_not_closed_by_an_earlier_pause(small: Rig) -> None:
    client = stalled(small)
    small.after(20)
    read_all(small, client)
    client.send(text("half")[3:] + text("say 90000") + text("say 1"))  # paused again, 10 s before the first is due
    small.after(20)
    assert small.talkers[0].detached == 0
    read_all(small, client)
    small.after(20)
    assert small.talkers[0].detached == 0


def test_hang_up_ends_a_paused_connection_and_the_reactor_does_not_spin(small: Rig) -> None:
    client = stalled(small)
    client.socket.close()
    small.turn()
    assert small.edge.statistics().connections == 0
    assert small.talkers[0].detached == 1


def test_blocked_outbox_fills_without_being_written_and_leaves_in_order(small: Rig) -> None:
    client = stalled(small)
    outbox = small.talkers[0].outbox
    for number in range(3):
        outbox.put(b"%d" % number)
    assert small.edge.dirty == []
    size = outbox.size
    small.edge.flush()
    assert outbox.size == size
    assert [payload for _, payload in read_all(small, client)][:4] == [b"x" * 90_000, b"0", b"1", b"2"]
    assert outbox.size == 0


def test_size_counts_what_the_socket_did_not_take(small: Rig) -> None:
    client = stalled(small)
    outbox = small.talkers[0].outbox
    taken = len(client.receive())
    assert 0 < taken < 90_000
    assert outbox.size >= 90_000 + 10 - taken - 4096


def test_pongs_wait_behind_a_blocked_write_and_are_counted(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(Limits(max_outbox_bytes=1_000_000))
    client = rig.client(send_buffer=4096)
    client.send(text("say 90000"))
    before = rig.talkers[0].outbox.size
    client.send(frame(0x9, b"p" * 100))
    assert rig.talkers[0].outbox.size == before + 102
    assert read_all(rig, client) == [(TEXT, b"x" * 90_000), (0xA, b"p" * 100)]
    assert rig.talkers[0].outbox.size == 0


def test_keepalive_into_a_full_outbox_begins_a_pause(small: Rig) -> None:
    small.client(send_buffer=4096)
    for _ in range(20):
        small.talkers[0].outbox.put(b"x" * 9_000)
    small.edge.flush()
    small.after(26)
    assert small.talkers[0].keepalives == 1
    small.after(30)
    assert small.talkers[0].detached == 1


@pytest.mark.parametrize("more", [1, 5])
def test_room_is_called_after_a_write_for_as_long_as_it_is_wanted(rig: Rig, more: int) -> None:
    client = rig.client()
    talker = rig.talkers[0]
    talker.more = more
    talker.outbox.wants_room = True
    talker.outbox.put(b"begin")
    rig.edge.flush()
    assert talker.rooms == 0  # not in the flush: other connections come first
    rig.turn()
    assert talker.rooms == more
    assert [len(said) for said in client.texts()] == [5] + [1024] * more
    rig.turn()
    assert talker.rooms == more


def test_room_is_called_once_the_outbox_has_drained_to_half(small: Rig) -> None:
    client = stalled(small)
    talker = small.talkers[0]
    talker.more, talker.outbox.wants_room = 1, True
    small.turn()
    assert talker.rooms == 0
    read_all(small, client)
    assert talker.rooms == 1


def test_room_comes_before_what_waits_to_be_read(small: Rig) -> None:
    """What a session had to leave undone was sent earlier than what is still in the buffer."""
    client = stalled(small)
    talker = small.talkers[0]
    talker.more, talker.outbox.wants_room = 1, True
    frames = read_all(small, client)
    assert [len(payload) for _, payload in frames] == [90_000, 1024, 1, 2, 3]


def test_socket_that_takes_nothing_blocks_the_outbox(rig: Rig) -> None:
    client = rig.client(send_buffer=4096)
    outbox = rig.talkers[0].outbox
    count = 0
    while not outbox.is_blocked:
        outbox.put(b"%04d" % count)
        rig.edge.flush()
        count += 1
    assert outbox.size == 6  # the socket took none of the last
    assert [payload for _, payload in read_all(rig, client)] == [b"%04d" % number for number in range(count)]
    assert not outbox.is_blocked


def test_reading_waits_until_room_has_said_what_fills_it_again(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(Limits(max_outbox_bytes=500))
    client = rig.client()
    talker = rig.talkers[0]
    talker.more, talker.outbox.wants_room = 2, True
    client.send(text("say 2000") + text("say 1"))
    assert [len(said) for said in client.texts()] == [2000, 1024, 1024, 1]


def test_pause_is_no_silence(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(Limits(max_outbox_bytes=20_000, ping_ms=2_000))
    client = rig.client(send_buffer=4096)
    client.send(text("say 90000"))
    rig.after(10)
    assert rig.talkers[0].detached == 0
    read_all(rig, client)
    rig.after(3.75)
    assert rig.talkers[0].detached == 0
    rig.after(1.25)
    assert rig.talkers[0].detached == 1
