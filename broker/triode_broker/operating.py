"""Operating: the listener for operators, with its own edge, table and credential; put together here.

A part of the composition root. The surprising decision: it is a second edge and not a second port of the first.
Another door asks another question there (the operators' secret, tickets), a drain of the clients leaves operators
in, and a crowd of clients does not keep them out. Both edges share what waits to be sent, so that a message that
one of them takes leaves by the other in the same turn.
"""

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
import trio
from triode_protocol.errors import CloseCode

from triode_broker.auth.operators import Operators, Tickets
from triode_broker.auth.static_keys import BadCredentials, read_operators_secret
from triode_broker.config import Config, Worker
from triode_broker.core.identity import Arrival
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.session import Session
from triode_broker.edge.application import Route
from triode_broker.edge.door import Door
from triode_broker.edge.front import Front
from triode_broker.edge.listeners import listen, url
from triode_broker.edge.reactor import Edge
from triode_broker.http import api, console_operations
from triode_broker.http.console_pages import PATH
from triode_broker.http.desk import Desk
from triode_broker.http.metrics_operation import METRICS
from triode_broker.http.operations import Table
from triode_broker.http.serving import Serving
from triode_broker.log.disk import StoreError
from triode_broker.posture import is_loopback, is_open

__all__ = ["Operating", "is_here", "is_open_here"]

HEALTH: Final = ("/healthz", "/readyz", "/startupz")


def is_here(config: Config, worker: Worker) -> bool:
    """Whether this process has the listener: a host has one."""
    return bool(config.admin.listen) and worker.number == 0


def is_open_here(config: Config) -> bool:
    """Whether nobody is asked who they are, and none but this machine's programs can come: they may operate it."""
    is_passed_on = config.proxy_protocol or config.trusted_proxies or config.advertise
    return is_open(config) and is_loopback(config.listen) and not is_passed_on


@attrs.define(eq=False)
class Operating:
    """One node's. Raises StoreError where the secret cannot be read."""

    config: Config
    node: Node
    desk: Desk  # of the clients' listeners
    beside: Edge
    front: Front
    routes: Mapping[str, Route]  # health
    now_ms: Callable[[], int]  # begins a turn
    log: Any
    edge: Edge = attrs.field(init=False)
    serving: Serving = attrs.field(init=False)
    _tickets: Tickets = attrs.field(init=False)
    _own_desk: Desk = attrs.field(init=False)
    _scope: trio.CancelScope = attrs.field(init=False, factory=partial(trio.CancelScope, shield=True))
    _listeners: list[socket.socket] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        try:
            secret = read_operators_secret(self.config.admin, os.environ)
        except BadCredentials as error:
            raise StoreError(str(error)) from None
        clock = self.node.steady_ms
        gate = Operators(secret, self.log, self.now_ms, clock)
        self._tickets = Tickets(self.log, self.now_ms, clock)
        rows = (*api.OPERATIONS, METRICS, *console_operations.pages())
        self._own_desk = attrs.evolve(
            self.desk, give_ticket=self._tickets.give, turn=lambda: self.edge.turns.beside()
        )
        self.serving = Serving(Table(rows), self._own_desk)
        take: Any = self.serving.take
        below = (api.BELOW, PATH, f"{PATH}/", "/metrics", "/triode.js")
        self.edge = Edge(
            accept=self._accept,
            services=dict.fromkeys(below, take),
            routes={path: route for path, route in self.routes.items() if path in HEALTH},
            limits=self.config.limits,
            now_ms=self.now_ms,
            log=self.log,
            door=Door(attrs.evolve(self.front, gate=gate)),
            beside=self.beside,
            tally=self.node.router.statistics,
        )

    def _accept(self, outbox: Outbox, arrival: Arrival) -> Session:
        return Session(self.node, outbox, attrs.evolve(arrival, gate=self._tickets))

    def listen(self) -> None:
        """Take the address. Raises StoreError."""
        address = self.config.admin.listen
        try:
            self._listeners = listen(address)
        except OSError as error:
            raise StoreError(f"admin.listen {address}: {error.strerror or error}") from None

    def let_go(self) -> None:
        """Of the address, where nothing comes of it."""
        for one in self._listeners:
            one.close()

    @property
    def urls(self) -> list[str]:
        """Where it listens."""
        is_tls = bool(self.config.admin.tls.certificate)
        return [url(one, is_tls=is_tls) for one in self._listeners]

    async def begin(self, nursery: trio.Nursery, calls: Mapping[str, Any]) -> None:
        """Serve until `end`, also while all else is cancelled already."""
        self._own_desk.calls = calls
        await nursery.start(self.serving.run)
        await nursery.start(self._serve)
        self.log.info("operators_served", urls=self.urls, console=[f"{one}{PATH}" for one in self.urls])

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        with self._scope:
            await self.edge.serve(self._listeners, task_status=task_status)

    async def end(self) -> None:
        """Say goodbye; after the clients."""
        await self.edge.close_all(CloseCode.SHUTDOWN)
        self._scope.cancel()
