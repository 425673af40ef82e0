/**
 * The script of the SharedWorker: switchboards for the tabs of one origin. It exports nothing, so that it runs as a
 * classic script as well as through a bundler.
 */
import { Desk } from "./desk.js";
import { clock, dial, newId } from "./world.js";

const scope = globalThis as unknown as {
  navigator?: { locks?: LockManager };
  onconnect: (event: { ports: readonly MessagePort[] }) => void;
};

const desk = new Desk({ dial, clock, locks: scope.navigator?.locks, newId });

scope.onconnect = ({ ports }) => desk.accept(ports[0]!);
