"""Linking: the links of this node, within reach of the others (SPEC 12.4.7).

A part of the composition root. Whoever spreads the requests of a link over nodes need not know of links: the node
that a request has come to passes it on.
"""

from functools import partial

from triode_broker.cluster.neighbours import Neighbours
from triode_broker.http.desk import Desk
from triode_broker.http.link_operations import KNOW, TAKE, know, take
from triode_broker.joining import Joining


def reach_links(desk: Desk, joining: Joining | None) -> None:
    """Take what others pass on, and pass on what is theirs; alone there is nobody."""
    if joining is None:
        return
    cluster = joining.cluster
    cluster.calls.methods |= {TAKE: partial(take, desk.links), KNOW: partial(know, desk.links)}
    desk.elsewhere = Neighbours(cluster, desk.node.router)
