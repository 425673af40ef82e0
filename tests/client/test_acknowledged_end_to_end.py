"""The client and the real broker: state maps and conflated subscriptions (G7)."""

from typing import Any

import pytest
import trio
import triode

from tests.client.test_end_to_end import PATIENCE_SECONDS, running


async def test_state_map_in_a_compacted_topic() -> None:
    """Newest per key, then live; a deleted key is told and gone."""
    rule = {"filter": "state", "compact": True, "retention_messages": 1_000, "retention_bytes": 1_000_000}
    async with running(topics=[rule]) as url, triode.connect(url) as client:
        for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
            await client.publish("state", value, key=key)
        await client.delete_key("state", "b")
        async with client.subscribe("state", from_="last") as messages:
            state: dict[str, Any] = {}
            async for item in messages.events():
                if isinstance(item, triode.CaughtUp):
                    break
                assert isinstance(item, triode.Message)
                if not item.deletes_key:
                    state[item.key] = item.data
            assert state == {"a": 3, "c": 4}
            await client.delete_key("state", "a")
            with trio.fail_after(PATIENCE_SECONDS):
                last = await anext(messages)
            assert (last.key, last.deletes_key, last.data) == ("a", True, None)
        with pytest.raises(triode.PublishRefused, match="malformed"):
            await client.delete_key("other", "a")


async def test_conflating_subscriber_knows_the_newest_of_each_key_in_the_end() -> None:
    """G7"""
    async with (
        running() as url,
        triode.connect(url) as speaker,
        triode.connect(url, max_inbox_messages=20) as slow,
        slow.subscribe("a", overflow="conflate") as messages,
    ):
        for number in range(2_000):
            await speaker.send("a", number, key=str(number % 7))
        state: dict[str, int] = {}
        with trio.fail_after(PATIENCE_SECONDS):
            while state.get(str(1_999 % 7)) != 1_999:
                message = await anext(messages)
                state[message.key] = message.data
        assert set(state.values()) >= {1_999}
