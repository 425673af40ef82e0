"""protocol/asyncapi.json: valid by AsyncAPI's own schema, whole, and with examples that are what it describes."""

import json
import os
from typing import Any

import jsonschema_rs
import pytest
from triode_protocol import codec, packets

from tests.house.tree import ROOT

DOCUMENT = json.loads((ROOT / "protocol" / "asyncapi.json").read_text())
OFFICIAL = ROOT / "clients" / "js" / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]


def test_document_is_valid_by_the_official_schema() -> None:
    if not OFFICIAL.exists():
        if os.environ.get("TRIODE_REQUIRE_BROWSER") == "1":
            pytest.fail("the official schema is missing: npm ci in clients/js")
        pytest.skip("the official schema comes with clients/js: npm ci there")
    schema = json.loads(OFFICIAL.read_text())
    assert DOCUMENT["asyncapi"] == "3.0.0"
    jsonschema_rs.Draft7Validator(schema).validate(DOCUMENT)


def test_every_packet_is_a_message_of_the_one_connection() -> None:
    sides = {"client": packets.CLIENT_PACKETS, "server": packets.SERVER_PACKETS}
    every = {f"{side}.{packet.__struct_config__.tag}" for side, union in sides.items() for packet in union}
    assert set(MESSAGES) == set(DOCUMENT["channels"]["connection"]["messages"]) == every


def test_every_message_belongs_to_an_operation() -> None:
    used = json.dumps(DOCUMENT["operations"])
    assert [name for name in MESSAGES if f'messages/{name}"' not in used] == []


def test_references_lead_somewhere() -> None:
    def follow(node: Any) -> None:
        if isinstance(node, list):
            for member in node:
                follow(member)
        elif isinstance(node, dict):
            if "$ref" in node:
                place = DOCUMENT
                for part in node["$ref"].removeprefix("#/").split("/"):
                    place = place[part]
            for member in node.values():
                follow(member)

    follow(DOCUMENT)


@pytest.mark.parametrize("name", MESSAGES)
def test_examples_are_what_they_stand_for(name: str) -> None:
    """By the schema, and by the codec that broker and clients read with."""
    schema = {**MESSAGES[name]["payload"], "components": DOCUMENT["components"]}
    assert MESSAGES[name]["examples"]
    for example in MESSAGES[name]["examples"]:
        payload = example["payload"]
        jsonschema_rs.Draft7Validator(schema).validate(payload)
        text = json.dumps(payload)
        side, _, kind = name.partition(".")
        (read,) = codec.decode(text, 65_536) if side == "client" else codec.decode_server(text)
        assert not isinstance(read, codec.Refused)
        assert read.__struct_config__.tag == kind
