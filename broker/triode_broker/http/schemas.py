"""Schemas: what the records of operations look like, in the words of JSON Schema, for the OpenAPI document.

Knows records and nothing of operations. The surprising decision: records are copied before they are described.
What passes JSON through unread has a default that is no JSON, and a union of two plain records has no tag to tell
them apart by; neither has a word in the library that describes records, and both have one in JSON Schema.
"""

import types
from collections.abc import Iterable
from inspect import cleandoc
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import fields

REF: Final = "#/components/schemas/{name}"
Schema = dict[str, Any]


class Schemas:
    """Of some types; `of` says the schema of each, `components` what these refer to."""

    def __init__(self, wanted: Iterable[Any]) -> None:
        self._copies: dict[type[Struct], type[Struct]] = {}
        self._choices: dict[type, list[Any]] = {}
        asked = {id(one): one for one in wanted}
        plain = [self._plain(one) for one in asked.values()]
        plain += self._copies.values()
        made, components = msgspec.json.schema_components(plain, schema_hook=self._either, ref_template=REF)
        self._schemas = dict(zip(asked, made, strict=False))
        self.components: Schema = {name: _clean(components[name]) for name in sorted(components)}

    def of(self, one: Any) -> Schema:
        """One that was wanted."""
        schema: Schema = _clean(self._schemas[id(one)])
        return schema

    def properties(self, record: type[Struct]) -> tuple[dict[str, Schema], frozenset[str]]:
        """Of a record that was wanted: its fields, and which of them have to be there."""
        name = self.of(record)["$ref"].rpartition("/")[2]
        schema = self.components[name]
        return schema.get("properties", {}), frozenset(schema.get("required", ()))

    def forget(self, record: type[Struct]) -> None:
        """It is described elsewhere."""
        self.components.pop(self.of(record)["$ref"].rpartition("/")[2], None)

    def _plain(self, one: Any) -> Any:
        if one is Raw:
            return Any
        if isinstance(one, type) and issubclass(one, Struct):
            return self._copy(one)
        origin, inner = get_origin(one), get_args(one)
        if origin is Annotated:
            return Annotated[(self._plain(inner[0]), *inner[1:])]
        if origin in (Union, types.UnionType):
            return self._union([self._plain(part) for part in inner])
        if origin in (list, dict, tuple) and inner:
            return origin[tuple(part if part is Ellipsis else self._plain(part) for part in inner)]
        return one

    def _union(self, parts: list[Any]) -> Any:
        records = [part for part in parts if isinstance(part, type) and issubclass(part, Struct)]
        if len(records) > 1:
            either = type("Either", (), {})
            self._choices[either] = parts
            return either
        return Union[tuple(parts)]  # noqa: UP007  # a tuple made at run time

    def _either(self, either: type) -> Schema:
        return {"anyOf": [_choice(part) for part in self._choices[either]]}

    def _copy(self, record: type[Struct]) -> type[Struct]:
        if record not in self._copies:
            config = record.__struct_config__
            self._copies[record] = msgspec.defstruct(
                record.__name__,
                [self._field(one) for one in fields(record)],
                namespace={"__doc__": record.__doc__},
                module=record.__module__,
                kw_only=True,
                forbid_unknown_fields=config.forbid_unknown_fields,
            )
        return self._copies[record]

    def _field(self, one: Any) -> Any:
        plain = self._plain(one.type)
        if one.required:
            return one.name, plain, msgspec.field(name=one.encode_name)
        default = one.default
        if isinstance(default, Raw) or default is UNSET or default is msgspec.NODEFAULT:
            if default is msgspec.NODEFAULT and one.default_factory in (list, dict):
                return one.name, plain, msgspec.field(name=one.encode_name, default_factory=one.default_factory)
            return one.name, plain | UnsetType, msgspec.field(name=one.encode_name, default=UNSET)
        return one.name, plain, msgspec.field(name=one.encode_name, default=default)


def _choice(part: Any) -> Schema:
    if isinstance(part, type) and issubclass(part, Struct):
        return {"$ref": REF.format(name=part.__name__)}
    return msgspec.json.schema(part)


def _clean(node: Any) -> Any:
    """Docstrings without their indentation: Python keeps it up to 3.12 and drops it from 3.13 on."""
    if isinstance(node, list):
        return [_clean(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: cleandoc(value) if key == "description" and isinstance(value, str) else _clean(value)
        for key, value in node.items()
    }
