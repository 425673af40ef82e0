/**
 * What the console asks its node: one function, the secret it shows, and the beat at which views ask again.
 *
 * Knows no view. The surprising decision: the secret is kept for the tab (`sessionStorage`) and goes with each
 * request as a header, never as a cookie: no other page can make this browser use it.
 */
const SECRET = "triode.console.secret";
const PATIENCE_MS = 15_000;
const MAX_PAUSE_MS = 15_000;

/** What the node answered, or that it did not. `status` 0: nothing came. */
export class Problem extends Error {
  constructor(status, message, name = "", field = "") {
    super(message);
    Object.assign(this, { status, name: name || "problem", field });
  }
}

/** The secret of this tab; "" = nobody has come in. */
export const credential = {
  get: () => sessionStorage.getItem(SECRET) ?? "",
  set: (secret) => sessionStorage.setItem(SECRET, secret),
  forget: () => sessionStorage.removeItem(SECRET),
};

/** `ask("GET", "/v1/connections", {query})`. Raises Problem. */
export async function ask(method, path, { query = {}, body, secret = credential.get() } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const target = given.length ? `${path}?${new URLSearchParams(given)}` : path;
  const headers = { Authorization: `Bearer ${secret}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer, text;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const init = { method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
    answer = await fetch(target, body === undefined ? init : { ...init, body: JSON.stringify(body) });
    text = await answer.text();
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Problem(0, late ? "no answer within 15 s" : "the node does not answer");
  }
  let said = {};
  try {
    said = JSON.parse(text);
  } catch {
    if (answer.ok && text) throw new Problem(answer.status, "the answer is no JSON: is this a Triode node?");
  }
  if (answer.ok) return said;
  const { name, message, field } = said?.error ?? {};
  throw new Problem(answer.status, message || `${answer.status} ${answer.statusText}`, name, field);
}

/** Calls `work` again and again: not while the page is hidden, never twice at once, less often while it fails. */
export class Beat {
  #work;
  #everyMs;
  #timer = 0;
  #busy = false;
  #isWanted = false; // once more, as soon as what is under way has ended
  #failures = 0;
  #ended = false;

  /** `work` raises where it failed; `everyMs()`: 0 = paused. */
  constructor(work, everyMs) {
    this.#work = work;
    this.#everyMs = everyMs;
    document.addEventListener("visibilitychange", this.now);
    this.begun = this.now(); // settles when it was done once
  }

  /** At once, if it is not under way. */
  now = async () => {
    clearTimeout(this.#timer);
    this.#isWanted = this.#busy;
    if (this.#busy || this.#ended || document.hidden) return;
    this.#busy = true;
    try {
      await this.#work();
      this.#failures = 0;
    } catch {
      this.#failures++;
    }
    this.#busy = false;
    if (this.#isWanted) return this.now();
    const pause = Math.min(this.#everyMs() * 2 ** Math.min(this.#failures, 4), MAX_PAUSE_MS);
    if (pause && !this.#ended && !document.hidden) this.#timer = setTimeout(this.now, pause);
  };

  /** No more. */
  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.now);
  }
}
