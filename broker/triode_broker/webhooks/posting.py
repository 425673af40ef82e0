"""HTTP to an endpoint: one POST, and what it was answered in bounded time.

Knows httpx, nothing of events. The surprising decisions: only the status counts, so an answer's body is read for
as long as it is short and then cut off; no redirect is followed, because where events go is the configuration's to
say; no proxy is taken from the environment; and what arrives is not inflated.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import attrs
import httpx
import trio

#: Of an answer, that the connection may be used again. More is not read.
MAX_ANSWER_BYTES = 65_536


class NoReply(Exception):
    """There was none, and why; a sentence without its beginning."""


@attrs.frozen
class Reply:
    """What an endpoint has answered."""

    status: int
    retry_after: str = ""


class _Body(httpx.AsyncByteStream):
    """What is sent. httpx's own is a generator: to be cancelled in the midst of sending leaves it unfinished."""

    def __init__(self, body: bytes) -> None:
        self._pieces = [body]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


class Poster:
    """One endpoint's connection, kept between requests; closed by `aclose`."""

    def __init__(self, verify: ssl.SSLContext | None = None) -> None:
        self._client = httpx.AsyncClient(
            verify=verify or ssl.create_default_context(),  # the system's authorities, or those of SSL_CERT_FILE
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # one for all stands in `post`
            limits=httpx.Limits(max_connections=2, keepalive_expiry=30),
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float) -> Reply:
        """Raises NoReply: not reached, or too slow."""
        sent = {"content-type": "application/json", "accept-encoding": "identity", **headers}
        reply: Reply | None = None
        try:
            with trio.move_on_after(timeout_seconds) as scope:
                request = self._client.build_request("POST", url, content=body, headers=sent)
                request.stream = _Body(body)
                response = await self._client.send(request, stream=True)
                async with aclosing(response):
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
        await self._client.aclose()
