"""`triode check`: whether a broker with these settings would run well here, and whether one that runs does.

Puts the parts together and prints. The surprising decision: a check that itself goes wrong is a finding like any
other, so that one thing that cannot be found out never hides the rest.
"""

import argparse
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import attrs
import msgspec

from triode_broker.cli import check_machine, check_settings
from triode_broker.cli.asking import asked
from triode_broker.cli.check_node import http_date, node
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.finding import Finding, fail, warn
from triode_broker.cli.serve import read_settings
from triode_broker.cli.streams import say
from triode_broker.config import Config
from triode_broker.printable import escape

PATIENCE_SECONDS: Final = 5.0


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Look at everything that can be looked at. Raises Failure where the arguments are wrong."""
    findings: list[Finding] = []
    if arguments.url is None:
        config, wrong = _config(arguments, environ)
        findings += wrong
        if config is not None:
            findings += _here(config, environ)
    else:
        findings += _guarded("node", lambda: node(asked(arguments, environ)))
    if arguments.date_url:
        findings += _guarded("clock", lambda: _date(arguments.date_url))
    say(as_json(findings) if arguments.json else as_text(findings))
    is_bad = any(one.level == "fail" or (arguments.strict and one.level == "warn") for one in findings)
    return ExitCode.FAILURE if is_bad else ExitCode.OK


def _config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Config | None, list[Finding]]:
    try:
        return read_settings(arguments, environ).config, []
    except Failure as failure:
        head, *problems = str(failure).split("\n  ")
        advice = "triode serve does not start with it"
        return None, [fail("settings", one, advice) for one in problems or [head]]


def _here(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    parts: dict[str, Callable[[], Iterable[Finding]]] = {
        "settings": lambda: check_settings.settings(config, environ),
        "secrets": lambda: check_settings.secrets(config),
        "certificate": lambda: check_settings.certificates(config),
        "ports": lambda: check_machine.ports(config, who_listens),
        "descriptors": lambda: check_machine.descriptors(config),
        "kernel": lambda: check_machine.kernel(config),
        "disk": lambda: check_machine.disk(config),
        "surroundings": lambda: check_machine.surroundings(config, environ),
        "peers": lambda: import_module("triode_broker.cli.check_peers").peers(config) if config.seeds else (),
    }
    for about, look in parts.items():
        yield from _guarded(about, look)


def _guarded(about: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except Failure:
        raise
    except Exception as error:  # noqa: BLE001  # the barrier of one check
        advice = "this could not be looked at; the others were"
        yield warn(about, f"{type(error).__name__}: {error}", advice)


def who_listens(address: str, is_tls: bool) -> str | None:
    """The node that answers at an address of this machine; None: nobody of ours."""
    httpx = import_module("httpx")
    host, _, port = address.rpartition(":")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # it is asked for its name, and told nothing
    url = f"{'https' if is_tls else 'http'}://{host}:{port}/healthz"
    try:
        health = httpx.get(url, verify=context, timeout=PATIENCE_SECONDS, trust_env=False).json()
        return str(health["node"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None


def _date(url: str) -> Iterator[Finding]:
    httpx = import_module("httpx")
    began = time.time()
    try:
        answer = httpx.head(url, timeout=PATIENCE_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield warn("clock", f"{url}: {error or type(error).__name__}", "name a URL that can be reached")
        return
    yield http_date(answer.headers.get("date", ""), began, time.time())


def as_json(findings: list[Finding]) -> str:
    """For programs."""
    found: dict[str, Any] = {
        "ok": not any(one.level == "fail" for one in findings),
        "findings": [attrs.asdict(one) for one in findings],
    }
    return escape(msgspec.json.format(msgspec.json.encode(found)).decode(), keep="\n") + "\n"


def as_text(findings: list[Finding]) -> str:
    """For people: a line each, what to do below it, and how many."""
    width = max((len(one.about) for one in findings), default=0)
    lines = []
    for one in findings:
        lines.append(f"{one.level:<5} {escape(one.about):<{width}}  {escape(one.what)}")
        if one.advice:
            lines.append(f"{'':<6}{'':<{width}}  → {escape(one.advice)}")
    counts = Counter(one.level for one in findings)
    return "\n".join([*lines, f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} wrong"]) + "\n"
