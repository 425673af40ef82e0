/**
 * Questions and their answers: history, presence, auth, and what is said about deliveries. Knows packets and time.
 *
 * The surprising decision: what only reads is asked again after a reconnect, within its time; what changes something
 * is not, and fails with its connection.
 */
import type { Packet } from "./codec.js";
import { TriodeError } from "./errors.js";
import type { Outbox } from "./outbox.js";
import type { Time } from "./time.js";

const MAX_REQUESTS = 1_024; // unanswered at once

interface Request {
  readonly packet_: Packet;
  readonly answer_: string;
  readonly expiresAt_: number;
  readonly isRead_: boolean;
  resolve_(packet: Packet): void;
  reject_(error: TriodeError): void;
}

export class Requests {
  private all_ = new Map<number, Request>();

  constructor(
    private time_: Time,
    private outbox_: Outbox,
    private timeout_: number,
  ) {}

  /** Ask; `answer` is the type of what answers it. */
  ask_(packet: Packet, answer: string, isRead?: boolean): Promise<Packet> {
    const id = (packet.id = this.outbox_.id_());
    const expiresAt = this.time_.now_() + this.timeout_;
    return new Promise((resolve, reject) => {
      if (this.all_.size >= MAX_REQUESTS) return reject(new TriodeError("queue_full", "too many requests wait for answers"));
      this.all_.set(id, {
        packet_: packet,
        answer_: answer,
        expiresAt_: expiresAt,
        isRead_: !!isRead,
        resolve_: resolve,
        reject_: reject,
      });
      this.time_.wake_(expiresAt);
      this.outbox_.put_(packet);
    });
  }

  /** An answer; one that nobody waits for is ignored. */
  answered_(packet: Packet): void {
    const request = this.take_(packet.id, packet.type);
    request?.resolve_(packet);
  }

  /** An error. False: it is none of ours. */
  refused_(id: number, error: TriodeError): boolean {
    const request = this.take_(id);
    request?.reject_(error);
    return !!request;
  }

  private take_(id: number, answer?: string): Request | undefined {
    const request = this.all_.get(id);
    if (!request || (answer && answer != request.answer_)) return;
    this.all_.delete(id);
    return request;
  }

  /** A connection is open: ask again. */
  attach_(): void {
    for (const request of this.all_.values()) this.outbox_.put_(request.packet_);
  }

  /** The connection is gone (`isFinal`: for good). */
  detach_(error: TriodeError, isFinal?: boolean): void {
    for (const [id, request] of this.all_) if (isFinal || !request.isRead_) this.refused_(id, error);
  }

  /** Ends what has waited too long; when to look again. */
  tick_(now: number): number {
    for (const [id, request] of this.all_) {
      if (now < request.expiresAt_) return request.expiresAt_; // they are in the order of asking
      this.refused_(id, new TriodeError("expired", "no answer in time", { retry: "backoff" }));
    }
    return Infinity;
  }
}
