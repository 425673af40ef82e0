/**
 * Where tabs' wires arrive: a worker's or a leading tab's collection of switchboards, one for each share name.
 *
 * Knows wires, locks and letters, and no packets. The surprising decision: that a tab has died is learned from a lock
 * that it held, because a browser that kills a tab runs nothing of it any more and timers prove nothing.
 */
import type { Clock, Transport } from "../types.js";
import type { Outlet, Port, SharedStatus } from "./port.js";
import { Switchboard } from "./switchboard.js";
import { Unhandled, type FromTab, type Letter, type ToTab, type Wire } from "./wire.js";

const MAX_WAITING_BYTES = 1 << 20;
const LOOK_AGAIN_MS = 50;

/** What a desk needs of the place that it is in. */
export interface Place {
  readonly dial: Transport;
  readonly clock: Clock;
  readonly locks: Pick<LockManager, "request"> | undefined;
  newId(): string;
}

export class Desk {
  private readonly boards_ = new Map<string, Switchboard>();
  private readonly id_: string;
  private isShut_ = false;

  constructor(private readonly place_: Place) {
    this.id_ = place_.newId();
  }

  /** A wire over which a tab will say what it wants. */
  accept(wire: Wire): void {
    wire.onmessage = ({ data }: { data: FromTab }) => {
      if (data?.kind === "dial") this.seat(wire, data);
    };
  }

  /** A wire whose tab has said it already. */
  seat(wire: Wire, dial: FromTab & { kind: "dial" }): void {
    if (this.isShut_) return; // who called has heard of the next leader, or will
    const seat = new Seat(wire, this.board_(String(dial.share)), this.place_, dial, this.id_);
    wire.onmessage = ({ data }: { data: Letter<FromTab> }) => {
      if (data?.desk === this.id_) seat.letter(data);
    };
    seat.dial();
  }

  /** Everybody dials again, elsewhere. */
  shutdown(): void {
    this.isShut_ = true;
    for (const board of this.boards_.values()) board.shutdown();
    this.boards_.clear();
  }

  private board_(share: string): Switchboard {
    for (const [name, board] of this.boards_) if (board.isIdle) this.boards_.delete(name);
    const known = this.boards_.get(share);
    const board = known ?? new Switchboard(this.place_.dial, this.place_.clock);
    this.boards_.set(share, board);
    return board;
  }
}

/** The end of one tab's wire. */
class Seat implements Outlet {
  private port_: Port | undefined;
  private readonly unhandled_ = new Unhandled();
  private readonly watch_ = new AbortController();
  private isClosed_ = false;
  private taken_ = 0;

  constructor(
    private readonly wire_: Wire,
    private readonly board_: Switchboard,
    private readonly place_: Place,
    private readonly asked_: FromTab & { kind: "dial" },
    private readonly desk_: string,
  ) {}

  dial(): void {
    const { url, protocol, tab, lock } = this.asked_;
    this.post_({ kind: "taken" });
    this.port_ = this.board_.attach(this, String(url), String(protocol), String(tab));
    if (lock && !this.isClosed_) this.watchOver_(lock);
  }

  letter(letter: FromTab): void {
    if (this.isClosed_ || !this.port_) return;
    if (letter.kind === "text") {
      this.board_.said(this.port_, String(letter.text));
      this.taken_ += String(letter.text).length;
      this.sayGot_();
    } else if (letter.kind === "got") this.unhandled_.handled(letter.count);
    else if (letter.kind === "close") this.leave_(letter.isGoodbye);
  }

  /** Only when the line to the broker has room: so the tab's `bufferedAmount` tells of that line, too. */
  private sayGot_(): void {
    if (this.board_.waitingBytes < MAX_WAITING_BYTES) this.post_({ kind: "got", chars: this.taken_ });
    else if (!this.isClosed_) this.place_.clock.setTimeout(() => this.sayGot_(), LOOK_AGAIN_MS);
  }

  open(): void {
    this.post_({ kind: "open" });
  }

  send(text: string): void {
    if (this.isClosed_) return;
    this.post_({ kind: "text", text });
    // In a turn of its own: the switchboard is in the middle of telling.
    if (!this.unhandled_.sent(text)) queueMicrotask(() => this.close(4104, "the tab is too slow"));
  }

  close(code: number, reason: string): void {
    if (this.isClosed_) return;
    this.post_({ kind: "close", code, reason });
    this.leave_();
  }

  status(status: SharedStatus): void {
    this.post_({ kind: "status", status });
  }

  /** The lock is free when the tab has died. */
  private watchOver_(lock: string): void {
    const { signal } = this.watch_;
    this.place_.locks?.request(lock, { signal }, () => this.leave_()).catch(() => undefined); // not watched any more
  }

  private leave_(isGoodbye = false): void {
    if (this.isClosed_) return;
    this.isClosed_ = true;
    this.watch_.abort();
    this.wire_.onmessage = null;
    if (this.port_) this.board_.gone(this.port_, isGoodbye === true);
    // A message port that is closed at once may take its last letter along.
    queueMicrotask(() => this.wire_.close());
  }

  private post_(letter: ToTab): void {
    if (this.isClosed_) return;
    try {
      this.wire_.postMessage({ ...letter, desk: this.desk_ });
    } catch {
      this.leave_(); // nothing can be told there
    }
  }
}
