/**
 * A world for a client: sockets that a test opens and speaks through, and a clock that moves when it is told to.
 *
 * Nothing here knows the client's inside. The surprising decision: `turn` lets everything happen that needs no time;
 * no test ever waits by a real clock.
 */
import assert from "node:assert/strict";
import { Triode } from "../src/index.js";
import type { Client, Clock, Options, Socket, StateChange } from "../src/types.js";

export type Packet = Record<string, any>;

/** Everything that can happen without time passing. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class FakeClock implements Clock {
  time = 1_000_000;
  /** How far the wall clock was set. */
  skew = 0;
  chance = 0.5;
  private timers: { at: number; run: () => void }[] = [];

  now = (): number => this.time + this.skew;
  random = (): number => this.chance;
  setTimeout = (run: () => void, ms: number): unknown => {
    const timer = { at: this.time + Math.max(0, ms), run };
    this.timers.push(timer);
    return timer;
  };
  clearTimeout = (timer: any): void => {
    this.timers = this.timers.filter((each) => each != timer);
  };

  get pending(): number {
    return this.timers.length;
  }

  /** Time passes, and timers fire when they are due. */
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    await turn();
    for (;;) {
      this.timers.sort((a, b) => a.at - b.at);
      const next = this.timers[0];
      if (!next || next.at > end) break;
      this.time = Math.max(this.time, next.at);
      this.timers.shift();
      next.run();
      await turn();
    }
    this.time = end;
  }

  /** The machine sleeps: time passes, and what was due fires only at the end. */
  async sleep(ms: number): Promise<void> {
    this.time += ms;
    for (const { run } of this.timers.splice(0)) run();
    await turn();
  }
}

export class FakeSocket implements Socket {
  readyState = 0;
  bufferedAmount = 0;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onerror: Socket["onerror"] = null;
  onclose: Socket["onclose"] = null;
  /** What the client sent, one array for each text. */
  texts: string[] = [];
  closed: number | undefined | null = null; // null: it was not

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {}

  send(text: string): void {
    assert.equal(this.readyState, 1, "a socket is written to while it is open");
    this.texts.push(text);
  }
  close(code?: number): void {
    this.closed = code;
    this.readyState = 3;
  }

  get isWanted(): boolean {
    return this.closed === null;
  }
  /** All packets sent so far. */
  get sent(): Packet[] {
    return this.texts.flatMap((text) => [JSON.parse(text)].flat());
  }
  /** … of one type. */
  of(type: string): Packet[] {
    return this.sent.filter((packet) => packet.type == type);
  }
  last(type: string): Packet {
    const all = this.of(type);
    assert.ok(all.length, `no ${type} in ${this.texts.join("\n")}`);
    return all[all.length - 1]!;
  }

  // The broker's side
  async open(): Promise<void> {
    this.readyState = 1;
    this.onopen?.({});
    await turn();
  }
  async say(...packets: unknown[]): Promise<void> {
    await this.sayText(JSON.stringify(packets.length == 1 ? packets[0] : packets));
  }
  async sayText(data: unknown): Promise<void> {
    this.onmessage?.({ data });
    await turn();
  }
  async drop(code = 1006, reason = ""): Promise<void> {
    this.readyState = 3;
    this.onclose?.({ code, reason });
    await turn();
  }
}

export const connectedPacket = (more: Packet = {}): Packet => ({
  type: "connected",
  connection: "c-1",
  node: "n1",
  protocol: 1,
  capabilities: ["batch"],
  ping_ms: 25_000,
  reconnect: { min_ms: 100, max_ms: 10_000 },
  ...more,
  limits: {
    max_packet_bytes: 65_536,
    max_frame_bytes: 1_048_576,
    max_subscriptions: 200,
    max_inflight_publishes: 256,
    dedupe_window_ms: 300_000,
    ...more.limits,
  },
});

export const message = (pos: number, more: Packet = {}): Packet => ({
  type: "message",
  topic: "a",
  offset: pos,
  log: "m0",
  pos,
  ts: 1,
  data: pos,
  ...more,
});

export const delivery = (sub: number, pos: number, more: Packet = {}): Packet => ({
  type: "delivery",
  sub,
  attempt: 1,
  message: message(pos, more),
});

export class World {
  clock = new FakeClock();
  sockets: FakeSocket[] = [];
  states: StateChange[] = [];
  complaints: Packet[] = [];
  client: Client;

  constructor(options: Options = {}, url: string | string[] = "ws://one.example/ws") {
    this.client = new Triode(url, {
      clock: this.clock,
      transport: (url, protocol) => {
        const socket = new FakeSocket(url, protocol);
        this.sockets.push(socket);
        return socket;
      },
      ...options,
    });
    this.client.on("state", (event) => this.states.push(event));
    this.client.on("complaint", (event) => this.complaints.push(event as unknown as Packet));
  }

  /** The socket of the present attempt. */
  get socket(): FakeSocket {
    return this.sockets[this.sockets.length - 1]!;
  }

  /** The socket opens, and the broker says `connected`. */
  async accept(more: Packet = {}): Promise<FakeSocket> {
    await turn();
    await this.socket.open();
    await this.socket.say(connectedPacket({ id: this.socket.last("connect").id, ...more }));
    return this.socket;
  }

  /** The line breaks, the pause passes, and the client is connected again. */
  async reconnect(more: Packet = {}): Promise<FakeSocket> {
    const before = this.sockets.length;
    await this.socket.drop();
    await this.clock.pass(this.states[this.states.length - 1]!.delayMs!);
    assert.equal(this.sockets.length, before + 1, "one attempt was made");
    return this.accept(more);
  }

  /** Answers the last `subscribe`. */
  async subscribed(after: Packet = { m0: 0 }, live = true): Promise<number> {
    const { id, sub } = this.socket.last("subscribe");
    await this.socket.say({ type: "subscribed", id, sub, after, live });
    return sub;
  }
}

/** A client that is connected. */
export async function connected(options: Options = {}, more: Packet = {}): Promise<World> {
  const world = new World(options);
  void world.client.connect();
  await world.accept(more);
  return world;
}

/** What becomes of a promise that is settled by now: its value, or its error. */
export async function outcome<T>(promise: Promise<T>): Promise<any> {
  let result: unknown = "pending";
  promise.then(
    (value) => (result = value ?? "done"),
    (error) => (result = error),
  );
  await turn();
  return result;
}

/** What is said on the console meanwhile. */
export async function consoleDuring(run: () => Promise<void>): Promise<{ warnings: string[]; errors: unknown[] }> {
  const said = { warnings: [] as string[], errors: [] as unknown[] };
  const { warn, error } = console;
  console.warn = (text) => said.warnings.push(text);
  console.error = (text) => said.errors.push(text);
  try {
    await run();
  } finally {
    Object.assign(console, { warn, error });
  }
  return said;
}
