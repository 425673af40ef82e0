"""Figures: all that a node counts, as plain integers since its start, for whoever draws them.

A part of the composition root: reads what the parts count anyway, when somebody asks, and changes nothing. Who
wants a rate takes two of these and a difference. The surprising decision: nothing in it is by topic, user or
connection. There may be a hundred thousand of those, and whoever watches asks every few seconds; the busiest ones
have calls of their own (`topics`, `slow`).
"""

import gc
import heapq
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from triode_broker.auth.authority import COUNTED, Authority
from triode_broker.cluster.cluster import Cluster
from triode_broker.cluster.status import own_view
from triode_broker.core.histogram import BOUNDS_US
from triode_broker.core.node import Node
from triode_broker.core.router import Router
from triode_broker.core.session import Session
from triode_broker.core.shard import Topic
from triode_broker.core.source import Source
from triode_broker.departures import CODE_NAMES
from triode_broker.draining import Draining
from triode_broker.edge.reactor import Edge
from triode_broker.edge.wire import Backlog
from triode_broker.joining import Joining
from triode_broker.log.disk import DiskLog
from triode_broker.log.memory import MemoryLog
from triode_broker.release import commit, version
from triode_broker.timekeeping import Timekeeper


@attrs.define(eq=False)
class Figures:
    """Of one node, by its parts."""

    node: Node
    worker: int
    data: str  # the directory; "": none
    edges: dict[str, Edge]  # by what they are for; "clients" is always there
    stores: Sequence[DiskLog]  # grows
    authority: Authority | None
    draining: Draining
    joining: Joining | None
    unready: Callable[[], Sequence[str]]
    clock: Timekeeper
    closes: Mapping[tuple[str, str], int]  # connections that ended, by code and initiator
    requests: Mapping[tuple[str, str], int]  # by HTTP, by operation and status
    webhooks: Callable[[], list[dict[str, Any]]] = list
    _started: float = attrs.field(factory=time.monotonic)

    def report(self) -> dict[str, Any]:
        """What this node says of itself."""
        return {
            "node": self.node.name,
            "worker": self.worker,
            "version": version(),
            "commit": commit(),
            "at_ms": time.time_ns() // 1_000_000,
            "uptime_ms": int((time.monotonic() - self._started) * 1000),
            "bounds_us": list(BOUNDS_US),
            "counters": self._counters(),
            "gauges": self._gauges(),
            "histograms": self._histograms(),
            "closes": self._closes(),
            "requests": [
                {"operation": operation, "status": status, "count": count}
                for (operation, status), count in sorted(self.requests.items())
            ],
            "refused": dict(self.node.rates.refused),
            "gaps": dict(self.node.router.statistics.gaps),
            "unready": list(self.unready()),
            "listeners": [_listener(name, edge) for name, edge in self.edges.items()],
            "shards": self._shards(),
            "engines": [_engine(store) for store in self.stores],
            "links": self._links(),
            "webhooks": self._webhooks(),
        }

    def slowest(self, most: int) -> list[dict[str, Any]]:
        """Connections that have most waiting for them; those of no session are left out."""
        found = heapq.nlargest(
            most,
            (one for edge in self.edges.values() for one in edge.backlogs(most)),
            key=lambda one: one.waiting_bytes,
        )
        return [_slow(one, one.application) for one in found if isinstance(one.application, Session)]

    def _counters(self) -> dict[str, int]:
        node, router = self.node, self.node.router
        seen = router.statistics
        edges = [edge.statistics() for edge in self.edges.values()]
        rows = router.tenants.rows().values()
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "published": seen.published + sum(store.committed_messages for store in self.stores),
            "publish_packets": sum(one.publishes for one in rows),
            "delivered": router.delivered,
            "fanned_out": seen.fanned_out,
            "packet_bytes_in": sum(one.received_bytes for one in rows),
            "errors": sum(one.refused for one in rows),
            "bytes_in": sum(one.bytes_in for one in edges),
            "bytes_out": sum(one.bytes_out for one in edges),
            "frames_in": sum(one.frames_in for one in edges),
            "accepted": sum(one.accepted for one in edges),
            "upgraded": sum(one.upgraded for one in edges),
            "http_refused": sum(one.refused for one in edges),
            "duplicates": seen.duplicates,
            "overflows": seen.overflows,
            "redelivered": seen.redelivered,
            "dead_letters": seen.dead_letters,
            "closed_for_rate": node.rates.closed,
            "wills_published": node.wills.published,
            "wills_refused": node.wills.refused,
            "cpu_us": int((used.ru_utime + used.ru_stime) * 1_000_000),
            "gc_collections": sum(int(one["collections"]) for one in gc.get_stats()),
            **self._asked(),
            **self._events(),
        }

    def _events(self) -> dict[str, int]:
        events = self.node.events
        told = 0 if events is None else events.told.total()
        return {"events": told, "events_lost": 0 if events is None else events.lost}

    def _webhooks(self) -> list[dict[str, Any]]:
        counted = ("delivered", "requests", "failed", "buried", "gaps")
        return [
            {
                "webhook": row["name"],
                "failing": int(row["state"] in ("failing", "gone")),
                "lag": max(row["lag"], 0),
                **{name: row[name] for name in counted},
            }
            for row in self.webhooks()
        ]

    def _asked(self) -> dict[str, int]:
        """What was asked about credentials."""
        return self.authority.counts if self.authority is not None else dict.fromkeys(COUNTED, 0)

    def _gauges(self) -> dict[str, int]:
        node, router = self.node, self.node.router
        consumers = list(node.consumers.by_name.values())
        lags = [_lag(source) for one in consumers for source in one.sources]
        rows, is_ready = router.tenants.rows(), not self.unready()
        return {
            "connections": sum(edge.statistics().connections for edge in self.edges.values()),
            "newcomers": sum(edge.statistics().newcomers for edge in self.edges.values()),
            "sessions": len(node.sessions),
            "subscriptions": sum(one.subscriptions for one in rows.values()),
            "live_subscriptions": router.live_subscriptions,
            "consumers": len(consumers),
            "consumer_members": sum(len(one.members) for one in consumers),
            "consumer_lag": sum(lags),
            "consumer_lag_max": max(lags, default=0),
            "topics": sum(log.topic_count for log in _logs(router)),
            "delayed": router.delayed.count,
            "members": node.presence.member_count,
            "wills_waiting": len(node.wills),
            "events_waiting": 0 if node.events is None else node.events.waiting,
            "revocations": len(node.revocations),
            "tenants": len(rows),
            "draining": int(self.draining.is_begun),
            "ready": int(is_ready),
            "loop_lag_us": self.clock.lag_us,
            "resident_bytes": resident_bytes(),
            "open_descriptors": open_descriptors(),
            "max_descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }

    def _histograms(self) -> dict[str, Any]:
        """From a publish's acceptance to its ack, and to its being sent; and how the loop does."""
        return {"loop_lag": self.clock.lags.as_data()}

    def _closes(self) -> list[dict[str, Any]]:
        """Of connections of clients, by code and who began."""
        return [
            {"code": code, "name": CODE_NAMES.get(code, "other"), "initiator": initiator, "count": count}
            for (code, initiator), count in sorted(self.closes.items())
        ]

    def _shards(self) -> list[dict[str, Any]]:
        owners = {one["shard"]: one for one in own_view(self.joining.cluster)["shards"]} if self.joining else {}
        found = []
        for shard in self.node.router.shards:
            entry = owners.get(shard.name, {})
            log = shard.log
            found.append(
                {
                    "shard": shard.name,
                    "storage": "disk" if shard.name.startswith("d") else "memory",
                    "owner": entry.get("owner", self.node.name),
                    "epoch": entry.get("epoch", 0),
                    "here": shard.is_here,
                    "reachable": shard.is_reachable,
                    "live": entry.get("live", True),
                    "log": log.name,
                    "head": log.head(),
                    "retained_bytes": log.size if isinstance(log, MemoryLog) else self._file_bytes(shard.name),
                    "topics": log.topic_count if isinstance(log, MemoryLog | DiskLog) else 0,
                    "forwarding": entry.get("forwarding", 0),
                    **self._forwarded(shard.name),
                }
            )
        return found

    def _forwarded(self, shard: str) -> dict[str, Any]:
        """How long its owner took to answer what was published here, while that was another node."""
        if self.joining is None:
            return {}
        return {"forwarded": self.joining.cluster.forwarders[shard].answering.as_data()}

    def _file_bytes(self, shard: str) -> int:
        """On disk, what waits to be copied into the file included; 0 where it is not here."""
        if not self.data:
            return 0
        return sum(_size(Path(self.data) / f"{shard}.sqlite{end}") for end in ("", "-wal"))

    def _links(self) -> list[dict[str, Any]]:
        return _links(self.joining.cluster) if self.joining is not None else []


def held(topic: Topic) -> tuple[int, int]:
    """Messages and bytes retained of a topic that is at home here."""
    log = topic.shard.log
    return log.held(topic.name) if isinstance(log, MemoryLog | DiskLog) else (0, 0)


def _slow(backlog: Backlog, session: Session) -> dict[str, Any]:
    if backlog.paused_ms:
        why = "paused: nothing it sends is read until its outbox has drained to half"
    elif backlog.is_catching_up:
        why = "catching up: subscriptions wait for room in its outbox"
    else:
        why = "its socket takes nothing now" if backlog.is_blocked else "to be sent in this turn"
    return {
        "connection": session.connection_id,
        "address": session.address,
        "user": session.identity.user,
        "tenant": session.identity.tenant,
        "waiting_bytes": backlog.waiting_bytes,
        "max_bytes": backlog.max_bytes,
        "blocked": backlog.is_blocked,
        "catching_up": backlog.is_catching_up,
        "paused_ms": backlog.paused_ms,
        "why": why,
    }


def _logs(router: Router) -> list[MemoryLog | DiskLog]:
    """Those of shards that are here."""
    return [shard.log for shard in router.shards if isinstance(shard.log, MemoryLog | DiskLog) and shard.is_here]


def _lag(source: Source) -> int:
    """Places behind the head, what the filter does not match included."""
    return max(source.shard.log.head() - source.floor, 0)


def _listener(name: str, edge: Edge) -> dict[str, Any]:
    seen, turns = edge.statistics(), edge.turns
    return {
        "listener": name,
        "connections": seen.connections,
        "newcomers": seen.newcomers,
        "accepted": seen.accepted,
        "refused": seen.refused,
        "upgraded": seen.upgraded,
        "frames_in": seen.frames_in,
        "bytes_in": seen.bytes_in,
        "bytes_out": seen.bytes_out,
        "busy_us": int(turns.seconds * 1_000_000),
        **turns.as_data(),
    }


def _engine(store: DiskLog) -> dict[str, Any]:
    return {
        "engine": store.name.partition("-")[0],
        "log": store.name,
        "state": store.state,
        "commits": store.commits,
        "committed_messages": store.committed_messages,
        "committed_bytes": store.committed_bytes,
        "queue_bytes": store.uncommitted_bytes,
        "damaged_messages": store.damaged_messages,
        "commit": store.committing.as_data(),
        "answered": store.answering.as_data(),
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _links(cluster: Cluster) -> list[dict[str, Any]]:
    """`direction` "out": this node asks on it."""
    return [
        {
            "peer": link.peer.node,
            "direction": "out" if link.is_dialler else "in",
            "rtt_us": int(link.rtt_ms * 1000)
            if link.rtt_ms == link.rtt_ms
            else 0,  # not a number until it is known
            "outbox_bytes": link.outbox_bytes,
            "sent_messages": link.sent_messages,
            "sent_bytes": link.sent_bytes,
            "received_messages": link.received_messages,
            "received_bytes": link.received_bytes,
        }
        for link in cluster.links.links
    ]


def resident_bytes() -> int:
    """Memory of this process; where the system does not say it, the most it ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()


def open_descriptors() -> int:
    """Of this process; 0 where the system does not say it.

    Linux says it from 6.2 on; to list them takes 15 ms for 10,000, in which nobody is served.
    """
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            told = os.stat(directory).st_size if directory.startswith("/proc") else 0
            return told or len(os.listdir(directory))
        except OSError:
            continue
    return 0
