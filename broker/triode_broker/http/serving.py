"""Serving: runs the operation that a request is for, in a task of its own, and sees to it that there is an answer.

Knows the table and the desk; the edge calls `take`. The surprising decision: a task per request, where a WebSocket
packet gets a call and nothing else. It costs 50 µs; but what is asked by HTTP may have to wait in the middle, for
a body, a disk or another node, and as many as may wait at a time are bounded.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec
import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.http.checking import check_body, check_query
from triode_broker.http.desk import Desk
from triode_broker.http.exchange import Answer, Carrier, Headers, Problem, Request, page_headers
from triode_broker.http.operations import Asked, Operation, Table

#: Headers that a page of another site may send, and read; and how long its browser need not ask again.
_MAY_SEND: Final = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, traceparent, tracestate"
_REMEMBERED_SECONDS: Final = "600"
FULL_MS: Final = 1_000  # until one may ask again who came when as many as may were asking


class Serving:
    """One per node, or per listener with another table. While `run` does not run, nobody is served."""

    def __init__(self, table: Table, desk: Desk) -> None:
        self._table = table
        self._desk = desk
        self._nursery: trio.Nursery | None = None
        self.in_progress = 0
        self.strangers = 0  # whose requests are not all there, and who they are is not known before that
        self.served = 0  # since the start
        self.refused = 0  # as there were too many
        self.counts: Counter[tuple[str, str]] = Counter()  # answers, by operation and status

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def take(self, carrier: Carrier) -> None:
        """Called by the edge, in its turn, with a request whose body may still be on its way."""
        if self._nursery is None or self.in_progress >= self._desk.node.limits.max_http_requests:
            _send(carrier, self._too_many().answer(), Request(carrier).id)
            return
        self.in_progress += 1
        scope = trio.CancelScope()
        carrier.on_lost = scope.cancel  # from now on: it may be lost before its task begins
        self._nursery.start_soon(self._serve, carrier, scope)

    def _too_many(self) -> Problem:
        self.refused += 1
        message = "too many requests are in progress: come back"
        return Problem(503, ErrorName.OVERLOADED, message, retry_after_ms=FULL_MS)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """`Asked.aside`: as many may wait there as may be in a handshake."""
        limits = self._desk.node.limits
        if self.strangers >= (limits.max_handshakes or limits.max_connections):
            raise self._too_many()
        self.in_progress -= 1
        self.strangers += 1
        try:
            yield
        finally:
            self.strangers -= 1
            self.in_progress += 1
        if self.in_progress > limits.max_http_requests:
            raise self._too_many()

    async def _serve(self, carrier: Carrier, scope: trio.CancelScope) -> None:
        """The request's barrier (S1)."""
        self.served += 1
        operation, request = "none", Request(carrier)
        try:
            operation = self._name_of(request)
            with scope:
                await trio.lowlevel.checkpoint_if_cancelled()
                answer = await self._answer(request)
                self.counts[operation, "200" if answer is None else str(answer.status)] += 1
                if answer is not None:
                    _send(carrier, answer, request.id)
        except Exception as error:
            self.counts[operation, "500"] += 1
            address = request.arrival.address
            self._desk.log.error(
                "request_failed", request=request.id, operation=operation, address=address, exc_info=error
            )
            problem = Problem(500, ErrorName.INTERNAL, "something went wrong here; it was logged")
            _send(carrier, problem.answer(), request.id)
        finally:
            self.in_progress -= 1
            self._desk.flush()

    def _name_of(self, request: Request) -> str:
        """As in the table: what is asked for and is not there has one name for all."""
        method = "GET" if request.method == "HEAD" else request.method
        try:
            operation, _ = self._table.find(method, request.path)
        except Problem:
            return "OPTIONS" if method == "OPTIONS" else "none"
        return f"{operation.method} {operation.path}"

    async def _answer(self, request: Request) -> Answer | None:
        """None: a stream has begun."""
        try:
            if request.method == "OPTIONS":
                return self._options(request)
            method = "GET" if request.method == "HEAD" else request.method
            operation, path = self._table.find(method, request.path)
            return await self._run(operation, request, path)
        except Problem as problem:
            return problem.answer()
        except Refused as refused:
            return Problem.of(refused).answer()

    def _options(self, request: Request) -> Answer:
        """What a browser asks before a page of another site may; its origin was looked at already."""
        methods = sorted({*self._table.methods(request.path), "OPTIONS"})
        headers = [
            ("Allow", ", ".join(methods)),
            ("Access-Control-Allow-Methods", ", ".join(methods)),
            ("Access-Control-Allow-Headers", _MAY_SEND),
            ("Access-Control-Max-Age", _REMEMBERED_SECONDS),
        ]
        return Answer(204, headers=headers)

    async def _run(self, operation: Operation, request: Request, path: Mapping[str, str]) -> Answer | None:
        if request.is_of_another_site and not operation.is_page:  # S9: it may join and subscribe without an answer
            raise Problem(
                403, ErrorName.FORBIDDEN, "a page of another site asks by a request that says its origin"
            )
        asked = Asked(request, self._desk, path, check_query(request.query, operation.query), aside=self._aside)
        if operation.takes_body and operation.content_type and request.content_type != operation.content_type:
            message = f"say Content-Type: {operation.content_type}"
            raise Problem(415, ErrorName.UNSUPPORTED, message, headers=[("Accept", operation.content_type)])
        if operation.body is not None:
            await self._desk.visitor(request)  # nobody's body is read before it is known whose (S2)
            asked.body = check_body(await request.body(), operation.body)
        answer = await operation.call(asked)
        if answer is None or isinstance(answer, Answer):
            return answer
        return Answer(operation.status, msgspec.json.encode(answer), operation.answer_type)


def _send(carrier: Carrier, answer: Answer, request_id: str) -> None:
    carrier.answer(answer.status, _headers(carrier, answer, request_id), answer.body)


def _headers(carrier: Carrier, answer: Answer, request_id: str) -> Headers:
    headers = [*answer.headers, ("X-Request-Id", request_id)]
    if answer.status != 204:
        headers.append(("Content-Type", answer.content_type))
    return headers + page_headers(carrier.origin)
