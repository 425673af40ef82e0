// The client as it is published, in Node.js, against a broker that is killed on the way. Argument: the broker's URL.
//
// Whoever runs it kills and restarts the broker where it says so, and closes its stdin then.
import assert from "node:assert/strict";
import { once } from "node:events";
import { TriodeError, Triode } from "triode";

const client = new Triode(process.argv[2], { name: "end to end" });
const gaps = [];
client.on("gap", (gap) => gaps.push(gap));

// Published, received, stored.
const got = [];
const subscription = client.subscribe("disk/+", ({ data }) => got.push(data));
await subscription.ready;
const first = await client.publish("disk/a", { n: 1 }, { key: "k", headers: { h: "v" } });
assert.equal(first.level, "disk");
assert.deepEqual(subscription.position[first.log], first.pos);
const again = await client.publish("disk/a", { n: 1 }, { key: "k", headers: { h: "v" }, messageId: first.messageId });
assert.deepEqual([again.duplicate, again.pos], [true, first.pos]);
await assert.rejects(client.publish("disk//a", 1), (error) => error instanceof TriodeError && error.name == "bad_topic");
const { messages, complete } = await client.history("disk/a");
assert.deepEqual([messages[0].data, messages[0].headers, complete], [{ n: 1 }, { h: "v" }, true]);

// Work: the second attempt succeeds.
const worked = [];
const worker = client.consume("disk/jobs", { durable: "workers" }, ({ message, attempt }) => {
  worked.push([message.data, attempt]);
  if (attempt == 1) throw new Error("not yet");
});
console.error = () => {}; // that error is reported
await worker.ready;
await client.publish("disk/jobs", "job");
while (worked.length < 2) await new Promise(setImmediate);
assert.deepEqual(worked, [["job", 1], ["job", 2]]);

// Killed: what was received is not received again, what is published meanwhile is not lost, nothing is missing.
console.log("kill");
await new Promise((resolve) => client.on("state", ({ state }) => state == "waiting" && resolve()));
const meanwhile = [2, 3, 4].map((n) => client.publish("disk/a", { n }));
await once(process.stdin.resume(), "end");
const places = await Promise.all(meanwhile);
while (got.length < 5) await new Promise(setImmediate);
assert.deepEqual(got, [{ n: 1 }, "job", { n: 2 }, { n: 3 }, { n: 4 }]);
assert.deepEqual(places.map(({ pos }) => pos > first.pos), [true, true, true]);

// Another page goes on where this one stood.
const position = JSON.parse(JSON.stringify(subscription.position));
subscription.unsubscribe();
await client.publish("disk/b", { n: 5 });
for await (const { data } of client.subscribe("disk/+", { after: position })) {
  assert.deepEqual(data, { n: 5 });
  break;
}
assert.deepEqual(gaps, []);
await client.close();
console.log("done");
