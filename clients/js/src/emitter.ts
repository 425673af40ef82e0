/**
 * Who listens to what. Knows nothing of what is told.
 *
 * The surprising decision: a listener that throws, at once or later, harms nobody. Its error goes where uncaught
 * errors go, and the next listener is called.
 */

type Listener = (event: any) => unknown;

/** Tell the developer of an error that is the program's own. */
export const report = (error: unknown): void => (globalThis.reportError ?? console.error)(error);

export class Emitter {
  private listeners_ = new Map<string, Set<Listener>>();

  on(type: string, listener: Listener): () => void {
    const known = this.listeners_.get(type) ?? new Set();
    this.listeners_.set(type, known.add(listener));
    this.heard_(type);
    return () => this.removeEventListener(type, listener);
  }

  addEventListener(type: string, listener: Listener): void {
    this.on(type, listener);
  }

  removeEventListener(type: string, listener: Listener): void {
    this.listeners_.get(type)?.delete(listener);
  }

  /** Somebody listens to `type` from here on. */
  protected heard_(_type: string): void {}

  hasListener_(type: string): boolean {
    return !!this.listeners_.get(type)?.size;
  }

  /** Whether anybody was told. */
  emit_(event: Record<string, any>): boolean {
    const heard = this.hasListener_(event.type);
    for (const listener of [...(this.listeners_.get(event.type) ?? [])]) call(listener, event);
    return heard;
  }
}

const call = (listener: Listener, event: unknown): void => {
  try {
    (listener(event) as Promise<unknown> | undefined)?.then?.(undefined, report);
  } catch (error) {
    report(error);
  }
};
