"""Links: whole sessions over HTTP, from a real broker over real sockets (SPEC 12.4)."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from triode_broker.http.link_operations import take
from triode_broker.http.links import Owner, link_frame
from triode_protocol.codec import Refused

from tests.admin.running import Running, running
from tests.http.talker import Events, Link, Wire, ask, linked
from tests.spec.guarded import settings, token

SUBSCRIBE = {"type": "subscribe", "id": 2, "sub": 1, "filter": "news"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as node:
        yield node


def publish(id: int, data: Any = None) -> dict[str, Any]:
    return {"type": "publish", "id": id, "topic": "news", "data": data}


async def closed(link: Link) -> int:
    """The code of the event `close`."""
    code: int = (await link.events.next_of("close")).packet["code"]
    assert await link.events.ended() == []
    return code


async def test_session_goes_both_ways(node: Running) -> None:
    """SPEC 12.4.1, 12.4.2, 12.4.5: what a WebSocket carries, in the same order."""
    async with linked(node.url, SUBSCRIBE) as link:
        assert (await link.hear("subscribed"))["live"] is True
        assert (await link.say(publish(3, "one"), publish(4, {"two": [2]}))).status == 204
        assert [(await link.hear("message", "published"))["type"] for _ in range(4)] == [
            "message",
            "published",
        ] * 2
        assert (await link.say({"type": "publish", "id": 5})).status == 204
        assert (await link.hear("error"))["id"] == 5
        await link.say({"type": "ping", "id": 6})
        assert (await link.hear("pong"))["id"] == 6
        await link.say({"type": "disconnect"})
        assert await link.events.ended() == []
        assert (await link.say({"type": "ping"})).status == 404
        assert node.broker.desk.links.by_name == {}


async def test_line_ends_in_data_end_no_event(node: Running) -> None:
    """SPEC 12.2.2."""
    async with linked(node.url, SUBSCRIBE) as link:
        text = b'{"type":"publish","id":3,"topic":"news","data":{"a":\n\r\n1}}'
        await ask(node.url, "POST", f"/v1/link/{link.name}?n=1", text)
        assert (await link.hear("message"))["data"] == {"a": 1}


async def test_repeated_request_is_not_served_again_and_a_missing_one_ends_the_link(node: Running) -> None:
    """SPEC 12.4.3: proxies repeat what they have no answer to."""
    async with linked(node.url, SUBSCRIBE) as link:
        for _ in range(3):
            assert (await link.say_again(1, publish(3, "once"))).status == 204
        await link.say_again(2, publish(4, "last"))
        assert [(await link.hear("message"))["data"] for _ in range(2)] == ["once", "last"]
        refused = await link.say_again(4, publish(5))
        assert (refused.status, refused.error["name"]) == (409, "conflict")
        assert (await link.hear("bye"))["code"] == 4000
        assert await closed(link) == 4000


async def test_texts_that_come_at_once_are_served_in_order_or_told_to_wait(node: Running) -> None:
    """SPEC 12.4.2: one after the other, and few may wait."""
    async with linked(node.url) as link:
        statuses: list[int] = []

        async def say(number: int) -> None:
            statuses.append((await link.say_again(number, {"type": "ping", "id": number})).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, 1)
            nursery.start_soon(say, 1)
        assert statuses == [204, 204]
        assert (await link.hear("pong"))["id"] == 1


async def test_goodbyes_come_with_their_code(tmp_path: Path) -> None:
    """SPEC 12.4.5, 5.3: drained, kicked, refused."""
    async with running(tmp_path, **settings(tmp_path)) as node:
        async with linked(node.url, token=token("ann")) as link:
            await node.ask("kick", user="ann")
            assert await closed(link) == 4006
        async with linked(node.url, token=token("bob")) as link:
            await node.ask("drain", seconds=0.1)
            assert (await link.hear("bye"))["reconnect_after_ms"] >= 0
    async with running(tmp_path / "other", **settings(tmp_path)) as node:
        wire = await Wire.open(node.url)
        async with wire.stream:
            events = Events(wire, await wire.ask("POST", "/v1/link", b'{"type":"connect","id":1,"token":"wrong"}'))
            assert [(await events.next()).type for _ in range(4)] == ["link", "message", "message", "close"]
            assert await events.ended() == []


async def test_silent_link_is_ended(tmp_path: Path) -> None:
    """SPEC 12.4.6: its stream alone says nothing of its client."""
    async with running(tmp_path, limits={"ping_ms": 100}) as node, linked(node.url) as link:
        await link.hear("ping")
        await link.say({"type": "pong"})
        assert await closed(link) == 4105
        assert node.broker.desk.links.by_name == {}


async def test_text_from_another_node_is_never_waited_for(tmp_path: Path) -> None:
    """SPEC 12.4.7: a link that nobody reads must not take up the calls between nodes; who sends it asks again."""
    limits = {"max_outbox_bytes": 10_000}
    async with running(tmp_path, limits=limits) as node, linked(node.url, SUBSCRIBE, receive_buffer=4_096) as link:
        links = node.broker.desk.links
        text = msgspec.json.encode(publish(3, "x" * 9_000)).decode()
        passed = {"name": link.name, "origin": "", "credential": "", "text": text}
        with trio.fail_after(20):
            for number in itertools.count(1):
                if links.by_name[link.name].stream.outbox.is_over:
                    break
                await take(links, {**passed, "n": number})
        with pytest.raises(Refused, match="takes nothing more"):
            await take(links, {**passed, "n": number})
        for name in ("0.n1", link.name + "x"):
            with pytest.raises(ValueError, match="no such link"):
                await take(links, {**passed, "n": number, "name": name})


async def test_half_a_link_is_ended(tmp_path: Path) -> None:
    """SPEC 1.12, S13: there is no session without `connect`."""
    async with running(tmp_path, limits={"connect_timeout_ms": 100}) as node:
        wire = await Wire.open(node.url)
        async with wire.stream:
            events = Events(wire, await wire.ask("POST", "/v1/link", b'{"type":"connect","id":1'))
            assert (await events.next_of("close")).packet["code"] == 4000
        assert node.broker.node.sessions == {}


def test_frame_is_the_same_for_all_links_and_one_line_each() -> None:
    assert link_frame(b'{"type":"ping"}') == b'data: {"type":"ping"}\n\n'
    assert link_frame(b'{"link":"a.n1"}') == b'event: link\ndata: {"link":"a.n1"}\n\n'
    bye = b'{"type":"bye","code":4100}'
    assert link_frame(bye) == b"data: " + bye + b"\n\nevent: close\ndata: " + bye + b"\n\n"


@pytest.mark.parametrize(
    ("origin", "credential"), [("https://a.example", ""), ("", "other"), ("https://b.example", "token")]
)
def test_owner_is_origin_and_credential(origin: str, credential: str) -> None:
    """SPEC 12.4.4."""
    own = Owner.of("https://a.example", "token")
    assert own.is_same(Owner.of("https://a.example", "token"))
    assert not own.is_same(Owner.of(origin, credential))
    assert not own.is_same(Owner.of("https://a.example", "token", ["client.example"]))
    assert own.credential.isalnum()
