"""What `triode check` says of the machine: ports, descriptors, kernel, disk.

Knows what a broker with these settings will ask of its machine. The surprising decision: things are tried, not
looked up, wherever trying costs nothing: a port is bound, a file is written and flushed.
"""

import errno
import os
import resource
import shutil
import stat
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from triode_broker.cli.finding import Finding, fail, ok, warn
from triode_broker.config import Config
from triode_broker.edge.listeners import BACKLOG, listen

#: Descriptors beside those of clients: files of stores, links, the loop, a deploy's tools.
OTHER_DESCRIPTORS: Final = 200
FLUSHES: Final = 12
FLUSHED_BYTES: Final = 4_096
SLOW_FLUSH_MS: Final = 20.0
#: A disk that is faster has not written anything: memory, or a cache that lies.
UNREAL_FLUSH_MS: Final = 0.02
MIN_FREE_BYTES: Final = 1 << 30
_SYSCTL: Final = Path("/proc/sys")

#: Who listens at an address, asked over HTTP: the name of a node, or None.
Ask = Callable[[str, bool], str | None]


def ports(config: Config, who_listens: Ask) -> Iterator[Finding]:
    """Whether the addresses can be had, or are had by this very node."""
    for name, address, is_tls in (
        ("listen", config.listen, bool(config.tls.certificate)),
        ("cluster_listen", config.cluster_listen, False),
        ("admin.listen", config.admin.listen, bool(config.admin.tls.certificate)),
    ):
        if address:
            yield _port(name, address, config.node, partial(who_listens, address, is_tls))


def _port(name: str, address: str, own: str, who_listens: Callable[[], str | None]) -> Finding:
    try:
        for one in listen(address if address.rpartition(":")[2].isdigit() else f"{address}:7401"):
            one.close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            what = f"{name} {address}: {error.strerror or error}"
            return fail(
                "ports", what, "an address of this machine, and a port that this user may have (above 1023)"
            )
        node = who_listens()
        if node == own:
            return ok("ports", f"{name} {address}: this node, {node}, listens there already")
        whose = f"another Triode node, {node}," if node else "another program"
        port = address.rpartition(":")[2]
        return fail("ports", f"{name} {address}: {whose} listens there", f"ss -ltnp 'sport = :{port}' shows which")
    except ValueError as error:
        return fail("ports", f"{name}: {error}", "write HOST:PORT")
    return ok("ports", f"{name} {address}: free")


def descriptors(config: Config) -> Iterator[Finding]:
    """Whether there are as many as there may be connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.limits.max_connections + OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < needed:
        advice = f"LimitNOFILE={needed} in the systemd unit, or ulimit -Hn {needed}; or a lower max_connections"
        what = f"at most {hard:,} files may be open; limits.max_connections = {config.limits.max_connections:,}"
        yield warn("descriptors", f"{what} needs {needed:,}", advice)
    elif soft < needed:
        advice = f"ulimit -n {needed} before it is started, or LimitNOFILE={needed}"
        yield warn(
            "descriptors", f"{soft:,} files may be open here, {needed:,} are needed; more is allowed", advice
        )
    else:
        yield ok("descriptors", f"{soft:,}, enough for {config.limits.max_connections:,} connections")


def kernel(config: Config, root: Path = _SYSCTL) -> Iterator[Finding]:
    """Limits of the kernel that show only under load; nothing where it is no Linux."""
    connections = config.limits.max_connections
    wanted = {
        "net/core/somaxconn": (min(BACKLOG, 4_096), "connections that come at once are refused"),
        "net/ipv4/tcp_max_syn_backlog": (1_024, "connections that come at once are refused"),
        "fs/file-max": (connections + OTHER_DESCRIPTORS, "the machine runs out of files"),
    }
    for name, (needed, why) in wanted.items():
        try:
            found = int((root / name).read_text(encoding="ascii").split()[0])
        except (OSError, ValueError, IndexError):
            continue
        key = name.replace("/", ".")
        if found < needed:
            yield warn("kernel", f"{key} = {found:,}: {why}", f"sysctl -w {key}={needed} (deploy/sysctl)")
        else:
            yield ok("kernel", f"{key} = {found:,}")


def disk(config: Config) -> Iterator[Finding]:
    """Room, owner, and how long it takes until something is on it."""
    if not config.data:
        return
    data = Path(config.data)
    if not data.is_dir():
        parent = next((one for one in data.absolute().parents if one.exists()), Path("/"))
        if os.access(parent, os.W_OK):
            yield ok("disk", f"{data} will be made in {parent}")
        else:
            yield fail("disk", f"{data} cannot be made: {parent} is not this user's", "make it, and chown it")
        return
    mode = data.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield warn("disk", f"{data}: others may write there", f"chmod go-w {data}")
    free = shutil.disk_usage(data).free
    if free < MIN_FREE_BYTES:
        yield warn(
            "disk", f"{free / (1 << 20):,.0f} MiB are free", "make room: a full disk refuses durable publishes"
        )
    else:
        yield ok("disk", f"{free / (1 << 30):,.1f} GiB are free")
    try:
        yield _flushed(_flush_ms(data))
    except OSError as error:
        advice = "the directory has to be the broker's: chown, and chmod 700"
        yield fail("disk", f"{data} cannot be written to: {error.strerror or error}", advice)


def _flush_ms(directory: Path) -> float:
    """Until a page is on the disk; half of them took less."""
    took = []
    with tempfile.NamedTemporaryFile(dir=directory, prefix="check-") as file:
        for _ in range(FLUSHES):
            file.write(b"\0" * FLUSHED_BYTES)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took)


def _flushed(ms: float) -> Finding:
    what = f"a flush takes {ms:.2f} ms"
    if ms > SLOW_FLUSH_MS:
        advice = "durable publishes wait for it: a disk with its own cache and battery, or a local one"
        return warn("disk", what, advice)
    if ms < UNREAL_FLUSH_MS:
        return warn(
            "disk", f"{what}: is that a disk?", "what is acknowledged has to outlive a power cut: no tmpfs"
        )
    return ok("disk", what)


def surroundings(config: Config, environ: Any) -> Iterator[Finding]:
    """How it is started, and what stands in front of it."""
    if environ.get("NOTIFY_SOCKET") or environ.get("INVOCATION_ID"):
        yield ok("systemd", "started by it")
    if config.trusted_proxies or config.proxy_protocol:
        seen = ", ".join(config.trusted_proxies)
        yield ok("proxy", f"addresses of clients are believed from {seen}")
    elif config.advertise and config.listen.startswith(("127.", "localhost", "[::1]")):
        advice = "name its address in trusted_proxies, or every client has the proxy's (limits by address, logs)"
        yield warn("proxy", "it listens on this machine alone and is advertised: there is a proxy", advice)
