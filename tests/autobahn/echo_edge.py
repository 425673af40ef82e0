"""`python -m tests.autobahn.echo_edge --port PORT`: the edge with an echo application in place of the session.

What the conformance cases are sent to. Limits are the broker's own, but frames may be 16 MiB and nobody is closed
for silence: the suite's chopped cases take their time. Surprising: the suite knows no `/ws`, so `/` upgrades.
"""

import argparse
import time
from functools import partial

import structlog
import trio
from triode_broker.config import Limits
from triode_broker.core.identity import Arrival
from triode_broker.core.outbox import Outbox
from triode_broker.edge.frames import binary_frame, text_frame
from triode_broker.edge.listeners import listen
from triode_broker.edge.reactor import Edge


class Echo:
    """Sends back what it gets, text as text and binary as binary."""

    is_connected = True
    is_answered = True

    def __init__(self, outbox: Outbox, arrival: Arrival) -> None:
        self._outbox = outbox

    def receive_text(self, text: str, now_ms: int) -> None:
        """Text comes back as text."""
        self._outbox.put(text.encode())

    def receive_binary(self, data: bytes, now_ms: int) -> None:
        """Binary comes back as binary, by another frame than the outbox was made for."""
        self._outbox.frame = binary_frame
        self._outbox.put(data)
        self._outbox.frame = text_frame

    def room(self, now_ms: int) -> None:
        """Nothing ever waits for room: reading stops instead."""

    def keepalive(self, now_ms: int) -> None:
        """The suite would take a packet of ours for an echo."""

    def detach(self) -> None:
        """Nothing to give up."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn.echo_edge", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port of 127.0.0.1 to listen on")
    port: int = parser.parse_args().port
    edge = Edge(
        accept=Echo,
        routes={},
        limits=Limits(max_frame_bytes=16 * 1_048_576, ping_ms=600_000),
        now_ms=lambda: time.time_ns() // 1_000_000,
        log=structlog.get_logger(),
        websocket_path="/",
    )
    trio.run(partial(edge.serve, listen(f"127.0.0.1:{port}")))


if __name__ == "__main__":
    main()
