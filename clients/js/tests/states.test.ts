/**
 * The states of a connection, whole (SPEC 5.4), and what moves between them: closes, goodbyes, silence, time.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { Triode, TriodeError } from "../src/index.js";
import { connected, connectedPacket, consoleDuring, message, outcome, turn, World, type Packet } from "./world.js";

const dropped: Packet = { type: "bye", code: 4100, name: "shutdown" };

// Every state, everything that can happen to it, and the state after. SPEC 5.4.1; `closed` is final.
const TABLE: readonly [from: string, event: string, to: string][] = [
  ["idle", "use", "connecting"],
  ["idle", "close", "closed"],
  ["idle", "time", "idle"],
  ["connecting", "connected", "connected"],
  ["connecting", "use", "connecting"],
  ["connecting", "lost", "waiting"],
  ["connecting", "stop code", "closed"],
  ["connecting", "bye", "waiting"],
  ["connecting", "error never", "closed"],
  ["connecting", "error backoff", "waiting"],
  ["connecting", "broken text", "waiting"],
  ["connecting", "message", "waiting"],
  ["connecting", "time", "waiting"],
  ["connecting", "close", "closed"],
  ["connected", "use", "connected"],
  ["connected", "message", "connected"],
  ["connected", "connected", "waiting"],
  ["connected", "lost", "waiting"],
  ["connected", "clean close", "waiting"],
  ["connected", "stop code", "closed"],
  ["connected", "unknown stop code", "closed"],
  ["connected", "unknown code", "waiting"],
  ["connected", "bye", "waiting"],
  ["connected", "broken text", "waiting"],
  ["connected", "binary", "waiting"],
  ["connected", "time", "waiting"],
  ["connected", "close", "closed"],
  ["waiting", "use", "waiting"],
  ["waiting", "time", "connecting"],
  ["waiting", "close", "closed"],
  ["closed", "use", "closed"],
  ["closed", "time", "closed"],
  ["closed", "close", "closed"],
];

async function happen(world: World, event: string): Promise<void> {
  const { client, socket } = world;
  if (event == "use") client.subscribe("a");
  else if (event == "close") await client.close();
  else if (event == "time") {
    const before = client.state;
    for (let i = 0; i < 120 && client.state == before; i++) await world.clock.pass(500);
  } else if (event == "connected") {
    if (socket.readyState == 0) await socket.open();
    await socket.say(connectedPacket());
  } else if (event == "lost") await socket.drop();
  else if (event == "clean close") await socket.drop(1000);
  else if (event == "stop code") await socket.drop(4001);
  else if (event == "unknown stop code") await socket.drop(4077);
  else if (event == "unknown code") await socket.drop(4999);
  else {
    if (socket.readyState == 0) await socket.open();
    const id = socket.last("connect").id;
    if (event == "message") await socket.say(message(1));
    if (event == "bye") await socket.say(dropped);
    if (event == "broken text") await socket.sayText("{");
    if (event == "binary") await socket.sayText(new ArrayBuffer(4));
    if (event == "error never") await socket.say({ type: "error", id, name: "malformed", message: "", retry: "never" });
    if (event == "error backoff") await socket.say({ type: "error", id, name: "overloaded", message: "", retry: "backoff" });
  }
  await turn();
}

for (const [from, event, to] of TABLE)
  test(`${from}, ${event}: ${to} (SPEC 5.4.1)`, async () => {
    const world = new World();
    const path = { idle: [], connecting: ["use"], connected: ["use", "connected"], waiting: ["use", "lost"], closed: ["close"] }[from]!;
    for (const step of path) await happen(world, step);
    assert.equal(world.client.state, from);
    await happen(world, event);
    assert.equal(world.client.state, to);
    const told = world.states.map(({ state }) => state);
    assert.equal(told[told.length - 1] ?? "idle", to, "every change is told");
    await world.client.close();
    assert.equal(world.clock.pending, 0, "a closed client keeps no timer");
    assert.ok(world.sockets.every((socket) => !socket.isWanted || socket.readyState == 3));
  });

test("connect resolves when connected, and rejects when refused for good", async () => {
  const world = await connected();
  assert.equal(await outcome(world.client.connect()), "done");
  await world.socket.drop(4002, "revoked");
  const error = await outcome(world.client.connect());
  assert.ok(error instanceof TriodeError);
  assert.deepEqual([error.name, error.message, error.code], ["refused", "revoked", 4002]);
});

test("what waits for a connection is told that the client was closed", async () => {
  const world = new World();
  const ready = world.client.subscribe("a").ready;
  const connecting = world.client.connect();
  connecting.catch(() => {});
  await world.client.close();
  assert.equal((await outcome(connecting)).name, "closed");
  assert.equal(await outcome(ready), "done", "ended as the program wished");
  assert.equal((await outcome(world.client.subscribe("b").ready)).name, "closed");
  assert.equal((await outcome(world.client.publish("a", 1))).name, "closed");
});

test("a state change says why", async () => {
  const world = await connected();
  await world.socket.drop(4104, "too slow");
  await world.clock.pass(0);
  const { state, reason, code, delayMs } = world.states[2]!;
  assert.deepEqual([state, reason, code, delayMs], ["waiting", "too slow", 4104, 50]);
  assert.deepEqual([world.states[1]!.connection, world.states[1]!.node], ["c-1", "n1"]);
});

test("pauses grow with full jitter, within what the broker announced (SPEC 5.3.4)", async () => {
  const world = await connected();
  world.clock.chance = 0.999999;
  const pauses: number[] = [];
  for (let i = 0; i < 9; i++) {
    await world.socket.drop();
    pauses.push(Math.round(world.states[world.states.length - 1]!.delayMs!));
    await world.clock.pass(10_000);
  }
  assert.deepEqual(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
  world.clock.chance = 0;
  await world.socket.drop();
  assert.equal(world.states[world.states.length - 1]!.delayMs, 0);
});

test("a connection that has served for a while makes the next pause short again", async () => {
  const world = await connected();
  for (let i = 0; i < 4; i++) {
    await world.socket.drop();
    await world.clock.pass(10_000);
  }
  await world.accept();
  await world.clock.pass(6_000);
  await world.socket.drop();
  assert.equal(world.states[world.states.length - 1]!.delayMs, 50);
});

test("figures of a broker are believed within reason", async () => {
  const wild = connectedPacket({ ping_ms: 0, reconnect: { min_ms: 0, max_ms: Number.MAX_SAFE_INTEGER } });
  const world = new World();
  void world.client.connect();
  await turn();
  await world.socket.open();
  await world.socket.say(wild);
  assert.equal(world.client.state, "connected");
  await world.socket.say({ type: "bye", code: 4102, name: "overloaded", reconnect_after_ms: Number.MAX_SAFE_INTEGER });
  assert.equal(world.states[world.states.length - 1]!.delayMs, 300_000);
});

test("42xx: one immediate attempt, then with backoff (SPEC 5.3.2)", async () => {
  const world = await connected();
  await world.socket.say({ type: "bye", code: 4201, name: "token_expired" });
  assert.equal(world.states[world.states.length - 1]!.delayMs, 0);
  await world.clock.pass(0);
  await world.accept();
  await world.socket.say({ type: "bye", code: 4201, name: "token_expired" });
  assert.ok(world.states[world.states.length - 1]!.delayMs! > 0, "a broker cannot make a client spin");
});

test("4200: the client waits as long as it was asked to (SPEC 5.3.5)", async () => {
  const world = await connected();
  await world.socket.say({ type: "bye", code: 4200, name: "draining", reconnect_after_ms: 1_830 });
  assert.equal(world.socket.isWanted, false);
  await world.clock.pass(1_829);
  assert.equal(world.sockets.length, 1);
  await world.clock.pass(1);
  assert.equal(world.sockets.length, 2);
});

test("bye names other servers: they are tried in their order, each once, then one's own (SPEC 5.3.5)", async () => {
  const world = await connected();
  world.clock.chance = 0;
  const urls = ["ws://two.example/ws", "not a url", "ws://three.example/ws", 5];
  await world.socket.say({ type: "bye", code: 4200, name: "draining", urls });
  for (let i = 0; i < 3; i++) {
    await world.clock.pass(10_000 - 9_999);
    await world.socket.drop();
  }
  await world.clock.pass(20_000);
  assert.deepEqual(
    world.sockets.slice(1, 5).map(({ url }) => url),
    ["ws://two.example/ws", "ws://three.example/ws", "ws://one.example/ws", "ws://one.example/ws"],
  );
});

test("a bye cannot take the encryption away", async () => {
  const world = new World({}, "wss://one.example/ws");
  void world.client.connect();
  await world.accept();
  await world.socket.say({ type: "bye", code: 4200, name: "draining", urls: ["ws://evil.example/ws", "wss://two.example/"] });
  await world.clock.pass(20_000);
  assert.deepEqual(world.sockets.slice(1, 3).map(({ url }) => url), ["wss://two.example/ws", "wss://one.example/ws"]);
});

test("several addresses: each once in a round, at once where nobody answers (SPEC 5.3.6)", async () => {
  const world = new World({}, ["ws://a.example", "http://b.example/ws", "ws://c.example/ws"]);
  void world.client.connect();
  for (let i = 0; i < 3; i++) {
    await world.clock.pass(0);
    await world.socket.drop();
  }
  const urls = world.sockets.map(({ url }) => url);
  assert.equal(urls.length, 3);
  assert.deepEqual([...urls].sort(), ["ws://a.example/ws", "ws://b.example/ws", "ws://c.example/ws"]);
  assert.ok(world.states[world.states.length - 1]!.delayMs! > 0, "and a pause before the next round");
});

test("three handshakes refused in a row are reported, once (SPEC 5.3.4)", async () => {
  const world = new World();
  void world.client.connect();
  await turn();
  for (let i = 0; i < 5; i++) {
    await world.socket.drop();
    await world.clock.pass(10_000);
  }
  assert.deepEqual(world.complaints.map(({ name }) => name), ["handshakes_refused"]);
  assert.equal(world.client.state, "connecting", "and the client goes on");
});

test("a page that answers in the broker's place (a captive portal) means waiting", async () => {
  const world = new World();
  void world.client.connect();
  await turn();
  await world.socket.open();
  await world.socket.sayText("<html>Please sign in</html>");
  assert.equal(world.client.state, "waiting");
});

test("a transport that throws means waiting", async () => {
  const world = new World({
    transport: () => {
      throw new Error("mixed content");
    },
  });
  void world.client.connect().catch(() => {});
  await turn();
  assert.equal(world.client.state, "waiting");
  assert.match(world.states[1]!.reason!, /mixed content/);
  await world.client.close();
});

test("an attempt that hangs is given up", async () => {
  const world = new World({ connectTimeoutMs: 3_000 });
  void world.client.connect();
  await world.clock.pass(2_999);
  assert.equal(world.client.state, "connecting");
  await world.clock.pass(1);
  assert.equal(world.client.state, "waiting");
  assert.equal(world.socket.isWanted, false);
  await world.sockets[0]!.open();
  assert.deepEqual(world.sockets[0]!.texts, [], "what opens late is not used");
});

test("a URL is checked at once", () => {
  for (const url of ["", "ftp://x", "not a url", "ws://"]) assert.throws(() => new Triode(url), /wss:\/\/example.com/);
});

test("connect, resumes and queued publishes leave in one text (SPEC 1.11, 3.1.4)", async () => {
  const world = await connected();
  world.client.subscribe("a");
  world.client.subscribe("b", { from: "earliest" });
  await turn();
  for (const { id, sub } of world.socket.of("subscribe"))
    await world.socket.say({ type: "subscribed", id, sub, after: { m0: 3 }, live: true });
  await world.socket.drop();
  void world.client.publish("a", "later");
  await world.clock.pass(1_000);
  await world.socket.open();
  assert.equal(world.socket.texts.length, 1);
  const [connect, first, second, publish] = world.socket.sent;
  assert.deepEqual([connect!.type, connect!.replaces, connect!.resume], ["connect", "c-1", true]);
  assert.deepEqual(connect!.capabilities, ["batch"]);
  assert.deepEqual([first!.filter, first!.after, first!.from], ["a", { m0: 3 }, undefined]);
  assert.deepEqual([second!.filter, second!.sub], ["b", 2]);
  assert.equal(publish!.data, "later");
});

test("not more is written before connected than a broker reads (SPEC 1.11)", async () => {
  const world = new World();
  for (let i = 0; i < 900; i++) world.client.subscribe(`topic/${"x".repeat(100)}/${i}`);
  await turn();
  await world.socket.open();
  const flight = world.socket.texts.join("");
  assert.ok(flight.length > 50_000 && flight.length <= 61_440, `${flight.length}`);
  await world.socket.say(connectedPacket());
  assert.equal(world.socket.of("subscribe").length, 900);
});

test("silence means death, and a sign of life means life (SPEC 1.15)", async () => {
  const world = await connected();
  await world.clock.pass(49_000);
  await world.socket.say({ type: "ping" });
  assert.equal(world.socket.of("pong").length, 1);
  await world.clock.pass(49_999);
  assert.equal(world.client.state, "connected");
  await world.clock.pass(1);
  assert.equal(world.client.state, "waiting");
});

test("after sleep the client asks before it declares death", async () => {
  const world = await connected();
  await world.clock.sleep(3_600_000);
  assert.equal(world.client.state, "connected");
  assert.equal(world.socket.of("ping").length, 1);
  await world.socket.say({ type: "pong", id: world.socket.last("ping").id });
  await world.clock.pass(20_000);
  assert.equal(world.client.state, "connected");
  await world.clock.sleep(3_600_000);
  await world.clock.pass(5_000);
  assert.equal(world.client.state, "waiting", "no answer");
});

test("a clock that is set back stops nothing", async () => {
  const world = await connected();
  world.clock.skew = -3_600_000;
  await world.clock.pass(100_000);
  assert.notEqual(world.client.state, "connected");
});

test("network and page events: probe while connected, try at once while waiting", async () => {
  const listeners = new Map<string, () => void>();
  const place = globalThis as any;
  place.addEventListener = (type: string, run: () => void) => listeners.set(type, run);
  place.removeEventListener = (type: string) => listeners.delete(type);
  try {
    const world = await connected();
    listeners.get("offline")!();
    listeners.get("visibilitychange")!();
    await turn();
    assert.equal(world.client.state, "connected", "a working connection is not killed");
    assert.ok(world.socket.of("ping").length > 0);
    await world.clock.pass(5_000);
    assert.equal(world.client.state, "waiting");
    const before = world.sockets.length;
    listeners.get("online")!();
    await turn();
    assert.equal(world.sockets.length, before + 1);
    await world.accept();
    await world.socket.say({ type: "bye", code: 4102, name: "overloaded", reconnect_after_ms: 60_000 });
    listeners.get("online")!();
    assert.equal(world.client.state, "waiting", "but not against the broker's word");
    await world.client.close();
    assert.equal(listeners.size, 0);
  } finally {
    delete place.addEventListener;
    delete place.removeEventListener;
  }
});

test("close sends what is queued, says goodbye and closes", async () => {
  const world = await connected();
  const published = world.client.publish("a", 1);
  const closing = world.client.close();
  await turn();
  assert.equal(world.client.state, "connected");
  assert.equal((await outcome(world.client.publish("a", 2))).name, "closed", "nothing new");
  const { id } = world.socket.last("publish");
  await world.socket.say({ type: "published", id, log: "m0", pos: 1, offset: 1, level: "memory" });
  assert.equal((await outcome(published)).pos, 1);
  await closing;
  assert.equal(world.socket.last("disconnect").type, "disconnect");
  assert.equal(world.socket.closed, 1000);
});

test("close does not wait for ever", async () => {
  const world = new World();
  const published = world.client.publish("a", 1);
  published.catch(() => {});
  const closing = world.client.close(1_000);
  await world.clock.pass(1_000);
  await closing;
  assert.equal((await outcome(published)).name, "closed");
  assert.equal(await outcome(world.client.close()), "done", "twice is the same");
});

test("a listener that throws harms nobody, and is reported", async () => {
  const { errors } = await consoleDuring(async () => {
    const world = new World();
    const seen: string[] = [];
    world.client.on("state", () => {
      throw new Error("oops");
    });
    world.client.on("state", async () => {
      throw new Error("later");
    });
    world.client.on("state", (event) => seen.push(event.state));
    void world.client.connect();
    await world.accept();
    assert.deepEqual(seen, ["connecting", "connected"]);
    await world.client.close();
  });
  assert.deepEqual(errors.map((error) => (error as Error).message).slice(0, 4).sort(), ["later", "later", "oops", "oops"]);
});

test("on gives back how to stop; the DOM's words do the same", async () => {
  const world = new World();
  const seen: string[] = [];
  const listener = (event: { state: string }) => seen.push(event.state);
  const off = world.client.on("state", listener);
  off();
  world.client.addEventListener("state", listener);
  void world.client.connect();
  world.client.removeEventListener("state", listener);
  await world.accept();
  assert.deepEqual(seen, ["connecting"]);
});

test("will and name go along", async () => {
  const world = await connected({ name: "me", will: { topic: "gone", data: new Uint8Array([1, 2]), delayMs: 5 } });
  const { client, will } = world.socket.last("connect");
  assert.equal(client.name, "me");
  assert.deepEqual(will, { topic: "gone", b64: "AQI=", delay_ms: 5 });
});

test("notices and stray errors are told", async () => {
  const world = await connected();
  const notices: Packet[] = [];
  world.client.on("notice", (event) => notices.push(event as unknown as Packet));
  await world.socket.say({ type: "notice", draining: true });
  await world.socket.say({ type: "error", name: "forbidden", message: "no", retry: "never", field: "topic" });
  assert.deepEqual(notices, [{ type: "notice", draining: true }]);
  assert.deepEqual(world.complaints, [{ type: "complaint", name: "forbidden", message: "no", field: "topic" }]);
});

test("what becomes of a traced message is told (SPEC 4.12)", async () => {
  const world = await connected();
  const told: Packet[] = [];
  world.client.on("traced", (event) => told.push(event as unknown as Packet));
  void world.client.publish("a", 1, { trace: true });
  await turn();
  const { id, trace } = world.socket.last("publish");
  assert.equal(trace, true);
  const traced = { type: "traced", id, hops: [{ hop: "sent", node: "n1", at_us: 5 }], end: "complete" };
  await world.socket.say({ type: "published", id, log: "m0", pos: 1, offset: 1, level: "memory" });
  await world.socket.say(traced);
  assert.deepEqual(told, [traced]);
});

test("the end of a connection has who began it", async () => {
  const world = await connected();
  await world.socket.say({ type: "bye", code: 4104, name: "slow_consumer" });
  const { code, initiator } = world.states[world.states.length - 1]!;
  assert.deepEqual([code, initiator], [4104, "server"]);
});

test("what nobody listens to is said on the console once", async () => {
  const { warnings } = await consoleDuring(async () => {
    const world = new World();
    const quiet = new Triode("ws://x", { transport: (world.client as any) && (() => world.socket), clock: world.clock });
    quiet.send("a", undefined);
    quiet.send("a", () => 1);
    await turn();
    await quiet.close(0);
  });
  assert.equal(warnings.length, 1);
  assert.match(warnings[0]!, /"complaint" events/);
});

test("a line that never was is not told as lost", async () => {
  const world = new World();
  void world.client.connect();
  await turn();
  await world.socket.drop();
  await world.clock.pass(world.states[1]!.delayMs!);
  await world.accept();
  await world.socket.drop();
  const waiting = world.states.filter(({ state }) => state == "waiting");
  assert.deepEqual(waiting.map(({ reason }) => reason), ["could not connect to ws://one.example/ws", "connection lost"]);
});
