"""`triode serve`: settings, the broker, and what to open and type next.

Knows the server only by `serve_until_signal`. The surprising decision: the server is imported inside the command,
after the settings were read, so that `serve --check` and the other commands work where the extra is not installed.
"""

import argparse
import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from triode_broker.cli.access import key_problems
from triode_broker.cli.effective import as_toml
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.front_settings import certificate_problems, ending_certificates
from triode_broker.cli.processes import COMMAND, Upwards, read_start
from triode_broker.cli.running import leaves, run_trio
from triode_broker.cli.screen import Screen
from triode_broker.cli.settings import BadSettings, Settings, load
from triode_broker.cli.streams import say
from triode_broker.config import Config
from triode_broker.digesting import digest_of
from triode_broker.posture import is_open, unsafe
from triode_broker.workers.parent import Parent
from triode_broker.workers.plan import count_workers, hold_ports, plan

SERVER_DEPENDENCIES = frozenset({"cryptography", "h11", "httpx", "jwt", "structlog", "wsproto"})
#: Names of the settings that have a flag.
FLAGS = (
    *("listen", "workers", "data", "restored", "demo", "insecure", "log_level", "log_format"),
    *("node", "cluster", "cluster_listen", "cluster_advertise", "cluster_secret_file", "seeds"),
    *("durable", "create_store", "advertise", "admin_socket"),
)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Check or serve, until a signal. Raises Failure."""
    if arguments.as_worker:
        return _serve_as_worker()
    settings = read_settings(arguments, environ)
    problems = (*key_problems(settings.config, environ), *certificate_problems(settings.config))
    found = [(name, f"{name}{text}") for name, text in problems]
    if found:
        raise _bad_settings([f"{settings.sources.get(name, 'default')}: {text}" for name, text in found])
    if arguments.check:
        say(as_toml(settings))
        say(f"\n# digest of what all nodes should have alike: {digest_of(settings.config, environ)}\n")
        _warn(settings)
        return ExitCode.OK
    count = count_workers(settings.config)

    def reread() -> Config:
        try:
            return read_settings(arguments, environ).config
        except Failure as failure:
            raise ValueError(str(failure)) from None

    if count == 1:
        return _serve(settings.config, reread)
    return _serve_with_workers(settings.config, count, reread)


def read_settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The effective settings. Raises Failure with everything that is wrong."""
    file = arguments.config or environ.get("TRIODE_CONFIG")
    try:
        return load(
            {name: getattr(arguments, name, None) for name in FLAGS}, environ, Path(file) if file else None
        )
    except BadSettings as bad:
        raise _bad_settings(bad.problems) from bad


def _warn(settings: Settings) -> None:
    """What does not keep a broker from starting, and is not safe or will not last (S15)."""
    config, screen = settings.config, Screen()
    found = [(one.name, f": {one.why}") for one in unsafe(config)]
    if not (is_open(config) or config.permissions):
        found.append(("permissions", ": there is no rule: nobody may do more than their own credential says"))
    for name, text in (*found, *ending_certificates(config, time.time)):
        source = f"{settings.sources[name]}: " if name in settings.sources else ""
        screen.tell(f"warning: {source}{name}{text}")


def _bad_settings(problems: list[str]) -> Failure:
    head = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the settings"
    return Failure(ExitCode.USAGE, "\n  ".join([head, *problems]))


def _serve(config: Config, reread: Callable[[], Config]) -> ExitCode:
    """In this process. `reread`: the settings, on SIGHUP; raises ValueError."""
    logs, server = _modules()
    log = logs.make_logger(config)
    return _serve_node(server, config, partial(_say_next_steps, config), log=log, reread=reread)


def _serve_as_worker() -> ExitCode:
    start = read_start()
    logs, server = _modules()
    log = logs.make_logger(start.config).bind(node=start.config.node)  # its lines stand among those of others
    parent = Upwards(log)
    return _serve_node(server, start.config, parent.announce, log=log, worker=start.worker, attend=parent.attend)


def _serve_with_workers(config: Config, count: int, reread: Callable[[], Config]) -> ExitCode:
    in_force = config
    logs, server = _modules()
    log = logs.make_logger(config)
    try:
        ports = hold_ports(config, count)
    except OSError as error:
        raise _cannot_listen(str(error.filename), error) from None
    with closing(ports):
        if config.data and not config.durable:
            with _store_failures(server):
                server.check_stores(config, log)
            config = msgspec.structs.replace(config, restored=False)  # done
        starts = plan(config, ports)
        parent = Parent(starts, COMMAND, log, partial(_say_next_steps, config), reread, in_force)

        async def main() -> ExitCode:
            code = await parent.run()
            return ExitCode(code) if code in list(ExitCode) else ExitCode.FAILURE

        return run_trio(main)


def _modules() -> tuple[Any, Any]:
    """`logs` and `server`. Raises Failure where the extra is not installed."""
    try:
        return import_module("triode_broker.logs"), import_module("triode_broker.server")
    except ModuleNotFoundError as missing:
        if missing.name not in SERVER_DEPENDENCIES:
            raise
        advice = "install the extra `server`: pip install '.[server]' in a checkout"
        message = f"{missing.name} is not installed, which the broker needs; {advice}"
        raise Failure(ExitCode.FAILURE, message) from missing


def _serve_node(server: Any, config: Config, announce: Callable[[list[str]], None], **parts: object) -> ExitCode:
    is_up = False

    def is_up_now(urls: list[str]) -> None:
        nonlocal is_up
        is_up = True
        announce(urls)

    async def main() -> ExitCode:
        with _store_failures(server):
            await server.serve_until_signal(config, announce=is_up_now, **parts)
        return ExitCode.OK

    try:
        return run_trio(main)
    except OSError as error:
        if is_up:  # of something else, then: a bug, to be seen whole
            raise
        raise _cannot_listen(config.listen, error) from None


@contextmanager
def _store_failures(server: Any) -> Iterator[None]:
    """What is wrong with the files is a sentence, from however deep it comes."""
    try:
        yield
    except* server.StoreError as group:
        raise Failure(ExitCode.FAILURE, str(next(leaves(group)))) from None


def _say_next_steps(config: Config, urls: list[str]) -> None:
    if is_for_people(config):
        with suppress(Failure, BrokenPipeError):  # nobody reads it: no reason not to serve
            say(next_steps(config, urls[0], command_name(sys.argv[0])))


def is_for_people(config: Config) -> bool:
    """Whether somebody sits in front of it: then say what to do next."""
    return config.demo or config.log_format == "console" or (config.log_format == "auto" and sys.stderr.isatty())


def next_steps(config: Config, url: str, command: str) -> str:
    """What to open and what to type: with the address, unless it is the default, and what is to be shown there."""
    socket_url = url.replace("http", "ws", 1) + "/ws"
    at, notes = "" if url == f"http://{Config().listen}" else f" --url {socket_url}", ""
    auth = config.auth
    if (config.tokens or auth.api_keys_file or auth.callout_url) and not auth.anonymous:
        at += " --token-file TOKEN"
        notes = f"TOKEN is a file with a token or an API key: {command} token create --help\n"
    if config.tls.certificate:
        notes += "Where this machine does not know who signed the certificate: add --ca FILE, which holds theirs\n"
    admin = config.admin
    if admin.listen and not admin.listen.endswith(":0"):
        scheme = "https" if admin.tls.certificate else "http"
        notes = f"Operators: {scheme}://{admin.listen}/console, which asks for what admin.token_… names\n{notes}"
    heard = "demo/#" if config.demo else "rooms/#"
    return f"""
Triode is up: {socket_url}
  open     {url}/
  listen   {command} sub '{heard}'{at}
  publish  {command} pub rooms/42/chat 'hello'{at}
  follow   tail -f FILE | {command} pub logs/app -{at}
{notes}Ctrl-C stops it.

"""


def command_name(program: str) -> str:
    """How the user calls this program: by name where the shell finds it, else by its shortest path."""
    found = shutil.which("triode")
    if found is not None and os.path.realpath(found) == os.path.realpath(program):
        return "triode"
    near = os.path.relpath(program)
    return near if len(near) < len(program) else program


def _cannot_listen(listen: str, error: OSError) -> Failure:
    if error.errno == errno.EADDRINUSE:
        which = f"ss -ltnp 'sport = :{_port(listen)}' shows which"
        free = f"127.0.0.1:{int(_port(listen)) % 65_535 + 1}"
        other = f"stop it, or choose another port: --listen {free} (with make: TRIODE_LISTEN={free} make run)"
        message = f"{listen} is taken by another program, perhaps another triode ({which}): {other}"
    elif error.errno == errno.EACCES:
        message = (
            f"{listen} needs a right that this user does not have; ports from 1024 on need none. Under systemd"
        )
        message += " the capability CAP_NET_BIND_SERVICE gives it (the drop-in of deploy/README.md)"
    elif error.errno == errno.EADDRNOTAVAIL:
        message = f"{listen} is no address of this machine; 0.0.0.0:{_port(listen)} means every address"
    else:
        message = f"cannot listen on {listen}: {error.strerror or error}"
    return Failure(ExitCode.FAILURE, message)


def _port(listen: str) -> str:
    return listen.rpartition(":")[2]
