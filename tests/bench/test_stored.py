"""Publishers in three languages, consumers, the disk: what they count, with servers played in memory or small.

What it must not know: how fast anything is; no assertion here is about time.
The surprising decision: the neighbours are not started here. Their answers are bytes written down from their
specifications, cut at every place, because a machine that runs the tests need not have the servers.
"""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import disk
from bench.consuming import Confirmed, Member
from bench.frames import server_frame
from bench.ledger import Ledger, Once, Rising
from bench.pacing import Publishers
from bench.plan import StoredBudget
from bench.report import rows
from bench.restart import play_restart
from bench.servers import RECIPES, STORING, Recipe, ServerError, find_program, running
from bench.sockets import Connection, Loop
from bench.speakers import SPEAKERS, Address, MqttSpeaker, NatsSpeaker, Speaker, TriodeSpeaker
from bench.stored import play_consume, play_durable


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def far(loop: Loop) -> Iterator[tuple[Connection, socket.socket]]:
    """A connection of the generator, and the server's end of it, played by the test."""
    near, far = socket.socketpair()
    with far:
        yield loop.adopt(near, lambda buffer, end: end), far


def nats(number: int, seq: int) -> bytes:
    body = b'{"stream":"BENCH","seq":%d}' % seq
    return b"MSG _I.3.%d 1 %d\r\n%b\r\n" % (number, len(body), body)


STREAMS: dict[str, tuple[Speaker, bytes]] = {
    "triode": (
        TriodeSpeaker(),
        server_frame(b'{"type":"published","id":100,"log":"d0-a","pos":5,"offset":1,"level":"disk"}')
        + server_frame(b'{"type":"ping","at":{}}')
        + server_frame(b'{"type":"published","id":101,"log":"d0-a","pos":9,"offset":2,"level":"disk"}'),
    ),
    "nats": (NatsSpeaker(), nats(100, 1) + b"PING\r\n" + nats(101, 2) + b"+OK\r\n"),
    "mqtt": (MqttSpeaker(), b"\x40\x02\x00\x64\x40\x02\x00\x65"),
}


def hear(speaker: Speaker, connection: Connection, stream: bytes, chunk: int) -> tuple[list[tuple[int, int]], int]:
    """All answers of a stream that comes in chunks, and how many notices."""
    notices: Counter[str] = Counter()
    tail, found = b"", []
    for at in range(0, len(stream), chunk):
        buffer = bytearray(tail + stream[at : at + chunk])
        used, answers = speaker.answers(connection, buffer, len(buffer), notices)
        tail = bytes(buffer[used:])
        found += answers
    assert tail == b""
    return found, sum(notices.values())


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 17, 64, 10_000])
@pytest.mark.parametrize("name", STREAMS)
def test_answers_are_found_wherever_the_stream_is_cut(
    name: str, chunk: int, far: tuple[Connection, socket.socket]
) -> None:
    speaker, stream = STREAMS[name]
    answers, notices = hear(speaker, far[0], stream, chunk)
    assert [number for number, _ in answers] == [100, 101]
    assert [place for _, place in answers] == ([0, 0] if name == "mqtt" else [1, 2])
    assert notices == 0


def test_nats_ping_is_answered_and_errors_are_notices(far: tuple[Connection, socket.socket]) -> None:
    error = b'{"error":{"code":503,"description":"no space"},"stream":"BENCH","seq":0}'
    stream = b"PING\r\n-ERR 'x'\r\n" + b"MSG _I.3.100 1 %d\r\n%b\r\n" % (len(error), error)
    assert hear(NatsSpeaker(), far[0], stream, 7) == ([], 2)
    assert far[1].recv(100) == b"PONG\r\n"


def test_mqtt_packets_that_are_no_puback_are_notices(far: tuple[Connection, socket.socket]) -> None:
    stream = b"\xd0\x00" + b"\x40\x02\x01\x00" + b"\x30\x04\x00\x01tx"
    assert hear(MqttSpeaker(), far[0], stream, 3) == ([(256, 0)], 2)


def test_mqtt_length_of_a_publish_takes_two_bytes() -> None:
    frame = MqttSpeaker().frame(3, 100)
    topic = b"\x00\x0ebench/stored/3"
    assert frame[0] == 0x32
    assert (frame[1] & 127) + (frame[2] << 7) == len(frame) - 3
    assert frame[3:].startswith(topic + b"\x00\x64" + b'"xxx')


@pytest.mark.parametrize("name", SPEAKERS)
def test_all_publish_the_same_128_bytes(name: str) -> None:
    frame = SPEAKERS[name]().frame(0, 100)
    if name == "triode":
        key = (frame[4:8] * (len(frame) // 4))[: len(frame) - 8]
        frame = bytes(a ^ b for a, b in zip(frame[8:], key, strict=True))
    assert frame.count(b'"' + b"x" * 126 + b'"') == 1


def test_rising_places_tell_doubles_from_order() -> None:
    accounts = Rising()
    for place in (3, 9, 9, 4, 12, 0):
        accounts.take(place)
    accounts.close(8)
    assert (accounts.received, accounts.doubled, accounts.misordered, accounts.lost) == (6, 1, 1, 2)


def test_once_counts_over_all_members() -> None:
    accounts = Once()
    accounts.take(0, [1, 4, 6])
    accounts.take(1, [2, 3, 4])  # 4 went to both
    accounts.take(0, [5])  # behind 6
    accounts.close(8)
    assert (accounts.received, accounts.doubled, accounts.misordered, accounts.lost) == (7, 1, 1, 2)


@pytest.fixture(scope="module")
def naive() -> Iterator[Address]:
    with running(RECIPES["naive"]) as server:
        yield server.address


def test_publishers_are_exact_at_full_load_and_by_the_clock(loop: Loop, naive: Address) -> None:
    publishers = Publishers(loop, naive, speaker=TriodeSpeaker(), publishers=3, window=4)
    publishers.pump(0.05)
    full = publishers.published
    assert full == len(publishers.latencies) > 0
    publishers.steady(0.1, 300)
    assert publishers.published - full == 30
    publishers.fill(50)
    assert publishers.published >= full + 80
    publishers.close()
    assert not publishers.waiting
    assert not publishers.notices
    assert [(one.lost, one.doubled, one.misordered) for one in publishers.ledgers] == [(0, 0, 0)] * 3


class Played(TriodeSpeaker):
    """Speaks over a connection that the test has the other end of."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def open(self, loop: Loop, address: Address, count: int) -> list[Connection]:
        return [self._connection]

    def ledger(self, loop: Loop, connection: Connection, publisher: int) -> Ledger:
        return Ledger(1)


def published(number: int, offset: int) -> bytes:
    return server_frame(b'{"type":"published","id":%d,"log":"d0-a","pos":9,"offset":%d}' % (number, offset))


def test_publish_that_is_never_answered_is_lost(far: tuple[Connection, socket.socket], loop: Loop) -> None:
    publishers = Publishers(loop, ("", 0), speaker=Played(far[0]), publishers=1, window=2)
    publishers.start()
    publishers.stop()
    far[1].send(published(101, 1) + published(77, 2))  # the second was never asked for
    loop.turn(5)
    publishers.close()
    assert publishers.waiting
    assert [one.lost for one in publishers.ledgers] == [0]
    assert publishers.notices == {"answer to id 77, which was not in flight": 1}


def test_message_that_is_due_with_a_full_window_waits_for_an_answer(
    far: tuple[Connection, socket.socket], loop: Loop
) -> None:
    """Its latency begins when it was due: a server that falls behind shows it."""
    publishers = Publishers(loop, ("", 0), speaker=Played(far[0]), publishers=1, window=1)
    [one] = publishers.publishers
    one.owed.extend([1_000, 2_000])
    one.send_owed()
    assert (publishers.published, len(one.owed)) == (1, 1)
    far[1].send(published(100, 1))
    loop.turn(5)
    assert (publishers.published, len(one.owed)) == (2, 0)
    far[1].send(published(100, 2))
    loop.turn(5)
    first, second = publishers.latencies
    assert second >= first - 1_000  # it counts from 2,000 ns of this clock, not from when it was sent
    assert not publishers.waiting


def delivery(pos: int, attempt: int = 1) -> bytes:
    inner = (
        f'{{"type":"message","topic":"bench/backlog/3","offset":{pos},"log":"d0-a","pos":{pos},"ts":1,"data":"x"}}'
    )
    return server_frame(f'{{"type":"delivery","sub":1,"attempt":{attempt},"prev":0,"message":{inner}}}'.encode())


def texts(sent: bytes) -> list[dict[str, object]]:
    """The packets in a client's masked frames."""
    buffer = bytearray(sent)
    found = []
    at = 0
    while at < len(buffer):
        length, start = buffer[at + 1] & 127, at + 2
        if length == 126:
            length, start = int.from_bytes(buffer[start : start + 2]), start + 2
        key, body = buffer[start : start + 4], buffer[start + 4 : start + 4 + length]
        found.append(json.loads(bytes(byte ^ key[i % 4] for i, byte in enumerate(body))))
        at = start + 4 + length
    return found


@pytest.mark.parametrize("single", [False, True])
def test_member_confirms_what_it_was_given(
    single: bool, far: tuple[Connection, socket.socket], loop: Loop
) -> None:
    common = Confirmed(single)
    member = Member(far[0], 0, common)
    far[1].send(server_frame(b'{"type":"subscribed","id":2,"sub":1,"after":{},"live":true}') + delivery(4))
    loop.turn(5)
    assert member.subscribed
    assert member.held == [4]
    common.open = True
    far[1].send(delivery(5) + server_frame(b'{"type":"ping","at":{}}') + delivery(6))
    loop.turn(5)
    acks = [{"type": "ack", "sub": 1, "log": "d0-a", "pos": pos} for pos in ([4, 5, 6] if single else [[4, 5, 6]])]
    assert texts(far[1].recv(4096)) == acks
    assert (common.ledger.received, common.notices) == (3, {})


def test_delivery_that_comes_again_is_told(far: tuple[Connection, socket.socket], loop: Loop) -> None:
    common = Confirmed(single=False)
    Member(far[0], 0, common)
    gap = server_frame(b'{"type":"gap","sub":1,"after":{},"reason":"reset"}')
    far[1].send(delivery(4) + delivery(5) + delivery(4, attempt=2) + gap)
    loop.turn(5)
    assert common.notices == {"delivered again": 1, "gap": 1}
    assert (common.ledger.doubled, common.ledger.misordered) == (1, 1)


def test_disk_is_named_and_timed(tmp_path: Path) -> None:
    found = disk.examine(tmp_path, times=3)
    assert found.filesystem != "unknown"
    assert [one.size for one in found.flushes] == [4096, 65536]
    assert "fdatasync" in str(found)


def test_memory_in_place_of_a_disk_is_said_loudly() -> None:
    assert "THIS IS MEMORY" in str(disk.Disk("tmpfs", "tmpfs", ()))


def test_room_is_empty_and_goes_with_its_files(tmp_path: Path) -> None:
    with disk.room(tmp_path / "new") as place:
        (place / "file").write_bytes(b"12345")
        assert disk.size_of(place) == 5
        disk.forget_cached(place)
        assert (place / "file").read_bytes() == b"12345"
    assert not place.exists()


def test_program_that_is_absent_is_named_with_how_to_install_it() -> None:
    with pytest.raises(ServerError, match=r"no-such-program is not installed \(apt-get install it\)"):
        find_program("no-such-program", "apt-get install it")


def test_triode_takes_part_in_everything_that_is_stored(tmp_path: Path) -> None:
    """Small: publishes, all kinds of consumers, a start after either end; everything exact."""
    budget = StoredBudget(
        rounds=1,
        cycles=1,
        window_seconds=0.05,
        warm_seconds=0.0,
        steady_seconds=0.1,
        backlog=3_000,
        messages=1_000,
        starts=1,
    )
    recipes = {"triode": STORING["triode"]}
    for play in (play_durable, play_consume, play_restart):
        results = play(recipes, budget, tmp_path)
        assert not results.failures
        assert all(row.exact for row in rows(results))
        assert not [fault for start in results.starts for fault in start.faults]


def test_neighbour_that_is_not_installed_is_left_out(tmp_path: Path) -> None:
    absent = Recipe("jetstream", "NATS JetStream", ("no-such-program",), install="pip install it")
    budget = StoredBudget(1, 1, 0.01, 0.0, 0.01, 1, 1, 1)
    results = play_durable({"jetstream": absent}, budget, tmp_path)
    assert results.failures == {"jetstream": "no-such-program is not installed (pip install it)"}
    assert rows(results) == []
