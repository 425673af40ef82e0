"""Findings of `triode check`: what was looked at, how it stands, and what to do about it."""

from typing import Final, Literal

import attrs

Level = Literal["ok", "warn", "fail"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "warn", "fail")


@attrs.frozen
class Finding:
    """One line. `advice`: what to do; "" where there is nothing to be done."""

    level: Level
    about: str
    what: str
    advice: str = ""


def ok(about: str, what: str) -> Finding:
    """As it should be."""
    return Finding("ok", about, what)


def warn(about: str, what: str, advice: str) -> Finding:
    """It works, but not for long, or not as well as it could."""
    return Finding("warn", about, what, advice)


def fail(about: str, what: str, advice: str) -> Finding:
    """It does not work."""
    return Finding("fail", about, what, advice)
