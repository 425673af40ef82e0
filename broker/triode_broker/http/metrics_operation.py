"""`GET /metrics`: the page of metrics by HTTP, for who has the right to operate the call `metrics`.

Knows the call; who may is `http.operating`'s business, the page that of `http.metrics_page`. The surprising
decision: it is an operation like any other. A scrape costs its identity a request, is refused without the right,
and on an open broker is answered to this machine alone: figures tell a stranger how busy a place is.
"""

from typing import Final

import attrs
import msgspec

from triode_broker.http.exchange import Answer
from triode_broker.http.operating import Operating
from triode_broker.http.operations import Asked, Operation

PATH: Final = "/metrics"
_MAX_ACCEPT_CHARACTERS: Final = 1_024
_OPERATING: Final = Operating("metrics")


class _Accept(msgspec.Struct):
    """What the format is chosen by."""

    accept: str


async def _metrics(asked: Asked) -> Answer:
    """Raises Refused, Problem."""
    accept = asked.request.headers.get(b"accept", b"").decode("latin-1")[:_MAX_ACCEPT_CHARACTERS]
    answer = await _OPERATING(attrs.evolve(asked, query=_Accept(accept)))
    page = msgspec.json.decode(answer.body)
    return Answer(200, page["text"].encode(), page["content_type"])


METRICS: Final = Operation(
    "GET",
    PATH,
    "What this host counts, for Prometheus",
    "operating",
    _metrics,
    answer_type="text/plain",
    description="Text or OpenMetrics, by the header Accept. Needs the right `operate` for `metrics`.",
)
