"""The life of a connection: the first flight, close codes, backoff, signs of life, the end. No event loop."""

from typing import Any

import pytest
from triode.backoff import action, shown_url, websocket_url
from triode.errors import ConnectionClosed, ConnectionRefused
from triode.records import HandshakesRefused, Notice, State, StateChanged
from triode.session import Identity

from tests.client.play import LOG, Play


def waiting(play: Play) -> StateChanged:
    """The last time that the session began to wait."""
    found = [e for e in play.events() if isinstance(e, StateChanged) and e.state is State.WAITING]
    return found[-1]


def test_connect_says_who_it_is_and_what_it_can() -> None:
    """SPEC 3.1, 3.1.3, 5.4.1"""
    play = Play(identity=Identity(token="secret", name="shop", version="1.2"))
    assert play.open() == [
        {
            "type": "connect",
            "id": 1,
            "token": "secret",
            "client": {"name": "shop", "version": "1.2"},
            "capabilities": ["batch"],
        }
    ]
    assert play.session.state is State.CONNECTING


def test_connected_ends_connecting() -> None:
    play = Play()
    play.connect(expires_in_ms=60_000)
    seen = play.events()
    assert [e.state for e in seen if isinstance(e, StateChanged)] == [State.CONNECTING, State.CONNECTED]
    assert Notice(expires_in_ms=60_000) in seen
    assert play.session.deadline() == play.now + 50


def test_second_connection_replaces_the_first_and_resumes_in_the_same_flight() -> None:
    """SPEC 1.11, 3.1.4, 3.1.5, 3.2.8"""
    play = Play()
    play.connect()
    play.subscribed("a/#", after={LOG: 7})
    play.subscribed("b", after={LOG: 9})
    heard = play.reconnect()
    assert (heard[0]["replaces"], heard[0]["resume"]) == ("c-1", True)
    assert [(p["sub"], p["filter"], p["after"]) for p in heard[1:]] == [
        (1, "a/#", {LOG: 7}),
        (2, "b", {LOG: 9}),
    ]


def test_connection_without_subscriptions_has_nothing_to_resume() -> None:
    play = Play()
    play.connect()
    heard = play.reconnect()
    assert heard[0]["replaces"] == "c-1"
    assert "resume" not in heard[0]


def test_flight_before_connected_stays_under_64_kib() -> None:
    """SPEC 1.11: what does not fit follows `connected`."""
    play = Play()
    play.connect()
    position = {f"{'x' * 28}-{n}": 2**53 - 1 for n in range(60)}
    for n in range(40):
        play.subscribed(f"a/{n}", after=position)
    play.cut()
    play.wait()
    play.session.dial = ""
    play.session.opened(play.now)
    sizes = []
    while (text := play.session.take_text(play.now)) is not None:
        sizes.append(len(text))
    assert 50_000 < sum(sizes) < 65_536
    play.connected({"id": play.session._connect_id})
    assert len(play.hears()) + 40 > 40
    assert all(one.number for one in play.session.subscriptions._all)


def test_connect_too_large_for_a_flight_is_sent_for_the_broker_to_refuse() -> None:
    play = Play(identity=Identity(token="x" * 70_000))
    play.subscribe("a")
    assert [p["type"] for p in play.open()] == ["connect"]
    play.connected({"id": 1})
    assert [p["type"] for p in play.hears()] == ["subscribe"]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (4000, "stop"),
        (4005, "stop"),
        (4099, "stop"),
        (4100, "backoff"),
        (4199, "backoff"),
        (4200, "once"),
        (4299, "once"),
        (4300, "backoff"),
        (3000, "backoff"),
        (1000, "backoff"),
        (1006, "backoff"),
        (1009, "backoff"),
        (0, "backoff"),
    ],
)
def test_close_code_says_what_to_do(code: int, what: str) -> None:
    """SPEC 1.8, 5.3.2, 5.3.3: an unknown code follows its range."""
    assert action(code) == what
    play = Play()
    play.connect()
    play.events()
    play.cut(code)
    if what == "stop":
        assert play.session.state is State.CLOSED
        assert isinstance(play.session.error, ConnectionClosed)
        assert play.session.error.code == code
    else:
        assert waiting(play).delay_seconds == (0 if what == "once" else 0.125)


def test_stop_before_the_first_connected_is_a_refusal() -> None:
    play = Play()
    play.open()
    play.cut(4003)
    assert isinstance(play.session.error, ConnectionRefused)


def test_lost_connection_is_tried_again_with_full_jitter() -> None:
    """SPEC 5.3.4"""
    play = Play()
    play.luck = 0.999
    play.connect(reconnect={"min_ms": 100, "max_ms": 1_000})
    delays = []
    for _ in range(6):
        play.events()
        play.cut()
        delays.append(round(waiting(play).delay_seconds, 1))
        play.wait()
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    play.luck = 0.0
    play.cut()
    assert waiting(play).delay_seconds == 0


def test_connection_that_lasted_resets_the_backoff() -> None:
    """SPEC 5.3.4"""
    play = Play()
    play.connect()
    for _ in range(3):
        play.reconnect()
    play.passes(5)
    play.says({"type": "ping"})
    play.events()
    play.cut()
    assert waiting(play).delay_seconds == 0.125


@pytest.mark.parametrize(
    ("said", "bounds"),
    [
        ({"min_ms": -5, "max_ms": -7}, (10, 10)),
        ({"min_ms": 10**30, "max_ms": 10**40}, (600_000, 600_000)),
        ({"min_ms": 500, "max_ms": 400}, (500, 500)),
    ],
)
def test_absurd_backoff_bounds_are_brought_to_reason(said: dict[str, int], bounds: tuple[int, int]) -> None:
    """S33"""
    play = Play()
    play.connect(reconnect=said)
    assert (play.session._backoff.min_ms, play.session._backoff.max_ms) == bounds


def test_bye_says_when_and_where_to_go() -> None:
    """SPEC 5.3.1, 5.3.2"""
    play = Play()
    play.connect()
    play.events()
    urls = ["ws://other.example/ws", "nonsense", "ftp://no", "ws://third.example:1/x?y=z"]
    play.says({"type": "bye", "code": 4200, "name": "draining", "reconnect_after_ms": 1_830, "urls": urls})
    assert play.session.is_polite
    event = waiting(play)
    assert event.delay_seconds == pytest.approx(1.83)
    assert event.code == 4200
    assert "draining" in event.reason
    dialled = []
    for _ in range(3):
        play.wait()
        dialled.append(play.session.dial)
        play.cut()
    assert dialled == ["ws://other.example/ws", "ws://third.example:1/x?y=z", "ws://broker.example:7400/ws"]


def test_client_sent_away_in_a_storm_waits_no_less_than_it_was_told() -> None:
    """SPEC 3.1.7, 5.3.4"""
    play = Play()
    play.open()
    play.says({"type": "bye", "code": 4102, "name": "overloaded", "reconnect_after_ms": 12_345})
    event = waiting(play)
    assert event.delay_seconds == pytest.approx(12.345)
    assert event.code == 4102
    play.wait()
    (connect,) = play.open()
    assert connect["type"] == "connect"


def test_bye_cannot_take_the_encryption_away() -> None:
    """S33"""
    play = Play("wss://broker.example")
    play.connect()
    play.says(
        {"type": "bye", "code": 4200, "name": "draining", "urls": ["ws://plain.example", "wss://safe.example"]}
    )
    play.wait()
    assert play.session.dial == "wss://safe.example/ws"


def test_second_immediate_attempt_waits() -> None:
    """SPEC 5.3.2: one immediate attempt, or a broker could make its clients spin."""
    play = Play()
    play.connect()
    play.cut(4200)
    assert waiting(play).delay_seconds == 0
    play.wait()
    play.connect()
    play.events()
    play.cut(4200)
    assert waiting(play).delay_seconds == 0.25


def test_pause_that_a_broker_asks_for_is_kept_and_bounded() -> None:
    play = Play(max_wait_seconds=60)
    play.connect()
    play.says({"type": "bye", "code": 4102, "name": "overloaded", "reconnect_after_ms": 9_000})
    assert waiting(play).delay_seconds == 9
    play.wait()
    play.connect()
    play.events()
    play.says({"type": "bye", "code": 4102, "name": "overloaded", "reconnect_after_ms": 10**300})
    assert waiting(play).delay_seconds == 60


def test_three_refused_handshakes_are_reported_once_and_tried_on() -> None:
    """SPEC 5.3.4"""
    play = Play()
    play.session.start(play.now)
    reported = []
    for _ in range(5):
        play.session.lost(play.now, reason="connection refused")
        reported += [e for e in play.events() if isinstance(e, HandshakesRefused)]
        play.wait()
    assert reported == [HandshakesRefused(3, "connection refused")]
    play.connect()
    play.cut()
    assert not [e for e in play.events() if isinstance(e, HandshakesRefused)]


def test_broker_that_does_not_answer_connect_is_given_up() -> None:
    play = Play(connect_timeout_seconds=5)
    play.open()
    play.passes(4.9)
    assert play.session.is_attached
    play.passes(0.1)
    assert "no answer" in waiting(play).reason


@pytest.mark.parametrize(
    ("name", "retry", "state"),
    [
        ("forbidden", "never", State.CLOSED),
        ("unauthorized", "reauth", State.CLOSED),
        ("something_new", "whatever", State.CLOSED),
        ("overloaded", "backoff", State.WAITING),
        ("internal", "now", State.WAITING),
    ],
)
def test_refused_connect_is_acted_on_by_retry(name: str, retry: str, state: State) -> None:
    """SPEC 5.1.3, 5.4.1"""
    play = Play()
    connect = play.open()[0]
    error = {"type": "error", "id": connect["id"], "name": name, "message": "no", "retry": retry}
    play.says(error, {"type": "bye", "code": 4000, "name": "protocol"})
    assert play.session.state is state
    if state is State.CLOSED:
        assert isinstance(play.session.error, ConnectionRefused)
        assert play.session.error.name == name


def test_refused_token_is_renewed_once() -> None:
    play = Play(identity=Identity(is_renewable=True))
    for expected in (State.WAITING, State.CLOSED):
        connect = play.open()[0]
        play.says(
            {"type": "error", "id": connect["id"], "name": "token_expired", "message": "", "retry": "reauth"}
        )
        assert play.session.state is expected
        if expected is State.WAITING:
            assert waiting(play).delay_seconds == 0
            play.wait()


def test_ping_is_answered_with_one_pong() -> None:
    """SPEC 1.15: however many came before there was time to answer."""
    play = Play()
    play.connect()
    play.says({"type": "ping"}, {"type": "ping"}, {"type": "pong"}, {"type": "acked", "id": 1})
    assert play.hears() == [{"type": "pong"}]


def test_silence_for_two_pings_is_death() -> None:
    """SPEC 1.15"""
    play = Play()
    play.connect(ping_ms=1_000)
    play.passes(1.5)
    play.says({"type": "ping"})
    play.passes(1.9)
    assert play.session.state is State.CONNECTED
    play.passes(0.1)
    assert "silent" in waiting(play).reason
    assert not play.session.is_polite


def test_late_timer_asks_before_it_declares_death() -> None:
    """A process that was stopped or suspended has heard nothing, and that proves nothing."""
    play = Play()
    play.connect(ping_ms=10_000)
    play.now += 600
    play.session.tick(play.now)
    assert [p["type"] for p in play.hears()] == ["ping"]
    play.says({"type": "pong"})
    assert play.session.deadline() == play.now + 20
    play.now += 600
    play.session.tick(play.now)
    assert [p["type"] for p in play.hears()] == ["ping"]
    play.passes(5)
    assert play.session.state is State.WAITING


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[[]]",
        '"x"',
        '{"type":5}',
        '{"type":"ping","at":5}',
        '{"type":"published"}',
        "[" * 100_000,
        '{"type":"ping","x":"\ud800"}',
        '{"type":"connected"}',
    ],
)
def test_malformed_text_costs_the_connection(text: str) -> None:
    """S33: dropped and connected again."""
    play = Play()
    play.connect()
    play.session.receive_text(text, play.now)
    assert play.session.state is State.WAITING
    play.wait()
    play.connect()


def test_unknown_types_and_fields_are_ignored() -> None:
    """SPEC 1.8"""
    play = Play()
    play.connect()
    play.says({"type": "fireworks", "colour": 3}, {"type": "ping", "colour": 3})
    assert play.hears() == [{"type": "pong"}]


def test_binary_message_costs_the_connection() -> None:
    play = Play()
    play.connect()
    play.session.receive_binary(play.now)
    assert play.session.state is State.WAITING
    play.session.receive_binary(play.now)


def test_packets_in_the_wrong_state_cost_the_connection() -> None:
    play = Play()
    play.open()
    play.says({"type": "message", "topic": "a", "offset": 1, "log": LOG, "pos": 1, "ts": 1, "data": 1})
    assert play.session.state is State.WAITING
    play.wait()
    play.open()
    play.says({"type": "caught_up", "sub": 1, "after": {}})
    assert play.session.state is State.WAITING
    play.wait()
    heard = play.connect()
    said: dict[str, Any] = {"id": heard[0]["id"]}
    play.connected(said)
    assert play.session.state is State.WAITING


def test_other_protocol_is_not_spoken() -> None:
    play = Play()
    play.connected(play.open()[0], protocol=2)
    assert play.session.state is State.WAITING


def test_notice_is_an_event() -> None:
    play = Play()
    play.connect()
    play.says({"type": "notice", "draining": True})
    assert play.events()[-1] == Notice(draining=True)


def test_connection_name_too_long_to_be_sent_back_is_not_kept() -> None:
    play = Play()
    play.connect(connection="c" * 256)
    assert "replaces" not in play.reconnect()[0]


def test_texts_and_losses_of_an_earlier_attempt_change_nothing() -> None:
    play = Play()
    play.connect()
    play.cut()
    before = play.session.deadline()
    play.says({"type": "bye", "code": 4000, "name": "protocol"})
    play.cut(4000)
    assert play.session.deadline() == before
    assert play.session.take_text(play.now) is None


def test_finish_says_goodbye_and_closes() -> None:
    """SPEC 3.7.1"""
    play = Play()
    play.connect()
    play.session.finish(play.now)
    assert play.hears() == [{"type": "disconnect"}]
    assert play.session.state is State.CLOSED
    assert play.session.error is None
    assert play.session.is_polite
    assert play.session.deadline() == float("inf")


def test_finish_waits_for_what_is_queued() -> None:
    play = Play()
    play.connect()
    one = play.publish()
    play.session.finish(play.now)
    heard = play.hears()
    assert [p["type"] for p in heard] == ["publish"]
    place = {"type": "published", "id": heard[0]["id"], "log": LOG, "pos": 1, "offset": 1, "level": "memory"}
    play.says(place)
    play.says({"type": "ping"})
    assert [p["type"] for p in play.hears()] == ["disconnect", "pong"]
    assert one.result is not None
    assert play.session.state is State.CLOSED


def test_finish_sends_what_waits_for_no_answer() -> None:
    play = Play()
    play.connect()
    play.send()
    play.session.finish(play.now)
    assert [p["type"] for p in play.hears()] == ["publish", "disconnect"]
    assert play.session.state is State.CLOSED


def test_finish_is_bounded() -> None:
    play = Play(close_timeout_seconds=5)
    play.connect()
    one = play.publish()
    play.session.finish(play.now)
    play.passes(5)
    assert play.session.state is State.CLOSED
    assert isinstance(one.result, ConnectionClosed)


def test_finish_without_a_connection_closes_unless_something_is_queued() -> None:
    play = Play()
    play.connect()
    play.cut()
    play.session.finish(play.now)
    assert play.session.state is State.CLOSED
    play = Play()
    play.connect()
    play.publish()
    play.cut()
    play.session.finish(play.now)
    assert play.session.state is State.WAITING
    play.passes(0.2)
    heard = play.connect()
    assert [p["type"] for p in heard] == ["connect"]
    assert [p["type"] for p in play.hears()] == ["publish"]


def test_connection_lost_with_nothing_left_to_flush_ends_finishing() -> None:
    play = Play()
    play.connect()
    play.session.finish(play.now)
    play.cut()
    assert play.session.state is State.CLOSED


def test_closed_session_takes_nothing_more() -> None:
    play = Play()
    play.connect()
    play.session.close()
    play.session.close()
    play.session.finish(play.now)
    with pytest.raises(ConnectionClosed):
        play.publish()
    with pytest.raises(ConnectionClosed):
        play.subscribe()
    assert play.states()[-1] is State.CLOSED


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("ws://h", "ws://h/ws"),
        ("ws://h/", "ws://h/ws"),
        ("http://127.0.0.1:7400", "ws://127.0.0.1:7400/ws"),
        ("https://h/triode/ws?x=1#frag", "wss://h/triode/ws?x=1"),
        ("ws://[::1]:7400", "ws://[::1]:7400/ws"),
    ],
)
def test_url_becomes_a_websocket_url(given: str, used: str) -> None:
    assert websocket_url(given) == used


@pytest.mark.parametrize(
    "url", ["", "h:7400", "ftp://h", "ws://", "ws://u:p@h", "ws://h:0", "ws://h:99999", "ws://[h"]
)
def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        websocket_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://h:1/ws", "wss://h:1/ws"),
        ("wss://h/ws?token=hush", "wss://h/ws?…"),
        ("wss://h#token=hush", "wss://h?…"),
        ("ws://me:hush@h/ws", "ws://h/ws"),
        ("me:hush@h", "h"),
        ("ws://h/a@b?x=1?token=hush", "ws://h/b?…"),
    ],
)
def test_s10_url_is_shown_without_what_may_hold_a_token(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize("url", ["ftp://h?token=hush", "ws://me:hush@h", "ws://h:0?token=hush"])
def test_s10_url_that_is_none_is_refused_without_its_token(url: str) -> None:
    with pytest.raises(ValueError, match=r"broker's URL") as raised:
        websocket_url(url)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "initiator"),
    [(1006, "network"), (4104, "server"), (4200, "operator"), (4777, "server"), (1009, "server")],
)
def test_end_of_a_connection_has_who_began_it(code: int, initiator: str) -> None:
    play = Play()
    play.connect()
    if code >= 4000:
        play.says({"type": "bye", "code": code, "name": "x"})
    else:
        play.cut(code)
    (told,) = [event for event in play.session.events if isinstance(event, StateChanged) and event.initiator]
    assert (told.code, told.initiator) == (code, initiator)


def test_clients_own_close_and_brokers_refusal_have_who_began_them() -> None:
    play = Play()
    play.connect()
    play.session.close()
    assert [event.initiator for event in play.session.events if isinstance(event, StateChanged)][-1] == "client"
    play = Play()
    connect = play.open()[0]
    play.says({"type": "error", "id": connect["id"], "name": "unauthorized", "message": "no", "retry": "reauth"})
    assert [event.initiator for event in play.session.events if isinstance(event, StateChanged)][-1] == "server"
