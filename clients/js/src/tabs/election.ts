/**
 * One tab of many leads and runs the switchboard; the others reach it over BroadcastChannels.
 *
 * Knows locks and wires, no packets. Whoever holds the lock leads: the browser gives it to one tab, and to the next
 * when that one is gone. The surprising decision: a leader that does not answer loses the lock by force, because a
 * frozen tab keeps its locks; when it wakes it finds that it leads no more. Every attempt to reach a leader goes over
 * a wire of a new name, so that what a woken one still answers reaches nobody.
 */
import { Desk } from "./desk.js";
import { HANDED_OVER, OWN } from "./port.js";
import type { TabSocket } from "./socket.js";
import { PREFIX, type FromTab, type Wire } from "./wire.js";
import type { Locks, World } from "./world.js";

export type Dial = FromTab & { kind: "dial" };
type Call = { kind: "call"; wire: string; dial: Dial } | { kind: "leads" };

/** How long a leader may take to answer, and how much longer by chance, so that not all others act at once. */
const SILENT_MS = 3_000;
const SPREAD_MS = 1_000;

export class Election {
  private readonly sockets = new Map<TabSocket, Dial>();
  private desk: Desk | undefined;
  private common: Wire | undefined;
  private candidacy: AbortController | undefined;
  private release: (() => void) | undefined;
  private timer: unknown;

  constructor(
    private readonly name: string,
    private readonly world: World,
    private readonly locks: Locks,
    private readonly broadcast: (name: string) => Wire,
    private readonly changed: () => void,
  ) {}

  get leads(): boolean {
    return this.desk !== undefined;
  }

  dial(socket: TabSocket, dial: Dial): void {
    this.sockets.set(socket, dial);
    if (!this.common) {
      this.common = this.broadcast(this.name);
      this.common.onmessage = ({ data }) => this.heard(data);
    }
    if (!this.candidacy) this.stand(false);
    this.reach(socket, dial);
  }

  /** A socket is over; with the last one that was closed for good this tab takes part no more. */
  over(socket: TabSocket, isFinal: boolean): void {
    this.sockets.delete(socket);
    if (isFinal && this.sockets.size === 0) this.resign();
  }

  resign(): void {
    this.world.clock.clearTimeout(this.timer);
    this.candidacy?.abort();
    this.candidacy = this.timer = undefined;
    this.stepDown();
    this.common?.close();
    this.common = undefined;
  }

  /** Ask for the lock: in the queue, or by force. */
  private stand(byForce: boolean): void {
    this.candidacy?.abort();
    const candidacy = new AbortController();
    this.candidacy = candidacy;
    const options: LockOptions = byForce ? { steal: true } : { signal: candidacy.signal };
    const lead = () => (candidacy.signal.aborted ? undefined : this.lead());
    this.locks.request(this.name, options, lead).catch(() => this.lost(candidacy));
  }

  /** The lock is ours until the promise is kept. */
  private lead(): Promise<void> {
    this.desk = new Desk(this.world);
    this.say({ kind: "leads" });
    this.changed();
    this.again();
    return new Promise((release) => (this.release = release));
  }

  /** The lock was taken by force, or cannot be had. */
  private lost(candidacy: AbortController): void {
    if (candidacy !== this.candidacy) return;
    if (!this.leads) return this.impossible();
    this.stepDown();
    this.stand(false);
  }

  /** Locks may not be used here, as in a sandboxed frame: each for itself. */
  private impossible(): void {
    for (const socket of [...this.sockets.keys()]) socket.finish(OWN, "no locks");
  }

  private stepDown(): void {
    const { desk, release } = this;
    this.desk = this.release = undefined;
    desk?.shutdown();
    release?.();
    if (desk) this.changed();
  }

  private heard(call: Call): void {
    if (this.leads) {
      if (call?.kind === "call" && call.dial?.kind === "dial") this.desk!.seat(this.broadcast(String(call.wire)), call.dial);
    } else if (call?.kind === "leads") this.again();
  }

  /** Another leads: who was served by the one before dials again, who waits for an answer asks again. */
  private again(): void {
    for (const [socket, dial] of [...this.sockets]) {
      if (socket.isOpening) this.reach(socket, dial);
      else socket.finish(HANDED_OVER, "handed over");
    }
  }

  private reach(socket: TabSocket, dial: Dial): void {
    if (this.desk) {
      const [here, there] = this.world.pair();
      this.desk.accept(there);
      // This tab needs not watch whether it is alive itself.
      return socket.through(here, { ...dial, lock: undefined });
    }
    const wire = `${this.name}:${this.world.newId()}`;
    socket.through(this.broadcast(wire));
    this.say({ kind: "call", wire, dial });
    const { clock } = this.world;
    this.timer ??= clock.setTimeout(() => this.isSilent(), SILENT_MS + clock.random() * SPREAD_MS);
  }

  private isSilent(): void {
    this.timer = undefined;
    const isWaiting = [...this.sockets.keys()].some((socket) => socket.isOpening && !socket.isTaken);
    if (isWaiting && !this.leads) this.stand(true);
  }

  private say(call: Call): void {
    try {
      this.common?.postMessage(call);
    } catch {
      // Nobody hears: the lock still decides, and a socket that reaches nobody is given up by its client.
    }
  }
}

/** The lock and the BroadcastChannel of a share name. */
export const electionName = (share: string): string => PREFIX + share;
