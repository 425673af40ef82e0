"""Links: dialling, listening and the hello put together; which links there are, and which may come in.

Knows how a link comes to be, not what is said on it: that is the sink's. One exception barrier per connection
stands here, around all of its life (S1). The surprising decision: a node that is known under another
incarnation is refused as long as one of its links is open and was heard of lately, even if the new one is in
the right: two nodes under one name would write two histories, and the old one's links close within seconds of
its death.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import trio
import trio.abc
import trio_websocket
from attrs import define, field
from msgspec.structs import replace

from triode_broker.cluster import carrier as carriers
from triode_broker.cluster.carrier import Carrier, Ended
from triode_broker.cluster.dialling import LINKED, UNREACHABLE, Address, Dialling
from triode_broker.cluster.frames import Heard
from triode_broker.cluster.hello import (
    BAD_HELLO,
    DUPLICATE,
    NAME_TAKEN,
    NONCE_BYTES,
    REASONS,
    SELF,
    WRONG_CERTIFICATE,
    Admit,
    Conversation,
    Dialler,
    HelloRefused,
    Identity,
    Listener,
    Refusal,
    drift,
    refusal,
)
from triode_broker.cluster.link import (
    FAILED,
    GOODBYE_SECONDS,
    MAX_LOGGED_CHARACTERS,
    SUPERSEDED,
    Link,
    LinkSettings,
    Sink,
)
from triode_broker.cluster.listening import AnyListener, is_reachable_from_outside, serve
from triode_broker.cluster.securing import (
    Certificate,
    PeerTls,
    as_refusal,
    certificate_of,
    secure_accepted,
    secure_dialled,
)
from triode_broker.cluster.tcp import take_over
from triode_broker.config import Limits
from triode_broker.printable import escape, shorten

#: From connecting, or from being connected to, until the hello is over.
HELLO_SECONDS: Final = 5.0
#: Connections that have not got through the hello; one more, and the oldest is closed: idle strangers cannot keep
#: out a peer, which is through in milliseconds (S2, S6).
MAX_UNFINISHED: Final = 64
#: A refusal is a warning at most once in so long for each reason; others are debug lines.
WARNING_MS: Final = 1_000
#: This node or that node dialled twice: nobody's mistake.
_QUIET: Final = frozenset({SELF, DUPLICATE})
_RESTARTED: Final = "restarted"  # this node has another incarnation than when the conversation began

#: What a connection may end with before it is a link: gone, refused by HTTP, or nothing of the kind at all.
_ORDINARY: Final = (
    Ended,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio_websocket.HandshakeError,
)

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]


async def connect_tcp(host: str, port: int) -> trio.abc.Stream:
    """The usual way there; trio's sockets send at once (TCP_NODELAY)."""
    return await take_over(await trio.open_tcp_stream(host, port))


def admit_all(peer: Identity, is_dialler: bool) -> Refusal | None:
    """Nobody is refused beyond the rules of the hello."""
    return None


@define(kw_only=True)
class Means:
    """What links take from outside: the world, and who decides."""

    sink: Sink
    limits: Limits
    log: Any
    steady_ms: Callable[[], int]
    random_bytes: Callable[[int], bytes]
    random_float: Callable[[], float]  # in [0, 1)
    heard: Callable[[], dict[str, Heard]]
    secret: bytes = b""  # the same on all nodes; b"": none asked for (only sensible on loopback)
    connect: Connect = connect_tcp
    admit: Admit = admit_all
    tls: PeerTls | None = None  # None: no TLS here, and the system's authorities for wss:// addresses


class Links:
    """All links of a node."""

    def __init__(self, identity: Identity, means: Means) -> None:
        self._identity = identity
        self._means = means
        self._log = means.log
        self._settings = LinkSettings(means.limits, means.steady_ms, self._heard, means.log, self.learn)
        self._open: dict[tuple[str, bool], Link] = {}  # by node and whether this one has dialled
        self._joining: dict[str, _Attempt] = {}  # by node: this side has dialled it and found it welcome
        self._unfinished: dict[_Attempt, None] = {}  # that were accepted, oldest first
        self._warned_ms: dict[str, int] = {}
        self._dialling = Dialling(self._reach, means.random_float, means.log)

    @property
    def identity(self) -> Identity:
        """Who this node says it is."""
        return self._identity

    def restart(self, identity: Identity, reason: str) -> None:
        """Be somebody else from now on (a new incarnation). All links are closed, and dialled anew."""
        self._identity = identity
        for link in self.links:
            link.close(reason)

    @property
    def links(self) -> list[Link]:
        """Those that are open, oldest first."""
        return list(self._open.values())

    @property
    def addresses(self) -> list[Address]:
        """All that is dialled, in the order in which it became known."""
        return self._dialling.addresses

    def introduce(self, identity: Identity) -> None:
        """Say other things of this node to those it meets from now on; it is the same life."""
        self._identity = identity

    def put_seeds(self, urls: Sequence[str]) -> None:
        """Dial these, and of the seeds before only those that are among them."""
        self._dialling.put_seeds(urls)

    def _heard(self) -> dict[str, Heard]:
        """What pings say, and where those are dialled that there is a link with."""
        heard = dict(self._means.heard())
        for link in self._open.values():
            if link.peer.node in heard and link.peer.cluster_advertise:
                heard[link.peer.node] = replace(heard[link.peer.node], url=link.peer.cluster_advertise)
        return heard

    def learn(self, url: str) -> None:
        """A node may be there. What is no URL is passed over."""
        self._dialling.learn(url)

    async def run(
        self,
        listeners: Sequence[AnyListener],
        urls: Sequence[str],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen, and dial `urls` and whatever is learnt, until cancelled. ValueError where one is no URL."""
        for url in urls:
            self._dialling.learn(url, is_seed=True)
        if not self._means.secret and any(is_reachable_from_outside(listener) for listener in listeners):
            self._log.warning("peer_listener_without_secret")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listeners, self.serve_stream, self._log)
            nursery.start_soon(self._dialling.run)
            task_status.started()

    # One connection, from either end

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """A connection that was accepted, to its end. Raises nothing but cancellation."""
        attempt = _Attempt()
        self._unfinished[attempt] = None
        if len(self._unfinished) > MAX_UNFINISHED:
            self._drop(next(iter(self._unfinished)))
        try:
            with trio.move_on_after(HELLO_SECONDS) as attempt.deadline:
                stream = await secure_accepted(stream, self._means.tls)
                attempt.certificate = certificate_of(stream)
                async with carriers.accept(stream, self._means.limits.max_peer_message_bytes) as carrier:
                    await self._converse(carrier, Listener, attempt)
        except* Exception as group:  # noqa: BLE001  # the connection's barrier (S1)
            self._explain(group, attempt)
        finally:
            self._settle(attempt)

    async def _reach(self, address: Address) -> str:
        attempt = _Attempt(address=address)
        try:
            with trio.move_on_after(HELLO_SECONDS) as attempt.deadline:
                stream = await self._means.connect(address.at.host, address.at.port)
                stream = await secure_dialled(stream, address.at, self._means.tls)
                attempt.certificate = certificate_of(stream)
                host = address.url.partition("//")[2]
                async with carriers.dial(stream, host, self._means.limits.max_peer_message_bytes) as carrier:
                    await self._converse(carrier, Dialler, attempt)
        except* Exception as group:  # noqa: BLE001  # the connection's barrier (S1)
            self._explain(group, attempt)
        finally:
            self._settle(attempt)
        return attempt.outcome

    async def _converse(self, carrier: Carrier, side: type[Conversation], attempt: "_Attempt") -> None:
        nonce = self._means.random_bytes(NONCE_BYTES)
        admit = partial(self._admit, attempt)
        conversation = side(self._identity, self._means.secret, nonce, admit)
        try:
            await _greet(carrier, conversation)
            self._check_again(conversation, attempt)
        except HelloRefused as refused:
            await _part(carrier, refused, is_link=conversation.is_done)
            raise
        carrier.trust()
        attempt.deadline.deadline = math.inf
        link = Link(
            carrier,
            conversation.peer,
            conversation.protocol,
            is_dialler=conversation.is_dialler,
            received=self._means.sink.received,
            closed=self._closed,
            settings=self._settings,
        )
        self._add(link, attempt)
        await link.run()

    def _settle(self, attempt: "_Attempt") -> None:
        """The hello is over, or the connection is."""
        self._unfinished.pop(attempt, None)
        if self._joining.get(attempt.node) is attempt:
            del self._joining[attempt.node]
        if attempt.deadline.cancelled_caught:
            self._say_unreachable(attempt, attempt.late)

    def _drop(self, attempt: "_Attempt") -> None:
        """Have it end: others have come that need its place."""
        del self._unfinished[attempt]
        attempt.late = "no link before others came"
        attempt.deadline.cancel()

    # Which links there are

    def _admit(self, attempt: "_Attempt", peer: Identity, is_dialler: bool) -> Refusal | None:
        """Whether a proven node may come in now. One that was dialled has its place from here on."""
        refusal = self._judge(attempt, peer, is_dialler) or self._means.admit(peer, is_dialler)
        if refusal is None and is_dialler:
            attempt.node = peer.node
            self._joining[peer.node] = attempt
        return refusal

    def _judge(self, attempt: "_Attempt", peer: Identity, is_dialler: bool) -> Refusal | None:
        if self._means.tls is not None and not self._means.tls.names(attempt.certificate, peer.cluster, peer.node):
            return Refusal(WRONG_CERTIFICATE, f"the certificate of {peer.node} does not name {peer.node}")
        now_ms = self._means.steady_ms()
        for known in self._links_of(peer.node):
            is_fresh = now_ms - known.heard_ms < self._means.limits.peer_silent_ms
            if is_fresh and known.peer.incarnation != peer.incarnation:
                return Refusal(NAME_TAKEN, f"another node called {peer.node} is alive")
        if not is_dialler:
            return None
        rival = self._open.get((peer.node, True))
        if rival is not None and rival.peer.incarnation == peer.incarnation and attempt.address is not None:
            attempt.address.node, attempt.address.rival = peer.node, rival.over
            return Refusal(DUPLICATE)
        if self._joining.get(peer.node, attempt) is not attempt:
            return Refusal(DUPLICATE)
        return None

    def _check_again(self, conversation: Conversation, attempt: "_Attempt") -> None:
        """While the last messages travelled, others may have come in, or this node may have become another one."""
        if conversation.me is not self._identity:
            raise HelloRefused(_RESTARTED, peer=conversation.peer)
        refusal = self._judge(attempt, conversation.peer, conversation.is_dialler)
        if refusal is not None:
            raise HelloRefused(refusal.reason, refusal.detail, peer=conversation.peer)

    def _links_of(self, node: str) -> list[Link]:
        found = (self._open.get((node, is_dialler)) for is_dialler in (True, False))
        return [link for link in found if link is not None]

    def _add(self, link: Link, attempt: "_Attempt") -> None:
        peer = link.peer
        for known in self._links_of(peer.node):
            if known.is_dialler == link.is_dialler or known.peer.incarnation != peer.incarnation:
                known.close(SUPERSEDED)
        self._open[peer.node, link.is_dialler] = link
        attempt.outcome = LINKED
        if attempt.address is not None:
            attempt.address.node, attempt.address.state = peer.node, LINKED
        self._settle(attempt)
        self._log.info(
            "peer_link_opened",
            node=peer.node,
            incarnation=peer.incarnation,
            dialled=link.is_dialler,
            protocol=link.protocol,
            drift=[_shown(name) for name in drift(self._identity, peer)],
        )
        try:
            self._means.sink.opened(link)
        except Exception:  # noqa: BLE001  # the barrier around the sink
            self._log.error("peer_link_failed", node=peer.node, exc_info=True)
            link.close(FAILED)
        if peer.cluster_advertise:  # the other link of the pair
            self._dialling.learn(peer.cluster_advertise)

    def _closed(self, link: Link, reason: str) -> None:
        del self._open[link.peer.node, link.is_dialler]
        self._log.info(
            "peer_link_closed", node=link.peer.node, dialled=link.is_dialler, reason=reason, detail=link.detail
        )
        self._means.sink.closed(link, reason)

    # What the log says of what came to nothing

    def _explain(self, group: ExceptionGroup[Exception], attempt: "_Attempt") -> None:
        leaves = _leaves(group)
        refused = next(filter(None, map(as_refusal, leaves)), None)
        if refused is not None:
            self._say_refused(attempt, refused)
        elif all(isinstance(leaf, _ORDINARY) for leaf in leaves):
            self._say_unreachable(attempt, _shown(_words(leaves[0])))
        elif self._may_warn("failed"):
            self._log.warning("peer_connection_failed", url=attempt.url, exc_info=group)

    def _say_refused(self, attempt: "_Attempt", refused: HelloRefused) -> None:
        reason = refused.reason
        if refused.is_theirs and (reason not in REASONS or (reason in _QUIET and attempt.address is not None)):
            reason = BAD_HELLO  # that it has dialled itself, or somebody twice, only the dialler can know
        attempt.outcome = reason
        is_quiet = reason in _QUIET or not self._may_warn(reason)
        (self._log.debug if is_quiet else self._log.warning)(
            "peer_refused",
            reason=_shown(refused.reason),
            detail=_shown(refused.detail),
            by="peer" if refused.is_theirs else "this node",
            node=refused.peer.node if refused.peer else "",
            url=attempt.url,
        )

    def _say_unreachable(self, attempt: "_Attempt", why: str) -> None:
        address = attempt.address
        if address is not None and address.state != UNREACHABLE:
            self._log.warning("peer_unreachable", url=address.url, reason=why)
        else:
            self._log.debug("peer_connection_dropped", url=attempt.url, reason=why)

    def _may_warn(self, reason: str) -> bool:
        now_ms = self._means.steady_ms()
        last_ms = self._warned_ms.get(reason)
        if last_ms is not None and now_ms - last_ms < WARNING_MS:
            return False
        self._warned_ms[reason] = now_ms
        return True


@define(eq=False)
class _Attempt:
    """One connection on its way to a link."""

    address: Address | None = None  # that was dialled
    deadline: trio.CancelScope = field(factory=trio.CancelScope)
    outcome: str = UNREACHABLE
    late: str = f"no link after {HELLO_SECONDS:.0f} s"  # why, where it was cancelled
    node: str = ""  # whose place among the joining it has
    certificate: Certificate | None = None  # that the other end has shown; None: no TLS

    @property
    def url(self) -> str:
        return "" if self.address is None else self.address.url


async def _greet(carrier: Carrier, conversation: Conversation) -> None:
    said = conversation.begin()
    if said:
        await carrier.send(said)
    while not conversation.is_done:
        said = conversation.answer(await carrier.receive())
        if said:
            await carrier.send(said)


async def _part(carrier: Carrier, refused: HelloRefused, *, is_link: bool) -> None:
    """Tell the other side why, where it does not know. To it, `is_link`, this may be a link already."""
    with trio.move_on_after(GOODBYE_SECONDS), suppress(Ended):
        if not refused.is_theirs and not is_link:
            await carrier.send(refusal(refused))
        await carrier.close(refused.reason if not refused.is_theirs else "")


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    leaves: list[Exception] = []
    for inner in group.exceptions:
        leaves += _leaves(inner) if isinstance(inner, BaseExceptionGroup) else [inner]
    return leaves


def _words(error: BaseException) -> str:
    """What went wrong, with what was behind it (a certificate, an errno): trio's own errors often say nothing."""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    cause = error.__cause__
    return words if cause is None or isinstance(error, Ended) else f"{words}; {type(cause).__name__}: {cause}"


def _shown(text: str) -> str:
    return shorten(escape(text), MAX_LOGGED_CHARACTERS)
