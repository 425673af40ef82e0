"""Status: what `triode cluster` shows: nodes, links, shards and owners, interest, lag, drift (operators' words).

Reads what the parts of a cluster know and changes nothing. The surprising decision: every node is asked for its
own view, and views that differ are shown as they are: a table put together from them would hide a partition.
"""

from typing import TYPE_CHECKING, Any, Final

from triode_broker.cluster.frames import Entry
from triode_broker.cluster.hello import NAME_TAKEN, drift
from triode_broker.cluster.link import Link
from triode_broker.cluster.mirror import Mirror
from triode_broker.core.shard import Shard

if TYPE_CHECKING:
    from triode_broker.cluster.cluster import Cluster

#: What a node is asked for its view by.
METHOD: Final = "cluster.status"


def own_view(cluster: "Cluster") -> dict[str, Any]:
    """This node's, as plain data."""
    return {
        "node": cluster.identity.node,
        "incarnation": cluster.identity.incarnation,
        "version": cluster.identity.version,
        "cluster": cluster.identity.cluster,
        "url": cluster.identity.advertise,
        "table": cluster.table.digest(),
        "digest": cluster.drifting.digest,
        "degraded": cluster.degraded(),
        "links": [_link(cluster, link) for link in cluster.links.links],
        "addresses": [
            {"url": one.url, "state": one.state or "dialling", "node": one.node, "seed": one.is_seed}
            for one in cluster.links.addresses
        ],
        "shards": [_shard(cluster, shard) for shard in cluster.node.router.shards],
        "interest": {"filters": cluster.interests.filters, "waiting": cluster.interests.barriers},
        "sessions": len(cluster.node.sessions),
        "consumers": len(cluster.node.consumers.by_name),
    }


def complaints(cluster: "Cluster") -> list[str]:
    """What an operator should know, in words: nothing while all others are reached and all shards are served."""
    asked = {link.peer.node for link in cluster.asking_links()}
    known = {node for node, _ in cluster.membership.unreachable()} | {cluster.identity.node}
    others = [node for node in cluster.membership.live() if not cluster.membership.has_left(node)]
    refusals = _refusals(cluster)
    missed = [seed for seed in cluster.ownership.missed_seeds() if seed not in refusals]
    return [
        *cluster.ownership.degraded(),
        *(f"seed {seed} has not answered" for seed in missed),
        *(f"no link with seed {seed}: {reason}" for seed, reason in refusals.items()),
        # They have dialled this node: it hears them, but what its clients publish does not get there.
        *(f"no link to node {node} yet" for node in others if node not in asked | known),
    ]


def is_outcast(cluster: "Cluster") -> bool:
    """Whether there are nodes that this one cannot join: what it does alone would be a second cluster.

    One that was in and is refused now goes on as in any partition: it may be the other one whose settings are
    wrong. But not beside another node of its name.
    """
    refusals = _refusals(cluster)
    counts = bool(refusals) if cluster.membership.is_alone() else NAME_TAKEN in refusals.values()
    return counts and not cluster.links.links


def unready(cluster: "Cluster") -> list[str]:
    """Why clients had better go elsewhere."""
    refusals = _refusals(cluster) if cluster.ownership.is_outcast else {}
    ownerless, suspended = cluster.ownerless(), cluster.ownership.suspended()
    return [
        *(f"no link with seed {seed}: {reason}" for seed, reason in refusals.items()),
        *([f"no owner is known of {', '.join(ownerless)}"] if ownerless else []),
        *([f"suspended after a pause: {', '.join(suspended)}"] if suspended else []),
    ]


def _refusals(cluster: "Cluster") -> dict[str, str]:
    return {one.url: one.refusal for one in cluster.links.addresses if one.is_seed and one.refusal}


def _link(cluster: "Cluster", link: Link) -> dict[str, Any]:
    """`direction`: who asks on it."""
    rtt_ms = link.rtt_ms
    return {
        "node": link.peer.node,
        "incarnation": link.peer.incarnation,
        "direction": "out" if link.is_dialler else "in",
        "protocol": link.protocol,
        "rtt_ms": round(rtt_ms, 3) if rtt_ms == rtt_ms else None,  # not a number until the first answer
        "outbox_bytes": link.outbox_bytes,
        "drift": drift(cluster.identity, link.peer),
    }


def _shard(cluster: "Cluster", shard: Shard) -> dict[str, Any]:
    entry: Entry | None = cluster.ownership.owner(shard.name)
    log = shard.log
    forwarder = cluster.forwarders[shard.name]
    return {
        "shard": shard.name,
        "owner": entry.node if entry else "",
        "epoch": entry.epoch if entry else 0,
        "log": entry.log if entry else "",
        "here": shard.is_here,
        "reached": shard.is_reachable,
        "live": log.is_live if isinstance(log, Mirror) else shard.is_here,
        "head": log.head(),
        "forwarding": forwarder.unanswered,
    }


async def whole_view(cluster: "Cluster") -> dict[str, Any]:
    """All nodes' views that came within the patience of a call, and what follows from them."""
    views = {cluster.identity.node: own_view(cluster)}
    views |= await cluster.calls.ask_all(cluster.asking_links(), METHOD, {})
    known = dict.fromkeys([*cluster.membership.live(), *(node for node, _ in cluster.membership.unreachable())])
    return {
        "asked": cluster.identity.node,
        "cluster": cluster.identity.cluster,
        "nodes": [views[node] for node in sorted(views)],
        "missing": [node for node in sorted(known) if node not in views],
        "shards": _shards(list(views.values())),
        "agreed": len({view["table"] for view in views.values()}) == 1,
        "degraded": {node: views[node]["degraded"] for node in sorted(views) if views[node]["degraded"]},
    }


def _shards(views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By shard: who says that it owns it, and how far behind its head the others are."""
    shards: dict[str, dict[str, Any]] = {}
    for view in views:
        for one in view["shards"]:
            known = shards.setdefault(
                one["shard"], {"shard": one["shard"], "owners": [], "log": "", "epoch": 0, "head": 0, "lag": {}}
            )
            if one["here"]:
                known["owners"].append(view["node"])
                known |= {"log": one["log"], "epoch": one["epoch"], "head": one["head"]}
    for view in views:
        for one in view["shards"]:
            known = shards[one["shard"]]
            if not one["here"] and known["owners"]:
                known["lag"][view["node"]] = max(known["head"] - one["head"], 0) if one["reached"] else None
    return list(shards.values())
