/**
 * A queue that outlives the page: what waits to be acknowledged, in IndexedDB. Entry `triode/offline`.
 *
 * Knows items and who put them, nothing of what is in them. The surprising decision: every page owns what it has put,
 * by a lock that it holds as long as it lives, and takes over only what dead pages have left. Otherwise two tabs
 * would both send what waits in one of them; the broker would store it once all the same (SPEC 3.4.5).
 */
import type { QueuedPublish, QueueStore } from "./types.js";

/** Bounds of what is stored. */
export interface OfflineOptions {
  /** Messages of one page; default 1,000. More: `put` rejects, and the message is in memory only. */
  readonly maxMessages?: number;
  /** What is older is given back as expired, whatever its own expiry was; default one day. */
  readonly maxAgeMs?: number;
}

/** As it is stored: under the page it belongs to and its number there. */
interface Kept {
  readonly owner: string;
  readonly seq: number;
  readonly at: number;
  readonly item: QueuedPublish;
}

/** `new Triode(url, {queue: {store: indexedDbQueue("orders")}})`. Pages of one origin and name share it. */
export function indexedDbQueue(name: string, options: OfflineOptions = {}): QueueStore {
  const { maxMessages = 1_000, maxAgeMs = 86_400_000 } = options;
  const locks = globalThis.navigator?.locks;
  const prefix = "triode-queue:" + name;
  const owner = Math.random() + "-" + Date.now();
  let opened: Promise<IDBDatabase> | undefined;
  let isTold: boolean;

  // Held as long as the page lives. Where there are no locks, or none may be used, every other page counts as dead.
  const owned = new Promise<unknown>((resolve) =>
    locks ? locks.request(prefix + owner, () => new Promise(resolve as () => void)).catch(resolve) : resolve(0),
  );

  const open = () =>
    (opened ??= new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(prefix, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("items", { keyPath: ["owner", "seq"] });
      request.onblocked = request.onerror = () => reject(request.error ?? Error("blocked by another page"));
      request.onsuccess = () => {
        const db = request.result;
        isTold = false;
        // A page with a later version, or one that clears the site's data, must not wait for this one.
        db.onversionchange = db.onclose = () => {
          db.close();
          opened = undefined;
        };
        resolve(db);
      };
    }).catch((error) => {
      opened = undefined; // the next one tries again
      throw error;
    }));

  /** In one transaction: kept when this resolves, or nothing of it is. */
  const write = (run: (store: IDBObjectStore, fail: (error: unknown) => void) => void): Promise<void> =>
    owned.then(open).then(
      (db) =>
        new Promise((resolve, reject) => {
          const transaction = db.transaction("items", "readwrite");
          transaction.oncomplete = () => resolve();
          transaction.onabort = () => reject(transaction.error);
          const fail = (error: unknown) => {
            reject(error);
            transaction.abort();
          };
          try {
            run(transaction.objectStore("items"), fail);
          } catch (error) {
            fail(error);
          }
        }),
      (error) => {
        // Once is enough: a page without IndexedDB would complain of each message twice.
        if (isTold) return;
        isTold = true;
        throw error;
      },
    );

  /** What dead pages have left is ours from now on. */
  const adopt = async (): Promise<QueuedPublish[]> => {
    let all: Kept[] = [];
    await write((store) => {
      store.getAll().onsuccess = ({ target }) => (all = (target as IDBRequest<Kept[]>).result);
    });
    const dead: Record<string, boolean> = { [owner]: false };
    for (const { owner } of all)
      dead[owner] ??= !locks || (await locks.request(prefix + owner, { ifAvailable: true }, Boolean));
    const items: QueuedPublish[] = [];
    let last = 0;
    await write((store) => {
      for (const { owner: left, seq, at, item } of all.sort((a, b) => a.seq - b.seq)) {
        if (!dead[left]) continue;
        store.delete([left, seq]);
        if (!item?.packet || !(item.expiresAt > 0)) continue; // not of this program
        last = Math.max(seq, last + 1); // two pages may have given the same
        const taken = { ...item, seq: last, expiresAt: Math.min(item.expiresAt, at + maxAgeMs) };
        items.push(taken);
        store.put({ owner, seq: last, at, item: taken });
      }
    });
    return items;
  };

  return {
    // One page at a time, or two would take over the same.
    load: () => owned.then(() => (locks ? locks.request(prefix, adopt as () => any) : adopt())),

    put: (item) =>
      write((store, fail) => {
        const { seq } = item;
        store.count(IDBKeyRange.bound([owner], [owner, []])).onsuccess = ({ target }) => {
          // One that is put again has been sent meanwhile: it has its place.
          if ((target as IDBRequest<number>).result >= maxMessages && !item.sentAt) fail(Error("too many messages are stored"));
          else store.put({ owner, seq, at: Date.now(), item });
        };
      }),

    remove: (seq) => write((store) => store.delete([owner, seq])),
  };
}
