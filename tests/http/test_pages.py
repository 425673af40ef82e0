"""The pages: what they answer, and that the demo keeps the promises its readers are given."""

import base64
import hashlib
import re

import msgspec
import pytest
from triode_broker.http.pages import demo_page, demo_script, pages

MAX_SCRIPT_LINES = 60  # "under 60 lines of JavaScript"
MAX_LINE_CHARACTERS = 100


def test_healthz_says_what_health_says() -> None:
    report = {"status": "ok", "node": "n1", "connections": 3, "heads": {"m0-x": 7}}
    status, content_type, body = pages(lambda: report, list)["/healthz"]("/healthz?verbose")
    assert (status, content_type) == (200, "application/json")
    assert msgspec.json.decode(body) == report


def test_healthz_asks_at_every_request() -> None:
    reports = iter([{"status": status} for status in ("ok", "degraded", "failed")])
    healthz = pages(lambda: next(reports), list)["/healthz"]
    assert [healthz("/healthz")[0] for _ in range(3)] == [200, 200, 503]


def test_readyz_says_whether_the_node_takes_clients_and_why_not() -> None:
    reasons: list[str] = []
    readyz = pages(dict, lambda: reasons)["/readyz"]
    assert readyz("/readyz") == (200, "application/json", b'{"ready":true,"reasons":[]}\n')
    reasons += ["starting", "draining"]
    assert readyz("/readyz?a=1") == (
        503,
        "application/json",
        b'{"ready":false,"reasons":["starting","draining"]}\n',
    )


def test_root_is_the_demo_page() -> None:
    status, content_type, body = pages(dict, list)["/"]("/?filter=rooms/%23")
    assert (status, content_type) == (200, "text/html; charset=utf-8")
    assert body.decode() == demo_page()


def test_client_for_a_script_tag_comes_from_the_node_itself() -> None:
    status, content_type, body = pages(dict, list)["/triode.js"]("/triode.js?v=1")
    assert (status, content_type) == (200, "text/javascript; charset=utf-8")
    assert b"Triode" in body


def test_way_around_blocked_websockets_comes_from_the_node_itself() -> None:
    status, content_type, body = pages(dict, list)["/triode-sse.js"]("/triode-sse.js")
    assert (status, content_type) == (200, "text/javascript; charset=utf-8")
    assert b"export" in body


def test_demo_speaks_the_protocol_in_under_60_readable_lines() -> None:
    lines = [line for line in demo_script(demo_page()).splitlines() if line.strip()]
    assert 0 < len(lines) < MAX_SCRIPT_LINES
    assert max(map(len, lines)) <= MAX_LINE_CHARACTERS
    crowded = [line for line in lines if re.search(r";\s*[^\s/]", re.sub(r"\(.*\)|`.*`|//.*|\".*\"", "", line))]
    assert not crowded, "one statement a line"


def test_demo_has_one_script_and_loads_nothing_from_elsewhere() -> None:
    page = demo_page()
    assert page.count("<script") == 1
    outside = re.findall(r"(?:src|href|url|action)\s*[=(]\s*[\"']?([^\"'\s>]*)", re.sub(r"data:[^\"]*", "", page))
    assert all(target == "" or target.startswith("?") for target in outside), outside


def test_demo_allows_its_own_script_by_hash_and_no_other() -> None:
    page = demo_page()
    digest = base64.b64encode(hashlib.sha256(demo_script(page).encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    directives = [part.split() for part in policy[1].split(";")]
    assert ["default-src", "'none'"] in directives
    assert ["script-src", f"'sha256-{digest}'"] in directives
    assert ["connect-src", "'self'"] in directives


@pytest.mark.parametrize(
    "way_in", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
)
def test_demo_never_makes_markup_of_what_it_is_sent(way_in: str) -> None:
    assert way_in not in demo_script(demo_page())
