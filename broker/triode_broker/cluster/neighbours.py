"""Neighbours: who the other nodes are for those who administer names through this one (`admin.elsewhere.Others`).

Knows the cluster, its table and its calls; nothing of what is asked.
"""

from collections.abc import Mapping
from typing import Any, Final

from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.cluster.calls import BadQuestion
from triode_broker.cluster.cluster import Cluster
from triode_broker.core.router import Router

#: Longest wait for what an operator asks of another node: longer than that one waits for its store.
ADMIN_SECONDS: Final = 25.0


class Neighbours:
    """The other nodes of a cluster."""

    def __init__(self, cluster: Cluster, router: Router) -> None:
        self._cluster = cluster
        self._router = router

    def home_of(self, name: str) -> str:
        """The node that is the home of a name. Raises Refused where nobody knows."""
        shard = self._router.home_of(name)
        if shard.is_here:
            return self._cluster.identity.node
        entry = self._cluster.ownership.owner(shard.name)
        if entry is None:
            raise Refused(ErrorName.UNAVAILABLE, f"nobody is known to own shard {shard.name}, the home of {name}")
        return entry.node

    async def ask(self, node: str, method: str, parameters: Mapping[str, Any]) -> Any:
        """What another node answers. Raises Refused, or ValueError for what it says cannot be asked."""
        link = self._cluster.link_to(node)
        if link is None:
            raise Refused(ErrorName.UNAVAILABLE, f"node {node}, the home of this name, is not reached")
        try:
            return await self._cluster.calls.ask(link, method, parameters, ADMIN_SECONDS)
        except BadQuestion as error:
            raise ValueError(str(error)) from None

    async def ask_all(
        self, method: str, parameters: Mapping[str, Any], seconds: float = ADMIN_SECONDS
    ) -> tuple[dict[str, Any], list[str]]:
        """What all others answer, by node, and which of those that are known have not."""
        cluster = self._cluster
        links = cluster.asking_links()
        answers = await cluster.calls.ask_all(links, method, parameters, seconds)
        names = [link.peer.node for link in [*links, *cluster.links.links]]
        names += [*cluster.table.holders.values(), *(entry.node for entry in cluster.table.entries())]
        known = dict.fromkeys(name for name in names if name != cluster.identity.node)
        return answers, sorted(node for node in known if node not in answers)
