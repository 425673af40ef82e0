"""The pages of docs/reference that are made from the program: settings, commands, errors, calls over HTTP.

`python -m tests.house.site_reference` (part of `make generate`) writes them; test_site.py says if they are
current. The surprising decision: commands are not shown as `--help` prints them, because each version of Python
lays that out in its own way; a page has the same words as tables.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from triode_broker.cli.arguments import make_parser
from triode_broker.cli.exit_codes import MEANINGS
from triode_broker.cli.known_settings import tables
from triode_broker.config import RETENTION, Config
from triode_broker.config.effects import is_table

from tests.house.limits_page import effect_in_words, limits_table, quotas_table, remarks
from tests.house.tree import ROOT

FOLDER: Final = ROOT / "docs" / "reference"
MADE: Final = "<!-- made by `make generate` from {}: edit that -->\n"
#: The lists of rows, but for quotas, whose page says what holds where no row does.
ROWS: Final = {name: record for name, record in tables().items() if name != "quotas"}

_SETTINGS_HEAD: Final = """# Settings

Every setting there is. They come from flags of `triode serve`, from the environment, and from a TOML file
(`--config FILE`), in this order of precedence; an unknown name is an error. `triode serve --check` prints what is
in force and where each value comes from.

A variable of the environment is called `TRIODE_` and the name in capitals, with `_` for each dot: `limits.ping_ms`
is `TRIODE_LIMITS_PING_MS`. Rows (`[[topics]]`) stand in the file alone. Units are part of the names. *Takes
effect*: at [a reload](../reloading.md), for connections and subscriptions that begin from then on, or at the next
start.
"""


def configuration() -> str:
    """Settings, by table."""
    parts = [MADE.format("broker/triode_broker/config"), _SETTINGS_HEAD, "\n## At the top of the file\n"]
    parts.append(_table(Config, "", [one for one in msgspec.structs.fields(Config) if _is_plain(one)]))
    for one in msgspec.structs.fields(Config):
        if is_table(one.type) and one.name != "limits":
            parts += [f"\n## `[{one.name}]`\n", f"{_said(one.type)}\n"]
            parts.append(_table(one.type, f"{one.name}.", msgspec.structs.fields(one.type)))
    for name, record in ROWS.items():
        parts += [f"\n## `[[{name}]]`\n", f"{_said(record)} {_when(name)}\n"]
        parts.append(_table(record, f"{name}.", msgspec.structs.fields(record), rows=True))
    parts += ["\n## `[[quotas]]`\n", f"How they are chosen: [limits](../limits.md). {_when('quotas')}\n"]
    parts.append(quotas_table())
    parts += ["\n## `[limits]`\n", "What they do together: [limits](../limits.md).", limits_table(), ""]
    return "\n".join(parts)


def _is_plain(one: msgspec.structs.FieldInfo) -> bool:
    return not is_table(one.type) and one.name not in (*ROWS, "quotas")


def _said(record: type[Struct]) -> str:
    return " ".join((record.__doc__ or "").split())


def _when(name: str) -> str:
    return f"Changed rows take effect {effect_in_words(name)}."


def _table(
    record: type[Struct], prefix: str, named: Iterable[msgspec.structs.FieldInfo], *, rows: bool = False
) -> str:
    said = {name: remark for _, name, remark in remarks(record)}
    flags = _flags() if not prefix else {}
    lines = ["| name | kind | default | takes effect | |", "| --- | --- | --- | --- | --- |"]
    if rows:
        lines = ["| name | kind | default | |", "| --- | --- | --- | --- |"]
    for one in named:
        flag = f" `{flags[one.name]}`" if one.name in flags else ""
        cells = [f"`{one.name}`{flag}", _kind(one.type), _default(one)]
        if not rows:
            cells.append("" if is_table(one.type) else effect_in_words(f"{prefix}{one.name}"))
        lines.append(f"| {' | '.join([*cells, said[one.name].replace('|', chr(92) + '|')])} |")
    return "\n".join(lines)


def _flags() -> dict[str, str]:
    return {action.dest: action.option_strings[0] for action in commands()["serve"]._actions}


def _default(one: msgspec.structs.FieldInfo) -> str:
    value = one.default if one.default is not msgspec.NODEFAULT else ()
    if is_table(one.type):
        return ""
    if isinstance(value, (tuple, list)):
        return f"`{json.dumps(list(value))}`"
    if one.name in RETENTION["memory"]:
        return f"{RETENTION['memory'][one.name]}; on disk {RETENTION['disk'][one.name]}"
    return f"`{json.dumps(value)}`"


def _kind(type_: Any) -> str:
    """What may stand there, in words."""
    if is_table(type_):
        return f"a table, as [`[{type_.__name__.lower()}]`](#{type_.__name__.lower()})"
    about = msgspec.inspect.type_info(type_)
    match about:
        case msgspec.inspect.BoolType():
            return "`true` or `false`"
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f"`{json.dumps(value)}`" for value in values)
        case msgspec.inspect.StrType(pattern=pattern):
            return f"text, `{pattern}`".replace("|", "\\|") if pattern else "text"
        case msgspec.inspect.IntType(ge=least, le=most):
            return _number("whole number", least, most)
        case msgspec.inspect.FloatType(ge=least, le=most):
            return _number("number", least, most)
        case _:
            return "list of texts"


def _number(kind: str, least: float | None, most: float | None) -> str:
    if most is None or most > 2**52:
        return f"{kind}, {least} or more" if least is not None else kind
    return f"{kind}, {least} to {most}"


def command_line() -> str:
    """Every command with its arguments, the examples of its help, and the exit codes."""
    parts = [MADE.format("the command line's own help"), "# Command line", ""]
    parts += ["`triode COMMAND --help` says the same.", "", "| exit code | |", "| --- | --- |"]
    parts += [f"| {int(code)} | {text} |" for code, text in MEANINGS.items()]
    for name, parser in commands().items():
        parts += ["", f"## triode {name}", "", parser.description or "", *_options(parser, f"triode {name}")]
        examples = (parser.epilog or "").partition("exit codes:")[0].rstrip()
        if examples:
            parts += ["", "```text", examples, "```"]
    return "\n".join(parts) + "\n"


def commands() -> dict[str, Any]:
    """Name → parser of every command."""
    return dict(sorted(_below(make_parser()).items()))


def _below(parser: Any) -> dict[str, Any]:
    return next((dict(action.choices) for action in parser._actions if _has_commands(action)), {})


def _has_commands(action: Any) -> bool:
    return isinstance(action.choices, dict)


def _options(parser: Any, called: str) -> Iterator[str]:
    rows = [row for action in parser._actions if (row := _option(action))]
    if rows:
        yield from ("", "| | |", "| --- | --- |", *rows)
    for action in parser._actions:
        if not _has_commands(action):
            continue
        words = {each.dest: each.help or "" for each in action._choices_actions}
        for name, below in action.choices.items():
            yield from ("", f"### {called} {name}", "", _sentence(words.get(name, "")))
            yield from _options(below, f"{called} {name}")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _option(action: Any) -> str:
    if _has_commands(action) or action.help == "==SUPPRESS==" or "--help" in action.option_strings:
        return ""
    value = action.metavar or action.dest.upper()
    takes = action.nargs != 0
    names = [f"`{name} {value}`" if takes else f"`{name}`" for name in action.option_strings] or [f"`{value}`"]
    words = (action.help or "").replace("%%", "%").replace("|", "\\|").replace("<", "&lt;")
    needed = " (needed)" if action.option_strings and action.required else ""
    return f"| {', '.join(names)} | {words}{needed} |"


def errors() -> str:
    """Names of errors, codes of closes, reasons of gaps."""
    registry = json.loads((ROOT / "protocol" / "registry.json").read_text())
    parts = [MADE.format("protocol/registry.json"), "# Errors, close codes, gaps", ""]
    parts += ["What goes wrong has a name or a number; programs decide by those, never by a message's text.", ""]
    parts += [
        "## Errors",
        "",
        "In an [`error`](../../SPEC.md) packet, and in what a request over HTTP answers.",
        "",
    ]
    parts += ["| name | again? | |", "| --- | --- | --- |"]
    parts += [f"| `{one['name']}` | {one['retry']} | {one['meaning']} |" for one in registry["errors"]]
    parts += [
        "",
        "## Close codes",
        "",
        "Why a connection ends, who ended it, and what helps. What a client does goes",
    ]
    parts += ["by the range:", "", "| codes | action | |", "| --- | --- | --- |"]
    parts += [f"| {one['from']}–{one['to']} | {one['action']} | {one['meaning']} |" for one in registry["ranges"]]
    parts += ["", "| code | name | by | | what to do |", "| --- | --- | --- | --- | --- |"]
    parts += [
        f"| {one['code']} | `{one['name']}` | {one['initiator']} | {one['meaning']} | {one['advice']} |"
        for one in registry["closes"]
    ]
    parts += ["", "More about them, and where they are seen: [why connections end](../disconnects.md).", ""]
    parts += ["## Gaps", "", "Why messages are missing; a subscriber is told in front of the next one.", ""]
    parts += ["| reason | |", "| --- | --- |"]
    parts += [f"| `{one['name']}` | {one['meaning']} |" for one in registry["gap_reasons"]]
    return "\n".join(parts) + "\n"


def http() -> str:
    """Every operation of protocol/openapi.json."""
    document = json.loads((ROOT / "protocol" / "openapi.json").read_text())
    schemas = document["components"]["schemas"]
    parts = [MADE.format("the table of operations"), "# HTTP operations", ""]
    parts += [" ".join(document["info"]["description"].split()), ""]
    parts += ["The same for machines: [openapi.json](../../protocol/openapi.json), or `GET /v1/openapi.json` of a"]
    parts += ["running broker. In use: [publish and ask](../http-api.md), [events](../events-over-http.md),"]
    parts += ["[operate](../http-operators.md).", ""]
    tag = ""
    used: list[str] = []
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            if about["tags"][0] != tag:
                tag = about["tags"][0]
                parts += [f"## {tag.capitalize()}", ""]
            parts += _operation(method, path, about, used)
    return "\n".join(parts + _records(schemas, used)) + "\n"


def _operation(method: str, path: str, about: dict[str, Any], used: list[str]) -> list[str]:
    lines = [f"### {method.upper()} {path}", "", f"{about['summary']}.", ""]
    if "description" in about:
        lines += [" ".join(about["description"].split()), ""]
    if about.get("parameters"):
        lines += ["| | in | kind | |", "| --- | --- | --- | --- |"]
        for one in about["parameters"]:
            needed = " (needed)" if one.get("required") else ""
            default = f" Default {one['schema']['default']}." if "default" in one["schema"] else ""
            words = _cell(one.get("description", "") + default)
            lines.append(f"| `{one['name']}`{needed} | {one['in']} | {_shape(one['schema'], used)} | {words} |")
        lines.append("")
    body = about.get("requestBody", {}).get("content", {})
    lines += [f"Body, `{kind}`: {_shape(one.get('schema', {}), used)}\n" for kind, one in body.items()]
    for status, answer in about["responses"].items():
        for kind, one in answer.get("content", {}).items():
            lines += [f"Answer {status}, `{kind}`: {_shape(one.get('schema', {}), used)}\n"]
    refused = [status for status, answer in about["responses"].items() if "$ref" in answer]
    if refused:
        lines += [f"Refused with {', '.join(refused)}.", ""]
    return lines


def _records(schemas: dict[str, Any], used: list[str]) -> list[str]:
    lines = ["## Records", ""]
    for name in used:  # grows while it is read: what records hold is used too
        about = schemas[name]
        lines += [f"### {name}", ""]
        if "description" in about:
            lines += [" ".join(about["description"].split()), ""]
        if about.get("properties"):
            lines += ["| | kind | |", "| --- | --- | --- |"]
            for key, one in about["properties"].items():
                needed = " (needed)" if key in about.get("required", ()) else ""
                words = _cell(one.get("description", ""))
                lines.append(f"| `{key}`{needed} | {_shape(one, used)} | {words} |")
            lines.append("")
        else:
            lines += [_shape({**about, "description": ""}, used), ""]
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _shape(schema: dict[str, Any], used: list[str]) -> str:
    """A JSON schema in words; records by name, with a link."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if name not in used:
            used.append(name)
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_shape(one, used) for one in schema[several]))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}), used)}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


PAGES: Final = {
    "configuration.md": configuration,
    "command-line.md": command_line,
    "errors.md": errors,
    "http.md": http,
}


def page(name: str) -> str:
    """One of them, as it has to be."""
    return re.sub(r"\n{3,}", "\n\n", PAGES[name]())


if __name__ == "__main__":
    for each in PAGES:
        Path(FOLDER / each).write_text(page(each), encoding="utf-8")
