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
  private readonly sockets_ = new Map<TabSocket, Dial>();
  private desk_: Desk | undefined;
  private common_: Wire | undefined;
  private candidacy_: AbortController | undefined;
  private release_: (() => void) | undefined;
  private timer_: unknown;

  constructor(
    private readonly name_: string,
    private readonly world_: World,
    private readonly locks_: Locks,
    private readonly broadcast_: (name: string) => Wire,
    private readonly changed_: () => void,
  ) {}

  get leads(): boolean {
    return this.desk_ !== undefined;
  }

  dial(socket: TabSocket, dial: Dial): void {
    this.sockets_.set(socket, dial);
    if (!this.common_) {
      this.common_ = this.broadcast_(this.name_);
      this.common_.onmessage = ({ data }) => this.heard_(data);
    }
    if (!this.candidacy_) this.stand_(false);
    this.reach_(socket, dial);
  }

  /** A socket is over; with the last one that was closed for good this tab takes part no more. */
  over(socket: TabSocket, isFinal: boolean): void {
    this.sockets_.delete(socket);
    if (isFinal && this.sockets_.size === 0) this.resign();
  }

  resign(): void {
    this.world_.clock.clearTimeout(this.timer_);
    this.candidacy_?.abort();
    this.candidacy_ = this.timer_ = undefined;
    this.stepDown_();
    this.common_?.close();
    this.common_ = undefined;
  }

  /** Ask for the lock: in the queue, or by force. */
  private stand_(byForce: boolean): void {
    this.candidacy_?.abort();
    const candidacy = new AbortController();
    this.candidacy_ = candidacy;
    const options: LockOptions = byForce ? { steal: true } : { signal: candidacy.signal };
    const lead = () => (candidacy.signal.aborted ? undefined : this.lead_());
    this.locks_.request(this.name_, options, lead).catch(() => this.lost_(candidacy));
  }

  /** The lock is ours until the promise is kept. */
  private lead_(): Promise<void> {
    this.desk_ = new Desk(this.world_);
    this.say_({ kind: "leads" });
    this.changed_();
    this.again_();
    return new Promise((release) => (this.release_ = release));
  }

  /** The lock was taken by force, or cannot be had. */
  private lost_(candidacy: AbortController): void {
    if (candidacy !== this.candidacy_) return;
    if (!this.leads) return this.impossible_();
    this.stepDown_();
    this.stand_(false);
  }

  /** Locks may not be used here, as in a sandboxed frame: each for itself. */
  private impossible_(): void {
    for (const socket of [...this.sockets_.keys()]) socket.finish(OWN, "no locks");
  }

  private stepDown_(): void {
    const { desk_: desk, release_: release } = this;
    this.desk_ = this.release_ = undefined;
    desk?.shutdown();
    release?.();
    if (desk) this.changed_();
  }

  private heard_(call: Call): void {
    if (this.leads) {
      if (call?.kind === "call" && call.dial?.kind === "dial") this.desk_!.seat(this.broadcast_(String(call.wire)), call.dial);
    } else if (call?.kind === "leads") this.again_();
  }

  /** Another leads: who was served by the one before dials again, who waits for an answer asks again. */
  private again_(): void {
    for (const [socket, dial] of [...this.sockets_]) {
      if (socket.isOpening) this.reach_(socket, dial);
      else socket.finish(HANDED_OVER, "handed over");
    }
  }

  private reach_(socket: TabSocket, dial: Dial): void {
    if (this.desk_) {
      const [here, there] = this.world_.pair();
      this.desk_.accept(there);
      // This tab needs not watch whether it is alive itself.
      return socket.through(here, { ...dial, lock: undefined });
    }
    const wire = `${this.name_}:${this.world_.newId()}`;
    socket.through(this.broadcast_(wire));
    this.say_({ kind: "call", wire, dial });
    const { clock } = this.world_;
    this.timer_ ??= clock.setTimeout(() => this.isSilent_(), SILENT_MS + clock.random() * SPREAD_MS);
  }

  private isSilent_(): void {
    this.timer_ = undefined;
    const isWaiting = [...this.sockets_.keys()].some((socket) => socket.isOpening && !socket.isTaken);
    if (isWaiting && !this.leads) this.stand_(true);
  }

  private say_(call: Call): void {
    try {
      this.common_?.postMessage(call);
    } catch {
      // Nobody hears: the lock still decides, and a socket that reaches nobody is given up by its client.
    }
  }
}

/** The lock and the BroadcastChannel of a share name. */
export const electionName = (share: string): string => PREFIX + share;
