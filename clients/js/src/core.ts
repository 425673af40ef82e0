/**
 * What the parts of a client ask of it. Types only.
 *
 * The surprising decision: the parts are closures over this, not classes. What is private needs no name then, and
 * names are a third of what a page would have to load.
 */
import type { Packet } from "./codec.js";
import type { TriodeError } from "./errors.js";
import type { Time } from "./time.js";

/** What is remembered of attempts that were refused. */
export interface Retries {
  /** Not again before. */
  until_?: number;
  attempts_?: number;
  /** With another token, since it went well. */
  isRenewed_?: boolean;
}

export interface Core extends Time {
  /** A number for `id`: never given twice. */
  id_(): number;
  /** Write a packet soon, if there is a connection; what comes together in one turn leaves as one array. */
  put_(packet: Packet): void;
  /** Look soon what there is to write. */
  flush_(): void;
  /** Act on an error by its `retry`. True: it is to be tried again, from `retries.until_` on. */
  isRetried_(error: TriodeError, retries: Retries): boolean;
  /** An error that nobody waits for. */
  complain_(error: unknown): void;
  /** Tell those who listen to the client; whether there was anybody. */
  emit_(event: Packet): boolean;
}
