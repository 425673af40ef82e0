"""`triode token inspect`: what a token says, and what a broker with some settings would say of it.

Knows `auth.inspection`. The surprising decision: the token comes from a file, stdin or the environment, never as
an argument (S10), and of what is printed nothing lets anybody in: the signature stays out.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from triode_broker.auth.known import NotAccepted, NotKnown, bare
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import failures_of, say
from triode_broker.cli.token_bearer import config_of, part_of_auth
from triode_broker.cli.token_keys import moment
from triode_broker.config import Config
from triode_broker.core.rights import ACTIONS
from triode_broker.printable import escape

_TIMES: Final = ("iat", "nbf", "exp")
_WIDTH: Final = 14


def inspect(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Print it. The code says what a broker would: OK, REFUSED, or FAILURE where that cannot be told here."""
    config = config_of(arguments, environ)
    inspection = part_of_auth("inspection")
    token = _token(arguments, environ)
    found: dict[str, Any] = {}
    if (parts := inspection.parts(token)) is not None:
        found["header"], found["claims"] = parts
    code = ExitCode.OK
    if config is not None:
        verdict, code = _verdict(config, token, arguments, environ)
        found |= verdict
    elif parts is None:
        raise Failure(ExitCode.USAGE, "this is not a JWT; --config FILE says what a broker would make of it")
    say(json.dumps(found) + "\n" if arguments.json else _as_text(found))
    sys.stderr.write("Who it is about is no secret to those who read this. The signature is not shown.\n")
    return code


def _verdict(
    config: Config, token: str, arguments: argparse.Namespace, environ: Mapping[str, str]
) -> tuple[dict[str, Any], ExitCode]:
    now_ms = int(time.time() * 1000)
    jwks = _document(arguments.jwks) if arguments.jwks else None
    try:
        identity = part_of_auth("inspection").judge(config, token, now_ms, environ, jwks)
    except NotAccepted as error:
        return {"verdict": "refused", "error": error.name, "reason": error.reason}, ExitCode.REFUSED
    except NotKnown as error:
        return {"verdict": "not known", "reason": error.reason}, ExitCode.FAILURE
    except part_of_auth("static_keys").BadCredentials as error:
        raise Failure(ExitCode.USAGE, str(error)) from None
    allow, deny = identity.rights.rules
    rights = {action: {"allow": list(allow[n]), "deny": list(deny[n])} for n, action in enumerate(ACTIONS)}
    who = {"user": identity.user, "tenant": identity.tenant, "roles": sorted(identity.roles)}
    return {
        "verdict": "accepted",
        "identity": {**who, "method": identity.method, "expires_ms": identity.expires_ms},
        "rights": rights,
    }, ExitCode.OK


def _token(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    if arguments.token_file == "-":
        with failures_of("stdin"):
            text = sys.stdin.read(1_048_576)
    elif arguments.token_file:
        text = _document(arguments.token_file).decode("utf-8", "replace")
    elif "TRIODE_TOKEN" in environ:
        text = environ["TRIODE_TOKEN"]
    else:
        raise Failure(ExitCode.USAGE, "which token? --token-file FILE, - for stdin, or TRIODE_TOKEN")
    try:
        token = bare(text)
    except NotAccepted:
        token = ""
    if not token:
        raise Failure(ExitCode.USAGE, "the token is empty")
    return token


def _document(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise Failure(
            ExitCode.USAGE, f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None


def _as_text(found: Mapping[str, Any]) -> str:
    parts = [name for name in ("header", "claims") if name in found]
    lines = [_line(name, json.dumps(found[name], ensure_ascii=False)) for name in parts]
    for name in _TIMES:
        said = found.get("claims", {}).get(name)
        if isinstance(said, int | float) and 0 < said < 253_402_300_800:
            lines.append(_line(name, moment(int(said * 1000))))
    if "verdict" not in found:
        lines.append(_line("verdict", "not checked: --config FILE says what a broker would"))
    else:
        lines += _verdict_lines(found)
    return "\n".join(lines) + "\n"


def _verdict_lines(found: Mapping[str, Any]) -> list[str]:
    error = f" ({found['error']})" if "error" in found else ""
    reason = f": {found['reason']}" if "reason" in found else ""
    lines = [_line("verdict", f"{found['verdict']}{error}{reason}")]
    if "identity" not in found:
        return lines
    who = found["identity"]
    lines.append(_line("user", who["user"] + (f", of tenant {who['tenant']}" if who["tenant"] else "")))
    lines.append(_line("roles", ", ".join(who["roles"]) or "none"))
    lines.append(_line("good until", moment(who["expires_ms"]) + _why_still_good(found)))
    for action, rules in found["rights"].items():
        denied = f", but not {' '.join(rules['deny'])}" if rules["deny"] else ""
        lines.append(_line(f"may {action}", (" ".join(rules["allow"]) or "nothing") + denied))
    return lines


def _why_still_good(found: Mapping[str, Any]) -> str:
    """Of a token whose `exp` has passed, and that is accepted nevertheless."""
    exp, until_ms = found.get("claims", {}).get("exp"), found["identity"]["expires_ms"]
    is_late = found["identity"]["method"] == "token" and isinstance(exp, int | float) and exp * 1000 < until_ms
    return ": its exp has passed, and auth.leeway_seconds, for clocks that differ, are not over" if is_late else ""


def _line(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}}  {escape(value)}"
