"""Who in the client may know what: the core no loop and no clock, the shared face no loop, a runtime its own."""

import ast
from pathlib import Path

import pytest
import triode

PACKAGE = Path(triode.__file__).parent
RUNTIMES = {
    "trio_runtime": "trio",
    "trio_transport": "trio",
    "asyncio_runtime": "asyncio",
    "asyncio_transport": "asyncio",
}
ENTRIES = {"__init__", "trio_face", "asyncio", "sync"}  # where programs come in: each knows its runtime
SHARED = {
    "client",
    "composing",
    "deliveries",
    "driver",
    "messages",
    "receipts",
    "receiving",
    "runtime",
    "watching",
    "will",
}
ALL = sorted(path.stem for path in PACKAGE.glob("*.py"))
CORE = sorted(set(ALL) - SHARED - ENTRIES - set(RUNTIMES))
LOOPS = {"trio", "trio_websocket", "asyncio", "websockets", "threading"}
FORBIDDEN = {*LOOPS, "socket", "ssl", "time", "datetime", "random", "secrets", "os"}
ABOVE = {f"triode.{module}" for module in (*RUNTIMES, *ENTRIES)}


def imported(module: str) -> set[str]:
    """The names of all modules that a module of the package imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def libraries(module: str) -> set[str]:
    """What it imports, by the first part of the names."""
    return {name.partition(".")[0] for name in imported(module)}


@pytest.mark.parametrize("module", CORE)
def test_core_does_without_loops_sockets_clocks_and_chance(module: str) -> None:
    assert not libraries(module) & FORBIDDEN
    assert not imported(module) & (ABOVE | {f"triode.{face}" for face in SHARED})


@pytest.mark.parametrize("module", sorted(SHARED))
def test_shared_face_knows_no_loop(module: str) -> None:
    """One code for all loops: what differs between them is in the runtimes."""
    assert not libraries(module) & LOOPS
    assert not imported(module) & ABOVE


@pytest.mark.parametrize(("module", "loop"), [(each, RUNTIMES[each]) for each in sorted(set(RUNTIMES) & set(ALL))])
def test_runtime_knows_its_own_loop_alone(module: str, loop: str) -> None:
    own = {"trio": {"trio", "trio_websocket"}, "asyncio": {"asyncio", "websockets"}}[loop]
    assert libraries(module) & LOOPS <= own
    assert not imported(module) & (ABOVE - {f"triode.{each}" for each in RUNTIMES if RUNTIMES[each] == loop})


def test_core_is_what_it_is_thought_to_be() -> None:
    assert {"session", "subscriptions", "publishing", "reading", "settling", "backoff", "liveness"} <= set(CORE)
