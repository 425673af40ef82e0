"""Shards: where a topic's messages get their place (architecture: shards, logs, owners).

A shard gives every message its `pos` and `offset` and hands it to its log. Knows no subscriptions. `offset ≤ pos`
always, so the counters of a topic may be forgotten: its next message gets `offset = pos`, a number never used.

A shard lives as long as its node, a log does not: where another node owns the shard, its log is a view of that
node's, and publishes go to an `acceptor`. Only the owner gives out numbers.
"""

from collections import OrderedDict
from zlib import crc32

from triode_protocol.codec import encode
from triode_protocol.packets import ABSENT, Message, Publish

from triode_broker.config import TopicRule
from triode_broker.core.interfaces import Acceptor, Log
from triode_broker.core.message_ids import MessageIds, Remembered
from triode_broker.core.record import Record
from triode_broker.core.tenants import outside

HASH_VERSION = 1  # of `shard_index`; fixed when a cluster is created


def shard_index(topic: str, shards: int) -> int:
    """The shard of a topic among those of its storage class."""
    return crc32(topic.encode()) % shards


def shard_of_log(log: str) -> str:
    """The name of the shard that a log is a life of; only servers read it from the log's name."""
    return log.partition("-")[0]


class Topic:
    """A topic's counters and what was looked up for it once."""

    __slots__ = ("name", "offset", "outside", "rule", "seen_offset", "shard")

    def __init__(self, name: str, rule: TopicRule, shard: "Shard", offset: int) -> None:
        self.name = name
        self.outside = outside(name)  # as its messages and its clients have it
        self.rule = rule
        self.shard = shard
        self.offset = offset  # of its newest message; -1: take pos for the next one
        self.seen_offset = 0  # when the clock hand last passed


class Shard:
    """One log and the numbers given out in it."""

    __slots__ = (
        "_max_dedupe_bytes",
        "acceptor",
        "has_forgotten",
        "ids",
        "is_here",
        "is_reachable",
        "log",
        "name",
        "pos",
        "ts",
    )

    def __init__(self, log: Log, max_dedupe_bytes: int, name: str = "") -> None:
        self.name = name or shard_of_log(log.name)
        self._max_dedupe_bytes = max_dedupe_bytes
        self.is_here = True  # this node owns it
        self.is_reachable = True  # here, or its owner is
        self.acceptor: Acceptor | None = None  # takes its publishes; None: they are accepted at once
        self.begin(log)

    def begin(self, log: Log) -> None:
        """From here on it has this log."""
        self.log = log
        self.pos = log.head()
        self.ts = 0
        self.ids = self.new_ids()
        self.has_forgotten = self.pos > 0  # topics' counters were dropped in this life, or not read from the log

    def new_ids(self) -> MessageIds:
        """A table like its own, without any."""
        return MessageIds(self._max_dedupe_bytes)

    def bound_ids(self, max_bytes: int) -> None:
        """Another max_dedupe_bytes from now on."""
        self._max_dedupe_bytes = max_bytes
        self.ids.bound(max_bytes)

    def clock(self, now_ms: int) -> int:
        """The time in this log: the wall clock, but it never goes back (SPEC 2.7)."""
        if now_ms > self.ts:
            self.ts = now_ms
        return self.ts

    def offset_before_first(self) -> int:
        """What a topic unknown here starts from: 0, or "take pos" once the counters of any were dropped."""
        return -1 if self.has_forgotten else 0

    def accept(
        self, topic: Topic, packet: Publish, user: str, now_ms: int, remembered: Remembered | None = None
    ) -> Record:
        """Give a checked publish its place, encode it once, append it. This order is everybody's (G3).

        `remembered` gets the place too, and goes where the record goes.
        """
        pos = self.pos = self.pos + 1
        offset = topic.offset = topic.offset + 1 if topic.offset >= 0 else pos
        if now_ms > self.ts:  # `clock`, written out
            self.ts = now_ms
        name = topic.name
        payload = encode(
            Message(
                topic.outside,
                offset,
                self.log.name,
                pos,
                self.ts,
                user,
                packet.data,
                packet.b64,
                packet.key,
                packet.headers,
                packet.message_id,
            )
        )
        rule = topic.rule
        record = Record(name, pos, offset, self.ts, payload)
        if rule.ttl_seconds or packet.ttl_ms:
            record.expires_ms = self.ts + _ttl_ms(rule, packet)
        if packet.key:
            record.key = packet.key
            record.is_tombstone = rule.compact and packet.data is ABSENT and packet.b64 is ABSENT
        if remembered is None:
            self.log.append(record, rule)
        else:
            remembered.pos, remembered.offset = pos, offset
            self.log.append(record, rule, remembered)
        return record


def _ttl_ms(rule: TopicRule, packet: Publish) -> int:
    """The shorter of the topic's and the message's own time to live; 0 means none."""
    return min(ttl for ttl in (rule.ttl_seconds * 1000, packet.ttl_ms) if ttl)


class Topics:
    """The topics a node remembers, bounded: under a flood the longest unused are forgotten (S8, G6).

    Which one: a clock hand over the topics in order of arrival; one published to since the hand last passed stays.
    Ordered, because a plain dict is slow to find its first entry again and again.
    """

    __slots__ = ("by_name", "max_topics")

    def __init__(self, max_topics: int) -> None:
        self.max_topics = max_topics
        self.by_name: OrderedDict[str, Topic] = OrderedDict()  # read directly by the hot path

    def add(self, topic: Topic) -> None:
        """Remember a topic; make room first."""
        while len(self.by_name) >= self.max_topics:
            self._forget_one()
        self.by_name[topic.name] = topic

    def forget(self, shard: Shard) -> None:
        """Its numbers are another node's from here on, or begin anew."""
        for name in [name for name, topic in self.by_name.items() if topic.shard is shard]:
            del self.by_name[name]

    def _forget_one(self) -> None:
        while True:
            name, topic = self.by_name.popitem(last=False)
            if topic.offset == topic.seen_offset:  # nothing new since the hand passed
                topic.shard.has_forgotten = True
                return
            topic.seen_offset = topic.offset
            self.by_name[name] = topic
