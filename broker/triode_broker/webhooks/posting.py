"""HTTP to an endpoint: one POST, and what it was answered in bounded time.

Knows httpx, nothing of events. The surprising decisions: only the status counts, so an answer's body is read for
as long as it is short and then cut off; and what arrives is not inflated.
"""

import ssl
from collections.abc import Mapping

import attrs
import httpx
import trio

from triode_broker.outbound import Outbound

#: Of an answer, that the connection may be used again. More is not read.
MAX_ANSWER_BYTES = 65_536


class NoReply(Exception):
    """There was none, and why; a sentence without its beginning."""


@attrs.frozen
class Reply:
    """What an endpoint has answered."""

    status: int
    retry_after: str = ""


class Poster:
    """One endpoint's connection, kept between requests; closed by `aclose`."""

    def __init__(self, verify: ssl.SSLContext | None = None) -> None:
        self._outbound = Outbound(2, verify)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float) -> Reply:
        """Raises NoReply: not reached, or too slow."""
        sent = {"content-type": "application/json", "accept-encoding": "identity", **headers}
        reply: Reply | None = None
        try:
            with trio.move_on_after(timeout_seconds) as scope:
                async with await self._outbound.send(url, body, sent) as response:
                    reply = Reply(response.status_code, response.headers.get("retry-after", ""))
                    size = 0
                    # Too much ends by cancelling, as too slow does (`auth.web`): a generator that is left
                    # unfinished would be closed by the garbage collector.
                    async for piece in response.aiter_raw():
                        size += len(piece)
                        if size > MAX_ANSWER_BYTES:
                            scope.cancel()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if reply is None:
                raise NoReply(f"not reached: {type(error).__name__}") from None
        if reply is None:
            raise NoReply(f"no answer within {timeout_seconds:g} s")
        return reply

    async def aclose(self) -> None:
        """Close all connections."""
        await self._outbound.aclose()
