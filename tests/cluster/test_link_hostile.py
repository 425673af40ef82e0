"""S1, S2, S4, S6, S22 between nodes: what strangers and broken peers send ends their own connection only.

"Alive" is a second peer whose link stays, and a third one that is let in afterwards.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from triode_broker.cluster import carrier as carriers
from triode_broker.cluster.carrier import MAX_STRANGER_BYTES, Ended
from triode_broker.cluster.frames import PROTOCOLS, Behind, Call, Ping, encode
from triode_broker.cluster.hello import Hello, Refused
from triode_broker.cluster.links import MAX_UNFINISHED
from triode_broker.config import Limits

from tests.cluster.rig import Gate, Net, Node, by_hand, identity, network

HEAD = (
    b"GET /peer HTTP/1.1\r\nHost: n1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: triode-peer\r\n\r\n"
)


@asynccontextmanager
async def attacked() -> AsyncIterator[tuple[Net, Node]]:
    """A node with a peer; both still work afterwards, and nothing of the attackers is left."""
    async with network() as net:
        n1 = await net.node("n1", limits=Limits(peer_silent_ms=1_000_000))
        async with by_hand(n1, identity("n2")) as friend:
            yield net, n1
            await friend.send(Behind("alive"))
            await n1.story.until(lambda: any(frame == Behind("alive") for _, frame in n1.story.frames))
            async with by_hand(n1, identity("n3")):
                assert len(n1.links.links) == 2
        assert "error" not in [level for level, _, _ in n1.log.lines]


async def attack(net: Net, node: Node, *pieces: bytes, cut: bool = True) -> bytes:
    """Send this and hang up; what came back. Without `cut` the node has to end it."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.links.serve_stream, theirs)
        with suppress(trio.BrokenResourceError):  # it has hung up first
            for piece in pieces:
                await ours.send_all(piece)
                await wait_all_tasks_blocked()
            if cut:
                await ours.send_eof()
        answer = b""
        while data := await ours.receive_some():
            answer += bytes(data)
    return answer


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\n",
        b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n",
        b"POST /peer HTTP/1.1\r\nHost: n1\r\nContent-Length: 10\r\n\r\n0123456789",
        HEAD.replace(b"/peer", b"/other"),
        HEAD.replace(b"triode-peer", b"triode.v1"),
        HEAD.replace(b"websocket\r\n", b"h2c\r\n"),
        HEAD.replace(b"13\r\n", b"12\r\n"),
        HEAD.replace(b"Host: n1\r\n", b""),
        HEAD.replace(b"Host: n1", b"Host: \xff\x00"),
        HEAD[:60],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"\x00" * 1_000,
        b"GET " + b"/" * 40_000,
        b"GET /peer HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
        HEAD + b"\x81\x85\1\2\3\4xxxxx",
        HEAD + b"\x82\x05xxxxx",
        HEAD + b"\xff\xff" + b"\xff" * 20,
        HEAD + b"\x88\x80\1\2\3\4",
        HEAD + b"\x82\x83\0\0\0\0\xc1\xc1\xc1",
        HEAD + b"\x02\x80\0\0\0\0" * 100,
        HEAD + b"\x89\x80\0\0\0\0" * 1_000,
    ],
    ids=lambda rubbish: repr(rubbish[:12] + rubbish[-12:]),
)
async def test_rubbish_ends_the_connection_and_nothing_else(rubbish: bytes, autojump_clock: MockClock) -> None:
    async with attacked() as (net, n1):
        await attack(net, n1, rubbish)
        await attack(net, n1, *[rubbish[at : at + 1] for at in range(min(len(rubbish), 300))])
        with trio.fail_after(8):
            await attack(net, n1, rubbish, cut=False)
        assert set(n1.log.loud()) <= {"peer_refused"}


async def test_a_stranger_is_dropped_after_five_seconds_wherever_it_stands(autojump_clock: MockClock) -> None:
    """S6: slow handshakes."""
    hello = msgspec.msgpack.encode(Hello(PROTOCOLS, b"n" * 32, identity("n9")))
    message = b"\x82" + bytes([0x80 | 126]) + len(hello).to_bytes(2, "big") + b"\0\0\0\0" + hello
    async with attacked() as (net, n1):
        for said in (b"", HEAD[:50], HEAD, HEAD + message[:30], HEAD + message):
            began = trio.current_time()
            await attack(net, n1, said, cut=False)
            assert 5 <= trio.current_time() - began <= 6


class Counting(trio.abc.Stream):
    """Counts what is read from it, and how much was asked for at most."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.read_bytes = self.asked_bytes = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.asked_bytes = max(self.asked_bytes, max_bytes or 0)
        data = await self._stream.receive_some(max_bytes)
        self.read_bytes += len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_a_stranger_is_not_read_beyond_its_budget(autojump_clock: MockClock) -> None:
    """S2, S4: a message that never ends, in one frame or in many; fragments without a byte in them."""
    for flood in (
        b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\1\2\3\4" + b"x" * 10_000_000,
        b"\x02\xfe\x10\x00\1\2\3\4" + b"x" * 4_096 + (b"\x00\xfe\x10\x00\1\2\3\4" + b"x" * 4_096) * 2_000,
        b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 500_000,
        b"\x89\xfd\1\2\3\4" + b"x" * 125_000,
    ):
        async with network() as net:
            n1 = await net.node("n1")
            ours, theirs = memory_stream_pair()
            await ours.send_all(HEAD + flood)
            counting = Counting(theirs)
            await n1.links.serve_stream(counting)
            assert counting.read_bytes <= MAX_STRANGER_BYTES
            assert 0 < counting.asked_bytes <= 16_384  # as large is the buffer of a TCP connection


async def test_of_more_strangers_than_there_is_room_for_the_oldest_are_closed(autojump_clock: MockClock) -> None:
    """S2, S6; and a peer gets in past them."""
    async with attacked() as (net, n1):
        streams = []
        for _ in range(MAX_UNFINISHED + 10):
            ours, theirs = memory_stream_pair()
            streams.append(ours)
            net.nursery.start_soon(n1.links.serve_stream, theirs)
            await wait_all_tasks_blocked()  # else nobody says in which order they come
        assert len(n1.log.of("peer_connection_dropped")) == 10
        for ours in streams[:10]:
            assert await ours.receive_some() == b""
        async with by_hand(n1, identity("n4")):
            assert len(n1.links.links) == 2
        assert trio.current_time() < 1
        for ours in streams:
            assert await ours.receive_some() == b""
        assert trio.current_time() == 5


async def test_a_stranger_that_says_no_hello_is_told_and_logged_without_its_words(
    autojump_clock: MockClock,
) -> None:
    """S27."""
    async with attacked() as (net, n1):
        ours, theirs = memory_stream_pair()
        net.nursery.start_soon(n1.links.serve_stream, theirs)
        async with carriers.dial(ours, "n1", 1_000_000) as carrier:
            carrier.trust()
            await carrier.send(msgspec.msgpack.encode(Refused("\x1b[2J\n", "forged\nline")))
            with pytest.raises(Ended):
                await carrier.receive()
        await wait_all_tasks_blocked()
        line = n1.log.of("peer_refused")[0]
        assert (line["reason"], line["detail"]) == ("\\u001b[2J\\n", "forged\\nline")


async def test_refusals_do_not_flood_the_log(autojump_clock: MockClock) -> None:
    async with attacked() as (net, n1):
        for _ in range(50):
            ours, theirs = memory_stream_pair()
            net.nursery.start_soon(n1.links.serve_stream, theirs)
            async with carriers.dial(ours, "n1", 1_000_000) as carrier:
                carrier.trust()
                await carrier.send(b"rubbish")
                assert msgspec.msgpack.decode(await carrier.receive(), type=Refused).reason == "bad_hello"
        assert len(n1.log.of("peer_refused")) >= 49
        assert len(n1.log.loud()) <= 2 + trio.current_time()


# Proven peers


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\x90\x90",
        encode([Behind("x")])[:-1],
        encode([Behind("x")]) + b"\x00",
        msgspec.msgpack.encode([[999, "of tomorrow"]]),
        msgspec.msgpack.encode([[23, 5]]),
        msgspec.msgpack.encode([[23, b"\xff"]]),
        msgspec.msgpack.encode({"a": 1}),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x91\x92\x17\xa2\xff\xff",
    ],
    ids=lambda message: repr(message[:12]),
)
async def test_a_message_that_is_no_frames_closes_the_link_with_the_reason(
    message: bytes, autojump_clock: MockClock
) -> None:
    async with attacked() as (_, n1):
        async with by_hand(n1, identity("n4")) as hand:
            await hand.carrier.send(message)
            await n1.story.until(lambda: n1.story.reasons)
            assert n1.story.reasons == ["bad_frame"]
            assert n1.log.of("peer_link_closed")[0]["detail"]
            with pytest.raises(Ended, match="bad_frame"):
                await hand.receive()
        assert n1.story.frames == []


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x83\x80\1\2\3\4",
        b"\x82\x05hello",
        b"\xf2\x80\1\2\3\4",
        b"\x80\x80\1\2\3\4",
        b"\x02\x80\1\2\3\4\x82\x80\1\2\3\4",
        b"\x88\x81\0\0\0\0x",
        b"\x88\x82\0\0\0\0\x00\x01",
        b"\x88\x84\0\0\0\0\x03\xe8\xff\xff",
        b"\x88\xfe\xff\xff\0\0\0\0",
        b"\x81\x82\0\0\0\0\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=repr,
)
async def test_bytes_that_are_no_websocket_frames_are_a_lost_link_and_no_bug(
    rubbish: bytes, autojump_clock: MockClock
) -> None:
    """While this node sends, too: what the library makes of it is one thing, `lost`."""
    async with attacked() as (_, n1), by_hand(n1, identity("n4")) as hand:
        link = n1.link_to("n4")
        link.put(Call(1, "m", b"x" * 100_000))
        await hand.stream.send_all(rubbish)
        while link.is_open:
            link.put(Behind("m0-1"))
            await trio.lowlevel.checkpoint()
        assert n1.story.reasons == ["lost"]
        assert n1.log.loud() == []


async def test_a_text_message_and_one_that_is_too_large_close_the_link(autojump_clock: MockClock) -> None:
    async with attacked() as (_, n1):
        async with by_hand(n1, identity("n4")) as hand:
            await hand.stream.send_all(b"\x81\x85\0\0\0\0hello")
            await n1.story.until(lambda: len(n1.story.reasons) == 1)
        async with by_hand(n1, identity("n5")) as hand:
            await hand.carrier.send(encode([Call(1, "m", b"x" * 4_200_000)]))
            await n1.story.until(lambda: len(n1.story.reasons) == 2)
        assert n1.story.reasons == ["lost", "lost"]
        assert [line["detail"] for line in n1.log.of("peer_link_closed")][:2] == [
            "a text message between nodes",
            "Exceeded maximum message size: 4194304 bytes",
        ]
        assert n1.story.frames == []


@pytest.mark.parametrize("cut_at", [1, 2, 5, 6, 10, 14, 15])
async def test_half_a_message_and_then_the_end_is_nothing(cut_at: int, autojump_clock: MockClock) -> None:
    data = encode([Behind("m0-1")])
    message = bytes([0x82, 0x80 | len(data)]) + b"\0\0\0\0" + data
    async with attacked() as (_, n1):
        async with by_hand(n1, identity("n4")) as hand:
            await hand.stream.send_all(message[: min(cut_at, len(message) - 1)])
            await wait_all_tasks_blocked()
            await hand.stream.aclose()
            await n1.story.until(lambda: n1.story.reasons)
        assert n1.story.reasons == ["lost"]
        assert n1.story.frames == []


async def test_frames_behind_each_other_in_one_piece_of_bytes_all_come(autojump_clock: MockClock) -> None:
    data = encode([Behind("m0-1")])
    message = bytes([0x82, 0x80 | len(data)]) + b"\0\0\0\0" + data
    async with attacked() as (_, n1):
        async with by_hand(n1, identity("n4")) as hand:
            await hand.stream.send_all(message * 500)
            await n1.story.until(lambda: len(n1.story.frames) >= 500)
        assert [frame for _, frame in n1.story.frames] == [Behind("m0-1")] * 500


async def test_a_peer_that_pings_without_end_fills_no_memory(autojump_clock: MockClock) -> None:
    """It reads nothing and asks for an answer each time: the outbox's bound ends it (S8)."""
    gate = Gate()
    async with network() as net:
        n1 = await net.node("n1", limits=Limits(max_peer_outbox_bytes=20_000, peer_silent_ms=1_000_000))
        async with by_hand(n1, identity("n4"), pair=gate.pair) as hand:
            gate.shut()
            ping = encode([Ping(1, {})])
            message = bytes([0x82, 0x80 | len(ping)]) + b"\0\0\0\0" + ping
            await hand.stream.send_all(message * 2_000)
            await n1.story.until(lambda: n1.story.reasons)
            assert n1.story.reasons == ["outbox_full"]


# A dialler meets the same


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: wrong\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00" * 100_000,
        b"HTTP/1.1 101 " + b"x" * 100_000,
    ],
    ids=lambda answer: repr(answer[:20]),
)
async def test_a_seed_that_is_no_node_is_unreachable_and_tried_again(
    answer: bytes, autojump_clock: MockClock
) -> None:
    async with network() as net:

        async def serve(stream: trio.abc.Stream) -> None:
            await stream.receive_some()
            await stream.send_all(answer)
            await stream.aclose()

        net.accepts["n2"] = serve
        n1 = await net.node("n1", "n2")
        with trio.move_on_after(30):
            await n1.linked()
        assert n1.connects > 3
        assert set(n1.log.loud()) <= {"peer_unreachable"}
        assert len(n1.log.loud()) == 1
        n2 = await net.node("n2")
        await n1.linked()
        await n2.linked()


async def test_mutated_conversations_end_their_own_connection_only(autojump_clock: MockClock) -> None:
    """S1: all that two nodes say, some of it changed."""
    source = random.Random(7)
    async with attacked() as (net, n1):
        for _ in range(150):
            ours, theirs = memory_stream_pair()
            net.nursery.start_soon(n1.links.serve_stream, theirs)
            hello = msgspec.msgpack.encode(Hello(PROTOCOLS, b"n" * 32, identity("n9")))
            raw = bytearray(HEAD + bytes([0x82, 0xFE]) + len(hello).to_bytes(2, "big") + b"\0\0\0\0" + hello)
            for _ in range(source.randrange(1, 6)):
                raw[source.randrange(len(raw))] = source.randrange(256)
            await ours.send_all(bytes(raw))
            await wait_all_tasks_blocked()
            await ours.aclose()
        assert set(n1.log.loud()) <= {"peer_refused", "peer_connection_failed"}
