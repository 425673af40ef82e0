"""The grammar of `triode top`, `tail`, `check` and `cluster`; as `arguments`, which it is a part of.

Names and forms, examples, and nothing heavy.
"""

import argparse
from typing import Final

from triode_broker.cli.argument_types import count, seconds

WHERE: Final = """Asks a node of this machine through its administration socket (--data, TRIODE_DATA, the file's
`data`, or --admin-socket), or any node over HTTP: --url http(s)://HOST:PORT, the address of `admin.listen` or of
clients, with --token-file: its secret, or a token with the right `operate`."""

TOP_EXAMPLES: Final = f"""examples:
  triode top --data /var/lib/triode              live; q ends it, keys are shown in its last line
  triode top --once                              one picture as text: rates of one interval
  triode top --url https://triode.example:7402 --token-file operators.secret
  triode top --once --json | jq .totals          the same figures for programs
  triode top --sort bytes --interval 5

Rates are the difference of two looks. Where output is no terminal a picture is printed each interval (--count N).
Latencies: half of all, and 99 of 100, took at most so long; p99 of commits: until a disk had them.
{WHERE}"""

CLUSTER_EXAMPLES: Final = f"""examples:
  triode cluster --data /var/lib/triode          nodes, links, shards and who owns them
  triode cluster --json                          the same for programs, each node's own view included
  triode cluster --watch                         again and again, until Ctrl-C
  until triode cluster; do sleep 1; done         wait until it is whole

Asks one node, which asks the others. SHARDS: owned by that node; FILTERS: what its clients are subscribed to;
NAMES: durable subscriptions and groups at home there. SETTINGS: the digest of what all nodes should have alike.
LOOP: how late the last turn of its loop began. LAG: by how many places a node is behind a shard's owner, ? where
it does not reach it. DRIFT: settings, or the version, that differ. The exit code is 1 while anything is degraded,
a node is not reached, or nodes disagree; 3 where the node that is asked is a single one, in no cluster.
{WHERE}"""

TAIL_EXAMPLES: Final = f"""examples:
  triode tail --user ada                         what her clients publish, are sent, subscribe to, acknowledge
  triode tail --connection c-19ab…               one connection (see `triode connections`)
  triode tail --topic 'rooms/#' --payloads       messages, with what they carry
  triode tail --user ada --tenant acme --count 100 --json

Follows on all nodes. Payloads, headers and states are left out, and told by their size, unless --payloads asks for
them; credentials always are. → is said by the client, ← is told to it. The broker's log says who follows whom.
A node holds 2,000 events between two looks; what was too much is counted and said.
What is answered to requests over HTTP is not shown; what they ask is.
{WHERE}"""

CHECK_EXAMPLES: Final = """examples:
  triode check --config triode.toml              before it is started: settings, ports, keys, disk, kernel, peers
  triode check --config triode.toml --strict     what is to be looked at counts as wrong
  triode check --url http://127.0.0.1:7402 --token-file operators.secret     one that runs, and its cluster
  triode check --date-url https://example.com    this machine's clock, by that server's
  triode check --json | jq '.findings[] | select(.level != "ok")'

ok: as it should be; warn: it works, but look at it; fail: it does not. → says what to do. Run it as the user that
the broker runs as, on its machine. Peers are greeted as nodes greet each other, without becoming one of them.
The exit code is 1 where something is wrong."""

SORTS: Final = ("published", "subscribers", "bytes", "name")


def add_where(parser: argparse.ArgumentParser) -> None:
    """Which node is asked, and how."""
    add = parser.add_argument
    add("--data", metavar="DIR", help="the broker's data directory (or TRIODE_DATA)")
    text = "its administration socket, where it is not there (or TRIODE_ADMIN_SOCKET)"
    add("--admin-socket", metavar="PATH", help=text)
    add("--config", metavar="FILE", help="the broker's TOML file (or TRIODE_CONFIG)")
    add("--url", metavar="URL", help="ask over HTTP: http(s)://HOST:PORT")
    add("--token-file", metavar="FILE", help="with --url: the secret or token (or in TRIODE_TOKEN)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ca", metavar="FILE", help="https://: trust what these authorities (PEM) signed")
    which.add_argument("--insecure", action="store_true", help="https://: do not ask whose certificate it is")
    add("--certificate", metavar="FILE", help="https://: the own certificate, key included (PEM)")
    add("--json", action="store_true", help="print JSON")


def add_top(parser: argparse.ArgumentParser) -> None:
    """`triode top`."""
    add = parser.add_argument
    add("--once", action="store_true", help="one picture, as text, after one interval")
    add("--interval", metavar="SECONDS", type=seconds, default=2.0, help="between two looks (2)")
    add("--count", metavar="N", type=count, help="end after so many pictures")
    add("--sort", metavar="BY", choices=SORTS, default=SORTS[0], help=f"topics by: {', '.join(SORTS)}")
    add("--limit", metavar="N", type=count, default=10, help="so many topics, connections and names (10)")
    add_where(parser)


def add_tail(parser: argparse.ArgumentParser) -> None:
    """`triode tail`."""
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--topic", metavar="FILTER", help="messages of this filter")
    which.add_argument("--user", metavar="USER", help="the clients of this user; '': those without a name")
    which.add_argument("--connection", metavar="ID", help="one connection")
    add("--tenant", metavar="NAME", help="of this tenant (with --user and --topic without it: the default)")
    add("--payloads", action="store_true", help="show what applications say, too")
    add("--count", metavar="N", type=count, help="stop after N events")
    add_where(parser)


def add_check(parser: argparse.ArgumentParser) -> None:
    """`triode check`. The flags of `serve` that say where and as whom."""
    add = parser.add_argument
    add("--listen", metavar="HOST:PORT", help="where it is to listen")
    add("--node", metavar="NAME", help="name of the node")
    add("--cluster-listen", metavar="HOST[:PORT]", help="where other nodes are to connect")
    add("--seed", metavar="URL", dest="seeds", action="append", help="another node; may be repeated")
    add("--cluster-secret-file", metavar="FILE", help="the secret that all nodes share")
    add("--date-url", metavar="URL", help="compare this machine's clock with the Date of an answer from there")
    add("--strict", action="store_true", help="exit code 1 for warnings, too")
    add_where(parser)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """`triode cluster`."""
    parser.add_argument("--watch", action="store_true", help="show it anew, until Ctrl-C")
    parser.add_argument("--interval", metavar="SECONDS", type=seconds, default=2.0, help="with --watch (2)")
    add_where(parser)
