/**
 * A tab's end: looks like a WebSocket to the client, and is a wire to a switchboard.
 *
 * Knows letters, not where the switchboard is: it may be given another wire as long as it is not open. Its surprise:
 * closing does not wait for an answer, because the other side may be gone, and nobody would notice.
 */
import type { Socket } from "../types.js";
import type { SharedStatus } from "./port.js";
import { GOT_EVERY, GOT_EVERY_CHARS, type FromTab, type Letter, type ToTab, type Wire } from "./wire.js";

export interface SocketEvents {
  /** A switchboard is there. */
  taken(): void;
  status(status: SharedStatus): void;
  /** It is over; `wasTaken`: a switchboard had answered. */
  over(code: number, wasTaken: boolean): void;
}

export class TabSocket implements Socket {
  readyState = 0;
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: { data: any }) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  isTaken = false;
  private wire_: Wire | undefined;
  private desk_: string | undefined;
  private sentChars_ = 0;
  private gotChars_ = 0;
  private unsaid_ = 0;
  private unsaidChars_ = 0;

  constructor(private readonly events_: SocketEvents) {}

  /** Said, and not handled by the switchboard yet; characters, not bytes. */
  get bufferedAmount(): number {
    return Math.max(0, this.sentChars_ - this.gotChars_);
  }

  get isOpening(): boolean {
    return this.readyState === 0;
  }

  /** Dial over this wire from here on, and forget the one before. */
  through(wire: Wire, dial?: FromTab): void {
    this.hangUp_();
    this.isTaken = false;
    this.desk_ = undefined;
    this.wire_ = wire;
    wire.onmessage = ({ data }) => this.wire_ === wire && this.letter_(data);
    if (dial) this.post_(dial);
  }

  send(text: string): void {
    if (this.readyState !== 1) return;
    this.sentChars_ += text.length;
    this.post_({ kind: "text", text });
  }

  close(code = 1005, reason = ""): void {
    if (this.readyState > 1) return;
    this.readyState = 2;
    this.post_({ kind: "close", isGoodbye: code === 1000 });
    queueMicrotask(() => this.finish(code, reason));
  }

  /** The page sleeps or goes: the switchboard shall not wait for it. The client is told when the page comes back. */
  suspend(): void {
    this.post_({ kind: "close", isGoodbye: false });
    this.hangUp_();
  }

  /** The end, told to the client. */
  finish(code: number, reason: string): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.hangUp_();
    this.events_.over(code, this.isTaken);
    this.onclose?.({ code, reason });
  }

  private letter_(letter: Letter<ToTab>): void {
    if (this.readyState > 1 || !letter) return;
    if (!this.isTaken && letter.kind === "taken") this.desk_ = letter.desk;
    else if (letter.desk !== this.desk_ || !this.isTaken) return;
    switch (letter.kind) {
      case "taken":
        this.isTaken = true;
        return this.events_.taken();
      case "open":
        if (!this.isOpening) return;
        this.readyState = 1;
        return this.onopen?.({});
      case "text":
        return this.hear_(letter.text);
      case "got":
        this.gotChars_ = letter.chars;
        return;
      case "status":
        return this.events_.status(letter.status);
      case "close":
        return this.finish(letter.code, letter.reason);
    }
  }

  private hear_(text: string): void {
    this.unsaidChars_ += text.length;
    if (++this.unsaid_ === GOT_EVERY || this.unsaidChars_ >= GOT_EVERY_CHARS) {
      this.post_({ kind: "got", count: this.unsaid_ });
      this.unsaid_ = this.unsaidChars_ = 0;
    }
    this.onmessage?.({ data: text });
  }

  private post_(letter: FromTab): void {
    try {
      this.wire_?.postMessage({ ...letter, desk: this.desk_ });
    } catch {
      // What cannot be said is found out by the client: nothing answers.
    }
  }

  private hangUp_(): void {
    const { wire_: wire } = this;
    this.wire_ = undefined;
    if (!wire) return;
    wire.onmessage = null;
    queueMicrotask(() => wire.close());
  }
}
