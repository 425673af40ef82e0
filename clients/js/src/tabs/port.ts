/**
 * One tab's socket as the switchboard sees it: what it has said, what it waits for, what it is to be told.
 *
 * Knows no wire: an `Outlet` carries it to the tab. What is told during one turn goes out together.
 */
import type { Member, Packet } from "./lines.js";

/** The way to a tab. None of these may throw. */
export interface Outlet {
  open(): void;
  send(text: string): void;
  close(code: number, reason: string): void;
  status(status: SharedStatus): void;
}

/** What a switchboard says of itself to the tabs. */
export interface SharedStatus {
  readonly tabs: number;
  readonly upstream: UpstreamPhase;
}

/** Of the connection that is shared: no WebSocket yet, opening, open, `connect` is sent, `connected`. */
export type UpstreamPhase = "idle" | "opening" | "open" | "connecting" | "online";

/** Close codes between a switchboard and its tabs; the broker never sends them. Both mean: dial again at once. */
export const HANDED_OVER = 4290;
/** The shared connection is not for this tab's identity: dial a connection of your own. */
export const OWN = 4291;

/** As much as a server reads ahead of `connected` (SPEC 1.11). */
const MAX_HELD_CHARS = 65_536;

export class Port {
  phase: "open" | "waiting" | "connected" | "closed" = "open";
  connectId: number | undefined;
  token: string | undefined;
  readonly members = new Map<number, Member<Port>>();
  private batches_ = false;
  private held_: string[] = [];
  private heldChars_ = 0;
  private out_: string[] = [];

  constructor(
    readonly outlet: Outlet,
    readonly number: number,
    readonly tab: string,
  ) {}

  /** Its `connect` is taken: everything behind it waits for the answer. */
  asks(connect: Packet): void {
    this.phase = "waiting";
    this.connectId = idOf(connect);
    this.token = typeof connect["token"] === "string" ? connect["token"] : undefined;
    this.batches_ = Array.isArray(connect["capabilities"]) && connect["capabilities"].includes("batch");
  }

  /** False: more than may wait. */
  hold(text: string): boolean {
    this.held_.push(text);
    this.heldChars_ += text.length;
    return this.heldChars_ <= MAX_HELD_CHARS;
  }

  takeHeld(): string[] {
    const { held_: held } = this;
    this.held_ = [];
    this.heldChars_ = 0;
    return held;
  }

  tell(text: string): void {
    if (this.phase !== "closed") this.out_.push(text);
  }

  say(packet: Packet): void {
    this.tell(JSON.stringify(packet));
  }

  flush(): void {
    const { out_: out } = this;
    if (out.length === 0) return;
    this.out_ = [];
    if (this.batches_ && out.length > 1) this.outlet.send(`[${out.join(",")}]`);
    else for (const text of out) this.outlet.send(text);
  }

  close(code: number, reason: string): void {
    if (this.phase === "closed") return;
    this.flush();
    this.phase = "closed";
    this.held_ = [];
    this.outlet.close(code, reason);
  }
}

/** A number of this protocol that can be an `id` or a `sub`: what is none, the broker is left to complain of. */
export function isNumber(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

export function idOf(packet: Packet): number | undefined {
  return isNumber(packet["id"]) ? packet["id"] : undefined;
}
