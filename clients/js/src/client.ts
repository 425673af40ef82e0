/**
 * The client: what programs call, and the states of its connection (SPEC 5.4).
 *
 *     state       leaves for
 *     idle        connecting first use · closed close
 *     connecting  connected  `connected` · waiting lost, refused, timeout · closed refused for good, close
 *     connected   waiting    lost, bye, silence, broken packets · closed stop code, goodbye said, close
 *     waiting     connecting the pause is over, back online · closed close
 *     closed      nothing
 *
 * The surprising decision: nothing here waits. Every call, packet and timer changes what is kept, and once a turn
 * `write` sends whatever that has brought about.
 */
import { byteLength, convert, decode, payload, snapshot, spoken, toText, type Packet } from "./codec.js";
import type { Complain, IsRetried, Put } from "./core.js";
import { makeEmitter } from "./emitter.js";
import { refusal, TriodeError } from "./errors.js";
import { makePublisher } from "./publishing.js";
import { makeRequests } from "./requests.js";
import { makeRoute } from "./route.js";
import { makeSubscriptions } from "./subscriptions.js";
import { clamp, makeTime } from "./time.js";
import type { Options, Socket, State, Transport } from "./types.js";

declare const VERSION: string;
declare const FALLBACK: string; // where the fallback's script is, by kind of build

const FLIGHT_BYTES = 61_440; // written before `connected`: a broker reads 64 KiB until then (SPEC 1.11)
const MOST_UNSENT_BYTES = 1_048_576; // in the WebSocket: more waits here
const MOST_UNWRITTEN = 65_536; // packets: a broker that sends on without reading our answers is dropped
const MOST_PACKETS = 4_096; // of one array (SPEC 1.5)
const STABLE_MS = 5_000; // a connection that lived so long was a good one
const LATE_MS = 1_000; // a timer that fires later proves that we slept
const PROBE_MS = 5_000; // for the answer to a ping
const TOO_BIG = 1009;
const WAKING = ["online", "offline", "pageshow", "resume", "visibilitychange"];

type Next = "never" | "now" | "backoff";

/** What a close code asks for, in the words of `retry` (SPEC 5.3.2). */
const action = (code = 0): Next => (/^40/.test(code as any) ? "never" : /^42/.test(code as any) ? "now" : "backoff");

export function Client(
  this: object,
  urls: string | readonly string[],
  {
    token,
    name = "triode-js",
    will,
    queue = {},
    transport,
    transports = transport ? ["ws"] : ["ws", "sse"],
    maxInboxMessages = 1_000,
    connectTimeoutMs = 10_000,
    requestTimeoutMs = 10_000,
    clock = { now: Date.now, setTimeout, clearTimeout, random: Math.random },
  }: Options = {},
) {
  let state: State = "idle";
  let socket: Socket | undefined;
  let attempt = 0; // which one may still dial
  let fallback: Transport | undefined; // once it was needed, and loaded
  let stopTimer = (): void => {}; // of the state: the end of waiting, of patience with an attempt, or with silence
  let isAsked = false; // the broker asked for the wait
  let room = 0; // bytes of the next text; 0 = not now
  let texts: string[] = []; // what waits to be written besides publishes
  let isScheduled = false;
  let lastId = 0;
  let connection: string | undefined; // the broker's name for the present or last one
  let connectId = 0;
  let connectedAt = 0;
  let refused = 0; // handshakes in a row
  let hasWarned = false;

  let heardAt = 0;
  let isHeard = false; // since it was asked for a sign of life
  let silence = 0; // how much of it is death

  let connectToken: unknown;
  let fetching: Promise<unknown> | undefined;
  let renewing: Promise<unknown> | undefined;
  let stopRenewing = (): void => {};
  let hasRenewed = false;
  let loading: Promise<unknown> | undefined;

  let error: TriodeError | undefined; // why it is closed, or is about to be
  let opening: (readonly [() => void, (error: unknown) => void])[] = [];
  let setClosed: () => void;
  const ending = new Promise<void>((resolve) => (setClosed = resolve));
  const closed = new TriodeError("closed", "the client is closed");
  const dial: Transport = transport ?? ((url, protocol) => new WebSocket(url, protocol));
  // Handshakes refused in a row before another way is tried.
  const patience = /sse/.test(transports as any) ? +/ws/.test(transports as any) : Infinity;

  const [listening, emit] = makeEmitter();
  const [now, later, pause, random, setBounds, stop] = makeTime(clock);

  const nextId = (): number => ++lastId;
  const put: Put = (packet) => {
    if (texts.push(JSON.stringify(packet)) > MOST_UNWRITTEN) throw Error("it does not read");
    flush();
  };
  /** Write at the end of this turn. */
  const flush = (): void => {
    if (!isScheduled) queueMicrotask(write);
    isScheduled = true;
  };
  const isRetried: IsRetried = ({ retry, retryAfterMs }, retries, again) => {
    if (retry == "reauth" && !retries.isRenewed_) {
      retries.isRenewed_ = true;
      return !!renew()?.finally(again);
    }
    if (!/now|backoff/.test(retry)) return false;
    later(pause(retry == "now" && !retries.attempts_ ? -Infinity : retries.attempts_, retryAfterMs), again);
    retries.attempts_++;
    return true;
  };
  const complain: Complain = (error: any) => {
    const { name = "error", message = String(error), field } = error ?? {};
    if (emit({ type: "complaint", name, message, field }) || hasWarned) return;
    hasWarned = true;
    console.warn(`triode: ${name}: ${message} (more: "complaint" events)`);
  };
  const [nextUrl, leave, resetRoute, routeSize] = makeRoute(urls, random, pause);
  const [publish, takePublishes, published, refusePublish, publishes, ownIds, setLimits, restore, failLargest, detachPublisher] =
    makePublisher(now, later, random, nextId, flush, complain, isRetried, queue);
  const [ask, settle, attachRequests, detachRequests] = makeRequests(later, nextId, put, requestTimeoutMs);
  const [begin, receiveForSubscriptions, refuseSubscription, attachSubscriptions, detachSubscriptions, closeSubscriptions] =
    makeSubscriptions(nextId, put, ask, isRetried, ownIds, complain, emit, maxInboxMessages);

  // Connecting

  const enter = (next: State, more?: Packet): void => {
    self.state = state = next;
    emit({ type: "state", state, ...more });
  };

  /** It is to be used: connect, at first use. Throws when it is closed. */
  const use = (): void => {
    if (error) throw error;
    if (state != "idle") return;
    loading = loading?.catch(complain);
    listen("addEventListener");
    connect();
  };

  const connect = async (): Promise<void> => {
    const mine = ++attempt;
    const url = nextUrl();
    stopTimer = later(connectTimeoutMs, () => depart("no answer"));
    enter("connecting");
    try {
      connectToken = await fetch();
      await loading;
      if (refused >= patience) fallback ??= (await import(FALLBACK).catch(() => {}))?.default(dial, !patience, now, later, connectTimeoutMs);
      if (mine == attempt) open((socket = (fallback ?? dial)(url, "triode.v1.json")), url);
    } catch (error) {
      complain(error);
      if (mine == attempt) depart(String(error));
    }
  };

  /** The token; one call of the program's function at a time. */
  const fetch = (): Promise<unknown> =>
    (fetching ??= Promise.resolve()
      .then(() => (typeof token == "function" ? token() : token))
      .finally(() => (fetching = undefined)));

  const open = (mine: Socket, url: string): void => {
    mine.onopen = opened;
    mine.onmessage = ({ data }) => {
      heardAt = now();
      isHeard = true;
      try {
        for (const packet of decode(data)) if (socket == mine) receive(packet);
      } catch (error) {
        depart("broken packet: " + (error as Error).message);
      }
      flush();
    };
    mine.onclose = ({ code, reason }) => {
      depart(reason || (state == "connected" ? "connection lost" : "could not connect to " + url), code);
    };
    mine.onerror = () => {}; // a close follows
  };

  /** `connect`, all resumes and all publishes leave in one flight. */
  const opened = (): void => {
    room = FLIGHT_BYTES;
    texts = [];
    put({
      type: "connect",
      id: (connectId = nextId()),
      token: connectToken,
      client: { name, version: VERSION },
      capabilities: ["batch"],
      replaces: connection,
      resume: !!connection,
      will: will && spoken({ ...will, data: undefined, ...payload(will.data) }),
    });
    attachSubscriptions();
    attachRequests();
    write();
  };

  // What the broker says

  const receive = (packet: Packet): void => {
    const { type, id, code, name } = packet;
    if (state != "connected" && !/^(connected|error|bye|notice|p.ng)$/.test(type)) throw Error(type);
    if (type == "connected") connected(packet);
    else if (type == "error") refuse(packet);
    else if (type == "bye") depart("goodbye: " + name, code, packet.reconnectAfterMs, action(code), packet.urls);
    else if (/^(notice|traced)$/.test(type)) {
      expires(packet.expiresInMs);
      emit(packet);
    } else if (type == "published") published(packet);
    else if (!settle(id, packet)) {
      if (type == "ping") put({ type: "pong" });
      receiveForSubscriptions(packet);
    }
  };

  const connected = (packet: Packet): void => {
    const limits = convert(packet.limits, "limits");
    if (state == "connected" || packet.protocol != 1) throw Error("connected");
    connection = packet.connection;
    setLimits(limits);
    room = clamp(limits.maxFrameBytes, limits.maxPacketBytes + 3, 2 ** 24);
    setBounds(convert(packet.reconnect, "reconnect"));
    silence = 2 * clamp(packet.pingMs, 100, 3_600_000);
    connectedAt = heardAt;
    refused = 0;
    hasRenewed = false;
    stopTimer();
    watch(silence);
    expires(packet.expiresInMs);
    self.transport = socket!.transport ?? "ws";
    enter("connected", { connection, node: packet.node });
    for (const [resolve] of opening.splice(0)) resolve();
  };

  const refuse = (packet: Packet): void => {
    const { id, sub, name, message, retry, retryAfterMs } = packet;
    const error = refusal(packet);
    if (id && id == connectId) {
      const isRenewable = retry == "reauth" && typeof token == "function" && !hasRenewed;
      hasRenewed ||= isRenewable;
      depart(`${name}: ${message}`, undefined, retryAfterMs, isRenewable ? "now" : retry);
    } else if (
      !refusePublish(id, error) &&
      !settle(id, undefined, error) &&
      !refuseSubscription(id, sub, error)
    )
      complain(error);
  };

  /** Get a new token and tell the broker, one at a time; undefined where there is none to get. */
  const renew = (): Promise<unknown> | undefined => {
    if (typeof token != "function") return;
    const mine = attempt;
    return (renewing ??= fetch()
      .then((token) => {
        if (mine == attempt) return ask({ type: "auth", token }).then((answer) => expires(answer.expiresInMs));
      })
      .catch((error) => {
        complain(error);
        if (mine == attempt && error?.retry != "never") expires(12_500); // again in ten seconds
      })
      .finally(() => (renewing = undefined)));
  };

  /** The token is good for so long: get the next one in time. */
  const expires = (ms?: number): void => {
    if (ms === undefined) return;
    stopRenewing();
    stopRenewing = later(Math.max(1_000, ms * 0.8, ms - 30_000), renew);
  };

  // What goes out

  const write = (): void => {
    isScheduled = false;
    const isConnected = state == "connected";
    while (room) {
      if (socket!.bufferedAmount > MOST_UNSENT_BYTES) {
        isScheduled = true;
        later(100, write);
        return;
      }
      let left = room - 2; // brackets
      let count = 0;
      for (const text of texts) {
        left -= byteLength(text) + 1;
        if (count == MOST_PACKETS || (left < 0 && count)) break;
        count++;
      }
      const written = texts.splice(0, count);
      if (!texts[0]) written.push(...takePublishes(left, MOST_PACKETS - count, isConnected));
      if (!written[0]) break;
      socket!.send(written[1] ? `[${written}]` : written[0]);
      if (!isConnected) room = 0;
    }
    if (!publishes.size) finish();
  };

  // Whether the broker is still there: silence for two ping intervals means it is not (SPEC 1.15)

  /** Look in `ms` whether it was heard. */
  const watch = (ms: number, isProbe?: boolean): void => {
    const at = now() + ms;
    stopTimer = later(ms, () => {
      const left = silence - Math.abs(now() - heardAt); // a clock may be set back
      if (isProbe ? isHeard : left > 0) watch(left);
      // A timer that fired late: we were asleep (a suspended laptop, a tab in the background), so ask first.
      else if (!isProbe && now() - at > LATE_MS) probe();
      else depart("no sign of life");
    });
  };

  /** Ask for a sign of life. */
  const probe = (): void => {
    isHeard = false;
    put({ type: "ping", id: nextId() });
    stopTimer();
    watch(Math.min(PROBE_MS, silence), true);
  };

  const listen = (how: "addEventListener" | "removeEventListener"): void => {
    for (const type of WAKING) globalThis[how]?.(type, awake, true);
  };

  /** The machine woke up, or its network changed: neither believe nor doubt the connection, look. */
  const awake = (): void => {
    if (state == "connected") probe();
    else if (state == "waiting" && !isAsked && globalThis.navigator?.onLine != false) {
      stopTimer();
      connect();
    }
  };

  // Leaving

  /** The present connection or attempt is over; `next` is what comes then. */
  const depart = (reason: string, code?: number, asked?: number, said?: Next, urls?: string[]): void => {
    const wasConnected = state == "connected";
    const why = { reason, code, initiator: code! > 1006 ? "server" : "network" };
    const next = said ?? action(code);
    isAsked = !!said || code! > 1006;
    if (code == TOO_BIG) failLargest();
    if (!/now|backoff/.test(next)) return end(new TriodeError("refused", reason, why), why);
    detach();
    if (wasConnected && now() - connectedAt >= STABLE_MS) resetRoute();
    const delayMs = leave(next == "now", code, asked, urls, wasConnected, isAsked);
    stopTimer = later(delayMs, connect);
    enter("waiting", { ...why, delayMs });
    // One node of several that is away is no news.
    if (!wasConnected && ++refused == Math.max(3, routeSize))
      complain(new TriodeError("handshakes_refused", refused + " in a row: " + reason));
  };

  const detach = (code?: number): void => {
    const mine = socket;
    socket = undefined;
    room = 0;
    attempt++;
    texts = [];
    stopTimer();
    stopRenewing();
    loading = undefined;
    detachPublisher();
    detachSubscriptions();
    detachRequests(new TriodeError("delivery_lost", "connection lost"));
    if (!mine) return;
    mine.onopen = mine.onmessage = mine.onclose = null;
    mine.close(code);
  };

  /** If the program wants to: say goodbye and close. */
  const finish = (): void => {
    if (!error || state == "closed") return;
    if (state == "connected") socket!.send('{"type":"disconnect"}');
    end(undefined, { reason: "close() was called", initiator: "client" });
  };

  const end = (refused?: TriodeError, why?: Packet): void => {
    error = refused ?? closed;
    detach(1000);
    stop();
    listen("removeEventListener");
    detachPublisher(error);
    detachRequests(error, true);
    closeSubscriptions(refused);
    enter("closed", why);
    for (const [, reject] of opening) reject(error);
    setClosed();
  };

  // What programs ask for

  const add = async (topic: string, options: object = {}, isAcknowledged: boolean, ...data: unknown[]) => {
    use();
    return publish(topic, data.map(payload)[0], options, isAcknowledged);
  };

  const read = async (packet: Packet): Promise<Packet> => {
    use();
    toText(packet);
    const { type, id, ...answer } = await ask(packet, true);
    return answer;
  };

  const self = Object.assign(this, listening, {
    state: "idle" as State,
    transport: undefined as string | undefined,
    async connect(): Promise<void> {
      use();
      if (state != "connected") await new Promise<void>((...both) => opening.push(both));
    },
    publish: (topic: string, data: unknown, options?: object) => add(topic, options, true, data),
    deleteKey: (topic: string, key: string, options?: object) => add(topic, { ...options, key }, true),
    send: (topic: string, data: unknown, options?: object) =>
      void add(topic, options, false, data).catch(complain),
    subscribe(filter: string, options?: unknown, listener?: (message: any) => void) {
      if (typeof options == "function") [options, listener] = [undefined, options as typeof listener];
      const subscription = begin(use, filter, snapshot(options ?? {}), false);
      if (listener) subscription.on("message", listener);
      return subscription;
    },
    consume: (filter: string, options: unknown, work?: (delivery: any) => unknown) =>
      begin(use, filter, snapshot(options ?? {}), true, work),
    async history(topic: string, options?: object) {
      const page = await read({ type: "history", topic, ...options });
      return { ...page, messages: page.messages.map((raw: Packet) => convert(raw, "message")) };
    },
    presence: async (topic: string) => ({ topic, ...(await read({ type: "presence", topic })) }),
    close(timeoutMs = 5_000): Promise<void> {
      if (!error) {
        error = closed;
        later(timeoutMs, finish);
        flush();
      }
      return ending;
    },
  });

  // What an earlier page left is a use, too. A failure is told at the first one: a server that renders stays quiet.
  loading = queue.store?.load().then((stored) => {
    if (state == "closed") return;
    restore(stored);
    if (stored[0]) use();
  });
  loading?.catch(() => {});
}
