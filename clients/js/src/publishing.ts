/**
 * Publishes on their way: the queue, the window, acknowledgements, and what is sent again (SPEC 3.4, 8.2). Knows
 * packets and time, nothing of connections beyond "detached".
 *
 * The surprising decision: there is one list, in the order of publishing, and a publish stays at its place in it
 * until it is done. To send one again is to forget that it was sent, so nothing ever has to be put back in order.
 */
import { byteLength, snapshot, spoken, toText, type Packet } from "./codec.js";
import type { Complain, IsRetried, Later, NextId, Now, Retries } from "./core.js";
import { TriodeError } from "./errors.js";
import type { Published, PublishOptions, QueuedPublish, QueueOptions } from "./types.js";

const MOST_IDS = 10_000; // of our own, remembered for `echo: false`

interface Item {
  readonly seq: number;
  readonly expiresAt: number;
  readonly packet: Packet;
  /** Since when it may be stored: the broker forgets message ids some time after (G2). Undefined: surely it is not. */
  sentAt?: number | undefined;
  readonly id_: number;
  readonly text_: string;
  readonly size_: number;
  readonly isAcknowledged_: boolean;
  /** On this connection, and not answered. */
  isSent_?: boolean;
  /** … and it may have been stored before. */
  wasSent_?: boolean;
  /** The last refusal that allowed another try. */
  error_?: TriodeError;
  /** It need not expire any more. */
  stop_(): void;
  resolve_(place: Published): void;
  reject_(error: TriodeError): void;
}

export function makePublisher(
  now: Now,
  later: Later,
  random: () => number,
  nextId: NextId,
  flush: () => void,
  complain: Complain,
  isRetried: IsRetried,
  { maxMessages = 1_000, maxBytes = 1_048_576, expiryMs: defaultExpiryMs = 60_000, store }: QueueOptions,
) {
  const items = new Map<number, Item>(); // by id
  const retries = new Map<string, Retries & { isHeld_?: boolean }>(); // by topic; "" = of all
  const ids = new Set<string>();
  const prefix = random().toString(36).slice(2); // of the ids made here
  let limits: Packet | undefined; // unknown until the first `connected`
  let bytes = 0;
  let inflight = 0;
  let lastSeq = 0;

  const isHeld = (topic: string): boolean | undefined => retries.get(topic)?.isHeld_;

  const keep = ({ seq, expiresAt, packet, sentAt, isAcknowledged_ }: Item): void => {
    if (store && isAcknowledged_) store.put({ seq, expiresAt, packet, sentAt } as QueuedPublish).catch(complain);
  };

  const insert = (stored: Pick<Item, "seq" | "expiresAt" | "packet">, isAcknowledged_: boolean, isNew?: boolean): Promise<Published> =>
    new Promise((resolve_, reject_) => {
      const id_ = nextId();
      const { packet, expiresAt } = stored;
      const text_ = toText(isAcknowledged_ ? { ...packet, id: id_ } : packet);
      const size_ = byteLength(text_);
      if (isNew && (items.size >= maxMessages || bytes + size_ > maxBytes))
        throw new TriodeError("queue_full", "too much waits", { retry: "backoff" });
      if (ids.add(packet.message_id).size > MOST_IDS) ids.delete(ids.values().next().value!);
      bytes += size_;
      const stop_ = later(expiresAt - now(), () => expire(item));
      const item: Item = { ...stored, id_, text_, size_, isAcknowledged_, resolve_, reject_, stop_ };
      items.set(id_, item);
      if (isNew) keep(item);
      flush();
    });

  const unsend = (item: Item): void => {
    if (item.isSent_) inflight--;
    item.isSent_ = false;
  };
  const done = (item: Item, isKept?: boolean): void => {
    unsend(item);
    item.stop_();
    items.delete(item.id_);
    bytes -= item.size_;
    if (store && item.isAcknowledged_ && !isKept) store.remove(item.seq).catch(complain);
  };
  const fail = (item: Item, error: TriodeError, isKept?: boolean): void => {
    done(item, isKept);
    item.reject_(
      item.sentAt
        ? new TriodeError("unknown", "it may be stored: " + error.message, { messageId: item.packet.message_id })
        : error,
    );
  };
  const expire = (item: Item): void => fail(item, item.error_ ?? new TriodeError("expired", "not sent in time"));
  /** The broker says that it has not stored it: surely not this time. */
  const denied = (item: Item): void => {
    if (!item.wasSent_) item.sentAt = undefined;
  };

  /** Queue one; `data` is its payload, and without any it deletes its key. Without acknowledgement it is done once it
   * is written. Throws `queue_full`. */
  const add = (topic: string, data: Packet | undefined, options: PublishOptions, isAcknowledged: boolean): Promise<Published> => {
    const { expiryMs = defaultExpiryMs, deliverAt, messageId, ...more } = options;
    lastSeq = Math.max(lastSeq + 1, Math.floor((now() + random()) * 1000)); // other pages share the store
    const packet = {
      type: "publish",
      topic,
      ...data,
      message_id: messageId ?? prefix + lastSeq.toString(36),
      deliver_at_ms: deliverAt && +deliverAt,
      ...spoken(more),
    };
    const stored = { seq: lastSeq, expiresAt: now() + Math.min(expiryMs, 1e12), packet }; // JSON has no Infinity
    return insert(snapshot(stored), isAcknowledged, true);
  };

  /** What an earlier page left: before everything of this one. */
  const restore = (stored: readonly QueuedPublish[]): void => {
    const later = [...items.values()];
    items.clear();
    for (const one of stored) if (!later.some(({ seq }) => seq == one.seq)) insert(one, true).catch(complain);
    for (const item of later) items.set(item.id_, item);
  };

  /** The next that fit into `room` bytes and the window; from now on they count as sent. */
  const take = (room: number, count: number, isConnected: boolean): string[] => {
    const texts: string[] = [];
    if (limits && !isHeld(""))
      for (const item of items.values()) {
        if (item.isSent_ || isHeld(item.packet.topic)) continue;
        // What may be stored is sent again only while the broker knows its id (SPEC 3.4.7).
        if (now() >= item.sentAt! + limits.dedupeWindowMs) expire(item);
        else if (item.size_ > limits.maxPacketBytes)
          fail(item, new TriodeError("too_large", "over " + limits.maxPacketBytes));
        else {
          room -= item.size_ + 1;
          const isFull = item.isAcknowledged_ ? inflight >= (limits.maxInflightPublishes || 1) : !isConnected;
          if (room < 0 || texts.length >= count || isFull) break;
          texts.push(item.text_);
          if (item.isAcknowledged_) {
            item.isSent_ = true;
            inflight++;
            item.wasSent_ = !!item.sentAt;
            if (!item.sentAt) {
              item.sentAt = now();
              keep(item);
            }
          } else {
            done(item);
            item.resolve_(undefined!);
          }
        }
      }
    return texts;
  };

  /** The broker has it; an answer that nobody waits for is ignored. */
  const published = ({ type, id, ...place }: Packet): void => {
    const item = items.get(id);
    if (!item?.isSent_) return;
    const { topic, message_id: messageId } = item.packet;
    for (const each of ["", topic]) if (!isHeld(each)) retries.delete(each);
    done(item);
    item.resolve_({ ...place, messageId, position: place.log ? { [place.log]: place.pos } : {} });
  };

  /** The broker refused it: act by `retry`. False: it is none of ours. */
  const refused = (id: number, error: TriodeError): boolean => {
    const item = items.get(id);
    if (!item?.isSent_) return false;
    unsend(item);
    if (error.name != "timeout") denied(item);
    item.error_ = error;
    // Nothing is sent for a while, or nothing of its topic where only that one's store is concerned.
    const topic = /unavailable|timeout/.test(error.name) ? item.packet.topic : "";
    const known = retries.get(topic) ?? { attempts_: 0 };
    const again = () => {
      known.isHeld_ = false;
      flush();
    };
    // One of many refused together, or the first.
    if ((known.isHeld_ && /now|backoff|reauth/.test(error.retry)) || isRetried(error, known, again)) {
      known.isHeld_ = true;
      retries.set(topic, known);
    } else fail(item, error);
    return true;
  };

  /** Closed with 1009: the largest on its way is to blame, and is not sent again (SPEC 5.3.3). */
  const failLargest = (): void => {
    const [largest] = [...items.values()].filter(({ isSent_ }) => isSent_).sort((a, b) => b.size_ - a.size_);
    if (!largest) return;
    denied(largest);
    fail(largest, new TriodeError("too_large", "closed with 1009"));
  };

  /** The connection is gone. What is unanswered may be stored, and goes out again with its id (G2); with `error`
   * nothing will be sent any more, and what is stored beyond this page stays there. */
  const detach = (error?: TriodeError): void => {
    retries.clear();
    for (const item of items.values()) {
      unsend(item);
      if (error) fail(item, error, true);
    }
  };

  const setLimits = (announced: Packet): void => void (limits = announced);
  return [add, take, published, refused, items, ids, setLimits, restore, failLargest, detach] as const;
}
