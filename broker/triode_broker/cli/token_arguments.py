"""The grammar of `triode token`: create, inspect, key, generate-secret, generate-key.

As `arguments`, which it is a part of: names and forms, examples, and nothing heavy.
"""

import argparse
from typing import Any, Final

from triode_broker.cli.client_arguments import duration

ACTIONS: Final = ("publish", "subscribe", "presence", "history", "consume", "operate")
SECRET_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
PAIR_ALGORITHMS: Final = ("ES256", "EdDSA", "RS256")

EXAMPLES: Final = """examples:
  triode token generate-secret --file jwt.secret
  triode token create --key-file jwt.secret --user ada --publish 'rooms/#' --subscribe 'rooms/#' > ada.token
  triode token create --config triode.toml --user ada --tenant acme --role editor
  triode token inspect --config triode.toml --token-file ada.token
  triode token generate-key --algorithm EdDSA --private sign.pem --public check.pem
  triode token key create --file api-keys --user billing --publish 'invoices/#' > billing.key
  triode token key list --file api-keys
  triode token key revoke 3f0c9a71b2de --file api-keys

A token (JWT) says who its bearer is until it expires; a broker with the key believes it ([[tokens]]). An API key
is for a service: its hash stands in a file of the broker's (auth.api_keys_file), which reads it again on SIGHUP.
Both are secrets: they go to stdout, to be kept in a file; what concerns you goes to stderr. Neither is ever an
argument, because others can read those. docs/authentication.md goes through all of it."""


def add_token(parser: argparse.ArgumentParser) -> None:
    """`triode token`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_create(_action(actions, "create", "sign a token"))
    _add_inspect(_action(actions, "inspect", "what a token says, and what a broker would say of it"))
    keys = _action(actions, "key", "look after the API keys of services").add_subparsers(
        dest="key_action", metavar="ACTION", required=True
    )
    _add_key_create(_action(keys, "create", "make a key, and put its hash into the file"))
    listing = _action(keys, "list", "the keys of the file")
    listing.add_argument("--json", action="store_true", help="print JSON")
    revoke = _action(keys, "revoke", "a key is good no longer")
    revoke.add_argument("id", metavar="ID", help="as `list` shows it; the part of the key between its two _")
    for one in (listing, revoke):
        _add_keys_file(one)
    secret = _action(actions, "generate-secret", "make a secret for HS256 and its like")
    secret.add_argument("--algorithm", choices=SECRET_ALGORITHMS, default="HS256", help="for this one (HS256)")
    secret.add_argument("--file", metavar="FILE", help="into this new file, for its owner alone (default: stdout)")
    pair = _action(actions, "generate-key", "make a private key and the public one that checks its tokens")
    pair.add_argument("--algorithm", choices=PAIR_ALGORITHMS, default="ES256", help="for this one (ES256)")
    pair.add_argument(
        "--private", metavar="FILE", required=True, help="new file, for its owner alone: to sign with"
    )
    pair.add_argument("--public", metavar="FILE", required=True, help="new file: what the broker gets")


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    return made


def _add_create(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="FILE", help="the broker's TOML file: what [[tokens]] says holds (or TRIODE_CONFIG)")
    add("--row", metavar="NAME", help="the `name` of the row of [[tokens]], where there are several")
    add("--key-file", metavar="FILE", help="secret or private key to sign with (default: the secret of the row)")
    add("--key-env", metavar="VARIABLE", help="the same in a variable of the environment")
    add(
        "--algorithm",
        choices=(*SECRET_ALGORITHMS, *PAIR_ALGORITHMS),
        help="default: what the row or the key is for",
    )
    add("--kid", metavar="NAME", help="which key it is")
    add("--issuer", metavar="TEXT", help="`iss`")
    add("--audience", metavar="TEXT", help="`aud`")
    _add_bearer(parser)
    text = "how long it is good: 90s, 15m, 1h (default), 30d"
    add("--for", metavar="TIME", dest="seconds", type=duration, default=3_600, help=text)
    add(
        "--claim",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="another claim, JSON or text; repeatable",
    )


def _add_key_create(parser: argparse.ArgumentParser) -> None:
    _add_keys_file(parser)
    _add_bearer(parser)
    text = "how long it is good: 90s, 15m, 2h, 30d or ever (default)"
    parser.add_argument("--for", metavar="TIME", dest="seconds", type=duration, default=0, help=text)


def _add_keys_file(parser: argparse.ArgumentParser) -> None:
    text = "the file with the keys, the broker's auth.api_keys_file (or TRIODE_AUTH_API_KEYS_FILE)"
    parser.add_argument("--file", metavar="FILE", help=text)


def _add_bearer(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--user", metavar="USER", required=True, help="whose it is")
    add("--tenant", metavar="NAME", default="", help="of this tenant (default: the default one)")
    add("--role", metavar="ROLE", dest="roles", action="append", default=[], help="a role; may be repeated")
    for action in ACTIONS:
        text = f"what it may {action}; may be repeated" if action == "publish" else argparse.SUPPRESS
        text = f"as --publish: what it may {action}" if action != "publish" else text
        if action in ("presence", "history"):
            text = f"as --publish: whose {action} it may ask for"
        elif action == "operate":
            text = "which administration calls it may make over HTTP: '#', 'connections', 'subs/#'"
        add(f"--{action}", metavar="FILTER", action="append", default=[], help=text)
        text = "what of that it may not; the same for the other five" if action == "publish" else argparse.SUPPRESS
        add(f"--deny-{action}", metavar="FILTER", action="append", default=[], help=text)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--token-file", metavar="FILE", help="where the token stands; - for stdin (or TRIODE_TOKEN)")
    add("--config", metavar="FILE", help="the broker's TOML file: would it be accepted? (or TRIODE_CONFIG)")
    add("--jwks", metavar="FILE", help="the document of the row's jwks_url, saved: nothing is fetched here")
    add("--json", action="store_true", help="print JSON")
