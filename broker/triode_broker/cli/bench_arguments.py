"""The grammar of `triode bench`; as `arguments`, which it is a part of."""

import argparse
from collections.abc import Callable
from typing import Final

from triode_broker.cli.argument_types import count, seconds

EXAMPLES: Final = """examples:
  triode bench                                   1 publisher, 1 subscriber, 1,000 messages/s for 10 s
  triode bench --subscribers 100 --rate 200      fan-out
  triode bench --publishers 50 --subscribers 50 --topics 50 --spread --rate 5000 --processes 2
  triode bench --rate 0 --window 256             as fast as it is acknowledged: throughput, no latency to trust
  triode bench --topic jobs --durable --json run.json
  triode bench --url wss://triode.example/ws --token-file token

With a rate each message has a time at which it is due, and latencies count from then, also where it could not be
sent yet: a broker that stands still is not spared (coordinated omission). Without one (--rate 0) they count from
sending, and show less than a client that does not wait would see. Percentiles are right to 2 %. Publishers and
subscribers are on this machine: the network is counted twice. LOAD: processor time of the busiest process that
makes the load; near 100 % that is what was measured: use --processes.
The exit code is 1 where messages are missing, came again, or were refused. --durable leaves names bench-… behind:
triode subs delete."""


def add(parser: argparse.ArgumentParser, add_client: Callable[[argparse.ArgumentParser], None]) -> None:
    """`triode bench`."""
    add = parser.add_argument
    add("--publishers", metavar="N", type=count, default=1, help="(1)")
    add("--subscribers", metavar="N", type=count, default=1, help="(1)")
    add("--topics", metavar="N", type=count, default=1, help="topics, each publisher publishes to all in turn (1)")
    add("--spread", action="store_true", help="each subscriber has one topic; else all of them")
    add("--rate", metavar="N", type=rate, default=1_000.0, help="messages a second in all; 0: as fast as can be")
    add("--size", metavar="BYTES", type=count, default=128, help="of a message's data, about (128)")
    add("--duration", metavar="SECONDS", type=seconds, default=10.0, help="(10)")
    add("--window", metavar="N", type=count, default=64, help="unacknowledged messages of a publisher (64)")
    add("--no-ack", action="store_true", help="publish without acknowledgement")
    add("--durable", action="store_true", help="subscribers acknowledge, each with a durable name")
    add("--topic", metavar="TOPIC", default="bench", help="topics are TOPIC/RUN/N (bench)")
    add("--processes", metavar="N", type=count, default=1, help="processes that make the load (1)")
    add("--json", metavar="FILE", help="write all figures there; -: to stdout, and nothing else")
    add("--as-worker", metavar="N", type=int, help=argparse.SUPPRESS)
    add("--run", metavar="ID", default="", help=argparse.SUPPRESS)
    add_client(parser)


def rate(text: str) -> float:
    """A number that may be 0, as an argument."""
    return 0.0 if text.strip() == "0" else seconds(text)
