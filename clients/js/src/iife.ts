/**
 * All of it for a script tag: the global `Triode`, with `Triode.TriodeError` and `Triode.indexedDbQueue`.
 */
import { Client } from "./client.js";
import { TriodeError } from "./errors.js";
import { indexedDbQueue } from "./offline.js";

Object.assign(globalThis, { Triode: Object.assign(Client, { TriodeError, indexedDbQueue }) });
