/**
 * A queue that outlives the page: what waits to be acknowledged, in IndexedDB. Entry `triode/offline`.
 *
 * Knows items and who put them, nothing of what is in them. The surprising decision: every page owns what it has put,
 * by a lock that it holds as long as it lives, and takes over only what dead pages have left. Otherwise two tabs
 * would both send what waits in one of them; the broker would store it once all the same (SPEC 3.4.5).
 */
import type { QueuedPublish, QueueStore } from "./types.js";

export interface OfflineOptions {
  /** Messages of one page; default 1,000. More: `put` rejects, and the message is in memory only. */
  readonly maxMessages?: number;
  /** What is older is given back as expired, whatever its own expiry was; default one day. */
  readonly maxAgeMs?: number;
}

interface Kept {
  readonly owner: string;
  readonly seq: number;
  readonly at: number;
  readonly item: QueuedPublish;
}

const ITEMS = "items";

/** `new Triode(url, {queue: {store: indexedDbQueue("orders")}})`. Pages of one origin and name share it. */
export function indexedDbQueue(name: string, options: OfflineOptions = {}): QueueStore {
  return new IndexedDbQueue("triode-queue:" + name, options.maxMessages ?? 1_000, options.maxAgeMs ?? 86_400_000);
}

class IndexedDbQueue implements QueueStore {
  private owner_ = Math.random().toString(36).slice(2) + Date.now().toString(36);
  private owned_ = this.own_();
  private opened_: Promise<IDBDatabase> | undefined;
  private isTold_ = false;

  constructor(
    private name_: string,
    private maxMessages_: number,
    private maxAgeMs_: number,
  ) {}

  async load(): Promise<readonly QueuedPublish[]> {
    await this.owned_;
    const { locks } = globalThis.navigator ?? {};
    // One page at a time, or two would take over the same.
    return locks ? locks.request(this.name_, () => this.adopt_()) : this.adopt_();
  }

  put(item: QueuedPublish): Promise<void> {
    return this.write_(async (store) => {
      const [known, count] = await Promise.all([
        done(store.count([this.owner_, item.seq])),
        done(store.count(IDBKeyRange.bound([this.owner_], [this.owner_, []]))),
      ]);
      if (!known && count >= this.maxMessages_) throw named("queue_full", `${count} messages are stored already`);
      store.put(this.kept_(item, Date.now()));
    });
  }

  remove(seq: number): Promise<void> {
    return this.write_((store) => void store.delete([this.owner_, seq]));
  }

  private kept_(item: QueuedPublish, at: number): Kept {
    return { owner: this.owner_, seq: item.seq, at, item };
  }

  /** What dead pages have left is ours from now on. */
  private async adopt_(): Promise<QueuedPublish[]> {
    const db = await this.open_();
    const all: Kept[] = await done(db.transaction(ITEMS).objectStore(ITEMS).getAll());
    const dead = new Map<string, boolean>([[this.owner_, false]]);
    for (const { owner } of all) if (!dead.has(owner)) dead.set(owner, await isFree(this.name_ + owner));
    const seqs = new Set(all.filter(({ owner }) => owner == this.owner_).map(({ seq }) => seq));
    const items: QueuedPublish[] = [];
    await this.write_((store) => {
      for (const { owner, seq, at, item } of all.sort((a, b) => a.seq - b.seq)) {
        if (!dead.get(owner)) continue;
        store.delete([owner, seq]);
        if (!item?.packet || !(item.expiresAt > 0)) continue; // not of this program
        let free = seq;
        while (seqs.has(free)) free++;
        seqs.add(free);
        items.push({ ...item, seq: free, expiresAt: Math.min(item.expiresAt, at + this.maxAgeMs_) });
        store.put(this.kept_(items[items.length - 1]!, at));
      }
    });
    return items.sort((a, b) => a.seq - b.seq);
  }

  /** In one transaction: kept when this resolves, or nothing of it is. */
  private async write_(run: (store: IDBObjectStore) => void | Promise<void>): Promise<void> {
    await this.owned_;
    const db = await this.open_().catch((error) => {
      // Once is enough: a page without IndexedDB would complain of each message twice.
      if (this.isTold_) return undefined;
      this.isTold_ = true;
      throw error;
    });
    if (!db) return;
    const transaction = db.transaction(ITEMS, "readwrite");
    const committed = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? named("AbortError", "the store was closed"));
    });
    try {
      await run(transaction.objectStore(ITEMS));
    } catch (error) {
      committed.catch(() => undefined);
      transaction.abort();
      throw error;
    }
    return committed;
  }

  private open_(): Promise<IDBDatabase> {
    if (this.opened_) return this.opened_;
    const opened = new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(this.name_, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(ITEMS, { keyPath: ["owner", "seq"] });
      request.onblocked = () => reject(named("blocked", "another page uses an older store"));
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const db = request.result;
        const close = () => {
          db.close();
          this.opened_ = undefined;
        };
        // A page with a later version, or one that clears the site's data, must not wait for this one.
        db.onversionchange = db.onclose = close;
        this.isTold_ = false;
        resolve(db);
      };
    });
    opened.catch(() => (this.opened_ = undefined)); // the next one tries again
    return (this.opened_ = opened);
  }

  /** Held as long as the page lives. Where there are no locks, or none may be used, no other page is believed to. */
  private own_(): Promise<void> {
    const { locks } = globalThis.navigator ?? {};
    return new Promise<void>((resolve) => {
      const hold = () => {
        resolve();
        return new Promise<void>(() => undefined);
      };
      if (locks) locks.request(this.name_ + this.owner_, hold).catch(() => resolve());
      else resolve();
    });
  }
}

const isFree = async (lock: string): Promise<boolean> =>
  (await globalThis.navigator?.locks?.request(lock, { ifAvailable: true }, (held) => !!held)) ?? true;

const named = (name: string, message: string): Error => Object.assign(Error(message), { name });

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
