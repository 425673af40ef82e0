/**
 * Many tabs with the real client over the real switchboard over a model of a broker, in any order of events that a
 * seed brings about: cuts, drains, dying and frozen tabs and workers, slow subscriptions, retention.
 *
 * What has to hold (SPEC 8.4): every subscription of a tab that lives gets every message once and in order, or a gap
 * that covers it; every publish is stored once.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Triode } from "../../src/index.js";
import { tabs, type Tabs } from "../../src/tabs/index.js";
import type { Client, Gap, Message, Subscription } from "../../src/types.js";
import { breathe, Browser, type Page } from "./realms.js";
import { isFor, ToyBroker } from "./toy_broker.js";

const SEEDS = Number(process.env["SEEDS"] ?? 10);
const FIRST = Number(process.env["FIRST_SEED"] ?? 1);
const STEPS = 600;
const TOPICS = ["a", "a/bb", "a/b", "cc"];
const FILTERS = ["a/#", "a", "a/bb", "cc"];

/** xorshift: small, and the same everywhere. */
function dice(seed: number): (count: number) => number {
  let state = seed * 2654435761 + 1;
  return (count) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % count;
  };
}

/** A subscription's program: it checks each message against what the broker has stored. */
class Reader {
  private place: Record<string, number> | undefined;
  readonly subscription: Subscription;
  isOver = false;

  constructor(
    client: Client,
    private readonly broker: ToyBroker,
    readonly filter: string,
    readonly name: string,
    from: "new" | "earliest",
  ) {
    if (from === "earliest") this.place = { m0: 0, m1: 0 };
    this.subscription = client.subscribe(filter, { from }, (message) => this.message(message));
    this.subscription.on("gap", (gap) => this.gap(gap));
    this.subscription.on("caughtup", ({ after }) => (this.place ??= { ...after }));
  }

  private message({ log, pos }: Message): void {
    const place = this.place!;
    assert.ok(pos > (place[log] ?? 0), `${this.name}: ${log}.${pos} twice or out of order: ${JSON.stringify(place)}`);
    this.assertNothingDue(log, pos - 1);
    place[log] = pos;
  }

  private gap({ after, reason }: Gap): void {
    assert.equal(reason, "retention", this.name);
    this.place = { ...this.place, ...after };
  }

  private assertNothingDue(log: string, upto: number): void {
    const from = this.place![log] ?? 0;
    const missed = this.broker.logs[log]!.find(({ topic, pos }) => pos > from && pos <= upto && isFor(this.filter, topic));
    assert.equal(missed, undefined, `${this.name}: ${log}.${missed?.pos} never came`);
  }

  assertHasEverything(): void {
    assert.ok(this.subscription.isLive, `${this.name} is not live`);
    for (const [log, pos] of Object.entries(this.broker.heads())) this.assertNothingDue(log, pos);
  }
}

class Tab {
  readonly client: Client;
  readonly readers: Reader[] = [];

  private readonly transport: Tabs;

  constructor(
    readonly page: Page,
    private readonly broker: ToyBroker,
  ) {
    const { realm, world, browser } = page;
    const transport = (this.transport = tabs({}, world));
    this.client = new Triode("ws://broker/ws", { transport, clock: browser.clockOf(realm) });
    this.client.on("complaint", () => undefined);
  }

  get host(): string {
    return this.transport.status().host;
  }

  get runs(): boolean {
    return !this.page.realm.isDead && !this.page.realm.isFrozen;
  }

  subscribe(filter: string, from: "new" | "earliest"): void {
    const name = `${this.page.realm.name} ${filter} #${this.readers.length}`;
    this.readers.push(new Reader(this.client, this.broker, filter, name, from));
  }

  unsubscribe(n: number): void {
    for (const reader of this.readers.splice(n, 1)) reader.subscription.unsubscribe();
  }
}

class Play {
  private readonly pick: (count: number) => number;
  private readonly broker: ToyBroker = new ToyBroker(() => this.browser);
  private readonly browser: Browser;
  private readonly tabs: Tab[] = [];
  private names = 0;
  private sent = 0;
  private readonly published = new Map<string, number>();
  private failed: unknown;

  constructor(
    seed: number,
    private readonly hasWorkers: boolean,
  ) {
    this.pick = dice(seed);
    this.browser = new Browser(this.broker.dial, this.pick, () => this.pick(1_000) / 1_000);
    this.browser.hasWorkers = hasWorkers;
  }

  async run(): Promise<void> {
    const report = (error: unknown) => (this.failed ??= error);
    Object.assign(globalThis, { reportError: report });
    for (let n = 0; n < 3; n++) this.open();
    for (let step = 0; step < STEPS; step++) {
      this.event();
      await breathe();
      for (let letters = this.pick(12); letters > 0; letters--) {
        this.browser.step();
        await breathe();
      }
      if (this.failed) throw this.failed;
    }
    await this.calm();
    if (this.failed) throw this.failed;
    this.check();
  }

  private get living(): Tab[] {
    return this.tabs.filter(({ page }) => !page.realm.isDead);
  }

  private open(): void {
    const tab = new Tab(this.browser.page(`tab${++this.names}`), this.broker);
    this.tabs.push(tab);
    tab.subscribe("a/#", "new");
  }

  private event(): void {
    const running = this.tabs.filter(({ runs }) => runs);
    const tab = running[this.pick(Math.max(1, running.length))];
    const connections = this.broker.online;
    const connection = connections[this.pick(Math.max(1, connections.length))];
    const happens = this.pick(100);
    if (happens < 45) this.publish(tab);
    else if (happens < 57) this.browser.clock.advance(this.pick(800));
    else if (happens < 65) tab?.subscribe(FILTERS[this.pick(4)]!, this.pick(3) ? "new" : "earliest");
    else if (happens < 71) tab?.unsubscribe(this.pick(Math.max(1, tab.readers.length)));
    else if (happens < 78) connection?.slow(this.pick);
    else if (happens < 84) connection?.ping();
    else if (happens < 87) this.trim();
    else if (happens < 90) connection?.cut();
    else if (happens < 91) connection?.end(4200, "draining");
    else if (happens < 94) this.freeze(tab);
    else if (happens < 97) this.wake();
    else if (happens < 98 && this.living.length > 2) this.kill(tab);
    else if (happens < 99 && this.living.length < 5) this.open();
    else if (happens < 100 && this.hasWorkers && this.browser.worker) this.killWorker();
  }

  private publish(tab: Tab | undefined): void {
    if (!tab) return;
    const messageId = `m${++this.sent}`;
    const data = { n: this.sent };
    // Half of it comes from elsewhere.
    if (this.pick(2)) this.broker.publish({ topic: TOPICS[this.pick(4)], data, message_id: messageId });
    else {
      const topic = TOPICS[this.pick(4)]!;
      tab.client.publish(topic, data, { messageId, expiryMs: 1e9 }).then(
        ({ pos }) => this.published.set(messageId, pos!),
        () => undefined,
      );
    }
  }

  private trim(): void {
    const log = `m${this.pick(2)}`;
    this.broker.trimmed[log] = Math.max(this.broker.trimmed[log]!, this.broker.logs[log]!.length - this.pick(6));
  }

  private freeze(tab: Tab | undefined): void {
    if (tab) tab.page.realm.isFrozen = true;
  }

  private wake(): void {
    for (const { page } of this.tabs) page.realm.isFrozen = false;
  }

  private kill(tab: Tab | undefined): void {
    if (!tab) return;
    this.browser.kill(tab.page.realm.name);
    this.broker.lost(tab.page.realm);
  }

  private killWorker(): void {
    const worker = this.browser.worker!;
    this.browser.killWorker();
    this.broker.lost(worker);
  }

  /** Nothing bad happens any more, for as long as everybody needs. */
  private async calm(): Promise<void> {
    this.wake();
    for (let n = 0; n < 60; n++) {
      for (const connection of this.broker.online) if (n % 8 === 0) connection.ping();
      await this.browser.settle();
      this.browser.clock.advance(2_000);
    }
    await this.browser.settle();
  }

  private check(): void {
    for (const { client, readers, page } of this.living) {
      assert.equal(client.state, "connected", page.realm.name);
      for (const reader of readers) reader.assertHasEverything();
    }
    const ids = Object.values(this.broker.logs).flatMap((log) => log.map(({ packet }) => packet["message_id"]));
    assert.equal(new Set(ids).size, ids.length);
    for (const id of this.published.keys()) assert.ok(ids.includes(id), `${id} was acknowledged and is not stored`);
    // A page that came to a worker just before it died goes to a leading tab, and stays there.
    const hosts = new Set(this.living.map(({ host }) => (host === "worker" ? "worker" : "tab")));
    if (!this.hasWorkers) assert.equal(hosts.size, 1);
    const said = this.living.map(({ page, host }) => `${page.realm.name} ${host}`);
    assert.equal(this.broker.online.length, hosts.size, `connections for ${said}`);
  }
}

for (const hasWorkers of [true, false]) {
  test(`every tab gets everything once, with ${hasWorkers ? "a worker" : "a leading tab"}`, async () => {
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      try {
        await new Play(seed, hasWorkers).run();
      } catch (error) {
        (error as Error).message = `seed ${seed}: ${(error as Error).message}`;
        throw error;
      }
    }
  });
}
