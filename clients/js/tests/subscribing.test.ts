/**
 * Subscriptions: the rules R1–R7 (SPEC 4.3), gaps, listeners, the inbox, presence.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { Gap, Subscription } from "../src/types.js";
import { connected, consoleDuring, delivery, message, outcome, turn, World, type Packet } from "./world.js";

/** A connected client with one subscription that keeps what it hears. */
async function listening(options: Packet = {}, after: Packet = { m0: 0 }, live = true) {
  const world = await connected();
  const heard: any[] = [];
  const subscription = world.client.subscribe("a", options, (message) => heard.push(message.data));
  for (const type of ["gap", "caughtup", "end"] as const) subscription.on(type, (event) => heard.push(event));
  await turn();
  const sub = await world.subscribed(after, live);
  return { world, heard, subscription, sub, socket: world.socket };
}

const gaps = (heard: any[]): Gap[] => heard.filter((event) => event.type == "gap");

test("ready resolves with subscribed, and the first message comes to the listener", async () => {
  const { heard, subscription, socket } = await listening();
  assert.equal(await outcome(subscription.ready), "done");
  assert.equal(subscription.isLive, true);
  await socket.say(message(1, { message_id: "x", key: "k", headers: { h: "v" }, user: "u" }));
  assert.deepEqual(heard, [{ type: "caughtup", after: { m0: 0 } }, 1]);
});

test("a message is what SPEC 4.3.1 says, in camel case, without what is absent", async () => {
  const world = await connected();
  const seen: unknown[] = [];
  world.client.subscribe("a", (message) => seen.push(message));
  await turn();
  await world.subscribed();
  await world.socket.say(message(1), message(2, { message_id: "x" }));
  await world.socket.say({ type: "message", topic: "a", log: "m0", pos: 3, offset: 3, ts: 1, b64: "AAH/" });
  await world.socket.say({ type: "message", topic: "a", log: "m0", pos: 4, offset: 4, ts: 1, key: "k" });
  assert.deepEqual(seen, [
    { type: "message", topic: "a", offset: 1, log: "m0", pos: 1, ts: 1, data: 1 },
    { type: "message", topic: "a", offset: 2, log: "m0", pos: 2, ts: 1, data: 2, messageId: "x" },
    { type: "message", topic: "a", offset: 3, log: "m0", pos: 3, ts: 1, data: new Uint8Array([0, 1, 255]) },
    { type: "message", topic: "a", offset: 4, log: "m0", pos: 4, ts: 1, key: "k", deletesKey: true },
  ]);
});

test("R1: after replaces the whole position; gap leaves live as it is", async () => {
  const { heard, subscription, sub, socket } = await listening({}, { m0: 5, m1: 9 });
  assert.deepEqual(subscription.position, { m0: 5, m1: 9 });
  await socket.say({ type: "gap", sub, after: { m0: 7 }, reason: "retention", topic: "a", from: 2, to: 3 });
  assert.deepEqual(gaps(heard), [{ type: "gap", after: { m0: 7 }, reason: "retention", topic: "a", from: 2, to: 3 }]);
  assert.deepEqual([subscription.position, subscription.isLive], [{ m0: 7 }, true]);
  await socket.say({ type: "catching_up", sub, after: { m0: 8 }, reason: "slow" });
  assert.deepEqual([subscription.position, subscription.isLive], [{ m0: 8 }, false]);
  await socket.say({ type: "caught_up", sub, after: { m0: 20 } });
  assert.deepEqual([subscription.position, subscription.isLive], [{ m0: 20 }, true]);
});

test("R2: a delivery goes to its subscription alone, whatever its position", async () => {
  const { world, heard, sub, socket } = await listening({}, { m0: 5 }, false);
  const others: unknown[] = [];
  world.client.subscribe("a", (message) => others.push(message));
  await turn();
  await world.subscribed({ m0: 5 });
  await socket.say(delivery(sub, 3), delivery(sub, 6));
  assert.deepEqual(heard, [3, 6]);
  assert.deepEqual(others, []);
});

test("R3: a message goes to live matching subscriptions that have not had it", async () => {
  const world = await connected();
  const seen: string[] = [];
  for (const filter of ["a", "+", "b", "#"]) {
    world.client.subscribe(filter, (message) => seen.push(`${filter} ${message.pos}`));
    await turn();
    await world.subscribed(filter == "+" ? { m0: 2 } : { m0: 0 }, filter != "#");
  }
  await world.socket.say(message(1), message(2), message(3));
  assert.deepEqual(seen, ["a 1", "a 2", "a 3", "+ 3"]);
});

test("R4: positions follow messages, and ping.at where the log is known", async () => {
  const { subscription, socket } = await listening({}, { m0: 5 });
  await socket.say(message(9), message(7));
  assert.deepEqual(subscription.position, { m0: 9 });
  await socket.say({ type: "ping", at: { m0: 4, m1: 9 } }, { type: "ping", at: { m0: 12 } });
  assert.deepEqual(subscription.position, { m0: 12 });
});

test("the position includes the message that the listener is called with", async () => {
  const world = await connected();
  const positions: unknown[] = [];
  const subscription: Subscription = world.client.subscribe("a", () => positions.push(subscription.position));
  await turn();
  await world.subscribed({ m0: 0 });
  await world.socket.say(message(1), message(2));
  assert.deepEqual(positions, [{ m0: 1 }, { m0: 2 }]);
});

test("R5: packets for numbers that are gone are ignored", async () => {
  const { world, heard, subscription, sub, socket } = await listening();
  subscription.unsubscribe();
  await turn();
  assert.equal(socket.last("unsubscribe").sub, sub);
  heard.length = 0;
  await socket.say(delivery(sub, 3), { type: "gap", sub, after: {}, reason: "slow" }, delivery(99, 1));
  await socket.say({ type: "unsubscribed", id: 7, sub }, { type: "error", sub, name: "internal", message: "", retry: "never" });
  await socket.say({ type: "caught_up", sub: 99, after: {} }, { type: "joined", sub: 99, topic: "a", member: { id: "p" } });
  assert.deepEqual([heard, world.complaints, world.client.state], [[], [], "connected"]);
});

test("R6: a log that the position does not have is handed over and reported", async () => {
  const { heard, subscription, sub, socket } = await listening({}, { m0: 5 });
  await socket.say(message(1, { log: "m9" }));
  assert.deepEqual(heard.slice(1), [{ type: "gap", reason: "reset", after: { m0: 5 } }, 1]);
  await socket.say({ type: "catching_up", sub, after: { m9: 1 } }, delivery(sub, 2, { log: "m8" }));
  assert.equal(gaps(heard).length, 2);
  assert.deepEqual(subscription.position, { m8: 2, m9: 1 });
});

test("R7: a snapshot that was cut is asked for again, everything else resumes", async () => {
  const world = await connected();
  const subscription = world.client.subscribe("a", { from: "last" }, () => {});
  const other = world.client.subscribe("b", { from: "earliest" }, () => {});
  await world.reconnect();
  assert.deepEqual(world.socket.of("subscribe").map(({ from }) => from), ["last", "earliest"], "never subscribed");
  for (const { sub } of world.socket.of("subscribe"))
    await world.socket.say({ type: "subscribed", sub, after: { m0: 9 }, live: false });
  await world.socket.say(delivery(1, 3), delivery(2, 4));
  await world.reconnect();
  const [again, resumed] = world.socket.of("subscribe");
  assert.deepEqual([again!.from, again!.after], ["last", undefined]);
  assert.deepEqual([resumed!.from, resumed!.after], [undefined, { m0: 9 }]);
  await world.socket.say({ type: "subscribed", sub: 1, after: { m0: 9 }, live: false }, { type: "caught_up", sub: 1, after: { m0: 10 } });
  await world.reconnect();
  assert.deepEqual(world.socket.of("subscribe")[0]!.after, { m0: 10 });
  assert.ok(subscription.isLive === false && other.isLive === false);
});

test("a stored position resumes in a later page", async () => {
  const { socket } = await listening({ after: { m0: 7, constructor: 3 } });
  const { after, from } = socket.last("subscribe");
  assert.deepEqual([after, from], [{ m0: 7, constructor: 3 }, undefined]);
});

test("options go to the broker as they were when they were given", async () => {
  const world = await connected();
  const state = { n: 1 };
  world.client.subscribe("a", { from: { last: 3 }, overflow: "conflate", presence: { state } });
  state.n = 2;
  await turn();
  const { id, ...packet } = world.socket.last("subscribe");
  assert.deepEqual(packet, {
    type: "subscribe",
    sub: 1,
    filter: "a",
    from: { last: 3 },
    overflow: "conflate",
    presence: { state: { n: 1 } },
  });
});

test("a gap that nobody listens to goes to the client, else to the console, once a subscription", async () => {
  const { warnings } = await consoleDuring(async () => {
    const world = await connected();
    world.client.subscribe("a", () => {});
    await turn();
    const sub = await world.subscribed();
    const gap = { type: "gap", sub, after: { m0: 3 }, reason: "moonlight" };
    await world.socket.say(gap);
    await world.socket.say(gap);
    const seen: Packet[] = [];
    world.client.on("gap", (event) => seen.push(event));
    await world.socket.say(gap);
    assert.deepEqual(seen, [{ type: "gap", after: { m0: 3 }, reason: "moonlight", filter: "a" }]);
  });
  assert.equal(warnings.length, 1);
  assert.match(warnings[0]!, /moonlight gap in a/);
});

test("echo: false leaves out what this client published, and nothing else", async () => {
  const { world, heard, subscription, socket } = await listening({ echo: false });
  void world.client.publish("a", 1);
  void world.client.publish("a", 2, { messageId: "mine" });
  world.client.send("a", 3);
  await turn();
  const own = socket.of("publish").map(({ message_id }) => message_id);
  assert.equal(new Set(own).size, 3);
  heard.length = 0;
  for (const [i, message_id] of [...own, "theirs", undefined].entries()) await socket.say(message(i + 1, { message_id }));
  assert.deepEqual(heard, [4, 5]);
  assert.deepEqual(subscription.position, { m0: 5 });
});

test("iteration takes messages in order, and leaving the loop unsubscribes", async () => {
  const world = await connected();
  const subscription = world.client.subscribe("a");
  await turn();
  const sub = await world.subscribed();
  await world.socket.say(message(1), message(2), message(3));
  const taken: number[] = [];
  const positions: unknown[] = [];
  for await (const { data } of subscription) {
    taken.push(data);
    positions.push(subscription.position);
    if (data == 2) break;
  }
  assert.deepEqual(taken, [1, 2]);
  assert.deepEqual(positions, [{ m0: 1 }, { m0: 2 }], "what was handed over, not what has come");
  assert.deepEqual(subscription.position, { m0: 2 }, "also after the loop");
  await turn();
  assert.equal(world.socket.last("unsubscribe").sub, sub);
  assert.deepEqual(await subscription[Symbol.asyncIterator]().next(), { done: true, value: undefined });
});

test("an iterator may wait, several times, and may be left while it waits", async () => {
  const world = await connected();
  const subscription = world.client.subscribe("a");
  const iterator = subscription[Symbol.asyncIterator]();
  const both = [iterator.next(), iterator.next(), iterator.next()];
  await turn();
  await world.subscribed();
  await world.socket.say(message(1), message(2));
  assert.equal((await both[0]!).value.data, 1);
  assert.equal((await both[1]!).value.data, 2);
  await iterator.return!();
  assert.deepEqual(await both[2], { done: true, value: undefined });
});

test("events() gives gaps in their place", async () => {
  const world = await connected();
  const subscription = world.client.subscribe("a");
  const events = subscription.events()[Symbol.asyncIterator]();
  await turn();
  const sub = await world.subscribed();
  await world.socket.say(message(1), { type: "gap", sub, after: { m0: 5 }, reason: "slow" }, message(6));
  const types: string[] = [];
  for (let i = 0; i < 4; i++) types.push((await events.next()).value.type);
  assert.deepEqual(types, ["caughtup", "message", "gap", "message"]);
});

test("who begins to listen late gets what has waited, in order", async () => {
  const world = await connected();
  const subscription = world.client.subscribe("a");
  await turn();
  await world.subscribed();
  await world.socket.say(message(1), message(2));
  assert.deepEqual(subscription.position, { m0: 0 }, "nobody has taken anything");
  const seen: number[] = [];
  subscription.on("message", ({ data }) => seen.push(data));
  world.socket.onmessage!({ data: JSON.stringify(message(3)) });
  await turn();
  assert.deepEqual(seen, [1, 2, 3]);
  assert.deepEqual(subscription.position, { m0: 3 });
});

test("a full inbox pauses by unsubscribing, and goes on by position at half", async () => {
  const world = await connected({ maxInboxMessages: 10 });
  const iterator = world.client.subscribe("a")[Symbol.asyncIterator]();
  await turn();
  const sub = await world.subscribed();
  await world.socket.say(...Array.from({ length: 15 }, (_, i) => message(i + 1)));
  assert.equal(world.socket.last("unsubscribe").sub, sub);
  for (let i = 1; i <= 5; i++) assert.equal((await iterator.next()).value?.data ?? i, i);
  await turn();
  const again = world.socket.last("subscribe");
  assert.ok(again.sub > sub, "a number is used once (SPEC 3.2.1)");
  const { m0 } = again.after;
  assert.ok(m0 == 9 || m0 == 10, "caughtup takes a place, too");
  await world.socket.say({ type: "subscribed", sub: again.sub, after: { m0 }, live: false }, delivery(again.sub, m0 + 1));
  const rest: number[] = [];
  while (rest[rest.length - 1] != m0 + 1) rest.push((await iterator.next()).value.data);
  assert.deepEqual(rest, Array.from({ length: m0 - 4 }, (_, i) => i + 6));
});

test("a pause in the middle of a snapshot neither repeats nor loses anything", async () => {
  const world = await connected({ maxInboxMessages: 4 });
  const iterator = world.client.subscribe("#", { from: "last" })[Symbol.asyncIterator]();
  await turn();
  const snapshot = [2, 3, 5, 8, 9, 12].map((pos) => ({ log: "m0", pos, topic: `t/${pos}` }));
  const taken: number[] = [];
  for (let rounds = 0; rounds < 4 && taken.length < 6; rounds++) {
    const { sub, from } = world.socket.last("subscribe");
    assert.equal(from, "last");
    await world.socket.say({ type: "subscribed", sub, after: { m0: 20 }, live: false });
    for (const { pos, ...more } of snapshot) await world.socket.say(delivery(sub, pos, more));
    const before = world.socket.of("subscribe").length;
    while (taken.length < 6 && world.socket.of("subscribe").length == before) {
      taken.push((await iterator.next()).value.pos);
      await turn();
    }
  }
  assert.deepEqual(taken, [2, 3, 5, 8, 9, 12]);
});

test("refused for good: ready rejects, end tells, the iterator throws, the rest goes on", async () => {
  const world = await connected();
  const other = world.client.subscribe("b", () => {});
  await turn();
  await world.subscribed();
  const refused = world.client.subscribe("$x", { from: "last" });
  const ends: Packet[] = [];
  refused.on("end", (event) => ends.push(event));
  await turn();
  const { id, sub } = world.socket.last("subscribe");
  const error = { type: "error", id, sub, name: "forbidden", message: "no", retry: "never", field: "filter" };
  await world.socket.say(error);
  const ready = await outcome(refused.ready);
  assert.deepEqual([ready.name, ready.message, ready.field, ready.retry], ["forbidden", "no", "filter", "never"]);
  assert.equal(ends[0]!.error, ready);
  await assert.rejects(refused[Symbol.asyncIterator]().next(), ready);
  assert.deepEqual([world.client.state, other.isLive, world.complaints], ["connected", true, []]);
  await world.reconnect();
  assert.deepEqual(world.socket.of("subscribe").map(({ filter }) => filter), ["b"]);
});

test("an ending that nobody listens to is a complaint", async () => {
  const world = await connected();
  world.client.subscribe("a", () => {});
  await turn();
  const sub = await world.subscribed();
  await world.socket.say({ type: "unsubscribed", sub, name: "revoked", message: "gone", retry: "never" });
  assert.equal(world.complaints[0]!.name, "revoked");
});

test("refused for a while: asked again after what the broker says, growing", async () => {
  const world = await connected();
  world.client.subscribe("a", () => {});
  await turn();
  const refuse = async (more: Packet) => {
    const { id } = world.socket.last("subscribe");
    await world.socket.say({ type: "error", id, name: "unavailable", message: "", retry: "backoff", ...more });
  };
  await refuse({ retry: "now" });
  await world.clock.pass(0);
  assert.equal(world.socket.of("subscribe").length, 2, "now means at once, the first time");
  await refuse({ retry_after_ms: 700 });
  await world.clock.pass(699);
  assert.equal(world.socket.of("subscribe").length, 2);
  await world.clock.pass(1);
  assert.deepEqual(world.socket.of("subscribe").map(({ sub }) => sub), [1, 2, 3]);
  await world.subscribed();
  await world.socket.say({ type: "unsubscribed", sub: 3, name: "unavailable", message: "", retry: "backoff" });
  await world.clock.pass(20_000);
  assert.equal(world.socket.of("subscribe").length, 4);
});

test("refused for its token: asked again after a refresh, once", async () => {
  let calls = 0;
  const world = await connected({ token: () => `t${++calls}` });
  const subscription = world.client.subscribe("a", () => {});
  await turn();
  const refuse = async () => {
    const { id } = world.socket.last("subscribe");
    await world.socket.say({ type: "error", id, name: "token_expired", message: "", retry: "reauth" });
  };
  await refuse();
  await world.clock.pass(1_000);
  assert.equal(world.socket.of("subscribe").length, 1, "not before the token is there");
  await world.socket.say({ type: "authorized", id: world.socket.last("auth").id });
  await world.clock.pass(0);
  assert.equal(world.socket.of("subscribe").length, 2);
  await refuse();
  assert.equal((await outcome(subscription.ready)).name, "token_expired");
});

test("unsubscribing before there is a connection asks for nothing", async () => {
  const world = new World();
  world.client.subscribe("a", () => {}).unsubscribe();
  await world.accept();
  assert.deepEqual(world.socket.of("subscribe"), []);
});

test("nothing comes after unsubscribe, even of the same text", async () => {
  const world = await connected();
  const seen: number[] = [];
  const subscription: Subscription<number> = world.client.subscribe("a", ({ data }: { data: number }) => {
    seen.push(data);
    subscription.unsubscribe();
  });
  await turn();
  await world.subscribed();
  await world.socket.say(message(1), message(2));
  assert.deepEqual(seen, [1]);
});

test("nothing comes after unsubscribe, even of what has waited for the listener", async () => {
  const world = await connected();
  const subscription = world.client.subscribe("a");
  await turn();
  await world.subscribed();
  await world.socket.say(message(1), message(2), message(3));
  const seen: unknown[] = [];
  subscription.on("end", ({ type }) => seen.push(type));
  subscription.on("message", ({ pos }) => {
    seen.push(pos);
    subscription.unsubscribe();
  });
  await turn();
  assert.deepEqual(seen, [1, "end"]);
  assert.deepEqual({ ...subscription.position }, { m0: 1 }, "what was not handed over is not counted");
});

test("a loop ends at unsubscribe, and what it has not taken is not counted", async () => {
  const world = await connected();
  const subscription = world.client.subscribe("a");
  await turn();
  await world.subscribed();
  await world.socket.say(message(1), message(2), message(3));
  const seen: number[] = [];
  for await (const { pos } of subscription) {
    seen.push(pos);
    subscription.unsubscribe();
  }
  assert.deepEqual([seen, subscription.position], [[1], { m0: 1 }]);
});

test("presence: who comes and goes, to those who watch; one's own with isSelf (SPEC 10.2)", async () => {
  const world = await connected();
  const seen: Packet[] = [];
  const watching = world.client.subscribe("rooms/+", { presence: "watch" }, () => {});
  const plain = world.client.subscribe("rooms/1", () => {});
  for (const type of ["joined", "left"] as const) {
    watching.on(type, (event) => seen.push(event));
    plain.on(type, () => seen.push({ wrong: true }));
  }
  await turn();
  for (const { sub } of world.socket.of("subscribe")) await world.socket.say({ type: "subscribed", sub, after: { m0: 0 }, live: true });
  const member = { id: "p-1", user: "ann", state: { n: 1 } };
  await world.socket.say({ type: "joined", topic: "rooms/1", member }, { type: "left", topic: "halls/1", member });
  await world.socket.say({ type: "joined", topic: "rooms/1", member, sub: 1 }, { type: "left", topic: "rooms/1", member });
  assert.deepEqual(seen, [
    { type: "joined", topic: "rooms/1", member, isSelf: false },
    { type: "joined", topic: "rooms/1", member, isSelf: true },
    { type: "left", topic: "rooms/1", member, isSelf: false },
  ]);
});

test("history and presence are asked, and asked again after a reconnect", async () => {
  const world = await connected();
  const history = world.client.history("a");
  const presence = world.client.presence("a");
  await turn();
  assert.deepEqual(world.socket.last("history").topic, "a");
  await world.reconnect();
  const { id } = world.socket.last("history");
  await world.socket.say({ type: "history", id, messages: [message(1), message(2)], complete: true, after: { m0: 2 } });
  const page = await history;
  assert.deepEqual(page.messages.map(({ data }) => data), [1, 2]);
  assert.deepEqual([page.complete, page.after], [true, { m0: 2 }]);
  const member = { id: "p-1", state: null };
  await world.socket.say({ type: "presence", id: world.socket.last("presence").id, topic: "a", members: [member], complete: false });
  assert.deepEqual(await presence, { topic: "a", members: [member], complete: false });
});

test("a request that is refused or not answered rejects", async () => {
  const world = await connected({ requestTimeoutMs: 4_000 });
  const refused = world.client.history("a", { last: 5, limit: 2 });
  const late = world.client.presence("a");
  for (const promise of [refused, late]) promise.catch(() => {});
  await turn();
  const { id, last, limit } = world.socket.last("history");
  assert.deepEqual([last, limit], [5, 2]);
  await world.socket.say({ type: "error", id, name: "inflight", message: "", retry: "backoff", retry_after_ms: 9 });
  const error = await outcome(refused);
  assert.deepEqual([error.name, error.retry, error.retryAfterMs], ["inflight", "backoff", 9]);
  await world.clock.pass(4_000);
  assert.equal((await outcome(late)).name, "expired");
});
