/** What switchboards are tested against: a scripted line to a broker, tabs that note what they hear, a clock. */
import type { Clock, Socket } from "../../src/types.js";
import type { Outlet, Port, SharedStatus } from "../../src/tabs/port.js";
import { Switchboard } from "../../src/tabs/switchboard.js";

export type Said = Record<string, any>;

export class FakeClock implements Clock {
  private at = 1_000_000;
  private readonly timers = new Map<number, { due: number; run: () => void }>();
  private last = 0;

  now = (): number => this.at;
  random: () => number = () => 0.5;

  setTimeout = (run: () => void, ms: number): number => {
    this.timers.set(++this.last, { due: this.at + ms, run });
    return this.last;
  };

  clearTimeout = (timer: number): void => void this.timers.delete(timer);

  advance(ms: number): void {
    this.at += ms;
    for (const [timer, { due, run }] of [...this.timers]) {
      if (due <= this.at && this.timers.delete(timer)) run();
    }
  }
}

/** A line to a broker that does what the test says. */
export class FakeLine implements Socket {
  readyState = 0;
  bufferedAmount = 0;
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: { data: any }) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  closed: number | undefined;
  /** Packets, arrays taken apart. */
  private heard: Said[] = [];
  texts: string[] = [];

  constructor(readonly url: string) {}

  send(text: string): void {
    this.texts.push(text);
    const value = JSON.parse(text);
    this.heard.push(...(Array.isArray(value) ? value : [value]));
  }

  close(code?: number): void {
    this.closed = code ?? 1005;
  }

  /** What was sent since the last look. */
  take(): Said[] {
    return this.heard.splice(0);
  }

  open(): void {
    this.onopen?.({});
  }

  say(...packets: Said[]): void {
    this.onmessage?.({ data: JSON.stringify(packets.length === 1 ? packets[0] : packets) });
  }

  text(text: unknown): void {
    this.onmessage?.({ data: text });
  }

  cut(code = 1006, reason = ""): void {
    this.onclose?.({ code, reason });
  }
}

/** A tab at a switchboard. */
export class FakeTab implements Outlet {
  isOpen = false;
  closed: number | undefined;
  last: SharedStatus | undefined;
  texts: string[] = [];
  readonly port: Port;

  constructor(
    private readonly board: Switchboard,
    url = "ws://broker/ws",
    tab = String(Math.random()),
  ) {
    this.port = board.attach(this, url, "triode.v1.json", tab);
  }

  open(): void {
    this.isOpen = true;
  }

  send(text: string): void {
    this.texts.push(text);
  }

  close(code: number): void {
    this.closed = code;
  }

  status(status: SharedStatus): void {
    this.last = status;
  }

  say(...packets: Said[]): void {
    this.text(JSON.stringify(packets.length === 1 ? packets[0] : packets));
  }

  text(text: string): void {
    this.board.said(this.port, text);
  }

  /** What was heard since the last look. */
  take(): Said[] {
    return this.texts.splice(0).flatMap((text) => JSON.parse(text) as Said);
  }
}

export const CONNECTED = {
  type: "connected",
  connection: "c-1",
  node: "n1",
  protocol: 1,
  capabilities: ["batch"],
  limits: { max_packet_bytes: 65536, max_frame_bytes: 1048576, max_subscriptions: 200 },
  ping_ms: 25000,
  reconnect: { min_ms: 250, max_ms: 20000 },
};

/** A switchboard, its clock, and the lines that it has dialled. */
export class Bench {
  readonly clock = new FakeClock();
  readonly lines: FakeLine[] = [];
  readonly board = new Switchboard((url) => {
    if (url.includes("bad")) throw new SyntaxError("no URL");
    const line = new FakeLine(url);
    this.lines.push(line);
    return line;
  }, this.clock);

  get line(): FakeLine {
    return this.lines[this.lines.length - 1]!;
  }

  tab(tab?: string, url?: string): FakeTab {
    return new FakeTab(this.board, url, tab);
  }

  /** A tab that is online; the first one opens the line. */
  online(connect: Said = {}, connected: Said = {}): FakeTab {
    const isFirst = this.board.isIdle;
    const tab = this.tab();
    if (isFirst) this.line.open();
    tab.say({ type: "connect", id: 1, ...connect });
    if (isFirst) this.line.say({ ...CONNECTED, ...connected, id: this.line.take()[0]!["id"] });
    tab.take();
    return tab;
  }

  /** A live subscription of that tab, made upstream; returns its number there. */
  live(tab: FakeTab, sub: number, filter: string, after: Said = { m0: 0 }, more: Said = {}): number {
    tab.say({ type: "subscribe", id: 100 + sub, sub, filter, ...more });
    const asked = this.line.take().find((packet) => packet["type"] === "subscribe")!;
    this.line.say({ type: "subscribed", id: asked["id"], sub: asked["sub"], after, live: true });
    tab.take();
    return asked["sub"];
  }
}

export function message(topic: string, pos: number, data: unknown = pos): Said {
  return { type: "message", topic, offset: pos, log: "m0", pos, ts: 1, data };
}
