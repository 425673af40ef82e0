"""Reporting: what a node says of itself at `/healthz`.

A part of the composition root: reads what the parts count anyway, when somebody asks, and changes nothing. The
surprising decision: a node that drains, or has something to complain about, is healthy. Only what a new start
would mend is a failure (`http.pages.FAILING`); whether clients had better go elsewhere is `draining.Readiness`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from triode_broker.auth.authority import Authority
from triode_broker.config import Config
from triode_broker.core.node import Node
from triode_broker.draining import Draining
from triode_broker.edge.reactor import Edge
from triode_broker.joining import Joining
from triode_broker.log.disk import DiskLog
from triode_broker.posture import unsafe
from triode_broker.release import commit, version
from triode_broker.reloading import Reloading
from triode_broker.revoking import Revoking
from triode_broker.securing import Securing

#: What health says of a node by the worst of its stores, best first.
STATUS: Final = {"ok": "ok", "full": "degraded", "failed": "failed"}
_TROUBLE: Final = {"full": "is full: publishes to it are refused", "failed": "has failed"}


@attrs.define(eq=False)
class Reporting:
    """Of one node, by its parts."""

    config: Config
    node: Node
    edge: Edge
    stores: Sequence[DiskLog]  # grows
    securing: Securing
    authority: Authority | None
    reloading: Reloading
    draining: Draining
    revoking: Revoking
    joining: Joining | None
    complaints: list[Callable[[], list[str]]] = attrs.field(factory=list)  # of parts that come later
    _started: float = attrs.field(factory=time.monotonic)

    def health(self) -> dict[str, object]:
        """What /healthz says."""
        return {**self._state(), **self._counts(), **self._parts()}

    def failed_store(self) -> str:
        """For readiness."""
        return ", ".join(f"the store {store.name} has failed" for store in self.stores if store.state == "failed")

    def _state(self) -> dict[str, object]:
        states = {store.name: store.state for store in self.stores}
        status = STATUS[max(states.values(), key=list(STATUS).index, default="ok")]
        degraded = self._degraded()
        if degraded and status == "ok":
            status = "degraded"
        return {
            "status": status,
            "degraded": degraded,
            "insecure": [one.name for one in unsafe(self.reloading.config)],
            "draining": self.draining.is_begun,
            "node": self.config.node,
            "version": version(),
            "commit": commit(),
            "uptime_seconds": round(time.monotonic() - self._started, 1),
        }

    def _degraded(self) -> list[str]:
        reasons = self.joining.cluster.degraded() if self.joining is not None else []
        reasons += [f"the store {one.name} {_TROUBLE[one.state]}" for one in self.stores if one.state in _TROUBLE]
        reasons += self.revoking.degraded()
        reasons += self.securing.degraded()
        reasons += self.reloading.degraded()
        if self.authority is not None:
            reasons += self.authority.degraded()
        return reasons + [reason for one in self.complaints for reason in one()]

    def _counts(self) -> dict[str, object]:
        node, router = self.node, self.node.router
        return {
            "connections": self.edge.statistics().connections,
            "sessions": len(node.sessions),
            "live_subscriptions": router.live_subscriptions,
            "published": sum(shard.pos for shard in router.shards if shard.is_here),
            "duplicates": router.statistics.duplicates,
            "delivered": router.delivered,
            "overflows": router.statistics.overflows,
            "delayed": router.delayed.count,
            "consumers": len(node.consumers.by_name),
            "members": node.presence.member_count,
            "rates": {"refused": dict(node.rates.refused), "closed": node.rates.closed},
            "wills": {
                "waiting": len(node.wills),
                "published": node.wills.published,
                "refused": node.wills.refused,
            },
        }

    def _parts(self) -> dict[str, object]:
        return {
            "stores": {
                store.name: {
                    "state": store.state,
                    "uncommitted_bytes": store.uncommitted_bytes,
                    "commits": store.commits,
                }
                for store in self.stores
            },
            "tls": self.securing.report(),
            "settings": self.reloading.report(),
            "heads": {shard.log.name: shard.log.head() for shard in self.node.router.shards if shard.log.name},
        }
