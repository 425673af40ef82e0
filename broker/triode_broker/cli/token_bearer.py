"""What the actions of `triode token` share: libraries that may not be there, the broker's settings, whose it is.

Knows `auth` by the names of its modules: keys and tokens need libraries of the extra `server`, the other commands
do without.
"""

import argparse
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from triode_broker.auth.grants import BadGrants, parse_grants
from triode_broker.auth.known import NotAccepted, check_name, check_tenant
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.serve import read_settings
from triode_broker.cli.token_arguments import ACTIONS
from triode_broker.config import Config
from triode_broker.printable import escape

LIBRARIES: Final = ("jwt", "cryptography")


def part_of_auth(name: str) -> Any:
    """A module of `auth`. Raises Failure where the extra is not installed."""
    try:
        return import_module(f"triode_broker.auth.{name}")
    except ModuleNotFoundError as missing:
        if missing.name not in LIBRARIES:
            raise
        advice = "install the extra `server`: pip install '.[server]' in a checkout"
        raise Failure(ExitCode.FAILURE, f"{missing.name} is not installed; {advice}") from missing


def tell(text: str) -> None:
    """Say something to whoever sits there, beside what is kept."""
    sys.stderr.write(escape(text) + "\n")


def bearer_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Whose it is and what it may, as arguments say it. Raises Failure."""
    permissions = {
        word: filters
        for action in ACTIONS
        for word in (action, f"deny_{action}")
        if (filters := getattr(arguments, word))
    }
    try:
        parse_grants(permissions)
        return {
            "user": check_name(arguments.user, "--user"),
            "tenant": check_tenant(arguments.tenant, "--tenant") if arguments.tenant else "",
            "roles": tuple(check_name(role, "--role") for role in arguments.roles),
            "permissions": permissions,
        }
    except (BadGrants, NotAccepted) as error:
        raise Failure(ExitCode.USAGE, str(error)) from None


def config_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Config | None:
    """The broker's settings, where they are named. Raises Failure."""
    if not (arguments.config or environ.get("TRIODE_CONFIG")):
        return None
    return read_settings(arguments, environ).config
