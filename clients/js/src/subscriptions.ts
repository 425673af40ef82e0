/**
 * The subscriptions of a client: rules R1–R7 of the protocol (SPEC 4), listeners, an inbox to iterate over, resuming;
 * and the acknowledged kind, consumers (SPEC 9). Knows packets and time, no transport.
 *
 * The surprising decision: the inbox is used by those who iterate, or do not listen yet. Listeners are called as
 * messages come. An inbox that is full stops nothing: the subscription is ended at the broker and asked for again,
 * by position, once half of it is taken.
 */
import { advance, convert, copy, moved, spoken, toText, type Packet } from "./codec.js";
import { makeDeliveries } from "./consumer.js";
import type { Ask, Complain, Emit, IsRetried, NextId, Put, Retries } from "./core.js";
import { makeEmitter, report } from "./emitter.js";
import { refusal, type TriodeError } from "./errors.js";
import { pattern } from "./topics.js";
import type { Delivery } from "./types.js";

const MOST_NACK_MS = 30_000;

/** A subscription as the client keeps it. */
interface Kept {
  receive_(packet: Packet): void;
  /** There is a connection: ask, unless it waits for something else. */
  attach_(): void;
  detach_(): void;
  /** An `error`. False: it is not about asking for this one. */
  refused_(id: number, sub: number, error: TriodeError): boolean;
  end_(error?: TriodeError): void;
}

/** [whether it wants more than messages, resolve, reject] */
type Waiter = readonly [boolean, (result: IteratorResult<any>) => void, (error: unknown) => void];

export function makeSubscriptions(
  nextId: NextId,
  put: Put,
  ask: Ask,
  isRetried: IsRetried,
  ownIds: ReadonlySet<string>, // of the messages that this client published
  complain: Complain,
  emitFromClient: Emit,
  maxInbox: number,
) {
  const all = new Set<Kept>(); // in the order of subscribing
  const numbered = new Map<number, Kept>(); // on this connection
  let isAttached = false;
  let lastNumber = 0; // SPEC 3.2.1

  /** `isConsumer`: it gives deliveries, not messages. `work` is called for each; its success is an ack. `use` throws
   * where the client is closed. */
  const begin = (
    use: () => void,
    filter: string,
    options: Packet,
    isConsumer: boolean,
    work?: (delivery: Delivery) => unknown,
  ) => {
    const kind = isConsumer ? "delivery" : "message";
    const { echo, ...wishes } = spoken(isConsumer ? { window: 32, ...options } : options);
    const { window, after, presence } = wishes;
    const topics = pattern(filter);
    let number = 0; // `sub` on this connection; 0 = none
    let round = 0; // `id` of the last `subscribe`
    let isAsked = false;
    let isPaused = false; // its inbox was full
    let isEnded = false;
    let retries: Retries = { attempts_: 0 };
    let hasWarned = false;

    let position = copy(after); // R1, R4: everything up to here is in the inbox or was
    let hasPosition = !!after;
    let isSnapshot = wishes.from == "last"; // before its first `caught_up`
    let snapshot = copy(); // what came of it so far
    let skip = copy(); // … and was in the inbox before that was full

    let inbox: any[] = [];
    let taken = position; // like `position`, of what the program took out
    const waiters: Waiter[] = [];
    let isIterated = false;
    let isAll = false; // … by `events()`: it sees its gaps
    let running = 0; // calls of `work`
    let ending: TriodeError | undefined;

    let settle!: (error?: TriodeError) => void;
    const ready = new Promise<void>((resolve, reject) => (settle = (error) => (error ? reject(error) : resolve())));
    ready.catch(() => {}); // who does not wait for it learns of it from `end`

    // The program's side

    const [listening, emit, has] = makeEmitter(() => queueMicrotask(() => pump()));

    const take = (): any => {
      const item = inbox.shift();
      if (item) taken = moved(taken, item);
      return item;
    };

    /** The items of the inbox to those who wait for them. */
    const pump = (): void => {
      while (inbox[0] && work && running < window) void run(inbox.shift());
      while (inbox[0] && !isIterated && !isEnded && has(kind)) {
        const item = take();
        if (item.type == kind) emit(item);
      }
      while (waiters[0] && (inbox[0] || isEnded)) {
        const value = take();
        const [isAll, resolve, reject] = waiters[0];
        if (value && !isAll && value.type != kind) continue;
        waiters.shift();
        if (value || !ending) resolve({ done: !value, value });
        else reject(ending);
        if (!value) ending = undefined;
      }
      if (isPaused && inbox.length * 2 <= maxInbox) {
        isPaused = false;
        attach_();
      }
    };

    const run = async (delivery: Delivery): Promise<void> => {
      running++;
      try {
        await work!(delivery);
        delivery.ack();
      } catch (error) {
        report(error);
        delivery.nack(Math.min(250 * 2 ** delivery.attempt, MOST_NACK_MS)); // or it would come, and fail, at once
      }
      running--;
      pump();
    };

    const iterate = (isAllWanted: boolean): AsyncIterableIterator<any> => {
      isIterated = true;
      isAll ||= isAllWanted;
      return {
        [Symbol.asyncIterator]() {
          return this;
        },
        next: () =>
          new Promise((...both) => {
            waiters.push([isAllWanted, ...both]);
            pump();
          }),
        async return() {
          self.unsubscribe();
          return { done: true, value: undefined };
        },
      };
    };

    /** One item for the program: a message, a gap, … True if somebody listened. */
    const hand = (item: Packet): boolean => {
      const isFirst = !inbox[0];
      const isKept = isIterated || !isFirst || !has(kind);
      if (isKept && isFirst) taken = copy(position);
      position = moved(position, item);
      const isHeard = (isFirst || isIterated || item.type != kind) && emit(item); // or it goes behind those that wait
      if (isKept) {
        inbox.push(item);
        pump();
        if (inbox.length >= maxInbox && number) {
          leave(true);
          isPaused = true;
          skip = snapshot;
        }
      }
      return isHeard || isAll;
    };

    // What the broker is asked

    const attach_ = (): void => {
      if (number || isPaused || isEnded || !isAttached) return;
      isAsked = true;
      number = ++lastNumber;
      round = nextId();
      numbered.set(number, kept);
      const start = hasPosition && !isSnapshot ? { from: undefined, after: position } : { after: undefined }; // R7
      put({ type: "subscribe", id: round, sub: number, filter, ...wishes, ...start });
    };

    /** It is not on the connection any more. */
    const leave = (isTold?: boolean): void => {
      if (number && isTold) put({ type: "unsubscribe", id: nextId(), sub: number });
      numbered.delete(number);
      number = round = 0;
      isAsked = self.isLive = false;
      if (isConsumer) inbox = [];
    };

    const end_ = (error?: TriodeError): void => {
      if (isEnded) return;
      leave(!error);
      isEnded = true;
      ending = error;
      all.delete(kept);
      settle(error);
      const isHeard = emit({ type: "end", error }) || isIterated;
      if (error && !isHeard) complain(error);
      pump();
    };

    const refuse = (error: TriodeError): void => {
      leave();
      if (!isRetried(error, retries, attach_)) end_(error);
    };

    // What the broker says

    /** To those who listen to it, or else to somebody: it cannot be missed. */
    const tellGap = (gap: Packet): void => {
      if ((isConsumer ? emit : hand)(gap) || emitFromClient({ ...gap, filter }) || hasWarned) return;
      hasWarned = true;
      console.warn(`triode: ${gap.reason} gap in ${filter} (listen to "gap")`);
    };

    const tellMessage = (message: Packet): void => {
      const { log, pos, messageId } = message;
      if (!(log in position)) tellGap({ type: "gap", reason: "reset", after: { ...position } }); // R6
      if (echo == false && ownIds.has(messageId)) advance(position, log, pos);
      else hand(message);
    };

    const deliver = makeDeliveries(
      ask,
      () => round,
      // Among members the later messages of its key are taken back with it (SPEC 9.5.3).
      ({ topic, key, pos }) => {
        if (key && (wishes.shared || wishes.group))
          inbox = inbox.filter(({ message }) => message.key != key || message.topic != topic || message.pos <= pos);
      },
    );

    const receive_ = (packet: Packet): void => {
      const { type, after, at, topic, log, pos, sub, member } = packet;
      if (type == "message") {
        // R3
        if (self.isLive && topics.test(topic) && !(position[log]! >= pos)) tellMessage(packet);
      } else if (type == "delivery") {
        const message: any = convert(packet.message, "message");
        const { log, pos } = message;
        if (isConsumer) {
          // Each message once, no more than the window: what has to go comes again.
          inbox = inbox.filter((one) => one.message.log != log || one.message.pos != pos);
          if (inbox.length >= window) inbox.shift();
          inbox.push(deliver(number, message, packet.attempt));
          pump();
        } else if (!isSnapshot || !(skip[log]! >= pos)) {
          if (isSnapshot) advance(snapshot, log, pos);
          tellMessage(message); // R2
        }
      } else if (type == "gap") {
        delete packet.sub;
        tellGap(packet);
      } else if (/joined|left/.test(type)) {
        if (sub || (presence && !isAsked && topics.test(topic))) hand({ type, topic, member, isSelf: !!sub });
      } else if (type == "unsubscribed") refuse(refusal(packet));
      else if (type == "ping") {
        // R4
        for (const log in position) if (self.isLive && at?.[log]) advance(position, log, at[log]);
      } else if (/^sub|_up/.test(type)) {
        // subscribed, catching_up, caught_up
        self.isLive = false;
        if (type == "subscribed") {
          isAsked = false;
          retries = { attempts_: 0 };
          settle();
        }
        if (isConsumer) return; // the broker keeps its position
        hasPosition = true;
        position = copy(after); // R1
        if (packet.live || type == "caught_up") {
          self.isLive = true;
          isSnapshot = false;
          hand({ type: "caughtup", after: { ...position } });
        }
      }
    };

    const kept: Kept = {
      receive_,
      attach_,
      end_,
      detach_(): void {
        leave();
          snapshot = copy();
        skip = copy();
      },
      refused_(id, sub, error): boolean {
        const isOurs = isAsked && (id == round || sub == number);
        if (isOurs) refuse(error);
        return isOurs;
      },
    };
    const self = {
      ...listening,
      filter,
      ready,
      isLive: false,
      get position() {
        return { ...(inbox[0] ? taken : position) };
      },
      events: () => iterate(true),
      [Symbol.asyncIterator]: () => iterate(false),
      /** What nobody took counts as not had. Of a consumer the acknowledgements of this turn leave first. */
      unsubscribe(): void {
        position = self.position;
        inbox = [];
        if (isConsumer) queueMicrotask(end_);
        else end_();
      },
    };
    try {
      use();
      toText([filter, wishes]);
      all.add(kept);
      attach_();
    } catch (error) {
      end_(error as TriodeError);
    }
    return self;
  };

  const receive = (packet: Packet): void => {
    if (packet.sub) numbered.get(packet.sub)?.receive_(packet); // R5
    else for (const each of numbered.values()) each.receive_(packet);
  };
  const attach = (): void => {
    isAttached = true;
    lastNumber = 0;
    for (const each of all) each.attach_();
  };
  const detach = (): void => {
    isAttached = false;
    for (const each of all) each.detach_();
  };
  const close = (error?: TriodeError): void => {
    for (const each of all) each.end_(error);
  };
  /** An `error`. True: it was about one of ours, or about a number that is gone (R5). */
  const refused = (id: number, sub: number, error: TriodeError): boolean =>
    [...numbered.values()].some((each) => each.refused_(id, sub, error)) || (!!sub && !numbered.has(sub));
  return [begin, receive, refused, attach, detach, close] as const;
}
