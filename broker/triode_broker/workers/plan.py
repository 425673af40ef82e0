"""Which worker is to be what: names, ports, seeds, holders of the host's durable shards.

Knows settings and addresses, no processes. The surprising decision: worker 0 keeps the node's own name, the others
get it with their number. So a list of `durable` holders names the same nodes however many workers a host has, and
one worker is the node it was before.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

from attrs import field, frozen
from msgspec import Struct
from msgspec.structs import replace

from triode_broker.config import MAX_WORKERS, Config, Worker
from triode_broker.edge.listeners import parse_address, reserve


class Start(Struct, frozen=True, forbid_unknown_fields=True):
    """What one worker is to be."""

    config: Config
    worker: Worker


def count_workers(config: Config) -> int:
    """How many processes the settings ask for; 0 in them: one for each core this process may use."""
    if config.workers:
        return config.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def names(node: str, count: int) -> list[str]:
    """What the workers of a node are called."""
    return [node, *(f"{node}-{number}" for number in range(1, count))]


@frozen
class Ports:
    """Addresses that are held until `close`, without listening: the clients' one, one for each worker's peers."""

    listen: str
    peers: list[str]
    _held: ExitStack = field(factory=ExitStack)

    def close(self) -> None:
        """Let go of them."""
        self._held.close()


def hold_ports(config: Config, count: int) -> Ports:
    """Raises OSError where one cannot be had; its `filename` is the address."""
    with ExitStack() as undo:
        listen = _hold(config.listen, undo)
        peers = [_hold(address, undo) for address in _peer_addresses(config, count)]
        return Ports(listen, peers, undo.pop_all())


def _hold(address: str, undo: ExitStack) -> str:
    try:
        held, named = reserve(address)
    except OSError as error:
        error.filename = address
        raise
    for bound in held:
        undo.enter_context(bound)
    return named


def _peer_addresses(config: Config, count: int) -> Iterator[str]:
    """Counted up from `cluster_listen`; without a cluster of several hosts, any that only this machine reaches."""
    host, _, port = (config.cluster_listen or "127.0.0.1:0").rpartition(":")
    for number in range(count):
        yield f"{host}:{int(port) + number if int(port) else 0}"


def plan(config: Config, ports: Ports) -> list[Start]:
    """What each worker is to be.

    The files are the host's: without a list of holders worker i mod N holds shard i. The secret is made up where
    nobody else has to know it: the workers are all there is of the cluster.
    """
    count = len(ports.peers)
    nodes, is_tls = names(config.node, count), bool(config.cluster_tls.certificate)
    urls = [dialled(address, is_tls=is_tls) for address in ports.peers]
    is_alone = not config.cluster_listen and not config.cluster_secret_file
    secret = secrets.token_urlsafe(32) if is_alone else ""
    feed_token = secrets.token_urlsafe(32) if config.demo else ""
    durable = config.durable
    if config.data and not durable:
        durable = tuple(nodes[shard % count] for shard in range(config.durable_shards))
    return [
        Start(
            replace(
                config,
                listen=ports.listen,
                workers=count,
                node=nodes[number],
                cluster_listen=ports.peers[number],
                cluster_advertise=_counted_up(config.cluster_advertise, number),
                seeds=(*config.seeds, *urls[:number], *urls[number + 1 :]),
                durable=durable,
                demo=config.demo and number == 0,
            ),
            Worker(number=number, count=count, host=config.node, secret=secret, feed_token=feed_token),
        )
        for number in range(count)
    ]


def without_one_time_settings(start: Start) -> Start:
    """The same worker in its next life: what it was to do with its files has been done."""
    return Start(replace(start.config, restored=False, create_store=False), start.worker)


def dialled(address: str, *, is_tls: bool = False) -> str:
    """Where a process of this machine reaches what listens there."""
    host, port = parse_address(address)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "wss" if is_tls else "ws"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _counted_up(url: str, number: int) -> str:
    """The same URL, its port counted up as that of `cluster_listen` is."""
    if not url:
        return ""
    parts = urlsplit(url)
    host = str(parts.hostname)
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{(parts.port or 0) + number}"
