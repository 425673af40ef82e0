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
  private readonly boards = new Map<string, Switchboard>();
  private readonly id: string;
  private isShut = false;

  constructor(private readonly place: Place) {
    this.id = place.newId();
  }

  /** A wire over which a tab will say what it wants. */
  accept(wire: Wire): void {
    wire.onmessage = ({ data }: { data: FromTab }) => {
      if (data?.kind === "dial") this.seat(wire, data);
    };
  }

  /** A wire whose tab has said it already. */
  seat(wire: Wire, dial: FromTab & { kind: "dial" }): void {
    if (this.isShut) return; // who called has heard of the next leader, or will
    const seat = new Seat(wire, this.board(String(dial.share)), this.place, dial, this.id);
    wire.onmessage = ({ data }: { data: Letter<FromTab> }) => {
      if (data?.desk === this.id) seat.letter(data);
    };
    seat.dial();
  }

  /** Everybody dials again, elsewhere. */
  shutdown(): void {
    this.isShut = true;
    for (const board of this.boards.values()) board.shutdown();
    this.boards.clear();
  }

  private board(share: string): Switchboard {
    for (const [name, board] of this.boards) if (board.isIdle) this.boards.delete(name);
    const known = this.boards.get(share);
    const board = known ?? new Switchboard(this.place.dial, this.place.clock);
    this.boards.set(share, board);
    return board;
  }
}

/** The end of one tab's wire. */
class Seat implements Outlet {
  private port: Port | undefined;
  private readonly unhandled = new Unhandled();
  private readonly watch = new AbortController();
  private isClosed = false;
  private taken = 0;

  constructor(
    private readonly wire: Wire,
    private readonly board: Switchboard,
    private readonly place: Place,
    private readonly asked: FromTab & { kind: "dial" },
    private readonly desk: string,
  ) {}

  dial(): void {
    const { url, protocol, tab, lock } = this.asked;
    this.post({ kind: "taken" });
    this.port = this.board.attach(this, String(url), String(protocol), String(tab));
    if (lock && !this.isClosed) this.watchOver(lock);
  }

  letter(letter: FromTab): void {
    if (this.isClosed || !this.port) return;
    if (letter.kind === "text") {
      this.board.said(this.port, String(letter.text));
      this.taken += String(letter.text).length;
      this.sayGot();
    } else if (letter.kind === "got") this.unhandled.handled(letter.count);
    else if (letter.kind === "close") this.leave(letter.isGoodbye);
  }

  /** Only when the line to the broker has room: so the tab's `bufferedAmount` tells of that line, too. */
  private sayGot(): void {
    if (this.board.waitingBytes < MAX_WAITING_BYTES) this.post({ kind: "got", chars: this.taken });
    else if (!this.isClosed) this.place.clock.setTimeout(() => this.sayGot(), LOOK_AGAIN_MS);
  }

  open(): void {
    this.post({ kind: "open" });
  }

  send(text: string): void {
    if (this.isClosed) return;
    this.post({ kind: "text", text });
    // In a turn of its own: the switchboard is in the middle of telling.
    if (!this.unhandled.sent(text)) queueMicrotask(() => this.close(4104, "the tab is too slow"));
  }

  close(code: number, reason: string): void {
    if (this.isClosed) return;
    this.post({ kind: "close", code, reason });
    this.leave();
  }

  status(status: SharedStatus): void {
    this.post({ kind: "status", status });
  }

  /** The lock is free when the tab has died. */
  private watchOver(lock: string): void {
    const { signal } = this.watch;
    this.place.locks?.request(lock, { signal }, () => this.leave()).catch(() => undefined); // not watched any more
  }

  private leave(isGoodbye = false): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.watch.abort();
    this.wire.onmessage = null;
    if (this.port) this.board.gone(this.port, isGoodbye === true);
    // A message port that is closed at once may take its last letter along.
    queueMicrotask(() => this.wire.close());
  }

  private post(letter: ToTab): void {
    if (this.isClosed) return;
    try {
      this.wire.postMessage({ ...letter, desk: this.desk });
    } catch {
      this.leave(); // nothing can be told there
    }
  }
}
