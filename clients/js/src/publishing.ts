/**
 * Publishes on their way: the queue, the window, acknowledgements, and what is sent again (SPEC 3.4, 8.2). Knows
 * packets and time, nothing of connections beyond "detached".
 *
 * The surprising decision: there is one list, in the order of publishing, and a publish stays at its place in it
 * until it is done. To send one again is to forget that it was sent, so nothing ever has to be put back in order.
 */
import { byteLength, spoken, type Packet } from "./codec.js";
import type { Core, Retries } from "./core.js";
import { TriodeError } from "./errors.js";
import type { Published, PublishOptions, QueuedPublish, QueueOptions } from "./types.js";

const MOST_IDS = 10_000; // of our own, remembered for `echo: false`

interface Item {
  readonly id_: number;
  readonly topic_: string;
  readonly messageId_: string;
  /** As the store has it. */
  stored_: QueuedPublish;
  readonly text_: string;
  readonly size_: number;
  readonly isAcknowledged_: boolean;
  /** On this connection, and not answered. */
  isSent_?: boolean;
  /** Sent at least once without a definite answer. */
  isUnknown_: boolean;
  /** The last refusal that allowed another try. */
  error_?: TriodeError;
  resolve_(place: Published): void;
  reject_(error: TriodeError): void;
}

export function makePublisher(
  core: Core,
  { maxMessages = 1_000, maxBytes = 1_048_576, expiryMs: defaultExpiryMs = 60_000, store }: QueueOptions,
) {
  const { now_: now } = core;
  const items = new Map<number, Item>(); // by id
  const retries = new Map<string, Retries>(); // by topic; "" = of all
  const ids = new Set<string>();
  const prefix = core.random_().toString(36).slice(2); // of the ids made here
  let limits: Packet | undefined; // unknown until the first `connected`
  let bytes = 0;
  let inflight = 0;
  let lastSeq = 0;

  const isHeld = (topic: string): boolean => retries.get(topic)?.until_! > now();

  /** What is surely not stored may be sent at any time; else only while the broker knows its id (SPEC 3.4.7). */
  const deadline = ({ isUnknown_, isSent_, stored_: { expiresAt, sentAt } }: Item): number =>
    isUnknown_ && !isSent_ && limits ? Math.min(expiresAt, sentAt! + limits.dedupeWindowMs) : expiresAt;

  const keep = ({ stored_, isAcknowledged_ }: Item): void => {
    if (store && isAcknowledged_) store.put(stored_).catch(core.complain_);
  };

  const insert = (stored_: QueuedPublish, isAcknowledged_: boolean, isNew?: boolean): Promise<Published> =>
    new Promise((resolve_, reject_) => {
      const id_ = core.id_();
      const { packet, expiresAt, sentAt } = stored_;
      const { topic: topic_, message_id: messageId_ } = packet as Record<string, string>;
      const text_ = JSON.stringify(isAcknowledged_ ? { ...packet, id: id_ } : packet);
      const size_ = byteLength(text_);
      if (isNew && (items.size >= maxMessages || bytes + size_ > maxBytes))
        throw new TriodeError("queue_full", "too much waits to be sent", { retry: "backoff" });
      if (ids.add(messageId_!).size > MOST_IDS) ids.delete([...ids][0]!);
      bytes += size_;
      const item: Item = {
        id_,
        topic_: topic_!,
        messageId_: messageId_!,
        stored_,
        text_,
        size_,
        isAcknowledged_,
        isUnknown_: !!sentAt,
        resolve_,
        reject_,
      };
      items.set(id_, item);
      if (isNew) keep(item);
      core.wake_(expiresAt);
      core.flush_();
    });

  const unsend = (item: Item): void => {
    if (item.isSent_) inflight--;
    item.isSent_ = false;
  };
  const done = (item: Item, isKept?: boolean): void => {
    unsend(item);
    items.delete(item.id_);
    bytes -= item.size_;
    if (store && item.isAcknowledged_ && !isKept) store.remove(item.stored_.seq).catch(core.complain_);
    if (!items.size) retries.clear();
  };
  const fail = (item: Item, error: TriodeError, isKept?: boolean): void => {
    done(item, isKept);
    item.reject_(
      item.isUnknown_
        ? new TriodeError("unknown", "it may be stored: " + error.message, { messageId: item.messageId_ })
        : error,
    );
  };
  const expire = (item: Item): void => {
    if (item.isSent_) item.isUnknown_ = true;
    fail(item, item.error_ ?? new TriodeError("expired", "not sent in time"));
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
    add_(topic: string, data: Packet, options: PublishOptions, isAcknowledged = true): Promise<Published> {
      const { expiryMs = defaultExpiryMs, deliverAt, messageId, ...more } = options;
      lastSeq = Math.max(lastSeq + 1, Math.floor((now() + core.random_()) * 1000)); // other pages share the store
      const packet = {
        type: "publish",
        topic,
        ...data,
        message_id: messageId ?? prefix + lastSeq.toString(36),
        deliver_at_ms: deliverAt && +deliverAt,
        ...spoken(more),
      };
      const stored = { seq: lastSeq, expiresAt: now() + expiryMs, packet };
      return insert(JSON.parse(JSON.stringify(stored)), isAcknowledged, true);
    },

    /** What an earlier page left: before everything of this one. */
    restore_(stored: readonly QueuedPublish[]): void {
      const later = [...items.values()];
      items.clear();
      for (const one of stored)
        if (!later.some((item) => item.stored_.seq == one.seq)) insert(one, true).catch(core.complain_);
      for (const item of later) items.set(item.id_, item);
    },

    /** The next that fit into `room` bytes and the window; from now on they count as sent. */
    take_(room: number, count: number, isConnected: boolean): string[] {
      const texts: string[] = [];
      if (limits && !isHeld(""))
        for (const item of items.values()) {
          if (item.isSent_ || isHeld(item.topic_)) continue;
          if (now() >= deadline(item)) expire(item);
          else if (item.size_ > limits.maxPacketBytes)
            fail(item, new TriodeError("too_large", `over ${limits.maxPacketBytes} bytes`));
          else {
            room -= item.size_ + 1;
            const isFull = item.isAcknowledged_ ? inflight >= (limits.maxInflightPublishes || 1) : !isConnected;
            if (room < 0 || texts.length >= count || isFull) break;
            texts.push(item.text_);
            if (item.isAcknowledged_) {
              item.isSent_ = true;
              inflight++;
              if (!item.stored_.sentAt) {
                item.stored_ = { ...item.stored_, sentAt: now() };
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
      for (const topic of ["", item.topic_]) if (!isHeld(topic)) retries.delete(topic);
      done(item);
      item.resolve_({
        ...place,
        messageId: item.messageId_,
        position: place.log ? { [place.log]: place.pos } : {},
      });
    },

    /** The broker refused it: act by `retry`. False: it is none of ours. */
    refused_(id: number, error: TriodeError): boolean {
      const item = items.get(id);
      if (!item?.isSent_) return false;
      unsend(item);
      if (error.name == "timeout") item.isUnknown_ = true;
      item.error_ = error;
      // Nothing is sent for a while, or nothing of its topic where only that one's store is concerned.
      const topic = /unavailable|timeout/.test(error.name) ? item.topic_ : "";
      const known = retries.get(topic) ?? {};
      retries.set(topic, known);
      if (!core.isRetried_(error, known)) fail(item, error);
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
      retries.clear();
      for (const item of items.values()) {
        if (item.isSent_) item.isUnknown_ = true;
        unsend(item);
        if (error) fail(item, error, true);
      }
    },

    /** Ends what has waited too long; when to look again. */
    tick_(): number {
      let next = Infinity;
      for (const item of items.values()) {
        if (now() >= deadline(item)) expire(item);
        else next = Math.min(next, deadline(item));
      }
      for (const { until_ } of retries.values()) if (until_! > now()) next = Math.min(next, until_!);
      return next;
    },
  };
}
