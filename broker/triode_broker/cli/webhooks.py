"""`triode webhooks`: how webhooks stand on the nodes of a cluster, and `--test NAME`.

Knows the administration calls and what they answer. The surprising decision: it fails (exit code 1) while one of
them fails, so that a script can wait for an endpoint.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

from triode_broker.cli.administration import node
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json, table, tell_unanswered
from triode_broker.printable import escape

_WRONG = ("failing", "gone")


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Ask once. Raises Failure."""
    asked = node(arguments, environ)
    if arguments.test:
        answer = asked.call("webhooks.test", name=arguments.test)
        said = f"{answer['name']}: {answer['error'] or 'taken'} ({answer['status']}) in {answer['ms']} ms\n"
        say(as_json(answer) if arguments.json else escape(said, keep="\n"))
        return ExitCode.OK if answer["ok"] else ExitCode.FAILURE
    answer = asked.call("webhooks")
    say(as_json(answer) if arguments.json else as_text(answer))
    tell_unanswered(answer)
    is_well = all(row["state"] not in _WRONG for row in answer["webhooks"])
    return ExitCode.OK if is_well else ExitCode.FAILURE


def _stand(row: Mapping[str, Any]) -> str:
    """Its state, for people: whether there is anything to wait for, and when it is tried again."""
    left_ms = row["retry_at_ms"] - time.time_ns() // 1_000_000
    if row["state"] == "failing" and left_ms > 0:
        return f"retrying in {-(-left_ms // 1000)} s"
    return "idle" if row["state"] == "waiting" and row["lag"] == 0 else str(row["state"])


def as_text(answer: Any) -> str:
    """A row for each webhook and node; what went wrong last below."""
    rows = [
        (
            row["name"],
            row["node"],
            _stand(row),
            row["delivered"],
            row["failed"],
            row["buried"],
            row["gaps"],
            row["lag"] if row["lag"] >= 0 else "-",
            row["url"],
        )
        for row in answer["webhooks"]
    ]
    shown = table(("WEBHOOK", "NODE", "STATE", "TOLD", "FAILED", "DEAD", "GAPS", "LAG", "URL"), rows)
    wrong = [row for row in answer["webhooks"] if row["state"] in _WRONG]
    return shown + "".join(escape(f"{row['name']} at {row['node']}: {row['last_error']}") + "\n" for row in wrong)
