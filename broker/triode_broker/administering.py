"""Administering: what operators may ask of this node, put together, and the socket that they ask at.

A part of the composition root. The surprising decision: nothing of it is reachable from a listener of clients or
of strangers. The socket is a file, and other nodes have proved to know the cluster's secret before they ask for
anything (docs/decisions/0006).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from triode_broker.admin.calls import make_calls
from triode_broker.admin.clients import Clients
from triode_broker.admin.drain import drain_calls
from triode_broker.admin.elsewhere import for_others, from_anywhere
from triode_broker.admin.everywhere import ASKED, AllOthers, Alone, Everywhere
from triode_broker.admin.figures import Watching, WatchingAll
from triode_broker.admin.listener import BadSocket, Call, serve_calls
from triode_broker.admin.reload import Operating
from triode_broker.admin.routing import Routing
from triode_broker.admin.subscribed import Subscribed
from triode_broker.admin.tail import Tails
from triode_broker.admin.webhooks import Hooks
from triode_broker.cluster.neighbours import Neighbours
from triode_broker.config import SOCKET_NAME, Auth, Config, Permission, Worker
from triode_broker.core.node import Node
from triode_broker.core.shard import Shard
from triode_broker.figures import Figures, held
from triode_broker.http.metrics_page import page
from triode_broker.joining import Joining, no_cluster
from triode_broker.log.disk import StoreError
from triode_broker.log_level import LogLevel
from triode_broker.posture import is_open
from triode_broker.reloading import Reloading
from triode_broker.revoking import Revoking
from triode_broker.webhooks.webhooks import Webhooks
from triode_broker.workers.plan import names as worker_names

__all__ = ["Administering", "token_seconds"]


@attrs.define(eq=False)
class Administering:
    """One node's."""

    config: Config
    worker: Worker
    node: Node
    revoking: Revoking
    joining: Joining | None
    begin_turn: Callable[[], int]  # the wall clock
    flush: Callable[[], None]
    auth: Callable[[], Auth]  # the settings in force
    drain: Callable[[float | None], float]
    reloading: Reloading
    log_level: LogLevel
    connections: Callable[[], int]
    figures: Figures
    webhooks: Webhooks
    log: Any

    async def begin(self, nursery: trio.Nursery) -> dict[str, Call]:
        """Answer, nodes and operators, until the nursery is cancelled, with what it returns. Raises StoreError."""
        calls = self._calls()
        path = socket_path(self.config)
        if path is None or self.worker.number != 0:
            return calls
        is_demanded = bool(self.config.admin_socket)
        try:
            await nursery.start(partial(serve_calls, path, calls, log=self.log, is_demanded=is_demanded))
        except BadSocket as error:
            raise StoreError(str(error)) from None
        return calls

    def _siblings(self) -> frozenset[str]:
        """The other processes of this host, each a node."""
        worker = self.worker
        return frozenset(worker_names(worker.host or self.config.node, worker.count)) - {self.config.node}

    def _calls(self) -> dict[str, Call]:
        """All there are; what other nodes may ask of them is in force."""
        name, node = self.config.node, self.node
        names = make_calls(name, node.router, node.consumers, self.begin_turn, self.flush)
        clients = Clients(node, self.revoking, self.begin_turn, lambda: token_seconds(self.auth()))
        subscribed = Subscribed(node)
        others: AllOthers = Alone()
        tails = Tails(node, others, self.begin_turn, self.flush, self.log)
        watching = Watching(name, node.router, self.figures.report, self.figures.slowest, held)
        if self.joining is not None:
            cluster = self.joining.cluster
            own = {**clients.calls(), **subscribed.calls()}
            asked = {call: own[call] for call in ASKED}
            cluster.calls.methods |= for_others(
                {
                    **names,
                    **asked,
                    **watching.calls(),
                    **self._operating(others).own(),
                    **self._routing(others).own(),
                    **self._hooks(others).own(),
                    **tails.own(),
                }
            )
            others = tails.others = neighbours = Neighbours(cluster, node.router)
            tails.has_others = True
            names = from_anywhere(name, names, neighbours)
        return {
            **names,
            **Everywhere(clients, subscribed, others).calls(),
            **WatchingAll(watching, others, self._siblings(), page).calls(),
            "cluster": no_cluster if self.joining is None else self.joining.status,
            **self._operating(others).calls(),
            **self._routing(others).calls(),
            **self._hooks(others).calls(),
            **drain_calls(self.drain, self.connections),
            **tails.calls(),
        }

    def _routing(self, others: AllOthers) -> Routing:
        node = self.node
        return Routing(node.name, node.router, node.consumers, self._owner_of, self._permissions, others)

    def _hooks(self, others: AllOthers) -> Hooks:
        return Hooks(self.node.name, self.webhooks.report, self.webhooks.test, others)

    def _owner_of(self, shard: Shard) -> tuple[str, int]:
        if self.joining is None:
            return self.node.name, 0
        entry = self.joining.cluster.ownership.owner(shard.name)
        return ("", 0) if entry is None else (entry.node, entry.epoch)

    def _permissions(self) -> Sequence[Permission] | None:
        config = self.reloading.config
        return None if is_open(config) else config.permissions

    def _operating(self, others: AllOthers) -> Operating:
        return Operating(self.config.node, self.reloading.again, self.log_level.call, others)


def socket_path(config: Config) -> Path | None:
    """A host has one socket: at the path that is named, or under its data."""
    if config.admin_socket:
        return Path(config.admin_socket)
    return Path(config.data) / SOCKET_NAME if config.data else None


def token_seconds(auth: Auth) -> int:
    """How long after now a token that was issued already may be good, clocks included; 0: without end."""
    return auth.max_token_seconds and auth.max_token_seconds + 2 * auth.leeway_seconds
