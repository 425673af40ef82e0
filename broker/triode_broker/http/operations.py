"""Operations: the table of what can be asked by HTTP. Routing, checking, the OpenAPI file and the docs read it.

Knows records and functions, no socket and no broker: what an operation works with it finds in its `Asked`. The
surprising decision: the table is plain data without a running broker in it, so that the file that describes it can
be made from it at build time.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final
from urllib.parse import unquote

import attrs
import msgspec
from triode_protocol.errors import ErrorName

from triode_broker.http.exchange import JSON, NOT_FOUND, Problem, Request


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A query without parameters."""


@attrs.define
class Asked:
    """One request that fits an operation, and what was found in it."""

    request: Request
    desk: Any  # what operations work with, made by the composition root: `desk.Desk`
    path: Mapping[str, str]  # the {parameters} of the path, decoded
    query: Any  # an instance of the operation's `query`
    body: Any = None  # an instance of its `body`
    #: While a stranger is waited for: who takes its time keeps no place from others (S6). Raises Problem.
    aside: Callable[[], AbstractContextManager[None]] = nullcontext


#: Returns what the answer's body is made from: an instance of `answer`, an `exchange.Answer` as it is, or None
#: where it has begun a stream. Raises Problem or Refused.
Call = Callable[[Asked], Awaitable[Any]]


@attrs.frozen
class Operation:
    """One thing that can be asked. Records are msgspec Structs: their fields and bounds are what is checked."""

    method: str
    path: str  # with {parameters}, each one segment, percent-encoded: "/v1/durable/{name}"
    summary: str
    tag: str
    call: Call
    query: type[msgspec.Struct] = Nothing  # a field that is a list may be repeated
    body: Any = None  # None: none is read for the operation; it may read the request's itself
    said_body: Any = None  # what the description says where that is more than what is checked first
    answer: Any = None
    status: int = 200
    errors: tuple[str, ...] = ()  # names that it may answer, beside those that all may
    content_type: str = JSON  # what the body has to be; "": there is none
    answer_type: str = JSON
    description: str = ""
    is_page: bool = False  # for a browser to show: links of other sites may lead to it

    @property
    def takes_body(self) -> bool:
        """Whether a request has one."""
        return self.method in ("POST", "PUT", "PATCH")


_PARAMETER: Final = "{"


class Table:
    """Which operation a request is for."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = tuple(operations)
        self._fixed: dict[str, dict[str, Operation]] = {}
        self._others: list[tuple[list[str], dict[str, Operation]]] = []
        for operation in self.operations:
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        if _PARAMETER not in operation.path:
            self._fixed.setdefault(operation.path, {})[operation.method] = operation
            return
        segments = operation.path.split("/")
        for known, methods in self._others:
            if known == segments:
                methods[operation.method] = operation
                return
        self._others.append((segments, {operation.method: operation}))

    def methods(self, path: str) -> Mapping[str, Operation]:
        """What may be asked of a path, still percent-encoded. Raises Problem where there is nothing."""
        return self._find(path)[0]

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        """The operation, and the {parameters} of its path. Raises Problem."""
        methods, parameters = self._find(path)
        operation = methods.get(method)
        if operation is None:
            allowed = ", ".join(sorted(methods))
            message = f"this path serves {allowed}"
            raise Problem(405, ErrorName.UNSUPPORTED, message, headers=[("Allow", allowed)])
        return operation, parameters

    def _find(self, path: str) -> tuple[Mapping[str, Operation], dict[str, str]]:
        if (methods := self._fixed.get(path)) is not None:
            return methods, {}
        segments = path.split("/")
        for known, others in self._others:
            if len(known) == len(segments) and all(map(_fits, known, segments)):
                return others, _parameters(known, segments)
        raise Problem(404, NOT_FOUND, "there is nothing at this path")


def _fits(ours: str, theirs: str) -> bool:
    return theirs != "" if ours[:1] == _PARAMETER else ours == theirs


def _parameters(known: list[str], segments: list[str]) -> dict[str, str]:
    try:
        return {
            ours[1:-1]: unquote(theirs, errors="strict")
            for ours, theirs in zip(known, segments, strict=True)
            if ours[:1] == _PARAMETER
        }
    except UnicodeDecodeError:
        raise Problem(400, ErrorName.MALFORMED, "the path is not UTF-8") from None
