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
  private readonly ports_ = new Set<Port>();
  private upstream_: Upstream<Port> | undefined;
  private phase_: UpstreamPhase = "idle";
  /** Whose `connect` the broker is asked with. */
  private first_: Port | undefined;
  private connected_: Packet | undefined;
  /** The broker's name for the last connection, for `replaces`. */
  private connection_: string | undefined;
  private authorizing_: Authorizing;
  private pings_: { port: Port; id: number | undefined }[] = [];
  private out_: string[] = [];
  private portCount_ = 0;
  private hasWill_ = false;

  constructor(
    private readonly dial_: Transport,
    private readonly clock_: Clock,
  ) {
    this.authorizing_ = this.newAuthorizing_();
  }

  /** A tab dials. It is told `open` when there is a connection, and closed where none can be had. */
  attach(outlet: Outlet, url: string, protocol: string, tab: string): Port {
    const port = new Port(outlet, ++this.portCount_, tab);
    this.turn_(() => {
      if (this.ports_.size >= MAX_PORTS) return port.close(4103, "too many tabs");
      this.doubt_();
      this.ports_.add(port);
      if (!this.upstream_) this.open_(url, protocol, port);
      else if (this.phase_ !== "opening") outlet.open();
      this.tellStatus_();
    });
    return port;
  }

  /** A tab says something. */
  said(port: Port, text: string): void {
    this.turn_(() => this.readTab_(port, text), port);
  }

  /** A tab is gone: with a goodbye, or without. */
  gone(port: Port, isGoodbye: boolean): void {
    this.turn_(() => this.remove_(port, isGoodbye));
  }

  /** Ends everything; the tabs dial again, elsewhere. */
  shutdown(): void {
    this.turn_(() => {
      const { upstream_: upstream } = this;
      this.ended_(HANDED_OVER, "handed over");
      // The tabs live on: nobody's will is to be read. Without a will a broken line is better: presence waits.
      upstream?.leave(this.hasWill_);
    });
  }

  get isIdle(): boolean {
    return this.ports_.size === 0;
  }

  /** Handed to the line to the broker, and not sent yet. */
  get waitingBytes(): number {
    return this.upstream_?.waitingBytes ?? 0;
  }

  /** One turn: what it has to say goes out at its end, and a fault of ours costs its port and nobody else. */
  private turn_(run: () => void, port?: Port): void {
    try {
      run();
      this.flush_();
    } catch (error) {
      console.error("triode/tabs", error);
      if (port) this.drop_(port, 4101, "internal");
      else this.upstream_?.end(4101, "internal");
    }
  }

  private flush_(): void {
    while (this.out_.length > 0) {
      const max = Math.min((this.connected_?.["limits"]?.max_frame_bytes ?? MAX_TEXT_CHARS * 4) / 4, MAX_TEXT_CHARS);
      let count = 1;
      for (let chars = this.out_[0]!.length; count < this.out_.length && count < MAX_PACKETS; count++) {
        chars += this.out_[count]!.length + 1;
        if (chars > max) break;
      }
      const texts = this.out_.splice(0, count);
      this.upstream_?.send(texts.length > 1 ? `[${texts.join(",")}]` : texts[0]!);
    }
    for (const port of this.ports_) port.flush();
  }

  private tellStatus_(): void {
    const tabs = new Set([...this.ports_].map((port) => port.tab)).size;
    for (const port of this.ports_) port.outlet.status({ tabs, upstream: this.phase_ });
  }

  // The connection to the broker.

  private open_(url: string, protocol: string, port: Port): void {
    try {
      this.phase_ = "opening";
      const upstream: Upstream<Port> = new Upstream(this.dial_, url, protocol, this.clock_, {
        opened: () => this.turn_(() => this.opened_()),
        text: (text) => this.turn_(() => this.readBroker_(text)),
        ended: (code, reason) => this.turn_(() => this.ended_(code, reason)),
      });
      this.upstream_ = upstream;
    } catch (error) {
      // Not an address, or one that this page may not dial: it will not get better (as SPEC 5.3.2 has it).
      this.phase_ = "idle";
      this.drop_(port, 4000, String(error));
    }
  }

  /** A broker that should have been heard is asked whether it is there; one that has missed a ping is not believed. */
  private doubt_(): void {
    const intervals = (this.upstream_?.silentMs() ?? 0) / (this.connected_?.["ping_ms"] ?? Infinity);
    if (intervals >= 1.5 || this.upstream_?.isOverdue()) this.upstream_!.end(4105, "the broker is silent");
    else if (intervals > 1) this.upstream_!.isAlive();
  }

  private opened_(): void {
    this.phase_ = "open";
    for (const port of this.ports_) port.outlet.open();
    this.tellStatus_();
  }

  private ended_(code: number, reason: string, bye?: string): void {
    const { first_: first, upstream_: upstream } = this;
    const isRefusal = this.phase_ === "connecting" && code >= 4000 && code <= 4099;
    const longest = upstream?.longest();
    const ports = [...this.ports_];
    this.reset_();
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

  private reset_(): void {
    this.ports_.clear();
    this.upstream_ = undefined;
    this.connected_ = undefined;
    this.first_ = undefined;
    this.phase_ = "idle";
    this.pings_ = [];
    this.out_ = [];
    this.authorizing_ = this.newAuthorizing_();
  }

  private newAuthorizing_(): Authorizing {
    return new Authorizing(this.clock_, {
      ask: (token, auth) => {
        const id = this.upstream_!.ask({ auth });
        if (id !== undefined) this.out_.push(JSON.stringify({ type: "auth", id, token }));
        return id !== undefined;
      },
      admit: (port) => this.welcome_(port),
      refuse: (port) => this.drop_(port, OWN, "another identity"),
      others: (answered, notice) => {
        for (const port of this.ports_) if (port.phase === "connected" && !answered.has(port)) port.say(notice);
      },
    });
  }

  // From the tabs.

  private readTab_(port: Port, text: string): void {
    if (port.phase === "closed") return;
    const value = parsed(text);
    const isBatch = Array.isArray(value);
    const packets: unknown[] = isBatch ? value : [value];
    if (packets.length === 0 || packets.length > MAX_PACKETS || (isBatch && value.some(Array.isArray)) || value === undefined) {
      return complain(port, {}, packets.length > MAX_PACKETS ? "too_large" : "malformed", "");
    }
    const texts = isBatch ? elements(text) : [text];
    packets.forEach((packet, n) => this.take_(port, packet as Packet, texts[n]!));
  }

  private take_(port: Port, packet: Packet, text: string): void {
    if (port.phase === "closed") return;
    if (typeof packet?.type !== "string") return complain(port, packet ?? {}, "malformed", "type");
    if (port.phase === "open") return this.connect_(port, packet);
    if (port.phase === "connected" || port === this.first_) return this.serve_(port, packet, text);
    if (!port.hold(text)) this.drop_(port, 4000, "too much before connected");
  }

  private serve_(port: Port, packet: Packet, text: string): void {
    switch (packet.type) {
      case "subscribe":
        return this.subscribe_(port, packet, text);
      case "unsubscribe":
        return this.unsubscribe_(port, packet, text);
      case "ping":
        return this.ping_(port, packet);
      case "pong":
        return; // the broker has had one for all
      case "auth":
        return this.authorizing_.refreshes(port, packet);
      case "disconnect":
        return this.remove_(port, true);
      case "connect":
        return complain(port, packet, "bad_state", "type");
      default:
        return this.forward_(port, packet, text);
    }
  }

  private connect_(port: Port, packet: Packet): void {
    if (packet.type !== "connect") {
      complain(port, packet, "bad_state", "type");
      port.say({ type: "bye", code: 4000, name: "protocol" });
      return this.drop_(port, 4000, "protocol");
    }
    port.asks(packet);
    if (this.phase_ === "online") return this.authorizing_.connects(port);
    if (this.phase_ !== "open") return;
    this.first_ = port;
    this.hasWill_ = "will" in packet;
    this.phase_ = "connecting";
    const replaces = this.connection_ ?? String(packet["replaces"] ?? "").split("/")[0];
    const connect = { ...packet, capabilities: ["batch"], id: this.upstream_!.ask({}) };
    this.out_.push(JSON.stringify({ ...connect, replaces: replaces || undefined }));
    this.tellStatus_();
  }

  /** The answer that the first tab has got, under a name of this tab's own: so no tab can `replaces` the others. */
  private welcome_(port: Port): void {
    port.phase = "connected";
    const expires = this.authorizing_.expiresInMs();
    const connection = `${this.connection_}/${port.number}`;
    port.say({ ...this.connected_!, id: port.connectId, connection, expires_in_ms: expires });
    for (const text of port.takeHeld()) this.take_(port, JSON.parse(text), text);
  }

  private forward_(port: Port, packet: Packet, text: string): void {
    const changes: Record<string, number> = {};
    const { sub } = packet;
    const member = isNumber(sub) ? port.members.get(sub) : undefined;
    if (isNumber(sub) && !member) return complain(port, packet, "no_such_subscription", "sub");
    if (member) changes["sub"] = member.line.sub;
    const id = idOf(packet);
    if (id !== undefined) {
      const size = packet.type === "publish" ? text.length : 0;
      const asked = this.upstream_!.ask({ port, id, sub: member?.sub, size });
      if (asked === undefined) return complain(port, packet, "inflight", "");
      changes["id"] = asked;
    }
    this.out_.push(patch(text, changes));
  }

  private subscribe_(port: Port, packet: Packet, text: string): void {
    const { sub } = packet;
    if (!isNumber(sub)) return this.forward_(port, packet, text); // the broker says what is wrong with it
    if (port.members.has(sub)) return complain(port, packet, "conflict", "sub");
    if (port.members.size >= (this.connected_?.["limits"]?.max_subscriptions ?? MAX_PACKETS)) {
      return complain(port, packet, "quota", "");
    }
    const { lines } = this.upstream_!;
    const line = lines.findAlike(packet) ?? this.openLine_(packet, text);
    if (!line) return complain(port, packet, "inflight", "");
    const member: Member<Port> = { port, sub, id: idOf(packet), line };
    line.members.add(member);
    port.members.set(sub, member);
    if (line.phase !== "live") return;
    port.say({ type: "subscribed", id: member.id, sub, after: line.position, live: true, ...line.extras });
    member.id = undefined;
  }

  private openLine_(packet: Packet, text: string): Line<Port> | undefined {
    const { lines } = this.upstream_!;
    const line = lines.open(packet);
    const id = this.upstream_!.ask({ line });
    if (id === undefined) return void lines.refused(line);
    this.out_.push(patch(text, { id, sub: line.sub }));
    return line;
  }

  private unsubscribe_(port: Port, packet: Packet, text: string): void {
    const member = port.members.get(packet["sub"]);
    if (!member) return this.forward_(port, packet, text);
    const { sub } = member;
    const id = idOf(packet);
    if (this.leave_(member, id)) port.say({ type: "unsubscribed", id, sub });
  }

  /** True: the broker needs not be asked, because others are on the line. */
  private leave_(member: Member<Port>, id?: number): boolean {
    const { port, sub, line } = member;
    port.members.delete(sub);
    line.members.delete(member);
    if (line.members.size > 0) return true;
    this.end_(line, id === undefined ? undefined : this.upstream_!.ask({ port, id, sub }));
    return false;
  }

  private end_(line: Line<Port>, id?: number): void {
    this.upstream_!.lines.drop(line);
    this.out_.push(JSON.stringify({ type: "unsubscribe", id, sub: line.sub }));
  }

  private ping_(port: Port, packet: Packet): void {
    const ping = { port, id: idOf(packet) };
    if (this.upstream_!.isAlive()) port.say({ type: "pong", id: ping.id });
    else if (this.pings_.length < MAX_PINGS) this.pings_.push(ping);
  }

  private remove_(port: Port, isGoodbye: boolean): void {
    if (!this.ports_.delete(port)) return;
    port.close(1000, "");
    for (const member of port.members.values()) this.leave_(member);
    port.members.clear();
    if (this.ports_.size === 0) {
      const { upstream_: upstream } = this;
      this.reset_();
      upstream?.leave(isGoodbye);
    } else this.tellStatus_();
  }

  private drop_(port: Port, code: number, reason: string): void {
    port.close(code, reason);
    this.remove_(port, false);
  }

  // From the broker.

  private readBroker_(text: string): void {
    const { upstream_: upstream } = this;
    const value = parsed(text);
    if (value === null || typeof value !== "object") return upstream!.end(4101, "unreadable");
    for (const { port, id } of this.pings_.splice(0)) port.say({ type: "pong", id });
    if (!Array.isArray(value)) return this.route_(value as Packet, text);
    const texts = elements(text);
    value.forEach((packet, n) => {
      if (this.upstream_ === upstream && packet && typeof packet === "object") this.route_(packet, texts[n]!);
    });
  }

  private route_(packet: Packet, text: string): void {
    const { lines } = this.upstream_!;
    if (packet.type === "message") return tellAll(lines.take(packet), text);
    if (packet.type === "ping") return this.pinged_(packet, text);
    if (packet.type === "pong") return;
    if (packet.type === "bye") return this.bye_(packet, text);
    const asked = this.upstream_!.answered(packet["id"]);
    if (asked) return this.answered_(asked, packet, text);
    if (packet["sub"] !== undefined) return this.tellLine_(lines.get(packet["sub"]), packet, text);
    if (packet.type === "joined" || packet.type === "left") return tellAll(lines.watching(packet["topic"]), text);
    // An error of a packet that had no id, a notice, or what a later version says.
    for (const port of this.ports_) if (port.phase === "connected") port.tell(text);
  }

  private answered_(asked: Asked<Port>, packet: Packet, text: string): void {
    const { port, line, auth } = asked;
    if (packet.type === "connected") this.online_(packet);
    else if (auth) this.authorizing_.answered(auth, packet, text);
    else if (line) this.tellLine_(line, packet, text);
    else if (port) port.tell(patch(text, { id: asked.id, ...("sub" in packet && { sub: asked.sub }) }));
    else if (packet.type === "error") this.first_?.tell(patch(text, { id: this.first_.connectId }));
  }

  private online_(packet: Packet): void {
    this.upstream_!.connected();
    this.connected_ = packet;
    this.connection_ = String(packet["connection"]);
    this.phase_ = "online";
    const { first_: first } = this;
    this.first_ = undefined;
    this.authorizing_.connected(first?.token, packet);
    for (const port of [...this.ports_]) {
      if (port === first) this.welcome_(port);
      else if (port.phase === "waiting") this.authorizing_.connects(port);
    }
    this.tellStatus_();
  }

  /** What concerns one upstream subscription goes to everybody on it, with the numbers that it has there. */
  private tellLine_(line: Line<Port> | undefined, packet: Packet, text: string): void {
    if (!line) return; // R5
    const { lines } = this.upstream_!;
    const isOver = packet.type === "unsubscribed" || (packet.type === "error" && line.phase === "asked");
    if (NOTED.has(packet.type)) lines.note(line, packet);
    for (const member of line.members) {
      member.port.tell(patch(text, { id: member.id, sub: member.sub }));
      if (isOver) member.port.members.delete(member.sub);
      if (packet.type === "subscribed") member.id = undefined;
    }
    if (packet.type === "error" && isOver) lines.refused(line);
    else if (isOver) lines.drop(line);
    if (packet.type === "caught_up") this.merge_();
  }

  private pinged_(packet: Packet, text: string): void {
    this.out_.push('{"type":"pong"}');
    for (const port of this.ports_) if (port.phase === "connected") port.tell(text);
    if (packet["at"] === undefined) return;
    this.upstream_!.lines.raise(packet["at"]);
    this.merge_();
  }

  private merge_(): void {
    for (const line of this.upstream_!.lines.merge()) this.end_(line);
  }

  private bye_(packet: Packet, text: string): void {
    const { upstream_: upstream } = this;
    const code = typeof packet["code"] === "number" ? packet["code"] : 4100;
    this.ended_(code, String(packet["name"] ?? ""), text);
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
