"""Subscriptions as server-sent events, from a real broker over real sockets (SPEC 12.1-12.3)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import triode

from tests.admin.running import ON_DISK, Running, running
from tests.http.talker import Wire, ask, events_target, listening
from tests.spec.guarded import settings, token


async def publish(node: Running, topic: str, *data: Any, **options: Any) -> None:
    async with triode.connect(node.url) as client:
        for each in data:
            await client.publish(topic, each, **options)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    """jobs/# on disk, everything else in memory."""
    async with running(tmp_path) as node:
        yield node


async def test_stream_brings_what_its_topics_get_as_it_comes(node: Running) -> None:
    """SPEC 12.1.1, 12.2.1, 12.2.2."""
    async with listening(node.url, "news/+", "sport") as events:
        assert events.reply.headers["content-type"] == "text/event-stream"
        assert events.reply.headers["x-accel-buffering"] == "no"
        assert events.reply.headers["cache-control"] == "no-store"
        await publish(node, "news/one", {"a": 1}, "two")
        await publish(node, "elsewhere", "not for this one")
        await publish(node, "sport", 3)
        assert await events.data(3) == [{"a": 1}, "two", 3]
        assert events.retry >= 1_000


async def test_last_event_id_resumes_over_a_restart_on_disk(tmp_path: Path) -> None:
    """SPEC 12.1.3, 12.3.2, G4: kept on disk, nothing is lost and nothing comes twice."""
    async with running(tmp_path) as node:
        async with listening(node.url, "jobs/#") as events:
            await publish(node, "jobs/a", 1, 2)
            assert await events.data(1) == [1]
            last = events.id
        await publish(node, "jobs/b", 3)
    async with running(tmp_path) as node:
        await publish(node, "jobs/a", 4)
        async with listening(node.url, "jobs/#", headers={"Last-Event-ID": last}) as events:
            assert await events.data(3) == [2, 3, 4]
            await publish(node, "jobs/a", 5)
            assert await events.data(1) == [5]
        async with listening(node.url, "jobs/#", last_event_id=events.id, from_="earliest") as events:
            await publish(node, "jobs/a", 6)
            assert await events.data(1) == [6]


async def test_memory_that_has_gone_is_a_gap(tmp_path: Path) -> None:
    """SPEC 12.3.2, G5: the log has another life."""
    async with running(tmp_path) as node, listening(node.url, "news") as events:
        await publish(node, "news", 1)
        await events.data(1)
    async with running(tmp_path) as node:
        await publish(node, "news", 2)
        async with listening(node.url, "news", last_event_id=events.id) as events:
            gap = await events.next()
            assert (gap.type, gap.packet["reason"]) == ("gap", "reset")
            assert await events.data(1) == [2]


async def test_what_retention_has_taken_is_a_gap(tmp_path: Path) -> None:
    """SPEC 12.3.2, 3.2.10."""
    async with running(tmp_path, topics=[ON_DISK | {"retention_messages": 2}]) as node:
        async with listening(node.url, "jobs/a") as events:
            await publish(node, "jobs/a", 1)
            await events.data(1)
        await publish(node, "jobs/a", *range(2, 9))
        async with listening(node.url, "jobs/a", after=events.id) as events:
            gap = await events.next()
            assert (gap.type, gap.packet["reason"]) == ("gap", "retention")
            assert await events.data(2) == [7, 8]


async def test_wildcard_has_a_position_of_every_log_and_resumes_in_each(tmp_path: Path) -> None:
    """SPEC 12.3.1, 2.5."""
    async with running(tmp_path, memory_shards=4, topics=[ON_DISK]) as node:
        async with listening(node.url, "#") as events:
            assert len(events.id.split("~")) == 5
            for number in range(8):
                await publish(node, f"t/{number}", number)
            await publish(node, "jobs/x", 8)
            assert sorted(await events.data(9)) == list(range(9))
        for number in range(8):
            await publish(node, f"t/{number}", number + 10)
        async with listening(node.url, "#", last_event_id=events.id) as events:
            assert sorted(await events.data(8)) == list(range(10, 18))


async def test_starts_where_it_is_asked_to(node: Running) -> None:
    """SPEC 12.1.2, 12.3.3: the snapshot has no ids until it is complete."""
    await publish(node, "jobs/a", 1, 2, 3)
    async with listening(node.url, "jobs/#", from_="earliest") as events:
        assert await events.data(3) == [1, 2, 3]
    async with listening(node.url, "jobs/a", last=2) as events:
        assert await events.data(2) == [2, 3]
    async with listening(node.url, "jobs/a", since=1) as events:
        assert await events.data(3) == [1, 2, 3]
    async with listening(node.url, "jobs/#", from_="last") as events:
        message = await events.next_of("message")
        assert (message.packet["data"], message.id) == (3, "")
        assert (await events.next_of("caught_up")).id


async def test_presence_is_told_and_taken_part_in(node: Running) -> None:
    """SPEC 12.1.2, 12.2.3."""
    async with listening(node.url, "room", presence="watch") as watcher:
        async with listening(node.url, "room", presence='{"state":{"name":"Ann"}}'):
            joined = await watcher.next_of("joined")
            assert joined.packet["member"]["state"] == {"name": "Ann"}
        assert (await watcher.next_of("left")).packet["member"]["id"] == joined.packet["member"]["id"]


async def test_reader_that_is_too_slow_catches_up_or_is_closed(tmp_path: Path) -> None:
    """SPEC 12.2.3, G7: the policies of every subscription, and the bound of every outbox."""
    limits = {"max_outbox_bytes": 20_000}  # and drain_timeout as it is: a busy machine reads nothing for a while
    big = ["x" * 10_000] * 400
    async with running(tmp_path, limits=limits) as node:
        async with listening(node.url, "news", receive_buffer=4_096, overflow="disconnect") as slow:
            await publish(node, "news", *big)
            types = await slow.ended()
            assert "message" in types
            assert len(types) < len(big)
        async with listening(node.url, "news", receive_buffer=4_096, overflow="gap") as slow:
            await publish(node, "news", *big)
            assert (await slow.next_of("gap")).packet["reason"] == "slow"
            assert (await slow.next_of("caught_up")).id == slow.id


async def test_nothing_begins_where_one_subscription_is_refused(tmp_path: Path) -> None:
    """SPEC 12.1.1, 12.1.4: an error that comes before the stream is a plain one."""
    async with running(tmp_path, **settings(tmp_path)) as node:
        bearer = {"Authorization": f"Bearer {token('ann')}"}
        for target, status, name, field in (
            (events_target("rooms/1", "own/bob/x"), 403, "forbidden", "topic"),
            (events_target("rooms/#/x"), 400, "bad_topic", "topic"),
            (events_target("rooms/1", colour="red"), 400, "unsupported", "colour"),
            (events_target("rooms/1", overflow="burst"), 400, "unsupported", "overflow"),
            (events_target("rooms/1", after="nonsense"), 400, "malformed", "after"),
            (events_target("rooms/1", last_event_id="m0.x"), 400, "malformed", "last_event_id"),
            (events_target("rooms/1", last=2, since=3), 400, "malformed", "since"),
            (events_target("rooms/1", presence="{"), 400, "malformed", "presence"),
            (events_target("rooms/+", last=2), 400, "unsupported", "from"),
            (events_target(*["rooms/1"] * 33), 400, "malformed", "topic"),
            ("/v1/events", 400, "malformed", "topic"),
        ):
            reply = await ask(node.url, "GET", target, headers=bearer)
            assert (reply.status, reply.error["name"]) == (status, name), target
            assert reply.error.get("field") == field, target
        assert (await ask(node.url, "GET", events_target("rooms/1"))).status == 401
        assert len(node.broker.node.sessions) == 0


async def test_rights_that_change_end_it_and_say_why(tmp_path: Path) -> None:
    """SPEC 12.2.5, G10: revoked, kicked; what is withdrawn is refused to whoever comes back."""
    async with running(tmp_path, **settings(tmp_path)) as node:
        bearer = {"Authorization": f"Bearer {token('ann')}"}
        async with listening(node.url, "rooms/1", headers=bearer) as events:
            await node.ask("kick", user="ann")
            bye = await events.next_of("bye")
            assert bye.packet["code"] == 4006
            assert await events.ended() == []
        async with listening(node.url, "rooms/1", headers=bearer) as events:
            await node.ask("revoke", user="ann")
            assert (await events.next_of("bye")).packet["code"] == 4002
        reply = await ask(node.url, "GET", events_target("rooms/1"), headers=bearer)
        assert (reply.status, reply.error["name"]) == (403, "revoked")


async def test_drain_says_goodbye_with_a_time_of_return_for_each(node: Running) -> None:
    """SPEC 12.2.5, 5.3.5."""
    async with listening(node.url, "news") as one, listening(node.url, "news") as other:
        await node.ask("drain", seconds=0.1)
        for events in (one, other):
            assert (await events.next_of("bye")).packet["code"] == 4200
            assert await events.ended() == []
        assert one.retry > 0
        assert other.retry > 0


async def test_head_has_no_body_and_a_client_that_left_leaves_nothing(node: Running) -> None:
    wire = await Wire.open(node.url)
    async with wire.stream:
        assert (await wire.ask("HEAD", events_target("news"))).status == 200
    async with listening(node.url, "news"):
        pass
    with trio.fail_after(10):
        while node.broker.node.sessions:
            await trio.lowlevel.checkpoint()
    assert node.broker.router.live_subscriptions == 0


async def test_page_of_another_site_needs_to_be_allowed(tmp_path: Path) -> None:
    """S9: an EventSource and `fetch` of pages."""
    async with running(tmp_path, origins=["https://app.example"]) as node:
        page = {"Origin": "https://app.example"}
        async with listening(node.url, "news", headers=page) as events:
            assert events.reply.headers["access-control-allow-origin"] == "https://app.example"
        reply = await ask(node.url, "GET", events_target("news"), headers={"Origin": "https://evil.example"})
        assert reply.status == 403
        asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id"}
        reply = await ask(node.url, "OPTIONS", events_target("news"), headers=page | asks)
        assert reply.status == 204
        assert "Last-Event-ID" in reply.headers["access-control-allow-headers"]


async def test_token_in_the_url_only_where_it_is_allowed(tmp_path: Path) -> None:
    """S10: an EventSource can send no header."""
    async with running(tmp_path / "a", **settings(tmp_path)) as node:
        reply = await ask(node.url, "GET", events_target("rooms/1", token=token("ann")))
        assert reply.status in (400, 401)
    async with running(tmp_path / "b", **settings(tmp_path, query_token=True)) as node:
        target = events_target("rooms/1", token=token("ann"))
        wire = await Wire.open(node.url)
        async with wire.stream:
            assert (await wire.ask("GET", target)).status == 200
