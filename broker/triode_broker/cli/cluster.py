"""`triode cluster`: how a cluster stands, as one of its nodes and those that it reaches see it.

Knows the administration call by name and what it answers. The surprising decision: it fails (exit code 1) while
anything is degraded, so that a script can wait for a cluster to be whole.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from triode_broker.cli.asking import Asked, asked
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.subs import table
from triode_broker.printable import escape

#: The cursor to the upper left, and all behind it gone.
CLEAR: Final = "\x1b[H\x1b[2J"


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Ask one node, once or for as long as it is watched. Raises Failure."""
    broker = asked(arguments, environ)
    if not arguments.watch:
        return _show(broker, arguments)
    is_terminal = sys.stdout.isatty()
    while True:
        say(CLEAR if is_terminal else "")
        try:
            _show(broker, arguments)
        except Failure as failure:  # it may come back: that is what is watched for
            say(f"{escape(str(failure))}; asking again\n")
        say("" if is_terminal else "\n")
        time.sleep(arguments.interval)


def _show(broker: Asked, arguments: argparse.Namespace) -> ExitCode:
    view = broker.call("cluster")
    if arguments.json:
        text = msgspec.json.encode(view)
        pretty = text if arguments.watch else msgspec.json.format(text)
        say(escape(pretty.decode(), keep="\n") + "\n")
    else:
        say(as_text(view, _figures(broker)))
    is_whole = view["agreed"] and not view["degraded"] and not view["missing"]
    return ExitCode.OK if is_whole else ExitCode.FAILURE


def _figures(broker: Asked) -> Mapping[str, Any]:
    """By node; nothing from nodes of a build that has no figures, nor for who may not ask for them."""
    try:
        nodes: Mapping[str, Any] = broker.call("figures")["nodes"]
    except Failure:
        return {}
    return nodes


def as_text(view: Mapping[str, Any], figures: Mapping[str, Any] | None = None) -> str:
    """For people. `figures`: what nodes count, by node, as far as it is known."""
    parts = [
        escape(f"cluster {view['cluster']}, asked at {view['asked']}") + "\n",
        _nodes(view, figures or {}),
        _links(view),
        _shards(view),
    ]
    words = [f"{escape(node)}: {escape(text)}\n" for node, texts in view["degraded"].items() for text in texts]
    words += [f"{escape(node)}: not reached\n" for node in view["missing"]]
    if not view["agreed"]:
        words.append("the nodes do not agree on who owns what: a change is on its way, or a link is missing\n")
    parts.append("".join(words))
    return "\n".join(part for part in parts if part)


def _nodes(view: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    rows = [
        (
            one["node"],
            _version(one, figures.get(one["node"], {})),
            one["sessions"],
            sum(shard["here"] for shard in one["shards"]),
            one["interest"]["filters"],
            one["consumers"],
            one.get("digest") or "-",
            _loop_lag(figures.get(one["node"], {})),
            "degraded" if one["degraded"] else "ok",
        )
        for one in view["nodes"]
    ]
    return table(("NODE", "VERSION", "CLIENTS", "SHARDS", "FILTERS", "NAMES", "SETTINGS", "LOOP", "HEALTH"), rows)


def _version(view: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """With the commit that it was built from, where that is known."""
    commit = str(figures.get("commit") or "")[:9]
    return f"{view['version'] or '-'}{f' ({commit})' if commit else ''}"


def _loop_lag(figures: Mapping[str, Any]) -> str:
    lag_us = figures.get("gauges", {}).get("loop_lag_us")
    return "-" if lag_us is None else f"{lag_us / 1000:.1f} ms"


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
