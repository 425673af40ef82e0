"""Settings of `triode serve`: defaults < TOML file < environment < flags, checked one by one.

Knows the records in `config` only by their types (`known_settings`). The surprising decision: every value keeps
the place it came from to the end. That lets an error name the file or variable it stands in, and `--check` say
which layer won.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from attrs import field, frozen
from msgspec import Struct

from triode_broker.cli.access import access_problems
from triode_broker.cli.contradictions import contradictions
from triode_broker.cli.known_settings import (
    PREFIX,
    allowed,
    as_list,
    is_list,
    is_record,
    nearest,
    row_name,
    shown,
    single_settings,
    tables,
    variable,
)
from triode_broker.config import Config
from triode_broker.printable import escape

#: TRIODE_* that are not the broker's settings: the file's place, the client's, those of the project's own tests.
OTHER_VARIABLES = frozenset({"CONFIG", "URL", "TOKEN", "REQUIRE_BROWSER", "FUZZ_SECONDS"})
#: Flags that are given once for each value of a list, and so are not named as the list is.
FLAGS_OF_LISTS = {"seeds": "seed"}
#: Settings that name the variable in which a secret stands.
VARIABLES_OF_SECRETS = ("key_env", "secret_env", "token_env")

_Record = TypeVar("_Record", bound=Struct)


class BadSettings(Exception):
    """Everything that is wrong, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@frozen
class Settings:
    """A valid configuration, and for every value that is not a default the place it came from."""

    config: Config
    sources: Mapping[str, str]


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Put the layers together. Raises BadSettings with all that is wrong in any of them.

    `flags`: names of top-level settings to values, for a list its texts; None where the flag was not given.
    """
    layers = _Layers()
    if file is not None:
        layers.add_file(file)
    layers.add_environment(environ or {})
    layers.add_flags(flags or {})
    if layers.problems:
        raise BadSettings(layers.problems)
    config = layers.record(Config)
    found = contradictions(config, {name: value for name, (value, _) in layers.values.items()})
    found += access_problems(config)
    problems = [f"{layers.source(name)}{name}{text}" for name, text in found]
    if problems:
        raise BadSettings(problems)
    sources = {name: source for name, (_, source) in layers.values.items()}
    return Settings(config, {**_sources_of_what_follows(config), **sources})


def _sources_of_what_follows(config: Config) -> dict[str, str]:
    """Of values that `Config` itself takes from others, where they are not given."""
    found = {"cluster_listen": "default with seeds"} if config.seeds else {}
    found |= {"cluster_advertise": "as cluster_listen"} if config.cluster_advertise else {}
    return found | ({"durable_shards": "as many as durable names"} if config.durable else {})


@frozen
class _Layers:
    """Values by name, a later layer over an earlier one, and what was wrong on the way."""

    values: dict[str, tuple[Any, str]] = field(factory=dict)
    rows: dict[str, int] = field(factory=dict)  # how many each list of tables has
    problems: list[str] = field(factory=list)

    def add_file(self, file: Path) -> None:
        try:
            document = tomllib.loads(file.read_text("utf-8-sig"))
        except OSError as error:
            self.problems.append(f"{file}: cannot be read: {error.strerror or error}")
        except ValueError as error:  # no UTF-8, no TOML, or a number of thousands of digits
            self.problems.append(f"{file}: not TOML: {error}")
        except RecursionError:  # the reader goes down a level with each of the file's
            self.problems.append(f"{file}: not TOML that can be read: it is nested too deeply")
        else:
            self._add_table(document, str(file), "")

    def _add_table(self, table: Mapping[str, Any], source: str, prefix: str) -> None:
        known, lists = single_settings(), tables()
        for key, value in table.items():
            name = prefix + key
            if name in known:
                self._add(name, value, source, known[name])
            elif name in lists:
                self._add_rows(name, value, source, lists[name])
            elif not any(other.startswith(f"{name}.") for other in known):
                tables_of_one = {other.rpartition(".")[0] for other in known if "." in other}
                hint = nearest(name, [*known, *lists, *sorted(tables_of_one)])
                self.problems.append(f"{source}: unknown key {escape(name)}{hint}")
            elif isinstance(value, dict):
                self._add_table(value, source, f"{name}.")
            else:
                self.problems.append(f"{source}: {name} = {shown(value)}: allowed is a table, [{name}]")

    def _add_rows(self, name: str, value: object, source: str, record: type[Struct]) -> None:
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            self.problems.append(f"{source}: {name} = {shown(value)}: allowed are tables, each under [[{name}]]")
            return
        self.rows[name] = len(value)
        types = {one.name: one.type for one in msgspec.structs.fields(record)}
        for number, row in enumerate(value, 1):
            for key, inner in row.items():
                if key in types:
                    self._add(row_name(name, number, key), inner, source, types[key])
                else:
                    place = f"in [[{name}]] #{number}"
                    self.problems.append(f"{source}: unknown key {escape(key)} {place}{nearest(key, list(types))}")

    def add_environment(self, environ: Mapping[str, str]) -> None:
        known = {variable(name): (name, type) for name, type in single_settings().items()}
        lists = {variable(name): name for name in tables()}
        secrets = {value for name, (value, _) in self.values.items() if name.endswith(VARIABLES_OF_SECRETS)}
        for key in sorted(key for key in environ if key.startswith(PREFIX)):
            if key in known:
                name, type = known[key]
                text = environ[key]
                self._add(name, as_list(text) if is_list(type) else text, f"environment {key}", type, is_text=True)
            elif key in lists:
                self.problems.append(f"environment {key}: [[{lists[key]}]] can only be set in the file")
            elif key not in secrets and not _is_other(key, environ):
                self.problems.append(f"environment: unknown variable {escape(key)}{nearest(key, list(known))}")

    def add_flags(self, flags: Mapping[str, object]) -> None:
        known = single_settings()
        for name, value in flags.items():
            if value is None:
                continue
            source = f"--{FLAGS_OF_LISTS.get(name, name).replace('_', '-')}"
            if is_list(known[name]) and isinstance(value, list):
                value = [part for text in value for part in as_list(text)]
            self._add(name, value, source, known[name], is_text=isinstance(value, str))

    def _add(self, name: str, value: object, source: str, type: Any, *, is_text: bool = False) -> None:
        try:
            self.values[name] = (msgspec.convert(value, type, strict=not is_text), source)
        except msgspec.ValidationError:
            self.problems.append(f"{source}: {name} = {shown(value)}: allowed is {allowed(type)}")

    def record(self, record: type[_Record], prefix: str = "") -> _Record:
        """The record of all values whose names begin with `prefix`, the others at their defaults."""
        given: dict[str, Any] = {}
        for one in msgspec.structs.fields(record):
            name = prefix + one.name
            if is_record(one.type):
                given[one.name] = self.record(one.type, f"{name}.")
            elif name in self.rows:
                row, numbers = tables()[name], range(1, self.rows[name] + 1)
                given[one.name] = tuple(self.record(row, row_name(name, number)) for number in numbers)
            elif name in self.values:
                given[one.name] = self.values[name][0]
        return record(**given)

    def source(self, name: str) -> str:
        return f"{self.values[name][1]}: " if name in self.values else ""


def _is_other(key: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable is not the broker's to know."""
    return key.removeprefix(PREFIX) in OTHER_VARIABLES or _is_service_link(key, environ)


def _is_service_link(key: str, environ: Mapping[str, str]) -> bool:
    """Whether Kubernetes made this variable: pods beside a service named triode… get TRIODE…_SERVICE_HOST etc."""
    hosts = [name.removesuffix("_SERVICE_HOST") for name in environ if name.endswith("_SERVICE_HOST")]
    return any(re.fullmatch(rf"{re.escape(host)}_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_\w+)?)", key) for host in hosts)
