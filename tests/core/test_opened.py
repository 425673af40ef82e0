"""What an operator sees of the subscriptions that a connection has open."""

from triode_broker.config import Limits
from triode_broker.core.identity import Arrival, Identity
from triode_broker.core.opened import Opened, opened

from tests.core.desk import Desk, Line
from tests.core.gatekeeper import Gatekeeper
from tests.core.test_away import join, make
from tests.core.working import durable, make_desk


def states(line: Line) -> list[str]:
    """Of all that is open, in order."""
    return [one.state for one in opened(line.session)]


def test_connection_without_any_has_none() -> None:
    assert not list(opened(Desk().connect().session))


def test_plain_ones_are_live_until_they_are_slow() -> None:
    """G7: which of them waits, and for whom."""
    desk = Desk(limits=Limits(max_outbox_bytes=4_096, max_packet_bytes=2_048))
    line = desk.connect()
    line.subscribe(3, "rooms/+")
    assert list(opened(line.session)) == [Opened(3, "plain", "", "rooms/+", "live", overflow="replay")]
    for _ in range(4):
        desk.publish("rooms/1", "x" * 1_500)
    assert states(line) == ["slow"]
    assert 2 * line.session.outbox_bytes > 4_096
    line.take_items()
    assert states(line) == ["catching_up"]
    line.drain()
    assert states(line) == ["live"]


def test_names_have_their_kind_and_what_is_in_flight() -> None:
    desk = make_desk()
    line = durable(desk, sub=1, name="w", filter="d/#", window=3)
    line.subscribe(2, "m/#", group="g")
    desk.publish("m/a", 1)
    first, second = opened(line.session)
    assert (first.kind, first.name, first.filter, first.state, first.window) == ("durable", "w", "d/#", "live", 3)
    assert (second.kind, second.name, second.in_flight) == ("group", "g", 1)


def test_name_that_is_not_on_disk_yet_is_opening_and_one_without_room_is_slow() -> None:
    desk = make_desk(max_outbox_bytes=70_000)
    line = desk.connect()
    line.subscribe(1, "d/#", durable="w")
    assert states(line) == ["opening"]
    desk.commit()
    assert states(line) == ["live"]
    for _ in range(4):
        desk.publish("d/a", "x" * 40_000)
    assert states(line) == ["slow"]


def test_name_at_home_elsewhere_is_told_of_by_its_connections_node() -> None:
    """SPEC 9.9"""
    desk, roads = make()
    line = desk.connect()
    join(line)
    assert states(line) == ["opening"]
    roads.tape.say({"type": "subscribed", "id": 101, "sub": 1, "after": {}, "live": True})
    line.subscribe(2, "m/b", durable="w", shared=True)
    line.subscribe(3, "m/c", durable="v")
    kinds = [(one.kind, one.name, one.filter, one.state) for one in opened(line.session)]
    assert kinds == [
        ("group", "g", "m/a", "elsewhere"),
        ("shared", "w", "m/b", "opening"),
        ("durable", "v", "m/c", "opening"),
    ]


def test_tenants_names_are_shown_as_its_clients_say_them() -> None:
    """S23"""
    gate = Gatekeeper()
    gate.known["t"] = Identity("ann", "acme")
    line = Desk(gate=gate).connect(token="t")
    line.subscribe(1, "rooms/#")
    line.subscribe(2, "jobs", group="g")
    assert [(one.name, one.filter) for one in opened(line.session)] == [("", "rooms/#"), ("g", "jobs")]


def test_door_with_a_gate_of_its_own_asks_that_one() -> None:
    """S29: whoever comes in by the administration listener is nobody's client."""
    own, gate = Gatekeeper(), Gatekeeper()
    own.know("ticket", "operator", method="operator")
    for desk in (Desk(), Desk(gate=gate)):
        line = desk.dial(Arrival(gate=own))
        assert line.ask({"type": "connect", "id": 1, "token": "ticket"})[0]["type"] == "connected"
        assert line.session.identity.method == "operator"
        refused = desk.dial(Arrival(gate=own))
        assert refused.ask({"type": "connect", "id": 1})[0]["name"] == "unauthorized"
    assert not gate.asked
