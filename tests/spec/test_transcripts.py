"""Every transcript of SPEC.md, played to a broker over a real WebSocket."""

from pathlib import Path

import pytest
import trio

from tests.spec.broker import RunningBroker
from tests.spec.transcripts import Names, Play, Transcript, read_transcripts

TRANSCRIPTS = read_transcripts()


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript.number)
async def test_transcript_happens_as_written(
    transcript: Transcript, nursery: trio.Nursery, tmp_path: Path
) -> None:
    broker = RunningBroker(nursery)
    try:
        await Play(broker, TRANSCRIPTS, tmp_path).run(transcript)
    finally:
        await broker.end()


def test_transcripts_are_numbered_in_order() -> None:
    assert [t.number for t in TRANSCRIPTS] == [f"A.{place}" for place in range(1, len(TRANSCRIPTS) + 1)]


def test_placeholder_stands_for_one_value() -> None:
    names = Names()
    assert names.match({"a": "$x", "b": "$any"}, {"a": "m0", "b": 2})
    assert names.match(["$x"], ["m0"])
    assert not names.match(["$x"], ["m1"])
    assert names.fill('{"after":{"$x":1}}') == '{"after":{"m0":1}}'


def test_placeholder_may_be_a_name() -> None:
    names = Names()
    assert names.match({"$log": 5}, {"m0-a": 5})
    assert names.match({"log": "$log"}, {"log": "m0-a"})
    assert not names.match({"$log": 5}, {"m0-b": 5})


@pytest.mark.parametrize(
    ("wanted", "given"),
    [({"a": 1}, {"a": 1, "b": 2}), ({"a": 1, "b": 2}, {"a": 1}), ({"a": 1}, {"a": True}), ([1], [1, 2]), ({}, [])],
)
def test_comparison_is_exact(wanted: object, given: object) -> None:
    assert not Names().match(wanted, given)
