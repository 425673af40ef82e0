"""What the composition root gives the core as names: random, long enough, never the client's choice (S28).

It looks at `server.py`, because there the factories are chosen that the core is handed.
"""

import structlog
from triode_broker.config import Config
from triode_broker.server import Broker
from triode_broker.stores import new_log_name
from triode_protocol.positions import is_log

from tests.core.desk import Desk


def make_broker() -> Broker:
    return Broker(Config(memory_shards=3), structlog.get_logger())


def test_connection_ids_have_128_random_bits() -> None:
    """S28, SPEC 4.1.1."""
    random_id = make_broker().node.random_id
    made = {random_id() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(len(bytes.fromhex(name)) == 16 for name in made)
    first, *others = [int(name, 16) for name in made]
    varying = 0
    for other in others:
        varying |= first ^ other
    assert varying == 2**128 - 1, "every bit varies"


def test_client_cannot_choose_a_connection_id() -> None:
    """S28."""
    line = Desk().dial()
    error = line.ask_one({"type": "connect", "id": 1, "connection": "c-mine"})
    assert (error["name"], error["field"]) == ("unsupported", "connection")


def test_log_names_have_80_random_bits_behind_their_shard() -> None:
    """SPEC 2.1."""
    made = {new_log_name("m3") for _ in range(1_000)}
    assert len(made) == 1_000
    for name in made:
        shard, _, life = name.partition("-")
        assert (shard, len(life), is_log(name)) == ("m3", 16, True)
        assert set(life) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert all(len({name[place] for name in made}) == 32 for place in range(3, 19)), "5 bits at every place"


def test_every_life_of_a_broker_has_logs_of_its_own() -> None:
    """SPEC 2.1: no name is used for two lives."""
    lives = [{shard.log.name for shard in make_broker().router.shards} for _ in range(2)]
    assert [len(names) for names in lives] == [3, 3]
    assert not lives[0] & lives[1]
