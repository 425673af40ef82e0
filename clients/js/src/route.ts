/**
 * Where the next attempt goes, and when: the addresses of a cluster, one round after the other (SPEC 5.3.6). Knows
 * URLs and times; what a connection is, it does not.
 *
 * The surprising decision: every round is shuffled anew instead of going on in the order given, because the clients
 * of a node that has died would otherwise all move to the one that stands behind it in everybody's list.
 */
import { TriodeError } from "./errors.js";
import type { Time } from "./time.js";

const DRAINING = 4200;
const MAX_NAMED = 8; // URLs of one `bye`

/** `url` as a WebSocket URL: http becomes ws, no path `/ws`; relative to the page. Throws for anything else. */
export function websocketUrl(url: string): string {
  try {
    const parts = new URL(url, globalThis.location?.href);
    parts.protocol = parts.protocol.replace("http", "ws");
    if (parts.pathname == "/") parts.pathname = "/ws";
    parts.hash = "";
    if (/^wss?:/.test(parts.href)) return parts.href;
  } catch {}
  throw new TriodeError("bad_url", `no URL of a broker (wss://example.com/ws): ${url}`);
}

export class Route {
  /** What the program gave. */
  readonly own_: readonly string[];
  private rests_ = new Map<string, number>(); // asked for a pause until then
  private current_ = "";
  private round_: string[];
  private rounds_ = 0; // since things went well: the attempt that the backoff counts

  constructor(
    urls: string | readonly string[],
    private time_: Time,
  ) {
    this.own_ = [...new Set([urls].flat().map(websocketUrl))];
    this.round_ = this.shuffled_(this.own_);
  }

  /** Things went well: the next pause is a short one again. */
  reset_(): void {
    this.rounds_ = 0;
  }

  /** The URL of the next attempt: the first of the round that wants no pause. */
  next_(): string {
    const now = this.time_.now_();
    const rest = (url: string) => Math.max(this.rests_.get(url) ?? now, now);
    this.current_ = this.round_.reduce((best, url) => (rest(url) < rest(best) ? url : best));
    this.round_ = this.round_.filter((url) => url != this.current_);
    this.rests_.delete(this.current_);
    return this.current_;
  }

  /** The current address has failed, or was lost: when the next attempt is due.
   *
   * `isOnce`: it asked for an immediate one. `asked`, `urls`: the pause and the addresses that it named.
   * `wasAnswered`: it refused, so it is there; many may be refused at once, and shall not move on as one. */
  left_(
    code: number | undefined,
    isOnce: boolean,
    asked: number,
    urls: readonly unknown[],
    wasConnected: boolean,
    wasAnswered: boolean,
  ): number {
    const now = this.time_.now_();
    const own = this.own_;
    const named = this.usable_(urls);
    const isNamed = named.length > 0;
    if (isNamed || wasConnected) for (const url of this.rests_.keys()) own.includes(url) || this.rests_.delete(url);
    if (asked && !isNamed) this.rests_.set(this.current_, now + this.time_.pause_(-99, asked));
    const rest = (url: string) => this.rests_.get(url) ?? 0;
    if (!isNamed && !wasConnected && this.round_.some((url) => rest(url) <= now))
      return wasAnswered ? now + this.time_.pause_(0) : now;
    const isImmediate = isOnce && !this.rounds_; // or a broker could make us spin
    const pause = this.time_.pause_(this.rounds_++);
    const due = isImmediate ? now : now + pause;
    // A round of all that are known; the one that was left comes last, unless it only wants a new start.
    const known = [...new Set([...own, ...this.rests_.keys()])];
    const others = this.shuffled_(known.filter((url) => url != this.current_));
    const left = known.filter((url) => url == this.current_);
    this.round_ = isOnce && code != DRAINING && !isNamed ? [...left, ...others] : [...others, ...left];
    if (isNamed) {
      this.round_ = [...new Set([...named, ...this.round_])];
      return Math.max(due, now + this.time_.pause_(-99, asked));
    }
    return Math.max(due, Math.min(...this.round_.map(rest)));
  }

  /** What is no such URL, or would lose the encryption, is passed over. */
  private usable_(urls: readonly unknown[]): string[] {
    const isPlain = this.own_.every((url) => url.startsWith("ws:"));
    return urls.slice(0, MAX_NAMED).flatMap((url) => {
      try {
        const named = websocketUrl(String(url).slice(0, 2048));
        return isPlain || named.startsWith("wss:") ? [named] : [];
      } catch {
        return [];
      }
    });
  }

  private shuffled_(urls: readonly string[]): string[] {
    const left = [...urls];
    return urls.map(() => left.splice(this.time_.random_() * left.length, 1)[0]!);
  }
}
