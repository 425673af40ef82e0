/**
 * Elements out of plain calls, and fitting what is shown to what should be shown.
 *
 * Knows nothing of brokers. The surprising decision: there is no way to hand over markup. Children are nodes or
 * texts, so what clients publish and call themselves can never become an element (S27).
 */
const KEY = Symbol("key"); // no plain name: `form.key` is the field of that name
const OWN = Symbol("own");
const make = (space) => (tag, props, ...children) => {
  const node = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node[name] = value;
    else if (name === "key") node[KEY] = value;
    else if (name === "own") node[OWN] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(9).filter((one) => one !== undefined && one !== null && one !== false && one !== ""));
  return node;
};
/** `h("a", {href, onclick, key}, "text", node, [more])`. `own`: stands in for a node that its maker draws himself. */
export const h = make("");
/** The same for SVG. */
export const s = make("http://www.w3.org/2000/svg");

const LISTENERS = ["onclick", "oninput", "onchange", "onsubmit", "onpointermove", "onpointerleave", "onkeydown"];

/** Make `parent` show these children. What is the same stays: focus, selection and scrolling, too. */
export function fit(parent, ...children) {
  const active = document.activeElement;
  fitChildren(parent, h("div", null, children).childNodes);
  if (active?.isConnected && active !== document.activeElement) active.focus({ preventScroll: true });
}

function fitChildren(parent, nodes) {
  const wanted = [...nodes];
  const keys = new Set(wanted.map((one) => one[KEY]));
  const known = new Map([...parent.childNodes].map((one) => [one[KEY], one]));
  let at = parent.firstChild;
  const next = (gone) => ((at = gone.nextSibling), gone);
  for (const fresh of wanted) {
    while (at && at[KEY] !== undefined && !keys.has(at[KEY])) next(at).remove();
    if (fresh[OWN]) {
      if (at === fresh[OWN]) next(at);
      else parent.insertBefore(fresh[OWN], at);
      continue;
    }
    const live = fresh[KEY] === undefined ? at : known.get(fresh[KEY]);
    if (!live || live.nodeName !== fresh.nodeName || live[KEY] !== fresh[KEY]) parent.insertBefore(fresh, at);
    else {
      if (live === at) next(at);
      else parent.insertBefore(live, at);
      fitOne(live, fresh);
    }
  }
  while (at) next(at).remove();
}

function fitOne(live, fresh) {
  if (live.nodeType === Node.TEXT_NODE) {
    if (live.data !== fresh.data) live.data = fresh.data;
    return;
  }
  for (const { name } of [...live.attributes])
    if (!fresh.hasAttribute(name) && name !== "open") live.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  for (const name of LISTENERS) if (live[name] !== fresh[name]) live[name] = fresh[name];
  fitChildren(live, fresh.childNodes);
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const scaled = (value, units) => {
  let at = 0;
  for (; Math.abs(value) >= 1000 && at < units.length - 1; at++) value /= 1000;
  return (Math.abs(value) >= 100 ? Math.round(value) : short.format(value)) + units[at];
};
const known = (write) => (value) => (typeof value === "number" && Number.isFinite(value) ? write(value) : "–");
/** 12,345 */
export const count = known((value) => whole.format(value));
/** 1 attempt, 2 attempts */
export const counted = (value, one) => `${count(value)} ${one}${value === 1 ? "" : "s"}`;
/** 12.3k: of rates, where digits would dance. */
export const brief = known((value) => scaled(value, ["", "k", "M", "G"]));
/** 1.5 kB */
export const bytes = known((value) => scaled(value, [" B", " kB", " MB", " GB", " TB"]));
/** Milliseconds, in the unit that fits. */
export const time = known((ms) => {
  if (ms < 1) return short.format(ms * 1000) + " µs";
  if (ms < 1000) return short.format(ms) + " ms";
  if (ms < 120_000) return short.format(ms / 1000) + " s";
  if (ms < 7_200_000) return Math.round(ms / 60_000) + " min";
  return ms < 172_800_000 ? Math.round(ms / 3_600_000) + " h" : Math.round(ms / 86_400_000) + " days";
});
/** 14:03:59 of a wall clock in ms. */
export const clock = known((ms) => new Date(ms).toLocaleTimeString("en-GB"));
/** 2026-11-23 14:03 */
export const date = known((ms) => new Date(ms).toLocaleString("sv-SE").slice(0, 16));
/** 45 % of 0.45 */
export const percent = known((share) => Math.round(share * 100) + " %");
