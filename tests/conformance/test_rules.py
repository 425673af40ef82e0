"""The house rules: what is a fault in every scenario, with its clause."""

import json
from typing import Any

import pytest
from triode_broker.conformance.completing import complete
from triode_broker.conformance.rules import Fault, Memory, Rules, check_offer

CONNECT = {"type": "connect", "id": 1}


def connected(**limits: int) -> Rules:
    """A connection that was let in."""
    rules = Rules(Memory())
    rules.read(json.dumps(CONNECT))
    rules.sent(complete({"type": "connected", "id": 1, "limits": limits}))
    return rules


@pytest.mark.parametrize(
    ("packets", "clause"),
    [
        ([{"type": "publish", "topic": "t", "data": 1, "colour": "red"}], "1.7"),
        ([{"type": "sing"}], "1.7"),
        ([{"type": "subscribe", "sub": 1, "filter": "t", "form": "last"}], "1.7"),
        ([CONNECT], "3.1.1"),
        ([{"type": "disconnect"}, {"type": "pong"}], "3.7.1"),
        ([{"type": "ping", "id": 5}, {"type": "ping", "id": 5}], "1.13"),
        (
            [{"type": "subscribe", "sub": 1, "filter": "t"}, {"type": "subscribe", "sub": 1, "filter": "u"}],
            "3.2.1",
        ),
        ([{"type": "subscribe", "sub": 1, "filter": "t", "from": "last", "after": {}}], "3.2.8"),
        ([{"type": "subscribe", "sub": 1, "filter": "t/#/u"}], "6"),
        ([{"type": "publish", "topic": "t//u", "data": 1}], "6"),
        ([{"type": "publish", "topic": "t", "data": n, "message_id": "m"} for n in (1, 2)], "3.4.6"),
        ([{"type": "publish", "topic": "t", "data": 1, "id": n} for n in (5, 6, 7)], "3.4.12"),
    ],
)
def test_faults_cite_their_clause(packets: list[dict[str, Any]], clause: str) -> None:
    rules = connected(max_inflight_publishes=2)
    for packet in packets[:-1]:
        rules.read(json.dumps(packet))
    with pytest.raises(Fault, match=rf"\(.*{clause}.*\)"):
        rules.read(json.dumps(packets[-1]))


def test_connect_is_first() -> None:
    with pytest.raises(Fault, match=r"`connect` is first \(SPEC 1.12\)"):
        Rules(Memory()).read('{"type":"ping"}')


@pytest.mark.parametrize("text", ["[]", "[[]]", "{", "nothing"])
def test_what_is_no_packet_is_a_fault(text: str) -> None:
    with pytest.raises(Fault, match=r"SPEC 1.5"):
        connected().read(text)


def test_too_much_before_connected_is_a_fault() -> None:
    rules = Rules(Memory())
    rules.read(json.dumps(CONNECT))
    publish = {"type": "publish", "topic": "t", "data": "x" * 60_000}
    rules.read(json.dumps(publish))
    with pytest.raises(Fault, match=r"bytes before `connected` \(SPEC 1.11\)"):
        rules.read(json.dumps(publish))


def test_frames_have_a_bound() -> None:
    with pytest.raises(Fault, match=r"`max_frame_bytes` is 1000 \(SPEC 1.10\)"):
        connected(max_frame_bytes=1_000).read(json.dumps([{"type": "publish", "topic": "t", "data": "x" * 1_000}]))


def test_a_packet_that_is_too_large_is_no_fault_but_is_answered() -> None:
    rules = connected(max_packet_bytes=200)
    (packet,) = rules.read(json.dumps({"type": "publish", "id": 5, "topic": "t", "data": "x" * 300}))
    assert rules.is_too_large(packet)
    assert not rules.is_too_large({"type": "ping"})


def test_an_id_is_free_again_behind_its_answer() -> None:
    rules = connected()
    for _ in range(2):
        rules.read('{"type":"ping","id":5}')
        rules.sent({"type": "pong", "id": 5})


def test_the_same_message_may_come_again_on_another_connection() -> None:
    memory = Memory()
    for text in (1, 1):
        rules = Rules(memory)
        rules.read(json.dumps(CONNECT))
        rules.read(json.dumps({"type": "publish", "topic": "t", "data": text, "message_id": "m"}))


def test_handshakes_have_rules() -> None:
    check_offer("/ws", ("triode.v1.json",))
    check_offer("/ws?x=1", ())
    with pytest.raises(Fault, match=r"SPEC 1.1"):
        check_offer("/socket", ("triode.v1.json",))
    with pytest.raises(Fault, match=r"SPEC 1.2"):
        check_offer("/ws", ("mqtt",))
