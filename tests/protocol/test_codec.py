"""The codec: properties over all packets and all texts, and what the vectors leave open."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw
from triode_protocol import codec, packets
from triode_protocol.codec import Refused
from triode_protocol.errors import RETRY, ErrorName

from tests.protocol import strategies

LIMIT = 65_536
PING = '{"type":"ping","id":1}'


def pings_of(answers: object) -> list[int]:
    """The ids of a sequence that must be pings."""
    assert isinstance(answers, list | tuple)
    assert all(isinstance(p, packets.ClientPing) for p in answers)
    return [p.id for p in answers]


@given(strategies.client_packets)
def test_client_packet_survives_the_wire(packet: Any) -> None:
    """SPEC 3.1-3.7"""
    assert codec.decode(codec.encode(packet).decode(), LIMIT) == (packet,)


@given(strategies.server_packets)
def test_server_packet_survives_the_wire(packet: Any) -> None:
    """SPEC 4.1-4.8"""
    assert codec.decode_server(codec.encode(packet).decode()) == [packet]


@given(st.lists(strategies.client_packets, min_size=1, max_size=4))
def test_array_of_client_packets_survives_the_wire(sent: list[Any]) -> None:
    """SPEC 1.5"""
    assert codec.decode(codec.join([codec.encode(p) for p in sent]).decode(), LIMIT) == sent


@given(st.lists(strategies.server_packets, min_size=1, max_size=4))
def test_array_of_server_packets_survives_the_wire(sent: list[Any]) -> None:
    """SPEC 1.5"""
    assert codec.decode_server(codec.join([codec.encode(p) for p in sent]).decode()) == sent


#: Texts that look like the protocol more often than chance would have it.
almost_packets = st.one_of(
    st.text(),
    strategies.json_texts,
    st.lists(st.sampled_from(['{"type":"ping"}', ",", "[", "]", "{", "}", '"', " ", "\\", "1", "\ud800"])).map(
        "".join
    ),
    st.builds(lambda p, cut: codec.encode(p).decode()[:cut], strategies.client_packets, st.integers(0, 80)),
    st.dictionaries(
        st.sampled_from(["type", "id", "sub", "filter", "from", "data", "x"]),
        strategies.json_values | st.sampled_from(["ping", "publish", "subscribe"]),
    ).map(json.dumps),
)


@given(almost_packets, st.integers(1, 200))
@example("\ud800" * 100, 50)
@example("[" * 5000, LIMIT)
@example("[" * 5000 + "]" * 5000, LIMIT)
@example('{"id":' * 5000, LIMIT)
def test_decode_answers_every_text_and_never_raises(text: str, limit: int) -> None:
    """S1, S26: whatever arrives costs its sender an answer and nobody else anything."""
    answers = codec.decode(text, limit)
    assert answers
    for answer in answers:
        assert isinstance(answer, Refused | packets.ClientPacket)


@given(almost_packets)
def test_decode_server_reads_or_raises_value_error_and_nothing_else(text: str) -> None:
    """S33"""
    try:
        found = codec.decode_server(text)
    except ValueError:
        return
    assert all(isinstance(packet, packets.ServerPacket) for packet in found)


@given(strategies.json_texts)
def test_data_passes_through_as_the_text_it_came_in(text: str) -> None:
    """SPEC 1.9"""
    [packet] = codec.decode(f'{{"type":"publish","topic":"a","data":{text}}}', LIMIT)
    assert isinstance(packet, packets.Publish)
    assert bytes(packet.data).decode() == text
    assert json.loads(codec.encode(packet))["data"] == json.loads(text)


@given(st.lists(st.sampled_from(["\\ud83d", "\\ude00", "\\u0041", "\\\\", "x", "😀"]), max_size=6).map("".join))
def test_data_is_refused_exactly_when_utf8_cannot_carry_it(escaped: str) -> None:
    """SPEC 1.9: an escaped half of a surrogate pair is no character."""
    text = f'{{"type":"publish","topic":"a","data":"{escaped}"}}'
    [packet] = codec.decode(text, LIMIT)
    try:
        json.loads(text)["data"].encode()
    except UnicodeEncodeError:
        assert isinstance(packet, Refused)
        assert packet.name is ErrorName.MALFORMED
    else:
        assert isinstance(packet, packets.Publish)


def naive_depth(value: object) -> int:
    """Nesting as anybody would define it."""
    if isinstance(value, dict):
        return 1 + max(map(naive_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(naive_depth, value), default=0)
    return 0


def wrapped(value: object, wrappers: list[bool]) -> object:
    """The value inside so many arrays and objects."""
    for is_array in wrappers:
        value = [value] if is_array else {"k[{": value}
    return value


@given(
    st.builds(wrapped, strategies.json_values, st.lists(st.booleans(), min_size=25, max_size=36)),
    st.sampled_from([None, 1]),
)
@example([[]] * 40, None)
@example(wrapped(0, [True] * 32), None)
@example(wrapped(0, [True] * 33), None)
@example('"[' * 40, None)
@example([['\\\\"[', [], {}, "]\\\\"]] * 40, None)
@example(wrapped([[], {}] * 20, [True, False] * 16), None)
@example(wrapped([[], {}] * 20, [True, False] * 15), None)
@example("x" * 100, None)
@example(0, None)
def test_is_too_deep_agrees_with_the_naive_depth(value: object, indent: int | None) -> None:
    """SPEC 1.9, S26"""
    raw = Raw(json.dumps(value, indent=indent).encode())
    assert codec.is_too_deep(raw) == (naive_depth(value) > 32)


def test_limit_of_a_packet_counts_utf8_bytes() -> None:
    """SPEC 1.10"""
    text = '{"type":"publish","topic":"é","data":1}'
    size = len(text.encode())
    [packet] = codec.decode(text, size)
    assert isinstance(packet, packets.Publish)
    [refused] = codec.decode(text, size - 1)
    assert isinstance(refused, Refused)
    assert refused.name is ErrorName.TOO_LARGE


def test_too_large_packet_is_answered_with_its_id_and_sub() -> None:
    """SPEC 1.10"""
    text = json.dumps({"type": "subscribe", "id": 7, "sub": 3, "filter": "x" * 100})
    [refused] = codec.decode(text, 100)
    assert isinstance(refused, Refused)
    assert (refused.name, refused.id, refused.sub) == (ErrorName.TOO_LARGE, 7, 3)


def test_too_large_packet_in_an_array_costs_only_itself() -> None:
    """SPEC 1.5, 1.10: the limit is a packet's, not the array's."""
    large = json.dumps({"type": "publish", "id": 7, "topic": "a", "data": "x" * 100})
    refused, *pings = codec.decode(f" [{large},{PING},{PING},{PING},{PING}]", 100)
    assert isinstance(refused, Refused)
    assert (refused.name, refused.id) == (ErrorName.TOO_LARGE, 7)
    assert pings_of(pings) == [1, 1, 1, 1]


@pytest.mark.parametrize("element", ["1", "{}", PING])
def test_array_of_too_many_packets_costs_one_answer(element: str) -> None:
    """SPEC 1.5, S26: the work of one message is bounded, however small its elements."""
    most = codec.MAX_ARRAY_PACKETS
    assert len(codec.decode(f"[{','.join([element] * most)}]", 65_536)) == most
    (answer,) = codec.decode(f"[{','.join([element] * (most + 1))}]", 65_536)
    assert isinstance(answer, Refused)
    assert (answer.name, answer.id) == (ErrorName.TOO_LARGE, 0)


@pytest.mark.parametrize("depth", [600, 1_200, 20_000])
def test_packet_too_deep_for_the_parser_is_answered_with_its_id(depth: int) -> None:
    """SPEC 1.9: a request is answered however deep it nests."""
    nested = '{"a":[0,' * depth + "1" + "]}" * depth
    text = f'{{"type":"publish","topic":"a","data":{nested},"id":7}}'
    [answer] = codec.decode(text, 1_000_000)
    assert isinstance(answer, Refused)
    assert (answer.name, answer.field, answer.id) == (ErrorName.MALFORMED, "data", 7)


@pytest.mark.parametrize("text", ["[" * 20_000, f'[{PING},{{"type":"publish","topic":"a","data":{"[" * 20_000}'])
def test_array_too_deep_for_the_parser_is_answered_as_text_that_is_not_json(text: str) -> None:
    """SPEC 1.5, 1.9, S26: where its packets begin and end is not looked for bracket by bracket."""
    [answer] = codec.decode(text, 1_000_000)
    assert isinstance(answer, Refused)
    assert (answer.name, answer.id) == (ErrorName.MALFORMED, 0)


def test_number_of_a_packet_too_deep_for_the_parser_is_its_own_or_none() -> None:
    """SPEC 1.9: what stands inside of a text or of what nests is never taken for it."""
    nested = "[" * 2_000 + '{"id":9}' + "]" * 2_000
    for text, id in (
        (f'{{"id":7,"type":"publish","topic":"a","data":{nested}}}', 7),
        (f'{{"type":"publish","data":{nested},"key":"]","id":7}}', 0),
        (f'{{"type":"publish","key":"[","data":{nested},"id":7}}', 0),
        (f'{{"type":"publish","data":{nested},"headers":{{}}}}', 0),
    ):
        [answer] = codec.decode(text, 1_000_000)
        assert isinstance(answer, Refused)
        assert (answer.name, answer.id) == (ErrorName.MALFORMED, id)


def test_array_of_packets_ends_where_it_is_cut() -> None:
    """Deep and broken: one answer for the whole text."""
    [refused] = codec.decode(f"[{PING}," + "[" * 5000, LIMIT)
    assert isinstance(refused, Refused)
    assert (refused.name, refused.id) == (ErrorName.MALFORMED, 0)


@given(st.text(min_size=1), st.sampled_from(["type", "from", "overflow"]))
@example("at `$.id`", "from")
@example("unknown field `x`", "type")
@example("Object contains unknown field `x`", "overflow")
@example("` - at `$.id`", "from")
def test_field_of_a_refusal_does_not_come_from_a_value(value: str, field: str) -> None:
    """SPEC 5.1: the parser's words quote the client; the field is still the right one."""
    whole: dict[str, object] = {"type": "subscribe", "sub": 1, "filter": "a"}
    [answer] = codec.decode(json.dumps(whole | {field: "?" + value}), LIMIT)
    assert isinstance(answer, Refused)
    if answer.name is ErrorName.UNSUPPORTED:
        assert answer.field == field


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="`")))
@example("`x` at `$.id")
@example("missing required field `y`")
def test_unknown_field_is_named(field: str) -> None:
    """SPEC 1.7"""
    [answer] = codec.decode(json.dumps({"type": "ping", "?" + field: 1}), LIMIT)
    assert isinstance(answer, Refused)
    assert (answer.name, answer.field) == (ErrorName.UNSUPPORTED, ("?" + field)[: codec.MAX_FIELD_CHARACTERS])


def test_refused_says_a_bounded_amount() -> None:
    refused = Refused(ErrorName.RATE_LIMITED, "x" * 1000, field="y" * 1000, retry_after_ms=50)
    assert len(refused.message) == codec.MAX_ERROR_CHARACTERS
    assert len(refused.field) == codec.MAX_FIELD_CHARACTERS
    assert (refused.retry, refused.retry_after_ms) == ("backoff", 50)


def test_every_error_has_its_retry() -> None:
    """SPEC 5.1"""
    assert set(RETRY) == set(ErrorName)
    assert set(RETRY.values()) <= {"never", "now", "backoff", "reauth"}


def test_absent_fields_are_not_written() -> None:
    """SPEC 1.4: what was not said does not travel."""
    assert codec.encode(packets.Connect()) == b'{"type":"connect"}'
    assert codec.encode(packets.Subscribe(sub=1, filter="a")) == b'{"type":"subscribe","sub":1,"filter":"a"}'
    assert codec.encode(packets.Delivery(sub=1, message=Raw(b"{}"), prev=0)) == (
        b'{"type":"delivery","sub":1,"message":{},"prev":0}'
    )


def test_type_is_the_first_member_of_what_is_written() -> None:
    """Clients may look at the start of the text."""
    for kind in (*packets.CLIENT_PACKETS, *packets.SERVER_PACKETS):
        assert isinstance(kind.__struct_config__.tag, str)
        required = {f.name: 1 for f in msgspec.structs.fields(kind) if f.required}
        assert codec.encode(kind(**required)).startswith(f'{{"type":"{kind.__struct_config__.tag}"'.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"connect","id":1}',
        ' {"type":"connect","id":1} ',
        '[{"type":"connect","id":1}]',
        ' [ {"type":"connect","id":1} , {} ]',
        '[{"type":"connect","client":{"name":"a]}[{\\"b"},"id":1},' + "[" * 60_000,
        '[{"type":"connect","id":1},' + ",".join(["{}"] * 5_000) + "]",
    ],
)
def test_s2_the_first_packet_of_a_text_is_found_whatever_comes_behind_it(text: str) -> None:
    first = codec.decode_first(text, 65_536, 8_192)
    assert isinstance(first, packets.Connect)
    assert first.id == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[[]]",
        "[1]",
        "[" * 60_000,
        '[{"type":"connect"',
        '[{"type":"connect","token":"' + "a" * 9_000 + '"}]',
        '{"type":"connect","will":{"topic":"a","data":' + "[" * 60_000,
        '{"type":"connect","will":{"topic":"a","data":' + "[" * 5_000,
        "{" * 9_000,
        '{"type":"connect","x":1}',
    ],
)
def test_s2_what_does_not_begin_with_a_packet_is_refused_by_its_beginning(text: str) -> None:
    assert isinstance(codec.decode_first(text, 65_536, 8_192), Refused)


def test_s2_a_first_packet_that_is_only_too_long_keeps_its_id() -> None:
    """The session refuses it as what it is, `too_large`."""
    first = codec.decode_first('{"type":"connect","id":7,"token":"' + "a" * 9_000 + '"}', 65_536, 8_192)
    assert isinstance(first, packets.Connect)
    assert first.id == 7


@given(almost_packets)
def test_first_packet_is_the_one_that_decode_finds(text: str) -> None:
    first, everything = codec.decode_first(text, 1_000, 8_192), codec.decode(text, 1_000)
    if isinstance(first, Refused):
        assert isinstance(everything[0], Refused)
    else:
        assert first == everything[0] or isinstance(everything[0], Refused)  # the rest is no JSON


@pytest.mark.timeout(20)
@pytest.mark.parametrize("begin", ["[" * 1_100, '[{"type":"ping","id":1},' + "[" * 1_100, "[{"])
def test_s5_time_grows_with_the_text_and_no_faster(begin: str) -> None:
    """A string without an end, full of what could begin another: each was looked through again for each, 14 s."""
    text = begin + '"' + '\\"' * 30_000
    assert isinstance(codec.decode(text, 65_536)[0], Refused)
    codec.decode_first(text, 65_536, 65_536)
