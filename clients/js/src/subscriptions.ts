/**
 * All subscriptions of a client: rules R1–R7 of the protocol, and resuming (SPEC 4). Knows packets and time, no
 * transport.
 *
 * The surprising decision: numbers (`sub`) belong to a connection, subscriptions to the program. On each connection
 * every subscription gets a new number, and a packet for a number that is gone is ignored (R5).
 */
import { advance, copy, type Packet } from "./codec.js";
import { Consumer } from "./consumer.js";
import { TriodeError } from "./errors.js";
import type { Outbox } from "./outbox.js";
import type { Publisher, Publishing } from "./publishing.js";
import { ACTIVE, ASKED, DELAYED, ENDED, PAUSED, Subscription, WANTED, type Owner } from "./subscription.js";
import type { Time } from "./time.js";
import { matches } from "./topics.js";

export class Subscriptions implements Owner {
  all_ = new Set<Subscription>(); // in the order of subscribing
  private numbered_ = new Map<number, Subscription>(); // on this connection
  private lastNumber_ = 0;

  constructor(
    private client_: Publishing & { emit_(event: Packet): boolean },
    private time_: Time,
    private outbox_: Outbox,
    private publisher_: Publisher,
    readonly maxInbox_: number,
  ) {}

  // What programs ask for

  add_(subscription: Subscription): void {
    this.all_.add(subscription);
    this.ask_(subscription);
  }

  remove_(subscription: Subscription, error?: TriodeError): void {
    if (subscription.phase_ == ENDED) return;
    this.unsubscribe_(subscription);
    this.all_.delete(subscription);
    if (!subscription.end_(error) && error) this.client_.complain_(error);
  }

  pause_(subscription: Subscription): void {
    if (!subscription.number_) return;
    this.unsubscribe_(subscription);
    subscription.phase_ = PAUSED;
    if (subscription.isSnapshot_) subscription.skip_ = subscription.snapshot_;
  }

  resume_(subscription: Subscription): void {
    subscription.phase_ = WANTED;
    this.ask_(subscription);
  }

  // The connection comes and goes

  attach_(): void {
    this.lastNumber_ = 0; // SPEC 3.2.1
    for (const subscription of this.all_) if (subscription.phase_ == WANTED) this.ask_(subscription);
  }

  detach_(): void {
    this.numbered_.clear();
    for (const subscription of this.all_) {
      subscription.void_();
      subscription.snapshot_ = copy();
      subscription.skip_ = undefined;
      if (subscription.phase_ != PAUSED) subscription.phase_ = WANTED;
    }
  }

  close_(error?: TriodeError): void {
    for (const subscription of this.all_) this.remove_(subscription, error);
  }

  private ask_(subscription: Subscription): void {
    if (!this.outbox_.isOpen_) return;
    const { options_: options, hasPosition_ } = subscription;
    const sub = (subscription.number_ = ++this.lastNumber_);
    const id = (subscription.askId_ = this.outbox_.id_());
    subscription.phase_ = ASKED;
    this.numbered_.set(sub, subscription);
    const isAnew = !hasPosition_ || subscription.isSnapshot_; // R7
    this.outbox_.put_({
      type: "subscribe",
      id,
      sub,
      filter: subscription.filter,
      ...(isAnew ? { from: options.from } : { after: subscription.position_ }),
      overflow: options.overflow,
      presence: options.presence,
      durable: options.durable,
      shared: options.shared,
      group: options.group,
      window: options.window,
      ack_wait_ms: options.ackWaitMs,
      max_attempts: options.maxAttempts,
    });
  }

  private unsubscribe_(subscription: Subscription): void {
    const sub = subscription.number_;
    if (sub) this.outbox_.put_({ type: "unsubscribe", id: this.outbox_.id_(), sub });
    this.numbered_.delete(sub);
    subscription.void_();
  }

  // What the broker says

  /** Any packet about one subscription, or about topics. */
  receive_(packet: Packet): void {
    if (packet.type == "message") return this.message_(packet);
    if (packet.type == "joined" || packet.type == "left") return this.presence_(packet);
    const subscription = this.numbered_.get(packet.sub);
    if (!subscription) return; // R5
    const { after } = packet;
    const isConsumer = subscription instanceof Consumer;
    switch (packet.type) {
      case "subscribed":
        subscription.phase_ = ACTIVE;
        subscription.attempts_ = 0;
        subscription.isRenewed_ = false;
        subscription.settle_();
        if (isConsumer) return; // the broker keeps its position
        subscription.hasPosition_ = true;
        subscription.position_ = copy(after); // R1, here and below
        if (packet.live) this.live_(subscription);
        return;
      case "catching_up":
        subscription.position_ = copy(after);
        subscription.isLive = false;
        return;
      case "caught_up":
        subscription.position_ = copy(after);
        return isConsumer ? undefined : this.live_(subscription);
      case "gap": {
        const { sub, ...gap } = packet;
        return this.gap_(subscription, gap);
      }
      case "delivery":
        return isConsumer ? subscription.deliver_(packet) : this.delivery_(subscription, packet.message);
      case "unsubscribed":
        this.refuse_(subscription, new TriodeError(packet.name ?? packet.type, packet.message ?? "", { retry: packet.retry ?? "never" }));
    }
  }

  private live_(subscription: Subscription): void {
    subscription.isLive = true;
    subscription.isSnapshot_ = false;
    subscription.hand_({ type: "caughtup", after: { ...subscription.position_ } });
  }

  /** To those who listen to it, or else to somebody: it cannot be missed. */
  private gap_(subscription: Subscription, gap: Packet): void {
    const { filter } = subscription;
    if (subscription.tell_(gap) || this.client_.emit_({ ...gap, filter }) || subscription.hasWarned_) return;
    subscription.hasWarned_ = true;
    console.warn(`triode: messages are missing in ${filter} (${gap.reason}); listen to "gap" to know`);
  }

  /** R3: to all that are live, match, and have not had it. */
  private message_(message: Packet): void {
    const topic = message.topic.split("/");
    for (const each of this.numbered_.values())
      if (each.isLive && matches(each.levels_, topic) && !(each.position_[message.log]! >= message.pos))
        this.hand_(each, message);
  }

  /** R2: whatever its position. */
  private delivery_(subscription: Subscription, message: Packet): void {
    const { log, pos } = message;
    if (subscription.isSnapshot_ && subscription.skip_?.[log]! >= pos) return; // of a snapshot that was paused: it has this one
    if (subscription.isSnapshot_) advance(subscription.snapshot_, log, pos);
    this.hand_(subscription, message);
  }

  private hand_(subscription: Subscription, message: Packet): void {
    const { position_, options_ } = subscription;
    if (!(message.log in position_)) this.gap_(subscription, { type: "gap", reason: "reset", after: { ...position_ } }); // R6
    if (options_.echo === false && this.publisher_.isOwn_(message.messageId)) advance(position_, message.log, message.pos);
    else subscription.hand_(message);
  }

  /** R4: every live subscription has had everything up to there, in the logs it knows. */
  ping_(at: Packet): void {
    for (const { isLive, position_ } of this.numbered_.values())
      for (const log in position_) if (isLive && log in at) advance(position_, log, at[log]);
  }

  /** To those who watch the topic; with `sub`, to the one that is seen. */
  private presence_({ type, topic, member, sub }: Packet): void {
    const levels = topic.split("/");
    for (const [number, each] of this.numbered_)
      if (sub ? sub == number : each.options_.presence && each.phase_ == ACTIVE && matches(each.levels_, levels))
        each.hand_({ type, topic, member, ...(type == "joined" && { isSelf: !!sub }) });
  }

  /** An error. False: it is none of ours, or answers something else. */
  refused_(id: number | undefined, sub: number | undefined, error: TriodeError): boolean {
    const subscription =
      this.numbered_.get(sub!) ?? [...this.numbered_.values()].find((each) => id && each.askId_ == id);
    if (subscription?.phase_ != ASKED) return !!sub && !subscription; // R5
    this.refuse_(subscription, error);
    return true;
  }

  private refuse_(subscription: Subscription, error: TriodeError): void {
    this.numbered_.delete(subscription.number_);
    subscription.void_();
    const now = this.time_.now_();
    const renewed = error.retry == "reauth" && !subscription.isRenewed_ && this.client_.renew_();
    if (renewed) {
      subscription.isRenewed_ = true;
      subscription.retryAt_ = Infinity;
      renewed.finally(() => this.time_.wake_((subscription.retryAt_ = 0)));
    } else if (error.retry == "now" || error.retry == "backoff") {
      const isImmediate = error.retry == "now" && !subscription.attempts_;
      const pause = this.time_.pause_(subscription.attempts_++, error.retryAfterMs);
      this.time_.wake_((subscription.retryAt_ = isImmediate ? now : now + pause));
    } else return this.remove_(subscription, error);
    subscription.phase_ = DELAYED;
  }

  /** Asks again for what was refused for a while; when to look again. */
  tick_(now: number): number {
    let next = Infinity;
    for (const each of this.all_) {
      if (each.phase_ != DELAYED) continue;
      if (now >= each.retryAt_) this.ask_(each);
      else next = Math.min(next, each.retryAt_);
    }
    return next;
  }
}
