"""The session's state table (SPEC 3.8): what each packet does before connect, after it, and at the end."""

import json

import pytest
from triode_broker.config import Limits
from triode_broker.core.node import CAPABILITIES
from triode_broker.core.session import HANDLERS, NORMAL_CLOSE
from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode
from triode_protocol.packets import CLIENT_PACKETS

from tests.core.desk import Desk, Line, Packet

CONNECT: Packet = {"type": "connect", "id": 1}
SUBSCRIBE: Packet = {"type": "subscribe", "id": 2, "sub": 1, "filter": "a"}


def only_error(packets: list[Packet]) -> Packet:
    (packet,) = packets
    assert packet["type"] == "error"
    return packet


# Before connect


def test_connect_is_answered_with_what_the_server_goes_by() -> None:
    """SPEC 4.1.1, 4.1.2, 7.2."""
    desk = Desk(limits=Limits(ping_ms=7_000, max_subscriptions=3, reconnect_min_ms=1, reconnect_max_ms=2))
    assert desk.dial().ask_one(CONNECT) == {
        "type": "connected",
        "id": 1,
        "connection": "c-id1",
        "node": "n1",
        "protocol": 1,
        "capabilities": [name for name in CAPABILITIES if name not in ("durable", "auth")],
        "limits": {
            "max_packet_bytes": 65_536,
            "max_frame_bytes": 1_048_576,
            "max_subscriptions": 3,
            "max_inflight_publishes": 256,
            "dedupe_window_ms": 300_000,
            "max_wildcard_subscriptions": 100,
        },
        "ping_ms": 7_000,
        "reconnect": {"min_ms": 1, "max_ms": 2},
    }


def test_connect_without_id_is_answered_without_id() -> None:
    """SPEC 1.13."""
    assert "id" not in Desk().dial().ask_one({"type": "connect"})


def test_connect_takes_what_it_does_not_use() -> None:
    """SPEC 3.1.3, 3.1.5, 3.1.6."""
    line = Desk().dial()
    client = {"name": "x", "version": "1"}
    greeting = line.ask_one(CONNECT | {"token": "t", "client": client, "capabilities": ["new"], "resume": True})
    assert greeting["type"] == "connected"
    assert line.session.is_connected


FIRST_PACKETS: list[Packet] = [
    SUBSCRIBE,
    {"type": "unsubscribe", "id": 2, "sub": 1},
    {"type": "publish", "id": 2, "topic": "a", "data": 1},
    {"type": "history", "id": 2, "topic": "a"},
    {"type": "ack", "id": 2, "sub": 1, "log": "m", "upto": 1},
    {"type": "nack", "id": 2, "sub": 1, "log": "m", "pos": 1, "attempt": 1},
    {"type": "extend", "id": 2, "sub": 1, "log": "m", "pos": 1, "attempt": 1, "ms": 1},
    {"type": "presence", "id": 2, "topic": "a"},
    {"type": "auth", "id": 2, "token": "t"},
    {"type": "ping", "id": 2},
    {"type": "pong", "id": 2},
    {"type": "disconnect", "id": 2},
]


@pytest.mark.parametrize("packet", FIRST_PACKETS, ids=lambda packet: packet["type"])
def test_first_packet_other_than_connect_ends_the_connection(packet: Packet) -> None:
    """SPEC 1.12, 3.8.1: the error has its id, and nothing was done."""
    desk = Desk()
    line = desk.dial()
    error = only_error(line.ask(packet))
    assert (error["name"], error["id"]) == ("bad_state", 2)
    assert line.closed_with == CloseCode.PROTOCOL
    assert not line.session.is_connected
    assert desk.logs[0].head() == 0
    assert desk.router.live_subscriptions == 0


@pytest.mark.parametrize(
    ("text", "name", "field"),
    [
        ("no json", "malformed", ""),
        ("[]", "malformed", ""),
        ('[[{"type":"connect"}]]', "malformed", ""),
        ("7", "malformed", ""),
        ('{"type":"hello","id":3}', "unsupported", "type"),
        ('{"type":"connect","id":3,"user":"root"}', "unsupported", "user"),
        ('{"type":"connect","id":3,"token":null}', "malformed", "token"),
        ('{"type":"connect","id":3,"will":{"topic":"a"}}', "malformed", "data"),
        ('{"type":"connect","id":3,"will":{"data":1}}', "malformed", "topic"),
        ('{"type":"connect","id":3,"will":{"topic":"a","data":1,"qos":1}}', "unsupported", "qos"),
        ('{"type":"connect","id":3,"client":{"nome":"x"}}', "unsupported", "nome"),
    ],
)
def test_bad_first_packet_ends_the_connection(text: str, name: str, field: str) -> None:
    """SPEC 1.12, 3.1.2, 7.3."""
    line = Desk().dial()
    line.send_text(text)
    error = only_error(line.drain())
    assert (error["name"], error.get("field", "")) == (name, field)
    assert error.get("id", 3) == 3
    assert line.closed_with == CloseCode.PROTOCOL


def test_binary_message_before_connect_costs_an_error_and_arrays() -> None:
    """SPEC 3.8.1; what waits in one form is not put into an array (SPEC 1.5)."""
    desk = Desk(frame=lambda payload: b"frame:" + payload)
    line = desk.dial()
    line.send_binary(b"\x00")
    line.send(CONNECT | {"capabilities": ["batch"]})
    assert not line.outbox.is_batch
    assert all(item.startswith(b"frame:") for item in line.outbox.items)
    assert not line.closed_with
    assert line.session.is_connected


def padded_connect(size: int) -> str:
    empty = json.dumps(CONNECT | {"token": ""}, separators=(",", ":"))
    return empty.replace('""', '"' + "x" * (size - len(empty)) + '"')


def test_connect_has_at_most_8_kib() -> None:
    """SPEC 3.1.1, S2."""
    line = Desk().dial()
    text = padded_connect(8_192)
    assert len(text) == 8_192
    line.send_text(text)
    assert line.drain()[0]["type"] == "connected"


def test_larger_connect_is_too_large() -> None:
    """SPEC 3.1.1, S2."""
    line = Desk().dial()
    line.send_text(padded_connect(8_193))
    error = only_error(line.drain())
    assert (error["name"], error["id"]) == ("too_large", 1)
    assert line.closed_with == CloseCode.PROTOCOL


def test_bytes_of_connect_count_not_characters() -> None:
    line = Desk().dial()
    line.ask(CONNECT | {"token": "\u20ac" * 4_000})
    assert line.closed_with == CloseCode.PROTOCOL


def test_packets_behind_connect_do_not_count_for_its_bound() -> None:
    """SPEC 1.11."""
    line = Desk().dial()
    answers = line.ask(CONNECT, {"type": "publish", "id": 2, "topic": "a", "data": "x" * 20_000})
    assert [answer["type"] for answer in answers] == ["connected", "published"]


def test_packets_behind_connect_are_served_in_order_after_it() -> None:
    """SPEC 1.11, 1.14: connecting and subscribing is one flight."""
    line = Desk().dial()
    publish: Packet = {"type": "publish", "id": 3, "topic": "a", "data": 1}
    answers = line.ask(CONNECT, SUBSCRIBE, publish)
    assert [answer["type"] for answer in answers] == ["connected", "subscribed", "message", "published"]


@pytest.mark.parametrize("bad", [{"type": "connect", "will": {}}, {"type": "connect", "x": 1}, {"type": "ping"}])
def test_packets_behind_a_failed_connect_have_no_effect(bad: Packet) -> None:
    """SPEC 1.11."""
    desk = Desk()
    line = desk.dial()
    publish: Packet = {"type": "publish", "id": 3, "topic": "a", "data": 1}
    answers = line.ask(bad, CONNECT, SUBSCRIBE, publish)
    assert [answer["type"] for answer in answers] == ["error"]
    assert line.closed_with == CloseCode.PROTOCOL
    assert desk.logs[0].head() == 0
    assert desk.node.sessions == {}


# Connected


def test_second_connect_is_refused_and_the_connection_stays() -> None:
    """SPEC 3.1.1, 3.8.1."""
    desk = Desk()
    line = desk.connect()
    error = only_error(line.ask(CONNECT | {"replaces": line.session.connection_id}))
    assert (error["name"], error["id"], error["retry"]) == ("bad_state", 1, "never")
    assert not line.closed_with
    assert line.ask_one({"type": "ping", "id": 4}) == {"type": "pong", "id": 4}


def test_every_packet_type_has_its_place_in_the_table() -> None:
    assert set(HANDLERS) == {*CLIENT_PACKETS, Refused}


@pytest.mark.parametrize(
    "packet",
    [packet for packet in FIRST_PACKETS if packet["type"] in ("auth",)],
    ids=lambda packet: packet["type"],
)
def test_reserved_packet_is_unsupported(packet: Packet) -> None:
    """SPEC 7.3, 1.7."""
    error = only_error(Desk().connect().ask(packet))
    assert (error["name"], error["field"], error["id"]) == ("unsupported", "type", 2)


@pytest.mark.parametrize(
    ("fields", "name", "field"),
    [
        ({"overflow": "drop"}, "unsupported", "overflow"),
        ({"from": "oldest"}, "unsupported", "from"),
        ({"form": "last"}, "unsupported", "form"),
        ({"sub": 0}, "malformed", "sub"),
        ({"sub": 2**53}, "malformed", "sub"),
        ({"sub": "1"}, "malformed", "sub"),
        ({"filter": 7}, "malformed", "filter"),
        ({"filter": "a//b"}, "bad_topic", "filter"),
        ({"filter": ""}, "bad_topic", "filter"),
        ({"filter": "a/#/b"}, "bad_topic", "filter"),
        ({"filter": "a+"}, "bad_topic", "filter"),
        ({"after": {"UPPER": 1}}, "malformed", "after"),
        ({"after": {"m0": -1}}, "malformed", "after"),
        ({"after": {"m0": 1.5}}, "malformed", "after"),
        ({"after": None}, "malformed", "after"),
        ({"after": {f"m{number}": 1 for number in range(65)}}, "malformed", "after"),
    ],
)
def test_bad_subscribe_is_refused_with_its_field(fields: Packet, name: str, field: str) -> None:
    """SPEC 1.7, 3.2.2, 2.5, S24."""
    desk = Desk()
    error = only_error(desk.connect().ask(SUBSCRIBE | fields))
    assert (error["name"], error["field"], error["id"]) == (name, field, 2)
    assert error.get("sub", 1) == 1
    assert desk.router.live_subscriptions == 0


@pytest.mark.parametrize("field", ["ts", "log", "pos", "offset", "user", "level", "attempt", "prev"])
def test_server_facts_cannot_be_set_by_clients(field: str) -> None:
    """S16."""
    desk = Desk()
    publish: Packet = {"type": "publish", "id": 3, "topic": "a", "data": 1, field: 1}
    error = only_error(desk.connect().ask(publish))
    assert (error["name"], error["field"], error["id"]) == ("unsupported", field, 3)
    assert desk.logs[0].head() == 0


def test_error_names_a_sub_only_where_the_packet_has_one() -> None:
    """SPEC 5.1.1."""
    line = Desk().connect()
    assert "sub" not in only_error(line.ask({"type": "publish", "id": 3, "topic": "a/+", "data": 1}))
    assert only_error(line.ask({"type": "ack", "id": 3, "sub": 7, "log": "m", "upto": 1}))["sub"] == 7
    assert only_error(line.ask({"type": "unsubscribe", "sub": 8}))["sub"] == 8


def test_facts_in_data_stay_data() -> None:
    """S16."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    desk.publish("a", {"pos": 99, "user": "root"}, headers={"ts": "1"})
    (message,) = line.drain()
    assert (message["pos"], message["ts"]) == (1, desk.now_ms)
    assert "user" not in message


@pytest.mark.parametrize(
    ("topic", "request_type"),
    [
        (topic, kind)
        for topic in ("", "a//b", "a/+", "#", "$sys/x", "a\u200bb", "e\u0301")
        for kind in ("publish", "history")
    ],
)
def test_bad_topic_is_refused(topic: str, request_type: str) -> None:
    """SPEC 3.4.1, 3.5.1, 6.5, S24, S25."""
    packet: Packet = {"type": request_type, "id": 3, "topic": topic}
    if request_type == "publish":
        packet["data"] = 1
    error = only_error(Desk().connect().ask(packet))
    assert (error["name"], error["field"], error["id"]) == ("bad_topic", "topic", 3)


def test_topic_bounds_are_those_configured() -> None:
    """SPEC 6.1."""
    desk = Desk(limits=Limits(max_topic_levels=2, max_topic_bytes=5))
    assert desk.publish("ab/cd")["type"] == "published"
    assert desk.publish("a/b/c")["name"] == "bad_topic"
    assert desk.publish("abc/de")["name"] == "bad_topic"
    line = desk.connect()
    assert line.subscribe(1, "a/b/#")[0]["name"] == "bad_topic"
    assert line.subscribe(1, "a/#")[0]["type"] == "subscribed"


def test_packets_of_an_array_are_judged_alone() -> None:
    """SPEC 1.5, 8.7."""
    line = Desk().connect()
    answers = line.ask({"type": "ping", "id": 2}, {"type": "what", "id": 3}, {"type": "ping", "id": 4})
    assert [(answer["type"], answer["id"]) for answer in answers] == [("pong", 2), ("error", 3), ("pong", 4)]


@pytest.mark.parametrize("text", ["{", "[", "[]", "[[]]", "[1,", "nothing", "", "\ud800"])
def test_text_that_is_no_packet_costs_one_error_without_id(text: str) -> None:
    """SPEC 1.5, S26."""
    line = Desk().connect()
    line.send_text(text)
    error = only_error(line.drain())
    assert error["name"] == "malformed"
    assert "id" not in error
    assert not line.closed_with


def test_binary_message_is_unsupported_and_the_connection_stays() -> None:
    """SPEC 1.6."""
    line = Desk().connect()
    line.send_binary(b'{"type":"ping"}')
    assert only_error(line.drain())["name"] == "unsupported"
    assert line.ask_one({"type": "ping"}) == {"type": "pong"}


def test_packet_over_its_bound_is_too_large_with_its_id() -> None:
    """SPEC 1.10, S26."""
    line = Desk(limits=Limits(max_packet_bytes=1_000)).connect()
    error = only_error(line.ask({"type": "publish", "id": 7, "topic": "a", "data": "x" * 1_000}))
    assert (error["name"], error["id"]) == ("too_large", 7)


def test_ping_is_answered_with_its_id_and_pong_with_nothing() -> None:
    """SPEC 3.6.1, 3.6.2, 4.8.2."""
    line = Desk().connect()
    assert line.ask({"type": "ping", "id": 9}, {"type": "ping"}, {"type": "pong"}, {"type": "pong", "id": 3}) == [
        {"type": "pong", "id": 9},
        {"type": "pong"},
    ]


# Publishing


def test_publish_without_id_is_answered_only_when_it_fails() -> None:
    """SPEC 3.4.4, 1.13."""
    desk = Desk()
    line = desk.connect()
    assert line.ask({"type": "publish", "topic": "a", "data": 1}) == []
    error = only_error(line.ask({"type": "publish", "topic": "a/+", "data": 1}))
    assert "id" not in error
    assert desk.logs[0].head() == 1


def test_publisher_hears_itself_before_its_acknowledgement() -> None:
    """SPEC 3.4.11, 1.14."""
    line = Desk().connect()
    line.subscribe(1, "a")
    answers = line.ask({"type": "publish", "id": 3, "topic": "a", "data": 1})
    assert [answer["type"] for answer in answers] == ["message", "published"]


def test_publishes_of_a_connection_keep_their_order() -> None:
    """G3, SPEC 8.3, I4."""
    line = Desk().connect()
    packets: list[Packet] = [{"type": "publish", "id": n, "topic": "ab"[n % 2], "data": n} for n in range(1, 9)]
    answers = line.ask(*packets)
    assert [(answer["id"], answer["pos"]) for answer in answers] == [(n, n) for n in range(1, 9)]


# Quotas


def test_subscriptions_of_a_connection_are_bounded() -> None:
    """SPEC 3.2.12, S8."""
    desk = Desk(limits=Limits(max_subscriptions=2))
    line = desk.connect()
    assert line.subscribe(1, "a")[0]["type"] == "subscribed"
    assert line.subscribe(2, "b")[0]["type"] == "subscribed"
    error = only_error(line.subscribe(3, "c"))
    assert (error["name"], error["sub"], error["id"]) == ("quota", 3, 103)
    line.ask({"type": "unsubscribe", "sub": 1})
    assert line.subscribe(3, "c")[0]["type"] == "subscribed", "a refused number was not used up (SPEC 3.2.1)"
    assert desk.connect().subscribe(1, "a")[0]["type"] == "subscribed", "others are not concerned"


def test_wildcard_subscriptions_have_a_bound_of_their_own() -> None:
    """SPEC 3.2.12."""
    line = Desk(limits=Limits(max_wildcard_subscriptions=1)).connect()
    assert line.subscribe(1, "a/#")[0]["type"] == "subscribed"
    assert only_error(line.subscribe(2, "b/+"))["name"] == "quota"
    assert line.subscribe(3, "b")[0]["type"] == "subscribed"
    line.ask({"type": "unsubscribe", "sub": 1})
    assert line.subscribe(4, "b/+")[0]["type"] == "subscribed"
    assert line.session.wildcards == 1


def test_sub_is_used_once_on_a_connection() -> None:
    """SPEC 3.2.1."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    error = only_error(line.subscribe(1, "b"))
    assert (error["name"], error["field"], error["sub"]) == ("conflict", "sub", 1)
    line.ask({"type": "unsubscribe", "sub": 1})
    assert only_error(line.subscribe(1, "a"))["name"] == "conflict", "not even after its end"
    assert desk.connect().subscribe(1, "a")[0]["type"] == "subscribed"


def test_subs_that_skip_thousands_are_a_quota() -> None:
    """SPEC 3.2.1, I13."""
    line = Desk().connect()
    for number in range(4_096):
        line.send(
            {"type": "subscribe", "sub": 10 + 2 * number, "filter": "a"},
            {"type": "unsubscribe", "sub": 10 + 2 * number},
        )
    line.drain()
    error = only_error(line.subscribe(9, "a"))
    assert (error["name"], error["field"]) == ("quota", "sub")
    assert line.session.subscription_count == 0
    assert line.subscribe(1, "a")[0]["type"] == "subscribed"


# Unsubscribing, and the end


def test_nothing_comes_for_a_sub_after_unsubscribed() -> None:
    """SPEC 3.3.1."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    assert line.ask_one({"type": "unsubscribe", "id": 5, "sub": 1}) == {"type": "unsubscribed", "id": 5, "sub": 1}
    desk.publish("a")
    assert line.drain() == []
    assert desk.router.live_subscriptions == 0


@pytest.mark.parametrize("has_others", [False, True])
def test_unsubscribe_of_nothing_is_no_such_subscription(has_others: bool) -> None:
    """SPEC 3.3.2."""
    line = Desk().connect()
    if has_others:
        line.subscribe(1, "a")
    error = only_error(line.ask({"type": "unsubscribe", "id": 5, "sub": 2}))
    assert (error["name"], error["sub"], error["id"]) == ("no_such_subscription", 2, 5)


def test_disconnect_ends_with_1000_and_what_is_behind_has_no_effect() -> None:
    """SPEC 3.7.1."""
    desk = Desk()
    line = desk.connect()
    publish: Packet = {"type": "publish", "id": 3, "topic": "a", "data": 1}
    assert line.ask(publish, {"type": "disconnect"}, publish) == [
        {"type": "published", "id": 3, "log": "m0-life", "pos": 1, "offset": 1, "level": "memory"}
    ]
    assert line.closed_with == NORMAL_CLOSE
    assert desk.logs[0].head() == 1


def test_detached_session_leaves_nothing_behind() -> None:
    """SPEC 3.8.1, I13."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    line.subscribe(2, "#", from_="earliest")
    line.session.detach()
    assert desk.router.live_subscriptions == 0
    assert desk.node.sessions == {}
    desk.publish("a")
    assert line.drain() == []


def test_session_that_never_connected_detaches() -> None:
    desk = Desk()
    desk.dial().session.detach()
    assert desk.node.sessions == {}


# replaces


def test_replaced_connection_ends_with_4005() -> None:
    """SPEC 3.1.4."""
    desk = Desk()
    old, other = desk.connect(), desk.connect()
    new = desk.connect(replaces=old.session.connection_id)
    assert old.closed_with == CloseCode.REPLACED
    assert not other.closed_with
    assert not new.closed_with
    assert new.session.connection_id not in (old.session.connection_id, other.session.connection_id)


def test_replacing_what_is_not_there_has_no_effect() -> None:
    """SPEC 3.1.4."""
    desk = Desk()
    old = desk.connect()
    old.session.detach()
    assert desk.connect(replaces="c-never").session.is_connected
    assert desk.connect(replaces=old.session.connection_id).session.is_connected
    assert not old.closed_with


def test_each_connection_has_a_name_of_its_own() -> None:
    """SPEC 4.1.1, S28: made by the injected factory, whatever the client says."""
    desk = Desk()
    names = [desk.connect(replaces=f"c-{number}").session.connection_id for number in range(3)]
    assert names == ["c-id1", "c-id2", "c-id3"]
    assert list(desk.node.sessions) == names


# Bookmarks


def test_ping_of_a_connection_without_subscriptions_is_bare() -> None:
    """SPEC 4.8.1."""
    desk = Desk()
    desk.publish("a")
    line = desk.connect()
    assert keepalive(desk, line) == {"type": "ping"}
    line.subscribe(1, "a")
    line.ask({"type": "unsubscribe", "sub": 1})
    assert keepalive(desk, line) == {"type": "ping"}


def test_ping_says_how_far_live_subscriptions_are() -> None:
    """SPEC 4.8.1: the head of every log that has a message."""
    desk = Desk(shards=4)
    line = desk.connect()
    line.subscribe(1, "quiet")
    assert keepalive(desk, line) == {"type": "ping"}
    for number in range(5):
        desk.publish(f"t/{number}")
    heads = {log.name: log.head() for log in desk.logs if log.head()}
    assert len(heads) > 1
    assert keepalive(desk, line) == {"type": "ping", "at": heads}


def test_ping_comes_behind_the_messages_it_counts() -> None:
    """SPEC 4.8.1, 1.14."""
    desk = Desk()
    line = desk.connect()
    line.subscribe(1, "a")
    desk.publish("a")
    line.session.keepalive(desk.now_ms)
    assert [packet["type"] for packet in line.drain()] == ["message", "ping"]


def keepalive(desk: Desk, line: Line) -> Packet:
    line.session.keepalive(desk.now_ms)
    (packet,) = line.drain()
    return packet
