"""S11, S12, S13 through a whole broker: rules in its settings, users in tokens, everything over the wire."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio
from triode_broker.config import Permission

from tests.security.withdrawing import door, token
from tests.spec.client import RawClient

OWN = "users/{user}"
RULES: list[dict[str, Any]] = [
    {action: ["hall/#", f"{OWN}/#", "{user}/desk"] for action in ("publish", "subscribe", "presence", "history")},
    {"deny_subscribe": ["hall/closed/#"], "deny_history": ["hall/closed/#"], "consume": ["hall/tasks/#"]},
    {"role": "boss", **{action: ["#", "$dead/#"] for action in ("publish", "subscribe", "history", "consume")}},
]


async def said(client: RawClient, **packet: Any) -> str:
    """What becomes of a request: the name of its error, or the type of its answer."""
    answer = await client.request(packet)
    return str(answer.get("name", answer["type"]))


async def test_nobody_gets_more_by_a_name(tmp_path: Path) -> None:
    """S12: whatever a token calls its user, of the topics of others it gets nothing."""
    async with door(tmp_path, permissions=RULES) as here:
        for user in ("+", "#", "$dead", "a/b", "ann/#", "", "\x00", "\u0065\u0301", "{user}", "*", ".."):
            client, answer = await here.knock(token(user))
            if answer["type"] == "connected":
                await _has_nothing_of_others(client)
            else:
                assert answer["name"] == "unauthorized"
                assert user in ("", "\x00")


async def _has_nothing_of_others(client: RawClient) -> None:
    ways: tuple[dict[str, Any], ...] = ({}, {"from": "last"}, {"group": "g"}, {"after": {}})
    for sub, filter in enumerate(("users/ann", "users/ann/#", "$dead/desk", "ann/desk"), 1):
        for more in ways:
            asked = {"type": "subscribe", "sub": sub, "filter": filter, **more}
            assert await said(client, **asked) == "forbidden", asked
    for topic in ("users/ann", "ann/desk"):
        assert await said(client, type="publish", topic=topic, data=1) == "forbidden"
        assert await said(client, type="history", topic=topic) == "forbidden"
        assert await said(client, type="presence", topic=topic) == "forbidden"
    assert await said(client, type="publish", topic="hall/a", data=1) == "published"


async def test_wildcard_brings_what_is_allowed_and_no_more(tmp_path: Path) -> None:
    """S11: live and from the past; deny wins, also over what another row allows."""
    async with door(tmp_path, permissions=RULES) as here:
        boss, _ = await here.enter(token("eve", roles=["boss"]))
        ann, _ = await here.enter(token("ann"))
        for topic in ("hall/closed/1", "hall/a", "users/eve", "users/ann"):
            assert await said(boss, type="publish", topic=topic, data=1) == "published"
        answer = await ann.subscribe(1, "#", **{"from": "earliest"})
        assert answer["filtered"]
        got = [await ann.expect("delivery"), await ann.expect("delivery")]
        assert {packet["message"]["topic"] for packet in got} == {"hall/a", "users/ann"}
        await ann.expect("caught_up")
        for topic in ("hall/closed/1", "users/eve", "hall/b"):
            assert await said(boss, type="publish", topic=topic, data=2) == "published"
        await ann.expect("message", topic="hall/b")


async def test_will_goes_by_the_rules_that_are_in_force_when_it_is_due(tmp_path: Path) -> None:
    """S13: its client is gone, and no session would be judged for it."""
    async with door(tmp_path, permissions=RULES) as here:
        broker = here.running.broker
        for user, topic in (("ann", "hall/a"), ("bob", "users/bob")):
            client, _ = await here.enter(token(user), will={"topic": topic, "data": 1, "delay_ms": 300})
            await client.cut()
        wills = broker.node.wills
        await until(lambda: len(wills) == 2)
        rules = msgspec.convert([{"publish": [OWN]}], tuple[Permission, ...])
        broker.reloading.reload(msgspec.structs.replace(broker.config, permissions=rules))
        await until(lambda: not wills)
        assert (wills.published, wills.refused) == (1, 1)


async def until(is_so: Callable[[], bool]) -> None:
    """What the broker does in its own time."""
    with trio.fail_after(30):
        while not is_so():
            await trio.lowlevel.checkpoint()
