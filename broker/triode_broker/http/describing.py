"""`GET /v1/openapi.json`: the document of all operations, open to everybody: it is the same at every broker."""

from functools import cache
from typing import Final

import msgspec

from triode_broker.http.exchange import Answer
from triode_broker.http.openapi import document
from triode_broker.http.operations import Asked, Operation


@cache
def text() -> bytes:
    """The document, made when it is first asked for."""
    from triode_broker.http.api import OPERATIONS as all_of_them  # which has this one, too

    return msgspec.json.encode(document(all_of_them))


async def describe(asked: Asked) -> Answer:
    """The document."""
    return Answer(200, text())


OPERATIONS: Final = (
    Operation("GET", "/v1/openapi.json", "This document", "description", describe, description="OpenAPI 3.1."),
)
