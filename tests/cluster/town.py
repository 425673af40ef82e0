"""Whole nodes on one desk: core and cluster of each, and links of which the test says when they carry what.

No event loop. Time is the town's own; frames are encoded when they are put, and carried in order on each link.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from triode_broker.cluster.cluster import Cluster
from triode_broker.cluster.frames import AnyFrame, Frame, decode, encode
from triode_broker.cluster.hello import Identity
from triode_broker.cluster.outside import Outside
from triode_broker.config import Config, Limits, TopicRule
from triode_broker.core.node import Node
from triode_broker.core.policy import Policies
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.log.memory import MemoryLog

from tests.cluster.rig import Lines
from tests.core.desk import Desk
from tests.log.slow_disk import SlowDisk

TICK_MS = 200
SHARDS = 2


class End:
    """One end of a link, as its node sees it."""

    def __init__(self, citizen: "Citizen", peer: Identity, *, is_dialler: bool) -> None:
        self.citizen = citizen
        self.peer = peer
        self.is_dialler = is_dialler
        self.is_open = True
        self.is_full = False
        self.protocol = 1
        self.heard_ms = citizen.steady_ms
        self.drained: Callable[[], None] = lambda: None
        self.queue: deque[bytes] = deque()
        self.other: End

    @property
    def outbox_bytes(self) -> int:
        """What was not carried."""
        return sum(map(len, self.queue))

    def has(self, kind: type[Frame]) -> bool:
        """Both ends are of today."""
        return True

    def put(self, frame: Frame) -> None:
        """Encoded at once."""
        if self.is_open:
            self.queue.append(encode([frame]))

    def close(self, reason: str) -> None:
        """A test fails where a node closes one."""
        raise AssertionError(reason)

    def waiting(self) -> list[AnyFrame]:
        """What was put and not carried."""
        return [frame for data in self.queue for frame in decode(data)]

    def carry_one(self) -> None:
        """The next frame gets there."""
        self.other.citizen.cluster.received(self.other, decode(self.queue.popleft()))  # type: ignore[arg-type]  # what a cluster needs of a link


class Ends:
    """In the place of `Links`."""

    def __init__(self) -> None:
        self.links: list[End] = []
        self.addresses: list[Any] = []

    def restart(self, identity: Identity, reason: str) -> None:
        """A test has cut them before."""
        assert not self.links


class Citizen(Desk):
    """A node of the town."""

    def __init__(self, name: str, town: "Town") -> None:
        self.name = name
        self.town = town
        super().__init__(*town.rules, limits=town.limits, shards=SHARDS)

    def _build(self, disk: SlowDisk | None) -> None:
        self._disk = disk
        source = random.Random(f"{self.name} {self._lives}")
        parts = [Shard(self._new_log(f"m{index}"), self.limits.max_dedupe_bytes) for index in range(SHARDS)]
        self.router = Router(parts, Policies(self._rules), self.limits)
        self.node = Node(self.name, self.router, self.limits, self._next_id, lambda: self.steady_ms)
        config = Config(node=self.name, cluster_listen="127.0.0.1:0", memory_shards=SHARDS, limits=self.limits)
        self.said = Lines()
        outside = Outside(
            new_log=self._new_log,
            log_named=lambda name: MemoryLog(name, self.limits),
            flush=lambda: None,
            now_ms=lambda: self.now_ms,
            steady_ms=lambda: self.steady_ms,
            random_bytes=source.randbytes,
            random_float=source.random,
            log=self.said,
        )
        self.cluster = Cluster(config, self.node, outside, {})
        self.ends = Ends()
        self.cluster.links = self.ends  # type: ignore[assignment]  # what a cluster needs of it

    def _new_log(self, shard: str) -> MemoryLog:
        self._serial += 1
        return MemoryLog(f"{shard}-{self.name}{self._serial}", self.limits)

    def owned(self) -> list[str]:
        """The shards that are here."""
        return [shard.name for shard in self.router.shards if shard.is_here]

    def logs_by_shard(self) -> dict[str, str]:
        """What is known of all."""
        return {shard.name: shard.log.name for shard in self.router.shards}


class Town:
    """Nodes, all linked with all; the first one owns every shard at the beginning."""

    def __init__(self, count: int = 3, *rules: TopicRule, limits: Limits | None = None) -> None:
        self.rules = rules
        self.limits = limits
        self.citizens = [Citizen(f"n{number}", self) for number in range(1, count + 1)]
        self.citizens[0].cluster.tick()
        for index, one in enumerate(self.citizens):
            for other in self.citizens[:index]:
                self.link(one, other)
                self.link(other, one)
        self.carry()
        self.wait(1_000)

    def link(self, one: Citizen, other: Citizen) -> None:
        """`one` dials."""
        asking = End(one, other.cluster.identity, is_dialler=True)
        answering = End(other, one.cluster.identity, is_dialler=False)
        asking.other, answering.other = answering, asking
        for end in (asking, answering):
            end.citizen.ends.links.append(end)
        for end in (asking, answering):
            end.citizen.cluster.opened(end)  # type: ignore[arg-type]  # see `End`

    def cut(self, one: Citizen, other: Citizen) -> None:
        """Everything between the two is lost."""
        for end in [end for end in one.ends.links if end.other.citizen is other]:
            for half in (end, end.other):
                half.is_open = False
                half.queue.clear()
                half.citizen.ends.links.remove(half)
            for half in (end, end.other):
                half.citizen.cluster.closed(half, "cut")  # type: ignore[arg-type]  # see `End`

    def ends(self) -> Iterator[End]:
        """All of them."""
        for citizen in self.citizens:
            yield from citizen.ends.links

    def way(self, one: Citizen, other: Citizen, *, asking: bool) -> End:
        """What one node says to another, on the link that asks or on the one that answers."""
        return next(end for end in one.ends.links if end.other.citizen is other and end.is_dialler == asking)

    def carry(self, *held: End) -> None:
        """Everything that was put, until there is nothing; but for what is held."""
        self.flush()
        while going := [end for end in self.ends() if end.queue and end not in held]:
            for end in going:
                if end.queue:
                    end.carry_one()

    def flush(self) -> None:
        """The end of what clients have done."""
        for citizen in self.citizens:
            citizen.cluster.flush()

    def wait(self, ms: int, *held: End) -> None:
        """Time passes, in ticks; who is linked hears signs of life, held or not."""
        for _ in range(max(ms // TICK_MS, 1)):
            for end in self.ends():
                end.citizen.cluster.membership.heard_from(end.peer.node, end.peer.incarnation)
            for citizen in self.citizens:
                citizen.wait(TICK_MS)
                citizen.router.tick(citizen.now_ms)
                citizen.cluster.tick()
            self.carry(*held)


def data(packets: list[dict[str, Any]]) -> list[Any]:
    """What messages say; fails where there is anything to be told of beside them."""
    told = [packet for packet in packets if packet["type"] in ("gap", "error", "unsubscribed", "catching_up")]
    assert not told, told
    found = [packet.get("message", packet) for packet in packets]
    return [packet["data"] for packet in found if packet["type"] == "message"]
