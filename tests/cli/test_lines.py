"""Lines cut out of chunks: the same lines wherever the chunks end, bounded, none lost at the end."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.cli import lines
from triode_broker.cli.lines import MAX_LINE_BYTES, Line, LineCutter, read_chunk


def cut(*chunks: bytes) -> list[Line]:
    cutter = LineCutter()
    return [line for chunk in (*chunks, b"") for line in cutter.feed(chunk)]


@given(st.lists(st.binary(max_size=5).filter(bool)))
def test_lines_are_the_same_wherever_chunks_end(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line.content for line in cut(*chunks)] == [line.removesuffix(b"\r") for line in expected]


def test_a_last_line_without_its_end_is_a_line() -> None:
    assert cut(b"a\n\nb") == [Line(1, b"a"), Line(2, b""), Line(3, b"b")]


def test_windows_line_ends_are_ends() -> None:
    assert cut(b"a\r\nb\r", b"\n") == [Line(1, b"a"), Line(2, b"b")]


@pytest.mark.parametrize("size", [MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 3 * MAX_LINE_BYTES])
def test_a_line_without_end_takes_bounded_memory_and_is_given_once(size: int) -> None:
    whole = b"x" * size + b"\nnext\n"
    step = lines.CHUNK_BYTES
    first, second = cut(*(whole[at : at + step] for at in range(0, len(whole), step)))
    assert first == Line(1, b"x" * MAX_LINE_BYTES, is_cut=size > MAX_LINE_BYTES)
    assert second == Line(2, b"next")


def test_an_endless_last_line_is_given_once() -> None:
    assert cut(b"x" * (MAX_LINE_BYTES + 1), b"y" * (MAX_LINE_BYTES + 1), b"z") == [
        Line(1, b"x" * MAX_LINE_BYTES, is_cut=True)
    ]


async def test_a_chunk_is_what_the_pipe_has() -> None:
    readable, writable = os.pipe()
    try:
        os.write(writable, b"half a li")
        assert await read_chunk(readable) == b"half a li"
    finally:
        os.close(writable)
    try:
        assert await read_chunk(readable) == b""
    finally:
        os.close(readable)
