"""S31: nothing that a client names becomes a path: the pages are a table, and no file is looked for."""

from collections.abc import Callable

import pytest
from triode_broker.http.pages import pages

from tests.edge.rig import Rig


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/healthz/../triode.js",
        "/triode.js/",
        "//etc/passwd",
        "/./healthz",
        "/triode.js%00.html",
        "/demo.html",
        "/pages.py",
        "\\..\\..\\x",
        "file:///etc/passwd",
        "http://127.0.0.1/healthz",
        "*",
    ],
)
def test_s31_no_target_but_the_pages_themselves_is_answered(make_rig: Callable[..., Rig], target: str) -> None:
    rig = make_rig(routes=pages(dict, list))
    answer = rig.client(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).receive()
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), answer
    assert b"root:" not in answer
