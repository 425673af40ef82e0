"""Links and streams of events under attack: taken over, flooded, half open, never read (S2, S6-S9, S13, S28)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import trio
import triode
from triode_broker.http.links import Owner

from tests.admin.running import Running, running
from tests.http.talker import Events, Wire, ask, events_target, linked, listening
from tests.spec.guarded import settings, token

CONNECT = b'{"type":"connect","id":1}'
PING = b'{"type":"ping","id":7}'
OUTBOX_BYTES = 20_000
LIMITS = {
    "connect_timeout_ms": 300,
    "drain_timeout_ms": 300,
    "max_outbox_bytes": OUTBOX_BYTES,
    "rate_burst_ms": 2_000,
    "max_refused_packets": 100,
}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    quotas = [{"control_packets_per_second": 10}]
    async with running(
        tmp_path, limits=LIMITS, quotas=quotas, origins=["https://a.example", "https://b.example"]
    ) as node:
        yield node


async def forgotten(node: Running) -> None:
    """Nothing is left of those who have gone; a healthy client is served."""
    with trio.fail_after(10):
        while node.broker.node.sessions or node.broker.desk.links.by_name:
            await trio.lowlevel.checkpoint()
    async with triode.connect(node.url) as client, client.subscribe("healthy") as heard:
        await client.publish("healthy", 1)
        assert (await anext(heard)).data == 1


async def test_s28_name_of_a_link_is_of_no_use_to_others(node: Running) -> None:
    """SPEC 12.4.4, S9: another page, or a program without a page, is told what it would be told of any name."""
    async with linked(node.url, headers={"Origin": "https://a.example"}) as link:
        target = f"/v1/link/{link.name}?n=1"
        for headers in ({"Origin": "https://b.example"}, {}):
            taken = await ask(node.url, "POST", target, PING, headers)
            unknown = await ask(node.url, "POST", f"/v1/link/{'0' * 32}.n1?n=1", PING, headers)
            assert taken.status == unknown.status == 404
            assert taken.error == unknown.error
        assert (await ask(node.url, "POST", target, PING, {"Origin": "https://evil.example"})).status == 403
        assert (await link.say({"type": "ping", "id": 8})).status == 204
        assert (await link.hear("pong"))["id"] == 8
    await forgotten(node)


async def test_s13_credential_of_a_link_is_asked_for_again_where_it_stood_in_the_head(tmp_path: Path) -> None:
    """SPEC 12.4.4; and what is revoked meanwhile ends it."""
    async with running(tmp_path, **settings(tmp_path)) as node:
        ann, bob = ({"Authorization": f"Bearer {token(name)}"} for name in ("ann", "bob"))
        async with linked(node.url, headers=ann) as link:
            for headers in (bob, {}):
                assert (await link.say_again(1, {"type": "ping"}, headers=headers)).status == 404
            forbidden = {"type": "publish", "id": 3, "topic": "own/bob/x", "data": 1}
            assert (await link.say(forbidden)).status == 204
            assert (await link.hear("error"))["name"] == "forbidden"
            await node.ask("revoke", user="ann")
            assert (await link.events.next_of("close")).packet["code"] == 4002
        wire = await Wire.open(node.url)
        async with wire.stream:
            events = Events(wire, await wire.ask("POST", "/v1/link", CONNECT, ann))
            assert (await events.next_of("close")).packet["code"] == 4002
        await forgotten_here(node)


async def forgotten_here(node: Running) -> None:
    with trio.fail_after(10):
        while node.broker.node.sessions or node.broker.desk.links.by_name:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xfe", {}, 400),
        (b"x" * 70_000, {}, 413),
        (CONNECT, {"Content-Type": "text/plain"}, 415),
        (CONNECT, {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_s2_what_cannot_be_a_first_text_opens_nothing(
    node: Running, body: bytes, headers: dict[str, str], status: int
) -> None:
    """S9, too: a form or an image of another site sends no JSON."""
    assert (await ask(node.url, "POST", "/v1/link", body, headers)).status == status
    await forgotten(node)


async def test_s6_half_links_end_in_time(node: Running) -> None:
    """SPEC 1.12, S13: a hundred that never connect; what is no packet, or another one, ends at once."""
    async with AsyncExitStack() as stack:
        for _ in range(30):
            wire = await Wire.open(node.url)
            stack.push_async_callback(wire.stream.aclose)
            await wire.stream.send_all(b"POST /v1/link HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n")
        for body in (b"[]", b"null", b"[[]]", PING, CONNECT[:-1], b'[{"type":"publish"},' + CONNECT + b"]"):
            wire = await Wire.open(node.url)
            stack.push_async_callback(wire.stream.aclose)
            events = Events(wire, await wire.ask("POST", "/v1/link", body))
            assert (await events.next_of("close")).packet["code"] == 4000, body
        assert node.broker.node.sessions == {}
    await forgotten(node)


async def test_s8_floods_on_a_link_are_told_and_ended(node: Running) -> None:
    """Packets are metered as everywhere; requests over a name have a bound of their own."""
    async with linked(node.url) as link:
        pings = [{"type": "ping", "id": number} for number in range(1, 4_000)]
        assert (await link.say(*pings)).status == 204
        assert (await link.events.next_of("close")).packet["code"] == 4102
    async with linked(node.url) as link:
        statuses: list[int] = []

        async def say() -> None:
            statuses.append((await link.say_again(1, {"type": "pong"})).status)

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(say)
        assert set(statuses) <= {204, 503}
    await forgotten(node)


async def test_s7_link_and_stream_that_nobody_reads_are_bounded_and_closed(node: Running) -> None:
    """G6, G7: what waits has a bound, and only for so long."""
    subscribe = {"type": "subscribe", "id": 2, "sub": 1, "filter": "news"}
    async with (
        linked(node.url, subscribe, receive_buffer=4_096) as link,
        listening(node.url, "news", receive_buffer=4_096),
        triode.connect(node.url) as client,
    ):
        for _ in range(400):
            await client.publish("news", "x" * 10_000)
            waiting = list(node.broker.node.sessions.values())
            assert all(session._outbox.size < 3 * OUTBOX_BYTES for session in waiting)
        history = {"type": "history", "id": 9, "topic": "news"}
        with trio.move_on_after(20):
            while (await link.say(history)).status == 204:
                pass
        with trio.fail_after(20):
            while len(node.broker.node.sessions) > 1:
                await trio.lowlevel.checkpoint()
    await forgotten(node)


async def test_s6_streams_of_one_address_have_their_seats(tmp_path: Path) -> None:
    """One address opens no more streams than connections; behind a proxy it is the client's."""
    limits = {"max_address_connections": 3}
    async with running(tmp_path, limits=limits, trusted_proxies=["127.0.0.1"]) as node:
        far, other = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8"}
        streams = (listening(node.url, "a", headers=far), listening(node.url, "a", headers=far))
        async with streams[0], streams[1], linked(node.url, headers=far):
            assert (await ask(node.url, "GET", events_target("a"), headers=far)).status == 429
            async with listening(node.url, "a", headers=other):
                pass


def test_s10_token_of_a_link_is_kept_as_a_digest() -> None:
    """It is compared, and never told."""
    assert "canary" not in msgspec.json.encode(Owner.of("", "canary").credential).decode()
