/**
 * Line charts: rings of numbers, and pictures of them in SVG with their words in HTML.
 *
 * Knows nothing of brokers. The surprising decision: the drawing is stretched (`preserveAspectRatio="none"`, strokes
 * not scaled) and the words stand beside it, so that nothing has to be measured and no size is ever stale.
 */
import { h, s } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 160;
const MAX_WINDOW_MS = 300_000;
const MIN_WINDOW_MS = 60_000;
const MARKS = [1, 0.8, 0.6, 0.4, 0.2, 0];

/** The last `size` samples: a time and a number for each name. Never more. */
export class Ring {
  #samples = [];
  #size;

  constructor(size = 300) {
    this.#size = size;
  }

  push(at, values) {
    this.#samples.push({ at, values });
    if (this.#samples.length > this.#size) this.#samples.shift();
  }

  /** The newest number of this name. */
  last(name) {
    return this.#samples.at(-1)?.values[name];
  }

  /** What a chart shows: from when on, how many ms, and the samples, oldest first. */
  window(now) {
    const span = Math.min(Math.max(now - (this.#samples[0]?.at ?? now), MIN_WINDOW_MS), MAX_WINDOW_MS);
    return { begin: now - span, span, samples: this.#samples.filter(({ at }) => at >= now - span) };
  }
}

const ago = (ms) => (ms % 60_000 && ms < 600_000 ? `${Math.floor(ms / 60_000) || ""}${ms >= 60_000 ? ":" + String(Math.round((ms % 60_000) / 1000)).padStart(2, "0") : Math.round(ms / 1000) + " s"}` : `${ms / 60_000} min`);

function ceiling(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].find((step) => step * unit >= value) * unit;
}

/** From a value to its height; `marks` are the values at the lines of the grid, lowest first. */
function linear(values) {
  const top = ceiling(Math.max(0, ...values));
  return { marks: [0, 1, 2, 3, 4].map((n) => (top * n) / 4), height: (value) => value / top };
}

/** The same in powers of ten: of times, where one in a hundred is a hundred times as long. */
export function decades(values) {
  const found = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...found, 0.1)));
  const high = Math.max(Math.ceil(Math.log10(Math.max(...found, 1))), low + 1);
  const marks = Array.from({ length: high - low + 1 }, (_, at) => 10 ** (low + at));
  return { marks, height: (value) => Math.max(Math.log10(value) - low, 0) / (high - low) };
}

const y = (share) => (HEIGHT - share * (HEIGHT - 4)).toFixed(1);

function path({ samples, begin, span }, name, height, close) {
  let text = "";
  let open = "";
  const end = (x) => (close && open ? `L${x} ${HEIGHT}L${open} ${HEIGHT}Z` : "");
  let last = 0;
  for (const { at, values } of samples) {
    const value = values[name];
    const x = (((at - begin) / span) * WIDTH).toFixed(1);
    if (!Number.isFinite(value)) {
      text += end(last);
      open = "";
    } else {
      text += `${open ? "L" : "M"}${x} ${y(height(value))}`;
      open ||= x;
      last = x;
    }
  }
  return text + end(last);
}

const plot = (name, d) => s("path", { class: name, d, "vector-effect": "non-scaling-stroke" });

/** A small one without words, for a tile. */
export function spark(ring, name, now) {
  const view = ring.window(now);
  const { height } = linear(view.samples.map(({ values }) => values[name] || 0));
  return s(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    plot("area", path(view, name, height, true)),
    plot("line", path(view, name, height)),
  );
}

/**
 * A chart: `lines` are [name, words] of the ring, `write` turns a number into words. `hover` is kept by the caller:
 * the time that is pointed at; `scale`: `decades`, else linear.
 */
export function chart({ title, note, ring, lines, write, now, hover, empty, scale }) {
  const view = ring.window(now);
  const { samples, begin, span } = view;
  const values = samples.flatMap((one) => lines.map(([name]) => one.values[name]).filter(Number.isFinite));
  const { marks, height } = (scale ?? linear)(values);
  const pointed = hover.at && samples.length && samples.reduce((a, b) => (Math.abs(b.at - hover.at) < Math.abs(a.at - hover.at) ? b : a));
  const shown = pointed || samples.at(-1);
  const x = pointed && ((pointed.at - begin) / span) * WIDTH;
  const point = (event) => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    hover.at = begin + (span * (event.clientX - left)) / width;
    hover.draw();
  };
  const leave = () => {
    hover.at = 0;
    hover.draw();
  };
  const legend = lines.map(([name, words], number) =>
    h("li", { class: `series${number}` }, h("span", null, words), " ", h("b", null, write(shown?.values[name]))),
  );
  const said = lines.map(([name, words]) => `${words} ${write(shown?.values[name])}`).join(", ");
  const when = pointed ? new Date(pointed.at).toLocaleTimeString("en-GB") : "now";
  return h(
    "figure",
    { class: "card chart" },
    h("figcaption", null, h("h2", null, title), note && h("p", { class: "dim" }, note)),
    h("ul", { class: "legend" }, legend, h("li", { class: "dim when" }, when)),
    h(
      "div",
      { class: "plot" },
      h("div", { class: "scale", "aria-hidden": "true" }, [...marks].reverse().map((mark) => h("span", null, write(mark)))),
      s(
        "svg",
        {
          role: "img",
          "aria-label": `${title}: ${said}`,
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
          preserveAspectRatio: "none",
          onpointermove: point,
          onpointerleave: leave,
        },
        marks.map((mark, at) => plot("grid", `M0 ${y(at / (marks.length - 1))}H${WIDTH}`)),
        lines.map(([name], n) => [
          n === 0 && plot(`area series${n}`, path(view, name, height, true)),
          plot(`line series${n}`, path(view, name, height)),
        ]),
        pointed && plot("cross", `M${x} 0V${HEIGHT}`),
      ),
      !values.length && h("p", { class: "dim over" }, empty ?? "Collecting figures …"),
    ),
    h("div", { class: "axis dim", "aria-hidden": "true" }, MARKS.map((share) => h("span", null, share ? `−${ago(share * span)}` : "now"))),
  );
}
