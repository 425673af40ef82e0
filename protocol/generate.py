"""Writes what is generated from the packet types and the registry; `--check` only says whether it is current.

Run by `make generate`; CI runs `--check`. Makes: triode_protocol/errors.py, schemas/*.json, asyncapi.json,
openapi.json, the schemas of scenarios/, and the tables in SPEC.md and docs/disconnects.md between
`<!-- generated: NAME -->` and `<!-- end -->`.
"""

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any, Union, get_args

import msgspec
from asyncapi_document import document

HERE = Path(__file__).parent
SPEC = HERE.parent / "SPEC.md"
OPERATING = HERE.parent / "docs" / "http-operators.md"
DISCONNECTS = HERE.parent / "docs" / "disconnects.md"

_HEAD = '''"""Error names, close codes and gap reasons. Generated from registry.json: edit that, then
`make generate`."""

from enum import IntEnum, StrEnum
from typing import Final
'''


def read_registry() -> dict[str, list[dict[str, Any]]]:
    registry: dict[str, list[dict[str, Any]]] = json.loads((HERE / "registry.json").read_text())
    return registry


def errors_module(registry: dict[str, list[dict[str, Any]]]) -> str:
    lines = [_HEAD]
    lines += ["", "class ErrorName(StrEnum):", '    """What went wrong (SPEC 5.1)."""', ""]
    lines += [f'    {e["name"].upper()} = "{e["name"]}"' for e in registry["errors"]]
    lines += [
        "",
        "",
        "class CloseCode(IntEnum):",
        '    """Why the connection ends (SPEC 5.3)."""',
        "",
    ]
    lines += [f"    {c['name'].upper()} = {c['code']}" for c in registry["closes"]]
    lines += [
        "",
        "",
        "class GapReason(StrEnum):",
        '    """Why messages are missing (SPEC 4.6)."""',
        "",
    ]
    lines += [f'    {g["name"].upper()} = "{g["name"]}"' for g in registry["gap_reasons"]]
    lines += [
        "",
        "",
        "#: What a client does about an error (SPEC 5.1).",
        "RETRY: Final[dict[str, str]] = {",
    ]
    lines += [f'    "{e["name"]}": "{e["retry"]}",' for e in registry["errors"]]
    lines += [
        "}",
        "",
        "#: What a client does after a close: first code, last code, action (SPEC 5.3).",
    ]
    lines += ["CLOSE_RANGES: Final = ("]
    lines += [f'    ({r["from"]}, {r["to"]}, "{r["action"]}"),' for r in registry["ranges"]]
    lines += [")", ""]
    lines += ["#: Who ends a connection with it (docs/disconnects.md).", "INITIATORS: Final[dict[int, str]] = {"]
    lines += [f'    {c["code"]}: "{c["initiator"]}",' for c in registry["closes"]]
    lines += ["}", "", "#: Why, in a sentence.", "MEANINGS: Final[dict[int, str]] = {"]
    lines += [f'    {c["code"]}: "{c["meaning"]}",' for c in registry["closes"]]
    lines += ["}", ""]
    return "\n".join(lines)


def spec_tables(registry: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    errors = ["| name | retry | meaning |", "| --- | --- | --- |"]
    errors += [f"| `{e['name']}` | {e['retry']} | {e['meaning']} |" for e in registry["errors"]]
    closes = ["| code | name | meaning |", "| --- | --- | --- |"]
    closes += [f"| {c['code']} | `{c['name']}` | {c['meaning']} |" for c in registry["closes"]]
    ranges = ["| codes | action | meaning |", "| --- | --- | --- |"]
    ranges += [f"| {r['from']}–{r['to']} | {r['action']} | {r['meaning']} |" for r in registry["ranges"]]
    gaps = ["| reason | meaning |", "| --- | --- |"]
    gaps += [f"| `{g['name']}` | {g['meaning']} |" for g in registry["gap_reasons"]]
    disconnects = ["| code | name | initiator | meaning | what to do |", "| --- | --- | --- | --- | --- |"]
    disconnects += [
        f"| {c['code']} | `{c['name']}` | {c['initiator']} | {c['meaning']} | {c['advice']} |"
        for c in registry["closes"]
    ]
    tables = {
        "errors": errors,
        "closes": closes,
        "disconnects": disconnects,
        "ranges": ranges,
        "gap_reasons": gaps,
    }
    return {name: "\n".join(rows) for name, rows in tables.items()}


def spec_text(text: str, tables: dict[str, str]) -> str:
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = pattern.sub(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)  # type: ignore[misc]  # bound now
    return text


def _describable_type(type_: Any) -> Any:
    """A union in which records that carry JSON are describable themselves."""
    parts = get_args(type_)
    if not any(getattr(part, "__struct_fields__", None) and _carries_json(part) for part in parts):
        return type_
    described = [_describable(part) if hasattr(part, "__struct_fields__") else part for part in parts]
    return Union[tuple(described)]  # noqa: UP007  # a tuple made at run time


def _carries_json(record: type[msgspec.Struct]) -> bool:
    return any(field.type is msgspec.Raw for field in msgspec.structs.fields(record))


def _describable(packet: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The packet with its raw JSON fields as "any", and "absent" (0, "", an empty Raw) as no default at all."""
    absent = msgspec.field(default_factory=lambda: None)
    fields: list[Any] = []
    for field in msgspec.structs.fields(packet):
        if isinstance(field.default, msgspec.Raw):
            fields.append((field.name, Any, absent))
        elif field.default in (0, -1, "", msgspec.UNSET) and field.default is not False:
            fields.append((field.name, _describable_type(field.type), absent))
        elif field.default is not msgspec.NODEFAULT:
            fields.append((field.name, field.type, field.default))
        elif field.default_factory is not msgspec.NODEFAULT:
            made = msgspec.field(default_factory=field.default_factory)
            fields.append((field.name, field.type, made))
        else:
            fields.append((field.name, field.type))
    config = packet.__struct_config__
    return msgspec.defstruct(
        packet.__name__,
        fields,
        namespace={"__doc__": packet.__doc__},
        tag=config.tag,
        tag_field=config.tag_field,
        forbid_unknown_fields=config.forbid_unknown_fields,
        rename={f.name: f.encode_name for f in msgspec.structs.fields(packet)},
    )


def _with_clean_descriptions(node: Any) -> Any:
    """Docstrings without their indentation: Python keeps it up to 3.12 and drops it from 3.13 on."""
    if isinstance(node, list):
        return [_with_clean_descriptions(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: inspect.cleandoc(value)
        if key == "description" and isinstance(value, str)
        else _with_clean_descriptions(value)
        for key, value in node.items()
    }


def schemas() -> dict[Path, str]:
    from triode_protocol import packets

    made = {}
    for side, union in (("client", packets.CLIENT_PACKETS), ("server", packets.SERVER_PACKETS)):
        for packet in union:
            schema = _with_clean_descriptions(msgspec.json.schema(_describable(packet)))
            schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
            name = f"{side}.{packet.__struct_config__.tag}.json"
            made[HERE / "schemas" / name] = json.dumps(schema, indent=1, sort_keys=True) + "\n"
    return made


def asyncapi() -> dict[Path, str]:
    from triode_protocol import packets

    sides: dict[str, tuple[type[msgspec.Struct], ...]] = {
        "client": packets.CLIENT_PACKETS,
        "server": packets.SERVER_PACKETS,
    }
    made = _with_clean_descriptions(document(sides, _describable, SPEC.read_text()))
    return {HERE / "asyncapi.json": json.dumps(made, indent=1, ensure_ascii=False) + "\n"}


def openapi() -> dict[Path, str]:
    """Of what can be asked over HTTP; and the operators' table in the docs."""
    from triode_broker.http import api, operators
    from triode_broker.http.openapi import document, operations_table

    made = document(api.OPERATIONS)
    table = {"operators": operations_table(operators.OPERATIONS).rstrip("\n")}
    return {
        HERE / "openapi.json": json.dumps(made, indent=1, ensure_ascii=False) + "\n",
        OPERATING: spec_text(OPERATING.read_text(), table),
    }


def scenario_schemas() -> dict[Path, str]:
    """Of the scenarios' files, and of what the runner and an adapter say to each other."""
    from triode_broker.conformance import lines, steps

    made = {"scenarios": steps.schema(), "adapter": lines.schema()}
    return {
        HERE / "scenarios" / f"{name}.schema.json": json.dumps(_with_clean_descriptions(schema), indent=1) + "\n"
        for name, schema in made.items()
    }


def all_from_types() -> dict[Path, str]:
    return schemas() | asyncapi() | openapi() | scenario_schemas()


def generated() -> dict[Path, str]:
    """Every generated file and the text it must have."""
    registry = read_registry()
    files = {HERE / "triode_protocol" / "errors.py": errors_module(registry)}
    if SPEC.exists():
        for page in (SPEC, DISCONNECTS):
            files[page] = spec_text(page.read_text(), spec_tables(registry))
    return files


def outdated() -> list[Path]:
    """The generated files that are not current, and those that nothing generates any more."""
    files = generated() | all_from_types()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    return stale + [path for path in (HERE / "schemas").glob("*.json") if path not in files]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        stale = outdated()
        for path in stale:
            sys.stderr.write(f"{path.name} is not current: run `make generate`\n")
        return 1 if stale else 0
    for path, text in generated().items():  # first: the packet types import the enums
        path.write_text(text)
    made = all_from_types()  # all of it, before anything is removed
    for path in (HERE / "schemas").glob("*.json"):
        path.unlink()
    for path, text in made.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
