"""HTTP to an identity provider or a callout: one request, one bounded answer in bounded time.

Knows httpx, nothing of what is asked. The surprising decision: what arrives is not inflated.
"""

from collections.abc import Mapping

import httpx
import trio

from triode_broker.auth.asking import NoReply, Reply
from triode_broker.outbound import Outbound


class Web:
    """Connections that are kept between requests; closed by `aclose`."""

    def __init__(self, max_connections: int) -> None:
        self._outbound = Outbound(max_connections)

    async def ask(
        self, url: str, *, body: bytes | None, headers: Mapping[str, str], max_bytes: int, timeout_seconds: float
    ) -> Reply:
        """GET, or POST where there is a body. Raises NoReply: not reached, too slow, too much."""
        sent = {"accept": "application/json", "accept-encoding": "identity", **headers}
        body_read = bytearray()
        try:
            with trio.move_on_after(timeout_seconds) as scope:
                async with await self._outbound.send(url, body, sent) as response:
                    # Too much ends by cancelling, as too slow does: a generator that is left unfinished, of which
                    # there are four here, one inside the other, would be closed by the garbage collector.
                    async for piece in response.aiter_raw():
                        body_read += piece
                        if len(body_read) > max_bytes:
                            scope.cancel()
                    if len(body_read) <= max_bytes:
                        return Reply(response.status_code, bytes(body_read))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NoReply(f"not reached: {type(error).__name__}") from None
        if len(body_read) > max_bytes:
            raise NoReply(f"an answer of more than {max_bytes} bytes")
        raise NoReply(f"no answer within {timeout_seconds:g} s")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._outbound.aclose()
