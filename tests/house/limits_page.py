"""The tables of docs/limits.md: every limit with its default and what stands behind it in `config`.

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
from triode_broker.config import DEFAULT_QUOTAS, NOT_SAID, Limits, Quota

from tests.house.tree import ROOT

PAGE: Final = ROOT / "docs" / "limits.md"


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
            lines += ["", f"**{heading}**", "", "| `limits.` | default | |", "| --- | --- | --- |"]
            before = heading
        lines.append(f"| `{name}` | {_number(name, getattr(Limits(), name))} | {_cell(remark)} |")
    return "\n".join(lines[1:])


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
    for name, part in {"limits": limits_table(), "quotas": quotas_table()}.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        found = pattern.search(text)
        assert found is not None, f"the page has no place for {name}"
        text = f"{text[: found.start()]}{found[1]}\n{part}\n\n{found[2]}{text[found.end() :]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
