"""What the session core must do without, so that other faces can stand on it: loops, sockets, clocks, chance."""

import ast
from pathlib import Path

import pytest
import triode

PACKAGE = Path(triode.__file__).parent
FACE = {"__init__", "client", "deliveries", "driver", "messages", "receiving", "transport", "watching"}
CORE = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in FACE)
FORBIDDEN = {"trio", "trio_websocket", "asyncio", "socket", "ssl", "time", "datetime", "random", "secrets", "os"}


def imported(module: str) -> set[str]:
    """The names of all modules that a module of the package imports."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("module", CORE)
def test_core_does_without_loops_sockets_clocks_and_chance(module: str) -> None:
    names = imported(module)
    assert not {name.split(".")[0] for name in names} & FORBIDDEN
    assert not {name.removeprefix("triode.") for name in names} & FACE


def test_core_is_what_it_is_thought_to_be() -> None:
    assert {"session", "subscriptions", "publishing", "reading", "settling", "backoff", "liveness"} <= set(CORE)
