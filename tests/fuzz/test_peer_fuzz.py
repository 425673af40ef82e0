"""S1, S22: mutated frames between nodes. Decoding either fails in a way that a link expects, or gives frames.

TRIODE_FUZZ_SECONDS and TRIODE_FUZZ_SEED as in test_edge_fuzz.py. What was decoded can be sent on: its size can be
told, and it encodes again to what decodes the same.
"""

import random
import time

import msgspec
import pytest
from triode_broker.cluster.frames import Heard, Ping, Pong, decode, encode
from triode_broker.cluster.hello import UNREADABLE, HelloRefused, Listener
from triode_broker.cluster.outgoing import Outgoing

from tests.cluster.rig import SECRET, identity
from tests.cluster.test_hello import dialler
from tests.cluster.test_link_outbox import FRAMES
from tests.fuzz.test_edge_fuzz import SECONDS, fuzz, mutated

pytestmark = pytest.mark.fuzz

SEEDS = [encode([frame]) for frame in FRAMES] + [
    encode(FRAMES),
    encode([Ping(1, {"n2": Heard("0" * 16, False, 5)}), Pong(1)]),
]


def one_series(chance: random.Random, until: float) -> int:
    for case in range(2_000):
        if time.monotonic() > until:
            return case
        data = mutated(chance.choice(SEEDS), chance)
        try:
            frames = decode(data)
        except UNREADABLE:
            continue
        outgoing = Outgoing()
        for frame in frames:
            outgoing.put(frame)
        taken, size = outgoing.take(1 << 40)
        assert size >= 0
        encode(taken)
        assert encode(decode(encode(frames))) == encode(frames)
    return 2_000


def meaning(data: bytes) -> object:
    """The fields. A proof signs what came before it, so how wide its own integers are is nobody's business."""
    return msgspec.msgpack.decode(data)


def one_hello(chance: random.Random, until: float) -> int:
    for case in range(500):
        if time.monotonic() > until:
            return case
        one = dialler()
        node = Listener(identity("n2"), SECRET, b"l" * 32, lambda peer, is_dialler: None)
        hello = one.begin()
        try:
            sent = mutated(hello, chance)
            proof = one.answer(node.answer(sent))
            heard = mutated(proof, chance)
            node.answer(heard)
        except HelloRefused:
            continue
        assert sent == hello  # whatever was changed was noticed: it is signed byte for byte
        assert meaning(heard) == meaning(proof)
    return 500


@pytest.mark.timeout(60 + 2 * SECONDS)
def test_s1_fuzzed_frames_decode_or_are_refused() -> None:
    fuzz(one_series)


@pytest.mark.timeout(60 + 2 * SECONDS)
def test_s20_a_fuzzed_hello_is_refused() -> None:
    fuzz(one_hello)
