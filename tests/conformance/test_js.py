"""The JavaScript client passes every scenario, none excepted: as published, in Node.js, by both of its ways."""

import pytest

from tests.browser.built import built_client
from tests.conformance.playing import assert_passed, play
from tests.house.tree import ROOT

ADAPTER = ROOT / "clients" / "js" / "adapter.mjs"
BRIDGE = ROOT / "clients" / "js" / "tests" / "link_over_websocket.mjs"


async def test_javascript_client_passes_all_scenarios(tmp_path_factory: pytest.TempPathFactory) -> None:
    built_client(tmp_path_factory.mktemp("js"))  # so that `dist`, which the adapter loads, is there and fresh
    assert_passed(await play(["node", str(ADAPTER)]))


async def test_javascript_client_passes_all_scenarios_over_http(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SPEC 12.4: packets are packets, whatever carries them."""
    built_client(tmp_path_factory.mktemp("js"))
    assert_passed(await play(["node", "--import", str(BRIDGE), str(ADAPTER)]))
