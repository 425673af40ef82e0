// The client as ES modules, as a bundler or a browser takes it.
import { Triode } from "/dist/index.js";
import { indexedDbQueue } from "/dist/offline.js";
import { tabs } from "/dist/tabs.js";

Object.assign(globalThis, { Triode, indexedDbQueue, tabs });
await import("/page.js");
