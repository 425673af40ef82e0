/**
 * Publishes on their way: the queue, the window, acknowledgements, and what is sent again (SPEC 3.4, 8.2). Knows
 * packets and time, nothing of connections beyond "detached".
 *
 * The surprising decision: there is one list, in the order of publishing, and a publish stays at its place in it
 * until it is done. To send one again is to forget that it was sent, so nothing ever has to be put back in order.
 */
import { byteLength, type Packet } from "./codec.js";
import type { Core } from "./core.js";
import { TriodeError } from "./errors.js";
import type { Published, PublishOptions, QueuedPublish, QueueOptions } from "./types.js";

const MOST_IMMEDIATE = 3; // `retry: now` that are believed of one publish
const MOST_IDS = 10_000; // of our own, remembered for `echo: false`
const MOST_HOLDS = 1_000; // topics that are remembered as refused

interface Item {
  readonly id_: number;
  readonly stored_: QueuedPublish;
  readonly text_: string;
  readonly size_: number;
  readonly isAcknowledged_: boolean;
  /** When it was first sent: the broker forgets message ids some time after (G2). */
  sentAt_: number | undefined;
  /** On this connection, and not answered. */
  isSent_?: boolean;
  /** Sent at least once without a definite answer. */
  isUnknown_: boolean | undefined;
  isRenewed_?: boolean;
  immediate_: number;
  /** The last refusal that allowed another try. */
  error_?: TriodeError;
  resolve_(place: Published): void;
  reject_(error: TriodeError): void;
}

export function makePublisher(
  core: Core,
  { maxMessages = 1_000, maxBytes = 1_048_576, expiryMs: defaultExpiryMs = 60_000, store }: QueueOptions = {},
) {
  const { now_: now } = core;
  const items = new Map<number, Item>(); // by id
  const holds = new Map<string, { until_: number; attempts_: number }>(); // by topic; "" = of all
  const ids = new Set<string>();
  const prefix = core.random_().toString(36).slice(2); // of the ids made here
  let limits: Packet | undefined; // unknown until the first `connected`
  let bytes = 0;
  let inflight = 0;
  let window = Infinity; // what may be unanswered, below the broker's own limit
  let lastSeq = 0;

  const isHeld = (topic: string): boolean => (holds.get(topic)?.until_ ?? 0) > now();
  const mostInflight = (): number => Math.max(1, Math.min(window, limits!.maxInflightPublishes));

  /** What is surely not stored may be sent at any time; else only while the broker knows its id (SPEC 3.4.7). */
  const deadline = ({ isUnknown_, isSent_, sentAt_, stored_: { expiresAt } }: Item): number =>
    isUnknown_ && !isSent_ && limits ? Math.min(expiresAt, sentAt_! + limits.dedupeWindowMs) : expiresAt;

  const keep = (item: Item): void => {
    if (store && item.isAcknowledged_) store.put({ ...item.stored_, ...(item.sentAt_ && { sentAt: item.sentAt_ }) }).catch(core.complain_);
  };

  const insert = (packet: Packet, seq: number, expiresAt: number, isAcknowledged: boolean, sentAt?: number, isNew?: boolean) => {
    const id = core.id_();
    const text = JSON.stringify(isAcknowledged ? { ...packet, id } : packet);
    const size = byteLength(text);
    if (isNew && (items.size >= maxMessages || bytes + size > maxBytes))
      throw new TriodeError("queue_full", "too much waits to be sent or answered", { retry: "backoff" });
    if (ids.add(packet.message_id).size > MOST_IDS) ids.delete(ids.values().next().value!);
    bytes += size;
    return new Promise<Published>((resolve_, reject_) => {
      const stored_ = { seq, expiresAt, packet: store ? JSON.parse(JSON.stringify(packet)) : packet };
      const item = {
        id_: id,
        stored_,
        text_: text,
        size_: size,
        isAcknowledged_: isAcknowledged,
        sentAt_: sentAt,
        isUnknown_: !!sentAt,
        immediate_: 0,
        resolve_,
        reject_,
      };
      items.set(id, item);
      if (isNew) keep(item);
      core.wake_(expiresAt);
      core.flush_();
    });
  };

  const unsend = (item: Item): void => {
    if (item.isSent_) inflight--;
    item.isSent_ = false;
  };
  const done = (item: Item, isKept?: boolean): void => {
    unsend(item);
    items.delete(item.id_);
    bytes -= item.size_;
    if (store && item.isAcknowledged_ && !isKept) store.remove(item.stored_.seq).catch(core.complain_);
  };
  const fail = (item: Item, error: TriodeError, isKept?: boolean): void => {
    done(item, isKept);
    const messageId = item.stored_.packet.message_id;
    item.reject_(
      item.isUnknown_ ? new TriodeError("unknown", "it may be stored: " + error.message, { messageId }) : error,
    );
  };
  const expire = (item: Item): void => {
    item.isUnknown_ ||= item.isSent_;
    fail(item, item.error_ ?? new TriodeError("expired", "it could not be sent in time"));
  };

  const hold = (topic: string, until: number) => {
    if (holds.size > MOST_HOLDS) holds.clear();
    const { attempts_ = 0 } = holds.get(topic) ?? {};
    holds.set(topic, { until_: until, attempts_: attempts_ + 1 });
    core.wake_(until);
    core.flush_();
  };
  /** Send nothing for a while, or nothing of its topic where only that one's store is concerned. */
  const rest = (item: Item, { name, retryAfterMs }: TriodeError): void => {
    const topic = /unavailable|timeout/.test(name) ? (item.stored_.packet.topic as string) : "";
    if (isHeld(topic)) return; // one of many refused together: they count as one attempt
    hold(topic, now() + core.pause_(holds.get(topic)?.attempts_ ?? 0, retryAfterMs));
    // More is on its way than the broker can take: half as much, and one more with each window that goes well.
    if (/overloaded|inflight/.test(name)) window = mostInflight() / 2;
  };

  return {
    /** How many are not done. */
    size_: () => items.size,
    /** Whether this client published the message of that id. */
    isOwn_: (messageId: string) => ids.has(messageId),
    setLimits_(announced: Packet): void {
      limits = announced;
    },

    /** Queue one; `data` is its payload. Without acknowledgement it is done once it is written. Throws `queue_full`. */
    add_(topic: string, data: Packet, options: PublishOptions = {}, isAcknowledged = true): Promise<Published> {
      const { key, headers, messageId, ttlMs, deliverAt, expiryMs = defaultExpiryMs } = options;
      lastSeq = Math.max(lastSeq + 1, Math.floor((now() + core.random_()) * 1000)); // other pages share the store
      const packet = {
        type: "publish",
        topic,
        ...data,
        key,
        headers,
        message_id: messageId ?? prefix + lastSeq.toString(36),
        ttl_ms: ttlMs,
        deliver_at_ms: deliverAt && +deliverAt,
      };
      return insert(packet, lastSeq, now() + expiryMs, isAcknowledged, undefined, true);
    },

    /** What an earlier page left: before everything of this one. */
    restore_(stored: readonly QueuedPublish[]): void {
      const later = [...items.values()];
      items.clear();
      for (const { seq, expiresAt, packet, sentAt } of stored)
        if (!later.some((item) => item.stored_.seq == seq))
          insert(packet, seq, expiresAt, true, sentAt).catch(core.complain_);
      for (const item of later) items.set(item.id_, item);
    },

    /** The next that fit into `room` bytes and the window; from now on they count as sent. */
    take_(room: number, count: number, isConnected: boolean): string[] {
      const texts: string[] = [];
      if (!limits || isHeld("")) return texts;
      for (const item of items.values()) {
        if (item.isSent_ || isHeld(item.stored_.packet.topic as string)) continue;
        if (now() >= deadline(item)) expire(item);
        else if (item.size_ > limits.maxPacketBytes)
          fail(item, new TriodeError("too_large", `a packet has at most ${limits.maxPacketBytes} bytes`));
        else {
          room -= item.size_ + 1;
          if (room < 0 || texts.length >= count || (item.isAcknowledged_ ? inflight >= mostInflight() : !isConnected)) break;
          texts.push(item.text_);
          if (item.isAcknowledged_) {
            item.isSent_ = true;
            inflight++;
            if (!item.sentAt_) {
              item.sentAt_ = now();
              keep(item);
            }
          } else {
            done(item);
            item.resolve_(undefined!);
          }
        }
      }
      return texts;
    },

    /** The broker has it; an answer that nobody waits for is ignored. */
    published_({ type, id, ...place }: Packet): void {
      const item = items.get(id);
      if (!item?.isSent_) return;
      holds.forEach((hold, topic) => {
        if (!topic || topic == item.stored_.packet.topic) hold.attempts_ = 0;
      });
      if (window < limits!.maxInflightPublishes) window += 1 / window;
      done(item);
      item.resolve_({
        ...place,
        messageId: item.stored_.packet.message_id as string,
        position: place.log ? { [place.log]: place.pos } : {},
      });
    },

    /** The broker refused it: act by `retry`. False: it is none of ours. */
    refused_(id: number, error: TriodeError): boolean {
      const item = items.get(id);
      if (!item?.isSent_) return false;
      const { name, retry } = error;
      unsend(item);
      item.isUnknown_ ||= name == "timeout";
      item.error_ = error;
      const renewed = retry == "reauth" && !item.isRenewed_ && core.renew_();
      if (renewed) {
        item.isRenewed_ = true;
        hold("", Infinity);
        renewed.finally(() => hold("", 0));
      } else if (retry == "backoff" || (retry == "now" && ++item.immediate_ > MOST_IMMEDIATE)) rest(item, error);
      else if (retry != "now") fail(item, error);
      return true;
    },

    /** Closed with 1009: the largest on its way is to blame, and is not sent again (SPEC 5.3.3). */
    failLargest_(): void {
      const [largest] = [...items.values()].filter((item) => item.isSent_).sort((a, b) => b.size_ - a.size_);
      if (largest) fail(largest, new TriodeError("too_large", "the broker closed the connection"));
    },

    /** The connection is gone. What is unanswered may be stored, and goes out again with its id (G2); with `error`
     * nothing will be sent any more, and what is stored beyond this page stays there. */
    detach_(error?: TriodeError): void {
      for (const item of items.values()) {
        item.isUnknown_ ||= item.isSent_;
        unsend(item);
        if (error) fail(item, error, true);
      }
      holds.clear();
    },

    /** Ends what has waited too long; when to look again. */
    tick_(): number {
      let next = Infinity;
      for (const item of items.values()) {
        if (now() >= deadline(item)) expire(item);
        else next = Math.min(next, deadline(item));
      }
      for (const { until_ } of holds.values()) if (until_ > now()) next = Math.min(next, until_);
      return next;
    },
  };
}
