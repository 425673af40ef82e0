/**
 * Serves many tabs over one connection to the broker. Each tab speaks the protocol of SPEC.md as to a broker.
 *
 * Pure: packets in, packets out; sockets, tabs and time come in from outside, and nothing that either side says makes
 * it throw. It stores no messages and resends none: when the connection ends every tab's ends with it, and each tab's
 * client resumes by its own positions. That is why nothing can be lost in here (SPEC 8.4).
 */
import type { Clock, Transport } from "../types.js";
import { Authorizing } from "./authorizing.js";
import type { Line, Member, Packet } from "./lines.js";
import { HANDED_OVER, idOf, isNumber, OWN, Port, type Outlet, type UpstreamPhase } from "./port.js";
import { elements, patch } from "./text.js";
import { Upstream, type Asked } from "./upstream.js";

const MAX_PORTS = 1_000;
const MAX_PINGS = 1_000;
/** Of a text to the broker, where `max_frame_bytes` is not known; a character has three bytes at most. */
const MAX_TEXT_CHARS = 1 << 18;
const MAX_PACKETS = 4_096;
/** The packets that say how far a line has got. */
const NOTED = new Set(["subscribed", "delivery", "catching_up", "caught_up", "gap"]);

export class Switchboard {
  private readonly ports = new Set<Port>();
  private upstream: Upstream<Port> | undefined;
  private phase: UpstreamPhase = "idle";
  /** Whose `connect` the broker is asked with. */
  private first: Port | undefined;
  private connected: Packet | undefined;
  /** The broker's name for the last connection, for `replaces`. */
  private connection: string | undefined;
  private authorizing: Authorizing;
  private pings: { port: Port; id: number | undefined }[] = [];
  private out: string[] = [];
  private portCount = 0;
  private hasWill = false;

  constructor(
    private readonly dial: Transport,
    private readonly clock: Clock,
  ) {
    this.authorizing = this.newAuthorizing();
  }

  /** A tab dials. It is told `open` when there is a connection, and closed where none can be had. */
  attach(outlet: Outlet, url: string, protocol: string, tab: string): Port {
    const port = new Port(outlet, ++this.portCount, tab);
    this.turn(() => {
      if (this.ports.size >= MAX_PORTS) return port.close(4103, "too many tabs");
      this.doubt();
      this.ports.add(port);
      if (!this.upstream) this.open(url, protocol, port);
      else if (this.phase !== "opening") outlet.open();
      this.tellStatus();
    });
    return port;
  }

  /** A tab says something. */
  said(port: Port, text: string): void {
    this.turn(() => this.readTab(port, text), port);
  }

  /** A tab is gone: with a goodbye, or without. */
  gone(port: Port, isGoodbye: boolean): void {
    this.turn(() => this.remove(port, isGoodbye));
  }

  /** Ends everything; the tabs dial again, elsewhere. */
  shutdown(): void {
    this.turn(() => {
      const { upstream } = this;
      this.ended(HANDED_OVER, "handed over");
      // The tabs live on: nobody's will is to be read. Without a will a broken line is better: presence waits.
      upstream?.leave(this.hasWill);
    });
  }

  get isIdle(): boolean {
    return this.ports.size === 0;
  }

  /** Handed to the line to the broker, and not sent yet. */
  get waitingBytes(): number {
    return this.upstream?.waitingBytes ?? 0;
  }

  /** One turn: what it has to say goes out at its end, and a fault of ours costs its port and nobody else. */
  private turn(run: () => void, port?: Port): void {
    try {
      run();
      this.flush();
    } catch (error) {
      console.error("triode/tabs", error);
      if (port) this.drop(port, 4101, "internal");
      else this.upstream?.end(4101, "internal");
    }
  }

  private flush(): void {
    while (this.out.length > 0) {
      const max = Math.min((this.connected?.["limits"]?.max_frame_bytes ?? MAX_TEXT_CHARS * 4) / 4, MAX_TEXT_CHARS);
      let count = 1;
      for (let chars = this.out[0]!.length; count < this.out.length && count < MAX_PACKETS; count++) {
        chars += this.out[count]!.length + 1;
        if (chars > max) break;
      }
      const texts = this.out.splice(0, count);
      this.upstream?.send(texts.length > 1 ? `[${texts.join(",")}]` : texts[0]!);
    }
    for (const port of this.ports) port.flush();
  }

  private tellStatus(): void {
    const tabs = new Set([...this.ports].map((port) => port.tab)).size;
    for (const port of this.ports) port.outlet.status({ tabs, upstream: this.phase });
  }

  // The connection to the broker.

  private open(url: string, protocol: string, port: Port): void {
    try {
      this.phase = "opening";
      const upstream: Upstream<Port> = new Upstream(this.dial, url, protocol, this.clock, {
        opened: () => this.turn(() => this.opened()),
        text: (text) => this.turn(() => this.readBroker(text)),
        ended: (code, reason) => this.turn(() => this.ended(code, reason)),
      });
      this.upstream = upstream;
    } catch (error) {
      // Not an address, or one that this page may not dial: it will not get better (as SPEC 5.3.2 has it).
      this.phase = "idle";
      this.drop(port, 4000, String(error));
    }
  }

  /** A broker that should have been heard is asked whether it is there; one that has missed a ping is not believed. */
  private doubt(): void {
    const intervals = (this.upstream?.silentMs() ?? 0) / (this.connected?.["ping_ms"] ?? Infinity);
    if (intervals >= 1.5 || this.upstream?.isOverdue()) this.upstream!.end(4105, "the broker is silent");
    else if (intervals > 1) this.upstream!.isAlive();
  }

  private opened(): void {
    this.phase = "open";
    for (const port of this.ports) port.outlet.open();
    this.tellStatus();
  }

  private ended(code: number, reason: string, bye?: string): void {
    const { first, upstream } = this;
    const isRefusal = this.phase === "connecting" && code >= 4000 && code <= 4099;
    const longest = upstream?.longest();
    const ports = [...this.ports];
    this.reset();
    for (const port of ports) {
      // What one tab was refused may be granted to the next, whose token or will is another.
      if ((isRefusal && port !== first) || code === 4005) port.close(HANDED_OVER, "ask again");
      else if (code === 1009 && port !== longest) port.close(1006, reason);
      else {
        if (bye !== undefined) port.tell(bye);
        port.close(code, reason);
      }
    }
  }

  private reset(): void {
    this.ports.clear();
    this.upstream = undefined;
    this.connected = undefined;
    this.first = undefined;
    this.phase = "idle";
    this.pings = [];
    this.out = [];
    this.authorizing = this.newAuthorizing();
  }

  private newAuthorizing(): Authorizing {
    return new Authorizing(this.clock, {
      ask: (token, auth) => {
        const id = this.upstream!.ask({ auth });
        if (id !== undefined) this.out.push(JSON.stringify({ type: "auth", id, token }));
        return id !== undefined;
      },
      admit: (port) => this.welcome(port),
      refuse: (port) => this.drop(port, OWN, "another identity"),
      others: (answered, notice) => {
        for (const port of this.ports) if (port.phase === "connected" && !answered.has(port)) port.say(notice);
      },
    });
  }

  // From the tabs.

  private readTab(port: Port, text: string): void {
    if (port.phase === "closed") return;
    const value = parsed(text);
    const isBatch = Array.isArray(value);
    const packets: unknown[] = isBatch ? value : [value];
    if (packets.length === 0 || packets.length > MAX_PACKETS || (isBatch && value.some(Array.isArray)) || value === undefined) {
      return complain(port, {}, packets.length > MAX_PACKETS ? "too_large" : "malformed", "");
    }
    const texts = isBatch ? elements(text) : [text];
    packets.forEach((packet, n) => this.take(port, packet as Packet, texts[n]!));
  }

  private take(port: Port, packet: Packet, text: string): void {
    if (port.phase === "closed") return;
    if (typeof packet?.type !== "string") return complain(port, packet ?? {}, "malformed", "type");
    if (port.phase === "open") return this.connect(port, packet);
    if (port.phase === "connected" || port === this.first) return this.serve(port, packet, text);
    if (!port.hold(text)) this.drop(port, 4000, "too much before connected");
  }

  private serve(port: Port, packet: Packet, text: string): void {
    switch (packet.type) {
      case "subscribe":
        return this.subscribe(port, packet, text);
      case "unsubscribe":
        return this.unsubscribe(port, packet, text);
      case "ping":
        return this.ping(port, packet);
      case "pong":
        return; // the broker has had one for all
      case "auth":
        return this.authorizing.refreshes(port, packet);
      case "disconnect":
        return this.remove(port, true);
      case "connect":
        return complain(port, packet, "bad_state", "type");
      default:
        return this.forward(port, packet, text);
    }
  }

  private connect(port: Port, packet: Packet): void {
    if (packet.type !== "connect") {
      complain(port, packet, "bad_state", "type");
      port.say({ type: "bye", code: 4000, name: "protocol" });
      return this.drop(port, 4000, "protocol");
    }
    port.asks(packet);
    if (this.phase === "online") return this.authorizing.connects(port);
    if (this.phase !== "open") return;
    this.first = port;
    this.hasWill = "will" in packet;
    this.phase = "connecting";
    const replaces = this.connection ?? String(packet["replaces"] ?? "").split("/")[0];
    const connect = { ...packet, capabilities: ["batch"], id: this.upstream!.ask({}) };
    this.out.push(JSON.stringify({ ...connect, replaces: replaces || undefined }));
    this.tellStatus();
  }

  /** The answer that the first tab has got, under a name of this tab's own: so no tab can `replaces` the others. */
  private welcome(port: Port): void {
    port.phase = "connected";
    const expires = this.authorizing.expiresInMs();
    const connection = `${this.connection}/${port.number}`;
    port.say({ ...this.connected!, id: port.connectId, connection, expires_in_ms: expires });
    for (const text of port.takeHeld()) this.take(port, JSON.parse(text), text);
  }

  private forward(port: Port, packet: Packet, text: string): void {
    const changes: Record<string, number> = {};
    const { sub } = packet;
    const member = isNumber(sub) ? port.members.get(sub) : undefined;
    if (isNumber(sub) && !member) return complain(port, packet, "no_such_subscription", "sub");
    if (member) changes["sub"] = member.line.sub;
    const id = idOf(packet);
    if (id !== undefined) {
      const size = packet.type === "publish" ? text.length : 0;
      const asked = this.upstream!.ask({ port, id, sub: member?.sub, size });
      if (asked === undefined) return complain(port, packet, "inflight", "");
      changes["id"] = asked;
    }
    this.out.push(patch(text, changes));
  }

  private subscribe(port: Port, packet: Packet, text: string): void {
    const { sub } = packet;
    if (!isNumber(sub)) return this.forward(port, packet, text); // the broker says what is wrong with it
    if (port.members.has(sub)) return complain(port, packet, "conflict", "sub");
    if (port.members.size >= (this.connected?.["limits"]?.max_subscriptions ?? MAX_PACKETS)) {
      return complain(port, packet, "quota", "");
    }
    const { lines } = this.upstream!;
    const line = lines.findAlike(packet) ?? this.openLine(packet, text);
    if (!line) return complain(port, packet, "inflight", "");
    const member: Member<Port> = { port, sub, id: idOf(packet), line };
    line.members.add(member);
    port.members.set(sub, member);
    if (line.phase !== "live") return;
    port.say({ type: "subscribed", id: member.id, sub, after: line.position, live: true, ...line.extras });
    member.id = undefined;
  }

  private openLine(packet: Packet, text: string): Line<Port> | undefined {
    const { lines } = this.upstream!;
    const line = lines.open(packet);
    const id = this.upstream!.ask({ line });
    if (id === undefined) return void lines.refused(line);
    this.out.push(patch(text, { id, sub: line.sub }));
    return line;
  }

  private unsubscribe(port: Port, packet: Packet, text: string): void {
    const member = port.members.get(packet["sub"]);
    if (!member) return this.forward(port, packet, text);
    const { sub } = member;
    const id = idOf(packet);
    if (this.leave(member, id)) port.say({ type: "unsubscribed", id, sub });
  }

  /** True: the broker needs not be asked, because others are on the line. */
  private leave(member: Member<Port>, id?: number): boolean {
    const { port, sub, line } = member;
    port.members.delete(sub);
    line.members.delete(member);
    if (line.members.size > 0) return true;
    this.end(line, id === undefined ? undefined : this.upstream!.ask({ port, id, sub }));
    return false;
  }

  private end(line: Line<Port>, id?: number): void {
    this.upstream!.lines.drop(line);
    this.out.push(JSON.stringify({ type: "unsubscribe", id, sub: line.sub }));
  }

  private ping(port: Port, packet: Packet): void {
    const ping = { port, id: idOf(packet) };
    if (this.upstream!.isAlive()) port.say({ type: "pong", id: ping.id });
    else if (this.pings.length < MAX_PINGS) this.pings.push(ping);
  }

  private remove(port: Port, isGoodbye: boolean): void {
    if (!this.ports.delete(port)) return;
    port.close(1000, "");
    for (const member of port.members.values()) this.leave(member);
    port.members.clear();
    if (this.ports.size === 0) {
      const { upstream } = this;
      this.reset();
      upstream?.leave(isGoodbye);
    } else this.tellStatus();
  }

  private drop(port: Port, code: number, reason: string): void {
    port.close(code, reason);
    this.remove(port, false);
  }

  // From the broker.

  private readBroker(text: string): void {
    const { upstream } = this;
    const value = parsed(text);
    if (value === null || typeof value !== "object") return upstream!.end(4101, "unreadable");
    for (const { port, id } of this.pings.splice(0)) port.say({ type: "pong", id });
    if (!Array.isArray(value)) return this.route(value as Packet, text);
    const texts = elements(text);
    value.forEach((packet, n) => {
      if (this.upstream === upstream && packet && typeof packet === "object") this.route(packet, texts[n]!);
    });
  }

  private route(packet: Packet, text: string): void {
    const { lines } = this.upstream!;
    if (packet.type === "message") return tellAll(lines.take(packet), text);
    if (packet.type === "ping") return this.pinged(packet, text);
    if (packet.type === "pong") return;
    if (packet.type === "bye") return this.bye(packet, text);
    const asked = this.upstream!.answered(packet["id"]);
    if (asked) return this.answered(asked, packet, text);
    if (packet["sub"] !== undefined) return this.tellLine(lines.get(packet["sub"]), packet, text);
    if (packet.type === "joined" || packet.type === "left") return tellAll(lines.watching(packet["topic"]), text);
    // An error of a packet that had no id, a notice, or what a later version says.
    for (const port of this.ports) if (port.phase === "connected") port.tell(text);
  }

  private answered(asked: Asked<Port>, packet: Packet, text: string): void {
    const { port, line, auth } = asked;
    if (packet.type === "connected") this.online(packet);
    else if (auth) this.authorizing.answered(auth, packet, text);
    else if (line) this.tellLine(line, packet, text);
    else if (port) port.tell(patch(text, { id: asked.id, ...("sub" in packet && { sub: asked.sub }) }));
    else if (packet.type === "error") this.first?.tell(patch(text, { id: this.first.connectId }));
  }

  private online(packet: Packet): void {
    this.upstream!.connected();
    this.connected = packet;
    this.connection = String(packet["connection"]);
    this.phase = "online";
    const { first } = this;
    this.first = undefined;
    this.authorizing.connected(first?.token, packet);
    for (const port of [...this.ports]) {
      if (port === first) this.welcome(port);
      else if (port.phase === "waiting") this.authorizing.connects(port);
    }
    this.tellStatus();
  }

  /** What concerns one upstream subscription goes to everybody on it, with the numbers that it has there. */
  private tellLine(line: Line<Port> | undefined, packet: Packet, text: string): void {
    if (!line) return; // R5
    const { lines } = this.upstream!;
    const isOver = packet.type === "unsubscribed" || (packet.type === "error" && line.phase === "asked");
    if (NOTED.has(packet.type)) lines.note(line, packet);
    for (const member of line.members) {
      member.port.tell(patch(text, { id: member.id, sub: member.sub }));
      if (isOver) member.port.members.delete(member.sub);
      if (packet.type === "subscribed") member.id = undefined;
    }
    if (packet.type === "error" && isOver) lines.refused(line);
    else if (isOver) lines.drop(line);
    if (packet.type === "caught_up") this.merge();
  }

  private pinged(packet: Packet, text: string): void {
    this.out.push('{"type":"pong"}');
    for (const port of this.ports) if (port.phase === "connected") port.tell(text);
    if (packet["at"] === undefined) return;
    this.upstream!.lines.raise(packet["at"]);
    this.merge();
  }

  private merge(): void {
    for (const line of this.upstream!.lines.merge()) this.end(line);
  }

  private bye(packet: Packet, text: string): void {
    const { upstream } = this;
    const code = typeof packet["code"] === "number" ? packet["code"] : 4100;
    this.ended(code, String(packet["name"] ?? ""), text);
    upstream!.leave(false);
  }
}

const RETRIES: Readonly<Record<string, string>> = { inflight: "backoff" };

function complain(port: Port, packet: Packet | Record<string, unknown>, name: string, field: string): void {
  const sub = isNumber(packet["sub"]) ? packet["sub"] : undefined;
  const said = { name, message: `${name} (said by triode/tabs)`, retry: RETRIES[name] ?? "never" };
  port.say({ type: "error", id: idOf(packet as Packet), sub, ...said, field: field || undefined });
}

function tellAll(ports: ReadonlySet<Port>, text: string): void {
  for (const port of ports) port.tell(text);
}

/** The value of a JSON text; undefined where it is none. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
