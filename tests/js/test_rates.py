"""The JavaScript client and a broker that lets it publish less than it wants to (SPEC 11.7)."""

import json

import trio

from tests.browser.built import CLIENT
from tests.client.running import PATIENCE_SECONDS, running

PROGRAM = """
const { Triode } = await import("./dist/node.js");
const [, url] = process.argv;
const client = new Triode(url);
const states = [];
const got = [];
client.on("state", ({ state }) => states.push(state));
await client.subscribe("fast", ({ data }) => got.push(data)).ready;
const places = await Promise.all(Array.from({ length: 300 }, (_, n) => client.publish("fast", n)));
while (got.length < 300) await new Promise(setImmediate);
console.log(JSON.stringify([got, places.map(({ offset }) => offset), states.includes("waiting")]));
process.exit();
"""


async def test_client_is_slowed_down_and_loses_nothing() -> None:
    """SPEC 11.7.1, 11.7.4, G3: in its order, and on the one connection."""
    count = 300
    async with running(quotas=[{"publishes_per_second": 200}], limits={"rate_burst_ms": 250}) as url:
        command = ["node", "--input-type=module", "--eval", PROGRAM, "--", url.replace("http", "ws", 1)]
        with trio.fail_after(PATIENCE_SECONDS):
            done = await trio.run_process(
                command, cwd=CLIENT, capture_stdout=True, capture_stderr=True, check=False
            )
    got, offsets, was_cut = json.loads(done.stdout) if done.stdout else (done.stderr, [], True)
    assert got == list(range(count))
    assert offsets == list(range(1, count + 1))
    assert not was_cut
