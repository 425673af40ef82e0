/**
 * A broker that says anything (S33): nothing throws out of a callback, nothing grows without bound, and the client
 * is as good as before once an honest broker answers.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { connected, connectedPacket, consoleDuring, delivery, message, outcome, turn, World, type Packet } from "./world.js";

const TYPES =
  "connected subscribed catching_up caught_up message delivery gap published history presence joined left acked authorized notice ping pong error unsubscribed bye applause limits constructor __proto__ toString".split(" ");
const NAMES =
  "id sub topic data b64 offset log pos ts user key headers message_id message attempt prev after at reason from to live level duplicate delayed messages complete members member connection node protocol limits ping_ms reconnect expires_in_ms draining name retry field retry_after_ms code reconnect_after_ms urls constructor __proto__ hasOwnProperty ____proto____".split(" ");

/** A small generator of numbers that is the same on every machine. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function anything(pick: (below: number) => number, depth = 0): unknown {
  const plain = [null, true, false, 0, 1, 2, 7, -1, 1.5, 1e300, 2 ** 53, "", "a", "m0", "never", "now", "backoff", "reauth", "ws://x/"];
  const kinds = depth > 2 ? plain.length : plain.length + 5;
  const kind = pick(kinds);
  if (kind < plain.length) return plain[kind];
  if (kind == plain.length) return Array.from({ length: pick(4) }, () => anything(pick, depth + 1));
  if (kind == plain.length + 1) return { m0: pick(50) };
  if (kind == plain.length + 2) return message(pick(50));
  return packet(pick, depth + 1);
}

function packet(pick: (below: number) => number, depth = 0): Packet {
  const good: Packet[] = [
    message(pick(60)),
    delivery(1 + pick(4), pick(60)),
    { type: "subscribed", sub: 1 + pick(4), after: { m0: pick(60) }, live: !pick(2) },
    { type: "gap", sub: 1 + pick(4), after: { m0: pick(60) }, reason: "slow" },
    { type: "caught_up", sub: 1 + pick(4), after: { m0: pick(60) } },
    { type: "error", id: pick(30), name: "unavailable", message: "", retry: ["never", "now", "backoff", "reauth"][pick(4)] },
    { type: "published", id: pick(30), log: "m0", pos: 1, offset: 1, level: "memory" },
    { type: "acked", id: pick(30) },
    { type: "ping", at: { m0: pick(60) } },
    connectedPacket(),
  ];
  const made: Packet = pick(3) ? { ...good[pick(good.length)] } : { type: TYPES[pick(TYPES.length)] };
  const changes = pick(4) - 1;
  for (let i = 0; i < changes; i++)
    Object.defineProperty(made, NAMES[pick(NAMES.length)]!, {
      value: anything(pick, depth),
      enumerable: true,
      configurable: true,
      writable: true,
    });
  return made;
}

test("whatever a broker says, nothing throws, and the client lives", async () => {
  await consoleDuring(async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const pick = random(seed);
      let tokens = 0;
      const world = new World({ token: () => `t${++tokens}`, maxInboxMessages: 20 }, ["ws://a.example", "ws://b.example"]);
      const { client } = world;
      client.subscribe("a", () => {});
      client.subscribe("#", { from: "last" });
      client.subscribe("+", { presence: "watch", echo: false }).events()[Symbol.asyncIterator]().next().catch(() => {});
      const work = (delivery: { nack(): Promise<void> }) => (pick(2) ? undefined : delivery.nack());
      client.consume("#", { group: "g", window: 4 }, work);
      for (let step = 0; step < 60; step++) {
        if (client.state == "closed") break;
        const { socket } = world;
        if (socket?.isWanted) {
          if (socket.readyState == 0) pick(9) ? await socket.open() : await socket.drop();
          else if (!pick(6) && client.state == "connecting") await socket.say(connectedPacket());
          else if (pick(12)) await socket.say(...Array.from({ length: 1 + pick(3) }, () => packet(pick)));
          else await socket.sayText(["", "[", "[]", "null", "5", '"x"', "[[]]", "[null]", '{"type":null}'][pick(9)]);
          if (!pick(5)) client.publish("a", step).catch(() => {});
          if (!pick(9)) client.history("a").catch(() => {});
        }
        if (!pick(4)) await world.clock.pass(pick(2_000));
      }
      assert.ok(world.sockets.filter((socket) => socket.isWanted).length <= 1, "one socket at a time");
      void client.close(0);
      await world.clock.pass(0);
      assert.deepEqual([client.state, world.clock.pending], ["closed", 0]);
    }
  });
  assert.equal(({} as any).after ?? ({} as any).data, undefined, "no prototype was touched");
});

test("after all that, the same client serves an honest broker", async () => {
  await consoleDuring(async () => {
    const world = await connected();
    const seen: number[] = [];
    world.client.subscribe("a", ({ data }) => seen.push(data as number));
    const pick = random(99);
    for (let i = 0; i < 200 && world.client.state != "closed"; i++) {
      if (world.client.state == "connected") {
        const one = packet(pick);
        if (one.type != "error" && one.type != "unsubscribed" && one.type != "bye") await world.socket.say(one);
      } else {
        await world.clock.pass(20);
        if (world.socket.isWanted && world.socket.readyState == 0) await world.accept();
      }
    }
    if (world.client.state != "connected") {
      await world.clock.pass(100);
      await world.accept();
    }
    await world.reconnect();
    await world.subscribed({ m0: 1_000 });
    seen.length = 0;
    await world.socket.say(message(1_001), message(1_002));
    assert.deepEqual(seen, [1_001, 1_002]);
    const published = world.client.publish("a", 1);
    await turn();
    const { id } = world.socket.last("publish");
    await world.socket.say({ type: "published", id, log: "m0", pos: 5, offset: 1, level: "memory" });
    assert.equal((await outcome(published)).pos, 5);
  });
});

test("a position has at most 64 logs, however many there are", async () => {
  const world = await connected();
  await consoleDuring(async () => {
    const subscription = world.client.subscribe("#", () => {});
    await turn();
    const sub = await world.subscribed();
    for (let i = 0; i < 300; i++) await world.socket.say(message(1, { log: `m${i}` }));
    assert.equal(Object.keys(subscription.position).length, 64);
    assert.equal(subscription.position.m299, 1);
    const logs = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`x${i}`, 1]));
    await world.socket.say({ type: "gap", sub, after: logs, reason: "slow" });
    assert.equal(world.client.state, "waiting", "a position of more is none");
  });
});

test("logs may have the names of what every object has", async () => {
  const world = await connected();
  const seen: unknown[] = [];
  await consoleDuring(async () => {
    const subscription = world.client.subscribe("a", (message) => seen.push(message.pos));
    subscription.on("gap", () => seen.push("gap"));
    await turn();
    await world.subscribed({ constructor: 4 });
    await world.socket.say(message(3, { log: "constructor" }), message(5, { log: "constructor" }), message(1, { log: "valueof" }));
    assert.deepEqual(seen, [5, "gap", 1]);
    assert.deepEqual({ ...subscription.position }, { constructor: 5, valueof: 1 });
    await world.socket.sayText('{"type":"gap","sub":1,"reason":"slow","after":{"__proto__":1}}');
    assert.equal(world.client.state, "waiting", "and no other");
  });
});

test("a broker that sends and never reads is dropped", async () => {
  const world = await connected();
  world.socket.bufferedAmount = 1e9;
  await world.socket.say(...Array.from({ length: 70_000 }, () => ({ type: "ping" })));
  assert.equal(world.client.state, "waiting");
});

test("an inbox and a window hold no more than they may, whatever is sent", async () => {
  const world = await connected({ maxInboxMessages: 50 });
  world.client.subscribe("a");
  const consumer = world.client.consume("#", { group: "g", window: 4 });
  await turn();
  for (const { sub } of world.socket.of("subscribe")) await world.socket.say({ type: "subscribed", sub, after: { m0: 0 }, live: true });
  for (let i = 0; i < 20; i++)
    await world.socket.say(...Array.from({ length: 500 }, (_, pos) => (pos % 2 ? message(i * 500 + pos) : delivery(2, i * 500 + pos + 1))));
  assert.equal(world.socket.of("unsubscribe").length, 1);
  const iterator = consumer[Symbol.asyncIterator]();
  for (let i = 0; i < 4; i++) await iterator.next();
  assert.equal(await outcome(iterator.next()), "pending");
});

test("a figure under the name that programs see is checked like any other: no pause is skipped with it", async () => {
  const world = await connected();
  await world.socket.say({ type: "bye", code: 4200, name: "x", reconnectAfterMs: "x" });
  assert.match(world.states.at(-1)!.reason!, /broken packet: bad reconnectAfterMs/);
  assert.ok(world.states.at(-1)!.delayMs! >= 0);
});
