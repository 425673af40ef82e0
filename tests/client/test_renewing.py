"""Tokens that expire on a live connection: fetched in time, said as `auth`, and what the broker thinks of them."""

from typing import Any

import pytest
from triode.records import Complaint, State
from triode.session import Identity

from tests.client.play import LOG, Play, message


def renewable() -> Play:
    """A client whose token comes from a function."""
    return Play(identity=Identity(token="t1", is_renewable=True))


def connected(expires_in_ms: int = 100_000, **said: Any) -> Play:
    """To a broker that takes new tokens."""
    play = renewable()
    play.connect(capabilities=["batch", "auth"], expires_in_ms=expires_in_ms, ping_ms=3_600_000, **said)
    play.events()
    return play


def asked(play: Play, token: str = "t2") -> dict[str, Any]:
    """The face has fetched a token; the `auth` that comes of it."""
    assert play.session.renewal.is_wanted
    play.session.renewal.renewed(token)
    (auth,) = play.hears()
    assert (auth["type"], auth["token"]) == ("auth", token)
    return auth


@pytest.mark.parametrize(
    ("expires_in_ms", "seconds"),
    [(100_000, 80), (3_600_000, 3_570), (1_000, 1), (1, 1), (10**30, 31_536_000 - 30)],
)
def test_token_is_wanted_in_time(expires_in_ms: int, seconds: float) -> None:
    play = connected(expires_in_ms)
    assert play.session.renewal.deadline() == play.now + seconds
    play.session.renewal.tick(play.now + seconds - 0.1)
    assert not play.session.renewal.is_wanted
    play.session.renewal.tick(play.now + seconds)
    assert play.session.renewal.is_wanted


def test_broker_that_takes_the_token_says_how_long_it_is_good() -> None:
    play = connected()
    play.passes(80)
    auth = asked(play)
    play.says({"type": "authorized", "id": auth["id"], "expires_in_ms": 10_000})
    assert not play.session.renewal.is_wanted
    play.passes(8)
    asked(play, "t3")
    assert play.events() == []
    assert play.session.state is State.CONNECTED


def test_notice_and_authorized_may_set_another_time() -> None:
    play = connected()
    play.says({"type": "notice", "expires_in_ms": 5_000})
    assert play.session.renewal.deadline() == play.now + 4
    play.says({"type": "authorized", "id": 4711, "expires_in_ms": 1_000})  # answers nothing
    assert play.session.renewal.deadline() == play.now + 4


@pytest.mark.parametrize(
    ("identity", "capabilities", "expires_in_ms"),
    [
        (Identity(token="fixed"), ["batch", "auth"], 100_000),
        (Identity(is_renewable=True), ["batch"], 100_000),
        (Identity(is_renewable=True), ["batch", "auth"], 0),
    ],
)
def test_nothing_is_wanted_where_nothing_can_be_had(
    identity: Identity, capabilities: list[str], expires_in_ms: int
) -> None:
    play = Play(identity=identity)
    play.connect(capabilities=capabilities, expires_in_ms=expires_in_ms, ping_ms=3_600_000)
    play.passes(1_000)
    assert not play.session.renewal.is_wanted
    assert play.hears() == []


def test_refusal_for_good_is_told_and_not_repeated() -> None:
    play = connected()
    play.passes(80)
    auth = asked(play)
    play.says({"type": "error", "id": auth["id"], "name": "revoked", "message": "gone", "retry": "never"})
    assert play.events() == [Complaint("revoked", "gone")]
    play.passes(1_000)
    assert not play.session.renewal.is_wanted
    assert play.session.state is State.CONNECTED


def test_refusal_that_may_pass_is_told_and_another_token_wanted_later() -> None:
    play = connected()
    play.passes(80)
    auth = asked(play)
    play.says({"type": "error", "id": auth["id"], "name": "unauthorized", "message": "no", "retry": "reauth"})
    assert play.events() == [Complaint("unauthorized", "no")]
    play.passes(9)
    assert not play.session.renewal.is_wanted
    play.passes(1)
    asked(play, "t3")


def test_token_that_cannot_be_fetched_is_told_and_wanted_again() -> None:
    play = connected()
    play.passes(80)
    play.session.renewal.failed("the vault is closed", play.now)
    assert play.session.events == [Complaint("token", "the vault is closed")]
    play.events()
    play.passes(10)
    asked(play)


def test_token_for_a_connection_that_is_gone_is_not_said() -> None:
    play = connected()
    play.passes(80)
    play.cut()
    assert not play.session.renewal.is_wanted
    play.session.renewal.renewed("late")
    play.session.renewal.failed("late, too", play.now)
    play.wait()
    assert [packet["type"] for packet in play.connect()] == ["connect"]
    assert play.hears() == []


def test_subscriptions_do_not_notice() -> None:
    play = connected()
    subscription = play.subscribed("a")
    play.passes(80)
    asked(play)
    play.says(message(1, "a"))
    assert [item.position for item in play.items(subscription) if hasattr(item, "position")] == [{LOG: 1}]
