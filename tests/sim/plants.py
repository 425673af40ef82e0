"""Bugs that are planted in the product for one run, each by putting something around one function of it.

The product has no hooks for this. Several places may share one bug: then it is planted in all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from tests.crash.faults import PLANTS as OF_CRASHES
from tests.crash.faults import Method, locate


def _reuse_offset(inner: Method) -> Method:
    """After a restart the newest offset of every topic is given again."""

    def loaded(self: Any) -> Any:
        found = inner(self)
        return attrs.evolve(found, topics={name: max(offset - 1, 0) for name, offset in found.topics.items()})

    return loaded


def _forgotten_topic_offset_1(inner: Method) -> Method:
    """A topic whose counters were dropped begins with offset 1 again."""
    return lambda self: 0


PLANTS: dict[str, dict[str, Any]] = {
    "ack_before_fsync": dict([OF_CRASHES["ack_before_fsync"]]),
    "skip_gap": dict([OF_CRASHES["skip_gap"]]),
    "reuse_offset": {"tests.log.slow_disk:SlowDisk.loaded": _reuse_offset},
    "forgotten_topic_offset_1": {"triode_broker.core.shard:Shard.offset_before_first": _forgotten_topic_offset_1},
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Inside, the product has that bug; "" is none."""
    places = [(*locate(path), around) for path, around in PLANTS[name].items()] if name else []
    before = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in places]
    for owner, attribute, around in places:
        setattr(owner, attribute, around(getattr(owner, attribute)))
    try:
        yield
    finally:
        for owner, attribute, inner in before:
            setattr(owner, attribute, inner)
