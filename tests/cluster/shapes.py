"""Shapes: what travels between nodes, as data: for docs/peer-protocol.md, and for what version 1 was recorded as.

`python -m tests.cluster.shapes` (part of `make generate`) writes the generated parts of the document;
`python -m tests.cluster.shapes --record` writes frames_v1.json, which is right only until version 1 is released.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo
from triode_broker.cluster import hello
from triode_broker.cluster.frames import SINCE, AnyFrame, Frame

from tests.house.tree import ROOT, source

DOCUMENT: Final = ROOT / "docs" / "peer-protocol.md"
RECORDED: Final = Path(__file__).with_name("frames_v1.json")
KINDS: Final[tuple[type[Frame], ...]] = tuple(
    sorted(get_args(AnyFrame), key=lambda kind: str(kind.__struct_config__.tag).zfill(3))
)
HELLO: Final[tuple[type[Struct], ...]] = (
    hello.Hello,
    hello.Challenge,
    hello.Proof,
    hello.Welcome,
    hello.Ready,
    hello.Refused,
    hello.Identity,
)
EITHER, ASKS, ANSWERS = "either", "the node that asks", "the node that answers"
#: Who says it, by the tens of its number; those that differ, by their number.
SAID_BY: Final = {0: EITHER, 1: ASKS, 2: ANSWERS, 3: EITHER, 4: EITHER, 5: EITHER}
SAID_BY_ALONE: Final = {30: ASKS, 32: ASKS, 40: ANSWERS, 41: ASKS, 50: ASKS, 51: ANSWERS}


def records(roots: Iterable[type[Struct]] = KINDS) -> list[type[Struct]]:
    """These and all records in their fields, each once, in the order in which they are met."""
    found: dict[type[Struct], None] = {}
    for root in roots:
        _collect(root, found)
    return list(found)


def _collect(kind: Any, found: dict[type[Struct], None]) -> None:
    if isinstance(kind, type) and issubclass(kind, Struct):
        if kind not in found:
            found[kind] = None
            for field in msgspec.structs.fields(kind):
                _collect(field.type, found)
    else:
        for part in get_args(kind):
            _collect(part, found)


def shape(record: type[Struct]) -> dict[str, Any]:
    """Its number, if it is a frame, and its fields in order: name, type, and default where there is one."""
    found: dict[str, Any] = {"fields": [[*_facts(field)] for field in msgspec.structs.fields(record)]}
    if record.__struct_config__.tag is not None:
        found = {"number": record.__struct_config__.tag, **found}
    return found


def _facts(field: FieldInfo) -> Iterator[Any]:
    yield field.name
    yield type_name(field.type)
    if not field.required:
        yield default_of(field)


def default_of(field: FieldInfo) -> Any:
    """Where it is not required."""
    return field.default_factory() if field.default is NODEFAULT else field.default


def type_name(kind: Any) -> str:
    """As the source has it, without where it comes from and what bounds it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return type_name(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(map(type_name, parts))
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if part is ... else type_name(part) for part in parts)}]"
    return "None" if kind is type(None) else str(kind.__name__)


def version_1() -> dict[str, Any]:
    """Shapes of everything that travels, but kinds that came later."""
    kinds = [kind for kind in KINDS if kind not in SINCE]
    return {record.__name__: shape(record) for record in [*records(kinds), *HELLO]}


# The document


def document(text: str) -> str:
    """It with its generated parts as they have to be."""
    parts = {
        "frames": "\n".join(_section(kind) for kind in KINDS),
        "records": "\n".join(_section(record) for record in records() if record not in KINDS),
        "hello": "\n".join(_section(record) for record in HELLO),
    }
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, part=part: f"{match[1]}\n{part}\n{match[2]}", text)  # type: ignore[misc]  # bound here
        assert count == 1, f"the document has no place for {name}"
    return text


def _section(record: type[Struct]) -> str:
    words = " ".join(inspect.cleandoc(record.__doc__ or "").split())
    number = record.__struct_config__.tag
    title = f"**`{record.__name__}`**" if number is None else f"**{number} `{record.__name__}`**"
    if issubclass(record, Frame):
        title += f" (said by {_said_by(record)}; since version {SINCE.get(record, 1)})"
    remarks = _remarks(record)
    lines = [f"{title} – {words}", ""]
    for field in msgspec.structs.fields(record):
        default = "" if field.required else f" = {default_of(field)!r}"
        remark = f" – {remarks[field.name]}" if field.name in remarks else ""
        lines.append(f"- `{field.name}: {type_name(field.type)}{default}`{remark}")
    return "\n".join([*lines, ""] if lines[-1] else lines)


def _said_by(kind: type[Frame]) -> str:
    number = int(kind.__struct_config__.tag)  # type: ignore[arg-type]  # of frames it is a number
    return SAID_BY_ALONE.get(number, SAID_BY[number // 10])


def _remarks(record: type[Struct]) -> dict[str, str]:
    """What stands behind fields in the source."""
    path = Path(inspect.getfile(record))
    lines = source(path).splitlines()
    tree = ast.parse(source(path))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == record.__name__).body
    found = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and node.end_lineno is not None:
            _, mark, remark = lines[node.end_lineno - 1].partition("  # ")
            if mark:
                found[ast.unparse(node.target)] = remark
    return found


def main(arguments: list[str]) -> int:
    """Write what is generated."""
    if arguments == ["--record"]:
        RECORDED.write_text(as_json(version_1()))
    else:
        DOCUMENT.write_text(document(DOCUMENT.read_text()))
    return 0


def as_json(shapes: dict[str, Any]) -> str:
    """A line for each record."""
    lines = [f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in shapes.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
