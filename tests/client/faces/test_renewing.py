"""A token is renewed on a live connection, in every face: what the program's function may do meanwhile.

That it works is shown by the scenario `renewed-while-connected`; each of these waits a second, the least there is
between two tokens.
"""

from typing import Any

import triode

from tests.client.broker import PATIENCE_SECONDS, Line
from tests.client.faces.face import Face, on_its_loop

RENEWS: dict[str, Any] = {"capabilities": ["batch", "auth"], "expires_in_ms": 1}


async def scene(line: Line) -> None:
    await line.accept(**RENEWS)
    await line.goodbye()


@on_its_loop
async def test_client_is_left_at_once_while_a_token_is_being_fetched(face: Face) -> None:
    calls = 0
    is_fetching = face.event()

    async def fetch() -> str:
        nonlocal calls
        calls += 1
        if calls > 1:
            is_fetching.set()
            await face.event().wait()  # nobody sets it
        return "first"

    async with face.playing(scene) as url, face.within(PATIENCE_SECONDS), face.connect(url, token=fetch):
        await is_fetching.wait()
    assert calls == 2


@on_its_loop
async def test_token_that_cannot_be_fetched_is_told_and_the_connection_stays(face: Face) -> None:
    tokens = iter(["first"])

    async def fetch() -> str:
        await face.checkpoint()
        if (token := next(tokens, "")) == "":
            raise LookupError("the vault is closed")
        return token

    connecting = face.connect
    async with face.playing(scene) as url, face.within(PATIENCE_SECONDS), connecting(url, token=fetch) as client:
        async for event in client.events():
            if isinstance(event, triode.Complaint):
                assert event == triode.Complaint("token", "the vault is closed")
                break
        assert client.state is triode.State.CONNECTED
