/**
 * The lock that this tab holds as long as it lives: whoever gets it knows that the tab is gone. Knows nothing else.
 */
import type { World } from "./world.js";

export class Life {
  private held_: Promise<string | undefined> | undefined;
  private free_: (() => void) | undefined;

  constructor(private readonly world_: World) {}

  /** The lock's name, once it is held; undefined where there are no locks. */
  hold(): Promise<string | undefined> {
    return (this.held_ ??= this.request_());
  }

  /** Under another name next time: somebody may still wait for this one. */
  release(): void {
    this.held_ = undefined;
    this.free_?.();
    this.free_ = undefined;
  }

  private request_(): Promise<string | undefined> {
    const { locks, newId } = this.world_;
    if (!locks) return Promise.resolve(undefined);
    const name = `triode-tab-${newId()}`;
    return new Promise((resolve) => {
      const hold = () => {
        resolve(name);
        return new Promise<void>((free) => (this.free_ = free));
      };
      locks.request(name, hold).catch(() => resolve(undefined)); // where locks are not allowed, as in a sandbox
    });
  }
}
