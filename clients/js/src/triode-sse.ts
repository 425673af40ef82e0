/**
 * The way around: where no WebSocket opens, the same packets travel over HTTP (SPEC 12.4). Answers come as
 * server-sent events of one long response, what is said leaves in POST requests, one after the other. Loaded when it
 * is needed, so that a page which has WebSockets pays nothing for it. Knows no packet but `bye`.
 *
 * The surprising decision: it does not believe that WebSockets are blocked. Each attempt dials one first, and goes
 * round it only when that one fails as well; what went round tries again after some minutes, and returns.
 */
import type { Later, Now } from "./core.js";
import type { Socket, Transport, TransportName } from "./types.js";

const PATIENCE = 0.4; // with a WebSocket that neither opens nor fails: of the time that an attempt has
const BLOCKED_MS = 300_000; // so long none is tried, once the way around has led somewhere
const MOST_TOGETHER = 16_384; // characters of several texts in one request: at most 1,024 packets (SPEC 1.5)
const MOST_UNREAD = 2 ** 24; // characters of one event
const GOODBYE_MS = 2_000;
const AGAIN_MS = 1_000;
const LOST = 1006;
const BACK = 4299; // as of a broker that asks us to come again at once

/** Dials with `dial`, and round it; `isOnly`: always round it. */
export default function makeFallback(
  dial: Transport,
  isOnly: boolean,
  now: Now,
  later: Later,
  connectTimeoutMs: number,
): Transport {
  let blockedUntil = isOnly ? Infinity : 0;
  const block = (isBlocked: boolean): void => {
    if (!isOnly) blockedUntil = isBlocked ? now() + BLOCKED_MS : 0;
  };
  return (url, protocol) => {
    const socket = new Either();
    const link = (): void => {
      socket.transport = "sse";
      socket.inner_ = new Link(url, {
        opened: () => socket.onopen?.({}),
        heard(data) {
          block(true);
          socket.onmessage?.({ data });
        },
        over(code, reason, hasHeard) {
          if (!hasHeard) block(false); // nobody answers here either: that says nothing about WebSockets
          stop();
          socket.onclose?.({ code, reason });
        },
      });
      stop = isOnly ? stop : later(BLOCKED_MS, probe);
    };
    /** See whether a WebSocket opens by now; if so, come back over it. */
    const probe = (): void => {
      const mine = dial(url, protocol);
      mine.onopen = () => {
        block(false);
        mine.close(1000);
        socket.close();
        socket.onclose?.({ code: BACK, reason: "a WebSocket opens again" });
      };
      mine.onclose = () => {}; // as it was
      mine.onerror = () => {};
      stop = later(BLOCKED_MS, () => {
        mine.onopen = null;
        mine.close(1000);
        probe();
      });
    };
    let stop = (): void => {};
    socket.closed_ = () => stop();
    if (now() < blockedUntil) link();
    else {
      const mine = (socket.inner_ = dial(url, protocol));
      let isOpen = false;
      let isHeard = false;
      const leave = (): void => {
        stop();
        mine.onopen = mine.onmessage = mine.onclose = null;
        mine.close(1000);
        link();
      };
      stop = later(PATIENCE * connectTimeoutMs, leave);
      mine.onerror = () => {};
      mine.onopen = () => {
        stop();
        isOpen = true;
        socket.onopen?.({});
      };
      mine.onmessage = (event) => {
        isHeard = true;
        socket.onmessage?.(event);
      };
      mine.onclose = (event) => {
        if (!isOpen) return leave();
        // It opens and carries nothing: the next attempt goes round it.
        if (!isHeard && event.code < 4000) block(true);
        socket.onclose?.(event);
      };
      socket.closed_ = () => {
        stop();
        if (isOpen && !isHeard) block(true);
        mine.onopen = mine.onmessage = mine.onclose = null;
      };
    }
    return socket;
  };
}

/** A WebSocket or a link, whichever it comes to. */
class Either implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onerror: Socket["onerror"] = null;
  onclose: Socket["onclose"] = null;
  transport: TransportName = "ws";
  inner_!: Socket | Link;
  closed_ = (): void => {};

  get readyState(): number {
    return this.inner_.readyState;
  }
  get bufferedAmount(): number {
    return this.inner_.bufferedAmount;
  }
  send(text: string): void {
    this.inner_.send(text);
  }
  close(code?: number): void {
    this.closed_();
    this.inner_.close(code);
  }
}

interface Told {
  opened(): void;
  heard(text: string): void;
  over(code: number, reason: string, hasHeard: boolean): void;
}

/** One session over HTTP. */
class Link {
  readyState = 0;
  bufferedAmount = 0;
  private readonly url_: URL;
  private readonly stopping_ = new AbortController();
  private texts_: string[] = [];
  private isPosting_ = false;
  private isClosing_ = false;
  private hasHeard_ = false;
  private name_ = ""; // where to send what comes after the first text, once the broker has said it
  private count_ = 0; // of these: a request that a proxy has repeated is not served twice

  constructor(
    url: string,
    private readonly told_: Told,
  ) {
    this.url_ = new URL("v1/link", url.replace(/^ws/, "http"));
    this.url_.search = new URL(url).search;
    queueMicrotask(() => {
      if (this.isClosing_) return;
      this.readyState = 1;
      told_.opened();
    });
  }

  send(text: string): void {
    this.texts_.push(text);
    this.bufferedAmount += text.length;
    // The first text waits for nothing, all others for where to send them.
    if (!this.isPosting_) void this.post_();
  }

  /** What was said before still leaves, so that a goodbye is one. */
  close(): void {
    if (this.isClosing_) return;
    this.isClosing_ = true;
    if (this.name_ && (this.isPosting_ || this.texts_[0])) setTimeout(() => this.stopping_.abort(), GOODBYE_MS);
    else this.stopping_.abort();
  }

  private async post_(): Promise<void> {
    this.isPosting_ = true;
    try {
      while (this.texts_[0]) {
        const text = this.take_();
        this.bufferedAmount = this.texts_.reduce((sum, { length }) => sum + length, text.length);
        if (!this.count_++) return void this.receive_(text);
        const url = new URL(this.url_);
        url.pathname += "/" + this.name_;
        url.searchParams.set("n", String(this.count_ - 1));
        let { ok, status } = await this.fetch_(url, text);
        while (status == 503) {
          // It takes nothing in just now. Sent again under its number it is served once.
          await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
          ({ ok, status } = await this.fetch_(url, text));
        }
        if (!ok) throw Error("the broker has let go of it: " + status);
      }
      this.bufferedAmount = 0;
      this.isPosting_ = false;
      if (this.isClosing_) this.stopping_.abort();
    } catch (error) {
      this.failed_(error);
    }
  }

  /** What waits, as one text: a packet, or an array of packets. */
  private take_(): string {
    const taken = [this.texts_.shift()!];
    for (let length = taken[0]!.length; this.texts_[0]; taken.push(this.texts_.shift()!)) {
      length += this.texts_[0].length + 1;
      if (length > MOST_TOGETHER) break;
    }
    return taken[1] ? `[${taken.map((text) => (text[0] == "[" ? text.slice(1, -1) : text))}]` : taken[0]!;
  }

  private fetch_(url: URL, body: string): Promise<Response> {
    return fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
      cache: "no-store",
      redirect: "error",
      keepalive: this.isClosing_ && body.length < MOST_TOGETHER,
      signal: this.stopping_.signal,
    });
  }

  /** The first text opens the session; its answer is everything that the broker will say. */
  private async receive_(text: string): Promise<void> {
    try {
      const answer = await this.fetch_(this.url_, text);
      if (answer.status != 200) return this.refused_(answer);
      const reader = answer.body!.getReader();
      const decoder = new TextDecoder();
      let unread = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const events = (unread + decoder.decode(value, { stream: true })).split("\n\n");
        unread = events.pop()!;
        if (unread.length > MOST_UNREAD) throw Error("an event without an end");
        for (const event of events) this.hear_(event);
      }
      throw Error("the stream has ended");
    } catch (error) {
      this.failed_(error);
    }
  }

  /** What fetch says where nobody answers is no reason for people; the client has a better one. */
  private failed_(error: unknown): void {
    this.over_(LOST, error instanceof TypeError ? "" : String(error));
  }

  private refused_({ status, headers }: Response): void {
    const wait = headers.get("Retry-After");
    // As a broker says it that has let us in first.
    if (wait) this.told_.heard(`{"type":"bye","code":4102,"name":"overload","reconnect_after_ms":${+wait * 1000 || 0}}`);
    this.over_(LOST, "refused with " + status);
  }

  private hear_(event: string): void {
    if (this.isClosing_) return;
    let type = "";
    const data = [];
    for (const line of event.split("\n")) {
      if (/^data:/.test(line)) data.push(line.slice(6));
      else if (/^event:/.test(line)) type = line.slice(7);
    }
    if (!data[0]) return;
    const text = data.join("\n");
    if (type == "link") {
      this.name_ = JSON.parse(text).link;
      if (!/^\w[\w.-]*$/.test(this.name_)) throw Error("bad link"); // nor a path to somewhere else
      this.bufferedAmount = 0;
      void this.post_();
    } else if (type == "close") {
      const { code, reason } = JSON.parse(text);
      this.over_(code, reason);
    } else if (!type) {
      this.hasHeard_ = true;
      this.told_.heard(text);
    }
  }

  private over_(code: number, reason: string): void {
    const wasClosing = this.isClosing_;
    this.isClosing_ = true;
    this.readyState = 3;
    this.stopping_.abort();
    if (!wasClosing) this.told_.over(code, reason, this.hasHeard_);
  }
}
