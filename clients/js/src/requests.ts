/**
 * Questions and their answers: history, presence, auth, and what is said about deliveries. Knows packets and time.
 *
 * The surprising decision: what only reads is asked again after a reconnect, within its time; what changes something
 * is not, and fails with its connection.
 */
import type { Packet } from "./codec.js";
import type { Ask, NextId, Now, Put, Wake } from "./core.js";
import { TriodeError } from "./errors.js";

/** [packet, expiresAt, isRead, resolve, reject] */
type Request = readonly [Packet, number, boolean | undefined, (packet: Packet) => void, (error: TriodeError) => void];

export function makeRequests(now: Now, wake: Wake, nextId: NextId, put: Put, timeoutMs: number) {
  const all = new Map<number, Request>();
  const ask: Ask = (packet, isRead) =>
    new Promise((resolve, reject) => {
      const expiresAt = now() + timeoutMs;
      all.set((packet.id = nextId()), [packet, expiresAt, isRead, resolve, reject]);
      wake(expiresAt);
      put(packet);
    });
  /** An answer or an error. False: nobody waits for it. */
  const settle = (id: number, answer: Packet | undefined, error?: TriodeError): boolean => {
    const request = all.get(id);
    all.delete(id);
    if (error) request?.[4](error);
    else request?.[3](answer!);
    return !!request;
  };
  /** A connection is open: ask again. */
  const attach = (): void => {
    for (const [packet] of all.values()) put(packet);
  };
  /** The connection is gone (`isFinal`: for good). */
  const detach = (error: TriodeError, isFinal?: boolean): void => {
    for (const [id, [, , isRead]] of all) if (isFinal || !isRead) settle(id, undefined, error);
  };
  /** Ends what has waited too long; when to look again. */
  const tick = (): number => {
    for (const [id, [, expiresAt]] of all) {
      if (now() < expiresAt) return expiresAt; // they are in the order of asking
      settle(id, undefined, new TriodeError("expired", "no answer in time"));
    }
    return Infinity;
  };
  return [ask, settle, attach, detach, tick] as const;
}
