/**
 * Who listens to what. Knows nothing of what is told.
 *
 * The surprising decision: a listener that throws, at once or later, harms nobody. Its error goes where uncaught
 * errors go, and the next listener is called.
 */

type Listener = (event: any) => unknown;

/** Tell the developer of an error that is the program's own. */
export const report = (error: unknown): void => (globalThis.reportError ?? console.error)(error);

/** The methods for programs; how to tell those who listen, which says whether there was anybody; whether there is. */
export function makeEmitter(heard?: () => void) {
  let listeners: (readonly [string, Listener])[] = [];
  const removeEventListener = (type: string, listener: Listener): void => {
    listeners = listeners.filter((one) => one[0] != type || one[1] != listener);
  };
  const on = (type: string, listener: Listener) => {
    listeners = [...listeners, [type, listener]];
    heard?.();
    return () => removeEventListener(type, listener);
  };
  const has = (type: string): boolean => listeners.some((one) => one[0] == type);
  const emit = (event: Record<string, any>): boolean => {
    const heard = listeners.filter((one) => one[0] == event.type);
    for (const [, listener] of heard) {
      try {
        (listener(event) as any)?.then?.(undefined, report);
      } catch (error) {
        report(error);
      }
    }
    return !!heard[0];
  };
  return [{ on, addEventListener: on, removeEventListener }, emit, has] as const;
}
