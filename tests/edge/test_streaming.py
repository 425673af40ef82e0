"""HTTP answers that go on, and bodies that wait to be asked for."""

import json

import trio
import trio.testing
from attrs import define
from triode_broker.config import Limits
from triode_broker.core.outbox import Outbox
from triode_broker.edge.door import Door
from triode_broker.edge.front import Front

from tests.edge.authority import TlsClient, tls_door
from tests.edge.rig import HANDSHAKE, Rig, text
from tests.edge.service import Counter, MakeRig, asks, one
from tests.edge.test_proxy import Unnamed

# Answers that go on


@define
class Feed:
    """`Feeding`."""

    outbox: Outbox | None = None
    rooms: int = 0
    pings: int = 0
    is_over: bool = False
    is_answered: bool = True

    def room(self, now_ms: int) -> None:
        """Count."""
        self.rooms += 1
        if self.outbox is not None:
            self.outbox.wants_room = False

    def keepalive(self, now_ms: int) -> None:
        """Count."""
        self.pings += 1

    def detach(self) -> None:
        """Once."""
        assert not self.is_over
        self.is_over = True


def line_of(payload: bytes) -> bytes:
    """A payload as a line; of nothing nothing."""
    return payload + b"\n" if payload else b""


def unchunked(data: bytes) -> tuple[str, list[bytes], bool]:
    """Status line, chunks, and whether the last one has come."""
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Connection: close" in head
    found: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if size == b"0":
            return head.decode().splitlines()[0], found, rest == b"\r\n"
        found.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return head.decode().splitlines()[0], found, False


def test_stream_sends_what_was_put_before_its_head_behind_it(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    stream = counter.last.stream(line_of)
    stream.outbox.put(b"early")
    served.edge.flush()
    assert client.receive() == b""
    feed = Feed(stream.outbox)
    stream.begin(200, [("Content-Type", "text/plain")], feed)
    stream.outbox.put(b"late")
    stream.outbox.put(b"")
    served.edge.flush()
    assert unchunked(client.receive()) == ("HTTP/1.1 200 OK", [b"early\n", b"late\n"], False)
    stream.wake()
    served.turn()
    assert feed.rooms
    served.after(60)
    assert feed.pings == 2
    stream.close(4100, 250)
    served.edge.flush()
    (size, bye, end) = client.receive().split(b"\r\n", 2)
    assert json.loads(bye) == {"type": "bye", "code": 4100, "name": "shutdown", "reconnect_after_ms": 250}
    assert int(size, 16) == len(bye)
    assert end == b"0\r\n\r\n"
    assert feed.is_over
    assert client.is_closed


def test_stream_that_was_not_begun_leaves_nothing(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    stream = counter.last.stream(line_of)
    stream.outbox.put(b"never")
    stream.close(4001)
    assert stream.close_code == 4001
    counter.reply(b"no", 401)
    answer = one(served, client)
    assert (answer.status, answer.body, answer.headers["connection"]) == (401, b"no", "keep-alive")
    client.send(asks())
    counter.reply()
    assert one(served, client).body == b"ok"


def test_stream_whose_end_was_asked_for_before_its_head_ends_with_a_bye(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    stream = counter.last.stream(line_of)
    stream.close(4002)
    feed = Feed()
    stream.begin(200, [], feed)
    served.edge.flush()
    _, (bye,), is_whole = unchunked(client.receive())
    assert (json.loads(bye)["code"], is_whole, feed.is_over) == (4002, True, True)


def test_stream_ends_with_its_client(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    stream, feed = counter.last.stream(line_of), Feed()
    stream.begin(200, [], feed)
    client.socket.close()
    served.edge.flush()
    served.turn()
    assert feed.is_over
    assert stream.outbox.is_closed
    stream.outbox.put(b"nobody hears this")
    stream.close(4100)
    stream.drop()
    served.edge.flush()
    late = counter.last.stream(line_of)
    other = Feed()
    late.begin(200, [], other)
    assert late.outbox.is_closed


def test_stream_to_an_old_client_has_no_chunks(served: Rig, counter: Counter) -> None:
    client = served.client(asks().replace(b"HTTP/1.1", b"HTTP/1.0"))
    stream = counter.last.stream(line_of)
    stream.begin(200, [])
    stream.outbox.put(b"line")
    stream.end()
    served.edge.flush()
    assert client.receive().endswith(b"\r\n\r\nline\n")
    assert client.is_closed


def test_head_of_a_stream_is_all_of_it(served: Rig, counter: Counter) -> None:
    client = served.client(asks("HEAD"))
    feed = Feed()
    counter.last.stream(line_of).begin(200, [], feed)
    served.edge.flush()
    assert b"200 OK" in client.receive()
    assert client.is_closed
    assert feed.is_over


async def test_stream_waits_for_its_reader(served: Rig, counter: Counter) -> None:
    """G6: whoever feeds it waits for room, and the outbox stays within its bound."""
    client = served.client(asks(), send_buffer=4_096)
    stream = counter.last.stream(bytes)
    stream.begin(200, [])
    await stream.room()
    limit = stream.outbox.limit
    stream.outbox.put(b"x" * 2 * limit)
    served.edge.flush()
    has_room = trio.Event()

    async def wait() -> None:
        await stream.room()
        has_room.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not has_room.is_set()
        while stream.outbox.size > limit // 2:
            client.receive()
            served.turn()
        await trio.testing.wait_all_tasks_blocked()
        assert has_room.is_set()
        stream.outbox.put(b"x" * 2 * limit)
        nursery.start_soon(stream.room)
        await trio.testing.wait_all_tasks_blocked()
        stream.drop()


async def test_drain_ends_a_stream_with_a_bye(served: Rig, counter: Counter) -> None:
    """SPEC 5.3: where to go is said to whoever is streamed to as well."""
    client = served.client(asks())
    stream, feed = counter.last.stream(line_of), Feed()
    stream.begin(200, [], feed)
    served.edge.close_doors(served.now)
    await served.edge.drain(lambda: 0.0, lambda: (70, ["ws://other"]))
    _, (bye,), is_whole = unchunked(client.receive())
    assert json.loads(bye) == {
        "type": "bye",
        "code": 4200,
        "name": "draining",
        "reconnect_after_ms": 70,
        "urls": ["ws://other"],
    }
    assert is_whole
    assert feed.is_over


# Clients that wait to be asked for the body


async def test_body_that_waits_to_be_asked_for_is_asked_for_when_it_is_wanted(
    served: Rig, counter: Counter
) -> None:
    """RFC 9110 section 10.1.1; whoever is refused at once sends none."""
    client = served.client(asks("POST", Content_Length="5", Expect="100-continue"))
    assert client.receive() == b""
    counter.reply(b"no", 401)
    assert one(served, client).headers["connection"] == "close"

    client = served.client(asks("POST", Content_Length="5", Expect="100-continue"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counter.last.receive)
        await trio.testing.wait_all_tasks_blocked()
        assert client.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
    counter.reply()
    assert one(served, client).headers["connection"] == "keep-alive"


def test_stream_asks_for_the_body_before_its_own_head(served: Rig, counter: Counter) -> None:
    client = served.client(asks("POST", Transfer_Encoding="chunked", Expect="100-continue"))
    counter.last.stream(line_of).begin(200, [])
    served.edge.flush()
    said, _, rest = client.receive().partition(b"\r\n\r\n")
    assert said == b"HTTP/1.1 100 Continue"
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


# Behind TLS and a proxy's header


def test_conversation_over_tls_is_one_as_without(make_rig: MakeRig, counter: Counter) -> None:
    """Requests in records cut anywhere, an answer of many records, and a WebSocket behind it."""
    rig = make_rig(door=tls_door(), services={"/v1/": counter.take})
    client = TlsClient(rig).shake()
    request = asks("POST", body=b"hello")
    client.send(*(request[place : place + 1] for place in range(len(request))))
    assert counter.body() == b"hello"
    assert counter.last.arrival.is_encrypted
    counter.reply(b"x" * 300_000)
    rig.edge.flush()
    got = b""
    while len(got) < 300_000:
        rig.turn()
        got += client.receive()
    assert got.endswith(b"x" * 1_000)
    client.send(HANDSHAKE + text("say 3"))
    assert client.receive().endswith(b"\x81\x03xxx")
    assert rig.talkers[0].arrival.is_encrypted


def test_client_behind_a_proxy_is_known_by_its_own_address(make_rig: MakeRig, counter: Counter) -> None:
    """Of each request, and counted for as long as that lasts (S6)."""
    door = Door(Front(proxies=Unnamed(["10.0.0.0/8"])))
    rig = make_rig(Limits(max_address_connections=1), door=door, services={"/v1/": counter.take})
    client, other = rig.client(b""), rig.client(b"")
    for address in ("198.51.100.1", "198.51.100.2", "198.51.100.1"):
        client.send(asks(X_Forwarded_For=address))
        assert counter.last.arrival.address == address
        counter.reply()
        assert one(rig, client).status == 200
    client.send(asks(X_Forwarded_For="198.51.100.1"))
    other.send(asks(X_Forwarded_For="198.51.100.1"))
    answer = one(rig, other)
    assert (answer.status, answer.error) == (429, "rate_limited")
    counter.reply()
    assert one(rig, client).status == 200
