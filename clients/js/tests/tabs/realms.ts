/**
 * A browser in memory: pages and a worker as realms that can be killed, frozen and woken; locks, wires between them,
 * and a loop that carries letters one at a time, in an order that the test may shuffle.
 *
 * What it keeps of real ones: a wire is first in, first out; a frozen page runs nothing and keeps its locks; a dead
 * one loses them; a stolen lock is noticed by its holder only when it runs.
 */
import type { Clock, Socket } from "../../src/types.js";
import { Desk } from "../../src/tabs/desk.js";
import type { Wire } from "../../src/tabs/wire.js";
import type { World } from "../../src/tabs/world.js";
import { FakeClock } from "./fakes.js";

interface Task {
  readonly realm: Realm;
  readonly lane: object;
  run(): void;
}

export class Realm {
  isDead = false;
  isFrozen = false;

  constructor(readonly name: string) {}
}

interface Request {
  readonly realm: Realm;
  readonly run: (lock: any) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export class Browser {
  readonly clock = new FakeClock();
  readonly realms = new Map<string, Realm>();
  readonly sockets: Socket[] = [];
  hasWorkers = true;
  hasLocks = true;
  /** Locks that may not be asked for, as in a sandbox. */
  refusesLocks = false;
  /** What becomes of a worker's script: it runs, cannot be had, or never comes. */
  script: "runs" | "throws" | "fails" | "hangs" = "runs";
  worker: Realm | undefined;
  private desk: Desk | undefined;
  private tasks: Task[] = [];
  private readonly wires = new Map<string, Set<FakeWire>>();
  private readonly held = new Map<string, Request>();
  private readonly queues = new Map<string, Request[]>();
  private ids = 0;

  constructor(
    private readonly dial: (url: string, realm: Realm) => Socket,
    private readonly pick: (count: number) => number = () => 0,
    random: () => number = () => 0.5,
  ) {
    this.clock.random = random;
  }

  post(realm: Realm, lane: object, run: () => void): void {
    this.tasks.push({ realm, lane, run });
  }

  /** One letter is carried, or one event happens; false: there is nothing that could. */
  step(): boolean {
    const lanes = new Set<object>();
    const next: Task[] = [];
    this.tasks = this.tasks.filter(({ realm }) => !realm.isDead);
    for (const task of this.tasks) {
      if (task.realm.isFrozen || lanes.has(task.lane)) continue;
      lanes.add(task.lane);
      next.push(task);
    }
    if (next.length === 0) return false;
    const task = next[this.pick(next.length)]!;
    this.tasks.splice(this.tasks.indexOf(task), 1);
    task.run();
    return true;
  }

  /** Until nothing moves any more. */
  async settle(): Promise<void> {
    for (let still = 0; still < 5; ) {
      await breathe();
      still = this.step() ? 0 : still + 1;
    }
  }

  /** A page that has gone without a word. */
  kill(name: string): void {
    const realm = this.realms.get(name)!;
    realm.isDead = true;
    this.leave(realm);
  }

  killWorker(): void {
    const { worker } = this;
    if (worker) worker.isDead = true;
    if (worker) this.leave(worker);
    this.worker = this.desk = undefined;
  }

  private leave(realm: Realm): void {
    for (const wires of this.wires.values()) for (const wire of wires) if (wire.realm === realm) wires.delete(wire);
    for (const queue of this.queues.values()) queue.splice(0, Infinity, ...queue.filter((one) => one.realm !== realm));
    for (const [name, holder] of this.held) if (holder.realm === realm) this.free(name, holder);
  }

  /** Its timers run when it does. */
  clockOf(realm: Realm): Clock {
    const { clock } = this;
    return {
      now: clock.now,
      random: clock.random,
      setTimeout: (run, ms) => {
        const timer = { isOff: false, inner: 0 };
        const fire = () => this.post(realm, timer, () => !timer.isOff && run());
        timer.inner = clock.setTimeout(fire, ms);
        return timer;
      },
      clearTimeout: (timer?: { isOff: boolean; inner: number }) => {
        if (!timer) return;
        timer.isOff = true;
        clock.clearTimeout(timer.inner);
      },
    };
  }

  page(name: string): Page {
    const realm = new Realm(name);
    this.realms.set(name, realm);
    return new Page(this, realm);
  }

  world(realm: Realm, page?: EventTarget): World {
    return {
      clock: this.clockOf(realm),
      dial: (url) => {
        const socket = this.dial(url, realm);
        this.sockets.push(socket);
        return socket;
      },
      locks: this.hasLocks ? { request: (...args: any[]) => this.request(realm, args) } as World["locks"] : undefined,
      worker: this.hasWorkers ? () => this.reachWorker(realm) : undefined,
      broadcast: this.hasLocks ? (wire) => this.wire(wire, realm) : undefined,
      pair: () => this.pair(realm, realm),
      page: page as EventTarget,
      newId: () => `id${++this.ids}`,
    };
  }

  // Wires.

  wire(name: string, realm: Realm): FakeWire {
    const wire = new FakeWire(this, name, realm);
    this.wires.set(name, (this.wires.get(name) ?? new Set()).add(wire));
    return wire;
  }

  pair(one: Realm, other: Realm): [FakeWire, FakeWire] {
    const name = `pair${++this.ids}`;
    return [this.wire(name, one), this.wire(name, other)];
  }

  ends(name: string): ReadonlySet<FakeWire> {
    return this.wires.get(name) ?? new Set();
  }

  names(): string[] {
    return [...this.wires.keys()];
  }

  cut(wire: FakeWire): void {
    this.wires.get(wire.name)?.delete(wire);
  }

  private reachWorker(realm: Realm): { port: Wire; onerror: ((event: any) => void) | null } {
    if (this.script === "throws") throw new Error("SecurityError");
    const isNew = !this.worker;
    this.worker ??= new Realm("worker");
    const [port, theirs] = this.pair(realm, this.worker);
    const worker = { port, onerror: null as ((event: any) => void) | null };
    if (this.script === "fails") this.post(realm, worker, () => worker.onerror?.({}));
    if (this.script !== "runs") return worker;
    if (isNew) this.desk = new Desk(this.world(this.worker));
    const { desk } = this;
    desk!.accept(theirs);
    return worker;
  }

  // Locks.

  private request(realm: Realm, args: any[]): Promise<unknown> {
    const [name, options, run] = args.length === 3 ? args : [args[0], {}, args[1]];
    if (this.refusesLocks) return Promise.reject(new Error("SecurityError"));
    return new Promise((resolve, reject) => {
      const request: Request = { realm, run, resolve, reject };
      const queue = this.queues.get(name) ?? [];
      this.queues.set(name, queue);
      if (options.steal) {
        const holder = this.held.get(name);
        this.held.delete(name);
        if (holder) this.post(holder.realm, holder, () => holder.reject(new Error("AbortError")));
        queue.unshift(request);
      } else queue.push(request);
      options.signal?.addEventListener("abort", () => {
        const at = queue.indexOf(request);
        if (at >= 0) queue.splice(at, 1);
        if (at >= 0) reject(new Error("AbortError"));
      });
      this.grant(name);
    });
  }

  private grant(name: string): void {
    const next = this.held.has(name) ? undefined : this.queues.get(name)?.shift();
    if (!next) return;
    this.held.set(name, next);
    this.post(next.realm, next, () => {
      Promise.resolve(next.run({ name })).then((value) => {
        next.resolve(value);
        this.free(name, next);
      }, next.reject);
    });
  }

  private free(name: string, holder: Request): void {
    if (this.held.get(name) !== holder) return;
    this.held.delete(name);
    this.grant(name);
  }
}

export class FakeWire implements Wire {
  onmessage: ((event: any) => void) | null = null;

  constructor(
    private readonly browser: Browser,
    readonly name: string,
    readonly realm: Realm,
  ) {}

  postMessage(letter: unknown): void {
    const copy = structuredClone(letter);
    for (const end of this.browser.ends(this.name)) {
      if (end !== this) this.browser.post(end.realm, end, () => end.onmessage?.({ data: copy }));
    }
  }

  close(): void {
    this.browser.cut(this);
  }
}

/** A page, and what a program in it sees. */
export class Page {
  readonly events = new EventTarget();
  readonly world: World;

  constructor(
    readonly browser: Browser,
    readonly realm: Realm,
  ) {
    this.world = browser.world(realm, this.events);
  }
}

/** Let promises have their turn. */
export async function breathe(): Promise<void> {
  for (let n = 0; n < 4; n++) await Promise.resolve();
}
