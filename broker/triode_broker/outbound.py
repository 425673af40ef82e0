"""Outbound: HTTP to places that the settings name, as callouts, key servers and webhooks are asked.

Knows httpx, nothing of what is asked. The surprising decisions: no redirect is followed, because the address is
the configuration's to say; no proxy is taken from the environment; and a body is not httpx's own, a generator: to
be cancelled in the midst of sending would leave that unfinished, for the garbage collector to complain of.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing

import httpx


class _Body(httpx.AsyncByteStream):
    """What is sent, in one piece."""

    def __init__(self, body: bytes) -> None:
        self._pieces = [body]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


class Outbound:
    """Connections that are kept between requests; closed by `aclose`. Time is the caller's to bound."""

    def __init__(self, max_connections: int, verify: ssl.SSLContext | None = None) -> None:
        self._client = httpx.AsyncClient(
            verify=verify or ssl.create_default_context(),  # the system's authorities, or those of SSL_CERT_FILE
            trust_env=False,
            follow_redirects=False,
            timeout=None,
            limits=httpx.Limits(max_connections=max_connections, keepalive_expiry=30),
        )

    async def send(
        self, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """GET, or POST where there is a body; the answer is yet to be read. Raises httpx's errors, OSError."""
        request = self._client.build_request("GET" if body is None else "POST", url, content=body, headers=headers)
        if body is not None:
            request.stream = _Body(body)
        return aclosing(await self._client.send(request, stream=True))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()
