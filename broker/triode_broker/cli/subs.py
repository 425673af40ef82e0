"""`triode subs`: durable subscriptions and groups of a running broker, as tables or JSON.

Knows the administration calls by name and what they answer. The surprising decision: times are shown as "how long
ago", because that is what an operator asks of a consumer that lags.
"""

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from triode_broker.cli.administration import Node, node
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.sub import parse_start
from triode_broker.printable import escape


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """One action on one node. Raises Failure."""
    broker = node(arguments, environ)
    answer = ACTIONS[arguments.action](broker, arguments)
    if arguments.json:
        say(escape(msgspec.json.format(msgspec.json.encode(answer)).decode(), keep="\n") + "\n")
    else:
        say(RENDER[arguments.action](answer))
    return ExitCode.OK


def _list(broker: Node, arguments: argparse.Namespace) -> Any:
    return broker.call("subs.list")


def _show(broker: Node, arguments: argparse.Namespace) -> Any:
    return broker.call("subs.show", name=arguments.name)


def _rewind(broker: Node, arguments: argparse.Namespace) -> Any:
    return broker.call("subs.rewind", name=arguments.name, to=parse_place(arguments.start, now_ms()))


def _delete(broker: Node, arguments: argparse.Namespace) -> Any:
    return broker.call("subs.delete", name=arguments.name)


ACTIONS = {"list": _list, "show": _show, "rewind": _rewind, "delete": _delete}


def parse_place(text: str, now: int) -> object:
    """What --to says: a word, {"since": ms} or a position. Raises Failure."""
    log, dot, pos = text.rpartition(".")
    if dot and pos.isascii() and pos.isdigit() and len(pos) < 16:
        return {"after": {log: int(pos)}}
    start = parse_start(text, now) if not text.startswith("last") else ""
    if not start:
        message = f"--to {text}: allowed is earliest, new, since:DURATION, since:MS or LOG.POS"
        raise Failure(ExitCode.USAGE, message)
    return start


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as needed; nothing in them can drive the terminal."""
    lines = [list(head), *([escape(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def ago(ms: int, now: int) -> str:
    """How long ago that was, roughly."""
    seconds = max(now - ms, 0) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _as_list(answer: Any) -> str:
    if not answer:
        return "no durable subscriptions or groups\n"
    rows = [
        (
            one["name"],
            one["kind"],
            one["filter"],
            one["members"],
            one["in_flight"],
            one["pending"],
            one["lag"],
            one["dead_letters"],
        )
        for one in answer
    ]
    return table(("NAME", "KIND", "FILTER", "MEMBERS", "IN FLIGHT", "PENDING", "LAG", "DEAD"), rows)


def _as_one(answer: Any) -> str:
    now = now_ms()
    lines = [
        f"{answer['name']}: {answer['kind']} on {answer['filter']}",
        f"ack wait {answer['ack_wait_ms']} ms, at most {answer['max_attempts']} attempts,"
        f" dead letters in {answer['dead_letter_topic']} ({answer['dead_letters']})",
        "" if answer["members"] else f"no members; last seen {ago(answer['seen_ms'], now)}",
    ]
    text = "".join(escape(line) + "\n" for line in lines if line)
    positions = [
        (log, one["settled"], one["taken"], one["head"], one["lag"]) for log, one in answer["positions"].items()
    ]
    text += "\n" + table(("LOG", "SETTLED", "TAKEN", "HEAD", "LAG"), positions)
    if answer["gaps"]:
        gaps = [(log, one["after"], one["reason"]) for log, one in answer["gaps"].items()]
        text += "\n" + table(("GAP IN", "AFTER", "REASON"), gaps)
    if answer["members"]:
        members = [(one["connection"], one["window"], one["in_flight"]) for one in answer["members"]]
        text += "\n" + table(("MEMBER", "WINDOW", "IN FLIGHT"), members)
    if answer["pending"]:
        pending = [
            (one["log"], one["pos"], one["topic"], one["attempt"], one["holder"] or "-")
            for one in answer["pending"]
        ]
        text += "\n" + table(("PENDING IN", "POS", "TOPIC", "ATTEMPT", "HELD BY"), pending)
    return text


def _as_rewound(answer: Any) -> str:
    places = ", ".join(f"{log}.{pos}" for log, pos in answer["after"].items())
    return escape(f"{answer['name']} goes on after {places}") + "\n"


def _as_deleted(answer: Any) -> str:
    return escape(f"{answer['name']} is deleted") + "\n"


RENDER = {"list": _as_list, "show": _as_one, "rewind": _as_rewound, "delete": _as_deleted}
