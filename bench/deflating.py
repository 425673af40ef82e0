"""What compression costs and saves a fan-out: `python -m bench.deflating`, 1,000 socket pairs and no broker.

What it must not know: sessions, topics, other servers.
The surprising decision: the subscribers are the other ends of socket pairs, and nobody unpacks what comes there:
processor time of this process is the sender's, kernel included. A client's own share is its own machine's.
"""

import argparse
import json
import os
import random
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from attrs import frozen
from triode_broker.config import Limits
from triode_broker.edge.deflate import Deflating
from triode_broker.edge.frames import text_frame

SUBSCRIBERS: Final = 1_000
SIZES: Final = (300, 1_000, 4_000, 16_000)  # of a message in bytes, about
ROUNDS: Final = 9
MESSAGES: Final = 20  # of a window
Frame = Callable[[bytes], bytes]


@frozen
class Kind:
    """How a payload becomes what a subscriber is sent."""

    name: str
    frame: Frame
    is_shared: bool = True  # once for all of them


def message(size: int) -> bytes:
    """Rows of a price feed, as long as asked for: JSON as it is sent."""
    source = random.Random(size)
    rows: list[dict[str, object]] = []
    while len(json.dumps(rows)) < size - 100:
        price = round(source.uniform(90, 110), 2)
        rows.append(
            {"symbol": "ABC-USD", "side": source.choice(["buy", "sell"]), "price": price, "at": time.time()}
        )
    packet = {
        "type": "message",
        "topic": "quotes/abc",
        "log": "m0-q3x7",
        "pos": 18_234,
        "offset": 77,
        "data": rows,
    }
    return json.dumps(packet).encode()


def window(kind: Kind, payloads: Sequence[bytes], senders: Sequence[socket.socket]) -> tuple[float, int]:
    """Processor seconds of this process, and bytes sent, for each message to each subscriber."""
    began = time.process_time()
    sent = 0
    for payload in payloads:
        item = kind.frame(payload)
        for sender in senders:
            sent += sender.send(item if kind.is_shared else kind.frame(payload))
    return time.process_time() - began, sent


def drain(receivers: Sequence[socket.socket]) -> None:
    """Not measured."""
    for receiver in receivers:
        while True:
            try:
                if len(receiver.recv(1 << 20)) == 0:
                    break
            except BlockingIOError:
                break


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.deflating", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"windows of each kind ({ROUNDS})")
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pairs = [socket.socketpair() for _ in range(SUBSCRIBERS)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
    senders, receivers = zip(*pairs, strict=True)
    shared = Deflating(Limits().min_compressed_bytes)
    kinds = [
        Kind("off", text_frame),
        Kind("on", shared.frame),
        Kind("on, were it not shared", _forgetful(shared.frame), is_shared=False),
    ]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("| bytes of JSON | compression | µs of CPU per delivery | bytes per delivery |")
    print("| --- | --- | --- | --- |")
    for size in SIZES:
        payloads = [message(size + place) for place in range(MESSAGES if size < 8_000 else 5)]
        found: dict[str, list[tuple[float, int]]] = {kind.name: [] for kind in kinds}
        for _ in range(options.rounds):
            for kind in kinds:
                found[kind.name].append(window(kind, payloads, senders))
                drain(receivers)
        deliveries = len(payloads) * SUBSCRIBERS
        for name, windows in found.items():
            cpu = median(seconds for seconds, _ in windows) / deliveries * 1e6
            print(f"| {len(payloads[0])} | {name} | {cpu:.2f} | {windows[0][1] / deliveries:.0f} |", flush=True)
    for pair in pairs:
        for end in pair:
            end.close()
    return 0


def _forgetful(frame: Frame) -> Frame:
    """As for subscribers that each have their own: nothing is remembered from one to the next."""
    return lambda payload: frame(bytes(bytearray(payload)))


if __name__ == "__main__":
    sys.exit(main())
