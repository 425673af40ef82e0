"""The OpenAPI 3.1 document of this node's HTTP operations, and their table for the docs: both made from the rows.

Knows rows, records and what an error looks like; nothing is asked of a broker, so `make generate` writes the same
document to protocol/openapi.json that `GET /v1/openapi.json` gives. The surprising decision: every operation names
every error that can come from whoever stands before it (credentials, rates, sizes), not only its own. A program
that is made from the document has to meet them.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from triode_protocol.errors import ErrorName

from triode_broker.http.examples import EXAMPLES
from triode_broker.http.exchange import JSON, STATUS
from triode_broker.http.operations import Operation
from triode_broker.http.publishing import Failed
from triode_broker.http.schemas import Schemas

Document = dict[str, Any]

#: Of the API, which grows as long as it is 1.
VERSION: Final = "1.0.0"

_ABOUT: Final = """\
What can be asked of a Triode broker over HTTP, on the port of its WebSockets. A credential (token or API key) is
what it is there: `Authorization: Bearer`; without one a client is anonymous, where that is allowed. An error is
the `error` of the wire protocol (SPEC 5.1) with a fitting status. Names in paths are percent-encoded."""
_TAGS: Final = {
    "messages": "For clients: publish, read, subscribe.",
    "links": "A session of the wire protocol over HTTP: for clients where no WebSocket opens.",
    "clients": "For operators: who is connected, what they are subscribed to, and to send them away.",
    "durable subscriptions": "For operators: names, where they stand, and their dead letters.",
    "nodes": "For operators: what nodes count, say of each other, and are told.",
    "console": "On the administration listener.",
    "description": "This document.",
}
#: What any operation may answer, because of who asks, how much, or when.
_ALWAYS: Final = (400, 401, 403, 405, 413, 429, 500, 503, 504)
_WITH_BODY: Final = (408, 415)
#: Beside the status of the row: where some of what was asked was not done.
_ALSO: Final = {"/v1/publish/batch": (207,)}
_WORDS: Final = {
    400: "The request is not what this operation takes; `field` names what is wrong.",
    401: "No valid credential, or one that has expired.",
    403: "The rules in force do not allow this, or the credential was revoked.",
    404: "There is nothing of that name.",
    405: "This path serves other methods; `Allow` names them.",
    408: "The body did not come in time.",
    409: "Something else is there already, or the state does not fit.",
    413: "The request, or a part of it, is larger than its limit.",
    415: "The body is not of the content type that this operation takes.",
    429: "Too many in too short a time, or an allowance is used up.",
    500: "Something went wrong here; the broker's log has it.",
    503: "Not now: come back after `Retry-After`.",
    504: "The outcome is not known: it took too long.",
}


def document(operations: Iterable[Operation]) -> Document:
    """The whole of it."""
    rows = list(operations)
    wanted = [Failed, *(one for row in rows for one in (row.query, _body(row), row.answer) if one is not None)]
    schemas = Schemas(wanted)
    paths: dict[str, Document] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schemas)
    for row in rows:
        schemas.forget(row.query)
    tags = [
        {"name": name, "description": text} for name, text in _TAGS.items() if name in {row.tag for row in rows}
    ]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Triode HTTP API",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "http://127.0.0.1:7400", "description": "Where `triode serve` listens when nothing is set."}
        ],
        "tags": tags,
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token (JWT) or an API key."}
            },
            "responses": {_response_name(status): _failure(status) for status in sorted(_WORDS)},
            "schemas": schemas.components,
        },
    }


def _body(row: Operation) -> Any:
    return row.said_body or row.body


def _operation(row: Operation, schemas: Schemas) -> Document:
    examples = EXAMPLES.get((row.method, row.path), {})
    made: Document = {
        "operationId": operation_id(row),
        "summary": row.summary,
        "tags": [row.tag],
        **({"description": row.description} if row.description else {}),
        "parameters": [*_path_parameters(row, examples), *_query_parameters(row, schemas, examples)],
        "responses": {
            **{str(status): _answer(row, schemas, examples) for status in (row.status, *_ALSO.get(row.path, ()))},
            **_failures(row),
        },
    }
    if row.takes_body:
        made["requestBody"] = _request_body(row, schemas, examples)
    return made


def operation_id(row: Operation) -> str:
    """A name for programs: get_connections, delete_connections_id."""
    words = re.findall(r"[a-z]+", row.path.removeprefix("/v1/").lower())
    return "_".join([row.method.lower(), *words])


def _path_parameters(row: Operation, examples: Mapping[str, Any]) -> list[Document]:
    shown = examples.get("path", {})
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "Percent-encoded.",
            "schema": {"type": "string", "minLength": 1},
            **({"example": shown[name]} if name in shown else {}),
        }
        for name in re.findall(r"{(\w+)}", row.path)
    ]


def _query_parameters(row: Operation, schemas: Schemas, examples: Mapping[str, Any]) -> list[Document]:
    properties, required = schemas.properties(row.query)
    shown = examples.get("query", {})
    found = []
    for name, schema in properties.items():
        described = {**schema}
        text = described.pop("description", "")
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in required,
                **({"description": text} if text else {}),
                "schema": described,
                **({"example": shown[name]} if name in shown else {}),
            }
        )
    return found


def _request_body(row: Operation, schemas: Schemas, examples: Mapping[str, Any]) -> Document:
    record = _body(row)
    schema = schemas.of(record) if record is not None and row.content_type == JSON else {"type": "string"}
    if record is None and row.content_type == JSON:
        schema = {}  # packets of the wire protocol
    media = {"schema": schema, **({"example": examples["body"]} if "body" in examples else {})}
    return {"required": True, "content": {row.content_type or "*/*": media}}


def _answer(row: Operation, schemas: Schemas, examples: Mapping[str, Any]) -> Document:
    made: Document = {"description": row.summary + "."}
    if row.status != HTTPStatus.NO_CONTENT:
        schema: Document = {} if row.answer_type == JSON else {"type": "string"}
        if row.answer_type == JSON and row.answer is not None:
            schema = schemas.of(row.answer)
        shown = {"example": examples["answer"]} if "answer" in examples else {}
        made["content"] = {row.answer_type: {"schema": schema, **shown}}
    return made


def _failures(row: Operation) -> Document:
    own = {STATUS[name] for name in row.errors}
    named = {404} if "{" in row.path else set()
    statuses = sorted({*_ALWAYS, *own, *named, *(_WITH_BODY if row.takes_body else ())})
    return {str(status): {"$ref": f"#/components/responses/{_response_name(status)}"} for status in statuses}


def _response_name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")


def _failure(status: int) -> Document:
    names = [name for name, answered in STATUS.items() if answered == status] or [
        {405: ErrorName.UNSUPPORTED, 408: ErrorName.TIMEOUT, 415: ErrorName.UNSUPPORTED}[status]
    ]
    words = " or ".join(f"`{name}`" for name in names)
    made: Document = {
        "description": f"{_WORDS[status]} `error.name` is {words}.",
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Failed"}}},
    }
    if status in (429, 503):
        made["headers"] = {
            "Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 1}}
        }
    return made


def operations_table(operations: Iterable[Operation]) -> str:
    """All of them as a table in Markdown, for the docs."""
    lines = ["| | path | what | right |", "| --- | --- | --- | --- |"]
    for row in operations:
        call = getattr(row.call, "call", "")
        right = f"`operate`: `{call.replace('.', '/')}`" if call else ""
        lines.append(f"| {row.method} | `{row.path}` | {row.summary} | {right} |")
    return "\n".join(lines) + "\n"
