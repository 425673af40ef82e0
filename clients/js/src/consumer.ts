/**
 * Deliveries, and what programs answer to them (SPEC 9).
 *
 * The surprising decision: nobody keeps a list of the deliveries that programs hold. Each remembers the round of
 * asking (`subscribe`) that it came of. What is of an older one is lost: the broker gives it out again, so answering
 * for it might answer for somebody else's.
 */
import type { Packet } from "./codec.js";
import { TriodeError } from "./errors.js";
import type { Ask } from "./core.js";
import type { Delivery, Message } from "./types.js";

const MOST_ACKED_AT_ONCE = 1_024; // SPEC 9.2

/** Makes the deliveries of one consumer. `getRound`: the `id` of its present `subscribe`, or 0. `drop`: the program
 * gives this message back. */
export function makeDeliveries(ask: Ask, getRound: () => number, drop: (message: Message) => void) {
  const turns = new Map<string, readonly [number[], Promise<void>]>(); // places to acknowledge in this turn, by log

  return (sub: number, message: Message, attempt: number): Delivery => {
    const { log, pos } = message;
    const round = getRound();
    const tell = async (packet: Packet): Promise<void> => {
      if (getRound() != round)
        throw new TriodeError("delivery_lost", "taken back: it comes again");
      await ask({ sub, log, ...packet });
    };
    /** Together with the others of this turn. */
    const ack = (): Promise<void> => {
      let turn = turns.get(log);
      if (!turn || turn[0].length >= MOST_ACKED_AT_ONCE) {
        const places: number[] = [];
        const told = Promise.resolve().then(() => {
          turns.delete(log);
          return tell({ type: "ack", pos: places });
        });
        turns.set(log, (turn = [places, told]));
      }
      turn[0].push(pos);
      return turn[1];
    };
    const nack = (more: Packet) => {
      drop(message);
      return tell({ type: "nack", pos, attempt, ...more });
    };
    let settled: Promise<void> | undefined; // one answer is enough
    const settle = (answer: () => Promise<void>) => (settled ??= quiet(answer()));
    return {
      type: "delivery",
      message,
      attempt,
      ack: () => settle(ack),
      nack: (delay_ms) => settle(() => nack({ delay_ms })),
      reject: () => settle(() => nack({ reject: true })),
      extend: (ms) => quiet(tell({ type: "extend", pos, attempt, ms })),
    };
  };
}

/** Whoever does not wait for what becomes of it need not catch it. */
function quiet(done: Promise<void>): Promise<void> {
  done.catch(() => {});
  return done;
}
