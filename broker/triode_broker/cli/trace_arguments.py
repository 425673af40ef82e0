"""The grammar of `triode trace`; as `arguments`, which it is a part of.

Nothing heavy. The surprising decision: one command for two ways in. Without --send it asks a node of this machine,
as operators do; with it, it is a client of any broker.
"""

import argparse
from collections.abc import Callable
from typing import Final

EXAMPLES: Final = """examples:
  triode trace rooms/42 --data /var/lib/triode   rule, shard, owner, who would get it and who may publish it
  triode trace rooms/42 --send hello             publish one, and print where it goes, hop by hop
  triode trace rooms/42 --send '{"x":1}' --as-json --json

Times are told from the first hop on, each by the clock of its own node. `incomplete` and exit code 1: something
was still open after five seconds, or a node did not say.
Without --send the broker is found as by `triode subs` (--data, TRIODE_DATA, the file's `data`), or by
--admin-socket; with it as by `triode pub`."""


def add(parser: argparse.ArgumentParser, add_client: Callable[[argparse.ArgumentParser], None]) -> None:
    """`triode trace`."""
    parser.add_argument("topic", metavar="TOPIC", help="for example rooms/42")
    parser.add_argument("--send", metavar="DATA", help="publish this and follow it")
    parser.add_argument("--as-json", action="store_true", help="DATA is JSON; else it is text")
    parser.add_argument("--tenant", metavar="TENANT", help="without --send: the topic of this tenant")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, help="how long a broker may take to be there (10)"
    )
    parser.add_argument("--data", metavar="DIR", help="the broker's data directory (or TRIODE_DATA)")
    text = "its administration socket, where it is not there (or TRIODE_ADMIN_SOCKET)"
    parser.add_argument("--admin-socket", metavar="PATH", help=text)
    parser.add_argument("--config", metavar="FILE", help="the broker's TOML file (or TRIODE_CONFIG)")
    add_client(parser)
