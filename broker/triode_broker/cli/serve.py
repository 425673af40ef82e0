"""`triode serve`: settings, the broker, and what to open and type next.

Knows the server only by `serve_until_signal`. The surprising decision: the server is imported inside the command,
after the settings were read, so that `serve --check` and the other commands work where the extra is not installed.
"""

import argparse
import errno
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from triode_broker.cli.effective import as_toml
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.running import leaves, run_trio
from triode_broker.cli.settings import BadSettings, Settings, load
from triode_broker.cli.streams import say
from triode_broker.config import Config

SERVER_DEPENDENCIES = frozenset({"h11", "wsproto", "structlog"})
#: Names of the settings that have a flag.
FLAGS = (
    *("listen", "workers", "data", "restored", "demo", "log_level", "log_format"),
    *("node", "cluster", "cluster_listen", "cluster_advertise", "cluster_secret_file", "seeds"),
    *("durable", "create_store", "advertise"),
)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Check or serve, until a signal. Raises Failure."""
    settings = read_settings(arguments, environ)
    if arguments.check:
        say(as_toml(settings))
        return ExitCode.OK
    return _serve(settings.config)


def read_settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The effective settings. Raises Failure with everything that is wrong."""
    file = arguments.config or environ.get("TRIODE_CONFIG")
    try:
        return load(
            {name: getattr(arguments, name, None) for name in FLAGS}, environ, Path(file) if file else None
        )
    except BadSettings as bad:
        count = len(bad.problems)
        head = f"{count} problem{'s' if count > 1 else ''} in the settings"
        raise Failure(ExitCode.USAGE, "\n  ".join([head, *bad.problems])) from bad


def _serve(config: Config) -> ExitCode:
    try:
        logs = import_module("triode_broker.logs")
        server = import_module("triode_broker.server")
    except ModuleNotFoundError as missing:
        if missing.name not in SERVER_DEPENDENCIES:
            raise
        advice = "install the extra `server`: pip install '.[server]' in a checkout"
        message = f"{missing.name} is not installed, which the broker needs; {advice}"
        raise Failure(ExitCode.FAILURE, message) from missing
    log = logs.make_logger(config)
    is_up = False

    def announce(urls: list[str]) -> None:
        nonlocal is_up
        is_up = True
        if is_for_people(config):
            with suppress(Failure, BrokenPipeError):  # nobody reads it: no reason not to serve
                say(next_steps(config, urls[0], command_name(sys.argv[0])))

    async def main() -> ExitCode:
        try:
            await server.serve_until_signal(config, log=log, announce=announce)
        except* server.StoreError as group:
            raise Failure(ExitCode.FAILURE, str(next(leaves(group)))) from None
        return ExitCode.OK

    try:
        return run_trio(main)
    except OSError as error:
        if is_up:  # of something else, then: a bug, to be seen whole
            raise
        raise _cannot_listen(config.listen, error) from None


def is_for_people(config: Config) -> bool:
    """Whether somebody sits in front of it: then say what to do next."""
    return config.demo or config.log_format == "console" or (config.log_format == "auto" and sys.stderr.isatty())


def next_steps(config: Config, url: str, command: str) -> str:
    """What to open and what to type, with the address where it is not the default."""
    socket_url = url.replace("http", "ws", 1) + "/ws"
    at = "" if Config().listen in url else f" --url {socket_url}"
    heard = "demo/#" if config.demo else "rooms/#"
    return f"""
Triode is up: {socket_url}
  open     {url}/
  listen   {command} sub '{heard}'{at}
  publish  {command} pub rooms/42/chat 'hello'{at}
  follow   tail -f FILE | {command} pub logs/app -{at}
Ctrl-C stops it.

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
        message = f"{listen} needs rights that this user does not have; ports from 1024 on need none"
    elif error.errno == errno.EADDRNOTAVAIL:
        message = f"{listen} is no address of this machine; 0.0.0.0:{_port(listen)} means every address"
    else:
        message = f"cannot listen on {listen}: {error.strerror or error}"
    return Failure(ExitCode.FAILURE, message)


def _port(listen: str) -> str:
    return listen.rpartition(":")[2]
