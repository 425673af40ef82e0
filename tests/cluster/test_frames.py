"""Frames between two versions: fields come at the end and with defaults, kinds with a version, or not at all."""

import json
from typing import Annotated, Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from triode_broker.cluster import frames, hello
from triode_broker.cluster.cluster import HANDLERS
from triode_broker.cluster.frames import PROTOCOLS, SINCE, Behind, Frame, Ping, decode, encode, lacking
from triode_broker.cluster.outgoing import Outgoing

from tests.cluster.rig import Lines, identity, network
from tests.cluster.shapes import DOCUMENT, HELLO, KINDS, RECORDED, document, records, shape, type_name, version_1

RECORDS = records()
HOW = "if version 1 is not released yet: python -m tests.cluster.shapes --record"


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Struct):
        return made(kind)
    if origin is list:
        return st.lists(values(parts[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=3)
    if origin is Annotated:  # the one bound that frames have: not less than nothing
        return values(parts[0]).map(abs)
    if origin is not None:
        return st.one_of([values(part) for part in parts])
    return PLAIN[kind]


PLAIN: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**53), 2**53),
    str: st.text(max_size=8),
    bytes: st.binary(max_size=8),
    bool: st.booleans(),
    type(None): st.none(),
}


def made(record: type[Struct]) -> st.SearchStrategy[Any]:
    """Any value of a record."""
    fields = {field.name: values(field.type) for field in msgspec.structs.fields(record)}
    return st.fixed_dictionaries(fields).map(lambda given: record(**given))


def read(record: type[Struct], array: list[Any]) -> Any:
    """An array as another build has sent it."""
    data = msgspec.msgpack.encode([array])
    if issubclass(record, Frame):
        return decode(data)[0]
    return msgspec.msgpack.Decoder(list[record]).decode(data)[0]  # type: ignore[valid-type]  # made at run time


def array_of(value: Struct) -> list[Any]:
    """What is sent."""
    found = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    assert isinstance(found, list)
    return found


def with_defaults(value: Struct, known: int) -> Struct:
    """The same, but for fields behind the first `known`."""
    fields = msgspec.structs.fields(type(value))
    return type(value)(**{field.name: getattr(value, field.name) for field in fields[:known]})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@settings(max_examples=20)  # for each of some forty records
@given(data=st.data())
def test_what_an_older_build_does_not_say_has_its_default(record: type[Struct], data: st.DataObject) -> None:
    value = data.draw(made(record))
    array, fields = array_of(value), msgspec.structs.fields(record)
    required = sum(field.required for field in fields)
    missing = data.draw(st.integers(0, len(fields) - required))
    assert read(record, array[: len(array) - missing]) == with_defaults(value, len(fields) - missing)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@settings(max_examples=20)  # for each of some forty records
@given(data=st.data())
def test_what_a_newer_build_says_besides_is_passed_over(record: type[Struct], data: st.DataObject) -> None:
    value = data.draw(made(record))
    anything = st.one_of(*PLAIN.values(), st.lists(st.integers(0, 9)), st.dictionaries(st.text(), st.booleans()))
    more = data.draw(st.lists(anything, min_size=1, max_size=3))
    assert read(record, [*array_of(value), *more]) == value


@given(data=st.data())
def test_several_frames_of_another_build_stay_apart(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(KINDS).flatmap(made), max_size=4))
    arrays = [[*array_of(frame), "more"] for frame in chosen]
    assert decode(msgspec.msgpack.encode(arrays)) == decode(encode(chosen)) == chosen


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@settings(max_examples=5)
@given(data=st.data())
def test_a_record_without_a_field_that_it_needs_is_none(record: type[Struct], data: st.DataObject) -> None:
    array, required = array_of(data.draw(made(record))), sum(f.required for f in msgspec.structs.fields(record))
    if required:
        tag = record.__struct_config__.tag is not None
        with pytest.raises(msgspec.ValidationError):
            read(record, array[: required - 1 + tag])


HELLOS: list[Struct] = [
    hello.Hello((1, 2), b"n" * hello.NONCE_BYTES, identity()),
    hello.Challenge(b"n" * hello.NONCE_BYTES, "n1", "0" * 16, 1),
    hello.Proof(b"mac"),
    hello.Welcome(b"identity", b"mac"),
    hello.Ready(),
    hello.Refused("self", ""),
    identity(configuration={"limits": "0"}, advertise="ws://n1:7400"),
]


@pytest.mark.parametrize("value", HELLOS, ids=lambda value: type(value).__name__)
def test_the_hello_may_grow_as_well(value: Struct) -> None:
    array, fields = array_of(value), msgspec.structs.fields(type(value))
    decoder = msgspec.msgpack.Decoder(type(value))
    assert decoder.decode(msgspec.msgpack.encode([*array, 1, "more"])) == value
    for missing in range(1, len(fields) + 1 - sum(field.required for field in fields)):
        older = decoder.decode(msgspec.msgpack.encode(array[:-missing]))
        assert older == with_defaults(value, len(fields) - missing)


def test_every_part_of_the_hello_is_tried() -> None:
    assert tuple(type(value) for value in HELLOS) == HELLO


# What was promised with version 1


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


@pytest.mark.parametrize("name", recorded())
def test_records_of_version_1_have_only_grown_and_by_defaults(name: str) -> None:
    then = recorded()[name]
    known = {record.__name__: record for record in [*RECORDS, *HELLO]}
    assert name in known, f"{name} is gone; {HOW}"
    new = json.loads(json.dumps(shape(known[name])))
    old_fields, new_fields = then["fields"], new["fields"]
    assert new.get("number") == then.get("number")
    assert new_fields[: len(old_fields)] == old_fields, f"fields of {name} were changed; {HOW}"
    added = [field[0] for field in new_fields[len(old_fields) :] if len(field) < 3]
    assert added == [], f"new fields of {name} need a default"


def test_kinds_that_were_not_in_version_1_say_when_they_came() -> None:
    """And none has the number of another: a number once given is never given again."""
    assert [name for name in version_1() if name not in recorded() and "number" in version_1()[name]] == [], HOW
    numbers = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(numbers)) == len(numbers)
    assert all(PROTOCOLS[0] <= since <= PROTOCOLS[1] for since in SINCE.values())


def test_every_kind_is_taken_somewhere() -> None:
    assert {kind.__name__ for kind in KINDS if kind not in HANDLERS} == set()


def test_the_document_shows_the_frames_as_they_are() -> None:
    assert document(DOCUMENT.read_text()) == DOCUMENT.read_text(), "run `make generate`"


def test_types_are_named_as_in_the_source() -> None:
    assert type_name(dict[str, list[int]]) == "dict[str, list[int]]"
    assert type_name(int | None) == "int | None"
    assert type_name(tuple[str, ...]) == "tuple[str, ...]"
    assert type_name(hello.Name) == "str"


# Kinds and versions


def test_a_number_that_nobody_knows_is_no_frame() -> None:
    for array in ([99, "a"], [], ["Ping"], [0]):
        with pytest.raises(msgspec.ValidationError):
            decode(msgspec.msgpack.encode([array]))


def test_nobody_takes_less_than_nothing() -> None:
    """It would be room that is not there."""
    assert decode(msgspec.msgpack.encode([[32, 1, 0]])) == [frames.Took(1, 0)]
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.msgpack.encode([[32, 1, -1]]))


def test_a_link_lacks_what_came_after_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "SINCE", {Behind: 3})
    assert lacking(1) == lacking(2) == {Behind}
    assert lacking(3) == frozenset()


async def test_what_a_link_lacks_is_dropped_and_told(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """Sent, it would end the link: the peer cannot read it."""
    monkeypatch.setattr(frames, "SINCE", {Behind: 2})
    async with network() as net:
        n1 = await net.node("n1")
        n2 = await net.node("n2", "n1")
        await n1.linked()
        await n2.linked()
        link = n2.links.links[0]
        assert (link.has(Behind), link.has(Ping)) == (False, True)
        link.put(Behind("m0-1"))
        link.put(frames.Mark("m0-1", 1, 0))
        await n1.story.until(lambda: n1.story.frames)
        assert [frame for _, frame in n1.story.frames] == [frames.Mark("m0-1", 1, 0)]
        assert isinstance(n2.log, Lines)
        assert n2.log.of("frame_above_protocol") == [{"node": "n1", "frame": "Behind", "protocol": 1}]


@given(data=st.data())
def test_an_outbox_gives_out_all_fields_of_what_was_put(data: st.DataObject) -> None:
    """Also of the kinds that it copies to join them."""
    frame = data.draw(st.sampled_from(KINDS).flatmap(made))
    outgoing = Outgoing()
    outgoing.put(frame)
    is_silent = type(frame) is frames.Deliver and not frame.records
    assert outgoing.take(1_000_000)[0] == ([] if is_silent else [frame])


def test_forwards_that_name_different_logs_stay_apart() -> None:
    row = frames.Forwarded(1, "a", b"", b"", "", "", {}, "", 0, 0)
    outgoing = Outgoing()
    put = [frames.Forward("m0", 0, [row], "m0-1"), frames.Forward("m0", 0, [row], "m0-2")]
    for frame in put:
        outgoing.put(frame)
    assert outgoing.take(1_000_000)[0] == put
