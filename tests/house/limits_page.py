"""The tables of docs/limits.md and docs/reloading.md: every limit with its default and what stands behind it in
`config`, and of every setting when it takes effect.

`python -m tests.house.limits_page` (part of `make generate`) writes them; test_limits_page.py says if they are
current.
"""

import ast
import re
from collections.abc import Iterator
from inspect import getfile
from pathlib import Path
from typing import Final

from msgspec import Struct
from triode_broker.cli.effective import in_words
from triode_broker.config import DEFAULT_QUOTAS, NOT_SAID, Config, Limits, Quota
from triode_broker.config.effects import effect_of, names

from tests.house.tree import ROOT

PAGES: Final = (ROOT / "docs" / "limits.md", ROOT / "docs" / "reloading.md")
#: What the times of `config.effects` are called.
EFFECTS: Final = {"reload": "on reload", "new": "for new ones", "restart": "at a restart"}


def remarks(record: type[Struct]) -> Iterator[tuple[str, str, str]]:
    """Heading, name and remark of each field as they stand in the source."""
    lines = Path(getfile(record)).read_text().splitlines()
    body = next(
        node
        for node in ast.parse("\n".join(lines)).body
        if isinstance(node, ast.ClassDef) and node.name == record.__name__
    ).body
    heading, last = "", body[0].end_lineno or 0
    for node in body:
        if not isinstance(node, ast.AnnAssign) or node.end_lineno is None:
            continue
        for line in lines[last : node.lineno - 1]:
            if line.strip().startswith("# "):
                heading = line.strip().removeprefix("# ")
        text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        remark = re.search(r"  # (.*)", text)
        yield heading, ast.unparse(node.target), remark[1] if remark else ""
        last = node.end_lineno


def limits_table() -> str:
    """Of `[limits]`, a table for each heading."""
    lines: list[str] = []
    before = ""
    for heading, name, remark in remarks(Limits):
        if heading != before:
            lines += [
                "",
                f"**{heading}**",
                "",
                "| `limits.` | default | takes effect | |",
                "| --- | --- | --- | --- |",
            ]
            before = heading
        number, effect = _number(name, getattr(Limits(), name)), effect_in_words(f"limits.{name}")
        lines.append(f"| `{name}` | {number} | {effect} | {_cell(remark)} |")
    return "\n".join(lines[1:])


def effect_in_words(name: str) -> str:
    """When a changed value of this setting is in force."""
    return EFFECTS[effect_of(name)]


def settings_table() -> str:
    """Of all settings but limits, when they take effect."""
    lines = ["| setting | takes effect |", "| --- | --- |"]
    lines += [
        f"| `{name}` | {effect_in_words(name)} |" for name in names(Config) if not name.startswith("limits.")
    ]
    return "\n".join(lines)


def quotas_table() -> str:
    """Of `[[quotas]]`."""
    lines = ["| in a row of `[[quotas]]` | default | |", "| --- | --- | --- |"]
    before = ""
    for heading, name, remark in remarks(Quota):
        if heading != before:
            lines.append(f"| **{heading}** | | |")
            before = heading
        value = getattr(DEFAULT_QUOTAS[-1], name)
        shown = "" if value in ("", NOT_SAID) else _number(name, value)
        lines.append(f"| `{name}` | {shown} | {_cell(remark)} |")
    return "\n".join(lines)


def _number(name: str, value: int) -> str:
    words = in_words(f"_{name}".removesuffix("_per_second"), value)
    is_plain = not words or words.split()[0] == str(value)
    return f"{value:,}" if is_plain else f"{value:,} ({words})"


def _cell(remark: str) -> str:
    return remark.replace("|", "\\|")


def page(text: str) -> str:
    """It with its generated parts as they have to be."""
    parts = {"limits": limits_table(), "quotas": quotas_table(), "settings": settings_table()}
    for name, part in parts.items():
        if f"<!-- generated: {name} -->" not in text:
            continue
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        found = pattern.search(text)
        assert found is not None, f"the page has no place for {name}"
        text = f"{text[: found.start()]}{found[1]}\n{part}\n\n{found[2]}{text[found.end() :]}"
    return text


if __name__ == "__main__":
    for one in PAGES:
        one.write_text(page(one.read_text()))
