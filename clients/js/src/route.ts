/**
 * Where the next attempt goes, and when: the addresses of a cluster, one round after the other (SPEC 5.3.6). Knows
 * URLs and times; what a connection is, it does not.
 *
 * The surprising decision: every round is shuffled anew instead of going on in the order given, because the clients
 * of a node that has died would otherwise all move to the one that stands behind it in everybody's list.
 */
import { TriodeError } from "./errors.js";
import type { Pause } from "./core.js";

const DRAINING = 4200;
const MOST_NAMED = 8; // URLs of one `bye`

/** `url` as a WebSocket URL: http becomes ws, no path `/ws`. */
const websocketUrl = (url: unknown): string =>
  String(url)
    .replace(/^http/, "ws")
    .replace(/^(\w+:\/\/[^/?]+)\/?$/, "$1/ws");

export function makeRoute(urls: string | readonly string[], random: () => number, pause: Pause) {
  const shuffled = (urls: readonly string[]): string[] => {
    const left = [...urls];
    return urls.map(() => left.splice(random() * left.length, 1)[0]!);
  };
  const own = [...new Set([urls].flat().map(websocketUrl))];
  for (const url of own) if (!/^wss?:\/\/./.test(url)) throw new TriodeError("bad_url", url + ": no wss://example.com/ws");
  let round = shuffled(own);
  let current: string;
  let rounds = 0; // since things went well

  /** Things went well: the next pause is a short one again. */
  const reset = (): void => void (rounds = 0);
  /** The URL of the next attempt. */
  const next = (): string => (current = round.shift()!);
  /** The current address has failed, or was lost: the pause before the next attempt.
   *
   * `isOnce`: it asked for an immediate one, there or (`code`: it is draining) elsewhere. `asked`, `urls`: the pause and the
   * addresses that it named; the pause holds for all. `wasAnswered`: it refused, so it is there; many may be refused
   * at once, and shall not move on as one. */
  const leave = (
    isOnce: boolean,
    code: number | undefined,
    asked: number | undefined,
    urls: readonly string[] = [],
    wasConnected: boolean,
    wasAnswered: boolean,
  ): number => {
    // What is no URL, or would lose the encryption, is passed over.
    const usable = own[0]! < "ws:~" ? /^wss?:\/\/./ : /^wss:\/\/./;
    const named = urls.slice(0, MOST_NAMED).map(websocketUrl).filter((url) => usable.test(url));
    if (!named[0] && !wasConnected && round[0]) return pause(wasAnswered ? 0 : -Infinity, asked);
    // More than one immediate attempt, and a broker could make us spin.
    const wait = pause(isOnce && !rounds ? -Infinity : rounds, asked);
    rounds++;
    round = shuffled(own.filter((url) => url != current));
    if (own.includes(current)) round[isOnce && code != DRAINING && !named[0] ? "unshift" : "push"](current);
    round = [...new Set([...named, ...round])];
    return wait;
  };
  return [next, leave, reset, own.length] as const;
}
