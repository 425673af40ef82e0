"""What the administration listener has beside the API: the console's files, the page of metrics, and its tickets.

Knows the rows of operations. The surprising decision: the console's policy stands in the page and in the head of
the answer. A browser holds the page to both; that no other site may frame it can be said in the head alone.
"""

from typing import Any, Final

from triode_protocol.errors import ErrorName

from triode_broker.http.console_pages import console_routes
from triode_broker.http.exchange import NOT_FOUND, Answer, Problem
from triode_broker.http.metrics_operation import METRICS
from triode_broker.http.operating import forbidden, operator
from triode_broker.http.operations import Asked, Operation
from triode_broker.http.operator_answers import Ticket
from triode_broker.http.operator_records import Chosen, Query
from triode_broker.http.pages import Route

_OPERATOR: Final = "operator"  # the method of whoever has shown the listener's secret
TICKET_MS: Final = 60_000
_HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


async def give_ticket(asked: Asked) -> Ticket:
    """For the WebSocket of this listener, as a client of a tenant. Raises Problem, Refused."""
    if asked.desk.give_ticket is None:
        raise Problem(404, NOT_FOUND, "tickets are given by the administration listener")
    session, _ = await operator(asked)
    if session.identity.method != _OPERATOR:
        raise forbidden("tickets are for whoever has the secret of this listener")
    tenant = asked.body.tenant or getattr(asked.query, "tenant", "") or ""
    asked.desk.log.info("console_ticket", address=session.address, tenant=tenant)
    return Ticket(asked.desk.give_ticket(tenant), TICKET_MS)


#: In the document of the API, too.
OPERATIONS: Final = (
    Operation(
        "POST",
        "/v1/console/token",
        "A ticket for the WebSocket of the administration listener",
        "console",
        give_ticket,
        query=Query,
        body=Chosen,
        answer=Ticket,
        errors=(NOT_FOUND, ErrorName.FORBIDDEN),
        description="For whoever shows that listener's secret. Within a minute the ticket is the `token` of a "
        "`connect` there, as a client that may everything among those of one tenant.",
    ),
)


def pages() -> tuple[Operation, ...]:
    """Of the administration listener alone."""
    summary = "A file of the console"
    files = tuple(
        Operation("GET", path, summary, "console", _file(route), answer_type="text/html", is_page=True)
        for path, route in console_routes().items()
    )
    return (*files, METRICS)


def _file(route: Route) -> Any:
    status, content_type, body = route("")
    answer = Answer(status, body, content_type, _HEADERS)

    async def give(asked: Asked) -> Answer:
        return answer

    return give
