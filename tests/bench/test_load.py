"""The load generator sees what a server loses, doubles or swaps, and agrees with a server that does not.

What it must not know: how fast anything is; no assertion here is about time.
The surprising decision: faults are made in memory, in the bytes of an otherwise perfect stream, at
every way to cut that stream into chunks; only the naive peer runs as a process of its own.
"""

import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from bench.frames import client_frame, server_frame, skim, split
from bench.ledger import Ledger
from bench.load import AckedPublisher, LoadError, Subscriber, open_connections
from bench.packets import PAYLOAD, greeting, publish_frame
from bench.servers import RECIPES, Recipe, ServerError, running
from bench.sockets import Loop
from bench.workloads import Acked, Address, FanOut, FixedRate, Pairs, Traffic, open_idle, subscribe_own_topics

FIRST = 7


def message(offset: int) -> bytes:
    text = f'{{"type":"message","topic":"t","offset":{offset},"log":"m0","pos":{offset},"data":"{PAYLOAD}"}}'
    return server_frame(text.encode())


def batch(offsets: list[int]) -> bytes:
    packets = ",".join(f'{{"type":"message","topic":"t","offset":{offset},"data":1}}' for offset in offsets)
    return server_frame(f"[{packets}]".encode())


def feed(subscriber: Subscriber, stream: bytes, chunk: int) -> None:
    """Hand the stream over as sockets do: in chunks, an incomplete frame again with the next one."""
    tail = b""
    for at in range(0, len(stream), chunk):
        buffer = bytearray(tail + stream[at : at + chunk])
        used = subscriber.take(buffer, len(buffer))
        tail = bytes(buffer[used:])
    assert tail == b""


def subscriber(sampled: bool, several: bool = False) -> Subscriber:
    timing: tuple[list[int], list[int]] | None = ([0] * 1000, []) if sampled else None
    return Subscriber(FIRST, Counter(), timing, several)


def account(one: Subscriber, published: int) -> tuple[int, int, int]:
    one.ledger.close(published)
    return one.ledger.lost, one.ledger.doubled, one.ledger.misordered


# From 7 to 126: the offsets grow from one to three digits, so that frames of three lengths meet in one chunk.
DUE = list(range(FIRST, FIRST + 120))
FAULTS = {
    "nothing": (DUE, (0, 0, 0)),
    "one missing": (DUE[:50] + DUE[51:], (1, 0, 0)),
    "first missing": (DUE[1:], (1, 0, 0)),
    "last missing": (DUE[:-1], (1, 0, 0)),
    "many missing": (DUE[:10] + DUE[90:], (80, 0, 0)),
    "one doubled": ([*DUE[:51], DUE[50], *DUE[51:]], (0, 1, 0)),
    "one missing, one doubled": ([*DUE[:30], *DUE[31:60], DUE[59], *DUE[60:]], (1, 1, 0)),
    "two swapped": ([*DUE[:40], DUE[41], DUE[40], *DUE[42:]], (0, 0, 1)),
    "nothing at all": ([], (120, 0, 0)),
}


@pytest.mark.parametrize("chunk", [1, 13, 190, 191, 1000, 4096, 100_000])
@pytest.mark.parametrize("fault", FAULTS)
def test_sampled_subscriber_reports_every_fault(fault: str, chunk: int) -> None:
    offsets, expected = FAULTS[fault]
    one = subscriber(sampled=True)
    feed(one, b"".join(map(message, offsets)), chunk)
    assert account(one, len(DUE)) == expected
    assert one.ledger.received == len(offsets)
    assert not one.notices


# A swap inside one chunk of equal frames is what the quick count cannot see: it is the sample that proves order.
@pytest.mark.parametrize("chunk", [1, 13, 190, 1000, 4096, 100_000])
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "two swapped"])
def test_counted_subscriber_reports_loss_and_doubles(fault: str, chunk: int) -> None:
    offsets, expected = FAULTS[fault]
    one = subscriber(sampled=False)
    feed(one, b"".join(map(message, offsets)), chunk)
    assert account(one, len(DUE)) == expected
    assert one.ledger.received == len(offsets)


@pytest.mark.parametrize("fault", FAULTS)
def test_batches_are_counted_message_by_message(fault: str) -> None:
    offsets, expected = FAULTS[fault]
    arrays = [batch(offsets[at : at + 7]) for at in range(0, len(offsets), 7)]
    one = subscriber(sampled=False, several=True)
    feed(one, b"".join(arrays), 500)
    assert account(one, len(DUE)) == expected


def test_counted_subscriber_is_not_deceived_by_a_packet_in_place_of_a_message() -> None:
    one = subscriber(sampled=False)
    ping = server_frame(b'{"type":"ping","at":{"m0-x":8}}')
    feed(one, message(7) + ping + message(9), 100_000)
    assert account(one, 3) == (1, 0, 0)
    assert not one.notices  # a ping is expected


def test_gaps_errors_and_closes_become_notices() -> None:
    one = subscriber(sampled=False)
    gap = server_frame(b'{"type":"gap","sub":1,"after":{},"reason":"slow"}')
    error = server_frame(b'{"type":"error","name":"rate_limited"}')
    close = server_frame(b"\x10\x08", first=0x88)
    feed(one, message(7) + gap + error + close, 100_000)
    assert one.notices == {"gap": 1, '{"type":"error","name":"rate_limited"}': 1, "close": 1}
    assert one.ledger.received == 1


def test_latencies_are_taken_of_every_sampled_message() -> None:
    latencies: list[int] = []
    one = Subscriber(FIRST, Counter(), ([0] * 120, latencies))
    feed(one, b"".join(map(message, DUE)), 1000)
    assert len(latencies) == 120


def test_ledger_tells_late_from_lost() -> None:
    ledger = Ledger(1)
    for offset in (1, 4, 2, 2, 5):
        ledger.take(offset)
    ledger.close(6)
    assert (ledger.lost, ledger.misordered, ledger.doubled) == (2, 1, 1)  # 3 and 6; 2 late; 2 again


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_skim_and_split_agree_on_every_length_form(size: int) -> None:
    stream = bytearray(server_frame(b"x" * size) * 3 + b"\x81")
    found = skim(stream, len(stream))
    spans = list(split(stream, len(stream)))
    assert [stop - start for _, start, stop in spans] == [size] * 3
    assert (found.frames, found.used, found.last) == (3, spans[-1][2], spans[-1][1])
    assert found.even
    assert not found.unusual


def test_client_frame_is_masked() -> None:
    frame = client_frame(b"hello")
    key, body = frame[2:6], frame[6:]
    assert frame[:2] == bytes((0x81, 0x80 | 5))
    assert any(key)
    assert bytes(byte ^ key[i % 4] for i, byte in enumerate(body)) == b"hello"


def ack(number: int, offset: int) -> bytes:
    return server_frame(b'{"type":"published","id":%d,"log":"m0","pos":9,"offset":%d}' % (number, offset))


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def far() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair: the generator's end, which its loop closes, and a server's, played by the test."""
    near, far = socket.socketpair()
    with far:
        yield near, far


def test_acked_publisher_keeps_its_window_and_counts_answers(
    loop: Loop, far: tuple[socket.socket, socket.socket]
) -> None:
    notices: Counter[str] = Counter()
    connection = loop.adopt(far[0], lambda buffer, end: end)
    publisher = AckedPublisher(connection, "t", FIRST, 2, notices, [])
    publisher.start()
    assert far[1].recv(4096) == publish_frame("t", 10) + publish_frame("t", 11)
    far[1].send(ack(10, 7) + ack(11, 8))
    loop.turn(5)
    assert far[1].recv(4096) == publish_frame("t", 10) + publish_frame("t", 11)
    publisher.open = False
    far[1].send(ack(11, 9) + ack(11, 9))  # one answered twice, the other never
    loop.turn(5)
    publisher.ledger.close(publisher.published)
    assert publisher.waiting
    assert (publisher.ledger.lost, publisher.ledger.doubled, len(publisher.latencies)) == (1, 1, 3)
    assert notices == {"answer to id 11, which was not in flight": 1}


def test_refused_publish_is_a_notice(loop: Loop, far: tuple[socket.socket, socket.socket]) -> None:
    notices: Counter[str] = Counter()
    connection = loop.adopt(far[0], lambda buffer, end: end)
    publisher = AckedPublisher(connection, "t", FIRST, 2, notices, [])
    publisher.start()
    error = b'{"type":"error","id":10,"name":"forbidden"}'
    far[1].send(server_frame(b"", first=0x89) + server_frame(error) + ack(11, FIRST))
    loop.turn(5)
    assert notices == {error.decode(): 1}  # the ping is nothing to speak of
    assert publisher.ledger.received == 1


def test_connection_keeps_what_the_socket_does_not_take(
    loop: Loop, far: tuple[socket.socket, socket.socket]
) -> None:
    connection = loop.adopt(far[0], lambda buffer, end: end)
    data = bytes(range(256)) * 4096
    connection.send(data)
    connection.send(b"end")
    assert connection.unsent
    received = bytearray()
    while len(received) < len(data) + 3:
        received += far[1].recv(65536)
        loop.turn(0)
    assert received == data + b"end"
    assert not connection.unsent


@pytest.fixture(scope="module")
def naive() -> Iterator[Address]:
    with running(RECIPES["naive"]) as server:
        yield server.address


OPENS: dict[str, Callable[[Loop, Address], Traffic]] = {
    "fan-out": lambda loop, address: FanOut(loop, address, subscribers=20, window=8),
    "fixed rate": lambda loop, address: FixedRate(loop, address, subscribers=20, per_second=100),
    "pairs": lambda loop, address: Pairs(loop, address, pairs=5, window=3),
    "acked": lambda loop, address: Acked(loop, address, publishers=3, window=4),
}


@pytest.mark.parametrize("name", OPENS)
def test_workload_on_the_naive_peer_is_exact(name: str, loop: Loop, naive: Address) -> None:
    traffic = OPENS[name](loop, naive)
    traffic.pump(0.1)
    traffic.pump(0.1)  # a second window goes on where the first ended
    traffic.close()
    assert [(one.lost, one.doubled, one.misordered) for one in traffic.ledgers] == [(0, 0, 0)] * len(
        traffic.ledgers
    )
    assert {one.received for one in traffic.ledgers} != {0}
    ledgers = [one for one in traffic.ledgers if isinstance(one, Ledger)]
    assert all(one.received == one.next - one.first for one in ledgers)
    assert traffic.latencies
    assert not traffic.notices


def test_idle_connections_are_all_confirmed(loop: Loop, naive: Address) -> None:
    connections = open_idle(loop, naive, 70)  # more than are opened at once
    assert len(connections) == 70
    assert subscribe_own_topics(loop, connections) == 70


def test_refused_handshake_is_an_error(loop: Loop, naive: Address) -> None:
    with pytest.raises(LoadError, match="the server answered"):
        open_connections(loop, naive, [greeting() + client_frame(b'{"type":"nonsense"}')], b'"subscribed"')


def test_server_reads_its_own_cost() -> None:
    with running(RECIPES["naive"]) as server, Loop() as loop:
        before = server.cpu()
        open_idle(loop, server.address, 20)
        user, system = server.cpu().since(before)
        assert user + system > 0
        assert server.memory_kib() > 1000


def test_server_that_cannot_start_says_why() -> None:
    broken = Recipe("broken", "Broken", (sys.executable, "-c", "raise SystemExit('no such thing: {port}')"))
    with pytest.raises(ServerError, match="Broken does not listen: no such thing"), running(broken):
        raise AssertionError("it must not start")
