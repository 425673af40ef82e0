"""S1, S26: packets, to real sessions on one edge; a second client is answered all the time.

Seeds are the conformance vectors; an input is some lines, each sent as one text. Nothing is asserted about the
answers but that each is a packet of the protocol; what counts is that no exception passes its barrier, that stores
keep their bounds, and that nothing of a hostile client stays.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triode_broker.config import Limits, TopicRule
from triode_broker.core.identity import Arrival
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.policy import Policies
from triode_broker.core.router import Router
from triode_broker.core.session import Session
from triode_broker.core.shard import Shard
from triode_broker.log.memory import MemoryLog
from triode_protocol.codec import decode_server
from triode_protocol.packets import Error

from tests.edge.rig import Client, Rig, text
from tests.fuzz.running import Run, Target

LIMITS = Limits(
    max_outbox_bytes=20_000,
    max_shard_bytes=100_000,
    max_shard_topics=20,
    max_dedupe_bytes=20_000,
    recent_bytes=20_000,
    max_subscriptions=20,
)
RULES = (
    TopicRule(filter="a/#", retention_messages=5, ttl_seconds=1),
    TopicRule(filter="#", max_payload_bytes=500),
)
VECTORS = Path(__file__).parents[3] / "protocol" / "vectors"
MAX_LINES = 12


def seeds() -> list[bytes]:
    """Texts of the vectors, each alone, as an array, and some lines of them."""
    texts = []
    for name in ("packets.json", "messages.json"):
        vectors = json.loads((VECTORS / name).read_text())
        cases = [case for cases in vectors.values() if isinstance(cases, list) for case in cases]
        texts += [case["text"].replace("\n", " ") for case in cases if "text" in case]
    several = [f"[{','.join(texts[at : at + 3])}]" for at in range(0, len(texts), 7)]
    lines = ["\n".join(texts[at : at + 6]) for at in range(0, len(texts), 5)]
    return [one.encode("utf-8", "surrogatepass") for one in [*texts, *several, *lines]]


def make_node(chance: random.Random) -> Node:
    shards = [Shard(MemoryLog(f"m{index}-fuzz", LIMITS), LIMITS.max_dedupe_bytes) for index in range(2)]
    return Node("n1", Router(shards, Policies(RULES), LIMITS), LIMITS, lambda: chance.randbytes(16).hex())


def greet(rig: Rig) -> Client:
    client = rig.client()
    client.send(text('{"type":"connect","id":1}'))
    assert '"connected"' in client.texts()[0]
    return client


@contextmanager
def begin(chance: random.Random) -> Iterator[Run]:
    node = make_node(chance)

    def accept(outbox: Outbox, arrival: Arrival) -> Session:
        return Session(node, outbox, arrival)

    rig = Rig(LIMITS, accept=accept)
    try:
        good = greet(rig)

        def run(data: bytes, chance: random.Random) -> str:
            said = hostile(rig, data, chance)
            good.send(text('{"type":"ping","id":7}'))
            assert [one for one in good.texts() if "pong" in one] == ['{"type":"pong","id":7}']
            return said

        yield run
        assert "connection_failed" not in rig.log.events
        assert node.router.live_subscriptions == 0
        assert len(node.sessions) == 1
        for shard in node.router.shards:
            assert isinstance(shard.log, MemoryLog)
            assert shard.log.size <= LIMITS.max_shard_bytes
            assert shard.ids.size <= LIMITS.max_dedupe_bytes
    finally:
        rig.end()


def hostile(rig: Rig, data: bytes, chance: random.Random) -> str:
    """One connection: mostly connected, sometimes reading, in the end gone; the kinds of answers it had."""
    client = greet(rig) if chance.random() < 0.9 else rig.client()
    answers: set[str] = set()
    for line in data.split(b"\n")[:MAX_LINES]:
        try:
            client.send(text(line.decode("utf-8", "replace")))
        except OSError:
            break
        if chance.random() < 0.5 and not client.is_closed:
            for opcode, payload in client.frames():
                if opcode == 1:
                    packet = decode_server(payload.decode())
                    assert packet is not None
                    answers.update(kind(one) for one in (packet if isinstance(packet, list) else [packet]))
    if chance.random() < 0.2:
        rig.after(1)
    client.socket.close()
    rig.turn()
    return " ".join(sorted(answers)) if len(answers) < 3 else "many"


def kind(packet: object) -> str:
    if isinstance(packet, Error):
        return f"{packet.name}:{packet.field}"
    return type(packet).__name__


PACKETS = Target("packets", seeds(), begin, 300)
