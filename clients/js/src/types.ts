/**
 * The words of the client: what programs pass in and get back. Types only, no code.
 *
 * Names are those of SPEC.md in camelCase; times are milliseconds unless the name says otherwise.
 */

/** Where something stands: the last `pos` of each log. Plain JSON, so that it can be stored and passed on. */
export type Position = Readonly<Record<string, number>>;

/** What an application published, as it comes to a subscriber. */
export interface Message<T = unknown> {
  readonly type: "message";
  readonly topic: string;
  /** The payload: parsed JSON, or a `Uint8Array` when it was published as bytes. */
  readonly data: T;
  /** Its number in its topic: contiguous as long as the broker remembers the topic. */
  readonly offset: number;
  readonly log: string;
  readonly pos: number;
  /** When the broker took it: ms since 1970, by the broker's clock. */
  readonly ts: number;
  /** Who published it, as the broker knows; absent for anonymous. */
  readonly user?: string;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly messageId?: string;
  /** A compacted topic says that `key` is deleted; `data` is undefined then. */
  readonly deletesKey?: boolean;
}

/** A message that waits for an answer (`client.consume`). It comes again until somebody acknowledges it. */
export interface Delivery<T = unknown> {
  readonly type: "delivery";
  readonly message: Message<T>;
  /** Which delivery of this message it is, from 1. */
  readonly attempt: number;
  /** It is done. Resolves when the broker has noted it; rejects (`delivery_lost`) when it was taken back. */
  ack(): Promise<void>;
  /** It is not done: to be given out again after `delayMs`. */
  nack(delayMs?: number): Promise<void>;
  /** It can never be done: to the dead letters. */
  reject(): Promise<void>;
  /** It takes longer: the broker waits `ms` from now. */
  extend(ms: number): Promise<void>;
}

/** SPEC 4.6; there may be more some day. */
export type GapReason = "retention" | "slow" | "partition" | "reset" | "permission" | (string & {});

/** Messages are missing here; what follows comes after `after`. */
export interface Gap {
  readonly type: "gap";
  readonly reason: GapReason;
  readonly after: Position;
  /** The three of them where exactly one topic is concerned. */
  readonly topic?: string;
  readonly from?: number;
  readonly to?: number;
}

/** Everything the broker held for this subscription came before this; from here on it is live. */
export interface CaughtUp {
  readonly type: "caughtup";
  readonly after: Position;
}

/** Somebody on a topic. */
export interface Member<S = unknown> {
  readonly id: string;
  readonly user?: string;
  readonly state?: S;
}

/** A member is there, or has another state: one with a known id replaces what was known of it. */
export interface Joined<S = unknown> {
  readonly type: "joined";
  readonly topic: string;
  readonly member: Member<S>;
  /** It is this subscription itself. */
  readonly isSelf: boolean;
}

/** A member is gone; it may be one that was never heard of. */
export interface Left<S = unknown> {
  readonly type: "left";
  readonly topic: string;
  readonly member: Member<S>;
}

/** The subscription is over: unsubscribed, closed with its client (`error` undefined), or refused by the broker. */
export interface Ended {
  readonly type: "end";
  readonly error?: TriodeErrorLike;
}

/** What a subscription tells besides messages. */
export type SubscriptionEvents<T = unknown> = {
  message: Message<T>;
  gap: Gap;
  caughtup: CaughtUp;
  joined: Joined;
  left: Left;
  end: Ended;
};

/** What a consumer tells. */
export type ConsumerEvents<T = unknown> = {
  delivery: Delivery<T>;
  gap: Gap;
  end: Ended;
};

/** The table of states is in docs/clients.md. */
export type State = "idle" | "connecting" | "connected" | "waiting" | "closed";

/** The connection has another state. */
export interface StateChange {
  readonly type: "state";
  readonly state: State;
  /** Why the state before was left, in words, and the close code where there was one. */
  readonly reason?: string;
  readonly code?: number;
  /** Who has ended it; which of the server's codes are an operator's: docs/disconnects.md. */
  readonly initiator?: "client" | "server" | "network";
  /** waiting: until the next attempt. */
  readonly delayMs?: number;
  /** connected: the broker's name for this connection, and the node it is to. */
  readonly connection?: string;
  readonly node?: string;
}

/** The broker says what to prepare for. */
export interface Notice {
  readonly type: "notice";
  readonly draining?: boolean;
  readonly expiresInMs?: number;
}

/** More of what became of a message that was published with `trace`; `end` stands in the last one (docs/tracing.md). */
export interface Traced {
  readonly type: "traced";
  /** The same in all that is told of one message. */
  readonly id: number;
  readonly hops: readonly { readonly hop: string; readonly node: string; readonly at_us: number; readonly [more: string]: unknown }[];
  readonly end?: string;
}

/** An error that no promise can carry: of a message sent without acknowledgement, of a token that could not be had,
 * of three handshakes refused in a row (`handshakes_refused`). */
export interface Complaint {
  readonly type: "complaint";
  readonly name: string;
  readonly message: string;
  readonly field?: string;
}

/** What a client tells. `gap` is that of every subscription which has no listener of its own for it. */
export type ClientEvents = {
  state: StateChange;
  notice: Notice;
  traced: Traced;
  complaint: Complaint;
  gap: Gap & { readonly filter: string };
};

/** How to act on an error: see SPEC 6. */
export type Retry = "never" | "now" | "backoff" | "reauth" | (string & {});

/** The shape of every error of this client; the class is `TriodeError`.
 *
 * `name` is the broker's (`forbidden`, `too_large`, …) or one of the client's own: `expired` (never sent in time),
 * `unknown` (sent, and no answer came in time: it may be stored), `queue_full`, `closed`, `refused` (the broker does
 * not want this client), `delivery_lost`. */
export interface TriodeErrorLike extends Error {
  readonly name: string;
  readonly retry: Retry;
  readonly code?: number;
  readonly field?: string;
  readonly retryAfterMs?: number;
  readonly messageId?: string;
}

/** Where an acknowledged message went. A `delayed` one has no place yet. */
export interface Published {
  readonly log?: string;
  readonly pos?: number;
  readonly offset?: number;
  /** What it has reached: "memory", "disk", … */
  readonly level?: string;
  readonly duplicate?: boolean;
  readonly delayed?: boolean;
  readonly messageId: string;
  /** The place as a position, for `after`; `{}` where there is none yet. */
  readonly position: Position;
}

/** What may go with a message. */
export interface PublishOptions {
  /** Messages of one key: an order among workers, and what is kept on a compacted topic. */
  readonly key?: string;
  /** Texts beside the data. */
  readonly headers?: Readonly<Record<string, string>>;
  /** ≤ 64 bytes; made up where it is not given. The same id is stored once. */
  readonly messageId?: string;
  /** How long it is worth delivering; at most the topic's own. */
  readonly ttlMs?: number;
  /** When it is to be published: a Date, or ms since 1970 by the broker's clock. */
  readonly deliverAt?: Date | number;
  /** Have it told what becomes of it, by the event `traced`. */
  readonly trace?: boolean;
  /** How long it may wait to be sent and answered; else the client's `queue.expiryMs`. */
  readonly expiryMs?: number;
}

/** Where a subscription begins. */
export type From = "new" | "earliest" | "last" | { readonly last: number } | { readonly since: number };

/** How to subscribe. */
export interface SubscribeOptions {
  /** Default "new". */
  readonly from?: From;
  /** A stored position (`subscription.position`) to go on from, instead of `from`. */
  readonly after?: Position;
  /** What the broker does when this client reads too slowly; default "replay". */
  readonly overflow?: "replay" | "gap" | "conflate" | "disconnect";
  /** "watch": told who joins and leaves. `{state}`: seen too (one exact topic only). */
  readonly presence?: "watch" | { readonly state: unknown };
  /** false: without what this client published itself (by message id). Default true. */
  readonly echo?: boolean;
}

/** How to consume. */
export interface ConsumeOptions {
  /** The broker keeps position and acks under this name, also while nobody is there. One of `durable`, `group`. */
  readonly durable?: string;
  /** With `durable`: many clients share it. */
  readonly shared?: boolean;
  /** Members share; gone with the last of them. */
  readonly group?: string;
  /** Where it begins when it is new to the broker; default "new", and not "last". */
  readonly from?: From;
  /** How many deliveries may be unanswered at once; default 32. */
  readonly window?: number;
  /** After so long an unanswered one is given out again; else the broker's own figure. */
  readonly ackWaitMs?: number;
  /** After so many it goes to the dead letters; else the broker's own figure. */
  readonly maxAttempts?: number;
}

/** Which part of what the broker still holds of a topic. */
export interface HistoryOptions {
  /** At most one of the three; default: the newest `limit`, which is 100. */
  readonly after?: Position;
  readonly before?: Position;
  readonly last?: number;
  /** Of `after` and `before`: how many at most. */
  readonly limit?: number;
}

/** Part of what a topic still holds, in order. */
export interface HistoryPage<T = unknown> {
  readonly messages: readonly Message<T>[];
  /** There is no more; else go on with `after`. */
  readonly complete: boolean;
  readonly after: Position;
}

/** Who was on a topic when it was asked. */
export interface Presence<S = unknown> {
  readonly topic: string;
  readonly members: readonly Member<S>[];
  /** false: a node of the broker did not answer, or they are too many. */
  readonly complete: boolean;
}

/** What is published by the broker when this client is lost. */
export interface Will {
  readonly topic: string;
  readonly data: unknown;
  readonly delayMs?: number;
}

/** One publish as the queue keeps it; plain JSON. */
export interface QueuedPublish {
  /** Order of publishing: the queue gives them back by it. */
  readonly seq: number;
  /** When it is given up: ms since 1970. */
  readonly expiresAt: number;
  /** The packet without `id`: it has its `message_id` already. */
  readonly packet: Readonly<Record<string, unknown>>;
  /** When it was first sent (ms since 1970), if it was: it may be stored, and the broker knows its id for a while. */
  readonly sentAt?: number;
}

/** Keeps what waits to be acknowledged beyond the life of the page; `indexedDbQueue` (triode/offline) is one.
 * Errors it raises are complaints of the client; the queue in memory goes on. */
export interface QueueStore {
  /** What an earlier page left, oldest first; called once, before the first connection. */
  load(): Promise<readonly QueuedPublish[]>;
  /** Keep it, in place of one with its `seq`: a second time when it is first sent (`sentAt`). */
  put(item: QueuedPublish): Promise<void>;
  /** Acknowledged, refused or expired. */
  remove(seq: number): Promise<void>;
}

/** Bounds of what waits to be sent or answered, and where it waits. */
export interface QueueOptions {
  /** Messages that wait to be sent or answered; default 1,000. More: `queue_full`. */
  readonly maxMessages?: number;
  /** Default 1 MiB, as JSON text. */
  readonly maxBytes?: number;
  /** How long one may wait; default 60,000. */
  readonly expiryMs?: number;
  /** Where it outlives the page; default: nowhere. */
  readonly store?: QueueStore;
}

/** What the client needs of a WebSocket: the browser's own has it. */
export interface Socket {
  readonly readyState: number;
  /** Bytes handed over and not sent yet. */
  readonly bufferedAmount: number;
  /** What it is; default: "ws". */
  readonly transport?: TransportName;
  /** It can be written to. */
  onopen: ((event: any) => void) | null;
  /** The event has `data`. */
  onmessage: ((event: any) => void) | null;
  /** Something failed; `onclose` follows. */
  onerror: ((event: any) => void) | null;
  /** The event has `code` and `reason`. */
  onclose: ((event: any) => void) | null;
  /** One text frame. */
  send(text: string): void;
  /** `onclose` follows. */
  close(code?: number, reason?: string): void;
}

/** Dials. The default opens `new WebSocket(url, "triode.v1.json")`; `tabs()` (triode/tabs) shares one among tabs. */
export type Transport = (url: string, protocol: string) => Socket;

/** Time and chance, for tests. */
export interface Clock {
  /** ms since 1970; may jump. */
  now(): number;
  /** Returns what `clearTimeout` takes. */
  setTimeout(run: () => void, ms: number): unknown;
  /** `run` is not called any more. */
  clearTimeout(timer: any): void;
  /** 0 ≤ x < 1. */
  random(): number;
}

/** What carries a connection: a WebSocket, or server-sent events and POST requests. */
export type TransportName = "ws" | "sse";

/** Of `new Triode(url, options)`. */
export interface Options {
  /** A token, or a function that fetches one: called before each connection and ahead of expiry, one at a time. */
  readonly token?: string | (() => string | Promise<string>);
  /** Shown to the broker's operator; default "triode-js". */
  readonly name?: string;
  /** What the broker publishes when this client is lost. */
  readonly will?: Will;
  /** What waits to be published. */
  readonly queue?: QueueOptions;
  /** How to dial; default: a WebSocket. */
  readonly transport?: Transport;
  /** What may carry the connection: WebSockets, or HTTP with server-sent events. Default: both, where `transport` is not
   * given: the second only after two attempts in a row at which no WebSocket opened. */
  readonly transports?: readonly TransportName[];
  /** Bounds of what an async iterator has not taken yet: past it the subscription pauses and resumes by position. Default 1,000. */
  readonly maxInboxMessages?: number;
  /** How long a connection may take until `connected`; default 10,000. */
  readonly connectTimeoutMs?: number;
  /** How long `history`, `presence` and answers to deliveries are waited for; default 10,000. */
  readonly requestTimeoutMs?: number;
  /** For tests. */
  readonly clock?: Clock;
}

/** What has listeners. */
export interface Emitting<E extends Record<string, unknown>> {
  /** Calls `listener` for each event of that type until the function it returns is called. */
  on<K extends keyof E & string>(type: K, listener: (event: E[K]) => void): () => void;
  /** The same in the DOM's words. */
  addEventListener<K extends keyof E & string>(type: K, listener: (event: E[K]) => void): void;
  /** The listener is not called any more. */
  removeEventListener<K extends keyof E & string>(type: K, listener: (event: E[K]) => void): void;
}

/** Made by `client.subscribe`. Iterating takes messages; leaving the loop unsubscribes.
 *
 * A gap is never lost: it goes to this subscription's `gap` listeners, else to the client's, else to `console.warn`
 * (once a subscription). */
export interface Subscription<T = unknown> extends Emitting<SubscriptionEvents<T>>, AsyncIterable<Message<T>> {
  readonly filter: string;
  /** Everything up to here was handed to this program: store it and pass it as `after` to go on in a later page. */
  readonly position: Position;
  /** Whether it has caught up and gets messages as they are published. */
  readonly isLive: boolean;
  /** Resolves when the broker has it for the first time: nothing published from then on is missed. Rejects when it
   * refuses for good. */
  readonly ready: Promise<void>;
  /** Messages and gaps in order: the same inbox as plain iteration, so use one of the two. */
  events(): AsyncIterable<Message<T> | Gap | CaughtUp | Joined | Left>;
  /** End it here and at the broker. What waits to be taken is not handed out any more, and `position` is before it. */
  unsubscribe(): void;
}

/** Made by `client.consume`. Leaving the loop gives back what is not answered. */
export interface Consumer<T = unknown> extends Emitting<ConsumerEvents<T>>, AsyncIterable<Delivery<T>> {
  readonly filter: string;
  /** Resolves when the broker has taken this client as a consumer; rejects when it refuses for good. */
  readonly ready: Promise<void>;
  /** End it; what is not answered is given back. */
  unsubscribe(): void;
}

/** `new Triode(url, options)`: throws where `url` is none of a broker. http becomes ws, no path `/ws`. */
export interface TriodeConstructor {
  new (url: string | readonly string[], options?: Options): Client;
}

/** The client: `new Triode(url, options)`. `url` may be several nodes of one cluster. It connects at first use;
 * what an earlier page left in `queue.store` is one. */
export interface Client extends Emitting<ClientEvents> {
  /** Of the connection. */
  readonly state: State;
  /** What carries the present connection, or carried the last one. */
  readonly transport: TransportName | undefined;
  /** Begin to connect; resolves when connected, rejects when refused for good or closed. */
  connect(): Promise<void>;
  /** Publish: resolves when the broker has acknowledged, with the place and the level reached. Without a connection
   * it waits; after a lost one it is sent again with its `messageId`, so it is stored once. Rejects with a
   * `TriodeError` whose `name` says whether it may be stored. */
  publish(topic: string, data: unknown, options?: PublishOptions): Promise<Published>;
  /** Publish without acknowledgement: written once, lost with the connection it was written to. */
  send(topic: string, data: unknown, options?: PublishOptions): void;
  /** Delete `key` from a compacted topic. */
  deleteKey(topic: string, key: string, options?: PublishOptions): Promise<Published>;
  /** The messages of the topics that `filter` matches: `+` is one level, `#` the rest. */
  subscribe<T = any>(filter: string, listener: (message: Message<T>) => void): Subscription<T>;
  /** With options; `listener` is one of its `message` events. */
  subscribe<T = any>(
    filter: string,
    options?: SubscribeOptions,
    listener?: (message: Message<T>) => void,
  ): Subscription<T>;
  /** Messages to be acknowledged, at least once each. A `listener` acknowledges by ending well, and gives back by
   * throwing; without one, take deliveries from the loop or from `delivery` events. */
  consume<T = any>(
    filter: string,
    options: ConsumeOptions,
    listener?: (delivery: Delivery<T>) => void | Promise<void>,
  ): Consumer<T>;
  /** What the broker still holds of one topic. Asked again after a reconnect. */
  history<T = any>(topic: string, options?: HistoryOptions): Promise<HistoryPage<T>>;
  /** Who is on a topic now, whether this client subscribes to it or not. */
  presence<S = any>(topic: string): Promise<Presence<S>>;
  /** Send what is queued (at most `timeoutMs`, default 5,000), say goodbye, close. */
  close(timeoutMs?: number): Promise<void>;
}
