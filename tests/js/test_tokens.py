"""The JavaScript client and a broker whose tokens soon expire (SPEC 11.2, 11.3)."""

from pathlib import Path

import trio

from tests.browser.built import CLIENT
from tests.client.running import PATIENCE_SECONDS, running
from tests.spec.guarded import SECRET, settings

LIFE_SECONDS = 3.5  # see tests/client/test_live_tokens.py

PROGRAM = """
import { createHmac } from "node:crypto";
const { Triode } = await import("./dist/node.js");
const [, url, secret, life] = process.argv;
const encoded = (said) => Buffer.from(said).toString("base64url");
const token = (sub, seconds) => {
  const now = Date.now() / 1000;
  const claims = JSON.stringify({ sub, iat: Math.floor(now), exp: now + seconds });
  const signed = `${encoded('{"alg":"HS256"}')}.${encoded(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
};
const given = [+life, 600];
const client = new Triode(url, { token: async () => token("alice", given.shift()) });
const states = [];
client.on("state", ({ state }) => states.push(state));
const got = new Promise((resolve) => client.subscribe("rooms/1", resolve));
await client.connect();
const other = new Triode(url, { token: token("bob", +life) });
await other.connect();
await new Promise((resolve) => other.on("state", ({ state }) => state == "waiting" && resolve()));
await client.publish("rooms/1", "still there");
const { data, user } = await got;
console.log(JSON.stringify([data, user, given.length, states.includes("waiting")]));
process.exit();
"""


async def test_client_renews_its_token_and_its_connection_goes_on(tmp_path: Path) -> None:
    """Another client came with a token of the same time, and has lost its connection."""
    async with running(**settings(tmp_path)) as url:
        command = [
            "node",
            "--input-type=module",
            "--eval",
            PROGRAM,
            "--",
            url.replace("http", "ws", 1),
            SECRET,
            str(LIFE_SECONDS),
        ]
        with trio.fail_after(PATIENCE_SECONDS):
            done = await trio.run_process(
                command, cwd=CLIENT, capture_stdout=True, capture_stderr=True, check=False
            )
    assert done.stdout.decode().strip() == '["still there","alice",0,false]', done
