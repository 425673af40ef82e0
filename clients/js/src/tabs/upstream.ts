/**
 * The one connection to the broker: its socket, the ids of what it was asked, and whether it is alive.
 *
 * Knows no tabs: `P` stands for whoever asked. It has no clock of its own that runs: it looks whether the broker is
 * there when a tab asks whether it is, because a timer in a worker or a background tab tells nothing.
 */
import type { Clock, Socket, Transport } from "../types.js";
import type { Auth } from "./authorizing.js";
import { Lines, type Line } from "./lines.js";

/** What the answer to an id is for. */
export interface Asked<P> {
  readonly port?: P;
  readonly id?: number | undefined;
  readonly sub?: number | undefined;
  /** The answer is that to a line's `subscribe`. */
  readonly line?: Line<P>;
  readonly auth?: Auth;
  /** Of a publish: how long it is. */
  readonly size?: number;
}

export interface Told {
  opened(): void;
  text(text: string): void;
  ended(code: number, reason: string): void;
}

export const MAX_ASKED = 16_384;
const MAX_WAITING_CHARS = 16 << 20;
/** How long a connection may say nothing after it was asked whether it is there. */
const PROBE_MS = 5_000;
const JUST_NOW_MS = 1_000;
/** How long a connection may take until `connected`. Tabs give up earlier, one by one, and others come meanwhile. */
const CONNECT_MS = 12_000;

export class Upstream<P> {
  readonly lines = new Lines<P>();
  readonly asked = new Map<number, Asked<P>>();
  private readonly socket: Socket;
  private lastId = 0;
  private heardAt: number;
  private probe: unknown;
  private probedAt = 0;
  private readonly patience: unknown;
  private isOver = false;

  constructor(
    dial: Transport,
    url: string,
    protocol: string,
    private readonly clock: Clock,
    private readonly told: Told,
  ) {
    this.heardAt = clock.now();
    this.socket = dial(url, protocol);
    this.patience = clock.setTimeout(() => this.end(1006, "no answer in time"), CONNECT_MS);
    this.socket.onopen = () => this.heard() && told.opened();
    this.socket.onmessage = ({ data }) => this.heard() && (typeof data === "string" ? told.text(data) : this.end(4101, "unreadable"));
    this.socket.onerror = null;
    this.socket.onclose = ({ code, reason }) => this.over(code, reason);
  }

  /** The id under which an answer will come; undefined: too much is unanswered. */
  ask(asked: Asked<P>): number | undefined {
    if (this.asked.size >= MAX_ASKED) return undefined;
    this.asked.set(++this.lastId, asked);
    return this.lastId;
  }

  answered(id: unknown): Asked<P> | undefined {
    const asked = this.asked.get(id as number);
    if (asked) this.asked.delete(id as number);
    return asked;
  }

  /** Whose publish is the longest of those without an answer: SPEC 5.3.3 about 1009. */
  longest(): P | undefined {
    let longest: Asked<P> | undefined;
    for (const asked of this.asked.values()) {
      if ((asked.size ?? 0) > (longest?.size ?? 0)) longest = asked;
    }
    return longest?.port;
  }

  /** The broker has answered `connect`. */
  connected(): void {
    this.clock.clearTimeout(this.patience);
  }

  get waitingBytes(): number {
    return this.socket.bufferedAmount;
  }

  send(text: string): void {
    if (this.isOver) return;
    if (this.socket.bufferedAmount > MAX_WAITING_CHARS) return this.end(4104, "the line takes nothing");
    try {
      this.socket.send(text);
    } catch {
      this.end(1006, "the socket takes nothing");
    }
  }

  /** Whether the broker was heard just now; if not it is asked, and a connection that stays silent ends. */
  isAlive(): boolean {
    const silent = this.silentMs();
    if (silent >= 0 && silent < JUST_NOW_MS) return true; // a clock that was set back proves nothing
    if (this.probe === undefined && !this.isOver) {
      this.probedAt = this.clock.now();
      this.probe = this.clock.setTimeout(() => this.end(4105, "the broker is silent"), PROBE_MS);
      this.send('{"type":"ping"}');
    }
    return false;
  }

  /** It was asked whether it is there, and has had its time: the timer may be late in a tab in the background. */
  isOverdue(): boolean {
    return this.probe !== undefined && this.clock.now() - this.probedAt >= PROBE_MS - JUST_NOW_MS;
  }

  silentMs(): number {
    return this.clock.now() - this.heardAt;
  }

  /** Nobody is there any more: with a goodbye, or as a line that broke (SPEC 10.8). */
  leave(isGoodbye: boolean): void {
    if (isGoodbye) this.send('{"type":"disconnect"}');
    this.drop(isGoodbye ? 1000 : 3001, "no tab is left");
  }

  /** It is given up: those who use it are told. */
  end(code: number, reason: string): void {
    this.drop(code === 4105 ? 3002 : 3000, reason);
    this.told.ended(code, reason);
  }

  private over(code: number, reason: string): void {
    if (this.isOver) return;
    this.drop(undefined, reason);
    this.told.ended(code, reason);
  }

  private drop(code: number | undefined, reason: string): void {
    this.isOver = true;
    this.clock.clearTimeout(this.probe);
    this.clock.clearTimeout(this.patience);
    const { socket } = this;
    socket.onopen = socket.onmessage = socket.onclose = null;
    try {
      if (code !== undefined) socket.close(code, reason);
    } catch {
      // It is closed.
    }
  }

  private heard(): boolean {
    this.heardAt = this.clock.now();
    this.clock.clearTimeout(this.probe);
    this.probe = undefined;
    return !this.isOver;
  }
}
