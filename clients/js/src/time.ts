/**
 * Time and chance: what time it is, when to look again, how long to back off (SPEC 5.3.4). Knows no reason for it.
 *
 * The surprising decision: one timer for the whole client. Whoever waits for a moment names it to `wake`; what is due
 * then everybody finds out by looking at the time.
 */
import type { Clock } from "./types.js";

/** `value` within bounds: figures of a broker may be of any size. */
export const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);

const MOST_MS = 600_000; // between attempts, whatever a broker says
const MOST_ASKED_MS = 300_000; // the longest pause that a broker may ask for
const MOST_TIMER_MS = 1e9; // a timer of more than 2^31 ms fires at once

const system: Clock = {
  now: Date.now,
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  random: Math.random,
};

/** What time it is, `wake`, `pause`; what the broker announced; the end of it. */
export function makeTime(tick: () => void, clock = system) {
  let last = 0;
  let skew = 0;
  let at = Infinity;
  let timer: unknown;
  let least = 250;
  let most = 20_000;

  /** Never less than it was: a clock that is set back stands still here. */
  const now = (): number => {
    skew += Math.max(0, last - clock.now() - skew);
    return (last = clock.now() + skew);
  };
  /** Look again at `moment`, at the latest. */
  const wake = (moment: number): void => {
    if (moment >= at) return;
    stop();
    at = moment;
    timer = clock.setTimeout(() => {
      at = Infinity;
      tick();
    }, clamp(at - now(), 0, MOST_TIMER_MS));
  };
  const stop = (): void => {
    at = -Infinity; // nothing wakes it again
    clock.clearTimeout(timer);
  };
  /** Full jitter: the pause before attempt `attempt`, from 0; and no less than the broker asked for. */
  const pause = (attempt: number, asked = 0): number =>
    Math.max(clock.random() * Math.min(most, least * 2 ** attempt), Math.min(asked, MOST_ASKED_MS));
  const setBounds = ({ minMs, maxMs }: Record<string, number>): void => {
    least = clamp(minMs!, 10, MOST_MS);
    most = clamp(maxMs!, least, MOST_MS);
  };
  return [now, wake, pause, clock.random, setBounds, stop] as const;
}
