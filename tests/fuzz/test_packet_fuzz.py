"""S1, S26: mutated packets, sent to real sessions on one edge; a second client is answered all the time.

Seeds are the conformance vectors. TRIODE_FUZZ_SECONDS and TRIODE_FUZZ_SEED as in test_edge_fuzz.py. Nothing is
asserted about the answers but that each is a packet of the protocol; what counts is that no exception passes its
barrier, that stores keep their bounds, and that nothing of a hostile client stays.
"""

import json
import random
import time
from pathlib import Path

import pytest
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

from tests.edge.rig import Client, Rig, text
from tests.fuzz.test_edge_fuzz import SECONDS, SEED, fuzz, mutated

pytestmark = pytest.mark.fuzz

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
VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
PER_EDGE = 300


def seeds() -> list[str]:
    found = []
    for name in ("packets.json", "messages.json"):
        vectors = json.loads((VECTORS / name).read_text())
        found += [
            case["text"]
            for cases in vectors.values()
            if isinstance(cases, list)
            for case in cases
            if "text" in case
        ]
    return found


SEEDS = seeds()


def make_node() -> Node:
    shards = [Shard(MemoryLog(f"m{index}-fuzz", LIMITS), LIMITS.max_dedupe_bytes) for index in range(2)]
    chance = random.Random(SEED)
    return Node("n1", Router(shards, Policies(RULES), LIMITS), LIMITS, lambda: chance.randbytes(16).hex())


def greet(rig: Rig) -> Client:
    client = rig.client()
    client.send(text('{"type":"connect","id":1}'))
    assert '"connected"' in client.texts()[0]
    return client


def hostile_text(chance: random.Random) -> str:
    said = chance.choice(SEEDS)
    if chance.random() < 0.3:
        said = f"[{','.join(chance.choice(SEEDS) for _ in range(chance.randrange(6)))}]"
    if chance.random() < 0.7:
        said = mutated(said.encode("utf-8", "surrogatepass"), chance).decode("utf-8", "replace")
    return said


def one_case(rig: Rig, chance: random.Random) -> None:
    """One hostile connection: mostly connected, sometimes reading, in the end gone in one way or another."""
    client = greet(rig) if chance.random() < 0.9 else rig.client()
    for _ in range(chance.randrange(1, 12)):
        try:
            client.send(text(hostile_text(chance)))
        except OSError:
            break
        if chance.random() < 0.5 and not client.is_closed:
            for opcode, payload in client.frames():
                if opcode == 1:
                    assert decode_server(payload.decode()) is not None
    if chance.random() < 0.2:
        rig.after(1)
    client.socket.close()
    rig.turn()


def one_edge(chance: random.Random, until: float) -> int:
    node = make_node()

    def accept(outbox: Outbox, arrival: Arrival) -> Session:
        return Session(node, outbox, arrival)

    rig = Rig(LIMITS, accept=accept)
    try:
        good = greet(rig)
        cases = 0
        while cases < PER_EDGE and time.monotonic() < until:
            one_case(rig, chance)
            cases += 1
            good.send(text('{"type":"ping","id":7}'))
            assert [said for said in good.texts() if "pong" in said] == ['{"type":"pong","id":7}']
        assert rig.log.entries == []
        assert node.router.live_subscriptions == 0
        assert len(node.sessions) == 1
        for shard in node.router.shards:
            assert isinstance(shard.log, MemoryLog)
            assert shard.log.size <= LIMITS.max_shard_bytes
            assert shard.ids.size <= LIMITS.max_dedupe_bytes
        return cases
    finally:
        rig.end()


@pytest.mark.timeout(60 + 2 * SECONDS)
def test_s1_fuzzed_packets_hurt_nobody_but_their_sender() -> None:
    fuzz(one_edge)
