"""Revoking over nodes: what one has revoked the others hear at once, who was away when it comes back (G10, S19).

Knows links, calls and entries; what an entry does to clients is the keeper's business. On each link the node that
has dialled sends all it knows and asks for all the other one knows; news go on to everybody else. So it needs no
order, and any path between two nodes will do.

The surprising decision: calls instead of frames of its own. A node of a build that does not know them answers so,
and counts as one that has nothing to tell; no version of the protocol is needed for what is said so seldom.

A node that links to another one, for the first time or again, holds its gate until it has heard it: what was
revoked while they were cut off from each other holds before anybody comes in.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import trio
from msgspec import Raw, Struct
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.cluster.calls import BadQuestion, Calls
from triode_broker.cluster.dialling import LINKED, Address
from triode_broker.cluster.hello import DUPLICATE, NAME_TAKEN
from triode_broker.cluster.link import Link
from triode_broker.core.node import Node
from triode_broker.core.revocations import Revocation, TooMany

METHOD: Final = "revocations"
#: Of entries in one call or answer.
CHUNK_BYTES: Final = 262_144
#: Longest time that clients wait for what another node knows.
HOLD_MS: Final = 3_000
#: Until a node that has not answered is asked again.
AGAIN_SECONDS: Final = 1.0
#: Stands for whichever node is the first to tell.
ANYBODY: Final = ""
#: Of an address: it may still come to a link.
_HOPEFUL: Final = frozenset({"", LINKED, DUPLICATE, NAME_TAKEN})

Chunk = list[Raw]


class Keeper(Protocol):
    """What entries do on this node."""

    @property
    def kept(self) -> str:
        """Where they are kept: "disk", "memory" or "failed"."""

    async def take(self, entries: Sequence[Revocation]) -> tuple[list[Revocation], int]:
        """Put them in force. Returns the news among them and how many clients were sent away. Raises TooMany."""


class Held(Protocol):
    """The gate of this node's clients."""

    def hold(self) -> None:
        """Nobody is let in. Idempotent."""

    def release(self) -> None:
        """Whoever may is. Idempotent."""


class Said(Struct):
    """The parameters of METHOD. New fields only with a default."""

    entries: list[Revocation] = []
    after: str | None = None  # what is wanted: entries behind this one, "" = from the first; None: none
    is_last: bool = False  # with this the sender has said all it knows
    node: str = ""  # who that is


class Heard(Struct):
    """The result of METHOD."""

    entries: list[Revocation] = []
    next: str | None = None  # `after` of the next question; None: that was all
    closed: int = 0  # clients that were sent away
    kept: str = ""


class Spreading:
    """One node's side of it, towards all the others."""

    def __init__(self, node: Node, calls: Calls, log: Any) -> None:
        self.keeper: Keeper | None = None  # until it is there, nothing is told or taken
        self.gate: Held | None = None
        self._node = node.name
        self._table = node.revocations
        self._steady_ms = node.steady_ms
        self._calls = calls
        self._log = log
        self._nursery: trio.Nursery | None = None
        self._open: dict[Link, None] = {}
        self._met: dict[str, None] = {}  # nodes that have told all, since there is a link to them
        self._waits: dict[str, int] = {}  # clients do, until this node has told, or until then; ANYBODY: the first
        self._silent: dict[str, None] = {}  # nodes that were waited for in vain: not again, until they have told
        calls.methods[METHOD] = self.answer

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Talk to others until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # Holding

    def hold(self, node: str = ANYBODY) -> None:
        """Nobody comes in until that node has told what it knows, or HOLD_MS have passed."""
        if self.gate is not None and node not in self._silent:
            self._waits[node] = self._steady_ms() + HOLD_MS
            self.gate.hold()

    def go_on_without(self, node: str = ANYBODY) -> None:
        """Nobody waits for it any more."""
        if self._waits.pop(node, None) is not None and not self._waits and self.gate is not None:
            self.gate.release()

    @property
    def is_holding(self) -> bool:
        """Whether clients wait."""
        return bool(self._waits)

    def tick(self, addresses: Sequence[Address]) -> None:
        """Several times a second. `addresses`: all that is dialled; where that is in vain nobody is waited for."""
        if all(address.state not in _HOPEFUL for address in addresses):
            self.go_on_without()
        now_ms = self._steady_ms()
        for node in [node for node, until_ms in self._waits.items() if until_ms <= now_ms]:
            self._log.warning("revocations_not_heard", node=node, waited_ms=HOLD_MS)
            if node != ANYBODY:
                self._silent[node] = None
            self.go_on_without(node)

    # Links

    def opened(self, link: Link) -> None:
        """It may know what this node does not."""
        if self._nursery is None or self.keeper is None:
            return
        self._open[link] = None
        if link.peer.node not in self._met:
            self.hold(link.peer.node)
        if link.is_dialler:
            self._nursery.start_soon(self._meet, link)

    def closed(self, link: Link) -> None:
        """It is gone."""
        self._open.pop(link, None)
        node = link.peer.node
        if not any(other.peer.node == node for other in self._open):
            self._met.pop(node, None)
            self.go_on_without(node)

    async def _meet(self, link: Link) -> None:
        """Tell it all, hear it all; again until that has worked or the link is gone."""
        while link.is_open:
            try:
                await self._exchange(link)
            except BadQuestion:  # a build that knows nothing of it
                pass
            except Refused as refused:
                self._log.info("revocations_not_exchanged", node=link.peer.node, reason=refused.message)
                await trio.sleep(AGAIN_SECONDS)
                continue
            self._has_told(link.peer.node)
            return

    def _has_told(self, node: str) -> None:
        """Another node has told all it knows."""
        self._silent.pop(node, None)
        if any(other.peer.node == node for other in self._open):
            self._met[node] = None
        self.go_on_without(node)
        self.go_on_without()

    async def _exchange(self, link: Link) -> None:
        """Raises Refused, BadQuestion."""
        chunks = list(_chunks(self._table.all())) or [([], None)]
        after: str | None = ""
        while chunks or after is not None:
            entries, _ = chunks.pop(0) if chunks else ([], None)
            heard = await self._ask(link, entries, after, is_last=not chunks)
            after = heard.next
            await self._take(heard.entries, link.peer.node)

    async def _ask(self, link: Link, entries: Chunk, after: str | None, *, is_last: bool) -> Heard:
        said = {"entries": entries, "after": after, "is_last": is_last, "node": self._node}
        return msgspec.convert(await self._calls.ask(link, METHOD, said), Heard)

    # News

    async def answer(self, parameters: Mapping[str, Any]) -> object:
        """`Calls.methods`. Raises Refused, msgspec.ValidationError."""
        said = msgspec.convert(parameters, Said)
        if self.keeper is None:
            raise Refused(ErrorName.UNAVAILABLE, "this node is starting")
        closed = await self._take(said.entries, said.node)
        if said.is_last:
            self._has_told(said.node)
        entries: Chunk = []
        next: str | None = None
        if said.after is not None:
            entries, next = next_chunk(self._table.all(), said.after)
        return {"entries": entries, "next": next, "closed": closed, "kept": self.keeper.kept}

    async def _take(self, entries: Sequence[Revocation], source: str = "") -> int:
        """From another node; what is news goes on. Raises Refused."""
        if not entries or self.keeper is None:
            return 0
        try:
            news, closed = await self.keeper.take(entries)
        except TooMany as error:
            self._log.error("revocations_refused", node=source, reason=str(error))
            raise Refused(ErrorName.QUOTA, str(error)) from None
        if news and self._nursery is not None:
            for node, link in {link.peer.node: link for link in self._open}.items():  # one to each
                if node != source:
                    self._nursery.start_soon(self._pass_on, link, news)
        return closed

    async def _pass_on(self, link: Link, news: Sequence[Revocation]) -> None:
        """What does not get there on this link will on the next one."""
        try:
            for entries, _ in _chunks(news):
                await self._ask(link, entries, None, is_last=False)
        except (Refused, BadQuestion) as error:
            self._log.info("revocations_not_told", node=link.peer.node, reason=str(error))


def next_chunk(entries: Sequence[Revocation], after: str) -> tuple[Chunk, str | None]:
    """Those behind a place, as many as fit into one message, and where to go on."""
    return next(_chunks([entry for entry in entries if place(entry) > after]), ([], None))


def place(entry: Revocation) -> str:
    """Where it stands in the order in which entries are told."""
    return "\0".join(entry.key)


def _chunks(entries: Sequence[Revocation]) -> Iterator[tuple[Chunk, str | None]]:
    """In pieces; with each where the next one begins, None behind the last."""
    chunk: Chunk = []
    size = 0
    for number, entry in enumerate(sorted(entries, key=place)):
        encoded = msgspec.json.encode(entry)
        chunk.append(Raw(encoded))
        size += len(encoded)
        if size >= CHUNK_BYTES and number + 1 < len(entries):
            yield chunk, place(entry)
            chunk, size = [], 0
    if chunk:
        yield chunk, None
