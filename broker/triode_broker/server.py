"""The composition root: builds the parts, owns the top nursery, and the order of start and end.

Nobody imports this but the command line and tests. Order of start: logs, router, edge, listeners, then what uses
the broker as a client (the demo). Order of end: no more accepting, bye to everyone, flush, gone.
"""

import gc
import secrets
import signal
import socket
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
import trio
from triode_protocol.errors import CloseCode

from triode_broker.config import GC_THRESHOLDS, Config
from triode_broker.core.outbox import Outbox
from triode_broker.core.policy import Policies
from triode_broker.core.router import Router
from triode_broker.core.session import Node, Session
from triode_broker.core.shard import Shard
from triode_broker.edge.listeners import listen, url
from triode_broker.edge.reactor import Edge
from triode_broker.http.pages import pages
from triode_broker.log.memory import MemoryLog

TRIM_SECONDS = 1.0
_LOG_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # 5 bits each


def new_log_name(shard: str) -> str:
    """A name for a new life of a shard: the shard and 80 random bits."""
    return f"{shard}-" + "".join(secrets.choice(_LOG_ALPHABET) for _ in range(16))


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def installed_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("triode")
    except PackageNotFoundError:
        return "0+unknown"


class Broker:
    """One node, built from a checked configuration; `run` serves until cancelled."""

    def __init__(self, config: Config, log: Any) -> None:
        limits = config.limits
        names = [new_log_name(f"m{index}") for index in range(config.memory_shards)]
        shards = [Shard(MemoryLog(name, limits), limits.max_dedupe_bytes) for name in names]
        self._log = log
        self.config = config
        self.router = Router(shards, Policies(config.topics), limits)
        self.node = Node(config.node, self.router, limits, lambda: secrets.token_hex(16))
        self.edge = Edge(
            accept=self._accept,
            routes=pages(self.health),
            limits=limits,
            now_ms=now_ms,
            log=log,
        )
        self._started = time.monotonic()

    def _accept(self, outbox: Outbox) -> Session:
        return Session(self.node, outbox)

    def health(self) -> dict[str, object]:
        """What /healthz says."""
        seen = self.edge.statistics()
        counters = self.router.statistics
        return {
            "status": "ok",
            "node": self.config.node,
            "version": installed_version(),
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "connections": seen.connections,
            "sessions": len(self.node.sessions),
            "live_subscriptions": self.router.live_subscriptions,
            "published": sum(shard.pos for shard in self.router.shards),
            "duplicates": counters.duplicates,
            "delivered": self.router.delivered,
            "overflows": counters.overflows,
            "heads": {shard.log.name: shard.log.head() for shard in self.router.shards},
        }

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises OSError when the address cannot be had."""
        listeners = listen(self.config.listen)
        urls = [url(listener) for listener in listeners]
        async with trio.open_nursery() as nursery:
            edge_scope = await nursery.start(self._serve_edge, listeners)
            try:
                nursery.start_soon(self._trim)
                if self.config.demo:
                    from triode_broker import demo  # a client of ours: nothing else here needs one

                    feed_url = urls[0].replace("http", "ws", 1) + "/ws"
                    nursery.start_soon(lambda: demo.feed(feed_url, log=self._log))
                if self.config.data:
                    self._log.warning(
                        "data_not_used", data=self.config.data, reason="messages are held in memory only"
                    )
                self._log.info("started", node=self.config.node, urls=urls)
                task_status.started(urls)
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await self.edge.close_all(CloseCode.SHUTDOWN)
                edge_scope.cancel()
                self._log.info("stopped", node=self.config.node)
                nursery.cancel_scope.cancel()

    async def _serve_edge(
        self, listeners: Sequence[socket.socket], task_status: trio.TaskStatus[trio.CancelScope]
    ) -> None:
        """Outlives the cancelling of everything else: without the edge nobody could be told bye (SPEC 5.3.1)."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.edge.serve, listeners)
                task_status.started(scope)

    async def _trim(self) -> None:
        while True:
            await trio.sleep(TRIM_SECONDS)
            self.router.trim(now_ms())
            self.edge.flush()


async def serve(
    config: Config,
    *,
    log: Any = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a broker until cancelled. `task_status` gets its base URLs, for example http://127.0.0.1:7400."""
    await Broker(config, structlog.get_logger() if log is None else log).run(task_status)


def tune_collector() -> None:
    """Let the garbage collector look less often, and never at what the start has made.

    Messages and packets are not tracked by it, and nothing of ours needs it to be freed; but with a few hundred
    thousand topics or connections a full collection stops the node for half a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def serve_until_signal(config: Config, *, log: Any, announce: Callable[[list[str]], None]) -> None:
    """`serve` for a process: SIGTERM and SIGINT end it in good order; `announce` is told the URLs."""
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

            async def serve_it(task_status: trio.TaskStatus[list[str]]) -> None:
                await serve(config, log=log, task_status=task_status)

            announce(await nursery.start(serve_it))
            tune_collector()
            async for number in signals:
                log.info("signal", name=signal.Signals(number).name)
                break
            nursery.cancel_scope.cancel()
