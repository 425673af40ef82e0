"""Text made safe to show: nothing gets through that could drive a terminal or forge a line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.printable import escape, shorten


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 日本 🙂", "größe 日本 🙂"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J", "\\u001b[2J"),
        ("\x9b31m", "\\u009b31m"),
        ("\x7f", "\\u007f"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u202eevil", "\\u202eevil"),
        ("\udc80", "\\udc80"),
        ("\U000e0041", "\\udb40\\udc41"),
    ],
)
def test_escape_replaces_what_is_unsafe_and_nothing_else(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_escape_keeps_what_it_is_told_to() -> None:
    assert escape("a\tb\n", keep="\t") == "a\tb\\n"


@given(st.text(st.characters(exclude_categories=())))
def test_escaped_text_is_one_printable_line(text: str) -> None:
    shown = escape(text)
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
    assert all(c.isprintable() or c.isspace() for c in shown)


@given(st.text())
def test_escaped_json_is_the_same_json(text: str) -> None:
    assert json.loads(escape(json.dumps(text, ensure_ascii=False))) == text


def test_shorten_says_how_long_it_was() -> None:
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "abc… (4 characters)"
