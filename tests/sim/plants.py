"""Bugs that are planted in the product for one run, each by putting something around one function of it.

The product has no hooks for this. Several places may share one bug: then it is planted in all of them. Bugs of how
rights are applied, `acl_only_at_subscribe` first, are in `tests.core.acl_plants`: rights change there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from triode_broker.cluster.giving import numbered
from triode_broker.cluster.link import SUPERSEDED
from triode_broker.cluster.serving import HANDLERS

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


def _believe_whatever_comes(inner: Method) -> Method:
    """A stream is taken to be whole, whatever its frames say."""
    return lambda self, prev: self.is_live


def _notice_nothing(inner: Method) -> Method:
    """A reply from beyond the head is nothing special."""
    return lambda self, upto: None


def _send_to_the_next_owner(inner: Method) -> Method:
    """What was written to an owner that is gone is written to the next one."""

    def give_up_asked(self: Any) -> None:
        rows = [row for row in self._asked if not row.is_settled]
        self._asked.clear()
        self._waiting.extendleft(reversed(rows))

    return give_up_asked


def _serve_old_links(inner: Method) -> Method:
    """What comes over a link that another one has taken the place of counts as if it had come over that."""

    def received(self: Any, link: Any, frame: Any) -> None:
        links = [link, *(one for one in reversed(self._askers) if one.peer.node == link.peer.node)]
        found = next((self._askers[one] for one in links if one in self._askers), None)
        if found is not None:
            HANDLERS[type(frame)](found, frame)

    return received


def _read_old_links(inner: Method) -> Method:
    """What a link has not read when another one takes its place is read."""

    def end_later(self: Any, reason: str) -> None:
        if reason != SUPERSEDED:
            inner(self, reason)

    return end_later


def _name_two(inner: Method) -> Method:
    """What is given to one heir is given to another one too."""

    def give(self: Any, name: str, heirs: Any) -> None:
        inner(self, name, heirs)
        gift = self._gift
        for link in [link for link in heirs.values() if gift is not None and link is not gift.link][:1]:
            for piece in numbered(gift.shard, gift.log, self._router, gift.laters):
                link.put(piece)

    return give


def _be_heir_anyway(inner: Method) -> Method:
    """Whoever is given something takes it, though another one was named."""

    def is_heir(self: Any, shard: str, log: str) -> bool:
        entry = self.table.get(shard)
        return entry is not None and entry.log == log and entry.heir != ""

    return is_heir


PLANTS: dict[str, dict[str, Any]] = {
    "ack_before_fsync": dict([OF_CRASHES["ack_before_fsync"]]),
    "skip_gap": dict([OF_CRASHES["skip_gap"]]),
    "reuse_offset": {"tests.log.slow_disk:SlowDisk.loaded": _reuse_offset},
    "no_prev_check": {
        "triode_broker.cluster.mirror:Mirror._follows": _believe_whatever_comes,
        "triode_broker.cluster.mirror:Mirror.notice": _notice_nothing,
    },
    "reroute_unknown_publish": {
        "triode_broker.cluster.forwarding:Forwarder._give_up_asked": _send_to_the_next_owner
    },
    "accept_superseded_link": {
        "triode_broker.cluster.serving:Serving.received": _serve_old_links,
        "triode_broker.cluster.link:Link._end_later": _read_old_links,
    },
    "second_heir": {
        "triode_broker.cluster.giving:Giving._give": _name_two,
        "triode_broker.cluster.ownership:Ownership.is_heir": _be_heir_anyway,
    },
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
