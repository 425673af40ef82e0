"""Handed: what a shard in memory consists of when it goes to another node as it is, log, numbers and all.

Records only: `log.memory` gives and takes what is of the log, `router` and `delayed` the rest, and the cluster
carries it over. The surprising decision: what retention has removed is part of it, down to the numbers of losses:
somebody who reads on behind the hand-over is told of the same losses as if there had been none.
"""

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from triode_broker.config import TopicRule
from triode_broker.core.interfaces import Log
from triode_broker.core.record import Record


class HandedTopic(Struct, array_like=True, frozen=True, gc=False):
    """What a log knows of one topic beside its records."""

    topic: str
    trimmed: int
    trimmed_offset: int
    trimmed_ts: int
    loss: int
    has_holes: bool


class HandedFacts(Struct, array_like=True, frozen=True, gc=False):
    """What it knows of itself."""

    head: int
    recent_after: int
    forgotten: int
    forgotten_ts: int
    forgotten_loss: int
    trimmed: int
    trimmed_ts: int
    losses: int


class HandedId(Struct, array_like=True, frozen=True, gc=False):
    """A message id that was used, and where its message went."""

    topic: str
    user: str
    message_id: str
    digest: int
    pos: int
    offset: int
    expires_ms: int


class HandedLog(Log, Protocol):
    """A log that can be handed over: given where it was, taken where it goes on under the same name."""

    def seal(self) -> None:
        """Nothing changes in it any more, by retention either: what is given is what was read."""

    def give_topics(self) -> Iterator[HandedTopic]:
        """Of a sealed log; the longest unused first."""

    def give_records(self) -> Iterator[Record]:
        """Of a sealed log, in order of pos: all that is held."""

    def give_facts(self) -> HandedFacts:
        """Of a sealed log."""

    def take_topic(self, handed: HandedTopic, rule: TopicRule) -> None:
        """Into an empty log, and before its records."""

    def take_record(self, record: Record) -> None:
        """The next one."""

    def take_facts(self, facts: HandedFacts) -> None:
        """The end: from here on it is a log like any other."""
