/**
 * The one error of this client. Knows nothing else.
 *
 * The surprising decision: no class for each kind. Programs tell errors apart by `name`, as the protocol does.
 */
import type { Retry, TriodeErrorLike } from "./types.js";

/** Everything this client rejects with; what `name` may be is said at `TriodeErrorLike`. */
export class TriodeError extends Error implements TriodeErrorLike {
  declare readonly name: string;
  declare readonly retry: Retry;
  /** The close code, where a close is the reason. */
  declare readonly code?: number;
  /** Of what was sent: the one that is wrong. */
  declare readonly field?: string;
  declare readonly retryAfterMs?: number;
  /** `unknown`: publish it again with this id, and it is stored once. */
  declare readonly messageId?: string;

  constructor(name: string, message: string, more?: object) {
    super(message);
    Object.assign(this, { retry: "never" }, more, { name });
  }
}

/** What a packet of the broker says is wrong. */
export const refusal = ({ type, id, sub, name = type, message, ...more }: Record<string, any>): TriodeError =>
  new TriodeError(name, message, more);
