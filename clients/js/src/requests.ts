/**
 * Questions and their answers: history, presence, auth, and what is said about deliveries. Knows packets and time.
 *
 * The surprising decision: what only reads is asked again after a reconnect, within its time; what changes something
 * is not, and fails with its connection.
 */
import type { Packet } from "./codec.js";
import type { Ask, Later, NextId, Put } from "./core.js";
import { TriodeError } from "./errors.js";

/** [packet, isRead, settle] */
type Request = readonly [Packet, boolean | undefined, (answer: Packet | undefined, error?: TriodeError) => void];

export function makeRequests(later: Later, nextId: NextId, put: Put, timeoutMs: number) {
  const all = new Map<number, Request>();
  const ask: Ask = (packet, isRead) =>
    new Promise((resolve, reject) => {
      const id = (packet.id = nextId());
      const stop = later(timeoutMs, () => settle(id, undefined, new TriodeError("expired", "no answer in time")));
      all.set(id, [
        packet,
        isRead,
        (answer, error) => {
          stop();
          if (error) reject(error);
          else resolve(answer!);
        },
      ]);
      put(packet);
    });
  /** An answer or an error. False: nobody waits for it. */
  const settle = (id: number, answer: Packet | undefined, error?: TriodeError): boolean => {
    all.get(id)?.[2](answer, error);
    return all.delete(id);
  };
  /** A connection is open: ask again. */
  const attach = (): void => {
    for (const [packet] of all.values()) put(packet);
  };
  /** The connection is gone (`isFinal`: for good). */
  const detach = (error: TriodeError, isFinal?: boolean): void => {
    for (const [id, [, isRead]] of all) if (isFinal || !isRead) settle(id, undefined, error);
  };
  return [ask, settle, attach, detach] as const;
}
