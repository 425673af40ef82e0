/**
 * The lock that this tab holds as long as it lives: whoever gets it knows that the tab is gone. Knows nothing else.
 */
import type { World } from "./world.js";

export class Life {
  private held: Promise<string | undefined> | undefined;
  private free: (() => void) | undefined;

  constructor(private readonly world: World) {}

  /** The lock's name, once it is held; undefined where there are no locks. */
  hold(): Promise<string | undefined> {
    return (this.held ??= this.request());
  }

  /** Under another name next time: somebody may still wait for this one. */
  release(): void {
    this.held = undefined;
    this.free?.();
    this.free = undefined;
  }

  private request(): Promise<string | undefined> {
    const { locks, newId } = this.world;
    if (!locks) return Promise.resolve(undefined);
    const name = `triode-tab-${newId()}`;
    return new Promise((resolve) => {
      const hold = () => {
        resolve(name);
        return new Promise<void>((free) => (this.free = free));
      };
      locks.request(name, hold).catch(() => resolve(undefined)); // where locks are not allowed, as in a sandbox
    });
  }
}
