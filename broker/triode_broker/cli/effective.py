"""The effective configuration as TOML that `--config` reads again, with units and origins as comments.

Knows nothing of how the values came together. The surprising decision: an own writer of twenty lines, because the
standard library only reads TOML and no library writes a comment behind each value.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from triode_broker.cli.known_settings import is_record, row_name, row_record
from triode_broker.cli.settings import Settings
from triode_broker.config import DEFAULT_QUOTAS, NOT_SAID, RETENTION, TopicRule
from triode_broker.printable import escape

#: What 0 means in a rule for topics, where that is not the number itself.
ZEROS = {
    "retention_messages": "keeps none",
    "retention_seconds": "keeps none",
    "retention_bytes": "keeps none",
    "ttl_seconds": "no limit: until retention ends",
    "max_payload_bytes": "no limit but max_packet_bytes",
    "dedupe_seconds": "off",
    "tombstone_seconds": "until the next look",
}


def as_toml(settings: Settings) -> str:
    """All settings, also those at their defaults."""
    lines = [*_table(settings.config, settings.sources, ""), "", *_default_quotas(), "", *_default_rule()]
    return "\n".join(lines) + "\n"


def _default_rule() -> Iterator[str]:
    """What holds where no rule does, as comments: as a rule it would be one more, which the file does not have."""
    yield "# A rule whose retention is left out, or -1, retains what its storage class does:"
    for storage, retention in RETENTION.items():
        words = [
            f"{key} = {value}" + (f" ({unit})" if (unit := in_words(key, value)) else "")
            for key, value in retention.items()
        ]
        yield f"#   {storage}: {', '.join(words)}"
    yield ""
    yield "# Topics that no [[topics]] in the file matches are treated as if it had at its end:"
    yield "# [[topics]]"
    for key, value in msgspec.structs.asdict(TopicRule()).items():
        notes = [in_words(key, value) if value else "", f"0 = {ZEROS[key]}" if key in ZEROS else ""]
        comment = " · ".join(filter(None, notes))
        yield f"# {key} = {json.dumps(value)}" + (f"  # {comment}" if comment else "")


def _default_quotas() -> Iterator[str]:
    """The rows that always hold, as comments too."""
    yield "# What no [[quotas]] in the file says is as if it had at its end (0 = no bound):"
    for row in DEFAULT_QUOTAS:
        yield "# [[quotas]]"
        for key, value in msgspec.structs.asdict(row).items():
            if value not in ("", NOT_SAID):
                yield f"# {key} = {json.dumps(value)}"


def _table(record: Struct, sources: Mapping[str, str], prefix: str) -> Iterator[str]:
    """Single values first: in TOML, whatever follows a table's head belongs to that table."""
    tables: list[str] = []
    for one in msgspec.structs.fields(record):
        name, value = prefix + one.name, getattr(record, one.name)
        if is_record(one.type):
            tables += ["", f"[{name}]", *_table(value, sources, f"{name}.")]
        elif row_record(one.type) is not None:
            for number, row in enumerate(value, 1):
                tables += ["", f"[[{name}]]", *_table(row, sources, row_name(name, number))]
        else:
            yield _line(one.name, value, sources.get(name, "default"))
    yield from tables


def _line(key: str, value: object, source: str) -> str:
    # JSON's strings, numbers and booleans are TOML's too, once DEL is escaped.
    shown = escape(json.dumps(value, ensure_ascii=False))
    unit = in_words(key, value) if value != NOT_SAID else "as the next row says that fits"
    return f"{key} = {shown}  # {unit}{' · ' if unit else ''}{escape(source)}"


def in_words(key: str, value: Any) -> str:
    """A number with the unit that its name ends in, where that says more than the number: 65536 → 64 KiB."""
    if key.endswith("_bytes"):
        return _scaled(value, ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")), "bytes")
    if key.endswith("_ms"):
        return _scaled(value, ((3_600_000, "h"), (60_000, "min"), (1_000, "s")), "ms")
    if key.endswith("_seconds"):
        return _scaled(value, ((86_400, "d"), (3_600, "h"), (60, "min")), "s")
    return ""


def _scaled(value: int, units: tuple[tuple[int, str], ...], smallest: str) -> str:
    for size, unit in units:
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value} {smallest}"
