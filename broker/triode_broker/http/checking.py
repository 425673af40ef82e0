"""Checking: queries and bodies against their records; what does not fit is said with the name of its field.

Pure. The surprising decision: text is made of a body before it is parsed. The parser does not look at UTF-8 where
it passes values through, and what is passed through here is sent to everybody.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, get_args, get_origin

import msgspec
from triode_protocol.codec import DECODE_ERRORS, MAX_DATA_DEPTH, MAX_ERROR_CHARACTERS, MAX_FIELD_CHARACTERS
from triode_protocol.errors import ErrorName

from triode_broker.http.exchange import Problem

_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `[^`]*`)?\Z", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*?)`")
_AT: Final = re.compile(r" - at `(?:key` in `)?\$\.?([^`]*)`\Z")


def check_query(query: Mapping[str, Sequence[str]], record: type[msgspec.Struct]) -> Any:
    """The parameters of a query as an instance. Raises Problem."""
    lists = _lists(record)
    values: dict[str, Any] = {}
    for name, said in query.items():
        if name in lists:
            values[name] = said
        elif len(said) > 1:
            raise malformed(f"the parameter {name} is given more than once", name)
        else:
            values[name] = said[0]
    try:
        return msgspec.convert(values, record, strict=False)
    except DECODE_ERRORS as error:
        raise problem_of(error) from None


def check_body(body: bytes, record: Any) -> Any:
    """A body of JSON as an instance. Raises Problem."""
    try:
        return _decoder(record).decode(body.decode())
    except DECODE_ERRORS as error:
        raise problem_of(error) from None


@lru_cache(maxsize=256)
def _decoder(record: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(record)


@lru_cache(maxsize=256)
def _lists(record: type[msgspec.Struct]) -> frozenset[str]:
    """Parameters that may be repeated."""
    return frozenset(one.encode_name for one in msgspec.structs.fields(record) if _is_list(one.type))


def _is_list(declared: Any) -> bool:
    if get_origin(declared) in (list, tuple) or declared in (list, tuple):
        return True
    return any(_is_list(part) for part in get_args(declared) if isinstance(part, type) or get_origin(part))


def problem_of(error: Exception) -> Problem:
    """What is wrong, in the terms of the protocol."""
    if isinstance(error, RecursionError):
        return malformed(f"nested deeper than {MAX_DATA_DEPTH} levels")
    if isinstance(error, UnicodeError):
        return malformed("not UTF-8")
    said = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return malformed(f"not JSON: {said}")
    if unknown := _UNKNOWN.match(said):
        return _problem(ErrorName.UNSUPPORTED, said, unknown[1])
    missing, at = _MISSING.match(said), _AT.search(said)
    field = missing[1] if missing else at[1] if at else ""
    is_value = said.startswith(("Invalid value", "Invalid enum value"))
    return _problem(ErrorName.UNSUPPORTED if is_value else ErrorName.MALFORMED, said, field)


def malformed(message: str, field: str = "") -> Problem:
    """400, and the name of the field, where there is one."""
    return _problem(ErrorName.MALFORMED, message, field)


def _problem(name: ErrorName, message: str, field: str) -> Problem:
    return Problem(400, name, message[:MAX_ERROR_CHARACTERS], field=field[:MAX_FIELD_CHARACTERS])
