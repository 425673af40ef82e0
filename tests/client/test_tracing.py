"""What a program is told of a message that it traces (SPEC 3.4.18, 4.12). No event loop."""

import pytest
from msgspec import Raw
from triode.records import Traced
from triode_protocol import packets

from tests.client.play import LOG, Play


def online() -> Play:
    """A client that is connected."""
    play = Play()
    play.connect()
    return play


def traced(play: Play, id: int, end: str = "", hop: str = "accepted") -> None:
    """The broker tells of a message."""
    said = {"type": "traced", "id": id, "hops": [{"hop": hop, "node": "n1", "at_us": 5, "new": True}]}
    play.says({**said, "end": end} if end else said)


def test_traced_message_is_told_of_until_the_end() -> None:
    """SPEC 3.4.18, 4.12: hops of any kind, with fields of newer brokers."""
    play = online()
    told: list[Traced] = []
    publication = play.session.publish(packets.Publish("a", Raw(b"1"), trace=True), play.now)
    play.session.publisher.trace(publication, told.append)
    (sent,) = play.hears()
    assert sent["trace"] is True
    play.says({"type": "published", "id": sent["id"], "log": LOG, "pos": 1, "offset": 1, "level": "memory"})
    traced(play, sent["id"])
    traced(play, sent["id"], "complete", "from_the_future")
    traced(play, sent["id"], "complete")
    assert [(each.hops[0].hop, each.end) for each in told] == [("accepted", ""), ("from_the_future", "complete")]
    assert {each.message_id for each in told} == {publication.message_id}


def test_trace_ends_with_the_connection_and_with_the_message() -> None:
    """SPEC 4.12.2: nobody waits beyond that; what goes out again is traced again."""
    play = online()
    told: list[Traced] = []
    first, second, third = [
        play.session.publish(packets.Publish("a", Raw(b"1"), trace=True), play.now) for _ in range(3)
    ]
    for publication in (first, second, third):
        play.session.publisher.trace(publication, told.append)
    ids = [packet["id"] for packet in play.hears()]
    play.says({"type": "published", "id": ids[0], "log": LOG, "pos": 1, "offset": 1, "level": "memory"})
    play.says({"type": "error", "id": ids[1], "name": "forbidden", "message": "no", "retry": "never"})
    assert [each.end for each in told] == ["failed"]
    play.session.lost(play.now)
    assert [each.end for each in told] == ["failed", "lost"]
    play.session.close()
    assert [each.end for each in told] == ["failed", "lost", "failed"]


def test_mistake_in_who_is_told_is_logged_and_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    play = online()
    publication = play.session.publish(packets.Publish("a", Raw(b"1"), trace=True), play.now)

    def fail(told: Traced) -> None:
        raise RuntimeError

    play.session.publisher.trace(publication, fail)
    (sent,) = play.hears()
    traced(play, sent["id"])
    assert "on_trace has failed" in caplog.text
    assert play.session.state == "connected"
