"""The import table of the architecture: who may know whom. Read it as the map of the house.

A row holds for a module and all below it; the longest row that fits a module is the one that counts. The standard
library is open to a row unless it is `pure`: then only modules without I/O, clock and randomness are.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from attrs import frozen

from tests.house.tree import modules, name, syntax

# fmt: off
PURE_STDLIB = frozenset({
    "abc", "base64", "binascii", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "functools",
    "hashlib", "heapq", "itertools", "json", "math", "operator", "re", "string", "struct", "types", "typing",
    "unicodedata", "weakref", "zlib",
})
# fmt: on
IMPURE_BUILTINS = frozenset({"open", "print", "input", "eval", "exec", "compile", "__import__"})
OURS = ("triode_protocol", "triode_broker", "triode")
EVERYWHERE_IN_THE_BROKER = ("attrs", "msgspec", "structlog")


@frozen
class Row:
    """What one package may import: prefixes of our modules, names of libraries."""

    ours: tuple[str, ...]
    libraries: tuple[str, ...]
    is_pure: bool = False


def broker(*ours: str, libraries: tuple[str, ...] = ()) -> Row:
    """A row of a package that may know the protocol, the limits and, besides, these."""
    words = ("config", "printable", "release", "this_machine")
    known = ("triode_protocol", *(f"triode_broker.{word}" for word in words))
    return Row((*known, *ours), (*EVERYWHERE_IN_THE_BROKER, *libraries))


CORE, LOG, EDGE, HTTP = "triode_broker.core", "triode_broker.log", "triode_broker.edge", "triode_broker.http"
ADMIN = "triode_broker.admin"
AUTH, CLUSTER, CLI = "triode_broker.auth", "triode_broker.cluster", "triode_broker.cli"
WORKERS, CONFORMANCE = "triode_broker.workers", "triode_broker.conformance"
CORE_FACES = tuple(
    f"triode_broker.core.{face}" for face in ("handed", "histogram", "interfaces", "message_ids", "record")
)
AUTH_FACES = tuple(
    f"triode_broker.core.{face}" for face in ("identity", "interfaces", "placeholders", "quotas", "rights")
)
SECRETS, REREADING = "triode_broker.secrets_on_disk", "triode_broker.rereading"

TABLE = {
    "triode_protocol": Row(("triode_protocol",), ("attrs", "msgspec"), is_pure=True),
    # One client for all event loops; tests/client/test_rooms.py tells more of who knows which.
    "triode": Row(("triode_protocol", "triode"), ("attrs", "msgspec")),
    "triode.trio_runtime": Row(("triode",), ("trio",)),
    "triode.trio_transport": Row(("triode_protocol", "triode"), ("trio", "trio_websocket")),
    "triode.asyncio_transport": Row(("triode_protocol", "triode"), ("websockets",)),
    "triode.sync": Row(("triode_protocol", "triode"), ("trio",)),
    "triode_broker": Row((), ()),  # the package itself: only its words
    "triode_broker.config": Row(("triode_broker.config",), ("attrs", "msgspec"), is_pure=True),
    "triode_broker.printable": Row((), (), is_pure=True),
    "triode_broker.this_machine": Row((), ()),
    "triode_broker.release": Row((), ()),
    "triode_broker.logs": broker(),
    "triode_broker.hangup": broker(),
    SECRETS: broker(),
    "triode_broker.posture": broker(),
    "triode_broker.tls": broker(SECRETS),
    "triode_broker.certificates": broker("triode_broker.tls", libraries=("cryptography",)),
    "triode_broker.securing": broker(
        "triode_broker.certificates",
        "triode_broker.cluster",
        "triode_broker.edge",
        "triode_broker.tls",
        libraries=("trio",),
    ),
    "triode_broker.draining": broker("triode_broker.core", "triode_broker.edge", libraries=("trio",)),
    CORE: Row(("triode_protocol", "triode_broker.config", CORE), ("attrs", "msgspec"), is_pure=True),
    LOG: broker(*CORE_FACES, LOG),
    f"{LOG}.committer": broker(*CORE_FACES, LOG, libraries=("trio",)),
    EDGE: broker(CORE, EDGE, libraries=("trio", "h11", "wsproto", "websockets")),
    # Operators' requests become administration calls there.
    HTTP: broker(CORE, HTTP, f"{ADMIN}.listener", libraries=("trio",)),
    f"{HTTP}.metrics_page": broker(HTTP, libraries=("prometheus_client",)),
    ADMIN: broker(CORE, ADMIN, libraries=("trio",)),
    # Identities and rights are made here, and every file it reads is one with secrets.
    AUTH: broker(*AUTH_FACES, SECRETS, "triode_broker.posture", AUTH, libraries=("jwt", "cryptography")),
    f"{AUTH}.authority": broker(*AUTH_FACES, "triode_broker.posture", AUTH, libraries=("trio",)),
    f"{AUTH}.callout": broker(*AUTH_FACES, AUTH, libraries=("trio",)),
    f"{AUTH}.jwks": broker(*AUTH_FACES, AUTH, libraries=("trio",)),
    "triode_broker.outbound": broker(libraries=("httpx",)),
    f"{AUTH}.web": broker(AUTH, "triode_broker.outbound", libraries=("trio", "httpx")),
    CLUSTER: broker(CORE, CLUSTER, SECRETS, libraries=("trio", "trio_websocket")),
    # A broker only in words: it plays scripts for clients of any make, so it knows the protocol and no broker.
    CONFORMANCE: Row(("triode_protocol", CONFORMANCE), ("attrs", "msgspec", "trio", "trio_websocket")),
    WORKERS: broker(
        "triode_broker.edge.listeners", "triode_broker.hangup", REREADING, WORKERS, libraries=("trio",)
    ),
    # A client in the process, and HTTP to endpoints.
    "triode_broker.webhooks": broker(CORE, "triode_broker.webhooks", libraries=("trio",)),
    "triode_broker.webhooks.posting": broker(
        "triode_broker.outbound", "triode_broker.webhooks", libraries=("trio", "httpx")
    ),
    "triode_broker.hooking": broker(
        f"{ADMIN}.listener",
        f"{AUTH}.static_keys",
        CLUSTER,
        CORE,
        LOG,
        "triode_broker.reloading",
        "triode_broker.webhooks",
        libraries=("trio",),
    ),
    # Feeds the demo through a real connection: a program like any other, only shipped with the broker.
    "triode_broker.demo": Row(
        ("triode", "triode_broker.config", "triode_broker.demo"), (*EVERYWHERE_IN_THE_BROKER, "trio")
    ),
    "triode_broker.stores": broker("triode_broker.core", "triode_broker.log"),
    "triode_broker.revocation_file": broker("triode_broker.core", "triode_broker.log"),
    "triode_broker.revoking": broker("triode_broker.core", "triode_broker.revocation_file", libraries=("trio",)),
    REREADING: broker(),
    "triode_broker.offenders": broker("triode_broker.core"),
    "triode_broker.departures": broker("triode_broker.core"),
    "triode_broker.spans": broker("triode_broker.core", "triode_broker.log", libraries=("trio", "opentelemetry")),
    "triode_broker.operating": broker(
        "triode_broker.auth",
        "triode_broker.core",
        "triode_broker.edge",
        "triode_broker.http",
        "triode_broker.log",
        "triode_broker.posture",
        libraries=("trio",),
    ),
    "triode_broker.reloading": broker("triode_broker.posture", REREADING),
    "triode_broker.digesting": broker(),
    "triode_broker.log_level": broker(f"{ADMIN}.listener", "triode_broker.logs", libraries=("trio",)),
    "triode_broker.applying": broker(
        f"{AUTH}.authority",
        "triode_broker.core",
        "triode_broker.edge",
        "triode_broker.joining",
        "triode_broker.log",
        "triode_broker.log_level",
        "triode_broker.logs",
        "triode_broker.reloading",
        "triode_broker.securing",
    ),
    "triode_broker.administering": broker(
        "triode_broker.admin",
        "triode_broker.cluster",
        "triode_broker.core",
        "triode_broker.figures",
        f"{HTTP}.metrics_page",
        "triode_broker.joining",
        "triode_broker.log",
        "triode_broker.log_level",
        "triode_broker.reloading",
        "triode_broker.posture",
        "triode_broker.revoking",
        "triode_broker.webhooks",
        f"{WORKERS}.plan",
        libraries=("trio",),
    ),
    "triode_broker.linking": broker("triode_broker.cluster", "triode_broker.core", HTTP, "triode_broker.joining"),
    "triode_broker.joining": broker(
        "triode_broker.admin",
        "triode_broker.core",
        "triode_broker.log",
        "triode_broker.edge",
        "triode_broker.cluster",
        "triode_broker.digesting",
        "triode_broker.stores",
        libraries=("trio",),
    ),
    "triode_broker.lagging": broker(CORE, LOG),
    "triode_broker.timekeeping": broker("triode_broker.core", "triode_broker.lagging", libraries=("trio",)),
    "triode_broker.reporting": broker(
        AUTH,
        "triode_broker.core",
        "triode_broker.draining",
        "triode_broker.edge",
        "triode_broker.joining",
        "triode_broker.log",
        "triode_broker.posture",
        "triode_broker.reloading",
        "triode_broker.revoking",
        "triode_broker.securing",
    ),
    "triode_broker.figures": broker(
        AUTH,
        CLUSTER,
        CORE,
        EDGE,
        LOG,
        "triode_broker.departures",
        "triode_broker.draining",
        "triode_broker.joining",
        "triode_broker.release",
        "triode_broker.timekeeping",
    ),
    "triode_broker.server": Row(OURS, (*EVERYWHERE_IN_THE_BROKER, "trio")),
    CLI: Row(OURS, (*EVERYWHERE_IN_THE_BROKER, "trio")),
    # The extra `cli`.
    f"{CLI}.top_picture": Row(OURS, (*EVERYWHERE_IN_THE_BROKER, "rich")),
    f"{CLI}.top_screen": Row(OURS, (*EVERYWHERE_IN_THE_BROKER, "rich")),
    f"{CLI}.bench_plots": Row(OURS, (*EVERYWHERE_IN_THE_BROKER, "plotille")),
}
#: They may import everything, and nobody may import them; but the command line starts the server.
ROOMS_AT_THE_TOP = {"triode_broker.server": (CLI,), CLI: (), "triode_broker.demo": ("triode_broker.server",)}
#: What `triode pub` and `triode sub` must do without: the extra `server`.
SERVER_ONLY = (
    *("structlog", "h11", "wsproto", "websockets", "jwt", "cryptography", "httpx", "prometheus_client"),
    *("triode_broker.server", "triode_broker.logs"),
)


def test_every_module_imports_only_what_its_row_allows() -> None:
    found = [problem for module, path in modules() for problem in problems(module, path)]
    assert not found, "\n".join(found)


def test_every_package_has_a_row_of_its_own() -> None:
    nameless = [module for module, _ in modules() if module != "triode_broker" and row(module) == "triode_broker"]
    assert not nameless, f"give these a row in the table above: {nameless}"


def test_server_and_cli_are_imported_by_nobody() -> None:
    found = [
        f"{module} imports {imported}"
        for module, path in modules()
        for imported in imported_by(module, path)
        for room, friends in ROOMS_AT_THE_TOP.items()
        if is_below(imported, room) and not any(is_below(module, friend) for friend in (room, *friends))
    ]
    assert not found, "\n".join(found)


def test_the_command_line_imports_no_server_dependency() -> None:
    found = [
        f"{module} imports {imported}"
        for module, path in modules()
        if is_below(module, CLI)
        for imported in imported_by(module, path)
        if any(is_below(imported, room) for room in SERVER_ONLY)
    ]
    assert not found, "\n".join(found)


def test_pure_packages_call_nothing_that_does_io() -> None:
    found = [
        f"{name(path)}:{node.lineno} calls {node.func.id}()"
        for module, path in modules()
        if TABLE[row(module)].is_pure
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS
    ]
    assert not found, "\n".join(found)


def test_core_never_waits() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for module, path in modules()
        if is_below(module, CORE) or is_below(module, "triode_protocol")
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]
    assert not found, f"async code in core: {found}"


def test_interfaces_have_at_most_six_methods() -> None:
    found = [
        f"{name(path)}: {node.name}"
        for module, path in modules()
        if module == f"{CORE}.interfaces"
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.ClassDef) and sum(isinstance(inner, ast.FunctionDef) for inner in node.body) > 6
    ]
    assert not found, "\n".join(found)


def problems(module: str, path: Path) -> Iterator[str]:
    """What a module imports and may not."""
    rule = TABLE[row(module)]
    for imported in imported_by(module, path):
        top = imported.partition(".")[0]
        if top in OURS:
            is_allowed = any(is_below(imported, prefix) for prefix in rule.ours)
        elif top in sys.stdlib_module_names:
            is_allowed = not rule.is_pure or top in PURE_STDLIB
        else:
            is_allowed = top in rule.libraries
        if not is_allowed:
            yield f"{module} must not import {imported} (row {row(module)})"


@cache
def row(module: str) -> str:
    """The row that counts for a module."""
    return max((key for key in TABLE if is_below(module, key)), key=len)


def is_below(module: str, prefix: str) -> bool:
    """Whether `module` is `prefix` or inside it."""
    return module == prefix or module.startswith(f"{prefix}.")


def imports(tree: ast.Module, module: str, path: Path) -> Iterator[str]:
    """All that a module imports, wherever in it, as dotted names; `from a import b` is a.b."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


@cache
def imported_by(module: str, path: Path) -> tuple[str, ...]:
    """The same of a module of the tree."""
    return tuple(imports(syntax(path), module, path))
