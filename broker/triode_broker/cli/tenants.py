"""`triode tenants`: what the clients of each tenant do, on all nodes together.

Knows the administration call and what it answers. The surprising decision: nodes say what each of them has
counted, and it is added up here; so --json shows which node has how much.
"""

import argparse
from collections.abc import Mapping
from typing import Any, Final

from triode_broker.cli.administration import node
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json, table, tell_unanswered

COLUMNS: Final = {
    "CONNECTIONS": "connections",
    "SUBSCRIPTIONS": "subscriptions",
    "PUBLISHES": "publishes",
    "DELIVERED": "delivered",
    "RECEIVED BYTES": "received_bytes",
    "REFUSED": "refused",
}
OTHERS: Final = "*"


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Ask once. Raises Failure."""
    answer = node(arguments, environ).call("tenants.list")
    say(as_json(answer) if arguments.json else as_text(answer))
    tell_unanswered(answer)
    return ExitCode.OK


def as_text(answer: Any) -> str:
    """A row for each tenant; the one without a name is a dash."""
    sums: dict[str, list[int]] = {}
    for one in answer["names"]:
        so_far = sums.setdefault(one["name"], [0] * len(COLUMNS))
        sums[one["name"]] = [had + one[field] for had, field in zip(so_far, COLUMNS.values(), strict=True)]
    rows = [(name or "-", *sums[name]) for name in sorted(sums, key=lambda name: (name == OTHERS, name))]
    more = f"{OTHERS}: tenants beyond those that a node counts one by one\n" if OTHERS in sums else ""
    return table(("TENANT", *COLUMNS), rows) + more
