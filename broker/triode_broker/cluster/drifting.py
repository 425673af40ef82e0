"""Drifting: which settings, of those that all nodes should have alike, are others on other nodes.

Knows digests by name, never settings. A hello says them; a node that has read its settings again tells them anew
on the links that there are. The surprising decision: nothing is refused, and nothing evened out. While a changed
file goes round, nodes differ, and only an operator knows which of them is right; so it is said once in the log,
and where another answer to the same client depends on it (`MATTERS`) in health.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from triode_broker.cluster.frames import Call
from triode_broker.cluster.hello import Identity, Word, configuration, drift
from triode_broker.cluster.link import Link
from triode_broker.cluster.usage import NO_ANSWER
from triode_broker.config import Config
from triode_broker.config.digest import digest

#: What a node tells the others when its settings have changed.
CONFIGURATION: Final = "configuration"
#: Where nodes that differ let in other clients, or keep other messages: then health is degraded.
MATTERS: Final = frozenset({"auth", "permissions", "tokens", "topics"})
#: Settings that are told of: more than this program has.
MAX_TOLD: Final = 64

_decoder: Final = msgspec.json.Decoder(Annotated[dict[Word, Word], Meta(max_length=MAX_TOLD)])


class Drifting:
    """One node's view of all the others."""

    def __init__(self, identity: Callable[[], Identity], links: Callable[[], Sequence[Link]], log: Any) -> None:
        """`identity`: this node's; `links`: all that are open."""
        self._identity = identity
        self._links = links
        self._log = log
        self._warned: dict[str, list[str]] = {}  # by node
        self.digest = ""  # of all that nodes should have alike

    def note(self, config: Config) -> dict[str, str]:
        """This node's settings, as they are compared with those of others; their digests by name."""
        self.digest = digest(config)
        return configuration(config)

    def tell(self, links: Sequence[Link]) -> None:
        """This node's settings have changed; `links`: one to each node that is reached."""
        params = msgspec.json.encode(self._identity().configuration)
        for link in links:
            link.put(Call(NO_ANSWER, CONFIGURATION, params))
        self.look()

    def called(self, link: Link, frame: Call) -> None:
        """Another node's have. Raises msgspec.MsgspecError."""
        configuration = _decoder.decode(frame.params)
        for known in self._links():
            if (known.peer.node, known.peer.incarnation) == (link.peer.node, link.peer.incarnation):
                known.peer = replace(known.peer, configuration=configuration)
        self.look()

    def look(self) -> None:
        """Say once what differs, for each node and each set of names."""
        found = self._found()
        for node, names in found.items():
            if names and self._warned.get(node) != names:
                self._log.warning("settings_differ", node=node, settings=names)
        self._warned = found

    def complaints(self) -> list[str]:
        """What of it an operator should know, in words."""
        found = {node: [name for name in names if name in MATTERS] for node, names in self._found().items()}
        return [f"node {node} has other settings: {', '.join(names)}" for node, names in found.items() if names]

    def _found(self) -> dict[str, list[str]]:
        """By node. Another program may say less of itself: what it does not say is no drift."""
        me = self._identity()
        found: dict[str, list[str]] = {}
        for link in self._links():
            told = link.peer.configuration
            names = [name for name in drift(me, link.peer) if name in told and name in me.configuration]
            found[link.peer.node] = names
        return found
