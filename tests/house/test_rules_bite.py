"""The house rules find what they are there to find: each is shown a piece of code that breaks it."""

import ast
from pathlib import Path

import pytest

from tests.house.test_layers import TABLE, imports, is_below, row
from tests.house.test_style import LOOSE_ENDS, bindings, by_kind, called, is_log_call, words


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import trio", "trio"),
        ("import os.path", "os.path"),
        ("from trio import lowlevel", "trio.lowlevel"),
        ("from triode_broker import server", "triode_broker.server"),
        ("from . import router", "triode_broker.core.router"),
        ("from ..edge import reactor", "triode_broker.edge.reactor"),
        ("def late():\n    import socket", "socket"),
    ],
)
def test_imports_are_seen_in_every_form(code: str, found: str) -> None:
    assert found in list(imports(ast.parse(code), "triode_broker.core.session", Path("session.py")))


def test_the_longest_row_counts() -> None:
    assert row("triode_broker.log.memory") == "triode_broker.log"
    assert row("triode_broker.log.committer") == "triode_broker.log.committer"
    assert "trio" not in TABLE[row("triode_broker.log.memory")].libraries
    assert not is_below("triode_broker.core_more", "triode_broker.core")


def test_words_are_found_inside_names() -> None:
    assert words("ChannelHub_utils") == {"channel", "hub", "utils"}
    assert "base" not in words("database_base64")


def test_loose_ends_are_found() -> None:
    assert LOOSE_ENDS.search("# TO" + "DO later")
    assert LOOSE_ENDS.search("good enough for" + " now")
    assert not LOOSE_ENDS.search("for now_ms in times")


def test_log_calls_are_told_from_others() -> None:
    calls = list(ast.walk(ast.parse("self._log.info(x); log.error(y); errors.info(z)")))
    functions = [node.func for node in calls if isinstance(node, ast.Call)]
    assert [is_log_call(function) for function in functions] == [True, True, False]


def test_defaults_are_seen_wherever_a_name_gets_one() -> None:
    code = "ping_ms = 5\ndef f(a, max_headers=1, *, data: str = '') -> None: ...\nclass A:\n    listen: str = 'x'"
    names = [name for _, name, _ in bindings(by_kind(ast.parse(code)))]
    assert sorted(names) == ["data", "listen", "max_headers", "ping_ms"]


def test_the_last_name_of_a_call_counts() -> None:
    call = ast.parse("trio.sleep(1)").body[0]
    assert isinstance(call, ast.Expr)
    assert called(call.value) == "sleep"
