/**
 * What waits to be written besides publishes, and the numbers that packets carry. Knows text, no socket.
 *
 * The surprising decision: nothing is written at once. What comes together in one turn of the program leaves as one
 * array, so a broker sees one message, and a socket one write.
 */
import type { Packet } from "./codec.js";

const MOST_UNWRITTEN = 65_536; // packets: a broker that sends on without reading our answers is dropped

export class Outbox {
  /** Whether there is a WebSocket to write to. */
  isOpen_ = false;
  texts_: string[] = [];
  private lastId_ = 0;

  /** `flush` is called in the next microtask once something is to be written. */
  constructor(private flush_: () => void) {}

  /** A number for `id`: never given twice. */
  id_(): number {
    return ++this.lastId_;
  }

  put_(packet: Packet): void {
    if (!this.isOpen_) return;
    if (this.texts_.push(JSON.stringify(packet)) > MOST_UNWRITTEN) throw Error("it does not read");
    this.flush_();
  }
}
