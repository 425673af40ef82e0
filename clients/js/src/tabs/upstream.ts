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
  private readonly socket_: Socket;
  private lastId_ = 0;
  private heardAt_: number;
  private probe_: unknown;
  private probedAt_ = 0;
  private readonly patience_: unknown;
  private isOver_ = false;

  constructor(
    dial: Transport,
    url: string,
    protocol: string,
    private readonly clock_: Clock,
    private readonly told_: Told,
  ) {
    this.heardAt_ = clock_.now();
    this.socket_ = dial(url, protocol);
    this.patience_ = clock_.setTimeout(() => this.end(1006, "no answer in time"), CONNECT_MS);
    this.socket_.onopen = () => this.heard_() && told_.opened();
    this.socket_.onmessage = ({ data }) => this.heard_() && (typeof data === "string" ? told_.text(data) : this.end(4101, "unreadable"));
    this.socket_.onerror = null;
    this.socket_.onclose = ({ code, reason }) => this.over_(code, reason);
  }

  /** The id under which an answer will come; undefined: too much is unanswered. */
  ask(asked: Asked<P>): number | undefined {
    if (this.asked.size >= MAX_ASKED) return undefined;
    this.asked.set(++this.lastId_, asked);
    return this.lastId_;
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
    this.clock_.clearTimeout(this.patience_);
  }

  get waitingBytes(): number {
    return this.socket_.bufferedAmount;
  }

  send(text: string): void {
    if (this.isOver_) return;
    if (this.socket_.bufferedAmount > MAX_WAITING_CHARS) return this.end(4104, "the line takes nothing");
    try {
      this.socket_.send(text);
    } catch {
      this.end(1006, "the socket takes nothing");
    }
  }

  /** Whether the broker was heard just now; if not it is asked, and a connection that stays silent ends. */
  isAlive(): boolean {
    const silent = this.silentMs();
    if (silent >= 0 && silent < JUST_NOW_MS) return true; // a clock that was set back proves nothing
    if (this.probe_ === undefined && !this.isOver_) {
      this.probedAt_ = this.clock_.now();
      this.probe_ = this.clock_.setTimeout(() => this.end(4105, "the broker is silent"), PROBE_MS);
      this.send('{"type":"ping"}');
    }
    return false;
  }

  /** It was asked whether it is there, and has had its time: the timer may be late in a tab in the background. */
  isOverdue(): boolean {
    return this.probe_ !== undefined && this.clock_.now() - this.probedAt_ >= PROBE_MS - JUST_NOW_MS;
  }

  silentMs(): number {
    return this.clock_.now() - this.heardAt_;
  }

  /** Nobody is there any more: with a goodbye, or as a line that broke (SPEC 10.8). */
  leave(isGoodbye: boolean): void {
    if (isGoodbye) this.send('{"type":"disconnect"}');
    this.drop_(isGoodbye ? 1000 : 3001, "no tab is left");
  }

  /** It is given up: those who use it are told. */
  end(code: number, reason: string): void {
    this.drop_(code === 4105 ? 3002 : 3000, reason);
    this.told_.ended(code, reason);
  }

  private over_(code: number, reason: string): void {
    if (this.isOver_) return;
    this.drop_(undefined, reason);
    this.told_.ended(code, reason);
  }

  private drop_(code: number | undefined, reason: string): void {
    this.isOver_ = true;
    this.clock_.clearTimeout(this.probe_);
    this.clock_.clearTimeout(this.patience_);
    const { socket_: socket } = this;
    socket.onopen = socket.onmessage = socket.onclose = null;
    try {
      if (code !== undefined) socket.close(code, reason);
    } catch {
      // It is closed.
    }
  }

  private heard_(): boolean {
    this.heardAt_ = this.clock_.now();
    this.clock_.clearTimeout(this.probe_);
    this.probe_ = undefined;
    return !this.isOver_;
  }
}
