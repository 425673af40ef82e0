"""The shipped proxies as processes: what each is started with, from its own file.

Knows their command lines. The surprising decision: nginx has no variables in its file, so its folder is copied,
and the two small files in which it says where things are get the addresses of the test.
"""

import shutil
from pathlib import Path

from tests.deploy.three_nodes import DEPLOY
from tests.deploy.tools import program

HAPROXY = DEPLOY / "haproxy" / "haproxy.cfg"
CADDY = DEPLOY / "caddy" / "Caddyfile"


def haproxy() -> list[str]:
    """In the foreground; its addresses are environment."""
    return [program("haproxy"), "-db", "-f", str(HAPROXY)]


def caddy() -> list[str]:
    """Its addresses are environment."""
    return [program("caddy"), "run", "--config", str(CADDY), "--adapter", "caddyfile"]


def nginx(directory: Path, listen: str, nodes: list[str]) -> list[str]:
    """In the foreground."""
    copy = directory / "nginx"
    shutil.copytree(DEPLOY / "nginx", copy)
    config = copy / "nginx.conf"
    text = (
        config.read_text()
        .replace("/tmp/nginx", f"{directory}/nginx-")
        .replace(" 127.0.0.1:8405", f" unix:{directory}/inside.sock")
    )
    config.write_text(text)
    (copy / "triode" / "listen.conf").write_text(f"listen {listen};\n")
    named = (copy / "triode" / "nodes.conf").read_text()
    for name, address in zip(("n1", "n2", "n3"), nodes, strict=True):
        assert f"server {name}:7400 " in named
        named = named.replace(f"server {name}:7400 ", f"server {address} ")
    (copy / "triode" / "nodes.conf").write_text(named)
    return [program("nginx"), "-c", str(config), "-g", "daemon off;"]
