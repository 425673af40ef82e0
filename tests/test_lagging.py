"""Lagging behind: when a node says so, and when it takes it back."""

from typing import Any

import attrs
import msgspec
from triode_broker.config import Limits
from triode_broker.core.shard import Shard
from triode_broker.lagging import Lagging
from triode_broker.log.memory import MemoryLog

from tests.core.desk import Desk

LIMITS = Limits(ready_loop_lag_ms=100, ready_queue_bytes=1_000, lagging_after_ms=3_000, lagging_until_ms=10_000)
LATE = 150_000
WELL = 1_000
LATE_LOOP = "lagging: the event loop is late"


@attrs.define
class Disk:
    """A store, as far as this goes."""

    name: str = "d0-abc"
    uncommitted_bytes: int = 0


def lagging(limits: Limits = LIMITS, *stores: Any) -> Lagging:
    return Lagging(Desk(limits=limits).node, stores)


def test_one_late_turn_is_no_reason() -> None:
    it = lagging()
    for at_ms, lag_us in ((0, LATE), (2_999, LATE), (3_000, WELL), (3_250, LATE), (6_000, LATE)):
        it.look(lag_us, at_ms)
        assert it.reason() == ""


def test_reason_stays_until_it_was_well_for_some_time() -> None:
    """Between half of the bound and the bound it neither begins nor ends."""
    it = lagging()
    it.look(LATE, 0)
    it.look(LATE, 3_000)
    assert it.reason() == LATE_LOOP
    for at_ms, lag_us in ((4_000, WELL), (13_000, 60_000), (14_000, WELL), (23_999, WELL)):
        it.look(lag_us, at_ms)
        assert it.reason() == LATE_LOOP
    it.look(WELL, 24_000)
    assert it.reason() == ""
    it.look(LATE, 25_000)
    assert it.reason() == ""


def test_disk_that_has_too_much_to_take_is_named() -> None:
    disk = Disk(uncommitted_bytes=1_000)
    it = lagging(LIMITS, disk)
    it.look(WELL, 0)
    it.look(LATE, 3_000)
    assert it.reason() == "lagging: the disk of d0 is behind"
    disk.uncommitted_bytes = 0
    it.look(LATE, 13_000)
    assert it.reason() == f"lagging: the disk of d0 is behind; {LATE_LOOP}"
    it.look(LATE, 23_000)
    assert it.reason() == LATE_LOOP


def test_view_of_a_shard_elsewhere_that_is_not_live_is_a_reason() -> None:
    it = lagging()
    shard: Shard = it.node.router.shards[0]
    view: Any = MemoryLog(shard.log.name, LIMITS)
    view.is_live = False
    shard.log, shard.is_here = view, False
    it.look(WELL, 0)
    it.look(WELL, 3_000)
    assert it.reason() == f"lagging: the view of {shard.name} is not live"
    shard.is_here = True  # its owner now: there is no view
    it.look(WELL, 4_000)
    it.look(WELL, 14_000)
    assert it.reason() == ""


def test_bounds_of_0_are_never_a_reason() -> None:
    limits = msgspec.structs.replace(LIMITS, ready_loop_lag_ms=0, ready_queue_bytes=0)
    it = lagging(limits, Disk(uncommitted_bytes=10**9))
    it.look(10**9, 0)
    it.look(10**9, 60_000)
    assert it.reason() == ""
