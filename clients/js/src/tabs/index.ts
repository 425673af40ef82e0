/**
 * `tabs()`: a transport that shares one connection among all tabs of an origin. Entry `triode/tabs`.
 *
 * Decides where the switchboard is: in a SharedWorker, in one of the tabs, or nowhere, and then each tab dials for
 * itself. Knows no packets. The surprising decision: it falls from the first to the second to the third and never
 * climbs back within a page, so that a page does not wander between two switchboards.
 */
import type { Socket, Transport } from "../types.js";
import { Election, electionName, type Dial } from "./election.js";
import { Life } from "./life.js";
import { HANDED_OVER, OWN, type UpstreamPhase } from "./port.js";
import { TabSocket } from "./socket.js";
import { browser, type World } from "./world.js";

export type { UpstreamPhase } from "./port.js";

/** Of `tabs()`. */
export interface TabsOptions {
  /** Which tabs share: those of equal names. Default: the URL. Name it when the client has several URLs, and give
   * each user of yours another one, because tabs that share are one identity to the broker. */
  readonly share?: string;
  /** Where the worker's script is; default: beside this module. `false`: no SharedWorker, a tab leads. */
  readonly worker?: string | URL | false;
}

/** How this tab is connected. */
export interface TabsStatus {
  readonly type: "status";
  /** Who holds the connection: a SharedWorker, this tab, another tab, or each tab its own. */
  readonly host: "none" | "worker" | "leader" | "follower" | "own";
  /** How many tabs share it, this one included. */
  readonly tabs: number;
  readonly upstream: UpstreamPhase;
}

/** A transport, and what it tells of itself. */
export interface Tabs extends Transport {
  /** As it is now. */
  status(): TabsStatus;
  /** Calls `listener` at each change until the function it returns is called. */
  on(type: "status", listener: (status: TabsStatus) => void): () => void;
}

/** Options of `new Triode(url, {transport: tabs()})`. Make one for each page; clients may share it. */
export function tabs(options: TabsOptions = {}, world: World = browser()): Tabs {
  const sharing = new Sharing(options, world);
  const dial = (url: string, protocol: string) => sharing.dial(url, protocol);
  return Object.assign(dial, {
    status: () => sharing.status,
    on: (_: "status", listener: (status: TabsStatus) => void) => {
      sharing.listeners.add(listener);
      return () => void sharing.listeners.delete(listener);
    },
  });
}

class Sharing {
  status: TabsStatus = { type: "status", host: "none", tabs: 0, upstream: "idle" };
  readonly listeners = new Set<(status: TabsStatus) => void>();
  private readonly tab_: string;
  private readonly life_: Life;
  private readonly elections_ = new Map<string, Election>();
  private readonly sockets_ = new Set<TabSocket>();
  private hasWorker_: boolean;
  private hasWorked_ = false;
  private isOwn_ = false;

  constructor(
    private readonly options_: TabsOptions,
    private readonly world_: World,
  ) {
    this.tab_ = world_.newId();
    this.life_ = new Life(world_);
    this.hasWorker_ = options_.worker !== false && world_.worker !== undefined;
    world_.page?.addEventListener("pagehide", () => this.hide_());
    world_.page?.addEventListener("pageshow", (event) => {
      if ((event as PageTransitionEvent).persisted) this.show_();
    });
  }

  dial(url: string, protocol: string): Socket {
    if (this.isOwn_ || !(this.hasWorker_ || this.canElect_)) return this.dialOwn_(url, protocol);
    const share = this.options_.share ?? url;
    const socket: TabSocket = new TabSocket({
      taken: () => this.taken_(share),
      status: (status) => this.changed_(status),
      over: (code, wasTaken) => this.over_(socket, share, code, wasTaken),
    });
    this.sockets_.add(socket);
    // The lock has to be held before anybody waits for it.
    const reach = (lock: string | undefined) => {
      if (socket.isOpening) this.reach_(socket, { kind: "dial", share, url, protocol, tab: this.tab_, lock });
    };
    this.life_.hold().then(reach).catch((error) => socket.finish(OWN, String(error)));
    return socket;
  }

  private taken_(share: string): void {
    this.hasWorked_ = this.hasWorker_;
    this.changed_({ host: this.hasWorker_ ? "worker" : this.role_(share) });
  }

  private get canElect_(): boolean {
    return this.world_.locks !== undefined && this.world_.broadcast !== undefined;
  }

  private reach_(socket: TabSocket, dial: Dial): void {
    if (this.hasWorker_) this.reachWorker_(socket, dial);
    else if (this.canElect_) this.election_(dial.share).dial(socket, dial);
    else socket.finish(OWN, "nothing to share with");
  }

  private reachWorker_(socket: TabSocket, dial: Dial): void {
    const failed = () => {
      if (!socket.isOpening || socket.isTaken) return;
      this.hasWorker_ = false;
      this.reach_(socket, dial);
    };
    try {
      // A new one for each socket: where the worker has crashed it starts again.
      const worker = this.world_.worker!(this.options_.worker || undefined);
      worker.onerror = failed;
      socket.through(worker.port, dial);
    } catch {
      failed();
    }
  }

  private election_(share: string): Election {
    const { world_: world } = this;
    const known = this.elections_.get(share);
    const changed = () => this.changed_({ host: this.role_(share) });
    const election =
      known ?? new Election(electionName(share), world, world.locks!, world.broadcast!, changed);
    this.elections_.set(share, election);
    return election;
  }

  private role_(share: string): "leader" | "follower" {
    return this.elections_.get(share)?.leads ? "leader" : "follower";
  }

  private dialOwn_(url: string, protocol: string): Socket {
    if (this.status.host !== "own") {
      console.info("triode/tabs: this tab has a connection of its own");
      this.changed_({ host: "own", tabs: 1, upstream: "idle" });
    }
    return this.world_.dial(url, protocol);
  }

  private over_(socket: TabSocket, share: string, code: number, wasTaken: boolean): void {
    this.sockets_.delete(socket);
    if (code === OWN) this.isOwn_ = true;
    // The client has waited as long as it would for a worker that has never answered yet.
    else if (!wasTaken && !this.hasWorked_ && code === 1005) this.hasWorker_ = false;
    const isFinal = this.isOwn_ || code === 1000 || (code >= 4000 && code <= 4099);
    this.elections_.get(share)?.over(socket, isFinal);
    if (this.sockets_.size > 0) return;
    if (isFinal) this.life_.release();
    this.changed_({ host: "none", tabs: 0, upstream: "idle" });
  }

  /** The page goes, or sleeps in the back-forward cache: nobody shall wait for it, and it must hold no lock. */
  private hide_(): void {
    for (const socket of this.sockets_) socket.suspend();
    for (const election of this.elections_.values()) election.resign();
    this.life_.release();
  }

  /** It is back: the sockets of before are gone, and their client dials again. */
  private show_(): void {
    for (const socket of [...this.sockets_]) socket.finish(HANDED_OVER, "the page was away");
  }

  private changed_(change: Partial<TabsStatus>): void {
    this.status = { ...this.status, ...change };
    for (const listener of [...this.listeners]) {
      try {
        listener(this.status);
      } catch (error) {
        console.error(error);
      }
    }
  }
}
