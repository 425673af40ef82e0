"""Parameters of administration calls that many of them have: whole numbers, texts, yes or no.

Each raises BadCall with a sentence that says what is allowed. Without `most`, how long a text
may be is the listener's to bound.
"""

from collections.abc import Mapping
from typing import Any

from triode_broker.admin.listener import BadCall


def count_in(parameters: Mapping[str, Any], name: str, default: int, most: int) -> int:
    """A number from 1 on. Raises BadCall."""
    value = parameters.get(name, default)
    if type(value) is not int or not 0 < value <= most:
        raise BadCall(f"{name} is from 1 to {most}")
    return value


def text_in(parameters: Mapping[str, Any], name: str, most: int | None = None) -> str:
    """A text of so many characters, "" where there is none. Raises BadCall."""
    text = parameters.get(name, "")
    if not isinstance(text, str) or (most is not None and len(text) > most):
        raise BadCall(f"{name} is a text" if most is None else f"{name} is a text of at most {most} characters")
    return text


def flag_in(parameters: Mapping[str, Any], name: str) -> bool:
    """Yes or no, which is no where it is not said. Raises BadCall."""
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise BadCall(f"{name}: true or false")
    return value
