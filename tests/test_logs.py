"""The log: one line per event whatever the values are (S27), levels, formats, and no harm from a dead stream."""

import io
import json
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.config import Config
from triode_broker.logs import MAX_VALUE_CHARACTERS, make_logger

LEVELS = ("debug", "info", "warning", "error")
JSON = Config(log_format="json", log_level="debug")
CONSOLE = Config(log_format="console", log_level="debug")
FORGERIES = [
    "x\n2026-01-01 error   forged",
    'x"}\n{"event": "forged"}',
    "\x1b[2J\x1b]0;title\x07",
    "\u2028forged\u2029\x85\x0b\x0c\x1c",
    "\u202egnp.exe",
    "\ud800 lone \udfff",
    "\x00\x7f\x9b",
]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BrokenPipe(io.StringIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        raise BrokenPipeError


def lines(config: Config, *, event: str = "happened", **values: Any) -> list[str]:
    stream = io.StringIO()
    make_logger(config, stream).info(event, **values)
    return stream.getvalue().splitlines()  # splits also at U+2028, U+0085 and the like


@pytest.mark.parametrize("value", FORGERIES)
def test_a_value_cannot_forge_a_json_line(value: str) -> None:
    (line,) = lines(JSON, topic=value)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["event"] == "happened"


@pytest.mark.parametrize("value", FORGERIES)
def test_a_value_cannot_forge_a_console_line(value: str) -> None:
    (line,) = lines(CONSOLE, topic=value)
    assert line.isprintable()
    assert line.encode()


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
)
def test_no_key_or_value_breaks_a_line(values: dict[str, str]) -> None:
    given_values: dict[str, Any] = {"nested": values, "listed": [*values, values]}
    (line,) = lines(JSON, **given_values)
    assert json.loads(line)["level"] == "info"
    (line,) = lines(CONSOLE, **given_values)
    assert line.encode()


def test_a_value_comes_through_as_what_it_was() -> None:
    (line,) = lines(
        JSON, text='a "b" \\ é\n', number=5, ratio=0.5, flag=True, nothing=None, items=[1, "x"], raw=b"\xff"
    )
    seen = json.loads(line)
    assert list(seen)[:3] == ["timestamp", "level", "event"]
    assert seen["text"] == 'a "b" \\ é\n'
    assert (seen["number"], seen["ratio"], seen["flag"], seen["nothing"]) == (5, 0.5, True, None)
    assert (seen["items"], seen["raw"]) == ([1, "x"], "b'\\xff'")


@pytest.mark.parametrize("config", [JSON, CONSOLE])
@pytest.mark.parametrize(
    "value", [Unprintable(), float("nan"), float("inf"), 10**5_000, object(), [[[[[]]]]]], ids=type
)
def test_a_strange_value_does_not_break_the_log(config: Config, value: object) -> None:
    (line,) = lines(config, value=value)
    if config is JSON:
        json.loads(line, parse_constant=pytest.fail)


def test_a_list_that_holds_itself_does_not_break_the_log() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert len(lines(JSON, value=endless)) == 1


def test_a_long_value_is_cut() -> None:
    (line,) = lines(JSON, topic="x" * 100_000)
    assert len(json.loads(line)["topic"]) < MAX_VALUE_CHARACTERS + 50


@pytest.mark.parametrize("config", [JSON, CONSOLE])
def test_an_exception_is_logged_with_its_traceback_and_cannot_forge_a_line(config: Config) -> None:
    stream = io.StringIO()
    try:
        raise ValueError("bad packet\n12:00:00.000  error    forged  \x1b[2J\ud800")
    except ValueError:
        make_logger(config, stream).exception("connection_failed")
    first, *rest = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue()
    assert "connection_failed" in first
    if config is JSON:
        assert not rest
        assert "test_logs.py" in json.loads(first)["exception"]
    else:
        assert all(line.startswith("  | ") for line in rest)
        assert any("Traceback" in line for line in rest)


def test_a_console_line_reads_well() -> None:
    (line,) = lines(CONSOLE, node="n1", urls=["http://127.0.0.1:7400"], words="two words", empty="")
    moment, text = line.split("  ", 1)
    assert len(moment) == len("12:34:56.789")
    assert text == 'info     happened  node=n1  urls=["http://127.0.0.1:7400"]  words="two words"  empty=""'


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_levels_below_the_configured_one_are_dropped(level: Any, seen: list[str]) -> None:
    stream = io.StringIO()
    log = make_logger(Config(log_format="json", log_level=level), stream)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == seen


def test_auto_is_json_where_nobody_watches() -> None:
    (line,) = lines(Config())
    assert json.loads(line)["event"] == "happened"


def test_auto_is_for_people_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    make_logger(Config(), stream).info("happened")
    assert not stream.getvalue().startswith("{")


def test_a_dead_stream_does_not_end_the_program() -> None:
    """S1: a closed pipe behind the log is not the broker's end."""
    closed = io.StringIO()
    closed.close()
    make_logger(JSON, closed).info("happened")
    broken = BrokenPipe()
    make_logger(JSON, broken).info("happened")
    assert broken.flushes == 1


def test_loggers_share_nothing() -> None:
    first, second = io.StringIO(), io.StringIO()
    make_logger(JSON, first).bind(node="n1").info("one")
    make_logger(CONSOLE, second).info("two")
    assert "two" not in first.getvalue()
    assert "n1" not in second.getvalue()


def test_a_level_holds_for_all_loggers_of_a_log_from_the_next_line_on() -> None:
    """Those that were bound before, and methods that somebody has kept."""
    stream, other_stream = io.StringIO(), io.StringIO()
    log, other = make_logger(Config(log_format="json"), stream), make_logger(Config(), other_stream)
    bound, kept_info, kept_warning = log.bind(node="n1"), log.info, log.warning
    loudness: Any = getattr(log, "loudness")  # noqa: B009  # structlog's type knows of none
    for level in ("debug", "error", "info", "warning"):
        loudness.set(level)
        for say in (bound.debug, kept_info, bound.info, kept_warning, bound.warning, bound.error):
            say(f"at_{level}")
    other.debug("no")
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    levels = {level: [one["level"] for one in written if one["event"] == f"at_{level}"] for level in LEVELS}
    assert levels == {
        "debug": ["debug", "info", "info", "warning", "warning", "error"],
        "info": ["info", "info", "warning", "warning", "error"],
        "warning": ["warning", "warning", "error"],
        "error": ["error"],
    }
    assert not other_stream.getvalue()


def test_what_is_left_out_is_an_empty_function() -> None:
    """A disabled line costs no more than before levels could be changed."""
    log: Any = make_logger(Config(log_level="info"), io.StringIO())
    plain = structlog.make_filtering_bound_logger("info")
    assert type(log).debug is plain.debug
    log.loudness.set("debug")
    assert type(log).debug is not plain.debug
    log.loudness.configure("info", "json")
    assert (type(log).debug, log.loudness.level) == (plain.debug, "info")


def test_the_form_of_lines_can_be_another_one() -> None:
    stream = io.StringIO()
    log: Any = make_logger(Config(log_format="json"), stream)
    log.info("one")
    log.loudness.configure("info", "console")
    log.info("two")
    first, second = stream.getvalue().splitlines()
    assert json.loads(first)["event"] == "one"
    assert second.endswith("two")
    assert not second.startswith("{")
