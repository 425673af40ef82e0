/**
 * The subscriptions of one upstream connection, and which tabs are on each: the bookkeeping of a switchboard.
 *
 * Knows what SPEC 4.3 says a subscription has had (R1 to R4), and nothing of sockets, ids or texts. The surprising
 * decision: two tabs share a subscription only where both have had exactly the same of it. Whoever is behind gets one
 * of its own and is put together with the others once their positions are equal, so nothing comes twice.
 */
import { matches } from "./filter.js";

export type Packet = { readonly type: string; readonly [field: string]: any };
export type Places = Record<string, number>;

/** One tab's subscription: the number it has in that tab, and the line that serves it. */
export interface Member<P> {
  readonly port: P;
  readonly sub: number;
  /** The `id` of a `subscribe` that has no answer yet. */
  id: number | undefined;
  line: Line<P>;
}

/** One subscription upstream. */
export interface Line<P> {
  readonly sub: number;
  readonly filter: readonly string[];
  /** Lines with equal keys are alike but for where they begin; none: never shared. */
  readonly key: string | undefined;
  readonly start: string;
  readonly isAcknowledged: boolean;
  readonly isWatching: boolean;
  phase: "asked" | "catching up" | "live";
  position: Places;
  /** What else `subscribed` said, for those who join later. */
  extras: Record<string, unknown>;
  readonly members: Set<Member<P>>;
}

const ALIKE = new Set(["type", "id", "sub", "filter", "from", "after", "overflow", "presence"]);
const MAX_LOGS = 64;
const NEW = '"new"';

/** What has to be equal for sharing; undefined where there is more to it than a filter and how it is served. */
function keyOf(packet: Packet): string | undefined {
  if (typeof packet["filter"] !== "string") return undefined;
  const isPlain = packet["presence"] === undefined || packet["presence"] === "watch";
  if (!isPlain || !Object.keys(packet).every((field) => ALIKE.has(field))) return undefined;
  return JSON.stringify([packet["filter"], packet["overflow"] ?? "replay", packet["presence"] ?? ""]);
}

function startOf(packet: Packet): string {
  const after = packet["after"];
  if (after && typeof after === "object") return JSON.stringify(Object.entries(after).sort());
  return JSON.stringify(packet["from"] ?? "new");
}

function textOf(position: Places): string {
  return JSON.stringify(Object.entries(position).sort());
}

function placesOf(value: unknown): Places {
  const places: Places = Object.create(null);
  if (value && typeof value === "object") {
    for (const [log, pos] of Object.entries(value)) if (typeof pos === "number") advance(places, log, pos);
  }
  return places;
}

/** R4. A position has at most 64 entries (SPEC 2.5): the oldest goes. */
function advance(position: Places, log: string, pos: number): void {
  const logs = Object.keys(position);
  if (!(log in position) && logs.length >= MAX_LOGS) delete position[logs[0]!];
  position[log] = Math.max(position[log] ?? 0, pos);
}

export class Lines<P> {
  private readonly bySub_ = new Map<number, Line<P>>();
  private readonly byKey_ = new Map<string, Set<Line<P>>>();
  private readonly spare_: number[] = [];
  private last_ = 0;

  get count(): number {
    return this.bySub_.size;
  }

  get(sub: unknown): Line<P> | undefined {
    return this.bySub_.get(sub as number);
  }

  /** A line that serves this `subscribe` with nothing left out and nothing twice; undefined: open one. */
  findAlike(packet: Packet): Line<P> | undefined {
    const start = startOf(packet);
    for (const line of this.byKey_.get(keyOf(packet) ?? "") ?? []) {
      if (line.phase === "asked" && line.start === start) return line;
      if (line.phase === "live" && (start === NEW || start === textOf(line.position))) return line;
    }
    return undefined;
  }

  open(packet: Packet): Line<P> {
    const key = keyOf(packet);
    const line: Line<P> = {
      sub: this.spare_.pop() ?? ++this.last_,
      filter: String(packet["filter"]).split("/"),
      key,
      start: startOf(packet),
      isAcknowledged: "durable" in packet || "group" in packet,
      isWatching: "presence" in packet,
      phase: "asked",
      position: Object.create(null),
      extras: {},
      members: new Set(),
    };
    this.bySub_.set(line.sub, line);
    if (key !== undefined) this.byKey_.set(key, (this.byKey_.get(key) ?? new Set()).add(line));
    return line;
  }

  drop(line: Line<P>): void {
    this.bySub_.delete(line.sub);
    const alike = this.byKey_.get(line.key ?? "");
    alike?.delete(line);
    if (alike?.size === 0) this.byKey_.delete(line.key ?? "");
  }

  /** A refused `subscribe` has used up no number (SPEC 3.2.1). */
  refused(line: Line<P>): void {
    this.drop(line);
    this.spare_.push(line.sub);
  }

  /** What a packet to one line says of its state: R1 and R4. */
  note(line: Line<P>, packet: Packet): void {
    const { type, message } = packet;
    if (type === "delivery") {
      if (line.isAcknowledged || typeof message?.pos !== "number") return;
      advance(line.position, String(message.log), message.pos);
      return;
    }
    line.position = placesOf(packet["after"]);
    if (type === "subscribed") {
      const { type: _, id: __, sub: ___, after: ____, live, ...extras } = packet;
      line.extras = extras;
      line.phase = live ? "live" : "catching up";
    } else if (type === "gap") delete line.extras["unavailable"];
    else line.phase = type === "caught_up" ? "live" : "catching up";
  }

  /** The ports that a `message` is for (R3); their lines have had it then (R4). */
  take(message: Packet): Set<P> {
    const { log, pos } = message;
    if (typeof log !== "string" || typeof pos !== "number") return new Set();
    const topic = String(message["topic"]).split("/");
    const ports = new Set<P>();
    for (const line of this.bySub_.values()) {
      if (line.phase !== "live" || line.isAcknowledged || (line.position[log] ?? 0) >= pos) continue;
      if (!matches(line.filter, topic)) continue;
      advance(line.position, log, pos);
      for (const member of line.members) ports.add(member.port);
    }
    return ports;
  }

  /** The ports to be told of who comes to a topic and who goes. */
  watching(topic: unknown): Set<P> {
    const levels = String(topic).split("/");
    const ports = new Set<P>();
    for (const line of this.bySub_.values()) {
      if (!line.isWatching || line.phase === "asked" || !matches(line.filter, levels)) continue;
      for (const member of line.members) ports.add(member.port);
    }
    return ports;
  }

  /** Every live line has had everything up to `at`, in the logs that it has (SPEC 4.8.1). */
  raise(at: unknown): void {
    const places = placesOf(at);
    for (const line of this.bySub_.values()) {
      if (line.phase !== "live" || line.isAcknowledged) continue;
      for (const log in line.position) line.position[log] = Math.max(line.position[log]!, places[log] ?? 0);
    }
  }

  /** Puts together live lines that have become equal, and returns those that nobody is on any more. */
  merge(): Line<P>[] {
    const left: Line<P>[] = [];
    for (const alike of this.byKey_.values()) {
      if (alike.size < 2) continue;
      const kept = new Map<string, Line<P>>();
      for (const line of alike) {
        if (line.phase !== "live") continue;
        const position = textOf(line.position);
        const other = kept.get(position);
        if (!other) kept.set(position, line);
        else left.push(move(line, other));
      }
    }
    for (const line of left) this.drop(line);
    return left;
  }
}

function move<P>(from: Line<P>, to: Line<P>): Line<P> {
  for (const member of from.members) {
    member.line = to;
    to.members.add(member);
  }
  from.members.clear();
  return from;
}
