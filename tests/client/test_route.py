"""Several addresses of one cluster: which one is next, and when. No event loop, no sockets, a die that is told."""

from collections import Counter
from random import Random
from typing import Any

import pytest
from triode.errors import ConnectionClosed
from triode.records import HandshakesRefused, State, StateChanged

from tests.client.play import Play

A, B, C = (f"ws://{name}.example:7400/ws" for name in "abc")
OTHER = "ws://other.example/ws"
BYE = {"type": "bye", "name": "whatever"}


def delay(play: Play) -> float:
    """Of the last time that the session began to wait."""
    return [e for e in play.events() if isinstance(e, StateChanged) and e.state is State.WAITING][-1].delay_seconds


def at(*urls: str, luck: float = 0.0) -> Play:
    """A client of these that connects to the first one."""
    play = Play(urls or (A, B, C), luck=0.0)
    play.connect()
    play.luck = luck
    play.events()
    return play


def dialled(play: Play, count: int) -> list[str]:
    """Where the next attempts go, none of which finds anybody."""
    found = []
    for _ in range(count):
        play.wait()
        found.append(play.session.dial)
        play.cut()
    return found


def test_client_begins_at_any_address() -> None:
    """SPEC 5.3.6: else all clients of a cluster would begin at the first one of everybody's list."""
    first = set()
    for luck in (0.0, 0.5, 0.99):
        play = Play([A, B, C], luck=luck)
        play.session.start(play.now)
        first.add(play.session.dial)
    assert first == {A, B, C}


def test_address_that_is_given_twice_is_one() -> None:
    play = at("ws://a.example:7400", A, "http://a.example:7400/", B)
    play.cut()
    assert dialled(play, 4) == [B, A, B, A]


@pytest.mark.parametrize("urls", [[], [A, "nonsense"], ""])
def test_list_without_an_address_or_with_a_wrong_one_is_refused(urls: Any) -> None:
    with pytest.raises(ValueError, match="URL"):
        Play(urls)


def test_clients_of_a_lost_node_spread_over_all_others() -> None:
    """SPEC 5.3.6: a list that is gone through in its order would send all of them to one."""
    die = Random(1)
    found: Counter[str] = Counter()
    for _ in range(300):
        play = Play([A, B, C], luck=die.random())
        play.connect()
        left, play.luck = play.session._url, die.random()
        play.cut()
        play.wait()
        assert play.session.dial != left
        found[left + play.session.dial] += 1
    assert len(found) == 6
    assert min(found.values()) > 30


def test_lost_connection_is_followed_by_all_others_and_then_the_lost_one() -> None:
    """SPEC 5.3.6, 5.3.4: a short random wait, then nobody who does not answer costs any."""
    play = at(luck=0.5)
    play.cut()
    assert delay(play) == 0.125
    delays = []
    found = []
    for _ in range(6):
        play.wait()
        found.append(play.session.dial)
        play.cut()
        delays.append(delay(play))
    assert sorted(found[:2]) == [B, C]
    assert found[2] == A
    assert sorted(found[3:]) == [A, B, C]
    assert found[3] != A
    assert delays == [0, 0, 0.25, 0, 0, 0.5]


def test_wait_between_rounds_grows_as_for_a_single_address() -> None:
    """SPEC 5.3.4"""
    play = Play([A, B], luck=0.999)
    play.session.start(play.now)
    delays = []
    for _ in range(10):
        play.cut()
        delays.append(round(delay(play), 1))
        play.wait()
    assert delays == [0, 0.2, 0, 0.5, 0, 1.0, 0, 2.0, 0, 4.0]


def test_connection_that_is_lost_at_once_again_and_again_does_not_make_the_client_spin() -> None:
    play = at(luck=0.999)
    delays = []
    for _ in range(5):
        play.cut()
        delays.append(round(delay(play), 1))
        play.wait()
        play.connect()
    assert delays == [0.2, 0.5, 1.0, 2.0, 4.0]


def test_server_that_does_not_answer_in_time_is_left_for_the_next() -> None:
    play = Play([A, B], luck=0.0, connect_timeout_seconds=5)
    play.open()
    play.passes(5)
    assert play.session.dial == B
    assert play.session.state is State.CONNECTING


@pytest.mark.parametrize("code", [4100, 4101, 4104, 1001, 1011])
def test_server_that_goes_is_not_the_next_one(code: int) -> None:
    """SPEC 5.3.6"""
    play = at()
    play.cut(code)
    assert set(dialled(play, 2)) == {B, C}
    assert dialled(play, 1) == [A]


def test_refusal_for_good_is_one_by_all() -> None:
    """SPEC 5.3.6, 5.3.2"""
    play = at()
    play.cut(4001)
    assert play.session.state is State.CLOSED
    assert isinstance(play.session.error, ConnectionClosed)


def test_refused_client_moves_on_after_a_short_random_wait() -> None:
    """SPEC 5.3.6: thousands that a full server refuses at once do not arrive as one at the next."""
    play = Play([A, B])
    play.open()
    play.events()
    play.luck = 0.8
    play.says({**BYE, "code": 4102, "reconnect_after_ms": 60_000})
    assert delay(play) == pytest.approx(0.2)
    play.wait()
    play.connect()


def test_pause_is_kept_with_the_server_that_asked_for_it() -> None:
    """SPEC 5.3.6, 1.1: by `reconnect_after_ms` or `Retry-After`; the others are tried meanwhile."""
    play = Play([A, B], luck=0.001)
    play.open()
    asked = play.now
    play.says({**BYE, "code": 4102, "reconnect_after_ms": 3_000})
    play.wait()
    assert play.session.dial == B
    play.session.lost(play.now, after_ms=2_000)
    play.events()
    play.wait()
    assert play.session.dial == B
    assert play.now - asked == pytest.approx(2, abs=0.01)
    play.cut()
    play.wait()
    assert play.session.dial == B
    play.session.lost(play.now, after_ms=60_000)
    play.wait()
    assert play.session.dial == A
    assert play.now - asked == pytest.approx(3, abs=0.01)
    play.connect()


def test_overloaded_server_is_left_for_another_and_comes_last() -> None:
    play = at()
    asked = play.now
    play.says({**BYE, "code": 4102, "reconnect_after_ms": 3_000})
    assert set(dialled(play, 2)) == {B, C}
    play.wait()
    assert play.session.dial != A
    assert play.now < asked + 3


def test_bye_with_addresses_comes_before_ones_own() -> None:
    """SPEC 5.3.5, 5.3.6: in its order, behind its pause; the one that drains is the last."""
    play = at()
    urls = [OTHER, C, OTHER]
    play.says({**BYE, "code": 4200, "reconnect_after_ms": 1_500, "urls": urls})
    assert delay(play) == 1.5
    assert dialled(play, 4) == [OTHER, C, B, A]
    assert OTHER not in dialled(play, 3)


def test_bye_without_addresses_sends_to_the_others_at_once() -> None:
    """SPEC 5.3.6: the time leads behind the end of the node that drains."""
    play = at()
    play.says({**BYE, "code": 4200, "reconnect_after_ms": 60_000})
    assert delay(play) == 0
    assert set(dialled(play, 4)) == {B, C}


def test_new_start_is_made_where_one_was() -> None:
    """SPEC 5.3.6, 5.3.2: 4201 is nothing that another server would do better."""
    play = at(luck=0.5)
    play.cut(4201)
    assert delay(play) == 0
    assert dialled(play, 1) == [A]
    assert set(dialled(play, 2)) == {B, C}


def test_servers_that_send_a_client_to_each_other_do_not_make_it_spin() -> None:
    """S33"""
    play = Play([A, B])
    delays = []
    for _ in range(6):
        play.open()
        play.events()
        play.luck = 0.999
        play.says({**BYE, "code": 4200, "urls": [A, B]})
        delays.append(round(delay(play), 1))
        play.wait()
    assert delays == [0, 0.5, 1.0, 2.0, 4.0, 8.0]


def test_named_server_that_asks_for_a_pause_is_tried_again_behind_it() -> None:
    """SPEC 1.1: a rolling restart under load; a client of one address would else not come back."""
    play = at(A)
    play.says({**BYE, "code": 4200, "urls": [OTHER]})
    play.wait()
    assert play.session.dial == OTHER
    play.session.lost(play.now, after_ms=2_000)
    found = dialled(play, 2)
    play.now += 2
    found += dialled(play, 3)
    assert found[:2] == [A, A]
    assert found.count(OTHER) == 1
    play.says({**BYE, "code": 4200, "urls": []})
    assert OTHER not in dialled(play, 3)


def test_named_server_is_not_returned_to_when_it_is_lost() -> None:
    """SPEC 5.3.5: then the address it had; also where the named one had once asked for patience."""
    play = at(A)
    play.says({**BYE, "code": 4200, "urls": [OTHER, B]})
    play.wait()
    play.session.lost(play.now, after_ms=2_000)
    play.wait()
    assert play.session.dial == B
    play.connect()
    play.passes(10)
    play.cut()
    assert dialled(play, 3) == [A, A, A]


def test_next_bye_makes_the_addresses_of_the_last_one_forgotten() -> None:
    """S33: a broker that names ever more of them does not fill the client's memory."""
    play = at(A)
    for number in range(50):
        play.says({**BYE, "code": 4200, "urls": [f"ws://h{number}-{n}/ws" for n in range(20)]})
        for _ in range(8):
            play.wait()
            play.session.lost(play.now, after_ms=200_000)
        assert len(play.session._route._resting) <= 8
        play.wait()
        assert play.session.dial == A
        play.connect()


def test_one_plain_address_does_not_let_a_bye_take_the_encryption_away() -> None:
    """S33"""
    play = at("wss://a.example", "ws://b.example")
    play.says({**BYE, "code": 4200, "urls": ["ws://plain.example", "wss://safe.example"]})
    assert dialled(play, 3)[0] == "wss://safe.example/ws"


def test_nodes_that_are_away_are_reported_when_all_are() -> None:
    """SPEC 5.3.4: one live node of five is no trouble; once for all of them."""
    urls = [f"ws://n{number}.example/ws" for number in range(5)]
    play = Play(urls)
    play.session.start(play.now)
    reported = []
    for _ in range(12):
        reported.append(play.session._refused)
        play.session.lost(play.now, reason="connection refused")
        if [e for e in play.events() if isinstance(e, HandshakesRefused)]:
            break
        play.wait()
    assert reported == [0, 1, 2, 3, 4]
