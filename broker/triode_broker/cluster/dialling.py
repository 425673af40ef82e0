"""Dialling: for every known address of another node one task that keeps a link to it, or keeps trying.

Knows addresses and pauses; what a link is, and why one came to nothing, it is told in a word. The surprising
decision: an address that leads to a node which is linked under another one is not forgotten but waits for the
end of that link: it may be the only one that is left when the node comes back.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio
from attrs import define, field

from triode_broker.cluster.addresses import PeerAddress, parse_peer_url
from triode_broker.cluster.hello import DUPLICATE, NAME_TAKEN, REASONS, SELF

#: Learnt from peers; more are passed over.
MAX_LEARNT: Final = 256
#: A learnt address that has led to nothing for so long is forgotten; a seed never is.
FORGET_SECONDS: Final = 600.0
#: Full jitter: the n-th pause, from 0, lies between 0 and MIN × 2^n, at most MAX. The most is below the 3 s after
#: which a node whose links are closed is dead.
MIN_PAUSE_SECONDS: Final = 0.1
MAX_PAUSE_SECONDS: Final = 2.0
#: Between attempts at a node that has refused, or was refused for, something that only its settings can change.
REFUSED_PAUSE_SECONDS: Final = (5.0, 10.0)
#: A link that lived for less does not make the next pause a short one.
STEADY_SECONDS: Final = 1.0
_MAX_DOUBLINGS: Final = 5

# What came of an attempt, beside the reasons of a refusal
LINKED: Final = "linked"  # there was a link; it is over
UNREACHABLE: Final = "unreachable"
#: That the other node is this one, or linked already, is nobody's refusal.
_REFUSALS: Final = REASONS - {SELF, DUPLICATE}
_NOT_PATIENT: Final = frozenset({LINKED, UNREACHABLE, NAME_TAKEN, DUPLICATE})


@define(eq=False)
class Address:
    """Where a node may be, and what came of trying."""

    at: PeerAddress
    is_seed: bool
    node: str = ""  # that was last found there
    state: str = ""  # "linked", or what came of the last attempt: shown, and said in the log when it changes
    rival: trio.Event | None = None  # set when the link under another address, to the same node, is over
    useful_at: float = field(factory=trio.current_time)  # trio's clock
    is_dropped: bool = False  # no seed any more: not dialled again once the link that there may be is over
    attempts: int = 0  # that failed, since a link held

    @property
    def url(self) -> str:
        """As it is known by."""
        return self.at.url

    @property
    def refusal(self) -> str:
        """Why this node and the one there do not go together, by the last attempt; "": not known."""
        return self.state if self.state in _REFUSALS else ""


class Dialling:
    """All addresses. `reach(address)` tries one, stays while there is a link, and says what came of it."""

    def __init__(
        self, reach: Callable[[Address], Awaitable[str]], random_float: Callable[[], float], log: Any
    ) -> None:
        self._reach = reach
        self._random_float = random_float  # in [0, 1)
        self._log = log
        self._addresses: dict[str, Address] = {}
        self._nursery: trio.Nursery | None = None

    @property
    def addresses(self) -> list[Address]:
        """In the order in which they became known."""
        return list(self._addresses.values())

    def learn(self, url: str, *, is_seed: bool = False) -> None:
        """Dial there too from now on. What is no URL is passed over; a seed that is none raises ValueError."""
        try:
            at = parse_peer_url(url)
        except ValueError:
            if is_seed:
                raise
            self._log.debug("peer_url_ignored", length=len(url))
            return
        if (known := self._addresses.get(at.url)) is not None:
            known.is_seed |= is_seed
            known.is_dropped &= not is_seed
            return
        if not is_seed and sum(not known.is_seed for known in self._addresses.values()) >= MAX_LEARNT:
            self._log.debug("peer_url_ignored", url=at.url)
            return
        address = self._addresses[at.url] = Address(at, is_seed)
        if self._nursery is not None:
            self._nursery.start_soon(self._keep, address)

    def put_seeds(self, urls: Sequence[str]) -> None:
        """These are the seeds from now on. ValueError where one is no URL."""
        wanted = {parse_peer_url(url).url for url in urls}
        for address in self._addresses.values():
            if address.is_seed and address.url not in wanted:
                address.is_seed, address.is_dropped = False, True
        for url in urls:
            self.learn(url, is_seed=True)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for address in self.addresses:
                nursery.start_soon(self._keep, address)
            await trio.sleep_forever()

    async def _keep(self, address: Address) -> None:
        while True:
            if address.is_dropped:
                del self._addresses[address.url]
                return
            began = trio.current_time()
            outcome = await self._reach(address)
            now = trio.current_time()
            if outcome == LINKED:
                address.useful_at = now
                if now - began >= STEADY_SECONDS:
                    address.attempts = 0
            address.state = outcome
            if outcome == SELF:  # stays known, so that it is not learnt again
                return
            if outcome == DUPLICATE and address.rival is not None:
                await address.rival.wait()
                address.rival, address.attempts, address.useful_at = None, 0, trio.current_time()
            elif not address.is_seed and now - address.useful_at > FORGET_SECONDS:
                del self._addresses[address.url]
                return
            await trio.sleep(self._pause(address, outcome))

    def _pause(self, address: Address, outcome: str) -> float:
        if outcome not in _NOT_PATIENT:
            least, most = REFUSED_PAUSE_SECONDS
            return least + self._random_float() * (most - least)
        ceiling = min(MAX_PAUSE_SECONDS, MIN_PAUSE_SECONDS * (1 << min(address.attempts, _MAX_DOUBLINGS)))
        address.attempts += 1
        return self._random_float() * ceiling
