"""Patterns: what a scenario says of a packet or a report, and the values it remembers from one for later.

Knows plain JSON values only. The surprising decision: at the top a pattern is partial (what it does not name may
be anything), further down it is exact. So a scenario names what it is about, and `{"m0-a": 5}` is that position
and no larger one.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

ANY: Final = "$any"
ABSENT: Final = "$absent"
_NAME: Final = re.compile(r"\$([a-z][a-z0-9_]*)(?:\.([a-z_]+))?\Z")
_MISSING: Final = object()

Captures = dict[str, Any]


class Unknown(Exception):
    """A scenario uses a value that it has not captured."""


def mismatch(pattern: Mapping[str, Any], value: Mapping[str, Any], captures: Captures) -> str | None:
    """Why `value` is not as the pattern says, or None. Captures are kept only where everything fits."""
    found = dict(captures)
    for name, wanted in pattern.items():
        problem = _compare(f"`{name}`", wanted, value.get(name, _MISSING), found)
        if problem:
            return problem
    captures.update(found)
    return None


def _compare(at: str, wanted: Any, value: Any, captures: Captures) -> str | None:
    if isinstance(wanted, str) and wanted.startswith("$"):
        return _compare_name(at, wanted, value, captures)
    if isinstance(wanted, dict) and len(wanted) == 1 and (test := _TESTS.get(next(iter(wanted)))):
        return test(at, next(iter(wanted.values())), value, captures)
    if value is _MISSING:
        return f"{at} is missing"
    if isinstance(wanted, dict) and isinstance(value, dict):
        return _compare_members(at, wanted, value, captures)
    if isinstance(wanted, list) and isinstance(value, list) and len(wanted) == len(value):
        problems = (
            _compare(f"{at}[{i}]", *pair, captures) for i, pair in enumerate(zip(wanted, value, strict=True))
        )
        return next((problem for problem in problems if problem), None)
    if type(wanted) is not type(value) or wanted != value:
        return f"{at} is {value!r}, not {wanted!r}"
    return None


def _compare_members(at: str, wanted: dict[str, Any], value: dict[str, Any], captures: Captures) -> str | None:
    for name in sorted(wanted.keys() | value.keys()):
        if name not in wanted:
            return f"{at} has {name!r}: {value[name]!r}, which is not expected"
        problem = _compare(f"{at}.{name}", wanted[name], value.get(name, _MISSING), captures)
        if problem:
            return problem
    return None


def _compare_name(at: str, wanted: str, value: Any, captures: Captures) -> str | None:
    if wanted == ABSENT:
        return None if value is _MISSING else f"{at} is {value!r}, and should not be there"
    if value is _MISSING:
        return f"{at} is missing"
    if wanted == ANY:
        return None
    match = _NAME.match(wanted)
    if match is None:  # a topic of the broker, as it stands
        return None if value == wanted else f"{at} is {value!r}, not {wanted!r}"
    if match[2] is None and match[1] not in captures:
        captures[match[1]] = value
        return None
    known = _recall(match, captures)
    return None if value == known else f"{at} is {value!r}, not {known!r} ({wanted})"


def _is_not(at: str, other: Any, value: Any, captures: Captures) -> str | None:
    if value is _MISSING or _compare(at, other, value, captures) is None:
        return f"{at} is missing" if value is _MISSING else f"{at} is {value!r}, which it should not be"
    return None


def _includes(at: str, some: Any, value: Any, captures: Captures) -> str | None:
    if isinstance(value, dict) and isinstance(some, dict):
        return mismatch(some, value, captures)
    if isinstance(value, list) and all(each in value for each in some):
        return None
    return f"{at} is {'missing' if value is _MISSING else repr(value)}, and should include {some!r}"


def _one_of(at: str, some: list[Any], value: Any, captures: Captures) -> str | None:
    if any(_compare(at, each, value, captures) is None for each in some):
        return None
    return f"{at} is {'missing' if value is _MISSING else repr(value)}, and none of {some!r}"


_TESTS: Final[dict[str, Callable[[str, Any, Any, Captures], str | None]]] = {
    "$not": _is_not,
    "$includes": _includes,
    "$one_of": _one_of,
}


def fill_in(value: Any, captures: Captures) -> Any:
    """`value` with every `$name` and `$name.field` replaced by what was captured. Raises Unknown."""
    if isinstance(value, dict):
        return {name: fill_in(member, captures) for name, member in value.items()}
    if isinstance(value, list):
        return [fill_in(member, captures) for member in value]
    match = _NAME.match(value) if isinstance(value, str) else None
    return value if match is None else _recall(match, captures)


def _recall(match: re.Match[str], captures: Captures) -> Any:
    name, member = match[1], match[2]
    if name not in captures or (member and member not in captures[name]):
        raise Unknown(f"{match[0]} was not captured")
    return captures[name][member] if member else captures[name]
