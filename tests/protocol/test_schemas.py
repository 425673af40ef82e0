"""The generated files: current, and the JSON Schemas agree with the codec."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta
from triode_protocol import codec, packets

from tests.protocol import strategies, vectors

PROTOCOL = vectors.DIRECTORY.parent


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PROTOCOL / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def validators(side: str) -> dict[str, Draft202012Validator]:
    """The schemas of what one side sends, by type."""
    found: dict[str, Draft202012Validator] = {}
    for path in (PROTOCOL / "schemas").glob(f"{side}.*.json"):
        schema = json.loads(path.read_text())
        meta.validate(schema)
        found[path.name.split(".")[1]] = Draft202012Validator(schema)
    return found


CLIENT, SERVER = validators("client"), validators("server")


def tags(kinds: tuple[type[Any], ...]) -> set[object]:
    return {kind.__struct_config__.tag for kind in kinds}


def test_generated_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors, schemas and the tables of SPEC.md come from the registry and the packet types."""
    assert load_generator().main(["--check"]) == 0, capsys.readouterr().err


def test_check_names_a_stale_file_and_generating_makes_it_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = load_generator()
    for name in ("schemas", "triode_protocol"):
        (tmp_path / "protocol" / name).mkdir(parents=True)
    (tmp_path / "protocol" / "registry.json").write_text((PROTOCOL / "registry.json").read_text())
    (tmp_path / "protocol" / "schemas" / "client.gone.json").write_text("{}")
    (tmp_path / "SPEC.md").write_text("<!-- generated: closes -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(generator, "HERE", tmp_path / "protocol")
    monkeypatch.setattr(generator, "SPEC", tmp_path / "SPEC.md")
    assert generator.main(["--check"]) == 1
    said = capsys.readouterr().err
    for name in ("errors.py", "SPEC.md", "client.gone.json", "client.connect.json"):
        assert f"{name} is not current" in said
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    assert "| 4105 | `ping_timeout` |" in (tmp_path / "SPEC.md").read_text()


def test_every_packet_has_its_schema() -> None:
    assert set(CLIENT) == tags(packets.CLIENT_PACKETS)
    assert set(SERVER) == tags(packets.SERVER_PACKETS)


@given(strategies.client_packets)
def test_schema_accepts_what_a_client_may_send(packet: Any) -> None:
    """SPEC 7.4"""
    CLIENT[packet.__struct_config__.tag].validate(json.loads(codec.encode(packet)))


@given(strategies.server_packets)
def test_schema_accepts_what_a_server_sends(packet: Any) -> None:
    """SPEC 7.4"""
    SERVER[packet.__struct_config__.tag].validate(json.loads(codec.encode(packet)))


changes = st.dictionaries(
    st.sampled_from(["id", "sub", "filter", "from", "after", "topic", "last", "limit", "headers", "ttl_ms", "x"]),
    strategies.json_values
    | st.sampled_from(["new", {"last": 3}, {"since": 0}, {"first": 1}, {"m0": -1}, {"M": 1}]),
    max_size=2,
)


@given(st.sampled_from(sorted(CLIENT)), strategies.client_packets, changes)
def test_schema_and_codec_agree_on_what_a_client_may_send(type: str, packet: Any, change: dict[str, Any]) -> None:
    """SPEC 7.4: floats apart, which JSON Schema counts as integers when they are whole."""
    content = json.loads(codec.encode(packet)) | change | {"type": type}
    if any(isinstance(value, float) for value in content.values()):
        return
    [answer] = codec.decode(json.dumps(content), 1_000_000)
    assert CLIENT[type].is_valid(content) == (not isinstance(answer, codec.Refused)), answer


def test_schema_knows_the_type_it_is_for() -> None:
    for side in (CLIENT, SERVER):
        for tag, validator in side.items():
            assert not validator.is_valid({"type": tag + "x"})
            assert not validator.is_valid({})


def test_schemas_are_plain_json_without_python_names() -> None:
    for path in (PROTOCOL / "schemas").glob("*.json"):
        assert "msgspec" not in path.read_text()
        assert msgspec.json.decode(path.read_bytes())
