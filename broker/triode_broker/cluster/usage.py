"""Usage: once a second each node tells the others what users and tenants do on it, so that limits hold for all of
them together (docs/limits.md).

Pure. Knows links and the node's accounts; what follows from what is told is decided there. The surprising
decision: a call that nobody waits for. A node of a build without it answers that it knows none, and is then
a node that tells nothing; no version of the protocol is needed for what is only ever of the last second.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from triode_broker.cluster.frames import Call
from triode_broker.cluster.link import Link
from triode_broker.core.accounts import Accounts, Usage

USAGE: Final = "usage"
#: No question has this number: an answer is nobody's.
NO_ANSWER: Final = 0
#: What a node has told holds for so long.
SILENT_MS: Final = 3_000

_decoder: Final = msgspec.json.Decoder(list[Usage])


class FarUsage:
    """One node's side of it, towards all the others."""

    def __init__(
        self, accounts: Accounts, steady_ms: Callable[[], int], links: Callable[[], Sequence[Link]]
    ) -> None:
        """`links`: one to each node that is reached."""
        self._accounts = accounts
        self._steady_ms = steady_ms
        self._links = links
        self._heard_ms: dict[str, int] = {}  # by node
        self._has_told = False

    def tick(self) -> None:
        """Once a second: tell, and forget whom nobody hears any more."""
        links = self._links()
        usages = self._accounts.report(1 + len(links))
        if usages or self._has_told:  # once more when there is nothing more
            params = msgspec.json.encode(usages)
            for link in links:
                if not link.is_full:
                    link.put(Call(NO_ANSWER, USAGE, params))
        self._has_told = bool(usages)
        too_old_ms = self._steady_ms() - SILENT_MS
        for node in [node for node, heard_ms in self._heard_ms.items() if heard_ms <= too_old_ms]:
            del self._heard_ms[node]
            self._accounts.hear(node, ())
        self._accounts.rise()

    def called(self, link: Link, frame: Call) -> None:
        """Another node tells. Raises msgspec.MsgspecError."""
        usages = _decoder.decode(frame.params)
        self._heard_ms[link.peer.node] = self._steady_ms()
        self._accounts.hear(link.peer.node, usages)
