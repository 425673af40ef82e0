"""Hooking: events and webhooks of a node, joined to its core; a part of the composition root.

Without `[[webhooks]]` nothing is joined to anything: a connect and a subscribe find a None. The surprising
decision: what was joined once stays. When the last webhook goes, events are wanted by nobody and are not made; the
counts of who holds which topic go on, so that the next one finds them right.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import attrs
import trio

from triode_broker.auth.static_keys import BadCredentials, read_webhook_secrets
from triode_broker.cluster.cluster import Cluster
from triode_broker.config import Config, Webhook
from triode_broker.core.events import ALL, Events
from triode_broker.core.ledger import Ledger
from triode_broker.core.node import Node
from triode_broker.core.occupancy import Occupancy
from triode_broker.core.shard import Shard
from triode_broker.core.tenants import inside
from triode_broker.log.disk import StoreError
from triode_broker.reloading import Commit, NotTaken
from triode_broker.webhooks.wanted import by_tenant
from triode_broker.webhooks.webhooks import Row, Webhooks

#: After a shard has another log, until that is read: links are made meanwhile.
READ_AFTER_MS: Final = 1_000


@attrs.define(eq=False)
class Hooking:
    """One node's. Raises StoreError where a secret cannot be read."""

    config: Config
    node: Node
    cluster: Cluster | None
    log: Any
    now_ms: Callable[[], int]
    flush: Callable[[], None]
    webhooks: Webhooks = attrs.field(init=False)
    events: Events | None = attrs.field(init=False, default=None)
    occupancy: Occupancy | None = attrs.field(init=False, default=None)
    ledger: Ledger | None = attrs.field(init=False, default=None)
    _followed: set[str] = attrs.field(init=False, factory=set)
    _is_running: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.webhooks = Webhooks(self.node, self.log, self.now_ms, self.flush)
        try:
            rows = read(self.config.webhooks)
        except BadCredentials as error:
            raise StoreError(str(error)) from None
        self._put(rows)

    @property
    def degraded(self) -> Callable[[], list[str]]:
        """For health."""
        return self.webhooks.troubles

    def prepare(self, old: Config, new: Config) -> Commit | None:
        """For a reload: secrets are read again whatever the settings say. Raises NotTaken."""
        try:
            rows = read(new.webhooks)
        except BadCredentials as error:
            raise NotTaken(error.setting, error.wrong) from None
        return partial(self._put, rows)

    def _put(self, rows: Sequence[Row]) -> None:
        kinds = by_tenant(row for row, _ in rows)
        if kinds and self.events is None:
            self._join()
        if self.events is not None:
            self.events.want(kinds)
            if self._is_running:
                self._follow_all()
        self.webhooks.put(rows)

    def _join(self) -> None:
        node, limits = self.node, self.node.limits
        router, timers = node.router, node.timers
        timers.hear(self.now_ms())
        self.events = events = Events(node.name, router.publish_own, limits, timers, node.random_id)
        self.occupancy = occupancy = Occupancy(events, router, limits, timers, router.coverage)
        self.ledger = ledger = Ledger(events, occupancy, limits)
        node.tell(events, ledger.lost)
        for filter in node.open_filters():
            occupancy.hold(filter)
        router.coverage = occupancy
        if self.cluster is not None:
            self.cluster.serving.tell(occupancy)
        moved = router.moved

        def also_moved(shard: Shard, before: Any) -> None:
            moved(shard, before)
            if shard.is_here:
                occupancy.owned(shard)
            timers.at(timers.steady_ms() + READ_AFTER_MS, lambda _: self._read_again(shard))

        router.moved = also_moved

    def _follow_all(self) -> None:
        """What events tell, of other nodes too; and what they have told before."""
        if self.events is None or self.ledger is None:
            return
        router = self.node.router
        for filter in [inside(tenant, ALL) for tenant in self.events.tenants]:
            if filter not in self._followed:
                self._followed.add(filter)
                shards = router.covered(filter)
                router.follow(filter, self.ledger)
                if router.coverage is not None:
                    router.coverage.cover(filter, shards, None, lambda missing: None)
                self.ledger.read(filter, shards, self.now_ms)

    def _read_again(self, shard: Shard) -> None:
        """It has another log: what is open by that one may be new to this node."""
        for filter in self._followed:
            if self.ledger is not None and shard in self.node.router.covered(filter):
                self.ledger.read(filter, [shard], self.now_ms)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell, until cancelled."""
        self._is_running = True
        self._follow_all()
        await self.webhooks.run(task_status)


def read(rows: Sequence[Webhook]) -> list[Row]:
    """With their secrets. Raises BadCredentials."""
    return [(row, read_webhook_secrets(row, number, os.environ)) for number, row in enumerate(rows, 1)]
