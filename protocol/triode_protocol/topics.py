"""Topic and filter grammar (SPEC 6): what is a topic, what is a filter, which topics a filter matches.

Pure functions on strings; knows nothing of subscriptions or permissions. Nothing is ever repaired: a name is
accepted as it stands or refused with the reason, so that accepted names are byte-equal everywhere.
"""

import unicodedata

MAX_LEVELS = 8
MAX_BYTES = 255
HARD_MAX_LEVELS = 16
HARD_MAX_BYTES = 1024

# Cc control, Cs surrogate, Cn unassigned; Cf format characters are the bidi and zero-width class of S24-25;
# Zl and Zp are line separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})


class BadTopic(ValueError):
    """A topic or filter that breaks the grammar; `str()` says which rule, for the client's author."""


def check_topic(topic: str, max_levels: int = MAX_LEVELS, max_bytes: int = MAX_BYTES) -> None:
    """Raise BadTopic unless `topic` is a topic: no wildcards, 1…max_bytes UTF-8 bytes, 1…max_levels levels."""
    _check_text(topic, max_levels, max_bytes)
    if "+" in topic or "#" in topic:
        raise BadTopic("a topic has no wildcard: + and # belong to filters")


def check_filter(filter: str, max_levels: int = MAX_LEVELS, max_bytes: int = MAX_BYTES) -> None:
    """Raise BadTopic unless `filter` is a filter: a topic whose levels may be `+`, and the last one `#`."""
    _check_text(filter, max_levels, max_bytes)
    if "+" not in filter and "#" not in filter:
        return
    levels = filter.split("/")
    for place, level in enumerate(levels):
        if "#" in level and (level != "#" or place != len(levels) - 1):
            raise BadTopic("# stands alone and only as the last level")
        if "+" in level and level != "+":
            raise BadTopic("+ stands alone in its level")


def _check_text(name: str, max_levels: int, max_bytes: int) -> None:
    if not name:
        raise BadTopic("it is empty")
    if len(name) > max_bytes:  # before the passes below: their cost is then bounded too (S24)
        raise BadTopic(f"it is longer than {max_bytes} bytes")
    if not name.isascii():
        _check_characters(name, max_bytes)
    elif not name.isprintable():
        raise BadTopic("it has a control character")
    if name.count("/") >= max_levels:
        raise BadTopic(f"it has more than {max_levels} levels")
    if name[0] == "/" or name[-1] == "/" or "//" in name:
        raise BadTopic("it has an empty level")


def _check_characters(name: str, max_bytes: int) -> None:
    for character in name:
        if unicodedata.category(character) in _REFUSED_CATEGORIES:
            raise BadTopic(f"it has the character U+{ord(character):04X}, which is not allowed")
    if not unicodedata.is_normalized("NFC", name):
        raise BadTopic("it is not in Unicode normal form C (NFC)")
    if len(name.encode()) > max_bytes:
        raise BadTopic(f"it is longer than {max_bytes} bytes")


def is_wildcard(filter: str) -> bool:
    """Whether a checked filter can match more than one topic."""
    return "+" in filter or filter[-1] == "#"


def is_reserved(topic: str) -> bool:
    """Whether the topic belongs to the broker (SPEC 6: first level begins with `$`)."""
    return topic[0] == "$"


def matches(filter: str, topic: str) -> bool:
    """Whether a checked filter matches a checked topic, level by level (the reference for every index)."""
    wanted, given = filter.split("/"), topic.split("/")
    if is_reserved(topic) and wanted[0] in ("+", "#"):
        return False
    for place, level in enumerate(wanted):
        if level == "#":
            return True  # the rest, including none: a/# matches a
        if place == len(given) or level not in ("+", given[place]):
            return False
    return len(wanted) == len(given)


def overlap(one: str, other: str) -> bool:
    """Whether some topic could match both checked filters."""
    left, right = one.split("/"), other.split("/")
    if (is_reserved(one) and right[0] in ("+", "#")) or (is_reserved(other) and left[0] in ("+", "#")):
        return False
    for a, b in zip(left, right, strict=False):
        if "#" in (a, b):
            return True
        if a != b and "+" not in (a, b):
            return False
    longer = left[len(right) :] or right[len(left) :]
    return not longer or longer == ["#"]  # a/# matches a


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that the checked filter `narrow` matches is matched by `wide`."""
    outer, inner = wide.split("/"), ("+/#" if narrow == "#" else narrow).split("/")  # the same: no topic is empty
    if is_reserved(narrow) and outer[0] in ("+", "#"):
        return False
    for place, level in enumerate(outer):
        if level == "#":
            return True
        if place == len(inner) or inner[place] == "#" or level not in ("+", inner[place]):
            return False
    return len(outer) == len(inner)
