"""Several Triodes that are one broker: started, linked, summed up; and which of them owns a topic.

What it must not know: workloads, reports.
The surprising decision: who owns a shard is read from the nodes' own logs, and which shard a topic is in from the
answer to a publish. Nothing here repeats the broker's arithmetic, so nothing here can agree with it by mistake.
"""

import json
import re
import time
import urllib.request
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from bench.load import LoadError, open_connections, request
from bench.packets import greeting, publish_frame
from bench.servers import RECIPES, Cpu, Recipe, Server, ServerError, free_port, running
from bench.sockets import Connection, Loop

_LINK_SECONDS = 20.0
_POLL_SECONDS = 0.05
_TOPICS_TRIED = 1_000
_SHARDS = 8  # in memory, as configured by default
_SHARD = re.compile(rb'"log":"(\w+)-')


@attrs.frozen
class Nodes:
    """The nodes of one broker, all linked; one alone where there is one server."""

    name: str
    servers: tuple[Server, ...]
    peers: tuple[int, ...] = ()  # ports where other nodes connect

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where clients connect."""
        return [server.address for server in self.servers]

    def cpu(self) -> Cpu:
        """Of all of them."""
        spent = [server.cpu() for server in self.servers]
        return Cpu(
            sum(one.seconds for one in spent),
            sum(one.user_ticks for one in spent),
            sum(one.system_ticks for one in spent),
        )

    def owners(self) -> dict[str, int]:
        """By shard in memory, the node that has claimed it last."""
        claimed = {}
        for index, server in enumerate(self.servers):
            for line in server.said().splitlines():
                if '"shard_claimed"' in line:
                    fact = json.loads(line)
                    claimed[fact["shard"]] = (fact["epoch"], index)
        return {shard: index for shard, (_, index) in claimed.items()}

    def topic_of(self, loop: Loop, owner: int, prefix: str = "bench/of") -> str:
        """A topic in memory that this node owns."""
        if len(self.servers) == 1:
            return f"{prefix}/0"
        [topic] = self.topics_of(loop, [owner], 1, prefix)
        return topic

    def topics_of(self, loop: Loop, owners: Collection[int], count: int, prefix: str) -> list[str]:
        """So many topics in memory that these nodes own."""
        owner_of = self.owners()
        [asker] = open_connections(loop, self.servers[0].address, [greeting()], b'"connected"')
        found = []
        for number in range(_TOPICS_TRIED):
            topic = f"{prefix}/{number}"
            answer = _SHARD.search(_publish_patiently(loop, asker, topic))
            if answer is not None and owner_of.get(answer[1].decode()) in owners:
                found.append(topic)
            if len(found) == count:
                return found
        raise ServerError(f"nodes {owners} own too few topics")


def _publish_patiently(loop: Loop, connection: Connection, topic: str) -> bytes:
    """The answer; nodes that have just started may not have reached each other."""
    deadline = time.monotonic() + _LINK_SECONDS
    while True:
        try:
            return request(loop, connection, publish_frame(topic, 9), b'"published"')
        except LoadError:
            if connection.closed or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)


@contextmanager
def cluster(count: int, name: str = "triode", *options: str) -> Iterator[Nodes]:
    """So many linked nodes, every shard owned; one is no cluster."""
    with ExitStack() as stack:
        if count == 1:
            yield Nodes(name, (stack.enter_context(running(_with(RECIPES["triode"], *options))),))
            return
        peers = tuple(free_port() for _ in range(count))
        nodes = Nodes(name, _start_together(stack, peers, options), peers)
        _wait_until_linked(nodes)
        yield nodes


def _start_together(stack: ExitStack, peers: tuple[int, ...], options: tuple[str, ...]) -> tuple[Server, ...]:
    """All at the same time: the first one would else have claimed every shard before the last one is there."""
    parts = [running(_with(RECIPES["triode"], *_part(index, peers), *options)) for index in range(len(peers))]
    with ThreadPoolExecutor(len(parts)) as pool:
        starting = [pool.submit(part.__enter__) for part in parts]
    for part, started in zip(parts, starting, strict=True):
        if started.exception() is None:
            stack.push(part)
    return tuple(started.result() for started in starting)


@contextmanager
def workers(count: int) -> Iterator[Nodes]:
    """One host's workers behind one port; the parent, which serves nobody, is not counted."""
    recipe = _with(RECIPES["triode"], "--workers", str(count), "--log-format", "json")
    with running(recipe) as parent:
        if count == 1:
            yield Nodes("triode", (parent,))
            return
        deadline = time.monotonic() + _LINK_SECONDS
        while len(children := _children(parent.pid)) < count or parent.said().count('"shard_claimed"') < _SHARDS:
            if time.monotonic() > deadline:
                raise ServerError("the workers did not link up: " + parent.said()[-600:])
            time.sleep(_POLL_SECONDS)
        yield Nodes("triode", tuple(attrs.evolve(parent, pid=pid) for pid in children))


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def node_again(nodes: Nodes, index: int, *options: str) -> "Recipe":
    """What starts one of them anew."""
    return _with(RECIPES["triode"], *_part(index, nodes.peers), *options)


def _with(recipe: Recipe, *options: str) -> Recipe:
    return attrs.evolve(recipe, command=(*recipe.command, *options))


def _part(index: int, peers: tuple[int, ...]) -> list[str]:
    options = ["--node", f"n{index + 1}", "--cluster-listen", f"127.0.0.1:{peers[index]}", "--log-format", "json"]
    for other, port in enumerate(peers):
        if other != index:
            options += ["--seed", f"ws://127.0.0.1:{port}"]
    return options


def _wait_until_linked(nodes: Nodes) -> None:
    deadline = time.monotonic() + _LINK_SECONDS
    while not all(_is_ready(server) for server in nodes.servers) or len(nodes.owners()) < _SHARDS:
        if time.monotonic() > deadline:
            raise ServerError("the nodes did not link up: " + nodes.servers[0].said()[-600:])
        time.sleep(_POLL_SECONDS)


def _is_ready(server: Server) -> bool:
    host, port = server.address
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/readyz", timeout=5) as answer:
            return bool(json.load(answer)["ready"])
    except OSError:
        return False
