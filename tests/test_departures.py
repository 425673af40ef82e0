"""Every end of a connection has a code, a reason and an initiator: in the log, and in the counts."""

import json
from pathlib import Path

import pytest
import trio
from triode_broker.core.identity import Identity
from triode_broker.departures import LINES_A_SECOND, Departures, describe, label
from triode_protocol.errors import INITIATORS, MEANINGS, CloseCode

from tests.admin.running import PATIENCE_SECONDS, Running, running
from tests.cluster.rig import Lines
from tests.core.desk import Desk, Line
from tests.spec.client import RawClient


def watched(desk: Desk) -> tuple[Departures, Lines]:
    """A desk whose departures are told."""
    log = Lines()
    departures = Departures(log, desk.node.timers)
    desk.node.timers.hear(desk.now_ms)
    desk.node.departed = departures.tell
    return departures, log


def end(line: Line, code: int = 0) -> None:
    """It ends with that code; 0: without any."""
    if code:
        line.close(code)
    line.session.detach()


def test_line_says_who_and_why() -> None:
    """S27: no payload and no credential is in it."""
    desk = Desk()
    departures, log = watched(desk)
    line = desk.connect()
    line.session.identity = Identity("ann", "acme")
    desk.wait(1_500)
    end(line, CloseCode.SLOW_CONSUMER)
    assert log.lines == [
        (
            "warning",
            "disconnected",
            {
                "connection": "c-id1",
                "user": "ann",
                "tenant": "acme",
                "address": "",
                "code": 4104,
                "name": "slow_consumer",
                "reason": MEANINGS[4104],
                "initiator": "server",
                "seconds": 1.5,
            },
        )
    ]
    assert departures.counts == {("4104", "server"): 1}


def test_end_without_a_code_is_the_networks() -> None:
    desk = Desk()
    departures, log = watched(desk)
    end(desk.connect())
    ((level, _, values),) = log.lines
    assert (level, values["code"], values["name"], values["initiator"]) == ("info", 1006, "lost", "network")
    assert departures.counts == {("1006", "network"): 1}


def test_connection_that_never_got_in_is_told_of_too() -> None:
    desk = Desk()
    departures, log = watched(desk)
    line = desk.dial()
    line.send({"type": "publish", "topic": "a", "data": 1})
    end(line)
    assert log.of("disconnected")[0]["connection"] == ""
    assert log.of("disconnected")[0]["seconds"] == 0
    assert departures.counts == {("4000", "server"): 1}


def test_clients_goodbye_is_its_own() -> None:
    desk = Desk()
    departures, _ = watched(desk)
    line = desk.connect()
    line.send({"type": "disconnect"})
    end(line)
    assert departures.counts == {("1000", "client"): 1}


@pytest.mark.parametrize(
    ("code", "is_clients", "initiator", "counted"),
    [
        (4006, False, "operator", "4006"),
        (4105, False, "network", "4105"),
        (4005, False, "client", "4005"),
        (1009, False, "server", "1009"),
        (1001, True, "client", "1001"),
        (4006, True, "client", "4xxx"),
        (3_777, True, "client", "3xxx"),
        (1014, True, "client", "other"),
    ],
)
def test_initiator_and_label_follow_from_the_code(
    code: int, is_clients: bool, initiator: str, counted: str
) -> None:
    """S8: of codes that clients may choose freely the class is counted."""
    assert describe(code, is_clients=is_clients)[3] == initiator
    assert label(code, is_clients=is_clients) == counted


def test_every_code_of_ours_has_an_initiator_and_a_reason() -> None:
    assert set(INITIATORS) == set(MEANINGS) == {int(code) for code in CloseCode}
    assert set(INITIATORS.values()) <= {"client", "server", "network", "operator"}


def test_storm_is_told_in_one_line() -> None:
    """S27."""
    desk = Desk()
    departures, log = watched(desk)
    for _ in range(LINES_A_SECOND + 30):
        end(desk.connect())
    assert len(log.of("disconnected")) == LINES_A_SECOND
    desk.wait(1_000)
    assert log.of("more_disconnects") == [{"count": 30, "codes": {"1006": 30}}]
    end(desk.connect())
    assert len(log.of("disconnected")) == LINES_A_SECOND + 1
    desk.wait(1_000)
    assert len(log.of("more_disconnects")) == 1
    assert departures.counts["1006", "network"] == LINES_A_SECOND + 31


async def told(node: Running, count: int) -> list[dict[str, object]]:
    """That many ends, once they are logged."""
    with trio.fail_after(PATIENCE_SECONDS):
        while len(node.log.told("disconnected")) < count:
            await trio.lowlevel.checkpoint()
    return [{field: line[field] for field in ("code", "initiator")} for line in node.log.told("disconnected")]


async def test_ends_over_real_sockets_are_told_apart(tmp_path: Path) -> None:
    async with running(tmp_path) as node, trio.open_nursery() as nursery:
        clients = [await RawClient.open(nursery, node.url) for _ in range(4)]
        for client in clients:
            await client.send({"type": "connect", "id": 1})
            await client.expect("connected", id=1)
        await clients[0].cut()
        assert await told(node, 1) == [{"code": 1006, "initiator": "network"}]
        await clients[1].send({"type": "disconnect"})
        assert (await told(node, 2))[1:] == [{"code": 1000, "initiator": "client"}]
        await clients[2].close(4_006)
        assert (await told(node, 3))[2:] == [{"code": 4006, "initiator": "client"}]
        next(iter(node.broker.node.sessions.values())).close(CloseCode.KICKED)
        node.broker.edge.flush()
        assert (await told(node, 4))[3:] == [{"code": 4006, "initiator": "operator"}]
        assert json.dumps(sorted(node.broker.departures.counts)) == json.dumps(
            [["1000", "client"], ["1006", "network"], ["4006", "operator"], ["4xxx", "client"]]
        )
        for client in clients:
            await client.cut()
        nursery.cancel_scope.cancel()
