"""Text from outside, made safe to show: no character of it moves a cursor, ends a line or turns the reading order.

Knows characters, and nothing of who shows them (log lines, the command line). The surprising decision: what is
replaced is written the way JSON writes it (`\\u001b`, also beyond the 16-bit plane as a pair), so that escaping a
JSON text, where such characters stand in strings only, leaves the same JSON.
"""

import unicodedata

# Cc control, Cf format (bidi, zero-width), Cs lone surrogate, Co private use, Cn unassigned, Zl and Zp line ends.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str, keep: str = "") -> str:
    """`text` with every unsafe character replaced by its JSON escape, those in `keep` excepted; never fails."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _is_unsafe(c) and c not in keep else c for c in text)


def shorten(text: str, max_characters: int) -> str:
    """`text`, or its beginning with a word on how long it was."""
    if len(text) <= max_characters:
        return text
    return f"{text[:max_characters]}… ({len(text)} characters)"


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _UNSAFE_CATEGORIES


def _escaped(character: str) -> str:
    short = _SHORT.get(character)
    if short is not None:
        return short
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
