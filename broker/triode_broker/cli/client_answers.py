"""What the commands about clients have in common: the call, and what is said of nodes that had no part in it.

Knows the administration calls' parameters by name. The surprising decision: a revocation that did not reach all
nodes is in force and nevertheless fails (exit code 4), so that a script does not take it for done.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

from triode_broker.cli.administration import node
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.screen import Screen
from triode_broker.printable import escape

WHOM = ("user", "tenant", "token", "key", "connection", "address")


def ask(call: str, arguments: argparse.Namespace, environ: Mapping[str, str], **parameters: object) -> Any:
    """One call about those whom the arguments name. Raises Failure."""
    whom = {name: getattr(arguments, name, None) for name in WHOM}
    given = {name: value for name, value in {**whom, **parameters}.items() if value is not None}
    for name, value in given.items():
        if value == "" and name in WHOM:
            raise Failure(ExitCode.USAGE, f"--{name} is empty: nobody is named by that")
    return node(arguments, environ).call(call, **given)


def tell_kept(answer: Any) -> None:
    """Say so where a revocation does not outlive the processes."""
    kept: dict[str, str] = answer["kept"]
    if "disk" not in kept.values():
        Screen().tell("kept in memory only, and forgotten when the broker restarts: --data DIR keeps it")
    if failed := sorted(name for name, state in kept.items() if state == "failed"):
        Screen().tell(f"in force, but not written down by {', '.join(failed)}: the log there says why")


def check_answered(answer: Any, what: str) -> None:
    """Raises Failure where a node has not answered."""
    if missing := answer["unanswered"]:
        raise Failure(ExitCode.TIMEOUT, f"no answer from {escape(', '.join(missing))}: {what}")


def connections(count: int) -> str:
    """So many."""
    return f"{count} connection{'' if count == 1 else 's'}"


def when(ms: int) -> str:
    """A moment, in UTC; 0 is never."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(ms // 1000)) if ms else "never"


def named(entry: Mapping[str, Any]) -> str:
    """What a revocation is about."""
    of = f" of tenant {entry['tenant']}" if entry["tenant"] else ""
    return escape(f"{entry['kind']} {entry['value']}{of}")
