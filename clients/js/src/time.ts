/**
 * Time and chance: what time it is, when to look again, how long to back off (SPEC 5.3.4). Knows no reason for it.
 *
 * The surprising decision: one timer for the whole client. Whoever waits for a moment names it to `wake_`; what is
 * due then everybody finds out by looking at the time.
 */
import type { Clock } from "./types.js";

/** `value` within bounds: figures of a broker may be of any size. */
export const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);

/** The longest pause that a broker is believed: five minutes. */
const MOST_ASKED_MS = 300_000;
const MOST_TIMER_MS = 1e9; // a timer of more than 2^31 ms fires at once

const system: Clock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  random: () => Math.random(),
};

export class Time {
  private last_ = 0;
  private skew_ = 0;
  private at_ = Infinity;
  private timer_: unknown;
  private min_ = 250;
  private max_ = 20_000;

  constructor(
    private tick_: () => void,
    private clock_: Clock = system,
  ) {}

  /** Never less than it was: a clock that is set back stands still here. */
  now_(): number {
    const now = this.clock_.now() + this.skew_;
    if (now < this.last_) this.skew_ += this.last_ - now;
    return (this.last_ = Math.max(now, this.last_));
  }

  random_(): number {
    return this.clock_.random();
  }

  /** Look again at `at`, at the latest. */
  wake_(at: number): void {
    if (at >= this.at_) return;
    this.stop_();
    this.at_ = at;
    this.timer_ = this.clock_.setTimeout(() => {
      this.at_ = Infinity;
      this.tick_();
    }, clamp(at - this.now_(), 0, MOST_TIMER_MS));
  }

  stop_(): void {
    this.clock_.clearTimeout(this.timer_);
    this.at_ = Infinity;
  }

  /** What the broker announced. */
  setBounds_(min: number, max: number): void {
    this.min_ = clamp(min, 10, 600_000);
    this.max_ = clamp(max, this.min_, 600_000);
  }

  /** Full jitter: the pause before attempt `attempt`, from 0; and no less than the broker asked for. */
  pause_(attempt: number, asked?: number): number {
    const pause = this.random_() * Math.min(this.max_, this.min_ * 2 ** attempt);
    return Math.max(pause, Math.min(asked ?? 0, MOST_ASKED_MS));
  }
}
