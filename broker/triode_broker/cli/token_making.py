"""`triode token create`, `generate-secret` and `generate-key`: all without a broker.

Knows `auth.signing`. The surprising decision: secrets go to stdout and everything else to stderr, so that `> file`
keeps the one and shows the other; and no file that is there is ever written over.
"""

import argparse
import json
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.cli.token_bearer import bearer_of, config_of, part_of_auth, tell
from triode_broker.config import Config, TokenKey
from triode_broker.secrets_on_disk import BadFile, read_private

MAX_KEY_BYTES: Final = 65_536


def create(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Sign a token. Raises Failure."""
    signing, keys = part_of_auth("signing"), part_of_auth("signing_keys")
    config = config_of(arguments, environ)
    row = TokenKey() if config is None else _row(config, arguments)
    place, text = _key_to_sign_with(arguments, environ, row)
    if arguments.seconds == 0:
        raise Failure(
            ExitCode.USAGE, "--for ever: a token says when it ends; an API key need not (triode token key)"
        )
    now = int(time.time())
    claims = _claims(arguments, row) | {"iat": now, "exp": now + arguments.seconds}
    try:
        algorithm = arguments.algorithm or (row.algorithm if config is not None else signing.algorithm_of(text))
        token = signing.sign(claims, algorithm, text, arguments.kid or row.kid)
    except keys.BadKey as error:
        raise Failure(ExitCode.USAGE, f"{place}: {error}") from None
    say(f"{token}\n")
    held = _held(config, arguments.seconds)
    tell(f"{algorithm}, good for {held}, id {claims['jti']}; triode token inspect shows what it says")
    if config is not None and len(token) > config.limits.max_token_bytes:
        tell(f"it is longer than limits.max_token_bytes, {config.limits.max_token_bytes}: brokers will refuse it")
    return ExitCode.OK


def _held(config: Config | None, seconds: int) -> str:
    """For how long it is good, where the broker is known: that may allow less than it says."""
    most = config.auth.max_token_seconds if config is not None else 0
    if not most or seconds <= most:
        return f"{seconds} s"
    return f"{most} s: auth.max_token_seconds allows no more, though it says {seconds} s"


def _claims(arguments: argparse.Namespace, row: TokenKey) -> dict[str, Any]:
    bearer = bearer_of(arguments)
    claims: dict[str, Any] = {"jti": secrets.token_hex(8)}
    for claim in arguments.claim:
        name, equals, value = claim.partition("=")
        if not name or not equals:
            raise Failure(ExitCode.USAGE, f"--claim {claim}: allowed is NAME=VALUE")
        try:
            claims[name] = json.loads(value)
        except ValueError:
            claims[name] = value  # text without its quotes
    said = [
        (row.user_claim, bearer["user"]),
        (row.tenant_claim, bearer["tenant"]),
        (row.roles_claim, list(bearer["roles"])),
        (row.permissions_claim, bearer["permissions"]),
        ("iss", arguments.issuer or row.issuer),
        ("aud", arguments.audience or row.audience),
    ]
    for name, value in said:
        if value and not name:
            what = "tenants, roles or permissions"
            raise Failure(
                ExitCode.USAGE, f"this row of [[tokens]] takes no {what} from tokens, and one is asked for"
            )
        claims |= {name: value} if value else {}
    return claims


def _row(config: Config, arguments: argparse.Namespace) -> TokenKey:
    """The row of [[tokens]] that the token is made for. Raises Failure."""
    rows = [row for row in config.tokens if arguments.row in (None, row.name)]
    if arguments.algorithm:
        rows = [row for row in rows if row.algorithm == arguments.algorithm]
    if len(rows) == 1:
        return rows[0]
    names = ", ".join(row.name or f"({row.algorithm}, without a name)" for row in config.tokens)
    if not rows:
        raise Failure(ExitCode.USAGE, f"there is no such row of [[tokens]]; there are: {names or 'none'}")
    raise Failure(ExitCode.USAGE, f"there are several rows of [[tokens]]: choose one with --row NAME of {names}")


def _key_to_sign_with(
    arguments: argparse.Namespace, environ: Mapping[str, str], row: TokenKey
) -> tuple[str, bytes]:
    """Where it stands, and what stands there. Raises Failure."""
    if arguments.key_file or arguments.key_env:
        file, variable = arguments.key_file, arguments.key_env
        place = "--key-file" if file else "--key-env"
    elif row.algorithm.startswith("HS") and (row.key_file or row.key_env):
        file, variable = row.key_file, row.key_env
        place = "key_file" if file else "key_env"
    elif row.key_file or row.key_env or row.jwks_url:
        wrong = f"brokers check {row.algorithm} with a public key; give the private one: --key-file FILE"
        raise Failure(ExitCode.USAGE, wrong)
    else:
        wrong = (
            "with which key? --key-file FILE, --key-env VARIABLE or --config FILE (triode token generate-secret)"
        )
        raise Failure(ExitCode.USAGE, wrong)
    place = f"{place} {file or variable}"
    if not file:
        if not environ.get(variable, "").strip():
            raise Failure(ExitCode.USAGE, f"{place}: this variable of the environment is not set")
        return place, environ[variable].encode("utf-8", "surrogateescape")
    return place, read_secret_file(place, file)


def read_secret_file(place: str, file: str) -> bytes:
    """What is in a file that nobody else may read. Raises Failure."""
    try:
        return read_private(file, MAX_KEY_BYTES)
    except FileNotFoundError:
        raise Failure(ExitCode.USAGE, f"{place}: there is no such file") from None
    except BadFile as error:
        raise Failure(ExitCode.USAGE, f"{place}: {error}") from None


def generate_secret(arguments: argparse.Namespace) -> ExitCode:
    """Make a secret. Raises Failure."""
    secret = part_of_auth("signing").make_secret(arguments.algorithm)
    if not arguments.file:
        say(f"{secret}\n")
        return ExitCode.OK
    _write_new(arguments.file, f"{secret}\n".encode(), 0o600)
    tell(
        f"{arguments.file} holds it, for what needs a secret: [admin] token_file,"
        f' [[tokens]] key_file (algorithm = "{arguments.algorithm}"), [[webhooks]] secret_file,'
        " cluster_secret_file"
    )
    return ExitCode.OK


def generate_key(arguments: argparse.Namespace) -> ExitCode:
    """Make a private and a public key. Raises Failure."""
    private, public = part_of_auth("signing").make_pair(arguments.algorithm)
    _write_new(arguments.private, private, 0o600)
    _write_new(arguments.public, public, 0o644)
    tell(
        f"{arguments.private} signs: keep it where tokens are made. {arguments.public} is for the broker:"
        f' [[tokens]] algorithm = "{arguments.algorithm}", key_file = "{arguments.public}"'
    )
    return ExitCode.OK


def _write_new(file: str, content: bytes, mode: int) -> None:
    """Never over a file that is there: it may be the only copy of a key."""
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise Failure(ExitCode.USAGE, f"{file}: is there already, and may be in use: name another") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Failure(ExitCode.FAILURE, f"{file}: cannot be written: {reason}") from None
    with os.fdopen(number, "wb") as opened:
        opened.write(content)
