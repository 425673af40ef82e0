/**
 * Questions and their answers: history, presence, auth, and what is said about deliveries. Knows packets and time.
 *
 * The surprising decision: what only reads is asked again after a reconnect, within its time; what changes something
 * is not, and fails with its connection.
 */
import type { Packet } from "./codec.js";
import type { Core } from "./core.js";
import { TriodeError } from "./errors.js";

const MOST_REQUESTS = 1_024; // unanswered at once

export type Ask = (packet: Packet, isRead?: boolean) => Promise<Packet>;

export function makeRequests(core: Core, timeoutMs: number) {
  const all = new Map<number, readonly [Packet, number, boolean | undefined, (packet: Packet) => void, (error: TriodeError) => void]>();
  const ask_: Ask = (packet, isRead) =>
    new Promise((resolve, reject) => {
      if (all.size >= MOST_REQUESTS) throw new TriodeError("queue_full", "too many requests wait for answers");
      const expiresAt = core.now_() + timeoutMs;
      packet.id = core.id_();
      all.set(packet.id, [packet, expiresAt, isRead, resolve, reject]);
      core.wake_(expiresAt);
      core.put_(packet);
    });
  /** An answer or an error. False: nobody waits for it. */
  const settle_ = (id: number, answer: Packet | undefined, error?: TriodeError): boolean => {
    const request = all.get(id);
    all.delete(id);
    if (error) request?.[4](error);
    else request?.[3](answer!);
    return !!request;
  };
  return {
    ask_,
    settle_,
    /** A connection is open: ask again. */
    attach_(): void {
      for (const [packet] of all.values()) core.put_(packet);
    },
    /** The connection is gone (`isFinal`: for good). */
    detach_(error: TriodeError, isFinal?: boolean): void {
      for (const [id, [, , isRead]] of all) if (isFinal || !isRead) settle_(id, undefined, error);
    },
    /** Ends what has waited too long; when to look again. */
    tick_(): number {
      for (const [id, [, expiresAt]] of all) {
        if (core.now_() < expiresAt) return expiresAt; // they are in the order of asking
        settle_(id, undefined, new TriodeError("expired", "no answer in time"));
      }
      return Infinity;
    },
  };
}
