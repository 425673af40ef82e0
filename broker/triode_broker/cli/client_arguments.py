"""The grammar of the commands about clients: who is connected, kick, revoke, unrevoke, what is revoked.

As `arguments`, which it is a part of: names and forms, examples, and nothing heavy.
"""

import argparse
import re
from typing import Final

_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

CONNECTIONS_EXAMPLES: Final = """examples:
  triode connections                             who is connected, on all nodes
  triode connections --user ada --json           those of one user, with all that is known of them
  triode connections --address 203.0.113.7
  triode connections --after c-19ab…             those behind that one: `more` says that there are some

SINCE: when they connected. SUBS: their open subscriptions. TOKEN and KEY are ids, nothing that lets anybody in.
The broker is found as by `triode subs` (--data, TRIODE_DATA, the file's `data`), or by --admin-socket."""

KICK_EXAMPLES: Final = """examples:
  triode kick --user ada                         close her connections now, on all nodes (4006)
  triode kick --user ada --tenant acme           the user of that name of a tenant
  triode kick --connection c-19ab…               one connection (see `triode connections`)
  triode kick --tenant acme --come-back          everybody of a tenant; they reconnect by themselves (4107)

Closes and withdraws nothing: who has a good credential may connect again. A client library does so by itself only
with --come-back. To keep somebody out: triode revoke.
The broker is found as by `triode subs` (--data, TRIODE_DATA, the file's `data`), or by --admin-socket."""

REVOKE_EXAMPLES: Final = """examples:
  triode revoke --user ada                       every credential of hers that was issued until now
  triode revoke --user ada --also-new            those issued later, too: she stays out until `unrevoke`
  triode revoke --token 5f2c…                    one token, by its id (jti)
  triode revoke --key 0a1b2c3d4e5f               an API key, by its id (triode token key list); also in its file
  triode revoke --connection c-19ab…             the credential that connection came in with
  triode revoke --user ada --for 7d

Holds at once on all nodes that are reached, and on the others before they let anybody in again; who is connected
with it is closed (4002). It ends when no token can be good any more (auth.max_token_seconds), that of a key
never, or as --for says.
The broker is found as by `triode subs` (--data, TRIODE_DATA, the file's `data`), or by --admin-socket."""

UNREVOKE_EXAMPLES: Final = """examples:
  triode unrevoke --user ada                     what `triode revoke --user ada` has withdrawn is good again
  triode unrevoke --token 5f2c…

The broker is found as by `triode subs` (--data, TRIODE_DATA, the file's `data`), or by --admin-socket."""

REVOCATIONS_EXAMPLES: Final = """examples:
  triode revocations                             what is revoked, since when and until when
  triode revocations --json

The broker is found as by `triode subs` (--data, TRIODE_DATA, the file's `data`), or by --admin-socket."""


def add_node(parser: argparse.ArgumentParser) -> None:
    """How the broker is found, and JSON."""
    parser.add_argument("--data", metavar="DIR", help="the broker's data directory (or TRIODE_DATA)")
    text = "its administration socket, where it is not there (or TRIODE_ADMIN_SOCKET)"
    parser.add_argument("--admin-socket", metavar="PATH", help=text)
    parser.add_argument("--config", metavar="FILE", help="the broker's TOML file (or TRIODE_CONFIG)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_connections(parser: argparse.ArgumentParser) -> None:
    """`triode connections`."""
    _add_user(parser, "of this user only")
    parser.add_argument("--address", metavar="IP", help="from this address only")
    parser.add_argument(
        "--limit", metavar="N", type=int, default=100, help="at most so many (100; not above 1000)"
    )
    parser.add_argument("--after", metavar="ID", default="", help="those behind this connection")
    add_node(parser)


def add_kick(parser: argparse.ArgumentParser) -> None:
    """`triode kick`."""
    _add_user(parser, "of this user")
    _add_credential(parser)
    parser.add_argument("--connection", metavar="ID", help="one connection")
    parser.add_argument("--address", metavar="IP", help="from this address")
    parser.add_argument("--come-back", action="store_true", help="tell them to reconnect")
    add_node(parser)


def add_revoke(parser: argparse.ArgumentParser) -> None:
    """`triode revoke`."""
    _add_user(parser, "of this user")
    _add_credential(parser)
    parser.add_argument("--connection", metavar="ID", help="what this connection came in with")
    text = "how long it holds: 90s, 15m, 2h, 30d or ever (default: as long as a token can be good; a key: ever)"
    parser.add_argument("--for", metavar="TIME", dest="seconds", type=duration, help=text)
    parser.add_argument("--also-new", action="store_true", help="of a user: also what is issued later")
    add_node(parser)


def add_unrevoke(parser: argparse.ArgumentParser) -> None:
    """`triode unrevoke`."""
    _add_user(parser, "of this user")
    _add_credential(parser)
    add_node(parser)


def _add_user(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--user", metavar="USER", help=text)
    parser.add_argument(
        "--tenant", metavar="NAME", help="of this tenant (with --user and without it: the default)"
    )


def _add_credential(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", metavar="ID", help="the token of this id (jti)")
    parser.add_argument("--key", metavar="ID", help="the API key of this id")


def duration(text: str) -> int:
    """A time as an argument, in seconds; 0: for ever."""
    if text == "ever":
        return 0
    found = re.fullmatch(r"([1-9][0-9]{0,8})(s|m|h|d)", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 90s, 15m, 2h, 30d or ever")
    return int(found[1]) * _UNIT_SECONDS[found[2]]
