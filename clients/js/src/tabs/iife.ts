/** `tabs()` for a script tag behind that of the client: `Triode.tabs`. Its worker's script stands beside this one. */
import { tabs, type TabsOptions } from "./index.js";

const { src = "" } = (document.currentScript ?? {}) as { src?: string };

const page = globalThis as { Triode?: object };
const beside = (options?: TabsOptions) => tabs({ ...(src && { worker: new URL("tabs-worker.js", src) }), ...options });
page.Triode = Object.assign(page.Triode ?? {}, { tabs: beside });
