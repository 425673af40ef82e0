/**
 * Publishing: the queue and its bounds, resending, retries, the store (SPEC 3.4, 8.2).
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { QueuedPublish, QueueStore } from "../src/types.js";
import { connected, outcome, turn, World, type Packet } from "./world.js";

const published = (id: number, pos = 1, more: Packet = {}): Packet => ({
  type: "published",
  id,
  log: "m0",
  pos,
  offset: pos,
  level: "memory",
  ...more,
});
const refused = (id: number, name: string, retry: string, more: Packet = {}): Packet => ({
  type: "error",
  id,
  name,
  message: name,
  retry,
  ...more,
});
const data = (world: World): unknown[] => world.socket.of("publish").map((packet) => packet.data);

test("a publish resolves with its place", async () => {
  const world = await connected();
  const promise = world.client.publish("a", { x: 1 }, { key: "k", headers: { h: "v" }, ttlMs: 5, messageId: "m", deliverAt: new Date(9) });
  await turn();
  const { id, ...packet } = world.socket.last("publish");
  assert.deepEqual(packet, {
    type: "publish",
    topic: "a",
    data: { x: 1 },
    key: "k",
    headers: { h: "v" },
    message_id: "m",
    ttl_ms: 5,
    deliver_at_ms: 9,
  });
  await world.socket.say(published(id, 7));
  assert.deepEqual(await promise, { log: "m0", pos: 7, offset: 7, level: "memory", messageId: "m", position: { m0: 7 } });
});

test("one that is delayed has no place yet (SPEC 4.5.3)", async () => {
  const world = await connected();
  const promise = world.client.publish("a", null);
  await turn();
  const { id, message_id: messageId } = world.socket.last("publish");
  await world.socket.say({ type: "published", id, level: "disk", delayed: true, duplicate: true });
  assert.deepEqual(await promise, { level: "disk", delayed: true, duplicate: true, messageId, position: {} });
});

test("bytes go as base64, and deleting a key has no payload", async () => {
  const world = await connected();
  void world.client.publish("a", new Uint8Array([0, 2, 1, 3]).subarray(1, 3));
  void world.client.publish("a", new Uint8Array([1, 2, 255]).buffer);
  void world.client.deleteKey("a", "k");
  await turn();
  const [first, second, third] = world.socket.of("publish");
  assert.deepEqual([first!.b64, second!.b64], ["AgE=", "AQL/"]);
  assert.deepEqual(["data" in third!, "b64" in third!, third!.key], [false, false, "k"]);
});

test("what is no JSON is refused at once, and deletes no key", async () => {
  const world = await connected();
  const loop: Packet = {};
  loop.self = loop;
  for (const wrong of [undefined, () => 1, Symbol("x"), 1n, loop, { toJSON: () => undefined }])
    assert.ok((await outcome(world.client.publish("a", wrong, { key: "k" }))) instanceof TypeError);
  assert.equal(world.socket.of("publish").length, 0);
});

test("half a surrogate pair is refused at once, and takes nobody along (S24-25)", async () => {
  const world = await connected();
  const half = "\ud83d";
  void world.client.publish("a", "\\ud83d \\\\ud83d \ud83d\ude00");
  for (const [topic, data, more] of [
    ["a", half, {}],
    ["a", ["\\" + half], {}],
    ["a", "\udc00x", {}],
    [half, 1, {}],
    ["a", 1, { key: half }],
    ["a", 1, { headers: { [half]: "1" } }],
  ] as const)
    assert.ok((await outcome(world.client.publish(topic, data, more))) instanceof TypeError);
  assert.ok((await outcome(world.client.history(half))) instanceof TypeError);
  const refused = world.client.subscribe(half);
  assert.ok((await outcome(refused.ready)) instanceof TypeError);
  assert.equal(world.socket.of("publish").length, 1);
  assert.equal(world.socket.of("subscribe").length, 0);
});

test("data is taken as it is at the call", async () => {
  const world = new World();
  const value = { n: 1 };
  void world.client.publish("a", value);
  await turn();
  value.n = 2;
  await world.accept();
  assert.deepEqual(data(world), [{ n: 1 }]);
});

test("send is written once, in order, and has no answer", async () => {
  const world = await connected();
  void world.client.publish("a", 1);
  world.client.send("a", 2);
  void world.client.publish("a", 3);
  await turn();
  assert.deepEqual(data(world), [1, 2, 3]);
  assert.equal(world.socket.of("publish")[1]!.id, undefined);
  assert.equal(world.socket.texts.length, 2, "one turn, one text");
  await world.reconnect();
  assert.deepEqual(data(world), [1, 3]);
});

test("unanswered publishes are sent again, oldest first, with the same message id", async () => {
  const world = await connected();
  for (let i = 1; i <= 4; i++) void world.client.publish("a", i);
  await turn();
  const before = world.socket.of("publish");
  await world.socket.say(published(before[1]!.id));
  await world.socket.drop();
  void world.client.publish("a", 5);
  await world.clock.pass(1_000);
  await world.socket.open();
  assert.equal(world.socket.texts.length, 1);
  assert.deepEqual(data(world), [1, 3, 4, 5]);
  const ids = world.socket.of("publish").map(({ message_id }) => message_id);
  assert.deepEqual(ids.slice(0, 3), [before[0]!, before[2]!, before[3]!].map(({ message_id }) => message_id));
});

test("nothing is published before the broker has announced its limits", async () => {
  const world = new World();
  void world.client.publish("a", 1);
  await turn();
  await world.socket.open();
  assert.deepEqual(data(world), []);
  await world.accept();
  assert.deepEqual(data(world), [1]);
});

test("no more are unanswered than the broker allows (SPEC 3.4.12)", async () => {
  const world = await connected({}, { limits: { max_inflight_publishes: 2 } });
  for (let i = 1; i <= 5; i++) void world.client.publish("a", i);
  await turn();
  assert.deepEqual(data(world), [1, 2]);
  await world.socket.say(published(world.socket.of("publish")[0]!.id));
  assert.deepEqual(data(world), [1, 2, 3]);
});

test("a full queue rejects the newest, by messages and by bytes", async () => {
  const world = new World({ queue: { maxMessages: 2, maxBytes: 2_000 } });
  for (let i = 1; i <= 2; i++) world.client.publish("a", i).catch(() => {});
  const error = await outcome(world.client.publish("a", 3));
  assert.equal(error.name, "queue_full");
  world.client.send("a", 4);
  await turn();
  assert.equal(world.complaints[0]!.name, "queue_full");
  const other = new World({ queue: { maxBytes: 2_000 } });
  other.client.publish("a", "x".repeat(1_500)).catch(() => {});
  assert.equal((await outcome(other.client.publish("a", "é".repeat(400)))).name, "queue_full");
});

test("what cannot be sent in time expires", async () => {
  const world = new World({ queue: { expiryMs: 5_000 } });
  const short = world.client.publish("a", 1, { expiryMs: 1_000 });
  const long = world.client.publish("a", 2);
  world.client.send("a", 3);
  for (const promise of [short, long]) promise.catch(() => {});
  await world.clock.pass(1_000);
  assert.equal((await outcome(short)).name, "expired");
  assert.equal(await outcome(long), "pending");
  await world.clock.pass(4_000);
  assert.equal((await outcome(long)).name, "expired");
  assert.deepEqual(world.complaints.map(({ name }) => name).filter((name) => name == "expired"), ["expired"]);
});

test("sent, and no answer in time: nobody knows", async () => {
  const world = await connected();
  const promise = world.client.publish("a", 1, { expiryMs: 3_000, messageId: "m" });
  promise.catch(() => {});
  await world.clock.pass(3_000);
  const error = await outcome(promise);
  assert.deepEqual([error.name, error.messageId], ["unknown", "m"]);
});

test("past the deduplication window nothing is sent again by itself (SPEC 3.4.7)", async () => {
  const world = await connected({}, { limits: { dedupe_window_ms: 30_000 } });
  const sent = world.client.publish("a", 1);
  sent.catch(() => {});
  await turn();
  await world.socket.drop();
  const unsent = world.client.publish("a", 2);
  await world.clock.pass(30_000);
  await world.accept();
  assert.equal((await outcome(sent)).name, "unknown");
  assert.deepEqual(data(world), [2], "what was never sent may be sent at any time");
  await world.socket.say(published(world.socket.last("publish").id));
  assert.equal((await unsent).pos, 1);
});

test("too large: refused before it is sent, and the rest goes on", async () => {
  const world = await connected({}, { limits: { max_packet_bytes: 1_000 } });
  const large = world.client.publish("a", "é".repeat(600));
  large.catch(() => {});
  void world.client.publish("a", "small");
  assert.equal((await outcome(large)).name, "too_large");
  assert.deepEqual(data(world), ["small"]);
});

test("no text is longer than the broker takes, nor has more packets", async () => {
  const world = await connected({ queue: { maxMessages: 6_000 } }, { limits: { max_frame_bytes: 10_000, max_packet_bytes: 2_000 } });
  for (let i = 0; i < 100; i++) void world.client.publish("a", "é".repeat(200));
  await turn();
  assert.equal(world.socket.of("publish").length, 100);
  assert.ok(world.socket.texts.every((text) => Buffer.byteLength(text) <= 10_000));
  const many = await connected({ queue: { maxMessages: 6_000 } });
  for (let i = 0; i < 5_000; i++) many.client.send("a", i);
  await turn();
  assert.deepEqual(many.socket.texts.slice(1).map((text) => JSON.parse(text).length), [4_096, 904]);
});

test("1009 fails the largest unanswered publish, and no other (SPEC 5.3.3)", async () => {
  for (const how of ["close", "bye"]) {
    const world = await connected();
    const small = world.client.publish("a", "s");
    const large = world.client.publish("a", "l".repeat(100));
    large.catch(() => {});
    await turn();
    if (how == "close") await world.socket.drop(1009);
    else await world.socket.say({ type: "bye", code: 1009, name: "too_big" });
    assert.equal((await outcome(large)).name, "too_large");
    await world.clock.pass(1_000);
    await world.accept();
    assert.deepEqual(data(world), ["s"]);
    void small;
  }
});

test("retry never: rejects as the broker said", async () => {
  const world = await connected();
  const promise = world.client.publish("$a", 1);
  promise.catch(() => {});
  await turn();
  await world.socket.say(refused(world.socket.last("publish").id, "bad_topic", "never", { field: "topic" }));
  const error = await outcome(promise);
  assert.deepEqual([error.name, error.field, error.retry], ["bad_topic", "topic", "never"]);
});

test("retry backoff: again after what the broker asks for, and what follows waits with it", async () => {
  const world = await connected();
  void world.client.publish("a", 1);
  await turn();
  await world.socket.say(refused(world.socket.last("publish").id, "rate_limited", "backoff", { retry_after_ms: 500 }));
  void world.client.publish("b", 2);
  await world.clock.pass(499);
  assert.deepEqual(data(world), [1]);
  await world.clock.pass(1);
  assert.deepEqual(data(world), [1, 1, 2]);
});

test("a topic whose store is away does not hold up the others", async () => {
  const world = await connected();
  void world.client.publish("a", 1);
  await turn();
  await world.socket.say(refused(world.socket.last("publish").id, "unavailable", "backoff", { retry_after_ms: 500 }));
  void world.client.publish("a", 2);
  void world.client.publish("b", 3);
  await turn();
  assert.deepEqual(data(world), [1, 3]);
  await world.clock.pass(500);
  assert.deepEqual(data(world), [1, 3, 1, 2]);
});

test("retry now is believed a few times", async () => {
  const world = await connected();
  void world.client.publish("a", 1);
  await turn();
  for (let i = 0; i < 10; i++) {
    await world.socket.say(refused(world.socket.last("publish").id, "conflict", "now"));
    await turn();
  }
  assert.ok(world.socket.of("publish").length <= 5);
});

test("after timeout nobody knows, so it is sent again, and a refusal then proves nothing (SPEC 5.2.2)", async () => {
  const world = await connected();
  const promise = world.client.publish("a", 1);
  promise.catch(() => {});
  await turn();
  await world.socket.say(refused(world.socket.last("publish").id, "timeout", "backoff"));
  await world.clock.pass(1_000);
  assert.equal(world.socket.of("publish").length, 2);
  await world.socket.say(refused(world.socket.last("publish").id, "forbidden", "never"));
  assert.equal((await outcome(promise)).name, "unknown");
});

test("refused for its token: again after a refresh, once", async () => {
  let calls = 0;
  const world = await connected({ token: () => `t${++calls}` });
  const promise = world.client.publish("a", 1);
  promise.catch(() => {});
  await turn();
  await world.socket.say(refused(world.socket.last("publish").id, "token_expired", "reauth"));
  assert.equal(world.socket.of("publish").length, 1);
  await world.socket.say({ type: "authorized", id: world.socket.last("auth").id });
  await world.clock.pass(0);
  assert.equal(world.socket.of("publish").length, 2);
  await world.socket.say(refused(world.socket.last("publish").id, "token_expired", "reauth"));
  assert.equal((await outcome(promise)).name, "token_expired");
});

test("what is refused too often still ends with its time", async () => {
  const world = await connected();
  const promise = world.client.publish("a", 1, { expiryMs: 10_000 });
  promise.catch(() => {});
  for (let i = 0; i < 40; i++) {
    const unanswered = world.socket.of("publish").length;
    if (unanswered) await world.socket.say(refused(world.socket.last("publish").id, "overloaded", "backoff"));
    await world.socket.say({ type: "ping" });
    await world.clock.pass(500);
  }
  assert.equal((await outcome(promise)).name, "overloaded");
  assert.ok(world.socket.of("publish").length < 12);
});

test("while much is unsent in the WebSocket nothing is added to it", async () => {
  const world = await connected();
  world.socket.bufferedAmount = 2_000_000;
  void world.client.publish("a", 1);
  await world.clock.pass(1_000);
  assert.deepEqual(data(world), []);
  world.socket.bufferedAmount = 0;
  await world.clock.pass(1_000);
  assert.deepEqual(data(world), [1]);
});

class MemoryStore implements QueueStore {
  items = new Map<number, QueuedPublish>();
  async load(): Promise<QueuedPublish[]> {
    return [...this.items.values()].sort((a, b) => a.seq - b.seq);
  }
  async put(item: QueuedPublish): Promise<void> {
    this.items.set(item.seq, structuredClone(item));
  }
  async remove(seq: number): Promise<void> {
    this.items.delete(seq);
  }
}

test("a store keeps the queue beyond the page, in order, with its message ids", async () => {
  const store = new MemoryStore();
  const first = new World({ queue: { store } });
  for (let i = 1; i <= 2; i++) first.client.publish("a", i).catch(() => {});
  await turn();
  assert.deepEqual([...store.items.values()].map(({ packet }) => packet.data), [1, 2]);
  assert.ok([...store.items.values()].every(({ packet }) => !("id" in packet) && packet.message_id));

  const second = new World({ queue: { store } });
  second.clock.time += 1_000;
  const own = second.client.publish("a", 3);
  assert.equal(second.sockets.length, 0, "loaded before the first connection");
  await second.accept();
  assert.deepEqual(data(second), [1, 2, 3]);
  assert.ok([...store.items.values()].every(({ sentAt }) => sentAt), "it is noted that they were sent");
  for (const { id } of second.socket.of("publish")) await second.socket.say(published(id));
  assert.equal((await own).pos, 1);
  assert.equal(store.items.size, 0);
});

test("what an earlier page has sent is not sent again past the window, what it has not is", async () => {
  const store = new MemoryStore();
  const keep = (seq: number, more: object) =>
    store.put({ seq, expiresAt: 9e9, packet: { type: "publish", topic: "a", data: seq, message_id: `m${seq}` }, ...more });
  await keep(1, { sentAt: 1 });
  await keep(2, { sentAt: 900_000 });
  await keep(3, {});
  const world = await connected({ queue: { store } }, { limits: { dedupe_window_ms: 200_000 } });
  assert.deepEqual(data(world), [2, 3]);
  assert.equal(world.complaints[0]!.name, "unknown");
});

test("a store that fails is complained of, and the queue in memory goes on", async () => {
  const broken = async (): Promise<never> => {
    throw new Error("disk full");
  };
  const world = await connected({ queue: { store: { load: broken, put: broken, remove: broken } } });
  const promise = world.client.publish("a", 1);
  await turn();
  await world.socket.say(published(world.socket.last("publish").id));
  assert.equal((await promise).pos, 1);
  assert.ok(world.complaints.length >= 3 && world.complaints.every(({ message }) => message == "disk full"));
});

test("what may wait for ever does", async () => {
  const world = new World({ queue: { expiryMs: Infinity } });
  const published = world.client.publish("a", 1);
  await world.clock.pass(100_000);
  assert.equal(await outcome(published), "pending");
});

test("a store that answers after close is not listened to", async () => {
  let answer!: (stored: QueuedPublish[]) => void;
  const nothing = async () => {};
  const load = () => new Promise<QueuedPublish[]>((resolve) => (answer = resolve));
  const world = new World({ queue: { store: { load, put: nothing, remove: nothing } } });
  world.client.connect().catch(nothing);
  await world.client.close();
  answer([{ seq: 1, expiresAt: world.clock.now() + 50_000, packet: { type: "publish", topic: "a", data: 1, message_id: "x" } }]);
  await turn();
  assert.equal(world.clock.pending, 0, "no timer is left");
});

test("what an earlier page has left is sent without being asked for; an empty or broken store waits for its use", async () => {
  const store = new MemoryStore();
  await store.put({ seq: 1, expiresAt: 9e9, packet: { type: "publish", topic: "a", data: 1, message_id: "m1" } });
  const world = new World({ queue: { store } });
  await world.accept();
  assert.deepEqual(data(world), [1]);
  const broken = async (): Promise<never> => {
    throw new Error("no store on a server");
  };
  for (const load of [async () => [], broken]) {
    const idle = new World({ queue: { store: { load, put: broken, remove: broken } } });
    await turn();
    assert.deepEqual([idle.client.state, idle.complaints, idle.clock.pending], ["idle", [], 0]);
    await idle.client.close();
  }
});
