"""S1, S5: requests for services, to one edge: heads, bodies in every form, several on a connection, streams.

Nothing is asserted about single answers. What counts is that no exception passes its barrier, that each connection
is told of at most as many requests as it has sent, that nothing is left behind, and that whoever behaves does not
notice.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from triode_broker.config import Limits
from triode_broker.edge.door import Door
from triode_broker.edge.exchange import Exchange, Stream
from triode_protocol.codec import Refused

from tests.edge.rig import HANDSHAKE, Rig, text
from tests.edge.service import asks, chunks
from tests.fuzz.running import Run, Target
from tests.fuzz.targets.sending import leave, send_in_pieces

LIMITS = Limits(max_http_body_bytes=20_000, max_outbox_bytes=30_000)
BODY = b'{"topic":"a/b","data":{"n":[1,2,3]}}'
JSON = {"Content_Type": "application/json"}
ONES = [
    asks(),
    asks("HEAD", "/v1/history?topic=a%2Fb&limit=5"),
    asks("POST", "/v1/publish", BODY, **JSON),
    asks("POST", "/v1/publish", chunks(BODY[:9], BODY[9:]), Transfer_Encoding="chunked", **JSON),
    asks("POST", "/v1/publish", chunks(BODY, end=b"0\r\nX-T: 1\r\n\r\n"), Transfer_Encoding="chunked", **JSON),
    asks("POST", "/v1/publish", BODY, Expect="100-continue", Authorization="Bearer a.b.c", **JSON),
    asks("POST", "/v1/publish", b"x" * 21_000, Idempotency_Key="k"),
    asks("OPTIONS", "/v1/publish", Origin="http://127.0.0.1:80"),
    asks("GET", "/v1/events?topic=a", Last_Event_ID="m0-a.1~m1-b.2"),
    asks("DELETE", "/v1/connections/c-1", Connection="close"),
    asks(path="/page"),
    asks("POST", "/v1/x", Content_Length="5"),
    asks("POST", "/v1/x", chunks(b"x"), Transfer_Encoding="chunked", Content_Length="1"),
    asks().replace(b"HTTP/1.1", b"HTTP/1.0"),
    HANDSHAKE + text("hello"),
]
SEEDS = [*ONES, *(one + ONES[0] for one in ONES), b"".join(ONES[:8]), ONES[2] + HANDSHAKE + text("say 2000")]


class Clumsy:
    """A service that does everything that one may do, at random, and some things late."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.waiting: list[Exchange] = []
        self.streams: list[Stream] = []

    def take(self, exchange: Exchange) -> None:
        """`Service`."""
        if exchange.target == "/v1/well":
            exchange.answer(200, [], b"well")
            return
        match self.chance.randrange(4):
            case 0:
                exchange.answer(self.chance.choice((200, 204, 400)), [], b"x" * self.chance.choice((0, 9, 40_000)))
            case 1:
                stream = exchange.stream(bytes)
                stream.begin(200, [])
                stream.outbox.put(b"y" * self.chance.choice((0, 1, 40_000)))
                self.streams.append(stream)
            case _:
                if self.chance.random() < 0.5:
                    exchange.take_any_length()
                self.waiting.append(exchange)

    def work(self) -> None:
        """Go on with what waits."""
        waiting, self.waiting = self.waiting, []
        for exchange in waiting:
            if self._has_read(exchange):
                exchange.answer(200, [], b"late")
            else:
                self.waiting.append(exchange)
        for stream in self.streams:
            if self.chance.random() < 0.5:
                stream.end() if self.chance.random() < 0.7 else stream.close(4100)
        self.streams = [one for one in self.streams if not one.outbox.is_closed]

    def _has_read(self, exchange: Exchange) -> bool:
        if exchange.waits_for_body:
            return self.chance.random() < 0.3
        try:
            exchange.receive().send(None)
        except (StopIteration, Refused):
            return exchange.is_whole or exchange.has_failed
        raise AssertionError("it waits")


@contextmanager
def begin(chance: random.Random) -> Iterator[Run]:
    clumsy = Clumsy(chance)
    page = {"/page": lambda target: (200, "text/plain", target.encode())}
    rig = Rig(LIMITS, page, door=Door(takes_query_token=True), services={"/v1/": clumsy.take})
    try:
        good = rig.client(b"")

        most = 0  # requests that there may have been

        def run(data: bytes, chance: random.Random) -> str:
            nonlocal most
            most += data.count(b"\r\n\r\n") + 1
            said = hostile(rig, clumsy, data, chance)
            if not good.is_closed:
                good.send(asks(path="/v1/well"))
                assert good.receive().endswith(b"\r\n\r\nwell")
            return said

        yield run
        assert rig.edge.statistics().requests <= most
        assert "connection_failed" not in rig.log.events, rig.log.entries
        for one in rig.clients:
            one.socket.close()
        rig.turn()
        assert rig.edge.statistics().connections == 0
        assert all(talker.detached == 1 for talker in rig.talkers)
        assert all(exchange.line.phase > 2 for exchange in clumsy.waiting)
    finally:
        rig.end()


def hostile(rig: Rig, clumsy: Clumsy, data: bytes, chance: random.Random) -> str:
    """One connection, from its first byte to its end; the statuses that it was answered."""
    client = rig.client(b"", send_buffer=chance.choice((0, 4096)))
    heard = b""

    def work() -> None:
        nonlocal heard
        clumsy.work()
        rig.edge.flush()
        heard += client.receive()[:200]

    send_in_pieces(client, data, chance, 2_000, work)
    leave(rig, client, chance)
    clumsy.work()
    rig.edge.flush()
    rig.turn()
    return f"{[line[9:12] for line in heard.splitlines() if line.startswith(b'HTTP/')][:4]}"


HTTP = Target("http", SEEDS, begin)
