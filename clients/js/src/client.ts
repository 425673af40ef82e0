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
 * `write_` sends whatever that has brought about.
 */
import { byteLength, convert, payload, read, type Packet } from "./codec.js";
import { Consumer } from "./consumer.js";
import { Emitter } from "./emitter.js";
import { TriodeError } from "./errors.js";
import { Liveness } from "./liveness.js";
import { Outbox } from "./outbox.js";
import { Publisher } from "./publishing.js";
import { Requests } from "./requests.js";
import { Route } from "./route.js";
import { Subscription } from "./subscription.js";
import { Subscriptions } from "./subscriptions.js";
import { clamp, Time } from "./time.js";
import type { Options, Published, PublishOptions, Socket, State } from "./types.js";

declare const VERSION: string;

const FLIGHT_BYTES = 61_440; // written before `connected`: a broker reads 64 KiB until then (SPEC 1.11)
const MOST_UNSENT_BYTES = 1_048_576; // in the WebSocket: more waits here
const MOST_PACKETS = 4_096; // of one array (SPEC 1.5)
const STABLE_MS = 5_000; // a connection that lived so long was a good one
const TOO_BIG = 1009;
const WAKING = ["online", "offline", "pageshow", "resume", "visibilitychange"];

export class Client extends Emitter {
  state: State = "idle";
  private time_: Time;
  private route_: Route;
  private liveness_ = new Liveness();
  private outbox_ = new Outbox(() => this.flush_());
  private publisher_: Publisher;
  private requests_: Requests;
  private subscriptions_: Subscriptions;

  private socket_: Socket | undefined;
  private attempt_ = 0; // which one may still dial
  private due_ = Infinity; // the end of waiting, or of the patience with an attempt
  private isAsked_ = false; // the broker asked for the wait
  private room_ = 0; // bytes of the next text
  private connection_ = ""; // the broker's name for the present or last one
  private connectId_ = 0;
  private connectedAt_ = 0;
  private refused_ = 0; // handshakes in a row
  private hasRenewed_ = false;
  private isScheduled_ = false;
  private hasWarned_ = false;

  private token_: unknown;
  private fetching_: Promise<unknown> | undefined;
  private renewing_: Promise<unknown> | undefined;
  private renewAt_ = Infinity;
  private loading_: Promise<unknown> | undefined;

  private finishBy_ = Infinity; // set by close()
  private error_: TriodeError | undefined; // why it is closed
  private opening_: [() => void, (error: unknown) => void][] = [];
  private closed_: Promise<void>;
  private setClosed_!: () => void;

  constructor(
    url: string | readonly string[],
    private options_: Options = {},
  ) {
    super();
    const { clock, queue = {}, requestTimeoutMs = 10_000, maxInboxMessages = 1_000 } = options_;
    this.time_ = new Time(() => this.tick_(), clock);
    this.route_ = new Route(url, this.time_);
    this.publisher_ = new Publisher(this, this.time_, this.outbox_, queue);
    this.requests_ = new Requests(this.time_, this.outbox_, requestTimeoutMs);
    this.subscriptions_ = new Subscriptions(this, this.time_, this.outbox_, this.publisher_, maxInboxMessages);
    this.closed_ = new Promise((resolve) => (this.setClosed_ = resolve));
  }

  // What programs ask for

  async connect(): Promise<void> {
    this.use_();
    if (this.state != "connected") await new Promise<void>((...both) => this.opening_.push(both));
  }

  async publish(topic: string, data: unknown, options?: PublishOptions): Promise<Published> {
    return this.add_(topic, payload(data), options);
  }

  async deleteKey(topic: string, key: string, options?: PublishOptions): Promise<Published> {
    return this.add_(topic, {}, { ...options, key });
  }

  send(topic: string, data: unknown, options?: PublishOptions): void {
    (async () => this.add_(topic, payload(data), options, false))().catch((error) => this.complain_(error));
  }

  private add_(topic: string, data: Packet, options?: PublishOptions, isAcknowledged?: boolean): Promise<Published> {
    this.use_();
    return this.publisher_.add_(topic, data, options, isAcknowledged);
  }

  subscribe(filter: string, options?: unknown, listener?: (message: any) => void): Subscription {
    if (typeof options == "function") [options, listener] = [undefined, options as typeof listener];
    const subscription = new Subscription(filter, snapshot(options), this.subscriptions_);
    if (listener) subscription.on("message", listener);
    return this.begin_(subscription);
  }

  consume(filter: string, options: unknown, listener?: (delivery: any) => unknown): Consumer {
    return this.begin_(new Consumer(filter, snapshot(options), this.subscriptions_, this.requests_, listener));
  }

  private begin_<S extends Subscription>(subscription: S): S {
    try {
      this.use_();
      this.subscriptions_.add_(subscription);
    } catch (error) {
      subscription.end_(error as TriodeError);
    }
    return subscription;
  }

  async history(topic: string, { after, before, last, limit }: Packet = { last: 100 }): Promise<unknown> {
    const page = await this.read_({ type: "history", topic, after, before, last, limit });
    return {
      messages: page.messages.map((raw: unknown) => convert(raw, "message")),
      complete: page.complete,
      after: page.after,
    };
  }

  async presence(topic: string): Promise<unknown> {
    const { members, complete } = await this.read_({ type: "presence", topic });
    return { topic, members: members.map(member), complete };
  }

  private read_(packet: Packet): Promise<Packet> {
    this.use_();
    return this.requests_.ask_(packet, packet.type, true);
  }

  close(timeoutMs = 5_000): Promise<void> {
    if (this.state != "closed") {
      this.finishBy_ = this.time_.now_() + timeoutMs;
      this.time_.wake_(this.finishBy_);
      this.flush_();
    }
    return this.closed_;
  }

  /** It is to be used: connect, at first use. Throws when it is closed. */
  private use_(): void {
    if (this.finishBy_ < Infinity || this.state == "closed") throw this.error_ ?? closed();
    if (this.state != "idle") return;
    const { store } = this.options_.queue ?? {};
    if (store)
      this.loading_ = store
        .load()
        .then((items) => this.publisher_.restore_(items))
        .catch((error) => this.complain_(error));
    for (const type of WAKING) globalThis.addEventListener?.(type, this.awake_, true);
    this.connect_();
  }

  // Connecting

  private connect_(): void {
    const attempt = ++this.attempt_;
    const url = this.route_.next_();
    this.due_ = this.time_.now_() + (this.options_.connectTimeoutMs ?? 10_000);
    this.time_.wake_(this.due_);
    this.enter_("connecting");
    const dial = (token: unknown) => {
      if (attempt != this.attempt_) return;
      this.token_ = token;
      this.dial_(url);
    };
    if (this.loading_ || typeof this.options_.token == "function")
      Promise.all([this.fetch_(), this.loading_])
        .then(([token]) => dial(token))
        .catch((error) => {
          this.complain_(error);
          if (attempt == this.attempt_) this.depart_("backoff", "no token");
        });
    else dial(this.options_.token);
  }

  /** The token; one call of the program's function at a time. */
  private fetch_(): Promise<unknown> {
    const { token } = this.options_;
    return (this.fetching_ ??= Promise.resolve()
      .then(() => (typeof token == "function" ? token() : token))
      .finally(() => (this.fetching_ = undefined)));
  }

  private dial_(url: string): void {
    const { transport = (url: string, protocol: string) => new WebSocket(url, protocol) } = this.options_;
    let socket: Socket;
    try {
      socket = this.socket_ = transport(url, "triode.v1.json");
    } catch (error) {
      return this.depart_("backoff", String(error));
    }
    socket.onopen = () => this.opened_();
    socket.onmessage = ({ data }: { data: unknown }) => this.receive_(socket, data);
    socket.onclose = ({ code, reason }: { code: number; reason?: string }) => this.lost_(code, reason);
    socket.onerror = () => {}; // a close follows
  }

  /** `connect`, all resumes and all publishes leave in one flight. */
  private opened_(): void {
    this.room_ = FLIGHT_BYTES;
    this.outbox_.isOpen_ = true;
    const { name = "triode-js", will } = this.options_;
    const replaces = this.connection_ || undefined;
    this.outbox_.put_({
      type: "connect",
      id: (this.connectId_ = this.outbox_.id_()),
      token: this.token_,
      client: { name, version: VERSION },
      capabilities: ["batch"],
      replaces,
      resume: replaces && this.subscriptions_.all_.size > 0,
      will: will && { topic: will.topic, ...payload(will.data), delay_ms: will.delayMs },
    });
    this.subscriptions_.attach_();
    this.requests_.attach_();
    this.write_();
  }

  private connected_({ connection, node, protocol, limits, pingMs, reconnect, expiresInMs }: Packet): void {
    if (this.state == "connected" || protocol != 1) throw Error("connected");
    const now = this.time_.now_();
    this.connection_ = connection.length < 256 ? connection : "";
    this.publisher_.limits_ = limits;
    this.room_ = clamp(Math.max(limits.maxFrameBytes, limits.maxPacketBytes + 3), 1_024, 2 ** 24);
    this.time_.setBounds_(reconnect.minMs, reconnect.maxMs);
    this.liveness_.begin_(pingMs, now);
    this.time_.wake_(this.liveness_.deadline_());
    this.connectedAt_ = now;
    this.due_ = Infinity;
    this.refused_ = 0;
    this.hasRenewed_ = false;
    this.expires_(expiresInMs);
    this.enter_("connected", { connection, node });
    for (const [resolve] of this.opening_.splice(0)) resolve();
  }

  private enter_(state: State, more?: Packet): void {
    this.state = state;
    this.emit_({ type: "state", state, ...more });
  }

  // What the broker says

  /** Whatever is wrong with it costs the connection, nothing else. */
  private receive_(socket: Socket, data: unknown): void {
    this.liveness_.heard_(this.time_.now_());
    try {
      for (const packet of read(data as string)) {
        if (this.socket_ != socket) return;
        this.take_(packet);
      }
    } catch (error) {
      this.depart_("backoff", "the broker broke the protocol: " + (error as Error).message);
    }
    this.flush_();
  }

  private take_(packet: Packet): void {
    const { type } = packet;
    if (this.state != "connected" && !/^(connected|error|bye|notice|p.ng)$/.test(type)) throw Error(type);
    switch (type) {
      case "connected":
        return this.connected_(packet);
      case "error":
        return this.refusal_(packet);
      case "bye":
        if (packet.code == TOO_BIG) this.publisher_.failLargest_();
        return this.depart_(
          action(packet.code),
          "the broker said goodbye: " + packet.name,
          packet.code,
          packet.reconnectAfterMs,
          packet.urls,
          true,
        );
      case "notice":
        this.expires_(packet.expiresInMs);
        this.emit_(packet);
        return;
      case "ping":
        this.outbox_.put_({ type: "pong" });
        return this.subscriptions_.ping_(packet.at ?? {});
      case "pong":
        return;
      case "published":
        return this.publisher_.published_(packet);
      case "history":
      case "presence":
      case "acked":
      case "authorized":
        return this.requests_.answered_(packet);
      default:
        this.subscriptions_.receive_(packet);
    }
  }

  private refusal_({ id, sub, name, message, retry, field, retryAfterMs }: Packet): void {
    const error = new TriodeError(name, message, { retry, ...(field && { field }), ...(retryAfterMs && { retryAfterMs }) });
    if (id && id == this.connectId_) {
      const isRenewable = retry == "reauth" && typeof this.options_.token == "function" && !this.hasRenewed_;
      this.hasRenewed_ ||= isRenewable;
      const next = isRenewable || retry == "now" ? "once" : retry == "backoff" ? retry : "stop";
      this.depart_(next, `${name}: ${message}`, undefined, retryAfterMs, [], true);
    } else if (
      !this.publisher_.refused_(id, error) &&
      !this.requests_.refused_(id, error) &&
      !this.subscriptions_.refused_(id, sub, error)
    )
      this.complain_(error);
  }

  // Tokens

  /** The token is good for so long: get the next one in time. */
  private expires_(ms?: number): void {
    if (ms === undefined) return;
    this.renewAt_ = this.time_.now_() + Math.max(1_000, ms * 0.8, ms - 30_000);
    this.time_.wake_(this.renewAt_);
  }

  /** Tell the broker a new token; one at a time. Undefined where there is none to get. */
  renew_(): Promise<unknown> | undefined {
    this.renewAt_ = Infinity;
    if (typeof this.options_.token != "function") return;
    const { attempt_ } = this;
    return (this.renewing_ ??= this.fetch_()
      .then((token) => {
        if (attempt_ == this.attempt_)
          return this.requests_.ask_({ type: "auth", token }, "authorized").then((answer) => this.expires_(answer.expiresInMs));
      })
      .catch((error) => {
        this.complain_(error);
        if (error?.retry != "never" && attempt_ == this.attempt_) this.expires_(12_500); // again in ten seconds
      })
      .finally(() => (this.renewing_ = undefined)));
  }

  // What goes out

  /** Write at the end of this turn. */
  flush_(): void {
    if (this.isScheduled_) return;
    this.isScheduled_ = true;
    queueMicrotask(() => {
      this.isScheduled_ = false;
      this.write_();
    });
  }

  private write_(): void {
    const socket = this.socket_;
    const { texts_ } = this.outbox_;
    while (socket && this.outbox_.isOpen_) {
      if (socket.bufferedAmount > MOST_UNSENT_BYTES) return this.time_.wake_(this.time_.now_() + 100);
      const isConnected = this.state == "connected";
      let room = this.room_ - 2; // brackets
      let count = 0;
      for (const text of texts_) {
        const size = byteLength(text) + 1;
        if (count >= MOST_PACKETS || (size > room && (count || this.room_ < FLIGHT_BYTES))) break;
        room -= size;
        count++;
      }
      const texts = texts_.splice(0, count);
      if (!texts_[0]) texts.push(...this.publisher_.take_(room, MOST_PACKETS - count, isConnected));
      if (!texts[0]) break;
      const text = texts[1] ? `[${texts}]` : texts[0];
      if (!isConnected) this.room_ -= byteLength(text);
      socket.send(text);
    }
    this.finish_(false);
  }

  // Time

  private tick_(): void {
    const now = this.time_.now_();
    const isConnected = this.state == "connected";
    if (now >= this.finishBy_) return this.finish_(true);
    if (isConnected && this.liveness_.isDue_(now)) {
      if (this.liveness_.isLate_(now)) this.probe_(now);
      else this.depart_("backoff", "the broker is silent");
    } else if (now >= this.due_) {
      if (this.state == "waiting") this.connect_();
      else this.depart_("backoff", "no answer to connect in time");
    }
    if (now >= this.renewAt_) void this.renew_();
    this.time_.wake_(
      Math.min(
        this.publisher_.tick_(now),
        this.requests_.tick_(now),
        this.subscriptions_.tick_(now),
        this.due_,
        this.finishBy_,
        this.renewAt_,
        this.state == "connected" ? this.liveness_.deadline_() : Infinity,
      ),
    );
    this.flush_();
  }

  /** Ask for a sign of life. */
  private probe_(now: number): void {
    if (this.liveness_.probe_(now)) this.outbox_.put_({ type: "ping", id: this.outbox_.id_() });
    this.time_.wake_(this.liveness_.deadline_());
  }

  /** The machine woke up, or its network changed: neither believe nor doubt the connection, look. */
  private awake_ = (): void => {
    const now = this.time_.now_();
    if (this.state == "connected") this.probe_(now);
    else if (this.state == "waiting" && !this.isAsked_ && globalThis.navigator?.onLine !== false) {
      this.due_ = now;
      this.tick_();
    }
  };

  // Leaving

  private lost_(code: number, reason?: string): void {
    if (code == TOO_BIG) this.publisher_.failLargest_();
    this.depart_(action(code), reason || "the connection was lost", code, 0, [], code > 1006);
  }

  /** The present connection or attempt is over; what comes next is "stop", "backoff" or "once". */
  private depart_(
    next: string,
    reason: string,
    code?: number,
    asked = 0,
    urls: readonly unknown[] = [],
    wasAnswered = false,
  ): void {
    const wasConnected = this.state == "connected";
    const now = this.time_.now_();
    const why = { reason, ...(code && { code }) };
    this.detach_();
    if (next == "stop") return this.end_(new TriodeError("refused", reason, why), why);
    if (wasConnected && now - this.connectedAt_ >= STABLE_MS) this.route_.reset_();
    this.due_ = this.route_.left_(code, next == "once", asked, urls, wasConnected, wasAnswered);
    this.isAsked_ = wasAnswered;
    this.time_.wake_(this.due_);
    this.enter_("waiting", { ...why, delayMs: this.due_ - now });
    const report = Math.max(3, this.route_.own_.length); // one node that is away is no news
    if (!wasConnected && ++this.refused_ == report)
      this.complain_(new TriodeError("handshakes_refused", `${report} attempts in a row failed: ${reason}`));
  }

  private detach_(code?: number): void {
    const socket = this.socket_;
    this.socket_ = undefined;
    this.attempt_++;
    this.due_ = this.renewAt_ = Infinity;
    this.loading_ = undefined;
    this.outbox_.isOpen_ = false;
    this.outbox_.texts_ = [];
    this.publisher_.detach_();
    this.subscriptions_.detach_();
    this.requests_.detach_(new TriodeError("delivery_lost", "the connection was lost before the answer"));
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  /** Asked to: once all is sent, or now, say goodbye and close. */
  private finish_(isLate: boolean): void {
    if (this.finishBy_ == Infinity || (this.publisher_.size_ && !isLate)) return;
    if (this.state == "connected") this.socket_!.send('{"type":"disconnect"}');
    this.end_(undefined, { reason: "closed by the program" });
  }

  private end_(error?: TriodeError, why?: Packet): void {
    if (this.state == "closed") return;
    this.error_ = error ?? closed();
    this.finishBy_ = Infinity;
    this.detach_(1000);
    this.time_.stop_();
    for (const type of WAKING) globalThis.removeEventListener?.(type, this.awake_, true);
    this.publisher_.close_(this.error_);
    this.requests_.detach_(this.error_, true);
    this.subscriptions_.close_(error);
    this.enter_("closed", why);
    for (const [, reject] of this.opening_) reject(this.error_);
    this.setClosed_();
  }

  /** What no promise can carry: to those who listen, or the first of it to the console. */
  complain_(error: any): void {
    const { name = "error", message = String(error), field } = error ?? {};
    if (this.emit_({ type: "complaint", name, message, ...(field && { field }) }) || this.hasWarned_) return;
    this.hasWarned_ = true;
    console.warn(`triode: ${name}: ${message}; listen to "complaint" for more`);
  }
}

/** What a close code asks for (SPEC 5.3.2). */
const action = (code: number): string => ({ 40: "stop", 42: "once" })[Math.floor(code / 100)] ?? "backoff";

const closed = (): TriodeError => new TriodeError("closed", "the client is closed");

/** Options as they are now; throws where they are no JSON. */
const snapshot = (options: unknown): Packet => JSON.parse(JSON.stringify(options ?? {}));

function member(raw: unknown): Packet {
  const { type, ...one } = convert(raw, "member");
  return one;
}
