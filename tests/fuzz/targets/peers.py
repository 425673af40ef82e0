"""S1, S20, S22: frames between nodes, and the hello before them.

Decoding either fails in a way that a link expects, or gives frames; what was decoded can be sent on: its size can
be told, and it encodes again to what decodes the same. Of a hello, whatever was changed is noticed.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from triode_broker.cluster.frames import Heard, Ping, Pong, decode, encode
from triode_broker.cluster.hello import UNREADABLE, HelloRefused, Listener
from triode_broker.cluster.outgoing import Outgoing

from tests.cluster.rig import SECRET, identity
from tests.cluster.test_hello import dialler
from tests.cluster.test_link_outbox import FRAMES
from tests.fuzz.running import Run, Target, mutated

SEEDS = [encode([frame]) for frame in FRAMES] + [
    encode(FRAMES),
    encode([Ping(1, {"n2": Heard("0" * 16, False, 5)}), Pong(1)]),
]


@contextmanager
def begin(chance: random.Random) -> Iterator[Run]:
    yield decoded


def decoded(data: bytes, chance: random.Random) -> str:
    try:
        frames = decode(data)
    except UNREADABLE as error:
        return type(error).__name__
    outgoing = Outgoing()
    for frame in frames:
        outgoing.put(frame)
    taken, size = outgoing.take(1 << 40)
    assert size >= 0
    encode(taken)
    assert encode(decode(encode(frames))) == encode(frames)
    return " ".join(sorted({type(frame).__name__ for frame in frames})) if len(frames) < 4 else "many"


@contextmanager
def begin_hello(chance: random.Random) -> Iterator[Run]:
    yield greeted


def greeted(data: bytes, chance: random.Random) -> str:
    """The input stands for what is between two nodes: it says how their packets are changed."""
    noise = random.Random(data)
    one = dialler()
    node = Listener(identity("n2"), SECRET, b"l" * 32, lambda peer, is_dialler: None)
    hello = one.begin()
    try:
        sent = mutated(hello, noise)
        proof = one.answer(node.answer(sent))
        heard = mutated(proof, noise)
        node.answer(heard)
    except HelloRefused as refused:
        return str(refused)[:20]
    assert sent == hello  # whatever was changed was noticed: it is signed byte for byte
    assert meaning(heard) == meaning(proof)
    return "taken"


def meaning(data: bytes) -> object:
    """The fields. A proof signs what came before it, so how wide its own integers are is nobody's business."""
    return msgspec.msgpack.decode(data)


PEERS = Target("peers", SEEDS, begin, 5_000)
HELLO = Target("hello", [b"0"], begin_hello, 500)
