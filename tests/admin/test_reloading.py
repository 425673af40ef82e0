"""A reload of a broker that serves, with a client connected: what is in force behind it, and what where it fails.

S14. The command line and signals are tests/cli/test_reload.py's, what is taken at all tests/test_rereading.py's.
"""

import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Config, Quota, TopicRule
from triode_broker.config.digest import digest, shared
from triode_broker.config.effects import effect_of, names, put, value_of
from triode_broker.log.memory import MemoryLog
from triode_broker.logs import make_logger
from triode_broker.reloading import NotTaken
from triode_broker.server import Broker

from tests.admin.running import PATIENCE_SECONDS, Running, running
from tests.spec.client import RawClient


class Here:
    """A broker that reads what `wanted` holds, and a client that is connected all the time."""

    def __init__(self, running: Running, client: RawClient) -> None:
        self.running = running
        self.client = client
        self.broker = running.broker
        self.wanted = self.broker.config
        self.broker.reloading.reread = lambda: self.wanted

    async def reload(self, changes: dict[str, Any]) -> Any:
        """With these settings besides those before."""
        self.wanted = put(self.wanted, changes)
        return (await self.running.ask("reload"))["nodes"]["n1"]

    async def publish(self, topic: str, **more: Any) -> str:
        """What a publish is answered: the error's name, or the type."""
        answer = await self.client.ask({"type": "publish", "id": 7, "topic": topic, "data": "x" * 20, **more})
        return str(answer.get("name") or answer["type"])

    async def history(self, topic: str) -> int:
        """How many messages are there."""
        answer = await self.client.ask({"type": "history", "id": 7, "topic": topic})
        return len(answer["messages"])


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with running(tmp_path) as broker, trio.open_nursery() as nursery:
        client = await RawClient.open(nursery, broker.url)
        await client.send({"type": "connect", "id": 1})
        await client.expect("connected")
        yield Here(broker, client)
        await client.has_nothing_more()
        await client.cut()
        nursery.cancel_scope.cancel()


async def until(fact: Callable[[], object]) -> None:
    """What takes a turn of the loop or two."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not fact():
            await trio.lowlevel.checkpoint()


async def test_limits_of_every_room_hold_at_once_and_back(here: Here) -> None:
    for bound in (2, 1_000):
        answer = await here.reload({
            "limits.max_history_messages": bound,
            "limits.max_inflight_publishes": bound,
            "limits.max_outbox_bytes": bound * 100_000,
            "limits.connect_timeout_ms": bound * 1_000,
            "limits.min_compressed_bytes": bound,
            "limits.max_shard_bytes": bound * 100_000,
            "limits.commit_messages": bound,
            "limits.max_address_connections": bound,
        })  # fmt: skip
        assert (answer["reloaded"], answer["need_a_restart"], len(answer["changed"])) == (True, [], 8)
        edge, node = here.broker.edge._shared, here.broker.node
        (connection,) = edge.connections.values()
        assert connection._outbox.limit == bound * 100_000
        assert edge.connect_deadlines.seconds == bound
        assert (edge.deflating.min_bytes, edge.addresses._most) == (bound, bound)
        logs = [shard.log for shard in node.router.shards if isinstance(shard.log, MemoryLog)]
        assert {log._max_size for log in logs} == {bound * 100_000}
        assert here.broker.stores[0]._limits.commit_messages == bound
        assert await here.publish("a") == "published"
    for _ in range(5):
        await here.publish("h")
    assert await here.history("h") == 5
    await here.reload({"limits.max_history_messages": 3})
    assert await here.history("h") == 3


async def test_rules_hold_for_topics_that_are_known_and_their_messages(here: Here) -> None:
    for topic in ("jobs/a", "room"):
        for _ in range(6):
            assert await here.publish(topic) == "published"
    rules = (
        TopicRule("jobs/#", "disk", retention_messages=2, max_payload_bytes=5),
        TopicRule("#", retention_messages=3),
    )
    answer = await here.reload({"topics": rules})
    assert (answer["changed"], answer["need_a_restart"]) == (["topics"], [])
    router = here.broker.router
    await until(lambda: router.topics()["room"].rule is rules[1])
    assert await here.history("room") == 3
    assert await here.publish("jobs/a") == "too_large"
    with trio.fail_after(PATIENCE_SECONDS):
        while await here.history("jobs/a") != 2:
            pass
    answer = await here.reload({"topics": (TopicRule("jobs/#", retention_messages=1),)})
    assert (answer["changed"], answer["need_a_restart"]) == ([], ["topics"])
    assert router.topics()["room"].rule is rules[1]


async def test_quotas_hold_for_who_is_connected(here: Here) -> None:
    await here.reload({"quotas": (Quota(publishes_per_second=1),)})
    session = next(iter(here.broker.node.sessions.values()))
    await until(lambda: session.meter.quota.publishes_per_second == 1)
    assert [await here.publish("q") for _ in range(2)] == ["published", "rate_limited"]
    await here.reload({"quotas": ()})
    await until(lambda: session.meter.is_shared)
    assert await here.publish("q") == "published"


async def test_pages_and_proxies_are_those_of_the_new_file_for_who_comes_next(here: Here) -> None:
    await here.reload({"origins": ("https://a.example",), "trusted_proxies": ("10.0.0.0/8",), "compression": True})
    door = here.broker.edge._shared.door
    assert door.origins.allows("https://a.example", "b.example", is_encrypted=True, is_local=False)
    assert "10.1.2.3" in door.front.proxies
    assert door.compresses


async def test_what_one_part_cannot_use_changes_nothing_anywhere(here: Here) -> None:
    """S14: the others had prepared already."""

    def refuse(old: Config, new: Config) -> None:
        raise NotTaken("demo", "is not to be had")

    before, reloading = here.broker.config, here.broker.reloading
    limits, door = msgspec.structs.replace(before.limits), here.broker.edge._shared.door
    reloading.parts["zealous"] = refuse
    answer = await here.reload({"limits.max_history_messages": 1, "origins": ("https://a.example",)})
    assert (answer["reloaded"], answer["reason"], answer["changed"]) == (False, "demo: is not to be had", [])
    assert (before.limits, here.broker.edge._shared.door) == (limits, door)
    assert reloading.degraded() == ["the settings could not be read again: demo: is not to be had"]
    del reloading.parts["zealous"]
    assert (await here.reload({}))["reloaded"] is True
    assert (before.limits.max_history_messages, reloading.degraded()) == (1, [])


async def test_a_part_that_fails_behind_its_promise_keeps_no_other_from_it(here: Here) -> None:
    def promise(old: Config, new: Config) -> Callable[[], None]:
        def fail() -> None:
            raise ZeroDivisionError

        return fail

    parts = here.broker.reloading.parts
    here.broker.reloading.parts = {"broken": promise, **parts}
    answer = await here.reload({"limits.max_history_messages": 9})
    assert "broken has failed" in answer["reason"]
    assert here.broker.config.limits.max_history_messages == 9
    assert here.running.log.told("reload_part_failed") == [{"part": "broken"}]


async def test_what_cannot_be_read_is_said_in_the_answer_the_log_and_health(here: Here) -> None:
    def fail() -> Config:
        raise ValueError("2 problems\n  x: y")

    here.broker.reloading.reread = fail
    answer = (await here.running.ask("reload"))["nodes"]["n1"]
    assert (answer["reloaded"], answer["reason"]) == (False, "2 problems x: y")
    assert here.running.log.told("settings_not_reloaded") == [{"reason": "2 problems\n  x: y"}]
    assert here.broker.health()["degraded"] == ["the settings could not be read again: 2 problems x: y"]
    here.broker.reloading.reread = None
    assert "not started from settings" in (await here.running.ask("reload"))["nodes"]["n1"]["reason"]


async def test_the_digest_is_that_of_the_settings_in_force(here: Here) -> None:
    seen = here.broker.reloading.digest
    answer = await here.reload({"log_level": "debug", "limits.ping_ms": 9_999})
    assert (answer["digest"], answer["need_a_restart"]) == (seen, ["limits.ping_ms"])
    answer = await here.reload({"limits.max_history_messages": 7})
    assert answer["digest"] != seen
    said: Any = here.broker.health()["settings"]
    assert said["digest"] == answer["digest"] == digest(shared(here.broker.reloading.config))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"cluster": 1}, "cluster"),
        ({"level": "loud"}, "level"),
        ({"seconds": 5}, "of which level"),
        ({"level": "info", "seconds": 0}, "seconds"),
        ({"level": "info", "seconds": True}, "seconds"),
        ({"level": "info", "seconds": 1e9}, "seconds"),
        ({"level": "info", "seconds": "5"}, "seconds"),
    ],
)
async def test_a_level_that_is_none_is_refused(tmp_path: Path, parameters: dict[str, Any], words: str) -> None:
    broker = Broker(Config(data=str(tmp_path)), make_logger(Config(), io.StringIO()))
    calls = broker._administering()._calls()
    with pytest.raises(Exception, match=words):
        await calls["log_level"](parameters)
    for store in broker.stores:
        store._store.close()


async def test_a_log_of_another_program_has_no_level_to_set(here: Here) -> None:
    assert "belongs to the program" in await here.running.refused("log_level")


BOUNDS = (
    "max_history_messages",
    "max_subscriptions",
    "max_outbox_bytes",
    "max_shard_topics",
    "presence_debounce_ms",
)
FILES = st.fixed_dictionaries(
    {
        **{f"limits.{name}": st.integers(200_000, 200_003) for name in BOUNDS},
        "limits.ping_ms": st.integers(1_000, 1_001),
        "quotas": st.sampled_from([(), (Quota(publishes_per_second=5),)]),
        "topics": st.sampled_from([(), (TopicRule("a/#", ttl_seconds=5),), (TopicRule("a/#", compact=True),)]),
        "origins": st.sampled_from([(), ("https://a.example",)]),
        "demo": st.booleans(),
    }
)


@settings(max_examples=25, deadline=None)
@given(FILES, FILES)
def test_behind_a_reload_a_broker_is_as_one_that_was_started_so(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """In all that can be reloaded; and where a part refuses it is as it was."""
    log = make_logger(Config(log_level="error"), io.StringIO())
    old, new = put(Config(), before), put(Config(), after)
    broker, fresh = Broker(old, log), Broker(new, log)
    reloading = broker.reloading
    reloading.parts["last"] = _refuse
    reloading.reload(new)
    assert seen(broker) == seen(Broker(old, log))
    assert reloading.failure
    del reloading.parts["last"]
    reloading.reload(new)
    waiting = set(reloading.need_a_restart)
    for name in names(Config):
        wanted = old if name in waiting else new
        assert value_of(reloading.config, name) == value_of(wanted, name), name
        assert name not in waiting or effect_of(name) == "restart" or name == "topics"
    if not waiting & {"topics"}:
        assert seen(broker) == seen(fresh)


def _refuse(old: Config, new: Config) -> None:
    raise NotTaken("demo", "no")


def seen(broker: Broker) -> tuple[object, ...]:
    """What the parts of a broker make of its settings."""
    node, router = broker.node, broker.router
    greeting = json.loads(msgspec.json.encode(node.greet("c", 1, node.quotas.of(node.rates.unlimited.who))))
    greeting["ping_ms"] = greeting["limits"]["max_frame_bytes"] = 0  # wait for a restart
    return (
        greeting,
        router.rule_of("a/b"),
        router.rule_of("x"),
        router._topics.max_topics,
        node.rates.min_wait_ms,
        broker.edge._shared.door.origins._listed,
        broker.edge._shared.limits.max_outbox_bytes,
    )
