"""The vectors in protocol/vectors against triode_protocol, and their frames against wsproto."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw
from triode_protocol import codec, packets, positions, topics
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.protocol import vectors

MAX_PACKET_BYTES = 65_536

#: What BadTopic says for each class of reason.
TOPIC_REASONS = {
    "empty": "it is empty",
    "too_long": "longer than",
    "too_many_levels": "more than 8 levels",
    "empty_level": "an empty level",
    "wildcard": "no wildcard",
    "plus": "+ stands alone",
    "hash": "# stands alone",
    "character": "character",
    "not_nfc": "NFC",
}


def named(cases: list[Any]) -> list[Any]:
    """Cases as parameters that carry their name."""
    return [pytest.param(case, id=case["name"]) for case in cases]


def fields_of(packet: msgspec.Struct) -> dict[str, Any]:
    """The fields that are present, by their names on the wire, as plain JSON values; Raw ones as text."""
    present = {}
    for field in msgspec.structs.fields(packet):
        value = getattr(packet, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if field.required or value != default:
            plain = bytes(value).decode() if isinstance(value, Raw) else plainly(value)
            present[field.encode_name] = plain
    return present


def plainly(value: object) -> Any:
    """As JSON has it, records and the texts inside them included."""
    return msgspec.json.decode(msgspec.json.encode(value))


def expected_fields(case: dict[str, Any]) -> dict[str, Any]:
    """`fields` and `raw` of a case together."""
    fields: dict[str, Any] = case["fields"] | case.get("raw", {})
    return fields


def tag_of(packet: msgspec.Struct) -> object:
    return packet.__struct_config__.tag


@pytest.mark.parametrize("case", named(vectors.cases("packets.json", "valid")))
def test_valid_packet_is_read_as_written(case: dict[str, Any]) -> None:
    """SPEC 1.4, 1.9, 3.1-3.7"""
    [packet] = codec.decode(case["text"], MAX_PACKET_BYTES)
    assert not isinstance(packet, Refused), packet
    assert tag_of(packet) == case["type"]
    assert fields_of(packet) == expected_fields(case)


@pytest.mark.parametrize("case", named(vectors.cases("packets.json", "invalid")))
def test_invalid_packet_is_refused_by_name(case: dict[str, Any]) -> None:
    """SPEC 1.7, 5.1"""
    [refused] = codec.decode(case["text"], MAX_PACKET_BYTES)
    assert isinstance(refused, Refused)
    assert (refused.name, refused.field) == (case["error"], case.get("field", ""))
    assert (refused.id, refused.sub) == (case.get("id", 0), case.get("sub", 0))


@pytest.mark.parametrize("case", named(vectors.cases("messages.json", "cases")))
def test_each_packet_of_a_message_is_judged_alone(case: dict[str, Any]) -> None:
    """SPEC 1.5"""
    outcomes = []
    for packet in codec.decode(case["text"], MAX_PACKET_BYTES):
        if isinstance(packet, Refused):
            outcome: dict[str, Any] = {"error": packet.name, "field": packet.field, "id": packet.id}
        else:
            outcome = {"type": tag_of(packet)} | fields_of(packet)
        outcomes.append({name: value for name, value in outcome.items() if value})
    assert outcomes == case["outcomes"]


@pytest.mark.parametrize("case", named(vectors.cases("server_messages.json", "valid")))
def test_server_message_is_read_and_the_unknown_ignored(case: dict[str, Any]) -> None:
    """SPEC 1.8, 4.1-4.8"""
    found = codec.decode_server(case["text"])
    assert [(tag_of(p), fields_of(p)) for p in found] == [(c["type"], expected_fields(c)) for c in case["packets"]]


@pytest.mark.parametrize("case", named(vectors.cases("server_messages.json", "broken")))
def test_broken_server_message_is_a_value_error(case: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a packet"):
        codec.decode_server(case["text"])


def topic_text(case: dict[str, Any]) -> str:
    if "utf16" in case:
        units = b"".join(unit.to_bytes(2, "little") for unit in case["utf16"])
        return units.decode("utf-16-le", "surrogatepass")
    text: str = case["topic"]
    return text


@pytest.mark.parametrize("case", named(vectors.cases("topics.json", "valid")))
def test_valid_topic_is_accepted_as_topic_and_as_filter(case: dict[str, Any]) -> None:
    """SPEC 6.1"""
    topics.check_topic(case["topic"])
    topics.check_filter(case["topic"])
    assert not topics.is_wildcard(case["topic"])


@pytest.mark.parametrize("case", named(vectors.cases("topics.json", "invalid")))
def test_invalid_topic_is_refused_for_its_reason(case: dict[str, Any]) -> None:
    """SPEC 6.2, S24-S25"""
    with pytest.raises(topics.BadTopic) as caught:
        topics.check_topic(topic_text(case))
    assert TOPIC_REASONS[case["reason"]] in str(caught.value)


@pytest.mark.parametrize("case", vectors.cases("filters.json", "valid"), ids=lambda case: case["filter"])
def test_valid_filter_is_accepted(case: dict[str, Any]) -> None:
    """SPEC 6.3"""
    topics.check_filter(case["filter"])
    assert topics.is_wildcard(case["filter"]) == case["is_wildcard"]


@pytest.mark.parametrize("case", vectors.cases("filters.json", "invalid"), ids=lambda case: repr(case["filter"]))
def test_invalid_filter_is_refused_for_its_reason(case: dict[str, Any]) -> None:
    """SPEC 6.3"""
    with pytest.raises(topics.BadTopic) as caught:
        topics.check_filter(case["filter"])
    assert TOPIC_REASONS[case["reason"]] in str(caught.value)


@pytest.mark.parametrize(
    "case", vectors.cases("matches.json", "cases"), ids=lambda case: f"{case['filter']} {case['topic']}"
)
def test_filter_matches_what_it_should(case: dict[str, Any]) -> None:
    """SPEC 6.4"""
    topics.check_filter(case["filter"])
    topics.check_topic(case["topic"])
    assert topics.matches(case["filter"], case["topic"]) == case["matches"]


@pytest.mark.parametrize("case", vectors.cases("positions.json", "valid"), ids=lambda case: case["text"])
def test_position_is_written_and_read(case: dict[str, Any]) -> None:
    """SPEC 2.6"""
    assert positions.to_text(case["position"]) == case["text"]
    assert positions.from_text(case["text"]) == case["position"]


@pytest.mark.parametrize("case", vectors.cases("positions.json", "read_only"), ids=lambda case: case["text"])
def test_position_in_another_order_is_read(case: dict[str, Any]) -> None:
    """SPEC 2.6"""
    assert positions.from_text(case["text"]) == case["position"]


@pytest.mark.parametrize("text", vectors.cases("positions.json", "invalid"), ids=repr)
def test_bad_text_of_a_position_is_refused(text: str) -> None:
    """SPEC 2.6"""
    with pytest.raises(ValueError, match="not a position"):
        positions.from_text(text)


def frame_bytes(case: dict[str, Any]) -> bytes:
    return b"".join(bytes.fromhex(part["hex"]) * part.get("times", 1) for part in case["data"])


def wanted_messages(case: dict[str, Any]) -> list[str | bytes]:
    """The messages of a case in frames.json."""
    return [
        m["text"] * m.get("times", 1) + m.get("rest", "") if "text" in m else bytes.fromhex(m["binary"])
        for m in case["messages"]
    ]


@pytest.mark.parametrize("case", named([c for c in vectors.cases("frames.json", "cases") if not c.get("limit")]))
@pytest.mark.parametrize("chunk", [None, 1], ids=["whole", "byte by byte"])
def test_frames_mean_to_wsproto_what_the_vectors_say(case: dict[str, Any], chunk: int | None) -> None:
    """The vectors themselves are checked against an implementation of RFC 6455 that is not ours."""
    data = frame_bytes(case)
    if chunk and len(data) > 1000:
        chunk = len(data) // 7
    server = Connection(ConnectionType.SERVER)
    texts: list[str | bytes] = []
    whole = b""
    pongs, close = [], None
    step = chunk or len(data)
    for start in range(0, len(data), step):
        if close is not None:
            break
        server.receive_data(data[start : start + step])
        for event in server.events():
            if isinstance(event, TextMessage | BytesMessage):
                is_text = isinstance(event, TextMessage)
                whole += event.data.encode() if isinstance(event, TextMessage) else event.data
                if event.message_finished:
                    texts.append(whole.decode() if is_text else whole)
                    whole = b""
            elif isinstance(event, Ping):
                pongs.append(bytes(event.payload).hex())
            elif isinstance(event, CloseConnection):
                close = event.code
    assert texts == wanted_messages(case)
    assert pongs == case.get("pongs", [])
    assert close == case.get("close")


def test_vectors_cover_every_packet_and_every_error_of_the_codec() -> None:
    """A new packet type needs its vector. Reserved types have none until they mean something."""
    reserved = {"auth", "authorized"}
    sent = {case["type"] for case in vectors.cases("packets.json", "valid")}
    assert sent == {p.__struct_config__.tag for p in packets.CLIENT_PACKETS} - reserved
    received = {p["type"] for case in vectors.cases("server_messages.json", "valid") for p in case["packets"]}
    assert received == {p.__struct_config__.tag for p in packets.SERVER_PACKETS} - reserved
    errors = {case["error"] for case in vectors.cases("packets.json", "invalid")}
    assert errors == {ErrorName.MALFORMED, ErrorName.UNSUPPORTED}


def test_every_file_of_vectors_is_described() -> None:
    readme = (vectors.DIRECTORY / "README.md").read_text(encoding="utf-8")
    for path in vectors.DIRECTORY.glob("*.json"):
        assert f"`{path.name}`" in readme
        assert vectors.read(path.name)["about"]
