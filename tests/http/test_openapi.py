"""The OpenAPI document: valid, whole, with examples that hold, and the same as a broker gives."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from triode_broker.admin import clients, dead, figures, tail
from triode_broker.http import api, operator_records
from triode_broker.http.checking import check_query
from triode_broker.http.examples import EXAMPLES
from triode_broker.http.openapi import document, operation_id, operations_table
from triode_broker.http.operations import Operation

from tests.house.tree import ROOT
from tests.http.asking import served

DOCUMENT: dict[str, Any] = json.loads((ROOT / "protocol" / "openapi.json").read_text())
SHOWN = [row for row in api.OPERATIONS if (row.method, row.path) in EXAMPLES]


def name_of(row: Operation) -> str:
    """For a test's name."""
    return operation_id(row)


def test_document_is_valid_openapi_3_1() -> None:
    # With all of jsonschema's formats: a second and a half, which whoever only collects tests need not pay.
    from openapi_spec_validator import OpenAPIV31SpecValidator

    assert DOCUMENT["openapi"].startswith("3.1.")
    assert not list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors())


def test_every_operation_is_in_it_under_a_name_of_its_own() -> None:
    described = {(method.upper(), path) for path, of in DOCUMENT["paths"].items() for method in of}
    assert described == {(row.method, row.path) for row in api.OPERATIONS}
    names = [operation_id(row) for row in api.OPERATIONS]
    assert len(set(names)) == len(names)
    assert document(api.OPERATIONS) == DOCUMENT


def test_every_failure_has_the_one_form_of_errors() -> None:
    for path, of in DOCUMENT["paths"].items():
        for method, operation in of.items():
            failures = {status: one for status, one in operation["responses"].items() if status >= "400"}
            assert {"400", "401", "403", "429", "503"} <= failures.keys(), (method, path)
            assert all("$ref" in one for one in failures.values())
    for response in DOCUMENT["components"]["responses"].values():
        (media,) = response["content"].values()
        assert media == {"schema": {"$ref": "#/components/schemas/Failed"}}


def test_every_example_is_of_an_operation() -> None:
    assert len(SHOWN) == len(EXAMPLES)


@pytest.mark.parametrize("row", SHOWN, ids=name_of)
def test_examples_are_what_operations_take_and_answer(row: Operation) -> None:
    shown = EXAMPLES[row.method, row.path]
    for part, record in (("body", row.body or row.said_body), ("answer", row.answer)):
        if part in shown:
            msgspec.json.decode(msgspec.json.encode(shown[part]), type=record)
    said = {name: value if isinstance(value, list) else [value] for name, value in shown.get("query", {}).items()}
    check_query({name: [str(one) for one in values] for name, values in said.items()}, row.query)
    assert shown.get("path", {}).keys() == set(re.findall(r"{(\w+)}", row.path))


async def test_a_broker_gives_the_same_document_to_everybody(tmp_path: Path) -> None:
    """Also to who has no credential: it is no secret."""
    tokens = [{"algorithm": "HS256", "key_env": "PATH"}]
    async with served(tmp_path, tokens=tokens) as (_, client):
        answer = await client.get("/v1/openapi.json")
        assert answer.json() == DOCUMENT


def test_table_for_the_docs_has_every_operation() -> None:
    table = operations_table(api.OPERATIONS)
    assert table.count("\n") == len(api.OPERATIONS) + 2
    assert "| GET | `/v1/durable/{name}` | One of them | `operate`: `subs/show` |" in table


@pytest.mark.parametrize(
    ("described", "meant"),
    [
        (operator_records.ConnectionsQuery().limit, clients.DEFAULT_LISTED),
        (operator_records.SubscriptionsQuery().limit, clients.DEFAULT_LISTED),
        (operator_records.LettersQuery().limit, dead.DEFAULT_LISTED),
        (operator_records.TopicsQuery().limit, figures.DEFAULT_LISTED),
        (operator_records.SlowQuery().limit, figures.DEFAULT_LISTED),
        (operator_records.FollowQuery().wait_ms, tail.DEFAULT_WAIT_MS),
    ],
)
def test_what_is_not_said_means_what_the_description_says(described: int, meant: int) -> None:
    """Parameters that are left out do not reach the calls, which have defaults of their own."""
    assert described == meant
