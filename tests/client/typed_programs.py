"""Programs as users write them, one for each kind of face, for the type checker: it must know what calls give.

Nobody runs them. They import the public names alone.
"""

from typing import Any, assert_type

import triode
import triode.asyncio


async def token() -> str:
    """Fetched somewhere."""
    return "secret"


async def on_trio() -> None:
    """`import triode`."""
    async with triode.connect("ws://broker", token=token, max_queue_messages=5, encode=vars) as client:
        assert_type(client, triode.Client)
        assert_type(client.state, triode.State)
        assert_type(await client.publish("a", {"x": 1}), triode.Published)
        receipt = client.publish_nowait("a", b"bytes", headers={"h": "v"})
        assert_type(receipt, triode.Receipt)
        assert_type(await receipt.wait(), triode.Published)
        draft: triode.Draft = {"topic": "a", "data": 1, "ttl_ms": 1_000}
        assert_type(await client.publish_many([("a", 1), draft]), list[triode.Published])
        assert_type(await client.history("a", last=10), triode.HistoryPage)
        assert_type(await client.presence("a"), triode.Presence)
        async with client.subscribe("a/#", from_={"last": 5}) as messages:
            assert_type(messages, triode.Messages)
            async for message in messages:
                assert_type(message, triode.Message)
                assert_type(message.data, Any)
                assert_type(messages.position, dict[str, int])
            async for item in messages.events():
                assert_type(item, triode.Message | triode.Gap | triode.CaughtUp | triode.Joined | triode.Left)
        async with client.consume("jobs", durable="worker") as jobs:
            assert_type(jobs, triode.Deliveries)
            async for job in jobs:
                assert_type(job, triode.Delivery)
                with job:
                    pass
                async with job as same:
                    assert_type(same, triode.Delivery)
        async for event in client.events():
            assert_type(
                event,
                triode.StateChanged
                | triode.HandshakesRefused
                | triode.Complaint
                | triode.Notice
                | triode.HeldBack,
            )


async def on_asyncio() -> None:
    """`import triode.asyncio`."""
    client = triode.asyncio.connect(["ws://one", "ws://other"], token="secret", will=triode.Will("a", 1))
    assert_type(client, triode.asyncio.Client)
    assert_type(await client.open(), triode.asyncio.Client)
    try:
        assert_type(await client.publish("a", 1), triode.asyncio.Published)
    except triode.PublishManyFailed as failed:
        assert_type(failed.results, list[triode.Published | triode.TriodeError])
    await client.aclose()
    async with triode.asyncio.connect("ws://broker") as entered, entered.subscribe("a") as messages:
        assert_type(entered, triode.asyncio.Client)
        assert_type(await anext(messages), triode.asyncio.Message)
