/** The queue in IndexedDB: over pages that live, die and share. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { IDBFactory, IDBKeyRange, IDBObjectStore } from "fake-indexeddb";
import { indexedDbQueue } from "../src/offline.js";
import type { QueuedPublish, QueueStore } from "../src/types.js";

/** Locks of one browser; a page is a holder that can die. */
class Locks {
  private readonly held = new Map<string, Page>();
  private readonly waiting: { name: string; page: Page; run: () => void }[] = [];
  page: Page = { isDead: false };

  request = (name: string, ...rest: any[]): Promise<unknown> => {
    const run = rest.pop() as (lock: unknown) => unknown;
    const { page } = this;
    if (rest[0]?.ifAvailable) return Promise.resolve(run(this.held.has(name) ? null : {}));
    return new Promise((resolve, reject) => {
      const grant = () => {
        this.held.set(name, page);
        const free = () => this.held.get(name) === page && !page.isDead && (this.held.delete(name), this.next());
        Promise.resolve(run({})).then((value) => (resolve(value), free()), (error) => (reject(error), free()));
      };
      this.waiting.push({ name, page, run: grant });
      this.next();
    });
  };

  die(page: Page): void {
    page.isDead = true;
    for (const [name, holder] of this.held) if (holder === page) this.held.delete(name);
    this.next();
  }

  private next(): void {
    const at = this.waiting.findIndex(({ name, page }) => !page.isDead && !this.held.has(name));
    if (at < 0) return;
    for (const { run } of this.waiting.splice(at, 1)) run();
    this.next();
  }
}

interface Page {
  isDead: boolean;
}

let locks: Locks;

function set(name: string, value: unknown): void {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

beforeEach(() => {
  locks = new Locks();
  set("indexedDB", new IDBFactory());
  set("IDBKeyRange", IDBKeyRange);
  set("navigator", { locks });
});

/** A page with that queue. */
function page(options?: Parameters<typeof indexedDbQueue>[1], name = "q"): { queue: QueueStore; die(): void } {
  const made: Page = { isDead: false };
  locks.page = made;
  return { queue: indexedDbQueue(name, options), die: () => locks.die(made) };
}

const LATER = Date.now() + 3_600_000;
const item = (seq: number, more: object = {}): QueuedPublish => ({
  seq,
  expiresAt: LATER,
  packet: { type: "publish", topic: "a", data: seq, message_id: `m${seq}` },
  ...more,
});
const seqs = (items: readonly QueuedPublish[]): number[] => items.map(({ seq }) => seq);

test("what a page leaves the next one finds, oldest first, as it was", async () => {
  const one = page();
  assert.deepEqual(await one.queue.load(), []);
  for (const seq of [3, 1, 2]) await one.queue.put(item(seq));
  await one.queue.put(item(2, { sentAt: 5 }));
  await one.queue.remove(1);
  one.die();
  assert.deepEqual(await page().queue.load(), [item(2, { sentAt: 5 }), item(3)]);
});

test("put and remove take effect in the order in which they were asked for", async () => {
  const one = page();
  await Promise.all([one.queue.put(item(1)), one.queue.remove(1), one.queue.put(item(2))]);
  one.die();
  assert.deepEqual(seqs(await page().queue.load()), [2]);
});

test("what a living page waits for is not given to another one", async () => {
  const [one, two] = [page(), page()];
  await Promise.all([one.queue.load(), two.queue.load()]);
  await one.queue.put(item(1));
  await two.queue.put(item(2));
  const three = page();
  assert.deepEqual(await three.queue.load(), []);
  one.die();
  three.die();
  assert.deepEqual(seqs(await page().queue.load()), [1]);
  two.die();
  assert.deepEqual(seqs(await page().queue.load()), [2]);
});

test("pages that start at once share what was left between them: nothing is given twice", async () => {
  const one = page();
  for (let seq = 1; seq <= 10; seq++) await one.queue.put(item(seq));
  one.die();
  const found = await Promise.all([page().queue.load(), page().queue.load(), page().queue.load()]);
  assert.deepEqual(found.map((items) => items.length).sort(), [0, 0, 10]);
});

test("what several dead pages left comes in order, and equal numbers are told apart", async () => {
  const [one, two] = [page(), page()];
  for (const seq of [1, 3, 4]) await one.queue.put(item(seq));
  for (const seq of [2, 3]) await two.queue.put(item(seq, { packet: { data: `two${seq}` } }));
  one.die();
  two.die();
  const three = page();
  const items = await three.queue.load();
  assert.equal(items.length, 5);
  assert.equal(new Set(seqs(items)).size, 5);
  assert.deepEqual(seqs(items), [...seqs(items)].sort((a, b) => a - b));
  for (const seq of seqs(items)) await three.queue.remove(seq);
  three.die();
  assert.deepEqual(await page().queue.load(), []);
});

test("queues of other names know nothing of each other", async () => {
  const one = page({}, "orders");
  await one.queue.put(item(1));
  one.die();
  assert.deepEqual(await page({}, "chat").queue.load(), []);
});

test("more than maxMessages is refused, and what is kept can still be replaced", async () => {
  const one = page({ maxMessages: 2 });
  await one.queue.put(item(1));
  await one.queue.put(item(2));
  await assert.rejects(one.queue.put(item(3)), /too many/);
  await one.queue.put(item(2, { sentAt: 1 }));
  await one.queue.remove(1);
  await one.queue.put(item(3));
});

test("what is too old comes back as expired, so that somebody hears of it", async () => {
  const one = page();
  await one.queue.put(item(1));
  one.die();
  const [old] = await page({ maxAgeMs: -1 }).queue.load();
  assert.ok(old!.expiresAt < Date.now());
});

test("without locks everything that was left is taken over", async () => {
  set("navigator", {});
  await page().queue.put(item(1));
  assert.deepEqual(seqs(await page().queue.load()), [1]);
});

test("without IndexedDB the first call rejects, and the others are quiet", async () => {
  set("indexedDB", undefined);
  const { queue } = page();
  await assert.rejects(queue.load());
  await queue.put(item(2));
  await queue.remove(1);
});

test("a store of a later version, or one that cannot be opened, is a rejection", async () => {
  await new Promise((resolve) => {
    const request = indexedDB.open("triode-queue:q", 2);
    request.onsuccess = () => (request.result.close(), resolve(undefined));
  });
  await assert.rejects(page().queue.load(), { name: "VersionError" });
});

test("a page lets go of the store when another one needs a later version", async () => {
  const one = page();
  await one.queue.put(item(1));
  await new Promise<void>((resolve, reject) => {
    const request = indexedDB.open("triode-queue:q", 2);
    request.onblocked = () => reject(new Error("blocked"));
    request.onsuccess = () => (request.result.close(), resolve());
  });
  await assert.rejects(one.queue.put(item(2)), { name: "VersionError" });
});

test("a store that somebody else has filled with nonsense is cleaned, and served", async () => {
  const one = page();
  await one.queue.put(item(1));
  await new Promise<void>((resolve) => {
    const request = indexedDB.open("triode-queue:q", 1);
    request.onsuccess = () => {
      const transaction = request.result.transaction("items", "readwrite");
      for (const value of [{ seq: 7 }, { seq: 8, item: 4 }, { seq: 9, item: { packet: {}, expiresAt: "x" } }]) {
        transaction.objectStore("items").put({ owner: "who", ...value });
      }
      transaction.oncomplete = () => (request.result.close(), resolve());
    };
  });
  one.die();
  const two = page();
  assert.deepEqual(await two.queue.load(), [item(1)]);
  two.die();
  assert.deepEqual(await page().queue.load(), [item(1)]);
});

test("a full disk is a rejection of that message", async (t) => {
  const one = page();
  await one.queue.put(item(1));
  t.mock.method(IDBObjectStore.prototype, "put", () => {
    throw Object.assign(new Error("full"), { name: "QuotaExceededError" });
  });
  await assert.rejects(one.queue.put(item(2)));
  t.mock.restoreAll();
  one.die();
  assert.deepEqual(seqs(await page().queue.load()), [1]);
});
