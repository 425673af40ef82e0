/**
 * What the parts of a client are given to work with. Types only.
 *
 * The surprising decision: the parts are closures, not classes, and are given what they need one by one. What is
 * private, or passed like that, needs no name in the bundle, and names are a third of what a page would have to load.
 */
import type { Packet } from "./codec.js";
import type { TriodeError } from "./errors.js";

/** What is remembered of attempts that were refused. */
export interface Retries {
  attempts_: number;
  /** With another token, since it went well. */
  isRenewed_?: boolean;
}

/** What time it is. */
export type Now = () => number;
/** Do that in so many ms, unless what this returns is called. */
export type Later = (ms: number, run: () => void) => () => void;
/** A random time for that attempt (from 0), no less than what was asked for. */
export type Pause = (attempt: number, asked?: number) => number;
/** A number for `id`: never given twice. */
export type NextId = () => number;
/** Write a packet soon, if there is a connection; what comes together in one turn leaves as one array. */
export type Put = (packet: Packet) => void;
/** An error that nobody waits for. */
export type Complain = (error: unknown) => void;
/** Tell those who listen; whether there was anybody. */
export type Emit = (event: Packet) => boolean;
/** Act on an error by its `retry`. True: it is to be tried again, once `again` is called. */
export type IsRetried = (error: TriodeError, retries: Retries, again: () => void) => boolean;
/** Ask for something; what only reads is asked again after a reconnect. */
export type Ask = (packet: Packet, isRead?: boolean) => Promise<Packet>;
