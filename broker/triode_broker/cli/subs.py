"""`triode subs`: durable subscriptions and groups of a running broker, as tables or JSON.

Knows the administration calls by name and what they answer. The surprising decision: times are shown as "how long
ago", because that is what an operator asks of a consumer that lags.
"""

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from triode_protocol.positions import from_text, to_text

from triode_broker.cli.administration import Node, node
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.sub import parse_start
from triode_broker.printable import escape

MAX_COUNTED = 10_000  # dead letters of one name; the broker counts no further


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """One action on one node. Raises Failure."""
    broker = node(arguments, environ)
    answer = ACTIONS[arguments.action](broker, arguments)
    if arguments.json:
        say(as_json(answer))
    else:
        say(RENDER[arguments.action](answer))
    tell_unanswered(answer)
    return ExitCode.OK


def as_json(answer: Any) -> str:
    """What --json prints of an answer: of a list of names the names alone."""
    shown = answer.get("names", answer)
    return escape(msgspec.json.format(msgspec.json.encode(shown)).decode(), keep="\n") + "\n"


def tell_unanswered(answer: Any) -> None:
    """Raises Failure where a list of names is not whole."""
    if missing := answer.get("unanswered"):
        nodes = escape(", ".join(missing))
        raise Failure(ExitCode.TIMEOUT, f"not all names are listed: no answer from {nodes}")


def _list(broker: Node, arguments: argparse.Namespace) -> Any:
    return broker.call("subs.list", **of_tenant(arguments))


def _show(broker: Node, arguments: argparse.Namespace) -> Any:
    return broker.call("subs.show", name=arguments.name, **of_tenant(arguments))


def _rewind(broker: Node, arguments: argparse.Namespace) -> Any:
    place = parse_place(arguments.start, now_ms())
    return broker.call("subs.rewind", name=arguments.name, to=place, **of_tenant(arguments))


def _delete(broker: Node, arguments: argparse.Namespace) -> Any:
    return broker.call("subs.delete", name=arguments.name, **of_tenant(arguments))


def of_tenant(arguments: argparse.Namespace) -> dict[str, str]:
    """What --tenant adds to a call: nothing is said without it."""
    return {} if arguments.tenant is None else {"tenant": arguments.tenant}


ACTIONS = {"list": _list, "show": _show, "rewind": _rewind, "delete": _delete}


def parse_place(text: str, now: int) -> object:
    """What --to says: a word, {"since": ms} or a position. Raises Failure."""
    with suppress(ValueError):
        if position := from_text(text):
            return {"after": position}
    with suppress(Failure):
        if not text.startswith("last"):
            return parse_start(text, now)
    allowed = "earliest, new, since:90s (ms, s, m, h, d), since:MS (since 1970) or a position LOG.POS"
    raise Failure(ExitCode.USAGE, f"--to {escape(text)}: allowed is {allowed}")


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as needed, nothing without rows; nothing in them can drive the terminal."""
    lines = [list(head), *([escape(str(cell)) for cell in row] for row in rows)]
    if len(lines) == 1:
        return ""
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


def at_most(lag: int) -> str:
    """A lag counts places of the log, also those of messages that the filter does not match."""
    return f"≤{lag}" if lag else "0"


def letters(count: int) -> str:
    """A number of dead letters; they are not counted for ever."""
    return str(count) if count < MAX_COUNTED else f"{count}+"


def _as_list(answer: Any) -> str:
    if not answer["names"] and not answer["unanswered"]:
        return "no durable subscriptions or groups yet; clients make them (see docs/acknowledgements.md)\n"
    rows = [
        (
            one["name"],
            one["kind"],
            one["filter"],
            one["members"],
            one["in_flight"],
            one["pending"],
            at_most(one["lag"]),
            letters(one["dead_letters"]),
            one["home"],
        )
        for one in answer["names"]
    ]
    head = ("NAME", "KIND", "FILTER", "MEMBERS", "IN FLIGHT", "PENDING", "LAG", "DEAD", "HOME")
    return table(*with_tenants(head, rows, answer["names"]))


def with_tenants(
    head: Sequence[str], rows: Sequence[Sequence[object]], names: Sequence[Any]
) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """A table of names; whose they are, where any is a tenant's."""
    tenants = [one.get("tenant", "") for one in names]
    if not any(tenants):
        return head, rows
    return ("TENANT", *head), [(tenant or "-", *row) for tenant, row in zip(tenants, rows, strict=True)]


def full_name(answer: Any) -> str:
    """A name in a sentence."""
    name, tenant = answer["name"], answer.get("tenant", "")
    return f"{name} of tenant {tenant}" if tenant else name


def _as_one(answer: Any) -> str:
    now = now_ms()
    about = [
        f"{full_name(answer)}: {answer['kind']} on {answer['filter']}, at home on node {answer['home']}",
        f"ack wait {answer['ack_wait_ms']} ms, at most {answer['max_attempts']} attempts,"
        f" dead letters in {answer['dead_letter_topic']}: {letters(answer['dead_letters'])}",
    ]
    if not answer["members"]:
        about.append(f"no members; the last one was there {ago(answer['seen_ms'], now)}")
    positions = [
        (log, one["settled"], one["taken"], one["head"], at_most(one["lag"]))
        for log, one in answer["positions"].items()
    ]
    gaps = [(log, one["after"], one["reason"]) for log, one in answer["gaps"].items()]
    members = [(one["connection"], one["window"], one["in_flight"]) for one in answer["members"]]
    pending = [
        (f"{one['log']}.{one['pos']}", one["topic"] or "-", one["attempt"], one["holder"] or "-")
        for one in answer["pending"]
    ]
    parts = [
        "".join(escape(line) + "\n" for line in about),
        table(("LOG", "SETTLED", "TAKEN", "HEAD", "LAG"), positions),
        table(("GAP IN", "AFTER", "REASON"), gaps),
        table(("MEMBER", "WINDOW", "IN FLIGHT"), members) + _more(len(members), answer["member_count"]),
        table(("PENDING", "TOPIC", "ATTEMPT", "HELD BY"), pending) + _more(len(pending), answer["pending_count"]),
    ]
    return "\n".join(filter(None, parts))


def _more(shown: int, count: int) -> str:
    return f"and {count - shown} more\n" if count > shown else ""


def _as_rewound(answer: Any) -> str:
    return escape(f"{full_name(answer)} goes on after {to_text(answer['after'])}") + "\n"


def _as_deleted(answer: Any) -> str:
    count, tenant = answer["dead_letters"], answer.get("tenant", "")
    see = f"triode dead list {answer['name']}{f' --tenant {tenant}' if tenant else ''}"
    rest = f"; {letters(count)} dead letter{' stays' if count == 1 else 's stay'}: see {see}"
    return escape(f"{full_name(answer)} is deleted{rest if count else ''}") + "\n"


RENDER = {"list": _as_list, "show": _as_one, "rewind": _as_rewound, "delete": _as_deleted}
