/**
 * A subscription as its program sees it: listeners, an inbox to iterate over, its position. What happens to it is
 * decided in subscriptions.ts.
 *
 * The surprising decision: the inbox is used by those who iterate, or do not listen yet. Listeners are called as
 * messages come. An inbox that is full stops nothing: the subscription is ended at the broker and asked for again,
 * by position, once half of it is taken.
 */
import { advance, copy, type Packet } from "./codec.js";
import { Emitter } from "./emitter.js";
import type { TriodeError } from "./errors.js";
import type { Position } from "./types.js";

/** Where it stands with the broker. */
export const WANTED = 0; // to be asked for on the next occasion
export const ASKED = 1;
export const ACTIVE = 2;
export const PAUSED = 3; // its inbox was full
export const DELAYED = 4; // refused for a while: asked for again at `retryAt_`
export const ENDED = 5;

/** What a subscription asks of those who decide. */
export interface Owner {
  readonly maxInbox_: number;
  remove_(subscription: Subscription): void;
  pause_(subscription: Subscription): void;
  resume_(subscription: Subscription): void;
}

interface Waiter {
  readonly isAll_: boolean;
  resolve_(result: IteratorResult<any>): void;
  reject_(error: unknown): void;
}

export class Subscription extends Emitter {
  readonly ready: Promise<void>;
  isLive = false;
  /** What iteration gives. */
  readonly kind_: string = "message";
  readonly levels_: readonly string[];
  phase_ = WANTED;
  number_ = 0; // `sub` on this connection; 0 = none
  askId_ = 0; // `id` of its `subscribe`
  attempts_ = 0;
  retryAt_ = Infinity;
  isRenewed_ = false;
  isSnapshot_: boolean; // `from: "last"`, before the first `caught_up`
  hasPosition_: boolean; // false until the first `subscribed`, unless the program gave one
  position_: Record<string, number>; // R1, R4: everything up to here is in the inbox or was
  snapshot_: Record<string, number> = copy(); // of `from: "last"` so far
  skip_?: Record<string, number> | undefined; // … what the inbox had of it before it was full
  hasWarned_ = false;
  isAll_ = false; // iterated over by `events()`: gaps are not missed
  /** Resolves and rejects `ready`. */
  settle_!: (error?: TriodeError) => void;
  protected inbox_: Packet[] = [];
  private taken_ = copy(); // like `position_`, of what the program took out
  private isIterated_ = false;
  private waiters_: Waiter[] = [];
  private error_: TriodeError | undefined;

  constructor(
    readonly filter: string,
    readonly options_: Packet,
    protected owner_: Owner,
  ) {
    super();
    this.levels_ = filter.split("/");
    this.isSnapshot_ = options_.from == "last";
    this.hasPosition_ = !!options_.after;
    this.position_ = copy(options_.after);
    this.ready = new Promise((resolve, reject) => {
      this.settle_ = (error) => (error ? reject(error) : resolve());
    });
    this.ready.catch(() => {}); // who does not wait for it learns of it from `end`
  }

  get position(): Position {
    return { ...(this.inbox_.length ? this.taken_ : this.position_) };
  }

  unsubscribe(): void {
    this.owner_.remove_(this);
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<any> {
    return this.iterate_(false);
  }

  events(): AsyncIterableIterator<any> {
    this.isAll_ = true;
    return this.iterate_(true);
  }

  private iterate_(isAll: boolean): AsyncIterableIterator<any> {
    this.isIterated_ = true;
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: () =>
        new Promise((resolve_, reject_) => {
          this.waiters_.push({ isAll_: isAll, resolve_, reject_ });
          this.pump_();
        }),
      return: async () => {
        this.unsubscribe();
        this.inbox_ = [];
        this.pump_();
        return { done: true, value: undefined };
      },
    };
  }

  /** The items of the inbox to those who wait for them. */
  pump_(): void {
    while (this.inbox_[0] && !this.isIterated_ && this.hasListener_(this.kind_)) {
      const item = this.take_();
      if (item.type == this.kind_) this.emit_(item);
    }
    for (let waiter; (waiter = this.waiters_[0]); ) {
      if (this.inbox_[0]) {
        const value = this.take_();
        if (!waiter.isAll_ && value.type != this.kind_) continue;
        waiter.resolve_({ done: false, value });
      } else if (this.phase_ != ENDED) break;
      else if (this.error_) waiter.reject_(this.error_);
      else waiter.resolve_({ done: true, value: undefined });
      if (!this.inbox_[0] && this.phase_ == ENDED) this.error_ = undefined;
      this.waiters_.shift();
    }
    if (this.phase_ == PAUSED && this.inbox_.length * 2 <= this.owner_.maxInbox_) this.owner_.resume_(this);
  }

  protected take_(): Packet {
    const item = this.inbox_.shift()!;
    if (item.type == "message") advance(this.taken_, item.log, item.pos);
    else if (item.after) this.taken_ = copy(item.after);
    return item;
  }

  /** One item for the program: a message, a gap, … True if somebody listened. */
  hand_(item: Packet): boolean {
    const isFirst = !this.inbox_[0];
    const isKept = this.isIterated_ || !isFirst || !this.hasListener_(this.kind_);
    if (isKept && isFirst) this.taken_ = copy(this.position_);
    if (item.type == "message") advance(this.position_, item.log, item.pos); // R4
    else if (item.after) this.position_ = copy(item.after); // R1
    // A message goes behind those that wait for a listener.
    const isHeard = (isFirst || this.isIterated_ || item.type != this.kind_) && this.emit_(item);
    if (isKept) {
      this.inbox_.push(item);
      this.pump_();
      if (this.inbox_.length >= this.owner_.maxInbox_) this.owner_.pause_(this);
    }
    return isHeard || this.isAll_;
  }

  /** A gap. True if somebody listened. */
  tell_(gap: Packet): boolean {
    return this.hand_(gap);
  }

  /** Who begins to listen gets what has waited, in a moment. */
  protected override heard_(type: string): void {
    if (type == this.kind_) queueMicrotask(() => this.pump_());
  }

  /** Its connection is gone, or the broker has ended it there. */
  void_(): void {
    this.number_ = 0;
    this.isLive = false;
  }

  /** It is over. True if somebody learned of it. */
  end_(error?: TriodeError): boolean {
    this.phase_ = ENDED;
    this.error_ = error;
    this.settle_(error);
    this.pump_();
    return this.emit_({ type: "end", ...(error && { error }) }) || this.isIterated_;
  }
}
