/**
 * The package's entry for browsers and runtimes that have a WebSocket. Names only: what they do stands where they
 * are made.
 *
 * The surprising decision: the class is shown as the interface of types.ts, so that its private parts, which are
 * renamed when the package is built, are in nobody's way.
 *
 * @module triode
 */
import { Client as Implementation } from "./client.js";
import type { Client, TriodeConstructor } from "./types.js";

export { TriodeError } from "./errors.js";
export type * from "./types.js";
/** `new Triode(url, options)`: the client. */
export const Triode = Implementation as unknown as TriodeConstructor;
/** What `new Triode` makes. */
export type Triode = Client;
