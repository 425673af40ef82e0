"""The grammar of the command line: commands, flags, help with examples.

Knows names and forms, not what commands do, and imports nothing heavy: `triode --help` is quick. The surprising
decision: the flags of `serve` have no defaults and are not checked here. So a flag that is not given never hides
what the file or the environment says, and `settings` judges all layers alike.
"""

import argparse
import platform
from collections.abc import Sequence

from triode_protocol.packets import PROTOCOL

from triode_broker.cli import (
    bench_arguments,
    client_arguments,
    operator_arguments,
    running_arguments,
    token_arguments,
    trace_arguments,
)
from triode_broker.cli.argument_types import count, seconds, window
from triode_broker.cli.exit_codes import MEANINGS
from triode_broker.cli.streams import say
from triode_broker.config import CLUSTER_PORT, DEFAULT_CLUSTER_LISTEN, Config
from triode_broker.release import described

DEFAULT_URL = f"ws://{Config().listen}/ws"  # where `triode serve` listens when nothing is set
_EXIT_CODES = "exit codes: " + ", ".join(f"{code:d} {text}" for code, text in MEANINGS.items())

_SERVE_EXAMPLES = """examples:
  triode serve                                   on 127.0.0.1:7400, for programs of this machine
  triode serve --config triode.toml              for others, too: it says who may connect (docs/authentication.md)
  triode serve --config triode.toml --check      is the file right, what holds, and what is not safe?
  triode serve --workers 0                       one process per core, all on one port
  triode serve --node n1 --cluster-listen 10.0.0.1:7401 --cluster-secret-file cluster.secret \\
      --seed ws://10.0.0.2:7401 --seed ws://10.0.0.3:7401
  TRIODE_LIMITS_MAX_PACKET_BYTES=131072 triode serve

Every setting: `triode serve --check`. A flag wins over the environment (TRIODE_LISTEN, TRIODE_LIMITS_PING_MS),
that over the file, that over the default."""

_PUB_EXAMPLES = """examples:
  triode pub rooms/42/chat 'hello'               one message, the text as a JSON string
  triode pub sensors/7 '{"celsius": 21.5}' --json
  triode pub jobs/new "build 7" --key build-7 --header trace=a1
  tail -f app.log | triode pub logs/app -        every line a message, as it comes
  jq -c '.[]' events.json | triode pub events - --json

Lines go out in order, many in flight at once; when the broker is away they wait and are sent again, and the broker
knows those it already has. Bytes that are not UTF-8 are sent as U+FFFD. A line that is refused is named on stderr,
the others go on."""

_SUB_EXAMPLES = """examples:
  triode sub 'rooms/+/chat'                      + is one level, # the rest; quote them for the shell
  triode sub 'logs/#' --from earliest            all that the broker still holds, then live
  triode sub sensors/7 --from last --count 1     the newest value, then done
  triode sub 'logs/#' --from since:15m --json | jq .data

Data that is text is printed as text, anything else as JSON. Control characters are printed as escapes, so that
what others publish cannot drive the terminal; --json gives the exact data and all other fields."""

_PRESENCE_EXAMPLES = """examples:
  triode presence rooms/42                       a line for each: its id, and the state it is in
  triode presence rooms/42 --json | jq .state

Members are subscriptions with presence={"state": …} (SPEC 10). Those of a connection that was lost a moment ago
are listed still."""

_SUBS_EXAMPLES = """examples:
  triode subs list --data /var/lib/triode        all names, with lag and what is in flight
  triode subs show worker                        one name: members, positions, pending messages
  triode subs rewind worker --to earliest        deliver again all that is still held
  triode subs rewind worker --to since:2h
  triode subs delete worker                      the name, its position and what it had pending
  triode subs show worker --tenant acme          a name of a tenant's clients

PENDING: taken in and not acknowledged; IN FLIGHT: of these, with a member now. LAG: places in the log from the
oldest message that is not settled to the newest; where the filter does not match all of them there is less to do,
hence the ≤. DEAD: dead letters (triode dead). SETTLED, TAKEN: all up to there is done with, was taken in.
A position in several logs is LOG.POS~LOG.POS; a log that is not named in it stays where it is.

Talks to the running broker through a socket in its data directory (--data, TRIODE_DATA or the file's `data`), so
on its machine and as its user."""

_DEAD_EXAMPLES = """examples:
  triode dead list                               which names have dead letters, and how many
  triode dead list worker                        those of one name, with reason and origin
  triode dead retry worker                       publish all of them again where they came from
  triode dead retry worker --pos 18 --pos 20     only these (positions as `list` shows them)
  triode dead drop worker --pos 18               forget one

A retry publishes a new message on the topic it came from: every subscriber of that topic gets it, not only NAME.
A retry publishes to the topic again, for everybody who is subscribed to it, not for NAME alone.
Dead letters are messages of the topic $dead/NAME: `triode sub '$dead/worker' --from last` reads them too.
The broker is found as by `triode subs`: --data, TRIODE_DATA or the file's `data`."""


_TENANTS_EXAMPLES = """examples:
  triode tenants --data /var/lib/triode          connections, messages and refusals of each tenant, of all nodes
  triode tenants --json                          the same of each node on its own

A tenant comes with a client's credential; - is the one without a name. CONNECTIONS and SUBSCRIPTIONS: what is
there now; the others count since a node's start. DELIVERED: put out for clients, live or with acknowledgements.
REFUSED: errors that were answered. Names of a tenant are looked after with --tenant: triode subs, triode dead.
The broker is found as by `triode subs`: --data, TRIODE_DATA or the file's `data`."""


_WEBHOOKS_EXAMPLES = """examples:
  triode webhooks --data /var/lib/triode         what each has told, how far it is behind, what went wrong
  triode webhooks --json
  triode webhooks --test billing                 one request with an event that tells nothing, sent by this node
  triode dead list webhook:billing               what it could not get rid of (triode dead retry: once more)

The exit code is 1 while one of them fails, or where the test was not taken."""

_METRICS_EXAMPLES = """examples:
  triode metrics --data /var/lib/triode          what Prometheus is told at /metrics, of all processes of this host
  triode metrics --json                          all figures of all nodes, for programs

Counters are since a node's start: rates are the difference of two looks. docs/metrics.md tells what each means.
The broker is found as by `triode subs`: --data, TRIODE_DATA or the file's `data`."""


_DRAIN_EXAMPLES = """examples:
  triode drain --data /var/lib/triode            as SIGTERM does, and wait for the end
  triode drain --seconds 60                      no faster than that
  triode drain --seconds 0                       everybody at once

The broker stops being ready (/readyz), refuses new connections, and sends its clients away, spread over
drain_window_ms where they have other nodes to go to, over drain_alone_ms where not. What they publish until their
own goodbye is taken and answered. Then it ends; this command ends after it, so the next can be started at once.
The broker is found as by `triode subs`: --data, TRIODE_DATA or the file's `data`. One without has no command: send
it SIGTERM. A second SIGTERM, or SIGINT, ends it without the window."""


_CONFORMANCE_EXAMPLES = """examples:
  triode conformance -- python clients/python/conformance_adapter.py
  triode conformance --scenario resume-after-a-cut --scenario 'gap-*' -- node adapter.mjs
  triode conformance --list                      all scenarios, by group, with what they show
  triode conformance --features                  what an adapter may say that its client lacks

Plays a broker that follows a script, faults included, against any client of the protocol. The client takes part
through an adapter: a program that reads commands and writes reports, one JSON object a line
(protocol/scenarios/README.md, docs/writing-a-client.md). A scenario that needs what the client lacks is skipped,
and said to be. The exit code is 1 where a scenario failed, 2 where the adapter could not be started."""


def make_parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    parser = argparse.ArgumentParser(
        prog="triode",
        description="A pub/sub message broker over WebSockets: run it, publish to it, listen to it.",
        epilog=f"`triode COMMAND --help` has examples.\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version_line())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_serve(_command(commands, "serve", "run a broker", _SERVE_EXAMPLES))
    _add_pub(_command(commands, "pub", "publish a message, or every line of stdin", _PUB_EXAMPLES))
    _add_sub(_command(commands, "sub", "print the messages of one or more filters", _SUB_EXAMPLES))
    _add_presence(_command(commands, "presence", "print who is on a topic", _PRESENCE_EXAMPLES))
    text = "show where a message goes, or has gone"
    trace_arguments.add(_command(commands, "trace", text, trace_arguments.EXAMPLES), _add_client)
    _add_subs(_command(commands, "subs", "look after durable subscriptions and groups", _SUBS_EXAMPLES))
    _add_dead(_command(commands, "dead", "look after messages that could not be processed", _DEAD_EXAMPLES))
    text = "show what the clients of each tenant do"
    client_arguments.add_node(_command(commands, "tenants", text, _TENANTS_EXAMPLES))
    hooks = _command(commands, "webhooks", "show how webhooks stand, or test one", _WEBHOOKS_EXAMPLES)
    client_arguments.add_node(hooks)
    hooks.add_argument("--test", metavar="NAME", default="", help="send it a test event, and tell its answer")
    client_arguments.add_node(_command(commands, "metrics", "print what a broker counts", _METRICS_EXAMPLES))
    _add_operators(commands)
    _add_drain(_command(commands, "drain", "take a broker out of service", _DRAIN_EXAMPLES))
    about = running_arguments
    about.add_reload(_command(commands, "reload", "have a broker read its settings again", about.RELOAD_EXAMPLES))
    text = "show or change what a broker's log holds"
    about.add_log_level(_command(commands, "log-level", text, about.LOG_LEVEL_EXAMPLES))
    _add_client_commands(commands)
    text = "make and look into tokens and API keys"
    token_arguments.add_token(_command(commands, "token", text, token_arguments.EXAMPLES))
    text = "play scenarios with faults against a client in any language"
    _add_conformance(_command(commands, "conformance", text, _CONFORMANCE_EXAMPLES))
    return parser


def _add_operators(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = operator_arguments
    about.add_cluster(_command(commands, "cluster", "show how a cluster stands", about.CLUSTER_EXAMPLES))
    text = "follow what a client says and is told, or a topic"
    about.add_tail(_command(commands, "tail", text, about.TAIL_EXAMPLES))
    text = "look whether a broker would run well here, or does"
    about.add_check(_command(commands, "check", text, about.CHECK_EXAMPLES))
    text = "measure what a broker does under a load"
    bench_arguments.add(_command(commands, "bench", text, bench_arguments.EXAMPLES), _add_client)
    about.add_top(_command(commands, "top", "watch what a broker does", about.TOP_EXAMPLES))


def _add_client_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = client_arguments
    about.add_connections(_command(commands, "connections", "show who is connected", about.CONNECTIONS_EXAMPLES))
    about.add_kick(_command(commands, "kick", "close connections", about.KICK_EXAMPLES))
    about.add_revoke(_command(commands, "revoke", "withdraw credentials", about.REVOKE_EXAMPLES))
    about.add_unrevoke(_command(commands, "unrevoke", "take a revocation back", about.UNREVOKE_EXAMPLES))
    about.add_node(_command(commands, "revocations", "show what is revoked", about.REVOCATIONS_EXAMPLES))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; SystemExit where there is no command to run. Raises Failure if help cannot be written."""
    try:
        return make_parser().parse_args(argv)
    except SystemExit:
        say("")  # what --help and --version have printed is still in the buffer
        raise


def version_line() -> str:
    """What --version prints."""
    return f"triode {described()}, protocol {PROTOCOL}, Python {platform.python_version()}"


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"{examples}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--listen", metavar="HOST:PORT", help=f"where to listen (default {Config().listen})")
    add("--config", metavar="FILE", help="TOML file with settings (or TRIODE_CONFIG)")
    add(
        "--data",
        metavar="DIR",
        help='directory for what outlives the process: topics with storage = "disk", durable names',
    )
    add(
        "--restored",
        action="store_const",
        const=True,
        help="the data comes from a backup or copy: begin new logs, so that clients are told (not at every start)",
    )
    add("--admin-socket", metavar="PATH", help="where `triode kick` and others ask (admin.sock under --data)")
    add("--workers", metavar="N", help="processes that share the port, linked as nodes (1; 0: one per core)")
    _add_cluster(parser)
    add("--demo", action="store_const", const=True, help="publish this machine's own figures on demo/host/#")
    add("--insecure", action="store_const", const=True, help="start in spite of what is not safe; health shows it")
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    add("--log-format", metavar="FORMAT", help="auto, json or console; auto: console on a terminal")
    add("--check", action="store_true", help="check the settings, print those in effect, do not serve")
    add("--as-worker", metavar="NAME", help=argparse.SUPPRESS)  # what `workers` starts; named for `ps`


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--node", metavar="NAME", help="name of this node, in answers, logs and the cluster: another on each")
    add(
        "--cluster-listen",
        metavar="HOST[:PORT]",
        help=f"where other nodes connect (port {CLUSTER_PORT}); with seeds alone {DEFAULT_CLUSTER_LISTEN}",
    )
    add(
        "--seed",
        metavar="URL",
        dest="seeds",
        action="append",
        help="where another node listens for nodes, for example ws://10.0.0.2:7401; may be repeated",
    )
    add("--cluster-secret-file", metavar="FILE", help="file with the secret that all nodes share")
    add("--cluster", metavar="NAME", help=f"name of the cluster; others are refused ({Config().cluster})")
    add(
        "--durable",
        metavar="NAMES",
        action="append",
        help="the nodes that hold the durable shards, one each, in order, like n1,n2,n3: on all nodes the same",
    )
    add("--advertise", metavar="URL", help="where clients reach this node, for those whose node drains")
    add("--cluster-advertise", metavar="URL", help="where other nodes reach this one, if not at --cluster-listen")
    add(
        "--create-store",
        action="store_const",
        const=True,
        help="make a missing durable shard without asking the others (when they are gone for good)",
    )


def _add_client(parser: argparse.ArgumentParser) -> None:
    url = f"address of the broker (or TRIODE_URL; default {DEFAULT_URL}); several are nodes of one cluster: "
    url += "repeat it, or write them with commas"
    parser.add_argument("--url", metavar="URL", action="append", help=url)
    token = "file with the token to connect with, read again for each connection (or the token itself in the"
    token += " variable TRIODE_TOKEN; never in an argument: others can read those)"
    parser.add_argument("--token-file", metavar="FILE", help=token)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--ca", metavar="FILE", help="wss://: trust certificates that these authorities (PEM) signed"
    )
    which.add_argument("--insecure", action="store_true", help="wss://: do not ask whose certificate it is")
    pair = "wss://: the client's own certificate, key included (PEM), for a broker that asks for one"
    parser.add_argument("--certificate", metavar="FILE", help=pair)


def _add_pub(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("topic", metavar="TOPIC", help="where to, for example rooms/42/chat")
    add("data", metavar="DATA", help="what; - for every line of stdin")
    add("--json", action="store_true", help="DATA (or every line) is JSON, sent as it is")
    add("--key", metavar="KEY", default="", help="key of the messages")
    add("--header", metavar="NAME=VALUE", action="append", default=[], help="a header; may be repeated")
    add("--no-ack", action="store_true", help="do not wait for the broker to confirm: faster, may be lost")
    add(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        help="longest time without a broker, also at the start (10; with -: no end)",
    )
    add("--verbose", action="store_true", help="print the position of every message")
    _add_client(parser)


def _add_sub(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("filters", metavar="FILTER", nargs="+", help="for example rooms/42/chat, rooms/+/chat, rooms/#")
    start = "new (default), last, earliest, last:N, since:DURATION (90s, 15m, 2h, 1d) or since:MS (since 1970)"
    add("--from", metavar="WHERE", dest="start", default="new", help=start)
    add("--json", action="store_true", help="one JSON object per line, with every field of the message")
    add("--count", metavar="N", type=count, help="stop after N messages")
    add(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        help="stop after so long; exit 4 if --count was not reached (a broker must be there within 10)",
    )
    _add_client(parser)


def _add_presence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC", help="for example rooms/42")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, help="how long a broker may take to be there (10)"
    )
    _add_client(parser)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", metavar="TENANT", help="names of this tenant; '' is the one without a name")
    client_arguments.add_node(parser)


def _add_subs(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_names(actions.add_parser("list", help="all names", allow_abbrev=False))
    for action, text in (("show", "one name"), ("delete", "forget a name, its position and what it had pending")):
        one = actions.add_parser(action, help=text, allow_abbrev=False)
        one.add_argument("name", metavar="NAME")
        _add_names(one)
    rewind = actions.add_parser("rewind", help="go on from another place", allow_abbrev=False)
    rewind.add_argument("name", metavar="NAME")
    where = "earliest, new, since:DURATION (90s, 15m, 2h, 1d), since:MS (since 1970) or a position LOG.POS"
    rewind.add_argument("--to", metavar="WHERE", dest="start", required=True, help=where)
    _add_names(rewind)


def _add_dead(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    some = actions.add_parser(
        "list", help="the letters of a name, or all names that have some", allow_abbrev=False
    )
    some.add_argument("name", metavar="NAME", nargs="?", default="")
    some.add_argument(
        "--limit", metavar="N", type=count, default=100, help="at most so many (100; not above 10000)"
    )
    _add_names(some)
    for action, text in (("retry", "publish them again where they came from"), ("drop", "forget them")):
        one = actions.add_parser(action, help=text, allow_abbrev=False)
        one.add_argument("name", metavar="NAME")
        which = "only the letter at this position of $dead/NAME; may be repeated"
        one.add_argument("--pos", metavar="POS", type=count, action="append", default=[], help=which)
        if action == "drop":
            one.add_argument("--all", action="store_true", help="all of them (drop needs this or --pos)")
        _add_names(one)


def _add_drain(parser: argparse.ArgumentParser) -> None:
    text = "send the clients away within so long (as configured; 0: at once)"
    parser.add_argument("--seconds", metavar="N", type=window, help=text)
    client_arguments.add_node(parser)


def _add_conformance(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "only those of this name (* and ? match any) or this group; may be repeated"
    add("--scenario", metavar="NAME", action="append", default=[], help=text)
    add("--scenarios", metavar="PATH", help="a file or folder of scenarios, instead of those of this version")
    add("--list", action="store_true", help="print the scenarios, play none")
    add("--features", action="store_true", help="print what a client may lack, play none")
    add("--json", action="store_true", help="print one JSON object with all results")
    add("--parallel", metavar="N", type=count, default=4, help="adapters at the same time (4)")
    text = "how long a step may take before it has failed (10)"
    add("--patience", metavar="SECONDS", type=seconds, default=10.0, help=text)
    add("program", metavar="COMMAND", nargs="*", help="how the adapter is started, behind --")
