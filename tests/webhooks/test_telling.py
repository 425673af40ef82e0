"""Events of a real broker at a real endpoint: what is told, signed how, again after which answers."""

import re
import time
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
import triode
from msgspec.structs import replace
from triode_broker.cli.webhooks import as_text
from triode_broker.config import Webhook
from triode_broker.core.events import TOPICS
from triode_broker.core.identity import Identity
from triode_broker.http import operator_answers

from tests.auth.endpoint import reply
from tests.webhooks.sink import SECRET, Sink, by_key, hooked, is_signed, row, token_of

NO_CONTENT = reply(b"", "204 No Content")


async def test_clients_members_and_topics_are_told(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with hooked(tmp_path, nursery, limits={"vacated_after_ms": 10}) as (node, sink):
        async with triode.connect(node.url) as client:
            async with client.subscribe("rooms/1", presence={"state": {"name": "ada"}}):
                await sink.kinds(3)
            await sink.until(lambda: len(sink.taken) >= 5)
        await sink.until(lambda: len(sink.taken) >= 6)
    kinds = sorted(event["kind"] for event in sink.taken)
    assert kinds == sorted(set(TOPICS) - {"dead_letter", "events.lost"})
    joined, left = sink.of("member.joined")[0], sink.of("member.left")[0]
    assert (joined["topic"], joined["state"], joined["member"]) == ("rooms/1", {"name": "ada"}, left["member"])
    assert sink.of("client.disconnected")[0]["code"] == 1000
    assert all(is_signed(seen) for seen in sink.requests)


async def test_dead_letters_are_told_and_those_of_webhooks_are_not(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Else each failure of an endpoint would make an event that fails there too."""
    sink = Sink(lambda seen: reply(b"", "500 No") if b"client.connected" in seen.body else NO_CONTENT)
    rows = [{"events": ["dead_letter", "client.connected"], "max_attempts": 2, "batch": 1}]
    async with hooked(tmp_path, nursery, sink, rows=rows) as (node, _):
        async with triode.connect(node.url) as client:
            await client.publish("jobs/a", {"n": 1}, message_id="one")
            async with client.consume("jobs/#", durable="work", from_="earliest") as jobs:
                await (await anext(jobs)).reject()
            await sink.until(lambda: bool(sink.of("dead_letter")))
        (letter,) = sink.of("dead_letter")
        assert (letter["name"], letter["topic"], letter["reason"], letter["attempts"]) == (
            "work", "jobs/a", "rejected", 1,
        )  # fmt: skip
        names = {one["name"] for one in await node.names("dead.list")}
        assert names == {"work", "webhook:hook"}


async def test_what_fails_is_told_again_with_the_same_id_until_it_is_taken(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Errors, redirects, garbage, hanging up and huge answers: none ends it, and nothing is lost or changed."""
    elsewhere = await Sink().start(nursery)
    bad = iter([
        reply(b"", "500 No"),
        reply(b"", "302 Found", f"Location: {elsewhere.url}"),
        b"this is not HTTP\r\n\r\n",
        b"",
        reply(b"x" * 200_000, "503 Later", "Retry-After: 0"),
        reply(b"", "429 Slower", "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"),
        reply(b"", "404 Not yet"),
    ])  # fmt: skip
    sink = Sink(lambda _: next(bad, NO_CONTENT))
    async with hooked(tmp_path, nursery, sink, rows=[{"events": ["client.connected"]}]) as (node, _):
        async with triode.connect(node.url):
            await sink.kinds(1)
        assert elsewhere.requests == []
        ids = {seen.json["id"] for seen in sink.requests}
        assert len(ids) == 1
        assert len(sink.requests) == 8
        assert {seen.json["events"][0]["id"] for seen in sink.requests} == {sink.taken[0]["id"]}
        (row,) = (await node.ask("webhooks"))["webhooks"]
        assert row["state"] in ("telling", "waiting")
        assert (row["delivered"], row["failed"], row["failures"]) == (1, 7, 0)
        assert "404" in row["last_error"]


async def test_an_endpoint_that_hangs_keeps_no_other_waiting(tmp_path: Path, nursery: trio.Nursery) -> None:
    hanging, sink = await Sink(lambda _: None).start(nursery), Sink()
    rows = [{}, {"name": "hanging", "url": hanging.url}]
    async with hooked(tmp_path, nursery, sink, rows=rows) as (node, _), triode.connect(node.url) as client:
        await sink.kinds(1)
        await hanging.until(lambda: bool(hanging.requests))
        assert (await client.publish("a", 1)).level == "memory"


async def test_what_an_endpoint_refuses_does_not_stop_the_others_and_becomes_a_dead_letter(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """One event is at fault: it is found among those that came with it."""
    sink = Sink(lambda seen: reply(b"", "422 No") if b'"rooms/bad"' in seen.body else NO_CONTENT)
    rows = [{"events": ["topic.occupied"], "max_attempts": 3, "linger_ms": 50}]
    async with hooked(tmp_path, nursery, sink, rows=rows) as (node, _), triode.connect(node.url) as client:
        async with client.subscribe("rooms/a"), client.subscribe("rooms/bad"), client.subscribe("rooms/z"):
            await sink.until(lambda: {event["topic"] for event in sink.taken} == {"rooms/a", "rooms/z"})
            with trio.fail_after(30):
                while not await node.names("dead.list"):
                    await trio.testing.wait_all_tasks_blocked(0.001)
        (letter,) = (await node.ask("dead.list", name="webhook:hook"))["letters"]
        assert (letter["data"]["topic"], letter["attempts"]) == ("rooms/bad", 3)


async def test_an_endpoint_that_is_gone_is_left_alone_until_a_test_is_taken(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    is_back: list[bool] = []
    sink = Sink(lambda _: NO_CONTENT if is_back else reply(b"", "410 Gone"))
    async with hooked(tmp_path, nursery, sink, rows=[{"events": ["client.*"]}]) as (node, _):
        async with triode.connect(node.url):
            await sink.until(lambda: bool(sink.requests))
        assert (await node.ask("webhooks.test", name="hook"))["status"] == 410
        (row,) = (await node.ask("webhooks"))["webhooks"]
        assert row["state"] == "gone"
        assert msgspec.to_builtins(msgspec.convert(row, operator_answers.Webhook)) == row
        shown = as_text(await node.ask("webhooks"))
        assert re.search(r"^hook +n1 +gone .*\nhook at n1: answered 410$", shown, re.MULTILINE), shown
        assert "gone" in repr(node.broker.reporting.health()["degraded"])
        assert len(sink.requests) == 2
        is_back.append(True)
        assert (await node.ask("webhooks.test", name="hook"))["ok"]
        assert await sink.kinds(3) == ["webhook.test", "client.connected", "client.disconnected"]
        assert "no webhook" in await node.refused("webhooks.test", name="other")


async def test_events_of_one_thing_come_in_the_order_in_which_they_happened(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    answers = iter([reply(b"", "500 No"), NO_CONTENT] * 200)
    sink = Sink(lambda _: next(answers))
    rows = [{"events": ["member.*"], "batch": 3, "max_attempts": 100}]
    async with hooked(tmp_path, nursery, sink, rows=rows) as (node, _):
        async with triode.connect(node.url) as client:
            for number in range(12):
                async with client.subscribe(f"rooms/{number % 3}", presence={"state": number}):
                    pass
        await sink.until(lambda: len(sink.taken) >= 24)
    assert len({event["id"] for event in sink.taken}) == 24
    by_member: dict[str, list[str]] = {}
    for event in sink.taken:
        by_member.setdefault(event["member"], []).append(event["kind"])
    assert set(map(tuple, by_member.values())) == {("member.joined", "member.left")}


async def test_tenants_see_their_own_events_only(tmp_path: Path, nursery: trio.Nursery) -> None:
    """S23: two tenants, the same topics."""
    theirs, sink = await Sink().start(nursery), Sink()
    rows = [{"tenant": "acme", "topics": ["rooms/#"]}, {"name": "other", "url": theirs.url, "tenant": "other"}]
    async with hooked(tmp_path, nursery, sink, rows=rows, **by_key(tmp_path)) as (node, _):
        for tenant in ("acme", "other"):
            async with (
                triode.connect(node.url, token=token_of(tenant)) as client,
                client.subscribe("rooms/1", presence={"state": tenant}),
                client.subscribe("halls/1"),
            ):
                pass
        for one in (sink, theirs):
            await one.until(lambda one=one: bool(one.of("client.disconnected")))  # type: ignore[misc]  # bound now
    assert {event["tenant"] for event in sink.taken} == {"acme"}
    assert {event["tenant"] for event in theirs.taken} == {"other"}
    assert {event.get("topic", "rooms/1") for event in sink.taken} == {"rooms/1"}
    assert {event["topic"] for event in theirs.of("topic.occupied")} == {"rooms/1", "halls/1"}


async def test_nobody_reads_events_or_takes_a_webhooks_name_who_was_not_allowed_to(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """S13, S16: not even where everything is allowed."""
    async with hooked(tmp_path, nursery) as (node, _), triode.connect(node.url) as client:
        with pytest.raises(triode.SubscriptionEnded, match="do not allow"):
            async with client.subscribe("$events/#"):
                pass
        for filter, name in (("$events/#", "work"), ("jobs/#", "webhook:hook")):
            with pytest.raises(triode.SubscriptionEnded, match=r"do not allow|broker's own"):
                async with client.consume(filter, durable=name):
                    pass
        with pytest.raises(triode.TriodeError):
            await client.publish("$events/clients", {})
        with pytest.raises(triode.TriodeError):
            await client.history("$events/clients")


async def test_secrets_are_told_to_nobody(tmp_path: Path, nursery: trio.Nursery) -> None:
    """S10, S27: neither the secret nor what stands behind the ? of a URL."""
    sink = await Sink(lambda _: reply(b"", "500 No")).start(nursery)
    rows = [{"url": f"{sink.url}?key=canary-in-a-query"}]
    async with hooked(tmp_path, nursery, sink, rows=rows) as (node, _):
        async with triode.connect(node.url):
            await sink.until(lambda: len(sink.requests) > 6)
        said = repr(node.log.events) + repr(await node.ask("webhooks")) + repr(node.broker.reporting.health())
        said += repr(await node.ask("figures")) + repr(await node.ask("metrics"))
    assert SECRET not in said
    assert "canary" not in said
    assert node.log.told("webhook_failing")


async def test_a_reload_adds_changes_and_ends_webhooks_and_both_secrets_sign(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    sink = Sink()
    async with hooked(tmp_path, nursery, sink, rows=[]) as (node, _):
        config = node.broker.reloading.config
        async with triode.connect(node.url) as client, client.subscribe("rooms/1"):
            old = tmp_path / "old.secret"
            old.write_text("the-secret-that-was-there-before")
            old.chmod(0o600)
            first = row(sink, tmp_path, events=["client.disconnected", "topic.*"], old_secret_file=str(old))
            rows = msgspec.convert([first], tuple[Webhook, ...])
            node.broker.reloading.reload(replace(config, webhooks=rows))
            assert node.broker.reloading.changed == ["webhooks"]
            async with triode.connect(node.url):
                pass
            await sink.kinds(1)
            assert is_signed(sink.requests[0], "the-secret-that-was-there-before")
            assert is_signed(sink.requests[0])
        await sink.until(lambda: bool(sink.of("topic.vacated")) or len(sink.taken) >= 1)
        node.broker.reloading.reload(replace(node.broker.reloading.config, webhooks=()))
        assert (await node.ask("webhooks"))["webhooks"] == []
        missing = msgspec.convert([{**first, "secret_file": str(tmp_path / "none")}], tuple[Webhook, ...])
        node.broker.reloading.reload(replace(node.broker.reloading.config, webhooks=missing))
        assert "webhooks #1 secret_file" in node.broker.reloading.failure


async def test_while_an_endpoint_is_away_memory_is_bounded_and_what_is_lost_is_told(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """10,000 events, of which retention keeps 1,000."""
    is_back: list[bool] = []
    sink = Sink(lambda _: NO_CONTENT if is_back else reply(b"", "503 Away"))
    rule = {"filter": "$events/#", "retention_messages": 1_000}
    rows = [{"batch": 500, "max_attempts": 1_000, "backoff_min_ms": 20}]
    async with hooked(tmp_path, nursery, sink, rows=rows, topics=[rule], data="") as (node, _):
        async with triode.connect(node.url):
            await sink.until(lambda: bool(sink.requests))
        events = node.broker.node.events
        assert events is not None
        for number in range(10_000):
            events.connected(f"c-{number}", Identity(user="u"), "127.0.0.1")
            if number % 500 == 0:
                await trio.lowlevel.checkpoint()
        (name,) = (one for one in node.broker.node.consumers.by_name.values() if "webhook:" in one.name)
        assert name.held_bytes <= node.broker.config.limits.max_consumer_bytes + 100_000
        assert node.broker.router.shard_of("$events/clients").log.head() >= 10_000
        is_back.append(True)
        await sink.until(lambda: bool(sink.of("events.lost")) and len(sink.taken) >= 1_000)
    assert {event["reason"] for event in sink.of("events.lost")} == {"retention"}


@pytest.mark.parametrize(
    ("state", "lag", "retry_in_ms", "shown"),
    [
        ("waiting", 0, 0, "idle"),
        ("waiting", 3, 0, "waiting"),
        ("waiting", -1, 0, "waiting"),
        ("failing", 3, 3_600_000, r"retrying in 3(600|599|59\d) s"),
        ("failing", 3, -1_000, "failing"),
    ],
)
def test_state_is_shown_as_what_it_means(state: str, lag: int, retry_in_ms: int, shown: str) -> None:
    counts = dict.fromkeys(("delivered", "failed", "buried", "gaps"), 0)
    retry_at_ms = time.time_ns() // 1_000_000 + retry_in_ms
    known = {
        "name": "hook",
        "node": "n1",
        "url": "http://a",
        "state": state,
        "lag": lag,
        "last_error": "",
        **counts,
    }
    text = as_text({"webhooks": [{**known, "retry_at_ms": retry_at_ms}]})
    assert re.search(rf"^hook +n1 +{shown} ", text, re.MULTILINE), text
