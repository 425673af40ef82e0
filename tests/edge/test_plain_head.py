"""Plain heads: read by hand exactly as h11 reads them, and never where h11 would refuse (S5)."""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from triode_broker.edge.plain_head import plain_head

from tests.edge.rig import HANDSHAKE

NAMES = st.sampled_from(
    ["Host", "host", "Upgrade", "X-A", "x_b", "A b", " Folded", "", "Content-Length", "Expect", "C:"]
)
VALUES = st.text(st.sampled_from('abc:, \t"=/%'), max_size=12)
LINES = st.lists(st.tuples(NAMES, st.sampled_from([":", ": ", " :", ""]), VALUES).map("".join), max_size=5)
REQUESTS = st.sampled_from(
    [
        "GET /ws HTTP/1.1",
        "GET /a?b=c#d HTTP/1.1",
        "GET  /ws HTTP/1.1",
        "GET / HTTP/1.0",
        "POST / HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET / HTTP/1.1 ",
        "get / HTTP/1.1",
        "GET HTTP/1.1",
        "",
        " GET / HTTP/1.1",
        "GET / x HTTP/1.1",
    ]
)


def read_by_h11(head: bytes) -> tuple[str, dict[bytes, bytes]] | None:
    http = h11.Connection(h11.SERVER)
    http.receive_data(head)
    try:
        event = http.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Request)
    return event.target.decode(), dict(event.headers)


@given(REQUESTS, LINES)
@example("GET / HTTP/1.1", ["Host: a", "X-A:\t b \t"])
def test_plain_head_reads_what_h11_reads(request: str, lines: list[str]) -> None:
    """S5: one meaning of a head, whoever reads it."""
    head = "\r\n".join([request, *lines, "", ""]).encode()
    plain = plain_head(head)
    if plain is not None:
        assert plain == read_by_h11(head)


def test_plain_head_reads_the_usual_handshake() -> None:
    plain = plain_head(HANDSHAKE)
    assert plain is not None
    assert plain == read_by_h11(HANDSHAKE)


@pytest.mark.parametrize(
    "line", ["Content-Length: 0", "Transfer-Encoding: chunked", "Host: b", " folded", "No colon", "A : b"]
)
def test_plain_head_leaves_what_needs_judging(line: str) -> None:
    assert plain_head(HANDSHAKE[:-2] + line.encode() + b"\r\n\r\n") is None
