"""A server that says exactly what a test tells it to: what no real broker can be made to say at will.

Serves the demo page and takes WebSockets; packets in and out are plain JSON values. It is a peer written by hand,
not a copy of the broker: it knows no rule of the protocol.
"""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from triode_broker.http.pages import demo_page
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

PATIENCE_SECONDS: Final = 30.0

Packet = dict[str, Any]


class Peer:
    """One connection of the page: `first` is the flight it came with."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        flight: Packet | list[Packet] = json.loads(connection.recv(PATIENCE_SECONDS))
        self.first = flight if isinstance(flight, list) else [flight]
        self.ended = threading.Event()

    def send(self, *packets: Packet) -> None:
        """One WebSocket message: a packet alone, or an array."""
        self._connection.send(json.dumps(packets[0] if len(packets) == 1 else packets))

    def receive(self) -> Packet:
        """The next packet of the page."""
        packet: Packet = json.loads(self._connection.recv(PATIENCE_SECONDS))
        return packet

    def close(self, code: int) -> None:
        """Close the WebSocket with this code."""
        self._connection.close(code)
        self.ended.set()


class Scripted:
    """The server: `url` to open, `next_peer` to wait for the page."""

    def __init__(self) -> None:
        self._arrived: queue.Queue[Peer] = queue.Queue()
        self._peers: list[Peer] = []
        self.url = ""

    @property
    def socket_url(self) -> str:
        """Where clients connect."""
        return self.url.replace("http", "ws", 1) + "ws"

    def next_peer(self) -> Peer:
        """The page's next connection."""
        return self._arrived.get(timeout=PATIENCE_SECONDS)

    def take(self, connection: ServerConnection) -> None:
        """Keep a connection open until it is closed or the test is over."""
        peer = Peer(connection)
        self._peers.append(peer)
        self._arrived.put(peer)
        peer.ended.wait()

    def end(self) -> None:
        """No connection is kept any more."""
        for peer in self._peers:
            peer.ended.set()


def page(connection: ServerConnection, request: Request) -> Response | None:
    """The demo page for everything but the WebSocket."""
    if request.path == "/ws":
        return None
    headers = Headers({"Content-Type": "text/html; charset=utf-8"})
    return Response(HTTPStatus.OK, "OK", headers, demo_page().encode())


@contextmanager
def scripted_server() -> Iterator[Scripted]:
    """Serve on a free port until the end of the block."""
    script = Scripted()
    subprotocols = [Subprotocol("triode.v1.json")]
    with serve(script.take, "127.0.0.1", 0, process_request=page, subprotocols=subprotocols) as server:
        script.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield script
        finally:
            script.end()
            server.shutdown()
            thread.join()
