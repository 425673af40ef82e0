"""Every client of this tree passes every scenario: the Python client with all its faces, and the tiny example.

The Python client lacks nothing, so none of its scenarios is skipped.
"""

import pytest
from triode_broker.conformance import steps

from tests.conformance.playing import PYTHON_ADAPTER, TINY_ADAPTER, assert_passed, play, python


@pytest.mark.parametrize("face", ["trio", "asyncio", "sync"])
async def test_python_client_passes_all_scenarios(face: str) -> None:
    assert_passed(await play(python(PYTHON_ADAPTER, "--face", face)))


async def test_tiny_client_passes_all_scenarios_that_need_no_more_than_it_has() -> None:
    lacks = {
        *("ask_token", "auth", "connect_timeout", "consume", "delay", "delete_key", "history"),
        *("presence", "publish_timeout", "send", "several_urls", "will"),
    }
    results = await play(python(TINY_ADAPTER))
    assert_passed(results, skipped=[each.name for each in steps.shipped() if lacks & set(each.needs)])
