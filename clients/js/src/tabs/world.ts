/**
 * What a browser has for sharing a connection, in one place: the seam at which tests put something else.
 */
import type { Clock, Socket, Transport } from "../types.js";
import type { Wire } from "./wire.js";

export const clock: Clock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  random: () => Math.random(),
};

/** The browser's own WebSocket: its events carry more than a client looks at. */
export const dial: Transport = (url, protocol) => new WebSocket(url, protocol) as unknown as Socket;

export const newId = (): string =>
  Array.from(crypto.getRandomValues(new Uint32Array(3)), (word) => word.toString(36)).join("");

export type Locks = Pick<LockManager, "request">;

/** A SharedWorker, as far as it is needed. */
export interface Worker {
  readonly port: Wire;
  onerror: ((event: any) => void) | null;
}

export interface World {
  readonly dial: Transport;
  readonly clock: Clock;
  readonly locks: Locks | undefined;
  /** Start the worker's script, or reach the one that runs; undefined where there is no such thing. May throw. */
  readonly worker: ((script: string | URL | undefined) => Worker) | undefined;
  /** A wire to all tabs that open one of that name; undefined where there is no such thing. */
  readonly broadcast: ((name: string) => Wire) | undefined;
  /** Both ends of a wire inside this tab. */
  pair(): readonly [Wire, Wire];
  /** Tells of `pagehide` and `pageshow`. */
  readonly page: Pick<EventTarget, "addEventListener"> | undefined;
  newId(): string;
}

/** In exactly these words, so that bundlers find the script and bring it along. */
const ownScript = (): SharedWorker => new SharedWorker(new URL("./tabs-worker.js", import.meta.url));

export function browser(): World {
  const { SharedWorker, BroadcastChannel, navigator } = globalThis;
  return {
    dial,
    clock,
    locks: navigator?.locks,
    worker: SharedWorker && ((script) => (script ? new SharedWorker(script) : ownScript())),
    broadcast: BroadcastChannel && ((name) => new BroadcastChannel(name)),
    pair: () => {
      const { port1, port2 } = new MessageChannel();
      return [port1, port2];
    },
    page: typeof document === "undefined" ? undefined : globalThis,
    newId,
  };
}
