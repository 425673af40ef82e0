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
  private readonly tab: string;
  private readonly life: Life;
  private readonly elections = new Map<string, Election>();
  private readonly sockets = new Set<TabSocket>();
  private hasWorker: boolean;
  private hasWorked = false;
  private isOwn = false;

  constructor(
    private readonly options: TabsOptions,
    private readonly world: World,
  ) {
    this.tab = world.newId();
    this.life = new Life(world);
    this.hasWorker = options.worker !== false && world.worker !== undefined;
    world.page?.addEventListener("pagehide", () => this.hide());
    world.page?.addEventListener("pageshow", (event) => {
      if ((event as PageTransitionEvent).persisted) this.show();
    });
  }

  dial(url: string, protocol: string): Socket {
    if (this.isOwn || !(this.hasWorker || this.canElect)) return this.dialOwn(url, protocol);
    const share = this.options.share ?? url;
    const socket: TabSocket = new TabSocket({
      taken: () => this.taken(share),
      status: (status) => this.changed(status),
      over: (code, wasTaken) => this.over(socket, share, code, wasTaken),
    });
    this.sockets.add(socket);
    // The lock has to be held before anybody waits for it.
    const reach = (lock: string | undefined) => {
      if (socket.isOpening) this.reach(socket, { kind: "dial", share, url, protocol, tab: this.tab, lock });
    };
    this.life.hold().then(reach).catch((error) => socket.finish(OWN, String(error)));
    return socket;
  }

  private taken(share: string): void {
    this.hasWorked = this.hasWorker;
    this.changed({ host: this.hasWorker ? "worker" : this.role(share) });
  }

  private get canElect(): boolean {
    return this.world.locks !== undefined && this.world.broadcast !== undefined;
  }

  private reach(socket: TabSocket, dial: Dial): void {
    if (this.hasWorker) this.reachWorker(socket, dial);
    else if (this.canElect) this.election(dial.share).dial(socket, dial);
    else socket.finish(OWN, "nothing to share with");
  }

  private reachWorker(socket: TabSocket, dial: Dial): void {
    const failed = () => {
      if (!socket.isOpening || socket.isTaken) return;
      this.hasWorker = false;
      this.reach(socket, dial);
    };
    try {
      // A new one for each socket: where the worker has crashed it starts again.
      const worker = this.world.worker!(this.options.worker || undefined);
      worker.onerror = failed;
      socket.through(worker.port, dial);
    } catch {
      failed();
    }
  }

  private election(share: string): Election {
    const { world } = this;
    const known = this.elections.get(share);
    const changed = () => this.changed({ host: this.role(share) });
    const election =
      known ?? new Election(electionName(share), world, world.locks!, world.broadcast!, changed);
    this.elections.set(share, election);
    return election;
  }

  private role(share: string): "leader" | "follower" {
    return this.elections.get(share)?.leads ? "leader" : "follower";
  }

  private dialOwn(url: string, protocol: string): Socket {
    if (this.status.host !== "own") {
      console.info("triode/tabs: this tab has a connection of its own");
      this.changed({ host: "own", tabs: 1, upstream: "idle" });
    }
    return this.world.dial(url, protocol);
  }

  private over(socket: TabSocket, share: string, code: number, wasTaken: boolean): void {
    this.sockets.delete(socket);
    if (code === OWN) this.isOwn = true;
    // The client has waited as long as it would for a worker that has never answered yet.
    else if (!wasTaken && !this.hasWorked && code === 1005) this.hasWorker = false;
    const isFinal = this.isOwn || code === 1000 || (code >= 4000 && code <= 4099);
    this.elections.get(share)?.over(socket, isFinal);
    if (this.sockets.size > 0) return;
    if (isFinal) this.life.release();
    this.changed({ host: "none", tabs: 0, upstream: "idle" });
  }

  /** The page goes, or sleeps in the back-forward cache: nobody shall wait for it, and it must hold no lock. */
  private hide(): void {
    for (const socket of this.sockets) socket.suspend();
    for (const election of this.elections.values()) election.resign();
    this.life.release();
  }

  /** It is back: the sockets of before are gone, and their client dials again. */
  private show(): void {
    for (const socket of [...this.sockets]) socket.finish(HANDED_OVER, "the page was away");
  }

  private changed(change: Partial<TabsStatus>): void {
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
