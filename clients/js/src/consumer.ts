/**
 * The acknowledged kind of subscription: deliveries, and what programs answer to them (SPEC 9).
 *
 * The surprising decision: nobody keeps a list of the deliveries that programs hold. Each remembers the `subscribe`
 * that it came of. What is of an older one is lost: the broker gives it out again, so answering for it might answer
 * for somebody else's.
 */
import type { Packet } from "./codec.js";
import { report } from "./emitter.js";
import { TriodeError } from "./errors.js";
import type { Requests } from "./requests.js";
import { Subscription, type Owner } from "./subscription.js";
import type { Delivery, Message } from "./types.js";

const MOST_ACKED_AT_ONCE = 1_024; // SPEC 9.2
const MOST_DELAY_MS = 30_000;

type Work = (delivery: Delivery<any>) => unknown;

export class Consumer extends Subscription {
  override readonly kind_: string = "delivery";
  private running_ = 0;
  private acks_ = new Map<string, { places_: number[]; done_: Promise<unknown> }>(); // of this turn, by log

  constructor(
    filter: string,
    options: Packet,
    owner: Owner,
    private requests_: Requests,
    private work_?: Work,
  ) {
    super(filter, { window: 32, ...options }, owner);
  }

  /** Acknowledgements of this turn leave before the goodbye. */
  override unsubscribe(): void {
    queueMicrotask(() => super.unsubscribe());
  }

  /** A new one. Each message is here once, and no more than the window: what had to go comes again. */
  deliver_({ message, attempt = 1 }: Packet): void {
    this.inbox_ = this.inbox_.filter((each) => each.message.log != message.log || each.message.pos != message.pos);
    if (this.inbox_.length >= this.options_.window) this.inbox_.shift();
    this.inbox_.push(this.delivery_(message, attempt));
    this.pump_();
  }

  override pump_(): void {
    if (!this.work_) return super.pump_();
    while (this.inbox_[0] && this.running_ < this.options_.window) void this.run_(this.inbox_.shift() as Delivery);
  }

  private async run_(delivery: Delivery): Promise<void> {
    this.running_++;
    try {
      await this.work_!(delivery);
      delivery.ack();
    } catch (error) {
      report(error);
      delivery.nack(Math.min(250 * 2 ** delivery.attempt, MOST_DELAY_MS)); // or it would fail again and again at once
    }
    this.running_--;
    this.pump_();
  }

  private delivery_(message: Message, attempt: number): Delivery {
    const { log, pos } = message;
    const round = this.askId_;
    const check = () => {
      if (round != this.askId_ || !this.number_) throw lost();
    };
    const ask = async (packet: Packet) => {
      check();
      await this.requests_.ask_({ ...packet, sub: this.number_, log, pos, attempt }, "acked");
    };
    const nack = async (more: Packet) => {
      check();
      this.dropBehind_(message);
      await ask({ type: "nack", ...more });
    };
    // Once is enough. Whoever does not wait for the answer need not catch what becomes of it.
    let settled: Promise<void> | undefined;
    const settle = (answer: () => Promise<void>) => (settled ??= quiet(answer()));
    return {
      type: "delivery",
      message,
      attempt,
      ack: () => settle(async () => void (check(), await this.ack_(log, pos, check))),
      nack: (delay_ms) => settle(() => nack({ delay_ms })),
      reject: () => settle(() => nack({ reject: true })),
      extend: (ms) => quiet(ask({ type: "extend", ms })),
    };
  }

  /** Together with the others of this turn. */
  private ack_(log: string, pos: number, check: () => void): Promise<unknown> {
    let turn = this.acks_.get(log);
    if (!turn || turn.places_.length >= MOST_ACKED_AT_ONCE) {
      const places_: number[] = [];
      const done_ = Promise.resolve().then(() => {
        this.acks_.delete(log);
        check();
        return this.requests_.ask_({ type: "ack", sub: this.number_, log, pos: places_ }, "acked");
      });
      this.acks_.set(log, (turn = { places_, done_ }));
    }
    turn.places_.push(pos);
    return turn.done_;
  }

  /** What the broker takes back with this one: among members, the later messages of its key (SPEC 9.5.3). */
  private dropBehind_({ topic, key, log, pos }: Message): void {
    if (!key || !(this.options_.shared || this.options_.group)) return;
    this.inbox_ = this.inbox_.filter(
      ({ message }) => message.key != key || message.topic != topic || message.log != log || message.pos <= pos,
    );
  }

  override tell_(gap: Packet): boolean {
    return this.emit_(gap);
  }

  /** The broker takes back everything. */
  override void_(): void {
    super.void_();
    this.inbox_ = [];
  }
}

const lost = (): TriodeError => new TriodeError("delivery_lost", "the broker has taken it back: it comes again");

function quiet(done: Promise<void>): Promise<void> {
  done.catch(() => {});
  return done;
}
