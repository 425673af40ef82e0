"""Connections that speak HTTP to services: bodies, order, time, ends, and what is refused (S1, S2, S5, S6)."""

import pytest
from attrs import define
from triode_broker.config import Limits
from triode_broker.core.identity import Arrival
from triode_broker.edge.exchange import Exchange
from triode_protocol.codec import Refused

from tests.edge.rig import HANDSHAKE, Rig, text
from tests.edge.service import Counter, MakeRig, all_of, answers, asks, chunks, fill, one


def test_requests_follow_each_other_on_one_connection(served: Rig, counter: Counter) -> None:
    client = served.client(b"")
    for number in range(3):
        client.send(asks("POST", body=b"x" * number))
        assert counter.body() == b"x" * number
        counter.reply(b"%d" % number)
        answer = one(served, client)
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"%d" % number, "keep-alive")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert served.edge.statistics().requests == 3
    assert not client.is_closed


def test_pipelined_requests_are_answered_in_order(served: Rig, counter: Counter) -> None:
    """The next one is not looked at before the one before it has its answer."""
    client = served.client(asks() + asks("POST", body=b"hello") + asks(path="/page") + asks(path="/v1/last"))
    assert len(counter.exchanges) == 1
    counter.reply(b"1")
    served.edge.flush()
    served.turn()
    assert len(counter.exchanges) == 2
    assert counter.body() == b"hello"
    counter.reply(b"2")
    served.edge.flush()
    served.turn()
    counter.reply(b"4")
    assert [answer.body for answer in all_of(served, client)] == [b"1", b"2", b"a page", b"4"]
    assert not client.is_closed


def test_pipelining_client_is_not_read_beyond_a_head(served: Rig, counter: Counter) -> None:
    """S2: while the first one waits, hardly anything of the others is held here."""
    client = served.client(asks())
    fill(client, asks() * 100)
    assert len(counter.exchanges) == 1
    counter.is_quick = True
    counter.reply(b"quick")
    seen = 0
    while found := all_of(served, client):
        seen += len(found)
    assert seen == len(counter.exchanges) > 1_000


@pytest.mark.parametrize("is_chunked", [False, True])
def test_request_means_the_same_however_it_is_cut(served: Rig, counter: Counter, is_chunked: bool) -> None:
    body = b"one" + b"two" * 20
    if is_chunked:
        data = asks("POST", body=chunks(b"one", b"two" * 20), Transfer_Encoding="chunked")
    else:
        data = asks("POST", body=body)
    for cut in range(1, len(data)):
        client = served.client(b"")
        client.send(data[:cut], data[cut:])
        came = b""
        while (piece := counter.body()) not in (b"", b"waits"):
            came += piece
        assert came == body
        counter.reply(b"%d" % cut)
        assert one(served, client).body == b"%d" % cut
        client.socket.close()
        served.turn()


def test_trailers_and_extensions_of_chunks_are_passed_over(served: Rig, counter: Counter) -> None:
    body = b"3;name=value\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"
    client = served.client(asks("POST", body=body, Transfer_Encoding="chunked") + asks())
    assert counter.body() == b"abc"
    assert counter.body() == b""
    counter.reply()
    assert one(served, client).body == b"ok"
    counter.reply(b"2")
    assert one(served, client).body == b"2"


@pytest.mark.parametrize(
    "data",
    [
        asks("POST", body=chunks(b"x"), Transfer_Encoding="chunked", Content_Length="1"),
        asks("POST", Transfer_Encoding="gzip, chunked"),
        asks("POST", Transfer_Encoding="identity"),
        asks("POST", Transfer_Encoding="xchunked"),
        asks("POST", Content_Length="-1"),
        asks("POST", Content_Length="+1"),
        asks("POST", Content_Length="1e1"),
        asks("POST", Content_Length="0x10"),
        asks("POST", Content_Length="1, 2"),
        asks("POST", Content_Length="99999999999999999999999999"),
        asks("POST", body=b"x").replace(b"Content-Length: 1", b"Content-Length: 1\r\nContent-Length: 2"),
        asks("POST", body=b"x").replace(b"Content-Length:", b"Content-Length :"),
        asks("POST", body=b"x").replace(b"Content-Length:", b" Content-Length:"),
        asks().replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\n folded"),
        asks().replace(b"Host: 127.0.0.1", b"Host: a\r\nHost: b"),
        asks().replace(b"Host: 127.0.0.1\r\n", b""),
        asks().replace(b"\r\n", b"\n").replace(b"\n\n", b"\r\n\r\n"),
        asks().replace(b"HTTP/1.1", b"HTTP/2.0"),
        asks().replace(b"GET", b"GET\x00"),
        asks().replace(b"127.0.0.1", b"caf\xc3\xa9"),
        asks("POST", body=chunks(b"x"), Transfer_Encoding="chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_what_two_readers_may_read_differently_is_refused(served: Rig, counter: Counter, data: bytes) -> None:
    """S5: request smuggling, first and later on a connection."""
    client = served.client(data)
    (answer, *_) = answers(client.receive())
    assert answer.status in (400, 501, 505), answer
    assert answer.headers["connection"] == "close"
    assert not counter.exchanges
    later = served.client(asks())
    counter.reply()
    assert one(served, later).status == 200
    later.send(data)
    answer = one(served, later)
    assert answer.status in (400, 501, 505), answer
    assert answer.headers["connection"] == "close"
    assert len(counter.exchanges) == 1


def test_bytes_behind_a_body_are_no_request_of_it(served: Rig, counter: Counter) -> None:
    """S5: what follows a body is the next head, and nothing else."""
    client = served.client(asks("POST", body=b"hello") + b"smuggled")
    assert counter.body() == b"hello"
    counter.reply()
    assert one(served, client).status == 200
    client.send(b"\r\n\r\n")
    assert one(served, client).status == 400


def test_broken_chunks_fail_the_body_and_end_the_connection(served: Rig, counter: Counter) -> None:
    for body in (b"xyz\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"f" * 30 + b"\r\n", b"1" + b";" * 20_000):
        client = served.client(asks("POST", body=body, Transfer_Encoding="chunked"))
        with pytest.raises(Refused, match="not a valid body"):
            counter.whole_body()
        counter.reply(status=400)
        assert one(served, client).headers["connection"] == "close"
        client.send(b"more" * 1_000)


def test_body_that_is_too_large_fails_where_it_becomes_so(make_rig: MakeRig, counter: Counter) -> None:
    """S2"""
    rig = make_rig(Limits(max_http_body_bytes=1_000), services={"/v1/": counter.take})
    for data in (
        asks("POST", body=b"x" * 1_001),
        asks("POST", body=chunks(b"x" * 600, b"x" * 600), Transfer_Encoding="chunked"),
    ):
        client = rig.client(data)
        with pytest.raises(Refused, match="at most 1000 bytes"):
            counter.whole_body()
        counter.reply(status=413)
        assert one(rig, client).headers["connection"] == "close"


def test_stream_may_be_longer_than_a_body(make_rig: MakeRig, counter: Counter) -> None:
    rig = make_rig(Limits(max_http_body_bytes=1_000), services={"/v1/": counter.take})
    client = rig.client(asks("POST", Transfer_Encoding="chunked"))
    counter.last.take_any_length()
    for _ in range(10):
        client.send(chunks(b"x" * 900, end=b""))
        assert counter.body() == b"x" * 900
    client.send(chunks())
    assert counter.body() == b""
    counter.reply()
    assert one(rig, client).headers["connection"] == "keep-alive"


def test_body_in_very_small_pieces_is_refused(served: Rig, counter: Counter) -> None:
    """S4: each costs as much as a large one."""
    client = served.client(asks("POST", Transfer_Encoding="chunked"))
    client.send(chunks(*[b"x"] * 1_000, end=b""))
    assert counter.body() == b"x" * 1_000
    client.send(chunks(*[b"x"] * 100, end=b""))
    with pytest.raises(Refused, match="small pieces"):
        counter.body()
    counter.reply(status=400)
    assert one(served, client).status == 400


def test_body_waits_at_its_client_until_it_is_taken(served: Rig, counter: Counter) -> None:
    """S2: whoever asks and is not served yet holds 64 KiB here, and a recv more."""
    client = served.client(asks("POST", Content_Length="1000000"))
    fill(client, b"x" * 10_000)
    assert counter.last.waiting_bytes < 200_000
    came = 0
    while (piece := counter.body()) != b"waits":
        came += len(piece)
        served.turn()
    assert came > counter.last.waiting_bytes
    assert came == counter.last.body_bytes


# Time


def test_slow_head_slow_body_and_idle_connection_end(served: Rig, counter: Counter) -> None:
    """S2, S6: slowloris, in each of its three forms; later on a connection as well as first."""
    client = served.client(asks())
    counter.reply()
    assert one(served, client).status == 200
    for piece in b"GET /v1":
        client.send(bytes([piece]))
        served.after(0.5)
    served.after(3)
    answer = one(served, client)
    assert (answer.status, answer.error) == (408, "timeout")

    client = served.client(asks("POST", Content_Length="100"))
    for _ in range(29):
        client.send(b"x")
        assert counter.body() == b"x"
        served.after(1)
    served.after(3)
    with pytest.raises(Refused, match="within 30000 ms"):
        counter.body()
    counter.reply(status=408)
    assert one(served, client).headers["connection"] == "close"

    client = served.client(asks())
    served.after(50)  # whoever is served may wait
    counter.reply()
    assert one(served, client).status == 200
    served.after(55)
    assert not client.is_closed
    served.after(25)
    assert client.receive() == b""
    assert client.is_closed


def test_stream_that_is_sent_slowly_goes_on(served: Rig, counter: Counter) -> None:
    """Its time counts from piece to piece."""
    client = served.client(asks("POST", Transfer_Encoding="chunked"))
    counter.last.take_any_length()
    for _ in range(4):
        served.after(20)
        client.send(chunks(b"x", end=b""))
        assert counter.body() == b"x"
    served.after(40)
    with pytest.raises(Refused, match="within 30000 ms"):
        counter.body()


def test_who_reads_no_answer_is_dropped(make_rig: MakeRig, counter: Counter) -> None:
    """S7: after drain_timeout without a byte leaving; whoever reads slowly is not."""
    rig = make_rig(services={"/v1/": counter.take})
    for is_last in (False, True):
        data = asks(Connection="close") if is_last else asks()
        reader, sleeper = (rig.client(data, send_buffer=4_096) for _ in range(2))
        for exchange in counter.exchanges[-2:]:
            exchange.answer(200, [], b"x" * 500_000)
        rig.edge.flush()
        read = 0
        for _ in range(4):
            rig.after(15)
            read += len(reader.socket.recv(50_000))
        rig.turn()
        while piece := reader.receive():
            read += len(piece)
            rig.turn()
        assert read > 500_000
        rig.edge.flush()
        rig.turn()
        sleeper.receive()
        assert sleeper.is_closed
        assert reader.is_closed is is_last


# Ends


def test_client_that_goes_takes_its_request_along(served: Rig, counter: Counter) -> None:
    client = served.client(asks("POST", Content_Length="10"))
    client.socket.close()
    served.turn()
    assert counter.lost == counter.exchanges
    counter.reply()  # too late, and nobody minds
    served.edge.flush()
    assert served.edge.statistics().connections == 0
    assert not served.log.entries


def test_client_that_only_stops_sending_gets_its_answer(served: Rig, counter: Counter) -> None:
    client = served.client(b"")
    client.send(asks())
    client.socket.shutdown(1)
    served.turn()
    assert not counter.lost
    counter.reply()
    answer = one(served, client)
    assert (answer.status, answer.headers["connection"]) == (200, "close")


@pytest.mark.parametrize(
    "data", [asks(Connection="close"), asks().replace(b"HTTP/1.1", b"HTTP/1.0"), asks("POST", Content_Length="9")]
)
def test_connection_ends_behind_the_answer(served: Rig, counter: Counter, data: bytes) -> None:
    """Also where the body was not read: nobody knows whether the client goes on with it."""
    client = served.client(data)
    counter.reply()
    answer = one(served, client)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    client.socket.shutdown(1)
    served.turn()
    client.receive()
    assert client.is_closed
    assert served.edge.statistics().connections == 0


def test_head_is_answered_without_a_body(served: Rig, counter: Counter) -> None:
    client = served.client(asks("HEAD"))
    counter.reply(b"hello")
    served.edge.flush()
    data = client.receive()
    assert b"Content-Length: 5\r\n" in data
    assert data.endswith(b"\r\n\r\n")
    client.send(asks("HEAD", "/page"))
    assert client.receive().endswith(b"\r\n\r\n")


def test_nothing_is_said_in_an_answer_without_content(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    counter.reply(b"", 204)
    assert "content-length" not in one(served, client).headers


def test_header_of_an_answer_has_one_line(served: Rig, counter: Counter) -> None:
    """S5: whatever a service puts there."""
    served.client(asks())
    for bad in ("a\r\nSet-Cookie: 1", "a\n", "\0"):
        with pytest.raises(ValueError, match="one line"):
            counter.last.answer(200, [("Location", bad)], b"")


def test_bug_of_a_service_is_logged_and_answered(make_rig: MakeRig) -> None:
    """S1"""

    def fail(exchange: Exchange) -> None:
        raise RuntimeError("a bug")

    rig = make_rig(services={"/v1/": fail})
    client = rig.client(asks())
    answer = one(rig, client)
    assert (answer.status, answer.error) == (500, "internal")
    assert rig.log.events == ["connection_failed"]


# Others on the same connection


def test_websocket_may_follow_on_the_same_connection(served: Rig, counter: Counter) -> None:
    """Proxies send handshakes over connections that have had other requests."""
    client = served.client(asks())
    counter.reply()
    assert one(served, client).status == 200
    client.send(HANDSHAKE + text("say 3"))
    answer, _, rest = client.receive().partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    client.buffer = rest
    assert client.texts() == ["xxx"]
    client.send(text("say 2"))
    assert client.texts() == ["xx"]
    served.after(120)
    assert served.edge.statistics().upgraded == 1


def test_pages_keep_a_connection_that_asks_for_services_too(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    counter.reply()
    assert one(served, client).status == 200
    for _ in range(2):
        client.send(asks(path="/page"))
        assert one(served, client).body == b"a page"
    client.send(asks("POST", "/page", body=b"x"))
    assert one(served, client).status == 400


def test_page_that_ends_its_connection(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    counter.reply()
    assert one(served, client).status == 200
    client.send(asks(path="/page", Connection="close"))
    assert one(served, client).headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/v1", "/v2/x", "/nothing", "/v1x", "//v1/"])
def test_what_is_not_below_a_service_is_none_of_its_business(served: Rig, counter: Counter, path: str) -> None:
    assert answers(served.client(asks(path=path)).receive())[0].status == 404
    client = served.client(asks())
    counter.reply()
    assert one(served, client).status == 200
    client.send(asks(path=path))
    assert (one(served, client).error, len(counter.exchanges)) == ("not_found", 1)


# Who asks


def test_token_and_page_are_known_to_a_service(served: Rig, counter: Counter) -> None:
    served.client(asks(Authorization="Bearer abc", Origin="http://127.0.0.1"))
    assert counter.last.arrival == Arrival(token="abc")
    assert counter.last.origin == "http://127.0.0.1"


def test_page_of_a_stranger_is_refused(served: Rig, counter: Counter) -> None:
    """S9"""
    for origin in ("http://evil.example", "null", "http://127.0.0.1.evil.example"):
        answer = one(served, served.client(asks(Origin=origin)))
        assert (answer.status, answer.error) == (403, "forbidden")
    assert not counter.exchanges
    assert "origin_refused" in served.log.events


def test_name_that_was_made_to_lead_here_is_refused(served: Rig, counter: Counter) -> None:
    """S9: the page of such a name asks its own server, as far as its browser knows, and says no origin."""
    for host in ("evil.example", "127.0.0.1.evil.example:7400", "localhost.evil.example"):
        data = asks().replace(b"127.0.0.1", host.encode())
        assert one(served, served.client(data)).status == 403
    assert not counter.exchanges
    for host in ("localhost:7400", "[::1]", "127.0.0.1:1"):
        served.client(asks().replace(b"127.0.0.1", host.encode()))
    served.client(asks(Authorization="Bearer x").replace(b"127.0.0.1", b"broker.example"))
    served.client(asks().replace(b"127.0.0.1", b"broker.example"), address="192.0.2.1")
    assert len(counter.exchanges) == 4


@define
class Kept:
    """`Guest`."""

    has_left: bool = False

    def leave(self) -> None:
        """It has."""
        assert not self.has_left
        self.has_left = True


def test_guest_stays_with_its_connection(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    first, second, late = Kept(), Kept(), Kept()
    counter.last.line.guest = first
    counter.reply()
    client.send(asks())
    assert counter.last.line.guest is first
    counter.last.line.guest = second
    assert [first.has_left, second.has_left] == [True, False]
    client.socket.close()
    served.turn()
    counter.last.line.guest = late
    assert [second.has_left, late.has_left] == [True, True]


def test_end_that_a_guest_asks_for_comes_behind_the_answer(served: Rig, counter: Counter) -> None:
    client = served.client(asks())
    counter.last.line.close(4002)
    served.edge.flush()
    served.turn()
    counter.reply()
    answer = one(served, client)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    client = served.client(asks())
    counter.reply()
    assert one(served, client).status == 200
    counter.last.line.close(4002)
    served.edge.flush()
    client.receive()
    assert client.is_closed
    assert not served.edge.statistics().closes  # of WebSockets there was none


# Draining


async def test_drain_answers_what_is_under_way_and_ends_the_rest(served: Rig, counter: Counter) -> None:
    """G12: an idle connection ends, a busy one with its answer, and a new one is told to go elsewhere."""
    idle, busy = served.client(asks()), served.client(b"")
    counter.reply()
    assert one(served, idle).status == 200
    busy.send(asks())
    served.edge.close_doors(served.now)
    await served.edge.drain(lambda: 0.0, lambda: (0, ()))
    idle.receive()
    assert idle.is_closed
    assert not busy.is_closed
    late = served.client(b"")
    counter.reply()
    assert one(served, busy).headers["connection"] == "close"
    late.send(asks())
    counter.reply()
    assert one(served, late).headers["connection"] == "close"
