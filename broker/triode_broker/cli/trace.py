"""`triode trace`: where a message of a topic would go, and with --send where one has gone, as a timeline.

Knows the administration call `route` and the client library. The surprising decision: times are told from the
first hop on, by each node's own clock. Two machines' clocks differ by more than a hop takes, so a hop of another
node may stand before its cause: what is printed is what was measured.
"""

import argparse
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import trio
import triode

from triode_broker.cli.administration import node
from triode_broker.cli.connecting import CONNECT_SECONDS, connected, failures_in_words, make_client, url
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.pub import BadLine, Template, as_words
from triode_broker.cli.running import run_trio
from triode_broker.cli.screen import Screen
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json
from triode_broker.printable import escape

#: A broker tells for five seconds, and a bit more for other nodes; then nothing comes any more.
PATIENCE_SECONDS: Final = 12.0


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Ask, or send. Raises Failure."""
    if arguments.send is not None:
        return _send(arguments, environ)
    parameters = {"topic": arguments.topic} | ({"tenant": arguments.tenant} if arguments.tenant else {})
    route = node(arguments, environ).call("route", **parameters)
    say(as_json(route) if arguments.json else "".join(f"{escape(line)}\n" for line in route_lines(route)))
    return ExitCode.OK if route["is_reachable"] and not route["unanswered"] else ExitCode.FAILURE


def route_lines(route: Mapping[str, Any]) -> list[str]:
    """What a person reads."""
    kept = route["retention"]
    owner = route["owner"] or "nobody"
    epoch = f", epoch {route['epoch']}" if route["epoch"] else ""
    reach = "" if route["is_reachable"] else "  NOT REACHED: publishes are refused as unavailable"
    limits = ", ".join(f"{value:,} {name}" for name, value in kept.items())
    lines = [
        f"topic      {route['topic']}" + (f"  (tenant {route['tenant']})" if route["tenant"] else ""),
        f"rule       {route['rule']}  storage {route['storage']}" + (", compacted" if route["compact"] else ""),
        f"keeps      {limits}" + (f", messages live {route['ttl_seconds']} s" if route["ttl_seconds"] else ""),
        f"shard      {route['shard']}  log {route['log'] or '-'}",
        f"owner      {owner}{epoch}{reach}",
    ]
    for name, one in route["nodes"].items():
        lines.append(f"on {name}".ljust(11) + _subscribers(one))
    lines += [f"on {name}".ljust(11) + "no answer" for name in route["unanswered"]]
    rows = [_publisher(row) for row in route["publishers"]]
    return [*lines, "publish    " + ("; ".join(rows) or "nobody: no rule allows it")]


def _subscribers(one: Mapping[str, Any]) -> str:
    parts = [f"{one['live']} live (connections: {one['connections']})"]
    for kind in ("durable", "group"):
        if count := one[f"{kind}_count"]:
            more = "" if count <= len(one[kind]) else ", …"
            parts.append(f"{count} {kind} ({', '.join(one[kind])}{more})")
    if one["kept_out"]:
        parts.append(f"{one['kept_out']} not allowed to have it")
    return ", ".join(parts)


def _publisher(row: Mapping[str, str]) -> str:
    who = row["role"] or "everybody"
    where = f" of tenant {row['tenant']}" if row["tenant"] else ""
    if not row["filter"]:
        return f"not {who}{where} ({row['but']} is denied)"
    return f"{who}{where} by {row['filter']}" + (f", but not by {row['but']}" if row["but"] else "")


def _send(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    template = Template(arguments.topic, "", {}, arguments.as_json)
    try:
        data = template.payload(arguments.send.encode())
    except BadLine as error:
        raise Failure(ExitCode.USAGE, f"--send is {error}") from error
    address = url(arguments, environ)
    patience = arguments.timeout or CONNECT_SECONDS
    client = make_client(arguments, environ, patience, patience)
    timeline = Timeline(is_json=arguments.json)

    async def main() -> ExitCode:
        async with connected(client, address, patience):
            with failures_in_words(address):
                place = await client.publish(arguments.topic, data, on_trace=timeline.tell)
            if not arguments.json:
                say(f"published  {as_words(place)}\n")
            timeline.begin()
            with trio.move_on_after(PATIENCE_SECONDS):
                await timeline.ended.wait()
        return timeline.verdict()

    return run_trio(main)


class Timeline:
    """Prints hops as they come."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._first_us: int | None = None
        self._early: list[triode.Traced] | None = []  # come before the place is told
        self._end = ""
        self.ended = trio.Event()

    def tell(self, traced: triode.Traced) -> None:
        """From the client, as it comes."""
        if self._early is not None:
            self._early.append(traced)
            return
        for hop in traced.hops:
            say(f"{self._line(hop)}\n")
        if traced.end:
            self._end = traced.end
            if self._is_json:
                say(f'{{"end":"{traced.end}"}}\n')
            self.ended.set()

    def begin(self) -> None:
        """From here on lines are printed."""
        early, self._early = self._early or [], None
        for traced in early:
            self.tell(traced)

    def _line(self, hop: triode.Hop) -> str:
        if self._is_json:
            return msgspec.json.encode(hop).decode()
        if self._first_us is None:
            self._first_us = hop.at_us
        return escape(f"{(hop.at_us - self._first_us) / 1000:+9.3f} ms  {hop.node}  {hop_words(hop)}")

    def verdict(self) -> ExitCode:
        """Whether all is known."""
        if self._end != "complete":
            Screen().tell(f"not all is known: {self._end or 'the broker has stopped telling'}")
            return ExitCode.FAILURE
        return ExitCode.OK


def hop_words(hop: triode.Hop) -> str:
    """What has happened, in a line."""
    place = f"{hop.log}.{hop.pos} offset {hop.offset}" if hop.log else ""
    count = f"{hop.count} {hop.kind}".strip() if hop.count >= 0 else hop.kind
    names = f"({', '.join(hop.names)})" if hop.names else ""
    to = f"→ {hop.to}" if hop.to else ""
    reason = f"[{hop.reason}]" if hop.reason else ""
    parts = (f"{hop.hop:<13}", hop.connection, hop.shard, to, place, hop.level, count, names, reason)
    return " ".join(filter(None, parts)).rstrip()
