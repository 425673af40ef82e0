"""The arguments of `triode reload` and `triode log-level`: what changes how a broker runs.

Knows argparse, not what the commands do.
"""

import argparse

from triode_broker.cli.client_arguments import add_node, duration

LEVELS = ("debug", "info", "warning", "error", "configured")

RELOAD_EXAMPLES = """examples:
  triode reload --data /var/lib/triode           as SIGHUP does, and say what came of it
  triode reload --cluster                        on every node: each reads its own file
  triode reload --json                           the answer for programs

The broker reads its file, its environment and its flags again. What can change while it runs is in force when this
command returns, for those who are connected too, and no connection is closed for it; what cannot waits for a
restart and is named. Settings that cannot be used change nothing: the exit code is 3, and the reason is printed.
docs/reloading.md says of each setting when it takes effect.
The broker is found as by `triode subs`: --data, TRIODE_DATA or the file's `data`."""

LOG_LEVEL_EXAMPLES = """examples:
  triode log-level --data /var/lib/triode        what is written now
  triode log-level debug --for 10m               everything, for ten minutes
  triode log-level warning --cluster             on every node, until it is set again or the node restarts
  triode log-level configured                    as the settings say

No line holds a payload or a credential, whatever the level.
The broker is found as by `triode subs`: --data, TRIODE_DATA or the file's `data`."""


def add_reload(parser: argparse.ArgumentParser) -> None:
    """`triode reload`."""
    parser.add_argument("--cluster", action="store_true", help="on all nodes of the cluster, each by its own file")
    add_node(parser)


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """`triode log-level`."""
    text = "debug, info, warning, error, or configured: as the settings say"
    parser.add_argument("level", metavar="LEVEL", nargs="?", choices=LEVELS, help=text)
    text = "so long, then as configured again: 30s, 10m, 2h (until it is set again)"
    parser.add_argument("--for", metavar="TIME", dest="seconds", type=duration, help=text)
    parser.add_argument("--cluster", action="store_true", help="on all nodes of the cluster")
    add_node(parser)
