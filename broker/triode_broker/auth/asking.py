"""What those who fetch keys and ask the callout want of HTTP: a face, so that `web` is loaded at need."""

from collections.abc import Mapping
from typing import Protocol

import attrs


class NoReply(Exception):
    """There was none, or none that can be used, and why; a sentence without its beginning."""


@attrs.frozen
class Reply:
    """What came back, whatever its status."""

    status: int
    body: bytes


class Ask(Protocol):
    """`web.Web.ask`."""

    async def __call__(
        self, url: str, *, body: bytes | None, headers: Mapping[str, str], max_bytes: int, timeout_seconds: float
    ) -> Reply:
        """GET, or POST where there is a body. Raises NoReply."""
