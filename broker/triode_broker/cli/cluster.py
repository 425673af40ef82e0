"""`triode cluster`: how a cluster stands, as one of its nodes and those that it reaches see it.

Knows the administration call by name and what it answers. The surprising decision: it fails (exit code 1) while
anything is degraded, so that a script can wait for a cluster to be whole.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import msgspec

from triode_broker.cli.administration import node
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.streams import say
from triode_broker.cli.subs import table
from triode_broker.printable import escape


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Ask one node. Raises Failure."""
    view = node(arguments, environ).call("cluster")
    if arguments.json:
        say(escape(msgspec.json.format(msgspec.json.encode(view)).decode(), keep="\n") + "\n")
    else:
        say(as_text(view))
    is_whole = view["agreed"] and not view["degraded"] and not view["missing"]
    return ExitCode.OK if is_whole else ExitCode.FAILURE


def as_text(view: Mapping[str, Any]) -> str:
    """For people."""
    parts = [
        escape(f"cluster {view['cluster']}, asked at {view['asked']}") + "\n",
        _nodes(view),
        _links(view),
        _shards(view),
    ]
    words = [f"{escape(node)}: {escape(text)}\n" for node, texts in view["degraded"].items() for text in texts]
    words += [f"{escape(node)}: not reached\n" for node in view["missing"]]
    if not view["agreed"]:
        words.append("the nodes do not agree on who owns what: a change is on its way, or a link is missing\n")
    parts.append("".join(words))
    return "\n".join(part for part in parts if part)


def _nodes(view: Mapping[str, Any]) -> str:
    rows = [
        (
            one["node"],
            one["version"] or "-",
            one["sessions"],
            sum(shard["here"] for shard in one["shards"]),
            one["interest"]["filters"],
            one["consumers"],
            one.get("digest") or "-",
            "degraded" if one["degraded"] else "ok",
        )
        for one in view["nodes"]
    ]
    return table(("NODE", "VERSION", "CLIENTS", "SHARDS", "FILTERS", "NAMES", "SETTINGS", "HEALTH"), rows)


def _links(view: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{one['node']} asks {link['node']}",
            "-" if link["rtt_ms"] is None else f"{link['rtt_ms']:.1f} ms",
            link["outbox_bytes"],
            link["protocol"],
            ", ".join(link["drift"]) or "-",
        )
        for one in view["nodes"]
        for link in one["links"]
        if link["direction"] == "out"
    ]
    return table(("LINK", "ROUND TRIP", "WAITING BYTES", "PROTOCOL", "DRIFT"), rows)


def _shards(view: Mapping[str, Any]) -> str:
    rows = [
        (
            one["shard"],
            ", ".join(one["owners"]) or "nobody",
            one["epoch"],
            one["log"] or "-",
            one["head"],
            ", ".join(f"{node} {'?' if lag is None else lag}" for node, lag in one["lag"].items() if lag != 0)
            or "-",
        )
        for one in view["shards"]
    ]
    return table(("SHARD", "OWNER", "EPOCH", "LOG", "HEAD", "LAG"), rows)
