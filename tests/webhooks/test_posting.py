"""One POST to an endpoint, where it does not go as it should."""

import gc
import socket

import pytest
from triode_broker.webhooks.posting import NoReply, Poster


async def test_a_body_that_nobody_reads_leaves_nothing_for_the_garbage_collector() -> None:
    """A warning is an error here; in a broker it would be a raw line in the log (S27)."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        poster = Poster()
        with pytest.raises(NoReply, match="no answer within"):
            await poster.post(f"http://127.0.0.1:{deaf.getsockname()[1]}/", bytes(32_000_000), {}, 0.2)
        await poster.aclose()
    gc.collect()
