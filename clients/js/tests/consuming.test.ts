/**
 * Consumers: deliveries, what is said of them, and what a lost connection makes of both (SPEC 9).
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { ConsumeOptions, Delivery } from "../src/types.js";
import { connected, consoleDuring, delivery, message, outcome, turn, World, type Packet } from "./world.js";

async function consuming(options: ConsumeOptions = { durable: "d" }, work?: (delivery: Delivery) => unknown) {
  const world = await connected();
  const consumer = world.client.consume("#", options, work as any);
  const iterator = consumer[Symbol.asyncIterator]();
  await turn();
  const sub = await world.subscribed();
  return { world, consumer, iterator, sub, socket: world.socket };
}

/** Answers everything that was said of deliveries. */
async function acked(world: World): Promise<Packet[]> {
  const said = world.socket.sent.filter(({ type }) => /^(ack|nack|extend)$/.test(type));
  for (const { id } of said) await world.socket.say({ type: "acked", id });
  return said.map(({ id, ...packet }) => packet);
}

test("it asks for what SPEC 9.1 names, and again as it was", async () => {
  const { world, sub } = await consuming({ durable: "d", shared: true, from: "earliest", window: 5, ackWaitMs: 7, maxAttempts: 3 });
  const expected = { type: "subscribe", sub, filter: "#", from: "earliest", durable: "d", shared: true, window: 5, ack_wait_ms: 7, max_attempts: 3 };
  const { id, ...asked } = world.socket.last("subscribe");
  assert.deepEqual(asked, expected);
  await world.reconnect();
  const { id: again, ...repeated } = world.socket.last("subscribe");
  assert.deepEqual(repeated, expected, "SPEC 9.7.2");
  assert.notEqual(again, id);
});

test("deliveries come one by one, and are settled", async () => {
  const { world, iterator, sub, socket } = await consuming();
  await socket.say(delivery(sub, 1), delivery(sub, 2), delivery(sub, 3), delivery(sub, 4));
  const held: Delivery[] = [];
  for (let i = 0; i < 4; i++) held.push((await iterator.next()).value);
  assert.deepEqual(held.map(({ message, attempt }) => [message.data, attempt]), [1, 2, 3, 4].map((pos) => [pos, 1]));
  const done = [held[0]!.ack(), held[1]!.nack(500), held[2]!.reject(), held[3]!.extend(900)];
  await turn();
  const said = await acked(world);
  assert.deepEqual(said.sort((a, b) => String(a.pos).localeCompare(String(b.pos))), [
    { type: "ack", sub, log: "m0", pos: [1] },
    { type: "nack", sub, log: "m0", pos: 2, attempt: 1, delay_ms: 500 },
    { type: "nack", sub, log: "m0", pos: 3, attempt: 1, reject: true },
    { type: "extend", sub, log: "m0", pos: 4, attempt: 1, ms: 900 },
  ]);
  await Promise.all(done);
});

test("the acknowledgements of one turn are one packet for each log", async () => {
  const { world, iterator, sub, socket } = await consuming();
  await socket.say(...[1, 2, 3].map((pos) => delivery(sub, pos)), delivery(sub, 9, { log: "m1" }));
  const done: Promise<void>[] = [];
  const held: Delivery[] = [];
  for (let i = 0; i < 4; i++) held.push((await iterator.next()).value);
  for (const each of held) done.push(each.ack(), each.ack());
  await turn();
  assert.deepEqual((await acked(world)).map(({ log, pos }) => [log, pos]), [["m0", [1, 2, 3]], ["m1", [9]]]);
  await Promise.all(done);
});

test("a refused answer rejects, and who does not look is not bothered", async () => {
  const { world, iterator, sub, socket } = await consuming();
  await socket.say(delivery(sub, 1), delivery(sub, 2));
  const first: Delivery = (await iterator.next()).value;
  const second: Delivery = (await iterator.next()).value;
  const nacked = first.nack();
  void second.extend(5);
  await turn();
  for (const { id } of socket.sent.filter(({ type }) => /nack|extend/.test(type)))
    await socket.say({ type: "error", id, sub, name: "conflict", message: "late", retry: "never" });
  assert.equal((await outcome(nacked)).name, "conflict");
  assert.deepEqual(world.complaints, []);
});

test("a delivery is lost with its connection, and with its subscription", async () => {
  const { world, iterator, sub, socket } = await consuming();
  await socket.say(delivery(sub, 1), delivery(sub, 2));
  const held: Delivery = (await iterator.next()).value;
  const answered = held.ack();
  await turn();
  await world.reconnect();
  assert.equal((await outcome(answered)).name, "delivery_lost", "sent, and the answer lost");
  await world.subscribed();
  const waiting = iterator.next();
  assert.equal(await outcome(waiting), "pending", "what waited in the inbox is the broker's again");
  await world.socket.say(delivery(1, 2, {}));
  const again: Delivery = (await waiting).value;
  await world.socket.say({ type: "unsubscribed", sub: 1, name: "unavailable", message: "", retry: "backoff" });
  assert.equal((await outcome(again.ack())).name, "delivery_lost");
  assert.deepEqual(world.socket.of("ack"), []);
});

test("a message that comes again replaces the one that waits, and the window bounds what waits (SPEC 9.4.6)", async () => {
  const { iterator, sub, socket } = await consuming({ durable: "d", window: 3 });
  await socket.say(delivery(sub, 1), delivery(sub, 2), { ...delivery(sub, 1), attempt: 2 });
  await socket.say(...[3, 4].map((pos) => delivery(sub, pos)));
  const taken: unknown[] = [];
  for (let i = 0; i < 3; i++) {
    const { message, attempt } = (await iterator.next()).value as Delivery;
    taken.push([message.pos, attempt]);
  }
  assert.deepEqual(taken, [[1, 2], [3, 1], [4, 1]]);
});

test("in a group, giving one back gives back the later ones of its key (SPEC 9.5.3)", async () => {
  const { iterator, sub, socket } = await consuming({ group: "g" });
  const keyed = (pos: number, key?: string) => delivery(sub, pos, { key });
  await socket.say(keyed(1, "k"), keyed(2, "k"), keyed(3, "other"), keyed(4));
  ((await iterator.next()).value as Delivery).nack();
  assert.equal((await iterator.next()).value.message.pos, 3);
  assert.equal((await iterator.next()).value.message.pos, 4);
});

test("a listener's success is an ack, its failure a nack that waits longer each time", async () => {
  const { errors } = await consoleDuring(async () => {
    const { world, sub, socket } = await consuming({ group: "g" }, async ({ message }) => {
      if (message.data == 2) throw new Error("boom");
    });
    await socket.say(delivery(sub, 1), delivery(sub, 2), { ...delivery(sub, 3, { data: 2 }), attempt: 9 });
    await turn();
    const said = await acked(world);
    assert.deepEqual(said.map(({ type, pos, delay_ms }) => [type, pos, delay_ms]), [
      ["nack", 2, 500],
      ["nack", 3, 30_000],
      ["ack", [1], undefined],
    ].sort((a, b) => said.findIndex(({ type, pos }) => type == a[0] && String(pos) == String(a[1])) - said.findIndex(({ type, pos }) => type == b[0] && String(pos) == String(b[1]))));
  });
  assert.equal(errors.length, 2);
});

test("a listener may answer itself", async () => {
  const { world, sub, socket } = await consuming({ group: "g" }, (delivery) => delivery.reject());
  await socket.say(delivery(sub, 1));
  await turn();
  assert.deepEqual((await acked(world)).map(({ type, reject }) => [type, reject]), [["nack", true]]);
});

test("a listener works on no more than the window at once", async () => {
  let running = 0;
  let most = 0;
  const releases: (() => void)[] = [];
  const { sub, socket } = await consuming({ group: "g", window: 2 }, () => {
    most = Math.max(most, ++running);
    return new Promise<void>((resolve) => releases.push(resolve)).then(() => void running--);
  });
  for (let pos = 1; pos <= 4; pos++) await socket.say(delivery(sub, pos));
  assert.equal(releases.length, 2);
  while (releases.length) {
    releases.shift()!();
    await turn();
  }
  assert.equal(most, 2);
});

test("on(\"delivery\") gets deliveries and answers them itself", async () => {
  const world = await connected();
  const consumer = world.client.consume("#", { group: "g" });
  const seen: number[] = [];
  consumer.on("delivery", (delivery) => {
    seen.push(delivery.message.pos);
    void delivery.ack();
  });
  await turn();
  const sub = await world.subscribed();
  await world.socket.say(delivery(sub, 1), delivery(sub, 2));
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(world.socket.last("ack").pos, [1, 2]);
});

test("the live stream is not for consumers, and their gaps are told (SPEC 9, 9.6)", async () => {
  const { world, consumer, iterator, sub, socket } = await consuming();
  const waiting = iterator.next();
  await socket.say(message(1));
  const gaps: Packet[] = [];
  const gap = { type: "gap", sub, after: { m0: 4 }, reason: "retention" };
  await socket.say(gap);
  assert.equal(await outcome(waiting), "pending");
  consumer.on("gap", (event) => gaps.push(event));
  await socket.say(gap);
  assert.deepEqual(gaps, [{ type: "gap", after: { m0: 4 }, reason: "retention" }]);
  await world.client.close();
});

test("acknowledge, then leave: the acknowledgement goes first", async () => {
  const { iterator, sub, socket } = await consuming();
  await socket.say(delivery(sub, 1));
  const held: Delivery = (await iterator.next()).value;
  void held.ack();
  void iterator.return!();
  await turn();
  assert.deepEqual(socket.sent.slice(-2).map(({ type }) => type), ["ack", "unsubscribe"]);
});

test("taken over by another one: the client does not ask again by itself (SPEC 9.1.7)", async () => {
  const { world, consumer, sub, socket } = await consuming();
  const ends: Packet[] = [];
  consumer.on("end", (event) => ends.push(event));
  await socket.say({ type: "unsubscribed", sub, name: "conflict", message: "taken over", retry: "never" });
  await world.clock.pass(1_000);
  assert.equal(ends[0]!.error.name, "conflict");
  assert.equal(socket.of("subscribe").length, 1);
});
