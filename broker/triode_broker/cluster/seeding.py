"""Seeding: which nodes this one was told to look for, and which of them have answered.

Knows the addresses that are dialled and the rules of owning, which wait for seeds. The surprising decision: a
seed that is taken out of the settings keeps the link that there is, and is only not dialled again. The links of a
cluster are a matter of the nodes that are alive; seeds are how they find each other.
"""

from collections.abc import Sequence

from triode_broker.cluster.addresses import parse_peer_url
from triode_broker.cluster.dialling import LINKED
from triode_broker.cluster.hello import DUPLICATE, SELF
from triode_broker.cluster.links import Links
from triode_broker.cluster.ownership import Ownership


class Seeding:
    """One node's."""

    def __init__(self, links: Links, ownership: Ownership) -> None:
        self._links = links
        self._ownership = ownership

    def hear(self) -> None:
        """Tell the rules of owning which have answered."""
        for address in self._links.addresses:
            is_heard = address.state in (LINKED, DUPLICATE) and self._ownership.has_heard(address.node)
            if address.is_seed and (is_heard or address.state == SELF):
                self._ownership.seed_answered(address.url)

    def put(self, seeds: Sequence[str]) -> None:
        """These are the seeds from now on. ValueError where one is no URL."""
        self._links.put_seeds(seeds)
        ownership = self._ownership
        wanted = tuple(parse_peer_url(seed).url for seed in seeds)
        silent = [seed for seed in wanted if seed in ownership.silent_seeds or seed not in ownership.seeds]
        ownership.seeds, ownership.silent_seeds = wanted, dict.fromkeys(silent)
