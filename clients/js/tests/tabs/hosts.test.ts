/** Where the switchboard is, and how tabs get to another one: over a browser in memory. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { tabs, type Tabs, type TabsOptions } from "../../src/tabs/index.js";
import type { Socket } from "../../src/types.js";
import { CONNECTED, FakeLine, message, type Said } from "./fakes.js";
import { Browser, type Page, type Realm } from "./realms.js";

const URL = "ws://broker/ws";

/** A tab's program: what its socket has told it. */
class Program {
  readonly tabs: Tabs;
  readonly page: Page;
  heard: Said[] = [];
  isOpen = false;
  closed: number | undefined;
  socket!: Socket;

  constructor(browser: Browser, name: string, options?: TabsOptions) {
    this.page = browser.page(name);
    this.tabs = tabs(options, this.page.world);
  }

  dial(url = URL): this {
    const socket = this.tabs(url, "triode.v1.json");
    this.socket = socket;
    this.isOpen = false;
    this.closed = undefined;
    socket.onopen = () => (this.isOpen = true);
    socket.onmessage = ({ data }) => void this.heard.push(...[JSON.parse(data)].flat());
    socket.onclose = ({ code }) => (this.closed = code);
    return this;
  }

  say(packet: Said): void {
    this.socket.send(JSON.stringify(packet));
  }

  get host(): string {
    const { host, tabs } = this.tabs.status();
    return `${host} ${tabs}`;
  }

  take(): Said[] {
    return this.heard.splice(0);
  }
}

class World extends Browser {
  readonly lines: (FakeLine & { realm?: Realm })[] = [];

  constructor() {
    super((url, realm) => {
      const line = Object.assign(new FakeLine(url), { realm });
      this.lines.push(line);
      return line;
    });
  }

  get line(): FakeLine {
    return this.lines[this.lines.length - 1]!;
  }

  /** The line to the broker comes up, and its `connect` is taken. */
  async serve(): Promise<void> {
    this.line.open();
    await this.settle();
    for (const packet of this.line.take()) {
      if (packet["type"] === "connect") this.line.say({ ...CONNECTED, id: packet["id"] });
    }
    await this.settle();
  }

  /** Tabs that are online, the first of them first. */
  async online(...programs: Program[]): Promise<void> {
    for (const program of programs) {
      program.dial();
      await this.settle();
      if (!program.isOpen) this.line.open();
      await this.settle();
      program.say({ type: "connect", id: 1 });
      await this.settle();
      for (const packet of this.line.take()) {
        if (packet["type"] === "connect") this.line.say({ ...CONNECTED, id: packet["id"] });
      }
      await this.settle();
      assert.equal(program.take()[0]?.["type"], "connected");
    }
  }
}

test("tabs share one connection of a SharedWorker", async () => {
  const world = new World();
  const [one, two] = [new Program(world, "one"), new Program(world, "two")];
  const told: string[] = [];
  one.tabs.on("status", ({ host, tabs, upstream }) => told.push(`${host} ${tabs} ${upstream}`));
  await world.online(one, two);
  assert.deepEqual([world.lines.length, world.lines[0]!.realm!.name], [1, "worker"]);
  assert.deepEqual([one.host, two.host], ["worker 2", "worker 2"]);
  assert.deepEqual(told.at(-1), "worker 2 online");
  two.say({ type: "subscribe", sub: 1, filter: "a" });
  await world.settle();
  world.line.say({ type: "subscribed", id: world.line.take()[0]!["id"], sub: 1, after: {}, live: true }, message("a", 1));
  await world.settle();
  assert.deepEqual([one.take().length, two.take().length], [0, 2]);
});

test("tabs of other share names, and of other URLs, have other connections", async () => {
  const world = new World();
  const programs = [new Program(world, "one"), new Program(world, "two"), new Program(world, "ann", { share: "ann" })];
  programs[0]!.dial();
  programs[1]!.dial("ws://other/ws");
  programs[2]!.dial();
  await world.settle();
  assert.deepEqual(world.lines.map(({ url }) => url), [URL, "ws://other/ws", URL]);
});

test("one share name is one connection, whatever URL each tab has chosen", async () => {
  const world = new World();
  new Program(world, "one", { share: "s" }).dial();
  new Program(world, "two", { share: "s" }).dial("ws://other/ws");
  await world.settle();
  assert.deepEqual(world.lines.map(({ url }) => url), [URL]);
});

for (const script of ["throws", "fails"] as const) {
  test(`where the worker's script ${script} a tab leads, and nobody notices`, async () => {
    const world = new World();
    world.script = script;
    const [one, two] = [new Program(world, "one"), new Program(world, "two")];
    await world.online(one, two);
    assert.deepEqual([one.host, two.host], ["leader 2", "follower 2"]);
    assert.deepEqual(world.lines.map(({ realm }) => realm!.name), ["one"]);
  });
}

test("a worker that never answers is not asked again by a client that has waited long enough", async () => {
  const world = new World();
  world.script = "hangs";
  const one = new Program(world, "one").dial();
  await world.settle();
  one.socket.close();
  await world.settle();
  assert.equal(one.closed, 1005);
  await world.online(one);
  assert.equal(one.host, "leader 1");
});

test("without worker and locks each tab dials for itself, and says so once", async (t: TestContext) => {
  const info = t.mock.method(console, "info", () => undefined);
  const world = new World();
  world.hasWorkers = world.hasLocks = false;
  const one = new Program(world, "one").dial();
  one.dial();
  assert.deepEqual([world.lines.length, one.host, one.socket, info.mock.callCount()], [2, "own 1", world.line, 1]);
});

test("where locks may not be used each tab dials for itself, too", async (t: TestContext) => {
  t.mock.method(console, "info", () => undefined);
  const world = new World();
  world.hasWorkers = false;
  world.refusesLocks = true;
  const one = new Program(world, "one").dial();
  await world.settle();
  assert.equal(one.closed, 4291);
  assert.equal(one.dial().socket, world.line);
});

test("a tab of another identity dials for itself from then on", async (t: TestContext) => {
  t.mock.method(console, "info", () => undefined);
  const world = new World();
  const [one, two] = [new Program(world, "one"), new Program(world, "two")];
  await world.online(one);
  two.dial();
  await world.settle();
  two.say({ type: "connect", id: 1, token: "bob" });
  await world.settle();
  world.line.say({ type: "error", id: world.line.take()[0]!["id"], name: "unauthorized", message: "", retry: "reauth" });
  await world.settle();
  assert.equal(two.closed, 4291);
  assert.equal(two.dial().socket, world.line);
  assert.deepEqual([one.host, two.host], ["worker 1", "own 1"]);
});

test("a tab that is killed is noticed by its lock", async () => {
  const world = new World();
  const [one, two] = [new Program(world, "one"), new Program(world, "two")];
  await world.online(one, two);
  world.kill("two");
  await world.settle();
  assert.equal(one.host, "worker 1");
  world.kill("one");
  await world.settle();
  assert.equal(world.line.closed, 3001);
});

test("a page that goes says so; one that comes back dials again", async () => {
  for (const hasWorkers of [true, false]) {
    const world = new World();
    world.hasWorkers = hasWorkers;
    const [one, two] = [new Program(world, "one"), new Program(world, "two")];
    await world.online(one, two);
    one.page.events.dispatchEvent(new Event("pagehide"));
    await world.settle();
    assert.equal(one.closed, undefined); // it would dial at once
    if (!hasWorkers) assert.equal(two.closed, 4290);
    if (!hasWorkers) await world.online(two);
    assert.equal(two.host, hasWorkers ? "worker 1" : "leader 1");
    one.page.events.dispatchEvent(new Event("pageshow")); // that of a page that is loaded
    assert.equal(one.closed, undefined);
    one.page.events.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
    assert.equal(one.closed, 4290);
    await world.online(one);
    assert.equal(one.host, hasWorkers ? "worker 2" : "follower 2");
  }
});

test("a worker that has crashed is started again by the next socket", async () => {
  const world = new World();
  const one = new Program(world, "one");
  await world.online(one);
  world.killWorker();
  one.socket.close(4105);
  await world.settle();
  await world.online(one);
  assert.deepEqual([one.host, world.lines.length], ["worker 1", 2]);
});

test("when the leading tab dies the next one leads, and the others dial again at once", async () => {
  const world = new World();
  world.hasWorkers = false;
  const [one, two, three] = [new Program(world, "one"), new Program(world, "two"), new Program(world, "three")];
  await world.online(one, two, three);
  world.kill("one");
  await world.settle();
  assert.deepEqual([two.closed, three.closed], [4290, 4290]);
  await world.online(two, three);
  assert.deepEqual([two.host, three.host], ["leader 2", "follower 2"]);
  assert.deepEqual(world.lines.map(({ realm }) => realm!.name), ["one", "two"]);
});

test("a tab that dials while nobody leads yet is served by whoever comes to lead", async () => {
  const world = new World();
  world.hasWorkers = false;
  const [one, two] = [new Program(world, "one").dial(), new Program(world, "two").dial()];
  await world.settle();
  world.line.open();
  await world.settle();
  assert.deepEqual([one.isOpen, two.isOpen, world.lines.length], [true, true, 1]);
});

test("a tab that waited for a leader that died is served by the next", async () => {
  const world = new World();
  world.hasWorkers = false;
  new Program(world, "one").dial();
  const two = new Program(world, "two").dial();
  await world.settle();
  world.kill("one");
  await world.settle();
  world.line.open();
  await world.settle();
  assert.deepEqual([two.isOpen, two.closed, two.host], [true, undefined, "leader 1"]);
});

test("a leader whose client closes for good hands over", async () => {
  const world = new World();
  world.hasWorkers = false;
  const [one, two] = [new Program(world, "one"), new Program(world, "two")];
  await world.online(one, two);
  one.say({ type: "disconnect" });
  await world.settle();
  assert.deepEqual([one.closed, one.host, two.closed], [1000, "none 0", 4290]);
  await world.online(two);
  assert.deepEqual([two.host, world.lines.length], ["leader 1", 2]);
});

test("a frozen leader loses its place by force, and finds out when it wakes", async () => {
  const world = new World();
  world.hasWorkers = false;
  const [one, two, three] = [new Program(world, "one"), new Program(world, "two"), new Program(world, "three")];
  await world.online(one, two, three);
  one.page.realm.isFrozen = true;
  // Their clients notice the silence and dial again.
  for (const program of [two, three]) program.socket.close(4105);
  await world.settle();
  for (const program of [two, three]) program.dial();
  await world.settle();
  assert.equal(world.lines.length, 1);
  world.clock.advance(3_500);
  await world.settle();
  world.line.open();
  await world.settle();
  // Whoever asked by force last leads; both are open over its line.
  assert.deepEqual([two.isOpen, three.isOpen], [true, true]);
  assert.equal(new Set([two.tabs.status().host, three.tabs.status().host]).size, 2);
  const { length } = world.lines;
  one.page.realm.isFrozen = false;
  await world.settle();
  assert.equal(one.closed, 4290);
  assert.equal(world.lines[0]!.closed, 3001);
  assert.deepEqual([two.closed, three.closed, world.lines.length], [undefined, undefined, length]);
  await world.online(one);
  assert.equal(one.host, "follower 3");
});

test("a frozen tab that was given the lock does not lead two at once when it wakes", async () => {
  const world = new World();
  world.hasWorkers = false;
  const [two, three] = [new Program(world, "two"), new Program(world, "three")];
  await world.online(new Program(world, "one"), two, three);
  two.page.realm.isFrozen = true;
  world.kill("one"); // the lock goes to the second, which is frozen
  await world.settle();
  three.socket.close(4105);
  await world.settle();
  three.dial();
  await world.settle();
  world.clock.advance(3_500);
  await world.settle();
  await world.serve();
  three.say({ type: "connect", id: 1 });
  await world.serve();
  const desks = world.lines.length;
  two.page.realm.isFrozen = false;
  await world.settle();
  // The woken one led for a moment, noticed, and stepped down: everybody ends at the same leader.
  for (const program of [two, three]) {
    if (program.closed === undefined) continue;
    program.dial();
    await world.settle();
  }
  assert.ok(world.lines.length >= desks);
  assert.deepEqual([two.tabs.status().host, three.tabs.status().host].sort(), ["follower", "leader"]);
});

test("a tab that does not handle what it gets is given up, and its wire with it", async () => {
  const world = new World();
  const [one, two] = [new Program(world, "one"), new Program(world, "two")];
  await world.online(one, two);
  for (const program of [one, two]) program.say({ type: "subscribe", sub: 1, filter: "a" });
  await world.settle();
  world.line.say({ type: "subscribed", id: world.line.take()[0]!["id"], sub: 1, after: {}, live: true });
  await world.settle();
  two.page.realm.isFrozen = true;
  const big = "x".repeat(1 << 20);
  for (let pos = 1; pos <= 40; pos++) {
    world.line.say(message("a", pos, big));
    await world.settle();
  }
  assert.deepEqual([one.closed, one.host], [undefined, "worker 1"]);
  two.page.realm.isFrozen = false;
  await world.settle();
  assert.equal(two.closed, 4104);
  assert.equal(two.take().filter(({ type }) => type === "message").length, 8);
});

test("a tab that does handle it is never given up, however much it gets", async () => {
  const world = new World();
  const one = new Program(world, "one");
  await world.online(one);
  one.say({ type: "subscribe", sub: 1, filter: "a" });
  await world.settle();
  world.line.say({ type: "subscribed", id: world.line.take()[0]!["id"], sub: 1, after: {}, live: true });
  for (let pos = 1; pos <= 20_000; pos++) {
    world.line.say(message("a", pos));
    if (pos % 100 === 0) await world.settle();
  }
  assert.equal(one.closed, undefined);
});

test("bufferedAmount tells what the line to the broker has not taken yet", async () => {
  const world = new World();
  const one = new Program(world, "one");
  await world.online(one);
  assert.equal(one.socket.bufferedAmount, 0);
  world.line.bufferedAmount = 2 << 20;
  one.say({ type: "publish", topic: "a", data: 1 });
  await world.settle();
  assert.ok(one.socket.bufferedAmount > 20);
  world.line.bufferedAmount = 0;
  world.clock.advance(50);
  await world.settle();
  assert.equal(one.socket.bufferedAmount, 0);
});

test("letters that are none of theirs disturb neither desk nor tab", async () => {
  for (const hasWorkers of [true, false]) {
    const world = new World();
    world.hasWorkers = hasWorkers;
    const [one, two] = [new Program(world, "one"), new Program(world, "two")];
    await world.online(one, two);
    const stranger = world.page("stranger");
    const wires = hasWorkers
      ? [stranger.world.worker!(undefined).port]
      : [...world.names()].map((name) => stranger.world.broadcast!(name));
    const letters: unknown[] = [null, 7, {}, { kind: "text", text: 4 }, { kind: "got", count: "x" }, { kind: "close" }];
    letters.push({ kind: "dial" }, { kind: "call" }, { kind: "close", desk: "x" }, { kind: "sing" });
    for (const wire of wires) for (const letter of letters) wire.postMessage(letter);
    await world.settle();
    assert.deepEqual([one.closed, two.closed], [undefined, undefined]);
    two.say({ type: "ping", id: 3 });
    await world.settle();
    assert.deepEqual(two.take(), [{ type: "pong", id: 3 }]);
  }
});
