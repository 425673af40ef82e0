/**
 * The tokens of many tabs on one connection: one `auth` at a time, and who may share.
 *
 * A refresh by one tab is one for all. A tab that comes with another token than those the broker has taken is let in
 * when the broker takes its token too; one of another identity is refused here and dials for itself. The surprising
 * decision: where the broker knows no `auth`, tokens are not compared and everybody is let in.
 */
import type { Clock } from "../types.js";
import type { Packet } from "./lines.js";
import { idOf, type Port } from "./port.js";
import { patch } from "./text.js";

export interface Auth {
  readonly port: Port;
  readonly id: number | undefined;
  readonly token: string;
  /** It is that of a `connect`: judged for itself, and never answered by another tab's. */
  readonly isConnect: boolean;
}

export interface Gate {
  /** False: it cannot be asked. */
  ask(token: string, auth: Auth): boolean;
  admit(port: Port): void;
  refuse(port: Port): void;
  /** Those who did not ask are told when the token expires now, so that they do not refresh, too. */
  others(answered: ReadonlySet<Port>, notice: Packet): void;
}

const MAX_TOKENS = 16;

export class Authorizing {
  private readonly tokens = new Set<string>();
  private waiting: Auth[] = [];
  private isAsking = false;
  private isUnknown = false;
  private expiresAt: number | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly gate: Gate,
  ) {}

  /** The broker has taken the first tab's `connect`. */
  connected(token: string | undefined, packet: Packet): void {
    this.taken(token, packet);
  }

  /** What is left of the token's time; undefined: it has no end. */
  expiresInMs(): number | undefined {
    return this.expiresAt === undefined ? undefined : Math.max(0, Math.round(this.expiresAt - this.clock.now()));
  }

  /** A later tab's `connect`. */
  connects(port: Port): void {
    const { token } = port;
    if (token === undefined || this.isUnknown || this.tokens.has(token)) return this.gate.admit(port);
    this.add({ port, id: port.connectId, token, isConnect: true });
  }

  /** A tab has a new token. */
  refreshes(port: Port, packet: Packet): void {
    this.add({ port, id: idOf(packet), token: String(packet["token"]), isConnect: false });
  }

  answered(auth: Auth, packet: Packet, text: string): void {
    this.isAsking = false;
    if (packet.type === "authorized") this.authorized(auth, packet, text);
    else this.failed(auth, packet, text);
    this.next();
  }

  private add(auth: Auth): void {
    this.waiting.push(auth);
    this.next();
  }

  private next(): void {
    while (!this.isAsking && this.waiting.length > 0) {
      const auth = this.waiting.shift()!;
      if (auth.port.phase === "closed") continue;
      if (auth.isConnect && (this.isUnknown || this.tokens.has(auth.token))) this.gate.admit(auth.port);
      else if (this.gate.ask(auth.token, auth)) this.isAsking = true;
      else this.refused(auth, `{"type":"error","name":"inflight","message":"","retry":"backoff"}`);
    }
  }

  private authorized(auth: Auth, packet: Packet, text: string): void {
    this.taken(auth.token, packet);
    // A refresh that came meanwhile has what it wants: the connection is good until then.
    const refreshes = this.waiting.filter((other) => !other.isConnect);
    this.waiting = this.waiting.filter((other) => other.isConnect);
    const answered = new Set<Port>();
    for (const { port, id } of auth.isConnect ? refreshes : [auth, ...refreshes]) {
      port.tell(patch(text, { id }));
      answered.add(port);
    }
    const expires = this.expiresInMs();
    if (expires !== undefined) this.gate.others(answered, { type: "notice", expires_in_ms: expires });
    if (auth.isConnect && auth.port.phase !== "closed") this.gate.admit(auth.port);
  }

  private failed(auth: Auth, packet: Packet, text: string): void {
    this.isUnknown ||= packet["name"] === "unsupported";
    if (auth.isConnect && this.isUnknown && auth.port.phase !== "closed") this.gate.admit(auth.port);
    else this.refused(auth, text);
  }

  private refused(auth: Auth, text: string): void {
    if (auth.isConnect) this.gate.refuse(auth.port);
    else auth.port.tell(patch(text, { id: auth.id }));
  }

  private taken(token: string | undefined, packet: Packet): void {
    const expires = packet["expires_in_ms"];
    this.expiresAt = typeof expires === "number" ? this.clock.now() + expires : undefined;
    if (token === undefined) return;
    this.tokens.delete(token);
    this.tokens.add(token);
    for (const oldest of this.tokens) {
      if (this.tokens.size <= MAX_TOKENS) return;
      this.tokens.delete(oldest);
    }
  }
}
