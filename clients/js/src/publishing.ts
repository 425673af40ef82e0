/**
 * Publishes on their way: the queue, the window, acknowledgements, and what is sent again (SPEC 3.4, 8.2). Knows
 * packets and time, nothing of connections beyond "detached".
 *
 * The surprising decision: there is one list, in the order of publishing, and a publish stays at its place in it
 * until it is done. To send one again is to forget that it was sent, so nothing ever has to be put back in order.
 */
import { byteLength, type Packet } from "./codec.js";
import { TriodeError } from "./errors.js";
import type { Outbox } from "./outbox.js";
import type { Time } from "./time.js";
import type { Published, PublishOptions, QueuedPublish, QueueOptions } from "./types.js";

const MOST_IMMEDIATE = 3; // `retry: now` that are believed of one publish
const MOST_GIVEN_IDS = 4_096; // message ids that programs gave, remembered for `echo: false`
const MOST_HOLDS = 1_000; // topics that are remembered as refused

interface Item {
  readonly id_: number;
  readonly seq_: number;
  readonly topic_: string;
  readonly text_: string;
  readonly size_: number;
  readonly messageId_: string;
  readonly expiresAt_: number;
  readonly isAcknowledged_: boolean;
  /** When it was first sent: the broker forgets message ids some time after (G2). */
  sentAt_?: number | undefined;
  /** On this connection, and not answered. */
  isSent_: boolean;
  /** Sent at least once without a definite answer. */
  isUnknown_: boolean;
  isRenewed_?: boolean;
  immediate_: number;
  /** The last refusal that allowed another try. */
  error_?: TriodeError;
  resolve_(place: Published): void;
  reject_(error: TriodeError): void;
}

/** What the publisher asks of its client. */
export interface Publishing {
  /** Write soon. */
  flush_(): void;
  /** Get a new token; undefined where there is none to get. */
  renew_(): Promise<unknown> | undefined;
  complain_(error: unknown): void;
}

export class Publisher {
  /** Of the broker; undefined until the first `connected`. */
  limits_: Packet | undefined;
  private items_ = new Map<number, Item>(); // by id
  private bytes_ = 0;
  private inflight_ = 0;
  private window_ = Infinity; // what may be unanswered, below the broker's own limit
  private holds_ = new Map<string, { until_: number; attempts_: number }>(); // by topic; "" = of all
  private lastSeq_ = 0;
  private prefix_: string; // of the message ids made here
  private given_ = new Set<string>();

  constructor(
    private client_: Publishing,
    private time_: Time,
    private outbox_: Outbox,
    private options_: QueueOptions,
  ) {
    this.prefix_ = (time_.random_() * 2 ** 52).toString(36) + (time_.random_() * 2 ** 52).toString(36) + "-";
  }

  /** How many are not done. */
  get size_(): number {
    return this.items_.size;
  }

  /** Whether this client published the message of that id. */
  isOwn_(messageId?: string): boolean {
    return !!messageId && (messageId.startsWith(this.prefix_) || this.given_.has(messageId));
  }

  /** Queue one; `data` is its payload. Without acknowledgement it is done once it is written. Throws `queue_full`. */
  add_(topic: string, data: Packet, options: PublishOptions = {}, isAcknowledged = true): Promise<Published> {
    const { maxMessages = 1_000, maxBytes = 1_048_576, expiryMs = 60_000, store } = this.options_;
    const now = this.time_.now_();
    const seq = (this.lastSeq_ = Math.max(this.lastSeq_ + 1, Math.floor((now + this.time_.random_()) * 1000)));
    const expiresAt = now + (options.expiryMs ?? expiryMs);
    const messageId = options.messageId ?? this.prefix_ + seq.toString(36);
    const text = JSON.stringify({
      type: "publish",
      topic,
      ...data,
      key: options.key,
      headers: options.headers,
      message_id: messageId,
      ttl_ms: options.ttlMs,
      deliver_at_ms: options.deliverAt && +options.deliverAt,
    });
    if (this.size_ >= maxMessages || this.bytes_ + byteLength(text) > maxBytes)
      throw new TriodeError("queue_full", this.size_ + " messages wait to be sent or answered", { retry: "backoff" });
    if (options.messageId) this.remember_(messageId);
    if (isAcknowledged && store) this.keep_(store.put({ seq, expiresAt, packet: JSON.parse(text) }));
    return this.insert_(seq, expiresAt, text, topic, messageId, isAcknowledged);
  }

  /** What an earlier page left: before everything of this one. */
  restore_(items: readonly QueuedPublish[]): void {
    const later = [...this.items_.values()];
    this.items_.clear();
    for (const { seq, expiresAt, packet, sentAt } of items) {
      if (later.some((item) => item.seq_ == seq)) continue;
      const { topic, message_id: messageId } = packet as Record<string, string>;
      this.remember_(messageId!);
      this.insert_(seq, expiresAt, JSON.stringify(packet), topic!, messageId!, true, sentAt).catch((error) => this.client_.complain_(error));
    }
    for (const item of later) this.items_.set(item.id_, item);
  }

  private insert_(
    seq: number,
    expiresAt: number,
    text: string,
    topic: string,
    messageId: string,
    isAcknowledged: boolean,
    sentAt?: number,
  ): Promise<Published> {
    const id = this.outbox_.id_();
    if (isAcknowledged) text = `${text.slice(0, -1)},"id":${id}}`;
    const size = byteLength(text);
    this.bytes_ += size;
    this.time_.wake_(expiresAt);
    this.client_.flush_();
    return new Promise((resolve, reject) =>
      this.items_.set(id, {
        id_: id,
        seq_: seq,
        topic_: topic,
        text_: text,
        size_: size,
        messageId_: messageId,
        expiresAt_: expiresAt,
        isAcknowledged_: isAcknowledged,
        sentAt_: sentAt,
        isSent_: false,
        isUnknown_: !!sentAt,
        immediate_: 0,
        resolve_: resolve,
        reject_: reject,
      }),
    );
  }

  private remember_(messageId: string): void {
    this.given_.add(messageId);
    if (this.given_.size > MOST_GIVEN_IDS) this.given_.delete(this.given_.values().next().value!);
  }

  private keep_(done: Promise<void>): void {
    done.catch((error) => this.client_.complain_(error));
  }

  // What goes out

  /** The next that fit into `room` bytes and the window; from now on they count as sent. */
  take_(room: number, count: number, isConnected: boolean): string[] {
    const texts: string[] = [];
    const now = this.time_.now_();
    const limits = this.limits_;
    if (!limits || this.isHeld_("", now)) return texts;
    const window = Math.max(1, Math.min(this.window_, limits.maxInflightPublishes));
    for (const item of this.items_.values()) {
      if (item.isSent_ || this.isHeld_(item.topic_, now)) continue;
      if (now >= this.deadline_(item)) {
        this.expire_(item);
      } else if (item.size_ > limits.maxPacketBytes) {
        this.fail_(item, tooLarge(`a packet has at most ${limits.maxPacketBytes} bytes`));
      } else {
        if (item.size_ >= room || texts.length >= count || (item.isAcknowledged_ ? this.inflight_ >= window : !isConnected)) break;
        room -= item.size_ + 1;
        texts.push(item.text_);
        this.sent_(item, now);
      }
    }
    return texts;
  }

  private sent_(item: Item, now: number): void {
    if (!item.isAcknowledged_) {
      this.done_(item);
      return item.resolve_({ messageId: item.messageId_, position: {} });
    }
    item.isSent_ = true;
    this.inflight_++;
    if (item.sentAt_) return;
    item.sentAt_ = now;
    const { store } = this.options_;
    if (store) {
      const { id, ...packet } = JSON.parse(item.text_);
      this.keep_(store.put({ seq: item.seq_, expiresAt: item.expiresAt_, packet, sentAt: now }));
    }
  }

  private unsent_(item: Item): void {
    item.isSent_ = false;
    this.inflight_--;
  }

  private isHeld_(topic: string, now: number): boolean {
    return (this.holds_.get(topic)?.until_ ?? 0) > now;
  }

  // What comes back

  /** The broker has it; an answer that nobody waits for is ignored. */
  published_({ type, id, ...place }: Packet): void {
    const item = this.items_.get(id);
    if (!item?.isSent_) return;
    for (const topic of ["", item.topic_]) {
      const hold = this.holds_.get(topic);
      if (hold) hold.attempts_ = 0;
    }
    if (this.window_ < this.limits_!.maxInflightPublishes) this.window_ += 1 / this.window_;
    this.done_(item);
    item.resolve_({
      ...place,
      messageId: item.messageId_,
      position: place.log ? { [place.log]: place.pos } : {},
    });
  }

  /** The broker refused it: act by `retry`. False: it is none of ours. */
  refused_(id: number, error: TriodeError): boolean {
    const item = this.items_.get(id);
    if (!item?.isSent_) return false;
    this.unsent_(item);
    item.isUnknown_ ||= error.name == "timeout";
    item.error_ = error;
    if (error.retry == "reauth" && !item.isRenewed_) {
      const renewed = this.client_.renew_();
      if (renewed) {
        item.isRenewed_ = true;
        const hold = this.hold_("", Infinity);
        renewed.finally(() => {
          hold.until_ = 0;
          this.client_.flush_();
        });
        return true;
      }
    }
    if (error.retry == "backoff" || (error.retry == "now" && item.immediate_++ >= MOST_IMMEDIATE)) this.pause_(item, error);
    else if (error.retry != "now") this.fail_(item, error);
    return true;
  }

  /** Send nothing for a while, or nothing of its topic where only that one's store is concerned. */
  private pause_(item: Item, error: TriodeError): void {
    const now = this.time_.now_();
    const hold = this.hold_(/unavailable|timeout/.test(error.name) ? item.topic_ : "", 0);
    if (hold.until_ > now) return; // one of many refused together: they count as one attempt
    hold.until_ = now + this.time_.pause_(hold.attempts_++, error.retryAfterMs);
    this.time_.wake_(hold.until_);
    // More is on its way than the broker can take: half as much, and one more with each window that goes well.
    if (/overloaded|inflight/.test(error.name))
      this.window_ = Math.max(1, Math.min(this.window_, this.limits_!.maxInflightPublishes) / 2);
  }

  private hold_(topic: string, until: number) {
    if (this.holds_.size > MOST_HOLDS) this.holds_.clear();
    const hold = this.holds_.get(topic) ?? { until_: 0, attempts_: 0 };
    hold.until_ = Math.max(hold.until_, until);
    this.holds_.set(topic, hold);
    return hold;
  }

  // Its connection is gone

  /** Closed with 1009: the largest on its way is to blame, and is not sent again (SPEC 5.3.3). */
  failLargest_(): void {
    const sent = [...this.items_.values()].filter((item) => item.isSent_).sort((a, b) => b.size_ - a.size_);
    if (sent[0]) this.fail_(sent[0], tooLarge("the broker closed the connection (1009)"));
  }

  /** What is unanswered may be stored, and goes out again with its id (G2). */
  detach_(): void {
    for (const item of this.items_.values()) {
      if (!item.isSent_) continue;
      this.unsent_(item);
      item.isUnknown_ = true;
    }
    this.holds_.clear();
  }

  /** Nothing will be sent any more. What is stored beyond this page stays there. */
  close_(error: TriodeError): void {
    this.detach_();
    for (const item of this.items_.values()) this.fail_(item, error, true);
  }

  /** Ends what has waited too long; when to look again. */
  tick_(now: number): number {
    let next = Infinity;
    for (const item of this.items_.values()) {
      const deadline = this.deadline_(item);
      if (now < deadline) next = Math.min(next, deadline);
      else this.expire_(item);
    }
    for (const { until_ } of this.holds_.values()) if (until_ > now) next = Math.min(next, until_);
    return next;
  }

  /** What is surely not stored may be sent at any time; else only while the broker knows its id (SPEC 3.4.7). */
  private deadline_(item: Item): number {
    return item.isUnknown_ && !item.isSent_ && this.limits_
      ? Math.min(item.expiresAt_, item.sentAt_! + this.limits_.dedupeWindowMs)
      : item.expiresAt_;
  }

  private expire_(item: Item): void {
    item.isUnknown_ ||= item.isSent_;
    this.fail_(item, item.error_ ?? new TriodeError("expired", "it could not be sent in time"));
  }

  private fail_(item: Item, error: TriodeError, isKept?: boolean): void {
    this.done_(item, isKept);
    const messageId = item.messageId_;
    item.reject_(
      item.isUnknown_
        ? new TriodeError("unknown", `sent, not answered, maybe stored (${error.message}): publish again with its messageId`, { retry: "now", messageId })
        : error,
    );
  }

  private done_(item: Item, isKept?: boolean): void {
    if (item.isSent_) this.unsent_(item);
    this.items_.delete(item.id_);
    this.bytes_ -= item.size_;
    const { store } = this.options_;
    if (store && item.isAcknowledged_ && !isKept) this.keep_(store.remove(item.seq_));
  }
}

const tooLarge = (message: string): TriodeError => new TriodeError("too_large", message);
