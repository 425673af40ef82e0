"""Which settings there are, by what name, and what each may be: read off the records in `config`.

Pure; knows no file, environment or flag. The surprising decision: there is no other list of settings, so a
new field is at once a key of the file, a variable, a line of `--check` and a candidate for "did you mean".
"""

import difflib
import json
from functools import cache
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Struct, inspect

from triode_broker import config
from triode_broker.config import Config
from triode_broker.printable import escape, shorten

PREFIX = "TRIODE_"
MAX_SHOWN_CHARACTERS = 200  # of a value in an error


@cache  # each call would evaluate all annotations again, 4 ms
def single_settings(record: type[Struct] = Config, prefix: str = "") -> dict[str, Any]:
    """Dotted name → type of every setting but the lists of tables: of one value, or of a list of texts.

    Everybody's: to be read only. So is what `tables` gives.
    """
    known: dict[str, Any] = {}
    for one in msgspec.structs.fields(record):
        if is_record(one.type):
            known |= single_settings(one.type, f"{prefix}{one.name}.")
        elif row_record(one.type) is None:
            known[prefix + one.name] = one.type
    return known


@cache
def tables() -> dict[str, type[Struct]]:
    """Name → record of every setting that is a list of tables (`[[topics]]`)."""
    found = {one.name: row_record(one.type) for one in msgspec.structs.fields(Config)}
    return {name: record for name, record in found.items() if record is not None}


def is_record(type: Any) -> bool:
    """Whether a field of this type is a table of its own (`[limits]`)."""
    return isinstance(type, msgspec.StructMeta)


def row_record(type: Any) -> type[Struct] | None:
    """The record of one row, where a field of this type is a list of tables."""
    arguments = get_args(type)
    return arguments[0] if get_origin(type) is tuple and is_record(arguments[0]) else None


def is_list(type: Any) -> bool:
    """Whether a setting of this type is a list of texts (`seeds`)."""
    return get_origin(type) is tuple and not is_record(get_args(type)[0])


def as_list(text: str) -> list[str]:
    """A list in a variable or a flag: comma-separated; spaces around the parts and an empty text count nothing."""
    return [part for part in (piece.strip() for piece in text.split(",")) if part]


def row_name(table: str, number: int, key: str = "") -> str:
    """How one field of one row is named, counted from 1: `topics #2 filter`."""
    return f"{table} #{number} {key}"


def variable(name: str) -> str:
    """The environment variable of a setting: limits.ping_ms → TRIODE_LIMITS_PING_MS."""
    return PREFIX + name.replace(".", "_").upper()


def allowed(type: Any) -> str:
    """What a setting of this type may be, in words."""
    match inspect.type_info(type):
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=None):
            return "a whole number"
        case inspect.IntType(ge=low, le=None | config.MAX_INTEGER):
            return f"a whole number of at least {low}"
        case inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case inspect.LiteralType():
            *others, last = (one or '""' for one in get_args(type))  # not type_info's: it sorts them
            return f"{', '.join(others)} or {last}"
        case inspect.StrType(pattern=str(pattern)):
            return f"text of the form {pattern}"
        case inspect.VarTupleType(item_type=inspect.StrType(pattern=str(pattern))):
            return f"a list of texts of the form {pattern}"
        case inspect.VarTupleType():
            return "a list of texts"
        case _:
            return "text"


def shown(value: object) -> str:
    """A value in an error: bounded, and unable to drive a terminal."""
    return shorten(escape(json.dumps(value, ensure_ascii=False, default=str)), MAX_SHOWN_CHARACTERS)


def nearest(name: str, candidates: list[str]) -> str:
    """`; did you mean …?` with the nearest candidate, also one whose last part alone is near; else ""."""
    found = difflib.get_close_matches(name, candidates, 1)
    if not found:
        leaves = {candidate.rpartition(".")[2]: candidate for candidate in candidates}
        found = [leaves[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], list(leaves), 1)]
    return f"; did you mean {found[0]}?" if found else ""
