"""S19 over real nodes: tokens that run out, tokens that are renewed by both clients, tokens that are withdrawn.

The clients are at n2; what they read is at home at n1. Times are those that are promised: the end of a token, and
5 s behind it.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import triode

from tests.browser.built import CLIENT, built_client
from tests.cluster.processes.test_names import ask_json
from tests.edge.rig import HANDSHAKE, text
from tests.security.nodes import Nodes, Street
from tests.security.withdrawing import SECRET, token
from tests.spec.guarded import token as token_for

LIFE_SECONDS = 3.0  # clients renew when four fifths of it are over
G10_SECONDS = 5.0
WILL_MS = 1_500  # long enough for one command of an operator
PATIENCE_SECONDS = 60.0


async def test_s19_a_token_ends_its_connection_in_time_whether_it_is_read_or_not(street: Street) -> None:
    """S19, G10, SPEC 11.2.2, 11.2.3: one reads, and is told why; the other never does, and is gone as well."""
    ends = time.time() + LIFE_SECONDS
    brief = token_for("ann", LIFE_SECONDS, roles=["all"])
    said = {"type": "connect", "id": 1, "token": brief}
    reader = await street.enter("n2", brief)
    await reader.subscribe(1, street.nodes.topic("ends/a", "n1"))
    port = int(street.nodes.url("n2").rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as silent:
        await silent.send_all(HANDSHAKE + text(json.dumps(said)))
        await until_connected(street.nodes, "ann", 2)
        assert await reader.closed() == 4201
        assert ends - 1 < time.time() < ends + G10_SECONDS
        assert [one["type"] for one in reader.packets] == ["notice", "bye"]
        assert reader.packets[1]["name"] == "token_expired"
        await until_connected(street.nodes, "ann", 0)
        assert time.time() < ends + G10_SECONDS
    _, answer = await street.knock("n1", token_for("ann", -1, roles=["all"]))
    assert answer["name"] == "token_expired"


async def until_connected(town: Nodes, user: str, count: int) -> None:
    """As n1 sees it."""
    with trio.fail_after(PATIENCE_SECONDS):
        while len((await town.ask("n1", "connections", user=user))["connections"]) != count:
            await trio.lowlevel.checkpoint()


def given(kept: str, lost: str) -> list[dict[str, Any]]:
    """What the two tokens of a client say, beside its name and their time."""
    return [{"roles": ["all"]}, {"permissions": {"subscribe": [kept, f"{lost}/not"], "publish": [kept]}}]


async def test_s19_python_client_keeps_its_connection_and_what_the_new_token_allows(street: Street) -> None:
    """S19, SPEC 11.3.1, 11.5.1: exactly the subscription ends that is not allowed any more, on both nodes."""
    kept, lost = (street.nodes.topic(f"python/{name}", "n1") for name in ("kept", "lost"))
    claims = given(kept, lost)
    tokens = [token_for("ann", LIFE_SECONDS, **claims[0]), token_for("ann", **claims[1])]

    async def fetch() -> str:
        return tokens.pop(0)

    boss = await street.enter("n1", token("boss", roles=["all"]))
    with trio.fail_after(PATIENCE_SECONDS):
        async with (
            triode.connect(street.nodes.url("n2"), token=fetch) as client,
            client.subscribe(kept) as reading,
            client.subscribe(lost) as ending,
        ):
            events = client.events()
            with pytest.raises(triode.SubscriptionEnded, match="forbidden"):
                await anext(aiter(ending))
            await boss.publish(lost, "not for her")
            await boss.publish(kept, "for her")
            assert (await anext(aiter(reading))).data == "for her"
            await client.aclose()
        states = [event.state async for event in events if isinstance(event, triode.StateChanged)]
    assert triode.State.WAITING not in states
    assert not tokens


PROGRAM = """
import { createHmac } from "node:crypto";
const { Triode } = await import("./dist/node.js");
const [, url, secret, life, kept, lost, claims] = process.argv;
const encoded = (said) => Buffer.from(said).toString("base64url");
const token = (seconds, more) => {
  const now = Date.now() / 1000;
  const said = JSON.stringify({ sub: "ann", iat: Math.floor(now), exp: now + seconds, ...more });
  const signed = `${encoded('{"alg":"HS256"}')}.${encoded(said)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
};
const [first, second] = JSON.parse(claims);
const given = [[+life, first], [600, second]];
const client = new Triode(url, { token: async () => token(...given.shift()) });
const states = [];
client.on("state", ({ state }) => states.push(state));
const got = new Promise((resolve) => client.subscribe(kept, resolve));
const others = [];
const ending = client.subscribe(lost, ({ data }) => others.push(data));
const ended = await new Promise((resolve) => ending.on("end", resolve));
await client.publish(kept, "for her");
const { data } = await got;
console.log(JSON.stringify([data, ended.error?.name, others, given.length, states.includes("waiting")]));
process.exit();
"""


async def test_s19_javascript_client_does_so_too(street: Street, tmp_path: Path) -> None:
    """S19, SPEC 11.3.1, 11.5.1: the package as it is published."""
    built_client(tmp_path)
    kept, lost = (street.nodes.topic(f"javascript/{name}", "n1") for name in ("kept", "lost"))
    url = street.nodes.url("n2").replace("http", "ws", 1)
    said = [url, SECRET, str(LIFE_SECONDS), kept, lost, json.dumps(given(kept, lost))]
    command = ["node", "--input-type=module", "--eval", PROGRAM, "--", *said]
    with trio.fail_after(PATIENCE_SECONDS):
        done = await trio.run_process(command, cwd=CLIENT, capture_stdout=True, capture_stderr=True, check=False)
    assert done.stdout, done.stderr.decode()
    assert json.loads(done.stdout) == ["for her", "forbidden", [], 0, False]


async def test_s13_a_will_that_waits_is_forgotten_when_its_client_is_revoked_at_another_node(
    street: Street,
) -> None:
    """S13, S19, SPEC 11.6.2: lost at n2, revoked at n1; the will of somebody else comes."""
    topic = street.nodes.topic("wills/a", "n1")
    bob = await street.enter("n1", token("bob", roles=["all"]))
    await bob.subscribe(1, topic)
    wills = {"mallory": WILL_MS, "trent": WILL_MS + 300}
    clients = [
        await street.enter(
            "n2", token(user, roles=["all"]), will={"topic": topic, "data": user, "delay_ms": delay_ms}
        )
        for user, delay_ms in wills.items()
    ]
    for client in clients:
        await client.cut()
    await until_connected(street.nodes, "mallory", 0)
    answer = await street.nodes.ask("n1", "revoke", user="mallory")
    assert answer["unanswered"] == []
    assert (await bob.expect("message"))["data"] == "trent"


async def test_s19_who_is_revoked_stays_out_of_all_nodes_also_when_all_of_them_were_killed(street: Street) -> None:
    """S19, G10, SPEC 11.6.1, 11.6.2: asked at n1, she is at n2; then kill -9 of both."""
    town = street.nodes
    lost, fresh = token("eve", roles=["all"]), token("bob", roles=["all"])
    eve, bob = await street.enter("n2", lost), await street.enter("n2", fresh)
    topic = town.topic("gone/a", "n1", "disk")
    await eve.subscribe(1, topic)
    answer = await ask_json(town.node("n1"), "revoke", "--user", "eve")
    assert (answer["closed"], answer["unanswered"]) == (1, [])
    with trio.fail_after(G10_SECONDS):
        assert await eve.closed() == 4002
    await bob.has_nothing_more()
    for node in town.cluster.nodes:
        await town.do(node.kill)
    for node in town.cluster.nodes:
        await town.do(node.start)
    await town.do(town.cluster.whole)
    for name in ("n1", "n2"):
        client, refused = await street.knock(name, lost)
        assert (refused["type"], refused["name"]) == ("error", "revoked")
        assert await client.closed() == 4002
        await street.enter(name, fresh)
