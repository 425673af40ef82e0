"""A hostile or broken broker (S33): whatever it sends, the session raises nothing, stays consistent and bounded.

The property: random packets, mutated packets and random text, in any order, with time and the program's wishes in
between, never raise, and afterwards the session can always be brought back to work by an honest broker.
"""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from triode.consuming import Handed, Terms
from triode.errors import TriodeError
from triode.records import State
from triode.subscription import Phase, Subscription
from triode.subscriptions import MAX_LOGS

from tests.client.play import LOG, Play, message

OF_EACH = {
    "connected": "connection node protocol capabilities limits ping_ms reconnect expires_in_ms",
    "subscribed": "sub after live",
    "catching_up": "sub after reason",
    "caught_up": "sub after",
    "message": "topic offset log pos ts data",
    "delivery": "sub message attempt",
    "gap": "sub after reason topic",
    "unsubscribed": "sub name reason retry",
    "published": "id log pos offset level",
    "history": "id messages complete after",
    "acked": "id",
    "ping": "at",
    "pong": "id",
    "notice": "expires_in_ms",
    "error": "id sub name retry retry_after_ms",
    "bye": "code name reconnect_after_ms urls",
    "unheard_of": "id data",
}
LIMITS = ["max_packet_bytes", "max_frame_bytes", "max_subscriptions", "max_inflight_publishes", "dedupe_window_ms"]
numbers = st.one_of(st.integers(0, 12), st.integers(), st.sampled_from([2**53, 10**400, -1]))
texts = st.one_of(
    st.sampled_from(["a/b", LOG, "", "never", "now", "backoff", "reauth", "ws://x", "m0-second"]), st.text()
)
positions = st.dictionaries(texts, numbers, max_size=4)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
messages = st.builds(message, numbers, texts, texts)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": numbers,
    "sub": st.integers(0, 4),
    "after": positions,
    "at": positions,
    "live": st.booleans(),
    "reason": texts,
    "topic": texts,
    "offset": numbers,
    "log": texts,
    "pos": numbers,
    "ts": numbers,
    "data": anything,
    "message": messages,
    "messages": st.lists(messages, max_size=2),
    "complete": st.booleans(),
    "attempt": numbers,
    "name": texts,
    "retry": st.sampled_from(["never", "now", "backoff", "reauth", "huh"]),
    "retry_after_ms": numbers,
    "level": texts,
    "code": st.one_of(st.integers(999, 4_400), numbers),
    "reconnect_after_ms": numbers,
    "urls": st.lists(texts, max_size=9),
    "connection": texts,
    "node": texts,
    "protocol": st.sampled_from([1, 1, 1, 2]),
    "capabilities": st.lists(texts, max_size=2),
    "limits": st.fixed_dictionaries(dict.fromkeys(LIMITS, numbers)),
    "ping_ms": numbers,
    "reconnect": st.fixed_dictionaries({"min_ms": numbers, "max_ms": numbers}),
    "expires_in_ms": numbers,
}


WISHES = ("publish", "send", "subscribe", "consume", "take", "write", "cut", "remove", "ack", "ask")


def packets_named(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Packets of one type with values that are possible, and at most one that is not."""
    fields = {field: FIELDS[field] for field in OF_EACH[name].split() if field in FIELDS}
    if name == "error":
        fields["message"] = texts
    odd = st.one_of(st.just({}), st.dictionaries(st.sampled_from(list(FIELDS)), anything, max_size=1))
    return st.builds(lambda given, odd: {**given, **odd, "type": name}, st.fixed_dictionaries(fields), odd)


packets = st.one_of([packets_named(name) for name in OF_EACH])


@st.composite
def said(draw: st.DrawFn) -> str:
    """A text: packets, packets with a piece cut out or changed, or anything."""
    several = draw(st.lists(packets, min_size=1, max_size=4))
    text = json.dumps(several if len(several) > 1 else several[0])
    if draw(st.integers(0, 3)):
        return text
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.text(max_size=3)) + text[at + draw(st.integers(0, 5)) :]


HELD: list[tuple[Subscription, Handed]] = []  # what the program was handed, in all its rounds

steps = st.lists(
    st.one_of(
        said(),
        st.text(max_size=20),
        st.sampled_from(WISHES),
        st.floats(0, 100),
    ),
    max_size=12,
)


def act(play: Play, what: str) -> None:
    """One wish of the program, or one event of the line."""
    session = play.session
    every = list(session.subscriptions._all)
    match what:
        case "publish":
            play.publish()
        case "send":
            play.send()
        case "subscribe":
            play.subscribe("a/#", "last" if len(every) % 2 else "new")
        case "take":
            for one in every:
                held = play.handed(one) if one.tray is not None else play.items(one)
                HELD.extend((one, item) for item in held if isinstance(item, Handed))
        case "consume":
            session.consume("a/#", "new", Terms(durable="w", window=3))
        case "ack":
            for one, item in HELD:
                session.settler.ack(one, item)
        case "ask":
            for one, item in HELD:
                session.settler.ack(one, item, play.now)
                session.settler.nack(one, item, now=play.now)
                session.settler.extend(one, item, 1, play.now)
        case "cut":
            play.cut(1009)
        case "remove" if every:
            session.subscriptions.remove(every[0])
        case _:
            play.hears()


@settings(max_examples=200)
@given(steps)
def test_whatever_a_broker_says_the_session_neither_raises_nor_spins_nor_grows(plan: list[str | float]) -> None:
    play = Play(max_inbox_messages=5, max_queue_messages=8)
    play.connect()
    play.subscribe("a/#")
    play.session.consume("a/#", "new", Terms(durable="w", window=3))
    HELD.clear()
    for step in plan:
        if play.session.dial:
            play.open()
        if isinstance(step, float):
            play.passes(step)
        elif step in WISHES:
            with suppress(TriodeError):  # closed, or the queue is full: told to the program
                act(play, step)
        else:
            play.session.receive_text(step, play.now)
        check(play)
    recover(play)


def check(play: Play) -> None:
    """What always holds."""
    session = play.session
    assert session.publisher.waiting <= 8
    assert session.publisher.waiting_bytes >= 0
    for one in session.subscriptions._all:
        assert len(one.inbox) <= 8  # the bound, and a gap before the message that passed it; or gaps and a window
        assert one.inbox_bytes == sum(item.size for item in one.inbox)
        assert one.tray is None or len(one.tray) == sum(isinstance(item, Handed) for item in one.inbox) <= 3
        assert len(one.position) <= MAX_LOGS
        assert one.phase is not Phase.ENDED
    assert session.is_attached == (session.state in (State.CONNECTING, State.CONNECTED))


def recover(play: Play) -> None:
    """An honest broker afterwards finds a client that works, unless one told it to stop."""
    session = play.session
    if session.is_attached:
        play.cut()
    if session.state is State.CLOSED:
        return
    for one in list(session.subscriptions._all):
        session.subscriptions.remove(one)
    play.wait()
    play.connect()
    subscription = play.subscribe("z")
    asked = [p for p in play.hears() if p["type"] == "subscribe"]
    play.says({"type": "subscribed", "sub": asked[-1]["sub"], "after": {LOG: 0}, "live": True})
    play.says(message(1, "z"))
    assert len(play.items(subscription)) == 2
