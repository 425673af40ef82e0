"""A whole broker that has slept: whatever its first turn is, it finds out before it accepts anything (I3, I14)."""

import time

import pytest
import structlog
from msgspec import Raw
from triode_broker.config import Config
from triode_broker.server import Broker
from triode_broker.timekeeping import STEADY_CLOCK, now_ms, steady_ms
from triode_protocol.codec import Refused
from triode_protocol.packets import Publish

#: Of the fake clock: beyond the fence, and a step between two ticks.
SLEEP_MS = 10_000
STEP_MS = 1_000


class Clock:
    """A steady clock in the test's hand."""

    def __init__(self) -> None:
        self.ms = 1_000

    def read(self) -> int:
        """The time."""
        return self.ms


def make_owner(clock: Clock) -> Broker:
    """A node that has claimed all shards because its seed is silent."""
    config = Config(cluster_listen="127.0.0.1:0", seeds=("ws://127.0.0.1:9",), memory_shards=2)
    broker = Broker(config, structlog.get_logger(), steady_ms=clock.read)
    assert broker.joining is not None
    for _ in range(10):
        clock.ms += STEP_MS
        broker.joining.cluster.tick()
    assert all(shard.is_here and shard.acceptor is None for shard in broker.router.shards)
    return broker


def is_suspended(broker: Broker) -> bool:
    """Whether nothing is accepted until it is known whose the shards are."""
    return all(shard.acceptor is not None for shard in broker.router.shards)


async def test_timer_that_rings_after_a_sleep_publishes_nothing() -> None:
    """A will, for one."""
    clock = Clock()
    broker = make_owner(clock)
    refused: list[str] = []

    def ring(now_ms: int) -> None:
        with pytest.raises(Refused) as raised:
            broker.router.publish(Publish("a", Raw(b"1"), 1), "", now_ms)
        refused.append(raised.value.name)

    broker.node.timers.at(clock.ms + STEP_MS, ring)
    clock.ms += SLEEP_MS
    broker.time.do_due()
    assert refused == ["unavailable"]
    assert [shard.pos for shard in broker.router.shards] == [0, 0]


async def test_delayed_message_that_fell_due_in_a_sleep_gets_no_place() -> None:
    """Its log may have ended: it is kept until the shard's owner is known."""
    clock = Clock()
    broker = make_owner(clock)
    broker.router.publish(Publish("a", Raw(b"1"), 1, deliver_at_ms=now_ms() + 1), "", now_ms())
    while (due_ms := broker.router.next_due_ms) is not None and now_ms() < due_ms:
        pass  # it is the real wall clock: a millisecond
    clock.ms += SLEEP_MS
    broker.time.do_due()
    assert [shard.pos for shard in broker.router.shards] == [0, 0]
    assert broker.router.delayed.count == 1


async def test_every_turn_that_begins_finds_out() -> None:
    clock = Clock()
    broker = make_owner(clock)
    broker._begin_turn()
    assert not is_suspended(broker)
    clock.ms += SLEEP_MS
    broker._begin_turn()
    assert is_suspended(broker)


async def test_drain_that_begins_after_a_sleep_finds_out_before_it_gives_anything() -> None:
    clock = Clock()
    broker = make_owner(clock)
    assert broker.joining is not None
    clock.ms += SLEEP_MS
    await broker.joining.leave()
    assert is_suspended(broker)


def test_steady_clock_goes_on_while_the_machine_is_suspended() -> None:
    """On Linux; one that stands still would not see that others have found this node dead."""
    assert getattr(time, "CLOCK_BOOTTIME", STEADY_CLOCK) == STEADY_CLOCK
    before = time.clock_gettime_ns(STEADY_CLOCK) // 1_000_000
    assert before <= steady_ms() <= time.clock_gettime_ns(STEADY_CLOCK) // 1_000_000
