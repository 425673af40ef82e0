"""JSON objects in tokens, read strictly: what two readers could understand differently is refused (RFC 8725 3.10).

Pure. The surprising decision: the standard library's reader instead of msgspec's, because it tells of every pair,
so a claim that is there twice is seen. Tokens are short and read once a connection.
"""

import json
from typing import Any, NoReturn


class BadJson(ValueError):
    """What is wrong; a sentence without its beginning, and no part of the text."""


def parse_object(text: bytes) -> dict[str, Any]:
    """The object. Raises BadJson: not UTF-8, not an object, a name twice, NaN, or nested too deep."""
    try:
        found = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except BadJson:
        raise
    except (ValueError, RecursionError):  # ValueError: also thousands of digits, and UTF-8
        raise BadJson("is not JSON") from None
    if not isinstance(found, dict):
        raise BadJson("is not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJson("says something twice")
    return found


def _refuse(_word: str) -> NoReturn:
    raise BadJson("holds a number that is none")
