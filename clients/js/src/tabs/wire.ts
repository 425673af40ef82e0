/**
 * What goes between a tab and the switchboard that serves it, and the bound on what lies between them.
 *
 * Knows no protocol of brokers: texts are texts. A wire has no back-pressure of its own, so each side says how many
 * texts it has handled, and the switchboard gives up a tab that has not handled too many: such a tab resumes.
 */
import type { SharedStatus } from "./port.js";

/** A MessagePort or a BroadcastChannel: both are enough of a wire. */
export interface Wire {
  onmessage: ((event: any) => void) | null;
  postMessage(letter: unknown): void;
  close(): void;
}

/** From a tab. `lock` is held by the tab as long as it lives. */
export type FromTab =
  | { kind: "dial"; share: string; url: string; protocol: string; tab: string; lock: string | undefined }
  | { kind: "text"; text: string }
  | { kind: "got"; count: number }
  | { kind: "close"; isGoodbye: boolean };

/** To a tab. `taken`: there is a switchboard, and it dials. */
export type ToTab =
  | { kind: "taken" }
  | { kind: "open" }
  | { kind: "text"; text: string }
  | { kind: "got"; chars: number }
  | { kind: "status"; status: SharedStatus }
  | { kind: "close"; code: number; reason: string };

/** Every letter but the first names the desk, so that two of them on one wire (a leader that woke up, and the one that
 * took its place) are told apart: a tab is served by the one that answered first. */
export type Letter<L> = L & { readonly desk?: string | undefined };

/** Names of locks, workers and wires begin with it. Another number: builds that do not understand each other. */
export const PREFIX = "triode-tabs-1:";

/** A tab says after so many texts, or so much of them, that it has handled them. */
export const GOT_EVERY = 16;
export const GOT_EVERY_CHARS = 65_536;

const MAX_UNHANDLED = 8_192;
const MAX_UNHANDLED_CHARS = 8 << 20;

/** What was sent to a tab and not handled there yet. */
export class Unhandled {
  private sizes_: number[] = [];
  private chars_ = 0;

  /** False: too much. */
  sent(text: string): boolean {
    this.sizes_.push(text.length);
    this.chars_ += text.length;
    return this.sizes_.length <= MAX_UNHANDLED && this.chars_ <= MAX_UNHANDLED_CHARS;
  }

  handled(count: unknown): void {
    if (typeof count !== "number") return;
    for (const size of this.sizes_.splice(0, count)) this.chars_ -= size;
  }
}
