"""`triode token key`: make, list and revoke the API keys of a file.

Knows `auth.api_keys`, which needs no library. The surprising decision: a key that is revoked stays in the file. So
its owner is told that it was, and nobody makes its id again.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from triode_broker.auth.api_keys import ApiKey, make_key, read_keys, state, write_keys
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.subs import table
from triode_broker.cli.token_bearer import bearer_of, tell
from triode_broker.printable import escape
from triode_broker.secrets_on_disk import BadFile

_RELOAD = "a broker that runs reads it again on SIGHUP (kill -HUP, systemctl reload)"


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """One action. Raises Failure."""
    file = arguments.file or environ.get("TRIODE_AUTH_API_KEYS_FILE", "")
    if not file:
        raise Failure(ExitCode.USAGE, "in which file? --file FILE, the broker's auth.api_keys_file")
    try:
        match arguments.key_action:
            case "create":
                return _create(file, arguments)
            case "list":
                return _list(file, arguments)
            case _:
                return _revoke(file, arguments.id)
    except FileNotFoundError:
        how = "its folder" if arguments.key_action == "create" else "triode token key create makes the file; it"
        raise Failure(ExitCode.USAGE, f"{file}: {how} is not there") from None
    except BadFile as error:
        raise Failure(ExitCode.FAILURE, f"{file}: {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Failure(ExitCode.FAILURE, f"{file}: cannot be written: {reason}") from None


def _create(file: str, arguments: argparse.Namespace) -> ExitCode:
    now_ms = int(time.time() * 1000)
    ends = {"expires_ms": now_ms + arguments.seconds * 1000} if arguments.seconds else {}
    key, text = make_key(**bearer_of(arguments), created_ms=now_ms, **ends)
    write_keys(file, lambda keys: [*keys, key])
    say(f"{text}\n")
    tell(f"this is the only time that it is shown: {file} keeps its hash; {_RELOAD}")
    return ExitCode.OK


def _list(file: str, arguments: argparse.Namespace) -> ExitCode:
    now_ms = int(time.time() * 1000)
    rows = [(key, state(key, now_ms)) for key in read_keys(file)]
    if arguments.json:
        shown = [{**_fields(key), "state": word} for key, word in rows]
        say(msgspec.json.encode(shown).decode() + "\n")
        return ExitCode.OK
    cells = [
        (
            key.id,
            escape(key.user),
            key.tenant or "-",
            escape(" ".join(key.roles)) or "-",
            word,
            moment(key.expires_ms),
        )
        for key, word in rows
    ]
    say(table(("ID", "USER", "TENANT", "ROLES", "STATE", "EXPIRES"), cells))
    return ExitCode.OK


def _fields(key: ApiKey) -> dict[str, Any]:
    """All but the hash, which nobody needs to see."""
    found = msgspec.structs.asdict(key)
    del found["sha256"]
    return found


def _revoke(file: str, name: str) -> ExitCode:
    now_ms = int(time.time() * 1000)

    def change(keys: list[ApiKey]) -> list[ApiKey]:
        if name not in [key.id for key in keys]:
            raise Failure(ExitCode.USAGE, f"{file}: there is no key {name}; triode token key list shows them")
        return [
            msgspec.structs.replace(key, revoked_ms=key.revoked_ms or now_ms) if key.id == name else key
            for key in keys
        ]

    read_keys(file)  # one that is not there is not made
    write_keys(file, change)
    tell(f"{name} is revoked; {_RELOAD}, and triode revoke --key {name} works at once on all nodes")
    return ExitCode.OK


def moment(ms: int) -> str:
    """A wall-clock time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ms / 1000)) if ms else "never"
