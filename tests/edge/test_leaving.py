"""The edge's part in a drain: doors closed, everybody sent away in turn, each answered before its goodbye."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from triode_broker.config import Limits
from triode_broker.edge.reactor import ANSWER_SECONDS, Farewell
from triode_protocol.errors import CloseCode

from tests.edge.rig import CLOSE, HANDSHAKE, TEXT, Client, Rig, close_payload, frame, let_pass, text

MakeRig = Callable[..., Rig]


def farewell() -> Farewell:
    return 700, ["ws://b/ws"]


def byes(client: Client) -> list[dict[str, Any]]:
    """The packets that are there; a close frame behind a bye has its code."""
    found = client.frames()
    packets = [json.loads(payload) for opcode, payload in found if opcode == TEXT]
    closes = [int.from_bytes(payload[:2]) for opcode, payload in found if opcode == CLOSE]
    assert closes == [packet["code"] for packet in packets]
    return packets


async def drained(rig: Rig, seconds: float = 0.0) -> None:
    end = trio.current_time() + seconds
    await rig.edge.drain(lambda: end, farewell)


async def test_everybody_is_sent_away_evenly_over_the_window(rig: Rig, autojump_clock: MockClock) -> None:
    """SPEC 5.3.5"""
    clients = [rig.client() for _ in range(40)]
    told = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drained, rig, 1.0)
        for _ in range(4):
            await let_pass(0.24)
            told.append(sum(len(byes(client)) for client in clients))
    told.append(sum(len(byes(client)) for client in clients))
    assert sum(told) == 40
    assert all(8 <= count <= 12 for count in told[:4]), told


async def test_few_are_spread_over_a_long_window(rig: Rig, autojump_clock: MockClock) -> None:
    clients = [rig.client() for _ in range(4)]
    told = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drained, rig, 100)
        for _ in range(4):
            await let_pass(25.1)
            told.append(sum(len(byes(client)) for client in clients))
    assert told == [1, 1, 1, 1]
    assert 99 < trio.current_time() < 101


async def test_a_bye_says_when_and_where_to_go(rig: Rig, autojump_clock: MockClock) -> None:
    """SPEC 5.3.1"""
    client = rig.client()
    await drained(rig)
    expected = {"type": "bye", "code": 4200, "name": "draining", "reconnect_after_ms": 700, "urls": ["ws://b/ws"]}
    assert byes(client) == [expected]
    client.send(frame(CLOSE, close_payload(4200)))
    client.receive()
    assert client.is_closed
    assert rig.talkers[0].detached == 1


async def test_more_than_a_turn_can_take_go_at_once_where_there_is_no_window(
    rig: Rig, autojump_clock: MockClock
) -> None:
    clients = [rig.client() for _ in range(300)]
    began = trio.current_time()
    await drained(rig)
    assert trio.current_time() == began
    assert all(byes(client) for client in clients)


async def test_the_window_may_be_cut_short(rig: Rig, autojump_clock: MockClock) -> None:
    clients = [rig.client() for _ in range(10)]
    ends = [trio.current_time() + 3_600]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.edge.drain, lambda: ends[0], farewell)
        await let_pass(1)
        ends[0] = trio.current_time()
    assert trio.current_time() < 10
    assert sum(len(byes(client)) for client in clients) == 10


async def test_what_was_taken_in_is_answered_before_the_bye_and_nothing_more_is_taken(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """SPEC 5.3.5"""
    client = rig.client()
    talker = rig.talkers[0]
    talker.is_answered = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drained, rig)
        await let_pass(0.3)
        client.send(text("too late"))
        talker.outbox.put(b'{"type":"published"}')
        rig.edge.flush()
        assert client.texts() == ['{"type":"published"}']
        talker.is_answered = True
    assert [packet["code"] for packet in byes(client)] == [4200]
    assert talker.heard == []


async def test_answers_are_not_waited_for_without_end(rig: Rig, autojump_clock: MockClock) -> None:
    clients = [rig.client() for _ in range(2)]
    for talker in rig.talkers:
        talker.is_answered = False
    await drained(rig)
    assert ANSWER_SECONDS <= trio.current_time() < ANSWER_SECONDS + 0.1
    assert all(byes(client) for client in clients)


async def test_client_that_hangs_up_meanwhile_is_gone_at_once(rig: Rig, autojump_clock: MockClock) -> None:
    client = rig.client()
    talker = rig.talkers[0]
    talker.is_answered = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drained, rig)
        await let_pass(0.1)
        client.socket.close()
        rig.turn()
        assert talker.detached == 1
        assert talker.outbox.connection.close_code == CloseCode.DRAINING  # given back cleanly: SPEC 9.4.4
        talker.is_answered = True


async def test_hurry_overtakes_those_that_wait_for_answers(rig: Rig, autojump_clock: MockClock) -> None:
    clients = [rig.client() for _ in range(3)]
    rig.talkers[0].is_answered = False
    with trio.move_on_after(1.2):
        await drained(rig, 3)
    with trio.move_on_after(0):
        await rig.edge.close_all(CloseCode.SHUTDOWN)
    assert [packet["code"] for client in clients for packet in byes(client)] == [4200, 4100, 4100]


async def test_slow_reader_gets_what_it_was_owed_and_its_bye(make_rig: MakeRig, autojump_clock: MockClock) -> None:
    rig = make_rig(Limits(max_outbox_bytes=1_024))
    client = rig.client(send_buffer=4_096)
    client.send(text("say 100000"))
    await drained(rig)
    data = b""
    while b'"draining"' not in data:
        data += client.receive()
        rig.turn()
    assert data.count(b"x") >= 100_000


async def test_who_has_not_finished_its_handshake_is_refused(rig: Rig, autojump_clock: MockClock) -> None:
    """SPEC 1.1"""
    late = rig.client(HANDSHAKE[:50])
    rig.edge.close_doors(rig.now + 2.5)
    await drained(rig)
    late.send(HANDSHAKE[50:])
    answer = late.receive().decode()
    assert answer.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 3\r\n" in answer
    assert late.is_closed


def test_behind_closed_doors_pages_are_still_served(make_rig: MakeRig) -> None:
    """SPEC 1.1"""
    rig = make_rig(routes={"/readyz": lambda target: (503, "text/plain", b"draining")})
    before = rig.client()
    rig.edge.close_doors(rig.now)
    assert rig.client(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").receive().endswith(b"draining")
    refused = rig.client(HANDSHAKE.replace(b"/ws", b"/ws?x")).receive().decode()
    assert refused.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 1\r\n" in refused
    before.send(text("say 1"))
    assert before.texts() == ["x"]


@pytest.mark.parametrize("end", ["drop", "fail", "leave"])
async def test_a_connection_that_ends_by_itself_needs_no_bye(
    end: str, rig: Rig, autojump_clock: MockClock
) -> None:
    client = rig.client()
    rig.talkers[0].is_answered = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drained, rig)
        await let_pass(0.1)
        connection = rig.talkers[0].outbox.connection
        if end == "drop":
            connection.drop()
        elif end == "fail":
            connection.fail(RuntimeError("a bug"))
        else:
            connection.close(4005)
            rig.edge.flush()
            assert byes(client) == []
    assert rig.talkers[0].detached == 1
    assert len(byes(client)) == (end == "leave")
