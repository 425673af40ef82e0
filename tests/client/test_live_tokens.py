"""Clients that fetch tokens, and a broker whose tokens soon expire: nobody notices (SPEC 11.2, 11.3)."""

from pathlib import Path

import pytest
import trio
import triode

from tests.client.running import PATIENCE_SECONDS, running
from tests.spec.guarded import settings, token

#: A notice comes at half of it, and clients then ask for the next one when four fifths of the rest have passed.
LIFE_SECONDS = 3.5


async def test_client_renews_its_token_and_its_connection_goes_on(tmp_path: Path) -> None:
    """Another client came with a token of the same time, and has lost its connection."""
    given = [token("alice", LIFE_SECONDS), token("alice")]
    last = token("bob", LIFE_SECONDS)

    async def fetch() -> str:
        return given.pop(0)

    async with (
        running(**settings(tmp_path)) as url,
        triode.connect(url, token=fetch) as client,
        client.subscribe("rooms/1") as subscription,
        triode.connect(url, token=last) as other,
    ):
        events = client.events()
        with trio.fail_after(PATIENCE_SECONDS):
            async for event in other.events():
                if isinstance(event, triode.StateChanged) and event.state is triode.State.WAITING:
                    break
        await client.publish("rooms/1", "still there")
        message = await anext(aiter(subscription))
        assert (message.data, message.user) == ("still there", "alice")
        await client.aclose()
        states = [event.state async for event in events if isinstance(event, triode.StateChanged)]
    assert triode.State.WAITING not in states
    assert not given


async def test_client_that_is_refused_says_why(tmp_path: Path) -> None:
    async with running(**settings(tmp_path)) as url:
        with pytest.raises(triode.ConnectionRefused, match="unauthorized"):
            async with triode.connect(url, token="rubbish"):
                pass
