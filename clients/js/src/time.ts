/**
 * Time and chance: what time it is, what to do later, how long to back off (SPEC 5.3.4). Knows no reason for it.
 *
 * The surprising decision: nobody has timers of their own. All are kept here, so that a closed client can leave none.
 */
import type { Later, Now, Pause } from "./core.js";
import type { Clock } from "./types.js";

/** `value` within bounds: figures of a broker may be of any size. */
export const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);

const MOST_MS = 600_000; // between attempts, whatever a broker says
const MOST_ASKED_MS = 300_000; // the longest pause that a broker may ask for
const MOST_TIMER_MS = 2 ** 31 - 1; // a timer of more fires at once

export function makeTime({ now, setTimeout, clearTimeout, random }: Clock) {
  const timers = new Set<unknown>();
  let least = 250;
  let most = 20_000;

  const later: Later = (ms, run) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      run();
    }, clamp(ms, 0, MOST_TIMER_MS));
    timers.add(timer);
    return () => {
      timers.delete(timer);
      clearTimeout(timer);
    };
  };
  /** What the broker announced. */
  const setBounds = ({ minMs, maxMs }: Record<string, number>): void => {
    least = clamp(minMs!, 10, MOST_MS);
    most = clamp(maxMs!, least, MOST_MS);
  };
  const pause: Pause = (attempt, asked = 0) =>
    Math.max(random() * clamp(least * 2 ** attempt, 0, most), clamp(asked, 0, MOST_ASKED_MS));
  const stop = (): void => timers.forEach(clearTimeout);
  return [now as Now, later, pause, random, setBounds, stop] as const;
}
