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
  private readonly tokens_ = new Set<string>();
  private waiting_: Auth[] = [];
  private isAsking_ = false;
  private isUnknown_ = false;
  private expiresAt_: number | undefined;

  constructor(
    private readonly clock_: Clock,
    private readonly gate_: Gate,
  ) {}

  /** The broker has taken the first tab's `connect`. */
  connected(token: string | undefined, packet: Packet): void {
    this.taken_(token, packet);
  }

  /** What is left of the token's time; undefined: it has no end. */
  expiresInMs(): number | undefined {
    return this.expiresAt_ === undefined ? undefined : Math.max(0, Math.round(this.expiresAt_ - this.clock_.now()));
  }

  /** A later tab's `connect`. */
  connects(port: Port): void {
    const { token } = port;
    if (token === undefined || this.isUnknown_ || this.tokens_.has(token)) return this.gate_.admit(port);
    this.add_({ port, id: port.connectId, token, isConnect: true });
  }

  /** A tab has a new token. */
  refreshes(port: Port, packet: Packet): void {
    this.add_({ port, id: idOf(packet), token: String(packet["token"]), isConnect: false });
  }

  answered(auth: Auth, packet: Packet, text: string): void {
    this.isAsking_ = false;
    if (packet.type === "authorized") this.authorized_(auth, packet, text);
    else this.failed_(auth, packet, text);
    this.next_();
  }

  private add_(auth: Auth): void {
    this.waiting_.push(auth);
    this.next_();
  }

  private next_(): void {
    while (!this.isAsking_ && this.waiting_.length > 0) {
      const auth = this.waiting_.shift()!;
      if (auth.port.phase === "closed") continue;
      if (auth.isConnect && (this.isUnknown_ || this.tokens_.has(auth.token))) this.gate_.admit(auth.port);
      else if (this.gate_.ask(auth.token, auth)) this.isAsking_ = true;
      else this.refused_(auth, `{"type":"error","name":"inflight","message":"","retry":"backoff"}`);
    }
  }

  private authorized_(auth: Auth, packet: Packet, text: string): void {
    this.taken_(auth.token, packet);
    // A refresh that came meanwhile has what it wants: the connection is good until then.
    const refreshes = this.waiting_.filter((other) => !other.isConnect);
    this.waiting_ = this.waiting_.filter((other) => other.isConnect);
    const answered = new Set<Port>();
    for (const { port, id } of auth.isConnect ? refreshes : [auth, ...refreshes]) {
      port.tell(patch(text, { id }));
      answered.add(port);
    }
    const expires = this.expiresInMs();
    if (expires !== undefined) this.gate_.others(answered, { type: "notice", expires_in_ms: expires });
    if (auth.isConnect && auth.port.phase !== "closed") this.gate_.admit(auth.port);
  }

  private failed_(auth: Auth, packet: Packet, text: string): void {
    this.isUnknown_ ||= packet["name"] === "unsupported";
    if (auth.isConnect && this.isUnknown_ && auth.port.phase !== "closed") this.gate_.admit(auth.port);
    else this.refused_(auth, text);
  }

  private refused_(auth: Auth, text: string): void {
    if (auth.isConnect) this.gate_.refuse(auth.port);
    else auth.port.tell(patch(text, { id: auth.id }));
  }

  private taken_(token: string | undefined, packet: Packet): void {
    const expires = packet["expires_in_ms"];
    this.expiresAt_ = typeof expires === "number" ? this.clock_.now() + expires : undefined;
    if (token === undefined) return;
    this.tokens_.delete(token);
    this.tokens_.add(token);
    for (const oldest of this.tokens_) {
      if (this.tokens_.size <= MAX_TOKENS) return;
      this.tokens_.delete(oldest);
    }
  }
}
