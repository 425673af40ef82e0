"""Applying: what each part of a node does when its settings have changed (`reloading.parts`).

A part of the composition root. Each part is asked with the settings in force and those that are to be, prepares
and may refuse; what it returns commits. The surprising decision: most limits need nothing of this. All parts hold
the one `Limits` of their node and read it where they use it; only those that have worked something out from it
are told to do so again.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs

from triode_broker.auth.authority import Authority, BadCredentials
from triode_broker.config import Config
from triode_broker.config.effects import value_of
from triode_broker.core.node import Node
from triode_broker.core.policy import Policies
from triode_broker.core.quotas import Quotas
from triode_broker.core.rounds import Round
from triode_broker.core.session import Session
from triode_broker.core.shard import Topic, shard_of_log
from triode_broker.edge.door import make_door
from triode_broker.edge.reactor import Edge
from triode_broker.joining import Joining
from triode_broker.log.disk import DiskLog
from triode_broker.log.memory import MemoryLog
from triode_broker.log_level import LogLevel
from triode_broker.logs import Loudness
from triode_broker.reloading import Commit, NotTaken, Prepare
from triode_broker.securing import BadSecuring, Securing

#: What meters are made by, beside the quotas.
METERING: Final = (
    "limits.rate_burst_ms",
    "limits.max_refused_packets",
    "limits.refused_window_ms",
    "limits.max_inflight_publishes",
    "limits.max_subscriptions",
)


@attrs.define(eq=False)
class Applying:
    """One node's parts."""

    node: Node
    edge: Edge  # of clients
    edges: Callable[[], Sequence[Edge]]  # all, that of operators too
    stores: Sequence[DiskLog]  # grows
    policies: Policies
    quotas: Quotas
    securing: Securing
    authority: Authority | None
    joining: Joining | None
    log_level: LogLevel
    now_ms: Callable[[], int]
    _rounds: dict[str, Round[Any]] = attrs.field(factory=dict)  # the last of each kind

    def parts(self) -> dict[str, Prepare]:
        """By name, in the order in which they commit."""
        return {
            "credentials": self._credentials,
            "certificates": self._certificates,
            "limits": self._limits,
            "topics": self._topics,
            "quotas": self._quotas,
            "door": self._door,
            "cluster": self._cluster,
            "log": self._log,
        }

    # Who may come in, and what it may do

    def _credentials(self, old: Config, new: Config) -> Commit | None:
        """Files of keys are read whatever the settings say: they may have changed alone."""
        authority = self.authority
        if authority is None:
            return None
        try:
            commit = authority.prepare(new)
        except BadCredentials as error:
            raise NotTaken(error.setting, error.wrong) from None

        def take() -> None:
            commit()
            self.node.notice_ms = new.auth.notice_seconds * 1000
            self.node.judge_all(authority.judge)

        return take

    def _certificates(self, old: Config, new: Config) -> Commit:
        try:
            return self.securing.prepare(old, new)
        except BadSecuring as error:
            raise NotTaken(error.setting, error.wrong) from None

    def _door(self, old: Config, new: Config) -> Commit:
        """After the certificates: proxies are theirs."""
        return lambda: self.edge.put_door(make_door(new, self.securing.front()))

    # How much

    def _limits(self, old: Config, new: Config) -> Commit | None:
        if old.limits == new.limits:
            return None
        return self._limits_changed

    def _limits_changed(self) -> None:
        self.node.limits_changed()
        for edge in self.edges():
            edge.limits_changed()
        for log in self._memory_logs():
            log.limits_changed()

    def _memory_logs(self) -> list[MemoryLog]:
        logs = (shard.log for shard in self.node.router.shards)
        return [log for log in logs if isinstance(log, MemoryLog)]

    def _quotas(self, old: Config, new: Config) -> Commit | None:
        if old.quotas == new.quotas and not any(value_of(old, name) != value_of(new, name) for name in METERING):
            return None

        def take() -> None:
            self.quotas.put(new.quotas)
            self._round("meters", self.node.sessions, Session.meter_anew)

        return take

    # Topics

    def _topics(self, old: Config, new: Config) -> Commit | None:
        if old.topics == new.topics:
            return None

        def take() -> None:
            self.policies.put(new.topics)
            self._follow_rules()

        return take

    def _follow_rules(self) -> None:
        """Topics that are known: some in each turn, as there may be a hundred thousand."""
        router = self.node.router

        def visit(topic: Topic) -> None:
            topic.rule = router.rule_of(topic.name)

        self._round("topics", router.topics(), visit)
        for log in self._memory_logs():
            names: Mapping[str, str] = {name: name for name in log.histories}
            self._round(shard_of_log(log.name), names, partial(self._follow_rule, log))
        for store in self.stores:
            store.rules_changed()

    def _round(self, kind: str, there: Mapping[str, Any], visit: Callable[[Any], None]) -> None:
        """In the place of one of that kind that is under way: all look at what is in force when they visit."""
        self._rounds[kind] = Round(there, visit, self.node.timers, self._rounds.get(kind))

    def _follow_rule(self, log: MemoryLog, name: str) -> None:
        log.follow_rule(name, self.node.router.rule_of(name), self.now_ms())

    # The others, and the log

    def _cluster(self, old: Config, new: Config) -> Commit | None:
        joining = self.joining
        return None if joining is None else partial(joining.reconfigure, new)

    def _log(self, old: Config, new: Config) -> Commit | None:
        if (old.log_level, old.log_format) == (new.log_level, new.log_format):
            return None
        return partial(self.log_level.configure, new.log_level, new.log_format)


def loudness_of(log: Any) -> Loudness | None:
    """What says how much a logger writes; None: it is not one of `logs`."""
    found = getattr(log, "loudness", None)
    return found if isinstance(found, Loudness) else None
