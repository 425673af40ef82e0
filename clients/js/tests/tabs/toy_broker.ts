/**
 * A broker in memory, as much of one as subscriptions need: logs, live delivery, catching up, gaps, deduplication.
 *
 * It is a model, written from SPEC.md and not from the broker. Everything it says and hears travels through the loop
 * of a `Browser`, one letter at a time, so that a test can put anything in between.
 */
import type { Socket } from "../../src/types.js";
import type { Said } from "./fakes.js";
import { Realm, type Browser } from "./realms.js";

export interface Stored {
  readonly topic: string;
  readonly log: string;
  readonly pos: number;
  readonly packet: Said;
}

interface Line {
  readonly sub: number;
  readonly filter: string;
  position: Record<string, number>;
  isLive: boolean;
}

/** Filters of this model end in `/#` or are topics. */
export function isFor(filter: string, topic: string): boolean {
  return filter.endsWith("/#") ? topic === filter.slice(0, -2) || topic.startsWith(filter.slice(0, -1)) : filter === topic;
}

export class ToyBroker {
  readonly logs: Record<string, Stored[]> = { m0: [], m1: [] };
  /** Up to there nothing is held any more. */
  readonly trimmed: Record<string, number> = { m0: 0, m1: 0 };
  readonly connections = new Set<ToyConnection>();
  /** How often a connection was accepted. */
  accepted = 0;
  private readonly stored = new Map<string, Stored>();
  private readonly net = new Realm("net");

  constructor(readonly browser: () => Browser) {}

  dial = (_: string, realm: Realm): Socket => new ToyConnection(this, realm, this.net);

  get online(): ToyConnection[] {
    return [...this.connections].filter(({ isConnected }) => isConnected);
  }

  heads(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.logs).map(([log, stored]) => [log, stored.length]));
  }

  logOf(topic: string): string {
    return topic.length % 2 === 0 ? "m0" : "m1";
  }

  publish(packet: Said): Said {
    const known = this.stored.get(packet["message_id"]);
    const { log, pos } = known ?? this.append(packet);
    return { type: "published", id: packet["id"], log, pos, offset: pos, level: "memory", ...(known && { duplicate: true }) };
  }

  private append({ topic, data, message_id }: Said): Stored {
    const log = this.logOf(topic);
    const pos = this.logs[log]!.length + 1;
    const packet = { type: "message", topic, offset: pos, log, pos, ts: 1, data, message_id };
    const stored = { topic, log, pos, packet };
    this.logs[log]!.push(stored);
    if (message_id) this.stored.set(message_id, stored);
    for (const connection of this.online) connection.live(stored);
    return stored;
  }

  /** The process that held this end is gone. */
  lost(realm: Realm): void {
    for (const connection of [...this.connections]) if (connection.realm === realm) this.connections.delete(connection);
  }

  replace(name: string): void {
    for (const connection of this.online) if (connection.name === name) connection.end(4005, "replaced");
  }
}

export class ToyConnection implements Socket {
  readyState = 0;
  bufferedAmount = 0;
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: { data: any }) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  isConnected = false;
  readonly name: string;
  private readonly lines = new Map<number, Line>();
  private readonly up = {};
  private readonly down = {};

  constructor(
    private readonly broker: ToyBroker,
    readonly realm: Realm,
    private readonly net: Realm,
  ) {
    this.name = `c-${++broker.accepted}`;
    broker.connections.add(this);
    this.toClient(() => this.onopen?.({}));
  }

  // The client's end.

  send(text: string): void {
    this.toBroker(() => {
      for (const packet of [JSON.parse(text)].flat() as Said[]) this.take(packet);
    });
  }

  close(): void {
    this.toBroker(() => void this.broker.connections.delete(this));
  }

  private toClient(run: () => void): void {
    this.broker.browser().post(this.realm, this.down, run);
  }

  private toBroker(run: () => void): void {
    this.broker.browser().post(this.net, this.up, () => this.broker.connections.has(this) && run());
  }

  // The broker's end.

  say(...packets: Said[]): void {
    const data = JSON.stringify(packets.length === 1 ? packets[0] : packets);
    this.toClient(() => this.onmessage?.({ data }));
  }

  cut(code = 1006): void {
    this.broker.connections.delete(this);
    this.toClient(() => this.onclose?.({ code, reason: "" }));
  }

  end(code: number, name: string): void {
    this.say({ type: "bye", code, name });
    this.broker.connections.delete(this);
    this.toClient(() => this.onclose?.({ code, reason: name }));
  }

  live(stored: Stored): void {
    let isDue = false;
    for (const line of this.lines.values()) {
      if (!line.isLive || !isFor(line.filter, stored.topic)) continue;
      line.position[stored.log] = stored.pos;
      isDue = true;
    }
    if (isDue) this.say(stored.packet);
  }

  ping(): void {
    this.say({ type: "ping", at: this.broker.heads() });
    for (const line of this.lines.values()) if (line.isLive) line.position = this.whole(line.filter, this.broker.heads());
  }

  /** A live subscription leaves live delivery, as one of a full connection does. */
  slow(pick: (count: number) => number): void {
    const live = [...this.lines.values()].filter(({ isLive }) => isLive);
    const line = live[pick(Math.max(1, live.length))];
    if (!line) return;
    line.isLive = false;
    this.say({ type: "catching_up", sub: line.sub, after: { ...line.position }, reason: "slow" });
    this.catchUp(line);
  }

  private take(packet: Said): void {
    const { type, id, sub } = packet;
    if (!this.isConnected && type !== "connect") return this.end(4000, "protocol");
    if (type === "connect") return this.connect(packet);
    if (type === "publish") {
      const published = this.broker.publish(packet);
      return id === undefined ? undefined : this.say(published);
    }
    if (type === "subscribe") return this.subscribe(packet);
    if (type === "unsubscribe") {
      this.say(this.lines.delete(sub) ? { type: "unsubscribed", id, sub } : error("no_such_subscription", id, sub));
    } else if (type === "ping") this.say({ type: "pong", id });
    else if (type === "disconnect") this.cut(1000);
  }

  private connect({ id, replaces }: Said): void {
    if (replaces) this.broker.replace(replaces);
    this.isConnected = true;
    const limits = { max_packet_bytes: 65536, max_frame_bytes: 1048576, max_subscriptions: 200 };
    const more = { max_inflight_publishes: 256, dedupe_window_ms: 300000 };
    const times = { ping_ms: 25000, reconnect: { min_ms: 250, max_ms: 20000 } };
    const name = { connection: this.name, node: "n1", protocol: 1, capabilities: ["batch"] };
    this.say({ type: "connected", id, ...name, limits: { ...limits, ...more }, ...times });
  }

  private subscribe({ id, sub, filter, from, after }: Said): void {
    if (this.lines.has(sub)) return this.say(error("conflict", id, sub));
    const start = after ?? (from === "earliest" ? {} : this.broker.heads());
    const line: Line = { sub, filter, position: this.whole(filter, start), isLive: after === undefined && from !== "earliest" };
    this.lines.set(sub, line);
    this.say({ type: "subscribed", id, sub, after: { ...line.position }, live: line.isLive });
    if (!line.isLive) this.catchUp(line);
  }

  private whole(filter: string, position: Record<string, number>): Record<string, number> {
    const logs = filter.endsWith("/#") ? ["m0", "m1"] : [this.broker.logOf(filter)];
    return Object.fromEntries(logs.map((log) => [log, position[log] ?? 0]));
  }

  /** A message at a time, each when its turn comes in the loop. */
  private catchUp(line: Line): void {
    this.broker.browser().post(this.net, line, () => {
      if (this.lines.get(line.sub) !== line || !this.broker.connections.has(this)) return;
      for (const log in line.position) {
        const pos = line.position[log]!;
        if (pos < this.broker.trimmed[log]!) {
          line.position[log] = this.broker.trimmed[log]!;
          this.say({ type: "gap", sub: line.sub, after: { ...line.position }, reason: "retention" });
          return this.catchUp(line);
        }
        const next = this.broker.logs[log]!.find((stored) => stored.pos > pos && isFor(line.filter, stored.topic));
        if (!next) continue;
        line.position[log] = next.pos;
        this.say({ type: "delivery", sub: line.sub, attempt: 1, message: next.packet });
        return this.catchUp(line);
      }
      line.position = this.whole(line.filter, this.broker.heads());
      line.isLive = true;
      this.say({ type: "caught_up", sub: line.sub, after: { ...line.position } });
    });
  }
}

function error(name: string, id: number, sub: number): Said {
  return { type: "error", id, sub, name, message: "", retry: "never" };
}
