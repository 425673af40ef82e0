/**
 * Whether the broker is still there: silence for two ping intervals means it is not (SPEC 1.15). Knows times only.
 *
 * The surprising decision: a timer that fired late proves that *we* slept (a suspended laptop, a tab in the
 * background), so the verdict is then to ask, not to declare death.
 */
import { clamp } from "./time.js";

const LATE_MS = 1_000;
const PROBE_MS = 5_000; // for the answer

/** Of one connection at a time. */
export class Liveness {
  private silence_ = Infinity;
  private heardAt_ = 0;
  private probeUntil_ = 0;

  /** A connection is up. */
  begin_(pingMs: number, now: number): void {
    this.silence_ = 2 * clamp(pingMs, 100, 3_600_000);
    this.heard_(now);
  }

  /** Something came in. */
  heard_(now: number): void {
    this.heardAt_ = now;
    this.probeUntil_ = 0;
  }

  /** When to look again. */
  deadline_(): number {
    return this.probeUntil_ || this.heardAt_ + this.silence_;
  }

  /** Expect an answer soon. True if a ping is to be sent for it. */
  probe_(now: number): boolean {
    if (this.probeUntil_) return false;
    this.probeUntil_ = now + Math.min(PROBE_MS, this.silence_);
    return true;
  }

  isDue_(now: number): boolean {
    return now >= this.deadline_();
  }

  /** Due: whether we slept, so that it is worth asking. */
  isLate_(now: number): boolean {
    return !this.probeUntil_ && now - this.deadline_() > LATE_MS;
  }
}
