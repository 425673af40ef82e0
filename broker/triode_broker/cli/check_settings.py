"""What `triode check` says of settings, and of the files with keys and certificates that they name.

Knows a finished `Config` and reads its files as the broker will. The surprising decision: a chain is judged by
what a client sees of it. A certificate without the one between it and its authority works in some browsers, which
have seen that elsewhere, and in no program.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from triode_broker.cli.access import key_problems
from triode_broker.cli.finding import Finding, fail, ok, warn
from triode_broker.cli.front_settings import certificate_problems
from triode_broker.config import Config, Tls
from triode_broker.posture import is_open, unsafe
from triode_broker.secrets_on_disk import BadFile, read_private

#: A certificate that ends sooner should have been renewed by whatever renews it.
SOON_DAYS: Final = 21
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "")


def settings(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether they can be used, and are safe."""
    problems = [f"{name}{text}" for name, text in (*key_problems(config, environ), *certificate_problems(config))]
    for problem in problems:
        yield fail("settings", problem, "triode serve does not start with it: mend the setting, or the file")
    if not problems:
        yield ok("settings", "can be used")
    found = unsafe(config)
    for one in found:
        if one.is_refused and not config.insecure:
            yield fail("safety", f"{one.name}: {one.why}", "or start with --insecure, which health then shows")
        else:
            yield warn("safety", f"{one.name}: {one.why}", "see docs/SECURITY.md")
    if not found:
        yield ok("safety", "nothing is known against it")
    if not (is_open(config) or config.permissions):
        advice = "add [[permissions]] (docs/authentication.md)"
        yield warn("safety", "there is no rule: nobody may do more than their own credential says", advice)


def secrets(config: Config) -> Iterator[Finding]:
    """Files that nobody else may read."""
    files = {
        "cluster_secret_file": config.cluster_secret_file,
        "admin.token_file": config.admin.token_file,
        "tls.key": config.tls.key,
        "cluster_tls.key": config.cluster_tls.key,
        "auth.api_keys_file": config.auth.api_keys_file,
        **{f"tokens[{number}].key_file": row.key_file for number, row in enumerate(config.tokens, 1)},
    }
    for name, file in files.items():
        if file:
            yield _secret(name, file)


def _secret(name: str, file: str) -> Finding:
    try:
        content = read_private(file)
    except FileNotFoundError:
        return fail("secrets", f"{name} {file}: there is no such file", "make it, or mend the setting")
    except BadFile as error:
        return fail("secrets", f"{name} {file}: {error}", "chmod 600, as the user that the broker runs as")
    if not content.strip():
        return fail("secrets", f"{name} {file}: is empty", "write it again")
    return ok("secrets", f"{name} {file}: for this user alone")


def certificates(config: Config, now: float | None = None) -> Iterator[Finding]:
    """Their time, names and chains."""
    host = urlsplit(config.advertise).hostname or config.listen.rpartition(":")[0].strip("[]")
    for table, tls, name in (
        ("tls", config.tls, host),
        (
            "cluster_tls",
            config.cluster_tls,
            "" if config.cluster_tls.client_ca else _host(config.cluster_advertise),
        ),
        ("admin.tls", config.admin.tls, config.admin.listen.rpartition(":")[0].strip("[]")),
    ):
        if tls.certificate:
            yield from _certificate(table, tls, name, time.time() if now is None else now)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _certificate(table: str, tls: Tls, name: str, now: float) -> Iterator[Finding]:
    x509 = import_module("cryptography.x509")  # the extra `server` brings it; 40 ms of a start
    about = f"certificate {table}"
    try:
        chain = x509.load_pem_x509_certificates(Path(tls.certificate).read_bytes())
    except (OSError, ValueError) as error:
        yield fail(about, f"{tls.certificate}: {error}", "it has to be PEM text, the own certificate first")
        return
    for place, one in enumerate(chain):
        yield _life(about, one, now, "" if place == 0 else f"the authority at place {place + 1}: ")
    yield _chain(about, chain)
    names = _names(chain[0], x509)
    if name and name not in _LOOPBACK and not any(_fits(name, one) for one in names):
        advice = f"have it issued for {name} too, or set `advertise` to a name that is in it"
        yield warn(about, f"{name} is not among its names ({', '.join(names) or 'none'})", advice)
    else:
        yield ok(about, f"names {', '.join(names) or '(none)'}")


def _life(about: str, one: Any, now: float, whose: str) -> Finding:
    begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
    days = (ends - datetime.fromtimestamp(now, UTC)).total_seconds() / 86_400
    if begins.timestamp() > now:
        return fail(about, f"{whose}holds from {begins:%Y-%m-%d %H:%M} UTC on", "is the clock right?")
    if days <= 0:
        return fail(
            about, f"{whose}ended on {ends:%Y-%m-%d %H:%M} UTC", "renew it; a running broker takes the new one"
        )
    if days <= min(SOON_DAYS, (ends - begins).days / 3):
        return warn(
            about, f"{whose}ends in {days:.0f} days", "renew it; a running broker takes the new one by itself"
        )
    return ok(about, f"{whose}holds until {ends:%Y-%m-%d}")


def _chain(about: str, chain: list[Any]) -> Finding:
    for place, (one, issuer) in enumerate(pairwise(chain), 1):
        try:
            one.verify_directly_issued_by(issuer)
        except Exception as error:  # noqa: BLE001  # whatever the library says of it, it does not hold
            what = (
                f"certificate {place} of the file was not issued by the next one ({error or type(error).__name__})"
            )
            return fail(about, what, "put them in order: the own one, then each one's issuer")
    last = chain[-1]
    if len(chain) == 1 and last.issuer != last.subject:
        issuer = last.issuer.rfc4514_string()
        advice = "add the certificates between to the file (fullchain.pem), unless that authority is a root"
        return warn(about, f"the file has no issuer: {issuer}", advice)
    return ok(about, f"chain of {len(chain)}")


def _names(certificate: Any, x509: Any) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(one.value) for one in found]


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.partition(".")[2].lower() == pattern[2:].lower()
    return name.lower() == pattern.lower()
