"""S33: a broker that says anything, to the Python client's session (JavaScript: clients/js/tests/hostile.test.ts).

An input is some lines: texts of a broker, but for those that begin with `!`, which are what the program wishes and
the time that passes. Whatever is said, the session raises nothing, keeps its bounds, and works with an honest
broker afterwards.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from triode.consuming import Terms
from triode.errors import TriodeError

from tests.client.play import Play
from tests.client.test_hostile import HELD, WISHES, act, check, recover
from tests.fuzz.running import Run, Target
from tests.fuzz.targets.packets import VECTORS

SEEDS = [
    b'{"type":"message","topic":"a/b","offset":1,"log":"m0-first","pos":1,"ts":1,"data":5}',
    b'{"type":"subscribed","sub":1,"after":{"m0-first":0},"live":true}\n!cut',
    b'{"type":"gap","sub":1,"after":{"m0-second":7},"reason":"reset"}\n!take\n!9',
    b'{"type":"delivery","sub":2,"attempt":1,"message":{"type":"message","topic":"a/b","offset":3,"log":"m0-first",'
    b'"pos":3,"ts":1,"data":1}}\n!take\n!ack',
    b'!publish\n{"type":"published","id":3,"log":"m0-first","pos":1,"offset":1,"level":"memory"}',
    b'{"type":"error","id":3,"name":"rate_limited","message":"","retry":"backoff","retry_after_ms":50}\n!1',
    b'{"type":"bye","code":4200,"name":"draining","reconnect_after_ms":5,"urls":["ws://b.example"]}\n!cut\n!5',
    b'{"type":"bye","code":4201,"name":"token_expired"}\n!cut\n!5\n{"type":"notice","expires_in_ms":100}',
    b'{"type":"unsubscribed","sub":1,"name":"forbidden","message":"no","retry":"never"}\n!subscribe',
    b'{"type":"ping","at":{"m0-first":5}}\n{"type":"authorized","id":9,"expires_in_ms":60000}',
]


def lines_of_vectors() -> list[bytes]:
    vectors = json.loads((VECTORS / "packets.json").read_text())
    cases = [case for cases in vectors.values() if isinstance(cases, list) for case in cases]
    return [case["text"].replace("\n", " ").encode("utf-8", "surrogatepass") for case in cases if "text" in case]


@contextmanager
def begin(chance: random.Random) -> Iterator[Run]:
    yield run


def run(data: bytes, chance: random.Random) -> str:
    play = Play(max_inbox_messages=5, max_queue_messages=8)
    play.connect()
    play.subscribe("a/#")
    play.session.consume("a/#", "new", Terms(durable="w", window=3))
    HELD.clear()
    for line in data.decode("utf-8", "replace").split("\n")[:30]:
        if play.session.dial:
            play.open()
        wish = line[1:]
        if not line.startswith("!"):
            play.session.receive_text(line, play.now)
        elif wish in WISHES:
            with suppress(TriodeError):  # closed, or the queue is full: told to the program
                act(play, wish)
        elif wish.isascii() and wish.isdigit():
            play.passes(float(wish[:3]))
        check(play)
    state = play.session.state.name
    kinds = sorted({type(item).__name__ for one in play.session.subscriptions._all for item in one.inbox})
    recover(play)
    return f"{state} {kinds}"


CLIENT = Target("client", [*SEEDS, *lines_of_vectors()], begin, 300)
