"""`triode reload`: have a broker read its settings again, and say what came of it.

Knows the administration call by name and what it answers. The surprising decision: a node that has not answered
makes the command fail as one that has refused does. Whoever takes a right away has to know where it still holds.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from triode_broker.cli.administration import node
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.screen import Screen
from triode_broker.cli.streams import say
from triode_broker.cli.subs import as_json
from triode_broker.printable import escape


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Reload one node, or all. Raises Failure."""
    answer = node(arguments, environ).call("reload", cluster=arguments.cluster)
    say(as_json(answer) if arguments.json else "".join(f"{line}\n" for line in _lines(answer)))
    if answer["unanswered"]:
        Screen().tell(f"no answer from {', '.join(answer['unanswered'])}: what was in force there may still be")
        return ExitCode.TIMEOUT
    refused = [one for one in answer["nodes"].values() if not one["reloaded"]]
    return ExitCode.REFUSED if refused else ExitCode.OK


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    for name, one in sorted(answer["nodes"].items()):
        if not one["reloaded"]:
            yield f"{name}: nothing has changed: {escape(one['reason'])}"
            continue
        changed = ", ".join(one["changed"]) or "no setting; files of keys and certificates were read"
        yield f"{name}: changed: {changed}"
        if one["need_a_restart"]:
            yield f"{name}: wait for a restart: {', '.join(one['need_a_restart'])}"
    digests = {one["digest"] for one in answer["nodes"].values()}
    if len(digests) > 1:
        yield "the nodes have different settings: `triode cluster` shows which (DRIFT)"
