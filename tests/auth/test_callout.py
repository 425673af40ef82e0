"""The auth callout: an endpoint that answers, denies, is slow, hangs, talks rubbish, dies and comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from triode_broker.auth.asking import NoReply, Reply
from triode_broker.config import Auth, Config, Limits, Permission, TokenKey
from triode_broker.core.identity import Arrival, Identity
from triode_protocol.codec import Refused

from tests.auth.endpoint import Endpoint, Seen, hear_identity, hear_refusal, reply
from tests.auth.making import GOOD, NOW_MS, Door, make_door, sign

SECRET = "callout-secret-0123456789"


async def begin(
    nursery: trio.Nursery,
    answer: Callable[[Seen], bytes | None],
    *,
    limits: Limits | None = None,
    tokens: tuple[TokenKey, ...] = (),
    **auth: Any,
) -> tuple[Endpoint, Door]:
    """An endpoint, and an authority that asks it."""
    endpoint = await Endpoint(answer).start(nursery)
    known = Auth(callout_url=endpoint.url, callout_secret_env="SECRET", **auth)
    rows = (Permission(role="editor", publish=("docs/{user}/{claims.team}/#",)),)
    config = Config(auth=known, permissions=rows, tokens=tokens, limits=limits or Limits())
    door = make_door(config, environ={"SECRET": SECRET, "HS256": "x" * 64})
    await nursery.start(door.authority.run)
    return endpoint, door


async def test_an_endpoint_says_who_it_is_and_what_it_may(nursery: trio.Nursery) -> None:
    said = {
        "user": "bob", "tenant": "acme", "roles": ["editor"], "permissions": {"subscribe": ["news/#"]},
        "claims": {"team": "red"}, "expires_in_ms": 5_000, "token_id": "t7", "limits": {"max_subscriptions": 2},
    }  # fmt: skip
    endpoint, door = await begin(nursery, lambda _: reply(said))
    arrival = Arrival("192.0.2.1", "", ("svc",), True)
    identity = await hear_identity(door, "opaque", arrival)
    assert (identity.user, identity.tenant, identity.method) == ("bob", "acme", "callout")
    assert (identity.expires_ms, identity.token_id) == (NOW_MS + 5_000, "t7")
    assert identity.rights.may("publish", "docs/bob/red/1")
    assert identity.rights.may("subscribe", "news/1")
    assert not identity.rights.may("subscribe", "docs/bob/red/1")
    assert identity.limits == {"max_subscriptions": 2}
    assert door.flushes, "an answer that comes later ends its own turn"
    (seen,) = endpoint.seen
    assert seen.json == {"token": "opaque", "address": "192.0.2.1", "certificate": ["svc"], "is_encrypted": True}
    assert seen.head.startswith("POST /asked HTTP/1.1")
    assert f"authorization: bearer {SECRET}" in seen.head.lower()


async def test_an_answer_is_kept_for_its_time_by_token_and_address(nursery: trio.Nursery) -> None:
    endpoint, door = await begin(nursery, lambda _: reply({"user": "bob", "expires_in_ms": 30_000}))
    await hear_identity(door, "opaque")
    assert door.let_in("opaque").user == "bob"
    await hear_identity(door, "opaque", Arrival("192.0.2.1"))
    await hear_identity(door, "another")
    assert len(endpoint.seen) == 3
    door.clock.ms += 30_000  # what it said of itself is shorter than callout_cache_seconds
    await hear_identity(door, "opaque")
    assert len(endpoint.seen) == 4


async def test_answers_are_asked_for_anew_when_settings_are_read_again(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    endpoint = await Endpoint(lambda _: reply({"user": "bob"})).start(nursery)
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    config = Config(auth=Auth(callout_url=endpoint.url, callout_secret_file=str(secret)))
    door = make_door(config)
    await nursery.start(door.authority.run)
    await hear_identity(door, "opaque")
    secret.write_text(SECRET[::-1])
    door.authority.reload(config)
    await hear_identity(door, "opaque")
    assert [SECRET in endpoint.seen[0].head, SECRET[::-1] in endpoint.seen[1].head] == [True, True]


async def test_the_cache_is_bounded(nursery: trio.Nursery) -> None:
    endpoint, door = await begin(nursery, lambda _: reply({"user": "bob"}), limits=Limits(max_callout_cache=2))
    for token in ("a", "b", "c", "c", "b", "a"):
        await hear_identity(door, token)
    assert [seen.json["token"] for seen in endpoint.seen] == ["a", "b", "c", "a"]


async def test_without_a_cache_every_connect_is_asked(nursery: trio.Nursery) -> None:
    endpoint, door = await begin(nursery, lambda _: reply({"user": "bob"}), callout_cache_seconds=0)
    for _ in range(2):
        await hear_identity(door, "opaque")
    assert len(endpoint.seen) == 2


async def test_the_same_question_is_asked_once_at_a_time(nursery: trio.Nursery) -> None:
    endpoint, door = await begin(nursery, lambda _: reply({"user": "bob"}), callout_cache_seconds=0)
    answers: list[Identity | Refused] = []
    for _ in range(20):
        door.authority.ask("opaque", Arrival(), answers.append)
    await hear_identity(door, "opaque")
    await wait_all_tasks_blocked()
    assert len(answers) == 20
    assert len(endpoint.seen) == 1


async def test_s19_an_answer_is_as_old_as_its_question(nursery: trio.Nursery) -> None:
    """Whoever was revoked while the endpoint thought about it is not let in by what it knew before."""

    def take_time(_: Seen) -> bytes:
        door.clock.ms += 1_000
        return reply({"user": "bob"})

    _, door = await begin(nursery, take_time)
    assert (await hear_identity(door, "opaque")).issued_ms == NOW_MS


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_no_is_a_no_whatever_stands_below_it(nursery: trio.Nursery, status: str) -> None:
    _, door = await begin(nursery, lambda _: reply({"user": "bob"}, status))
    assert (await hear_refusal(door, "opaque")).name == "unauthorized"
    assert not door.log.of("callout_failed")


async def test_what_has_expired_already_is_said_to_be(nursery: trio.Nursery) -> None:
    _, door = await begin(nursery, lambda _: reply({"user": "bob", "expires_at_ms": NOW_MS}))
    assert (await hear_refusal(door, "opaque")).name == "token_expired"


async def test_an_answer_is_good_for_a_bounded_time(nursery: trio.Nursery) -> None:
    _, door = await begin(nursery, lambda _: reply({"user": "bob"}), max_token_seconds=60)
    assert (await hear_identity(door, "opaque")).expires_ms == NOW_MS + 60_000


RUBBISH = [
    b"", b"yes", b"[]", b"{}", b"null", b"\xff\xfe", b'{"user":""}', b'{"user":5}', b'{"user":"a","user":"b"}',
    b'{"user":"a\\u0000"}', b'{"user":"a","admin":true}', b'{"user":"a","tenant":"a/b"}',
    b'{"user":"a","roles":"x"}', b'{"user":"a","roles":[5]}',
    b'{"user":"a","permissions":{"publsh":["a"]}}', b'{"user":"a","expires_in_ms":-1}',
    b'{"user":"a","permissions":{"deny_publish":["a/#/b"]}}', b'{"user":"a","expires_in_ms":1e400}',
    b'{"user":"a","limits":{"x":1}}', b'{"user":"a","expires_at_ms":NaN}', b"[" * 5_000, b'{"user":"a"',
]  # fmt: skip


async def test_rubbish_lets_nobody_in(nursery: trio.Nursery) -> None:
    """S14: fail closed; a field that was not understood may have been the one that denied."""
    bodies = iter(RUBBISH)
    _, door = await begin(nursery, lambda _: reply(next(bodies)), callout_failures=1_000)
    for body in RUBBISH:
        assert (await hear_refusal(door, "opaque")).name == "unavailable", body
    told = [line["reason"] for line in door.log.of("callout_failed")]
    assert len(told) == len(RUBBISH)
    form = "the answer is not of the form that is documented"
    assert [line.removeprefix(form) for line in told if line.startswith(form)] == [
        *(": user", ": user", ": a field that is not known", ": roles", ": roles", ": expires_in_ms"),
    ], "its field, and nothing of what it holds"


@pytest.mark.parametrize(
    "answer",
    [
        reply({"user": "root"}, "500 Oops"),
        reply({"user": "root"}, "201 Created"),
        reply({"user": "root"}, "404 Not Found"),
        reply(b"", "302 Found", "Location: http://127.0.0.1:1/"),
        reply({"user": "root", "claims": {"x": "y" * 70_000}}),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nabcde\r\n" * 20_000,
        b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"user":"root"}',
        b"HTTP/9.9 200\r\n\r\n{}",
        b"\x00\x01\x02",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
        b"",
    ],
)
async def test_only_a_whole_answer_with_200_counts(nursery: trio.Nursery, answer: bytes) -> None:
    endpoint, door = await begin(nursery, lambda _: answer)
    assert (await hear_refusal(door, "opaque")).name == "unavailable"
    assert len(endpoint.seen) == 1, "neither asked again nor led elsewhere"


async def test_who_hangs_is_given_up(nursery: trio.Nursery) -> None:
    endpoint, door = await begin(nursery, lambda _: None, callout_timeout_ms=1_000)
    refused = await hear_refusal(door, "opaque")
    assert (refused.name, refused.message) == ("unavailable", "credentials cannot be checked now")
    assert len(endpoint.seen) == 1
    (line,) = door.log.of("callout_failed")
    assert line["reason"] == "no answer within 1 s"


async def test_who_fails_is_left_alone_and_probed_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """A callout that fails costs its timeout a few times, not every client's."""
    asked = 0
    is_up = False

    async def ask(*_: object, **__: object) -> Reply:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        if not is_up:
            raise NoReply("not reached")
        return Reply(200, b'{"user":"bob"}')

    auth = Auth(callout_url="http://[::1]:1/", callout_failures=2, callout_pause_ms=5_000)
    door = make_door(Config(auth=auth), ask=ask)
    await nursery.start(door.authority.run)
    for token in ("a", "b"):
        await hear_refusal(door, token)
    assert (await hear_refusal(door, "c")).retry_after_ms == 5_000
    assert asked == 2, "the third was not asked"
    autojump_clock.jump(5.1)
    waiting: list[Identity | Refused] = []
    for token in ("d", "e", "f"):
        door.authority.ask(token, Arrival(), waiting.append)
    await wait_all_tasks_blocked()
    assert [answer.name for answer in waiting if isinstance(answer, Refused)] == ["unavailable"] * 3
    assert asked == 3, "one is the probe, the others do not wait for it"
    assert door.authority.degraded() == ["the callout is left alone, its last failure: not reached"]
    is_up = True
    autojump_clock.jump(5.1)
    assert (await hear_identity(door, "h")).user == "bob"
    assert door.authority.degraded() == []
    assert (await hear_identity(door, "i")).user == "bob"
    assert asked == 5
    assert len(door.log.of("callout_left_alone")) == 1


async def test_who_is_not_there_is_unavailable_until_it_is(nursery: trio.Nursery) -> None:
    endpoint, door = await begin(nursery, lambda _: reply({"user": "bob"}))
    gone = make_door(Config(auth=Auth(callout_url="http://127.0.0.1:9/")))
    await nursery.start(gone.authority.run)
    assert (await hear_refusal(gone, "opaque")).name == "unavailable"
    assert (await hear_identity(door, "opaque")).user == "bob"
    assert len(endpoint.seen) == 1


async def test_no_more_wait_than_may(nursery: trio.Nursery) -> None:
    endpoint, door = await begin(nursery, lambda _: None, limits=Limits(max_waiting_credentials=3))
    answers: list[Identity | Refused] = []
    for number in range(5):
        door.authority.ask(f"t{number}", Arrival(), answers.append)
    assert [answer.name for answer in answers if isinstance(answer, Refused)] == ["unavailable"] * 2
    await endpoint.is_asked.wait()


async def test_no_more_are_asked_at_once_than_may(nursery: trio.Nursery) -> None:
    asked, may_answer = 0, trio.Event()

    async def ask(*_: object, **__: object) -> Reply:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        return Reply(200, b'{"user":"bob"}')

    config = Config(auth=Auth(callout_url="http://[::1]:1/"), limits=Limits(max_callouts=2))
    door = make_door(config, ask=ask)
    await nursery.start(door.authority.run)
    answers: list[Identity | Refused] = []
    for number in range(5):
        door.authority.ask(f"t{number}", Arrival(), answers.append)
    await wait_all_tasks_blocked()
    assert (asked, answers) == (2, [])
    may_answer.set()
    await wait_all_tasks_blocked()
    assert (asked, len(answers)) == (5, 5)


async def test_whoever_waits_when_the_node_ends_is_answered() -> None:
    answers: list[Identity | Refused] = []
    async with trio.open_nursery() as nursery:
        endpoint, door = await begin(nursery, lambda _: None)
        door.authority.ask("opaque", Arrival(), answers.append)
        await endpoint.is_asked.wait()
        nursery.cancel_scope.cancel()
    (answer,) = answers
    assert isinstance(answer, Refused)
    assert answer.name == "unavailable"
    assert await hear_refusal(door, "opaque")


async def test_a_session_whose_answer_fails_takes_nobody_along(nursery: trio.Nursery) -> None:
    _, door = await begin(nursery, lambda _: reply({"user": "bob"}), callout_cache_seconds=0)

    def fail(_: object) -> None:
        raise RuntimeError("opaque")

    door.authority.ask("opaque", Arrival(), fail)
    assert await hear_identity(door, "opaque2")
    (line,) = door.log.of("credential_answer_failed")
    assert "opaque" not in str(line)


@pytest.mark.parametrize("token", ["\ud800", "x" * 8_193])
async def test_what_is_no_text_or_too_long_is_not_sent_out(nursery: trio.Nursery, token: str) -> None:
    endpoint, door = await begin(nursery, lambda _: reply({"user": "bob"}))
    assert door.refuse(token).startswith("unauthorized: ")
    assert endpoint.seen == []


async def test_a_token_of_a_configured_kind_is_not_sent_out(nursery: trio.Nursery) -> None:
    keys = (TokenKey(algorithm="HS256", key_env="HS256"),)
    endpoint, door = await begin(nursery, lambda _: reply({"user": "root"}), tokens=keys)
    assert door.let_in(sign(GOOD, key="x" * 64)).user == "alice"
    assert "signature" in door.refuse(sign(GOOD, key="y" * 64))
    assert endpoint.seen == []


async def test_s10_neither_token_nor_secret_stands_in_the_log(nursery: trio.Nursery) -> None:
    answers = iter(
        [reply(b"", "500 canary"), reply(b"canary"), reply({"canary": 1}), reply({"user": "canary\x00"})]
    )
    _, door = await begin(nursery, lambda _: next(answers))
    for _ in range(4):
        refused = await hear_refusal(door, "canary-token")
        assert "canary" not in repr(refused.args)
    assert "canary" not in str(door.log.lines)
    assert SECRET not in str(door.log.lines)
