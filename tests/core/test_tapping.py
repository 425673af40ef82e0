"""Taps: what an ear hears of a connection, when, and that afterwards nothing of it is left."""

import attrs
from triode_broker.core.session import Session
from triode_broker.core.tapping import Tapped, Taps

from tests.core.desk import Desk, Line


@attrs.define(eq=False)
class Notes:
    """An ear that writes down; `of`: the connections it wants, none: all."""

    of: tuple[str, ...] = ()
    lines: list[str] = attrs.field(factory=list)

    def wants(self, session: Session) -> bool:
        return not self.of or session.connection_id in self.of

    def entered(self, session: Session) -> None:
        self.lines.append("entered")

    def heard(self, session: Session, text: str) -> None:
        self.lines.append(f"heard {text}")

    def told(self, session: Session, item: bytes, *, is_payload: bool) -> None:
        self.lines.append(f"told {item[:18].decode()} {is_payload}")

    def left(self, session: Session, code: int) -> None:
        self.lines.append(f"left {code}")


PING = '{"type":"ping"}'
PONG = 'told {"type":"pong"} False'


def ping(line: Line) -> None:
    line.send_text(PING)
    line.outbox.items.clear()


def test_an_ear_hears_what_is_said_and_told_until_the_end() -> None:
    desk = Desk()
    line, notes = desk.connect(), Notes()
    taps = Taps(desk.node)
    taps.open(notes)
    assert notes.lines == ["entered"]
    ping(line)
    assert notes.lines[1:] == [f"heard {PING}", 'told {"type":"pong"} False']
    line.close(1001)
    line.session.detach()
    assert notes.lines[3:] == ["left 1001"]
    assert len(taps) == 0
    assert type(line.session) is Session


def test_a_fan_out_is_told_like_a_reply_and_in_arrays_as_payloads() -> None:
    desk = Desk()
    reader, batched, publisher, notes = desk.connect(), desk.connect(), desk.connect(), Notes()
    reader.subscribe(1, "a")
    batched.subscribe(1, "a")
    batched.outbox.hold_payloads()
    Taps(desk.node).open(notes)
    publisher.send({"type": "publish", "topic": "a", "data": 1})
    told = [line for line in notes.lines if line.startswith("told")]
    assert told == ['told {"type":"message", False', 'told {"type":"message", True']
    assert reader.read()[0]["type"] == "message"  # and what is sent is what it was


def test_who_comes_in_later_is_heard_and_who_is_not_meant_is_not_touched() -> None:
    desk = Desk()
    first = desk.connect()
    notes = Notes((first.session.connection_id,))
    everybody = Notes()
    taps = Taps(desk.node)
    taps.open(notes)
    taps.open(everybody)
    second = desk.connect()
    assert everybody.lines.count("entered") == 2
    assert notes.lines == ["entered"]
    ping(second)
    assert notes.lines == ["entered"]
    taps.close(everybody)
    assert type(second.session) is Session
    assert type(first.session) is Tapped
    assert type(second.outbox.items) is list
    taps.open(everybody)
    taps.close(notes)
    assert type(second.session) is Tapped  # somebody else listens to it
    taps.open(notes)
    taps.close(everybody)
    ping(first)
    assert f"heard {PING}" in notes.lines
    taps.close(notes)
    assert type(first.session) is Session
    assert type(first.outbox.items) is list
    assert desk.node.taps is None  # who connects now is not looked at


def test_what_waits_in_an_outbox_stays_there_when_the_ear_goes() -> None:
    desk = Desk()
    line, notes = desk.connect(), Notes()
    line.send_text(PING)
    taps = Taps(desk.node)
    taps.open(notes)
    line.send_text(PING)
    taps.close(notes)
    line.send_text(PING)
    assert [packet["type"] for packet in line.read()] == ["pong"] * 3


def test_a_connection_of_many_ears_is_heard_by_those_that_are_left() -> None:
    desk = Desk()
    line, one, other = desk.connect(), Notes(), Notes()
    taps = Taps(desk.node)
    taps.open(one)
    taps.open(other)
    taps.close(one)
    ping(line)
    assert len(other.lines) == 3
    assert one.lines == ["entered"]


def test_an_ear_that_goes_leaves_those_alone_that_it_did_not_want() -> None:
    desk = Desk()
    one, other = desk.connect(), desk.connect()
    first, second = (Notes((line.session.connection_id,)) for line in (one, other))
    taps = Taps(desk.node)
    taps.open(first)
    taps.open(second)
    taps.close(second)
    ping(one)
    ping(other)
    assert (len(taps), first.lines[1:], second.lines) == (1, [f"heard {PING}", PONG], ["entered"])
