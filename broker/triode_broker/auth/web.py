"""HTTP to an identity provider or a callout: one request, one bounded answer in bounded time.

Knows httpx, nothing of what is asked. The surprising decisions: no redirect is followed, because the address is
the configuration's to say; no proxy is taken from the environment; and what arrives is not inflated.
"""

import ssl
from collections.abc import Mapping

import httpx
import trio

from triode_broker.auth.asking import NoReply, Reply


class Web:
    """Connections that are kept between requests; closed by `aclose`."""

    def __init__(self, max_connections: int) -> None:
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(),  # the system's authorities, or those of SSL_CERT_FILE
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # one for all stands in `ask`
            limits=httpx.Limits(max_connections=max_connections, keepalive_expiry=30),
        )

    async def ask(
        self, url: str, *, body: bytes | None, headers: Mapping[str, str], max_bytes: int, timeout_seconds: float
    ) -> Reply:
        """GET, or POST where there is a body. Raises NoReply: not reached, too slow, too much."""
        sent = {"accept": "application/json", "accept-encoding": "identity", **headers}
        body_read = bytearray()
        try:
            with trio.move_on_after(timeout_seconds) as scope:
                async with self._client.stream(
                    "GET" if body is None else "POST", url, content=body, headers=sent
                ) as response:
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
        await self._client.aclose()
