"""Hypothesis strategies for everything that the protocol can say: JSON, packets, topics, filters, positions."""

import json
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from triode_protocol import packets
from triode_protocol.hops import Hop
from triode_protocol.positions import MAX_INTEGER

#: Text that UTF-8 can carry.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
short_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
numbers = st.integers(1, MAX_INTEGER)
wholes = st.integers(0, MAX_INTEGER)
logs = st.text("abcxyz0189-", min_size=1, max_size=32)
maps = st.dictionaries(logs, wholes, max_size=5)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
#: JSON as somebody's encoder may write it: with or without escapes and blanks.
json_texts = st.builds(
    lambda value, is_ascii, indent: json.dumps(value, ensure_ascii=is_ascii, indent=indent),
    json_values,
    st.booleans(),
    st.none() | st.just(1),
)
raws = json_texts.map(lambda text: Raw(text.encode()))
raws_or_absent = st.just(packets.ABSENT) | raws
starts = st.builds(packets.Start, last=st.integers(1, 10_000)) | st.builds(packets.Start, since=wholes)

_FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**53), 2**53),
    bool: st.booleans(),
    str: texts,
    Raw: raws_or_absent,
    packets.Number: numbers,
    packets.Whole: wholes,
    packets.LogName: logs,
    packets.Position: maps,
    packets.Text: texts,
    packets.Name: st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    packets.From: st.sampled_from(["new", "last", "earliest"]) | starts,
    packets.Overflow | msgspec.UnsetType: st.just(UNSET)
    | st.sampled_from(["replay", "gap", "conflate", "disconnect"]),
    packets.Position | msgspec.UnsetType: st.just(UNSET) | maps,
    packets.Will | msgspec.UnsetType: st.just(UNSET)
    | st.builds(packets.Will, texts, raws_or_absent, raws_or_absent, texts, wholes),
    Literal["watch"] | packets.Seen | msgspec.UnsetType: st.sampled_from([UNSET, "watch"])
    | st.builds(packets.Seen, raws),
    dict[str, int]: maps,
    dict[str, str]: st.dictionaries(texts, texts, max_size=3),
    list[str]: st.lists(texts, max_size=3),
    list[Raw]: st.lists(raws, max_size=3),
    list[Hop]: st.lists(st.builds(Hop, texts, texts, wholes, count=wholes, reason=texts), max_size=3),
    packets.ClientInfo: st.builds(packets.ClientInfo, name=texts, version=texts),
    packets.Limits: st.builds(packets.Limits, numbers, numbers, numbers, numbers, numbers),
    packets.Reconnect: st.builds(packets.Reconnect, numbers, numbers),
}


def _field(field: msgspec.structs.FieldInfo) -> st.SearchStrategy[Any]:
    if field.type in _FIELDS:
        strategy = _FIELDS[field.type]
    elif field.name == "capabilities":
        strategy = st.lists(texts, max_size=4)
    else:
        assert field.name == "pos", field  # of an ack: one or several
        strategy = numbers | st.lists(numbers, min_size=1, max_size=4)
    if field.required:
        return strategy.filter(lambda value: value != packets.ABSENT)
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return st.just(default) | strategy


def packet(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Packets of one kind: any fields that its type allows, whether or not they make sense together."""
    return st.builds(kind, **{field.name: _field(field) for field in msgspec.structs.fields(kind)})


client_packets: st.SearchStrategy[Any] = st.one_of(*map(packet, packets.CLIENT_PACKETS))
server_packets: st.SearchStrategy[Any] = st.one_of(*map(packet, packets.SERVER_PACKETS))

#: Few different levels, so that filters match often.
levels = st.sampled_from(["a", "b", "é", "$", "$sys", "a+"[:1], "1"])
topics = st.lists(levels, min_size=1, max_size=5).map("/".join)
filters = st.builds(
    lambda parts, tail: "/".join([*parts, *tail]),
    st.lists(levels | st.just("+"), min_size=1, max_size=4),
    st.just([]) | st.just(["#"]),
) | st.just("#")
