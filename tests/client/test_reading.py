"""History requests, without an event loop; and the bounds of the options."""

from typing import Any

import pytest
from triode.errors import ConnectionClosed, Expired, HistoryRefused, QueueFull
from triode.options import Options
from triode.reading import Read
from triode.records import HistoryPage, State
from triode_protocol import packets

from tests.client.play import LOG, Play, message


def read(play: Play, **fields: Any) -> Read:
    return play.session.read(packets.HistoryRequest("a/b", **fields), play.now)


def answer(request: dict[str, Any], *messages: dict[str, Any]) -> dict[str, Any]:
    return {"type": "history", "id": request["id"], "messages": messages, "complete": True, "after": {LOG: 2}}


def test_history_is_a_page_of_messages() -> None:
    """SPEC 3.5, 4.7.1"""
    play = Play()
    play.connect()
    one = read(play, last=2)
    (heard,) = play.hears()
    assert heard == {"type": "history", "id": heard["id"], "topic": "a/b", "last": 2}
    play.says(answer({"id": 99}), answer(heard, message(1), message(2)))
    assert isinstance(one.result, HistoryPage)
    assert [each.data for each in one.result.messages] == [1, 2]
    assert (one.result.complete, one.result.after) == (True, {LOG: 2})
    assert play.session.finished == [one]


def test_history_is_asked_again_after_a_reconnect() -> None:
    play = Play()
    one = read(play, after={LOG: 1})
    assert [p["type"] for p in play.connect()] == ["connect", "history"]
    again = play.reconnect()
    assert again[1]["after"] == {LOG: 1}
    play.says(answer(again[1]))
    assert isinstance(one.result, HistoryPage)


def test_refused_history_ends_with_the_brokers_words() -> None:
    play = Play()
    play.connect()
    one = read(play)
    error = {"type": "error", "name": "unavailable", "message": "", "retry": "backoff", "retry_after_ms": 5}
    play.says({**error, "id": play.hears()[0]["id"]})
    assert isinstance(one.result, HistoryRefused)
    assert (one.result.name, one.result.retry_after_ms, str(one.result)) == ("unavailable", 5, "unavailable")


def test_unanswered_history_expires_in_order_and_abandoned_is_forgotten() -> None:
    play = Play(request_timeout_seconds=10)
    first, second = read(play), read(play)
    play.session.reader.abandon(first)
    play.session.reader.abandon(first)
    play.passes(5)
    third = read(play)
    play.passes(5)
    assert first.result is None
    assert isinstance(second.result, Expired)
    assert third.result is None
    play.session.close()
    assert isinstance(third.result, ConnectionClosed)


def test_requests_are_bounded() -> None:
    play = Play(max_requests=2)
    read(play)
    read(play)
    with pytest.raises(QueueFull):
        read(play)


def test_page_of_what_are_no_messages_costs_the_connection() -> None:
    """S33"""
    play = Play()
    play.connect()
    read(play)
    play.says(answer(play.hears()[0], {"type": "pong"}))
    assert play.session.state is State.WAITING


@pytest.mark.parametrize("name", ["max_queue_messages", "max_inbox_bytes", "connect_timeout_seconds"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Options(**{name: 0})
