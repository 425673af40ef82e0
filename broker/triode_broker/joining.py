"""Joining: what a broker process does to be a node of a cluster: sockets, the secret, stores that are made late.

A part of the composition root; the rules of the cluster are in `cluster`. The surprising decision: a durable
shard's file that is missing is made here, while the node already serves, once all other holders have said that
they know of none; until then the node is one that does not hold it.
"""

import os
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.cluster.cluster import Cluster
from triode_broker.cluster.listening import as_listeners
from triode_broker.cluster.outside import Outside
from triode_broker.cluster.revoking import Keeper
from triode_broker.cluster.secret import read_secret
from triode_broker.cluster.securing import PeerTls
from triode_broker.cluster.status import unready, whole_view
from triode_broker.config import Config, Worker
from triode_broker.core.node import Node
from triode_broker.core.shard import shard_of_log
from triode_broker.digesting import as_shared
from triode_broker.edge.listeners import listen, url
from triode_broker.log.committer import Committer
from triode_broker.log.disk import DiskLog
from triode_broker.log.memory import MemoryLog
from triode_broker.stores import new_log_name

_EVERYWHERE = ("ws://0.0.0.0:", "ws://[::]:", "wss://0.0.0.0:", "wss://[::]:")
#: How often is looked whether a missing store may be made, or one has failed.
LOOK_SECONDS = 0.2
#: How long the end of a drain waits for hand-overs; and behind them, for others to hear of them.
HAND_OVER_SECONDS = 30.0
LINGER_SECONDS = 0.5


class Joining:
    """One node's part in a cluster, beside everything else that it does."""

    def __init__(
        self,
        config: Config,
        worker: Worker,
        node: Node,
        *,
        stores: Sequence[DiskLog],
        missing: Sequence[str],
        make_store: Callable[[str], DiskLog],
        flush: Callable[[], None],
        now_ms: Callable[[], int],
        version: str,
        log: Any,
        tls: PeerTls | None = None,
    ) -> None:
        """`missing`: durable shards to be held here that have no file. Raises BadSecret."""
        self._config = config
        self._worker = worker
        self._node = node
        self._missing = list(missing)
        self._make_store = make_store
        self._stores = list(stores)
        self._log = log
        secret = worker.secret.encode()
        if config.cluster_secret_file:
            secret = read_secret(config.cluster_secret_file)
        by_name = {shard_of_log(store.name): store for store in stores}
        self.cluster = Cluster(
            config,
            node,
            Outside(
                new_log=lambda shard: MemoryLog(new_log_name(shard), config.limits),
                log_named=lambda name: MemoryLog(name, config.limits),
                flush=flush,
                now_ms=now_ms,
                steady_ms=node.steady_ms,
                random_bytes=secrets.token_bytes,
                random_float=random.random,
                log=log,
                version=version,
                secret=secret,
                tls=tls,
                shared=partial(as_shared, environ=os.environ),
            ),
            {shard: (store.epoch, store.name) for shard, store in by_name.items()},
        )

    def reconfigure(self, config: Config) -> None:
        """These are the node's settings from now on."""
        self._config = config
        self.cluster.reconfigure(config)

    def keep_out_revoked(self, keeper: Keeper) -> None:
        """Exchange revocations; where there may be nodes that know some, clients wait until they were heard."""
        revoking = self.cluster.revoking
        revoking.keeper, revoking.gate = keeper, self._node.guarded
        if self._config.seeds:
            revoking.hold()

    async def run(
        self,
        committer: Committer,
        client_url: str,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take part until cancelled. Raises OSError when the address for other nodes cannot be had.

        `client_url`: where this node serves clients, if that says anything to others.
        """
        sockets = listen(self._config.cluster_listen, reuse_port=self._worker.count > 1)
        peer_url = url(sockets[0], is_tls=bool(self._config.cluster_tls.certificate)).replace("http", "ws", 1)
        known = {"cluster_advertise": peer_url, "advertise": client_url}
        self.cluster.introduce({name: text for name, text in known.items() if not is_everywhere(text)})
        async with trio.open_nursery() as nursery:
            await nursery.start(self.cluster.run, as_listeners(sockets))
            task_status.started()
            while True:
                self._make_missing(committer)
                self._tell_failed()
                await trio.sleep(LOOK_SECONDS)

    def _make_missing(self, committer: Committer) -> None:
        for shard in list(self._missing):
            if self.cluster.ownership.may_create(shard):
                self._missing.remove(shard)
                store = self._make_store(shard)
                self._stores.append(store)
                committer.add(store)
                self.cluster.open_store(shard, store, store.epoch)
                self._log.info("store_made", shard=shard, log=store.name)

    def _tell_failed(self) -> None:
        """Others refuse publishes to it themselves then, and their health says why."""
        for store in self._stores:
            if store.state == "failed":
                self.cluster.ownership.failed(shard_of_log(store.name))

    async def status(self, parameters: Mapping[str, Any]) -> object:
        """What `triode cluster` shows."""
        return await whole_view(self.cluster)

    async def leave(self) -> None:
        """Hand over what others can go on with. Returns when they do and know it, or after HAND_OVER_SECONDS."""
        self.cluster.leave()
        with trio.move_on_after(HAND_OVER_SECONDS):
            while not self.cluster.giving.is_done:  # noqa: ASYNC110  # once in a life
                await trio.sleep(LOOK_SECONDS)
            if self.cluster.giving.given:
                await trio.sleep(LINGER_SECONDS)

    def other_urls(self) -> list[str]:
        """Where clients reach the other nodes that there is a link to."""
        return self.cluster.other_urls()

    def unready(self) -> str:
        """Why clients had better wait, or go elsewhere."""
        return "; ".join(unready(self.cluster))


def is_everywhere(url: str) -> bool:
    """Whether it names no machine: every address of this one."""
    return url.startswith(_EVERYWHERE)


async def no_cluster(parameters: Mapping[str, Any]) -> object:
    """What `triode cluster` is told where there is none."""
    raise Refused(ErrorName.UNSUPPORTED, "this node is in no cluster: --cluster-listen or --seed puts it into one")
