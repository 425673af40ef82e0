"""The composition root: builds the parts, owns the top nursery, and the order of start and end.

Nobody imports this but the command line and tests. Order of start: files, router, their threads, edge, listeners,
then what uses the broker as a client (the demo). Order of end: the drain, if the end may take its time; what was
accepted is committed and answered, no more accepting, bye to everyone, flush, the files are closed, gone.
"""

import gc
import os
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio
from msgspec.structs import replace
from triode_protocol.errors import CloseCode

from triode_broker.administering import Administering
from triode_broker.applying import Applying, loudness_of
from triode_broker.auth.authority import Authority, BadCredentials
from triode_broker.config import GC_THRESHOLDS, Config, Worker
from triode_broker.config.effects import alive
from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.policy import Policies
from triode_broker.core.quotas import Quotas
from triode_broker.core.rights import Rights
from triode_broker.core.router import Router
from triode_broker.core.session import Session
from triode_broker.core.shard import Shard
from triode_broker.departures import Departures
from triode_broker.digesting import digest_of
from triode_broker.draining import Draining, Readiness
from triode_broker.edge.door import make_door
from triode_broker.edge.listeners import listen, url
from triode_broker.edge.reactor import Edge
from triode_broker.figures import Figures
from triode_broker.hangup import Terminal
from triode_broker.hooking import Hooking
from triode_broker.http import api
from triode_broker.http.desk import Desk
from triode_broker.http.metrics_operation import METRICS
from triode_broker.http.operations import Table
from triode_broker.http.pages import pages
from triode_broker.http.serving import Serving
from triode_broker.joining import Joining
from triode_broker.lagging import Lagging
from triode_broker.linking import reach_links
from triode_broker.log import committer
from triode_broker.log.disk import DiskLog, StoreError
from triode_broker.log.memory import MemoryLog
from triode_broker.log_level import LogLevel
from triode_broker.offenders import Offenders
from triode_broker.operating import Operating, is_here, is_open_here
from triode_broker.posture import is_open, unsafe
from triode_broker.release import version
from triode_broker.reloading import Reloading
from triode_broker.reporting import Reporting
from triode_broker.revoking import Revoking
from triode_broker.securing import Securing
from triode_broker.spans import follow
from triode_broker.stores import check_stores, close_stores, missing, new_log_name, open_store, open_stores
from triode_broker.timekeeping import Timekeeper, now_ms, now_us, steady_ms
from triode_broker.tls import BadCertificate, to_itself

#: Longest time that is given to the disks, at the end, to take what was accepted while clients still listen.
SETTLE_SECONDS = 2.0
SETTLE_STEP_SECONDS = 0.01
#: How long the loop may keep the interpreter from a store thread that waits for it (Python's own: 5 ms, for each
#: of the few statements of a commit).
SWITCH_SECONDS = 0.0005
#: Who publishes this machine's figures; no rule of the settings adds to what it may.
FEEDER = Identity(user="demo", rights=Rights({"publish": ("demo/#",)}), method="demo")

__all__ = ["Broker", "StoreError", "check_stores", "serve", "serve_until_signal"]


class Broker:
    """One node, built from a checked configuration; `run` serves until cancelled. Raises StoreError."""

    def __init__(
        self,
        config: Config,
        log: Any,
        worker: Worker | None = None,
        *,
        steady_ms: Callable[[], int] = steady_ms,
    ) -> None:
        self._log = log
        self._steady_ms = steady_ms
        self.config = config = replace(config, limits=alive(config.limits))  # all parts hold these
        self.worker = worker or Worker()
        self._feed_token = self.worker.feed_token or (secrets.token_urlsafe(32) if config.demo else "")
        policies = Policies(config.topics)
        stores = open_stores(config, policies, log, self.worker.host)
        self.stores = [store for store in stores if store is not None]
        try:
            self._build(policies, stores)
        except BaseException:
            close_stores(self.stores)
            raise

    def _build(self, policies: Policies, stores: Sequence[DiskLog | None]) -> None:
        config, limits = self.config, self.config.limits
        names = [new_log_name(f"m{index}") for index in range(config.memory_shards)]
        shards = [Shard(MemoryLog(name, limits), limits.max_dedupe_bytes) for name in names]
        self.router = Router(shards, policies, limits, stores)
        quotas = Quotas(config.quotas)
        self.securing = self._make_securing()
        self.authority = self._make_authority()
        self.node = Node(
            config.node,
            self.router,
            limits,
            lambda: secrets.token_hex(16),
            self._steady_ms,
            gate=self.authority,
            quotas=quotas,
            notice_ms=config.auth.notice_seconds * 1000,
        )
        self.reloading = Reloading(config, self._log, self.securing.renew, partial(digest_of, environ=os.environ))
        if self.authority is not None:
            self.node.wills.judge = self.authority.judge
        self.node.tracing.now_us = now_us
        self.departures = Departures(self._log, self.node.timers)
        self.node.departed = self.departures.tell
        self.node.rates.complain = Offenders(self._log.warning, self._steady_ms).tell
        self.desk = self._make_desk(is_open_here(config))
        self.serving = Serving(Table((*api.OPERATIONS, METRICS)), self.desk)
        routes = pages(self.health, self._unready, lambda: self.readiness.has_started)
        self.edge = Edge(
            accept=self._accept,
            services={api.BELOW: self.serving.take, METRICS.path: self.serving.take},
            tally=self.router.statistics,
            routes=routes,
            limits=limits,
            now_ms=self._begin_turn,
            log=self._log,
            crowd=self.node.admission,
            door=make_door(config, self.securing.front()),
        )
        self.time = Timekeeper(self.node, self._begin_turn, self.edge.flush, Lagging(self.node, self.stores))
        self.node.timers.wake = self.router.delayed.sooner = self.time.wake
        self.draining = Draining(self.node, self.edge, random.random, self._log)
        self.drain = self.draining.begin  # what `triode drain` asks; one of several processes asks the others too
        self.committer = committer.Committer(self.stores, self.edge.flush, self._log.error)
        directory = Path(config.data) if config.data else None
        is_writer = self.worker.number == 0
        self.revoking = Revoking(self.node, self.edge.flush, now_ms, self._log, directory, is_writer)
        self.revoking.load()
        self.joining = self._join(policies) if config.cluster_listen else None
        self.log_level = LogLevel(loudness_of(self._log), self._log)
        self.reloading.parts |= self._applying(policies, quotas).parts()
        self._report()
        self.operating = None
        if is_here(config, self.worker):
            front, turn = self.securing.operators_front(), self._begin_turn
            self.operating = Operating(config, self.node, self.desk, self.edge, front, routes, turn, self._log)
            self.figures.edges["operators"] = self.operating.edge
        reach_links(self.desk, self.joining)
        self._hook()

    def _hook(self) -> None:
        """Join events and webhooks, where there are any."""
        cluster = None if self.joining is None else self.joining.cluster
        self.hooking = Hooking(self.config, self.node, cluster, self._log, self._begin_turn, self.edge.flush)
        self.reloading.parts["webhooks"] = self.hooking.prepare
        self.reporting.complaints.append(self.hooking.degraded)
        self.figures.webhooks = self.hooking.webhooks.report

    def _report(self) -> None:
        """What this node says of itself."""
        self.reporting = Reporting(
            self.config,
            self.node,
            self.edge,
            self.stores,
            self.securing,
            self.authority,
            self.reloading,
            self.draining,
            self.revoking,
            self.joining,
        )
        self.readiness = Readiness(self.draining.reason, self.reporting.failed_store, self.time.lagging.reason)
        self.figures = Figures(
            self.node,
            self.worker.number,
            self.config.data,
            {"clients": self.edge},
            self.stores,
            self.authority,
            self.draining,
            self.joining,
            self._unready,
            self.time,
            self.departures.counts,
            self.serving.counts,
        )
        if self.joining is not None:
            self.draining.other_urls = self.joining.other_urls
            self.draining.hand_over = self.joining.leave
            self.readiness.reasons.append(self.joining.unready)
            self.joining.keep_out_revoked(self.revoking)

    def _applying(self, policies: Policies, quotas: Quotas) -> Applying:
        return Applying(
            self.node,
            self.edge,
            lambda: [self.edge] if self.operating is None else [self.edge, self.operating.edge],
            self.stores,
            policies,
            quotas,
            self.securing,
            self.authority,
            self.joining,
            self.log_level,
            now_ms,
        )

    def _make_securing(self) -> Securing:
        try:
            return Securing(self.config, self._log)
        except BadCertificate as error:  # it was good when the settings were checked
            raise StoreError(str(error)) from None

    def _make_authority(self) -> Authority | None:
        """None: nobody is asked who they are."""
        if is_open(self.config):
            return None
        try:
            authority = Authority(
                self.config, self._log, now_ms, flush=lambda: self.edge.flush(), environ=os.environ
            )
        except BadCredentials as error:
            raise StoreError(str(error)) from None
        if self._feed_token:
            authority.know(self._feed_token, FEEDER)
        return authority

    def _join(self, policies: Policies) -> Joining:
        def make_store(shard: str) -> DiskLog:
            store = open_store(self.config, shard, policies, self._log, self.worker.host)
            self.stores.append(store)
            return store

        return Joining(
            self.config,
            self.worker,
            self.node,
            stores=self.stores,
            missing=missing(self.config),
            make_store=make_store,
            flush=self.edge.flush,
            now_ms=now_ms,
            version=version(),
            log=self._log,
            tls=self.securing.peer_tls(),
        )

    def _make_desk(self, is_open_here: bool) -> Desk:
        """What is asked by HTTP is written, and counted, by the edge, which is made later."""
        return Desk(
            self.node,
            self._begin_turn,
            lambda: self.edge.flush(),
            self._log,
            is_open_here=is_open_here,
            turn=lambda: self.edge.turns.beside(),
        )

    def _begin_turn(self) -> int:
        """The time, for a turn that begins: who has slept has to find that out before anything is accepted."""
        if self.joining is not None:
            self.joining.cluster.check_awake()
        return now_ms()

    def _accept(self, outbox: Outbox, arrival: Arrival) -> Session:
        return Session(self.node, outbox, arrival)

    def _unready(self) -> list[str]:
        return self.readiness.unready()

    def health(self) -> dict[str, object]:
        """What /healthz says."""
        return self.reporting.health()

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained or cancelled; once. Raises OSError when the address cannot be had."""
        try:
            if self.operating is not None:
                self.operating.listen()
            listeners = listen(self.config.listen, reuse_port=self.worker.count > 1)
        except BaseException:
            close_stores(self.stores)
            if self.operating is not None:
                self.operating.let_go()
            raise
        urls = [url(listener, is_tls=bool(self.config.tls.certificate)) for listener in listeners]
        # Both outlive the cancelling of everything else. Without the edge nobody could be told bye (SPEC 5.3.1);
        # and whom it says goodbye to gives back deliveries, which is kept too.
        edge_scope, stores_scope = trio.CancelScope(shield=True), trio.CancelScope(shield=True)
        stores_closed = trio.Event()
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(_within, stores_scope, self.committer.run, stores_closed)
                if self.authority is not None:
                    await nursery.start(self.authority.run)
                await nursery.start(_within, edge_scope, partial(self.edge.serve, listeners), trio.Event())
                await self._start_others(nursery, urls)
                for one in unsafe(self.config):
                    self._log.warning("insecure", setting=one.name, reason=one.why)
                self.readiness.started()
                self._log.info("started", node=self.config.node, urls=urls)
                task_status.started(urls)
                await self.draining.run()
            finally:
                with trio.CancelScope(shield=True):
                    await self._settle()
                    await self.edge.close_all(CloseCode.SHUTDOWN)
                    if self.operating is not None:
                        await self.operating.end()
                    if self.joining is not None:
                        self.joining.cluster.homes.end(CloseCode.SHUTDOWN)
                    self.node.consumers.save()
                    edge_scope.cancel()
                    stores_scope.cancel()
                    await stores_closed.wait()  # `triode drain` hears of the end, when another may open the files
                self._log.info("stopped", node=self.config.node)
                nursery.cancel_scope.cancel()

    async def _start_others(self, nursery: trio.Nursery, urls: list[str]) -> None:
        """What ends as soon as the node is told to end."""
        if self.config.tracing.endpoint:
            await nursery.start(follow, self.config.tracing, self.node, self._log)
        nursery.start_soon(self.time.trim)
        nursery.start_soon(self.securing.run)
        nursery.start_soon(self.log_level.run)
        await nursery.start(self.serving.run)
        nursery.start_soon(self.time.keep_time)
        nursery.start_soon(self.time.watch_lag)
        if self.joining is not None:
            await nursery.start(self.joining.run, self.committer, urls[0].replace("http", "ws", 1) + "/ws")
        self.desk.calls = await self._administering().begin(nursery)
        if self.operating is not None:
            await self.operating.begin(nursery, self.desk.calls)
        await nursery.start(self.hooking.run)
        if self.config.demo:
            self._feed_demo(nursery, urls[0].replace("http", "ws", 1) + "/ws")

    def _feed_demo(self, nursery: trio.Nursery, url: str) -> None:
        """By a client as others are, but that its credential is known to nobody else."""
        tls = self.config.tls
        if self.config.proxy_protocol or (tls.client_ca and tls.client_certificates == "required"):
            reason = "its connection would be refused: it shows no certificate and comes through no proxy"
            self._log.warning("demo_not_fed", reason=reason)
            return
        from triode_broker import demo  # a client of ours: nothing else here needs one

        token = self._feed_token if self.authority is not None else ""
        ssl_context = to_itself() if tls.certificate else None
        nursery.start_soon(lambda: demo.feed(url, log=self._log, ssl_context=ssl_context, token=token))

    def _administering(self) -> Administering:
        return Administering(
            self.config,
            self.worker,
            self.node,
            self.revoking,
            self.joining,
            begin_turn=self._begin_turn,
            flush=self.edge.flush,
            auth=lambda: self.reloading.config.auth,
            drain=lambda seconds: self.drain(seconds),
            reloading=self.reloading,
            log_level=self.log_level,
            connections=lambda: self.edge.statistics().connections,
            figures=self.figures,
            webhooks=self.hooking.webhooks,
            log=self._log,
        )

    async def _settle(self) -> None:
        """Take nothing more for the disks, and let them take what was accepted: so it can still be answered."""
        self.router.stop_storing()
        with trio.move_on_after(SETTLE_SECONDS if self.stores else 0):
            await trio.sleep(SETTLE_STEP_SECONDS)  # what this turn has saved is handed over meanwhile
            while any(store.uncommitted_bytes for store in self.stores):  # noqa: ASYNC110  # once in a life
                await trio.sleep(SETTLE_STEP_SECONDS)


async def _within(
    scope: trio.CancelScope,
    serve: Callable[..., Awaitable[None]],
    ended: trio.Event,
    task_status: trio.TaskStatus[None],
) -> None:
    try:
        with scope:
            await serve(task_status=task_status)
    finally:
        ended.set()


async def serve(
    config: Config,
    *,
    log: Any = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a broker until drained or cancelled. `task_status` gets its base URLs, for example http://127.0.0.1:7400."""
    await Broker(config, structlog.get_logger() if log is None else log).run(task_status)


def tune_collector() -> None:
    """Let the garbage collector look less often, and never at what the start has made.

    Messages and packets are not tracked by it, and nothing of ours needs it to be freed; but with a few hundred
    thousand topics or connections a full collection stops the node for half a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)


async def serve_until_signal(
    config: Config,
    *,
    log: Any,
    announce: Callable[[list[str]], None],
    worker: Worker | None = None,
    attend: Callable[[Broker], Awaitable[None]] | None = None,
    reread: Callable[[], Config] | None = None,
) -> None:
    """`serve` for a process: SIGTERM drains it, another or SIGINT ends it at once; `announce` is told the URLs.

    `attend` runs beside it, from before the start to the end. `reread` reads the settings again, on SIGHUP, and
    raises ValueError with what is wrong with them.
    """
    broker = Broker(config, log, worker)
    broker.reloading.reread = reread
    async with trio.open_nursery() as nursery:
        if attend is not None:
            nursery.start_soon(attend, broker)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:

            async def serve_it(task_status: trio.TaskStatus[list[str]]) -> None:
                await broker.run(task_status)
                nursery.cancel_scope.cancel()  # drained

            announce(await nursery.start(serve_it))
            tune_collector()
            await _end_by_signal(signals, broker, log)
            nursery.cancel_scope.cancel()


async def _end_by_signal(signals: AsyncIterator[int], broker: Broker, log: Any) -> None:
    """Until a signal that may not take its time."""
    was_asked = False
    terminal = Terminal()
    async for number in signals:
        if number == signal.SIGHUP and terminal.is_gone:
            return  # nobody sees what is logged any more
        log.info("signal", name=signal.Signals(number).name)
        if number == signal.SIGHUP:
            broker.reloading.read_again()
            continue
        if number != signal.SIGTERM or was_asked:
            return
        was_asked = True
        broker.draining.begin()
