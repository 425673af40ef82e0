"""Cluster: one node's part in it. Joins the pieces of this package to the node's core; it alone knows them all.

What a frame means is decided where HANDLERS sends it; what is decided here is who is told of what: a link that
opens or closes, an entry of the table that changes, a tick. Everything is synchronous but `run`. Every turn ends
with `flush`: what forwarders, streams and interests gathered in it goes out in few frames.

The surprising decision: a shard that is owned elsewhere is nothing special to the rest of the node. It has a log
(a `Mirror`) and somebody who takes its publishes (a `Forwarder`); this module exchanges the two, and nobody else
asks where a shard is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio
from msgspec.structs import replace

from triode_broker.cluster.accepting import Accepting
from triode_broker.cluster.addresses import parse_peer_url
from triode_broker.cluster.calls import Calls
from triode_broker.cluster.drifting import CONFIGURATION, Drifting
from triode_broker.cluster.following import Following
from triode_broker.cluster.forwarding import Forwarder
from triode_broker.cluster.frames import (
    Answered,
    AnyFrame,
    Call,
    Entry,
    Forward,
    Frame,
    HandedOver,
    HandOver,
    Leave,
    Ping,
    Pong,
    Reply,
    Table,
)
from triode_broker.cluster.giving import Giving
from triode_broker.cluster.hello import (
    INCARNATION_BYTES,
    NAME_TAKEN,
    Identity,
    Refusal,
    make_identity,
)
from triode_broker.cluster.homes import FRAMES as HOME_FRAMES
from triode_broker.cluster.homes import Homes
from triode_broker.cluster.interest import Interests
from triode_broker.cluster.link import STOPPED, Link
from triode_broker.cluster.links import Links, Means
from triode_broker.cluster.listening import AnyListener
from triode_broker.cluster.membership import Membership
from triode_broker.cluster.outside import Dirty, Outside
from triode_broker.cluster.owner import HANDLERS as OWNER_HANDLERS
from triode_broker.cluster.ownership import Ownership
from triode_broker.cluster.presence import HANDLERS as PRESENCE_HANDLERS
from triode_broker.cluster.presence import METHODS as PRESENCE_METHODS
from triode_broker.cluster.presence import FarPresence
from triode_broker.cluster.revoking import Spreading
from triode_broker.cluster.seeding import Seeding
from triode_broker.cluster.serving import HANDLERS as SERVING_HANDLERS
from triode_broker.cluster.serving import Serving
from triode_broker.cluster.status import METHOD as STATUS_METHOD
from triode_broker.cluster.status import complaints, is_outcast, own_view
from triode_broker.cluster.table import Table as ShardTable
from triode_broker.cluster.taking import Taking
from triode_broker.cluster.tracing import TRACE, FarTracing
from triode_broker.cluster.usage import USAGE, FarUsage
from triode_broker.cluster.withholding import Withholding
from triode_broker.config import Config
from triode_broker.core.interfaces import DurableLog, Log
from triode_broker.core.node import Node
from triode_broker.core.nowhere import Nowhere
from triode_broker.core.shard import Shard

TICK_SECONDS: Final = 0.2
#: Ticks between two looks at what need not be exact: marks, drops of interest.
TICKS_A_SECOND: Final = 5
SLEPT: Final = "slept"


class Cluster:
    """Built before its node has clients; `run` until cancelled. A `link.Sink` and `ownership.Actions`."""

    def __init__(
        self, config: Config, node: Node, outside: Outside, durable: Mapping[str, tuple[int, str]]
    ) -> None:
        """`durable`: epoch and log of each durable shard whose file is open here."""
        self._config, self._outside, self._log = config, outside, outside.log
        self.node, self._router = node, node.router
        self.dirty = Dirty()
        self._rung = trio.Event()
        self.dirty.ring = self._ring
        limits, steady_ms = config.limits, outside.steady_ms
        self.drifting = Drifting(lambda: self.identity, lambda: self.links.links, self._log)
        self.identity = self._identify(self._new_incarnation(), outside.urls)
        self.membership = Membership(config.node, self.identity.incarnation, steady_ms, limits)
        holders = config.durable or (config.node,) * (config.durable_shards if config.data else 0)
        self.table = ShardTable(config.memory_shards, holders)
        self.ownership = Ownership(
            self.table,
            self.membership,
            self,
            steady_ms,
            durable=durable,
            seeds=[parse_peer_url(seed).url for seed in config.seeds],
            creates_stores=config.create_store,
        )
        self.interests = Interests(self._router.shard_of, steady_ms, self.dirty)
        self.serving = Serving(self._router, outside.now_ms, self.dirty)
        self.accepting = Accepting(self._router, outside.now_ms, self.dirty)
        self.calls = Calls({STATUS_METHOD: self._tell_status}, self._log)
        self.following = Following(node, self.table, self.membership, self.interests, steady_ms, self._log)
        self.owners, self.forwarders = self.following.owners, self.following.forwarders
        self.homes = node.homes = Homes(node, self.following.owner_link, outside.now_ms, self.dirty)
        self.presence = FarPresence(node, limits, steady_ms, self.membership.live)
        self.usage = FarUsage(node.rates.accounts, steady_ms, self.asking_links)
        self._called: dict[str, Callable[[Link, Call], None]]
        self._called = dict.fromkeys(PRESENCE_METHODS, self.presence.called)
        self.tracing = node.tracing.elsewhere = FarTracing(node.tracing, self.ownership.owner, self.asking_links)
        self._called |= {USAGE: self.usage.called, TRACE: self.tracing.called, CONFIGURATION: self.drifting.called}
        self.revoking = Spreading(node, self.calls, self._log)
        self.giving = Giving(self._router, self.ownership, self.asking_links, self._log)
        self.taking = Taking(
            node, self.ownership, self.following, outside.log_named, outside.now_ms, steady_ms, self._log
        )
        self._withholding = Withholding(self._router, self.ownership, self._log)
        self._stores = self._withholding.stores
        self._ticks = 0
        self.links = self._make_links()
        self._seeding = Seeding(self.links, self.ownership)
        self._router.coverage = self.interests
        for shard in self._router.shards:
            self._begin(shard)

    def _make_links(self) -> Links:
        outside = self._outside
        return Links(
            self.identity,
            Means(
                sink=self,
                limits=self._config.limits,
                log=self._log,
                steady_ms=outside.steady_ms,
                random_bytes=outside.random_bytes,
                random_float=outside.random_float,
                heard=self.membership.report,
                secret=outside.secret,
                tls=outside.tls,
                connect=outside.connect,
                admit=self._admit,
            ),
        )

    def _begin(self, shard: Shard) -> None:
        forwarder = self.forwarders[shard.name] = Forwarder(
            shard.name, self._config.limits, self._outside.steady_ms, self.dirty
        )
        if shard.is_here and shard.acceptor is not None:
            self._stores[shard.name] = shard.acceptor
            return
        shard.begin(Nowhere("disk" if shard.name in self.table.holders else "memory"))
        shard.is_here = shard.is_reachable = False
        shard.acceptor = forwarder

    def _identify(self, incarnation: str, urls: Mapping[str, str]) -> Identity:
        me = make_identity(self._config, incarnation, self._outside.version, urls)
        return replace(me, configuration=self.drifting.note(self._outside.shared(self._config)))

    def _new_incarnation(self) -> str:
        return self._outside.random_bytes(INCARNATION_BYTES).hex()

    # Running

    async def run(
        self, listeners: Sequence[AnyListener], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Link to others and take part, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.calls.run)
            await nursery.start(self.revoking.run)
            await nursery.start(self.links.run, listeners, self._config.seeds)
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._keep_flushing)
            task_status.started()

    async def _keep_time(self) -> None:
        while True:
            self._guarded(self.tick)
            await trio.sleep(TICK_SECONDS)

    async def _keep_flushing(self) -> None:
        while True:
            await self._rung.wait()
            self._rung = trio.Event()
            self._guarded(self.flush)

    def _guarded(self, call: Callable[[], None]) -> None:
        """The barrier of what no link is to blame for."""
        try:
            call()
        except Exception:  # noqa: BLE001  # a bug: logged once with its traceback, the node goes on
            self._log.exception("cluster_failed")

    def _ring(self) -> None:
        self._rung.set()

    def flush(self) -> None:
        """Put what was gathered in this turn on the links."""
        while self.dirty:
            dirty = list(self.dirty)
            self.dirty.clear()
            for one in dirty:
                self._guarded(one.flush)  # or the others would never be flushed again

    def tick(self) -> None:
        """What time brings; several times a second."""
        self._seeding.hear()
        self.ownership.is_outcast = is_outcast(self)
        for dead, incarnation in self.ownership.tick():
            self.presence.node_gone(dead, incarnation)
        self._withholding.check_suspended()
        for forwarder in self.forwarders.values():
            forwarder.tick()
        for part in (self.interests, self.homes, self.presence):
            part.tick()
        self.revoking.tick(self.links.addresses)
        self.following.look_for_lost()
        self.taking.tick()
        self.giving.tick()
        self._ticks += 1
        if self._ticks % TICKS_A_SECOND == 0:
            self.serving.tick()
            self.usage.tick()
            self.accepting.forget_but(self.membership.lingering())
            for owner in self.owners.values():
                owner.tick()
        self._end_turn()

    def _end_turn(self) -> None:
        self.flush()
        self._guarded(self._outside.flush)

    def check_awake(self) -> None:
        """Before clients are served: after a sleep others may have claimed shards of this node."""
        if self.ownership.is_late():
            self.tick()

    # Leaving

    def leave(self) -> None:
        """This node is going: tell the others, and hand over what they can go on with. Idempotent."""
        self.check_awake()  # only what is surely this node's can be given
        if not self.giving.is_begun:
            self._tell_all(Leave())
            self.giving.begin()
            self._end_turn()

    # Links (`link.Sink`)

    def _admit(self, peer: Identity, is_dialler: bool) -> Refusal | None:
        if self.membership.admits(peer.node, peer.incarnation):
            return None
        return Refusal(NAME_TAKEN, f"another node called {peer.node} is alive")

    def opened(self, link: Link) -> None:
        """A link is open: exchange tables, and take up what was going on."""
        node, incarnation = link.peer.node, link.peer.incarnation
        self.membership.link_opened(node, incarnation)
        link.put(Table(self.table.entries()))
        if self.giving.is_begun:
            link.put(Leave())
        self.presence.opened(link)
        self.revoking.opened(link)
        self.drifting.look()
        if link.is_dialler:
            self.following.link_opened(link)
            self.giving.opened(link)
        else:
            self.serving.opened(link, node)
        self._end_turn()

    def closed(self, link: Link, reason: str) -> None:
        """A link is gone."""
        self.membership.link_closed(link.peer.node, link.peer.incarnation)
        self.calls.closed(link)
        self.homes.closed(link, is_ending=reason == STOPPED)
        self.presence.closed(link)
        self.tracing.closed(link)
        self.revoking.closed(link)
        if link.is_dialler:
            self.following.link_closed(link)
            self.giving.closed(link)
        else:
            self.serving.closed(link)
        self._end_turn()

    def received(self, link: Link, frames: list[AnyFrame]) -> None:
        """What a peer says. Not what it said while this node slept: the links of before are closed then."""
        self.check_awake()
        self.membership.heard_from(link.peer.node, link.peer.incarnation)
        for frame in frames:
            if link.is_open:
                HANDLERS[type(frame)](self, link, frame)
        self._end_turn()

    def _take_ping(self, link: Link, frame: Ping) -> None:
        self.membership.heard_of(link.peer.node, frame.heard)

    def _take_table(self, link: Link, frame: Table) -> None:
        self.ownership.received(link.peer.node, link.peer.incarnation, frame.entries)
        self._withholding.check_suspended()
        self.giving.tick()

    def _take_leave(self, link: Link, frame: Leave) -> None:
        self.membership.take_leave(link.peer.node, link.peer.incarnation)

    def _take_over(self, link: Link, frame: HandOver) -> None:
        _expect(not link.is_dialler)
        self.taking.received(link, frame)

    def _take_handed(self, link: Link, frame: HandedOver) -> None:
        _expect(link.is_dialler)
        self.giving.received(link, frame)

    def _take_forward(self, link: Link, frame: Forward) -> None:
        _expect(not link.is_dialler)
        self.accepting.receive(link, link.peer.incarnation, frame)

    def _take_answered(self, link: Link, frame: Answered) -> None:
        _expect(link.is_dialler and frame.shard in self.forwarders)
        self.forwarders[frame.shard].answered(link, frame)
        self.taking.tick()

    def _take_call(self, link: Link, frame: Call) -> None:
        self._called.get(frame.method, self.calls.called)(link, frame)

    def _take_reply(self, link: Link, frame: Reply) -> None:
        if frame.id < 0:
            self.presence.replied(link, frame)
        else:
            self.calls.replied(link, frame)

    def _take_of_presence(self, link: Link, frame: Frame) -> None:
        PRESENCE_HANDLERS[type(frame)](self.presence, link, frame)

    def asking_links(self) -> list[Link]:
        """One link to every node that is reached, in order of names."""
        return sorted(self._links(is_dialler=True), key=lambda link: link.peer.node)

    def link_to(self, node: str) -> Link | None:
        """The link that asks this node."""
        return next((link for link in self.asking_links() if link.peer.node == node), None)

    def _take_of_homes(self, link: Link, frame: Frame) -> None:
        self.homes.received(link, frame, is_home=not link.is_dialler)

    def _take_of_owner(self, link: Link, frame: Frame) -> None:
        _expect(link.is_dialler)
        self.following.owner(link.peer.node).received(link, frame)

    def _take_of_asker(self, link: Link, frame: Frame) -> None:
        _expect(not link.is_dialler)
        self.serving.received(link, frame)

    def _pass_over(self, link: Link, frame: Frame) -> None:
        """The link has seen it."""

    # Owning (`ownership.Actions`)

    def own(self, shard: str, epoch: int) -> str:
        """This node has claimed a memory shard."""
        log = self._outside.new_log(shard)
        self._log.info("shard_claimed", shard=shard, epoch=epoch, log=log.name)
        self._own(self._shard(shard), log)
        return log.name

    def _own(self, shard: Shard, log: Log) -> None:
        self._router.own(shard, log)
        self.following.owned(shard)
        self.forwarders[shard.name].own(self._router.publish, self._outside.now_ms())

    def seal(self, shard: str) -> None:
        """Another node has claimed it, or is to."""
        self._log.warning("shard_sealed", shard=shard)
        self._router.disown(self._shard(shard), self.forwarders[shard])

    def announce(self, entries: list[Entry]) -> None:
        """Tell everybody."""
        self._tell_all(Table(entries))

    def _tell_all(self, frame: Frame) -> None:
        told: dict[str, None] = {}
        for link in [*self._links(is_dialler=True), *self._links(is_dialler=False)]:
            if link.peer.node not in told:
                told[link.peer.node] = None
                link.put(frame)

    def _links(self, *, is_dialler: bool) -> list[Link]:
        return [link for link in self.links.links if link.is_dialler is is_dialler]

    def changed(self, entry: Entry) -> None:
        """The table says something new about a shard."""
        self.following.entries[entry.shard] = entry
        shard = self._shard(entry.shard)
        if entry.shard in self._stores:
            self._withholding.give_or_withhold(shard, entry)
        elif entry.heir or not entry.log or not self.following.is_mine(entry):  # else it is owned here already
            self.following.changed(shard, entry)

    def orphaned(self, shard: str) -> None:
        """Its owner is dead: publishes are refused until somebody has claimed it."""
        self.following.orphaned(shard)

    def open_store(self, shard: str, store: DurableLog, epoch: int) -> None:
        """A durable shard's file was made here, after the start."""
        held = self._shard(shard)
        self._router.own_store(held, store)
        assert held.acceptor is not None
        self._stores[shard] = held.acceptor
        self.ownership.opened(shard, epoch, store.name)
        self._end_turn()

    def woke_late(self) -> None:
        """This process has slept for so long that others may have found it dead: it begins anew (cluster.md)."""
        self._log.warning("slept_too_long")
        self.revoking.hold()
        self.identity = replace(self.identity, incarnation=self._new_incarnation())
        self.links.restart(self.identity, SLEPT)
        self.accepting.restart()
        for forwarder in self.forwarders.values():
            forwarder.restart()
        self.ownership.renew(self.identity.incarnation)

    def _shard(self, name: str) -> Shard:
        shard = self._router.shard_named(name)
        assert shard is not None, "the table knows the shards of the configuration"
        return shard

    # What is told of it

    async def _tell_status(self, parameters: Mapping[str, Any]) -> object:
        return own_view(self)

    def introduce(self, urls: Mapping[str, str]) -> None:
        """Where this node listens, known only now: told to others where its settings say nothing. Before `run`."""
        self.identity = self._identify(self.identity.incarnation, urls)
        self.links.restart(self.identity, "introduced")

    def reconfigure(self, config: Config) -> None:
        """The node's settings are these from now on. No link is closed."""
        if config.seeds != self._config.seeds:
            self._seeding.put(config.seeds)
        self._config = config
        told = self.drifting.note(self._outside.shared(config))
        if told != self.identity.configuration:
            self.identity = replace(self.identity, configuration=told)
            self.links.introduce(self.identity)
            self.drifting.tell(self.asking_links())

    def ownerless(self) -> list[str]:
        """Shards in memory that nobody is known to own: as at the start of a cluster."""
        return [shard for shard in self.table.memory if self.ownership.owner(shard) is None]

    def other_urls(self) -> list[str]:
        """Where clients reach linked nodes: those behind a proxy share its URL, but that of workers leads back."""
        own = self._config.advertise if self._config.workers > 1 else ""
        urls = (link.peer.advertise for link in self.links.links)
        return list(dict.fromkeys(url for url in urls if url not in ("", own)))

    def degraded(self) -> list[str]:
        """What an operator should know, in words."""
        return [*complaints(self), *self.drifting.complaints()]


def _expect(is_so: bool) -> None:
    """Raises ValueError for a frame that has no place on this link: it is then closed."""
    if not is_so:
        raise ValueError("a frame of the other role")


HANDLERS: Final[dict[type[Frame], Callable[[Cluster, Link, Any], None]]] = {
    Ping: Cluster._take_ping,
    Pong: Cluster._pass_over,
    Table: Cluster._take_table,
    Forward: Cluster._take_forward,
    Call: Cluster._take_call,
    Reply: Cluster._take_reply,
    Leave: Cluster._take_leave,
    HandOver: Cluster._take_over,
    HandedOver: Cluster._take_handed,
    Answered: Cluster._take_answered,
    **dict.fromkeys(HOME_FRAMES, Cluster._take_of_homes),
    **dict.fromkeys(OWNER_HANDLERS, Cluster._take_of_owner),
    **dict.fromkeys(SERVING_HANDLERS, Cluster._take_of_asker),
    **dict.fromkeys(PRESENCE_HANDLERS, Cluster._take_of_presence),
}
