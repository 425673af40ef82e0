/**
 * All of it for a script tag: the global `Triode`, with `Triode.TriodeError`, `Triode.indexedDbQueue` and `Triode.fallback`: where
 * the script is that is loaded when no WebSocket opens.
 */
import { Client } from "./client.js";
import { TriodeError } from "./errors.js";
import { indexedDbQueue } from "./offline.js";

// A script of another origin cannot name its neighbours but by their whole address.
const { src } = (globalThis.document?.currentScript ?? {}) as { src?: string };
const fallback = src && new URL("triode-sse.js", src).href;

Object.assign(globalThis, { Triode: Object.assign(Client, { TriodeError, indexedDbQueue, fallback }) });
