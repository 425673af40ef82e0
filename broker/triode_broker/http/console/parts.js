/**
 * The pieces that views are made of: tables, tiles, dialogs, notices, JSON for reading.
 *
 * Knows elements, no broker. The surprising decision: a table's cells carry their heading as `data-label`, so that
 * on a phone each row becomes a card by style alone.
 */
import { h } from "./dom.js";

/** A line that says how something is: `kind` is "good", "warn", "bad" or "". */
export const badge = (text, kind = "") => h("span", { class: `badge ${kind}` }, text);

/** What stands where there is nothing yet: what it is, and what to do. */
export const empty = (title, ...what) => h("div", { class: "empty" }, h("h3", null, title), h("p", null, what));

/** A shell command for people to copy. */
export const command = (text) => h("code", null, text);

/** A field with its words above it. */
export const field = (words, input, note) => h("label", { class: "field" }, h("span", null, words), input, note && h("small", null, note));

/** A drop-down of [value, words]. */
export const choice = (options, chosen, props) =>
  h("select", props, options.map(([value, words]) => h("option", { value, selected: value === chosen }, words)));

/**
 * A table. `columns`: {title, cell(row), kind: "num" | "wide" | "acts", by(row)}: those with `by` can be sorted;
 * `sort`: {column, down} is kept by the caller, `again` draws.
 */
export function table({ label, columns, rows, key, sort, again, nothing }) {
  if (!rows.length) return h("div", { class: "card" }, nothing);
  const by = sort && columns.find(({ title }) => title === sort.column)?.by;
  if (by) {
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    rows = [...rows].sort((a, b) => (sort.down ? order(by(b), by(a)) : order(by(a), by(b))));
  }
  const head = ({ title, kind, by, down = kind === "num" }) => {
    if (!by) return h("th", { scope: "col", class: kind }, title);
    const chosen = sort.column === title;
    const turn = () => {
      Object.assign(sort, { column: title, down: chosen ? !sort.down : down });
      again();
    };
    const state = chosen ? (sort.down ? "descending" : "ascending") : "none";
    return h("th", { scope: "col", class: kind, "aria-sort": state }, h("button", { type: "button", onclick: turn }, title));
  };
  const line = (row) =>
    h("tr", { key: key(row) }, columns.map(({ title, kind, cell }) => h("td", { class: kind, "data-label": title }, h("div", null, cell(row)))));
  return h(
    "div",
    { class: "card scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", null, h("thead", null, h("tr", null, columns.map(head))), h("tbody", null, rows.map(line))),
  );
}

/** A number that matters, with words, a small chart beside it, and a remark. */
export const tile = (words, value, drawing, note) =>
  h("div", { class: "card tile" }, h("span", { class: "dim" }, words), h("strong", null, value), h("small", { class: "dim" }, note), drawing);

/** Facts, two columns: [[words, value]]. */
export const facts = (pairs) => h("dl", { class: "facts" }, pairs.map(([words, value]) => h("div", null, h("dt", null, words), h("dd", null, value))));

/**
 * Ask before something is done. Resolves to what was filled in ({name: value}), or undefined.
 * `fields`: elements; `action`: what the button says.
 */
export function confirmed({ title, text, fields = [], action }) {
  return new Promise((resolve) => {
    let answer;
    const submit = (event) => {
      event.preventDefault();
      answer = Object.fromEntries(new FormData(event.target));
      dialog.close();
    };
    const dialog = h(
      "dialog",
      { "aria-labelledby": "ask" },
      h(
        "form",
        { onsubmit: submit },
        h("h2", { id: "ask" }, title),
        h("p", null, text),
        fields,
        h(
          "div",
          { class: "acts" },
          h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
          h("button", { class: "danger" }, action),
        ),
      ),
    );
    dialog.onclose = () => {
      dialog.remove();
      resolve(answer);
    };
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Say what has happened, for some seconds; errors until they are closed. At most four. */
export function notice(text, kind = "good") {
  const shelf = document.getElementById("notices");
  const close = () => one.remove();
  const one = h("div", { class: `notice ${kind}` }, h("span", null, text), h("button", { type: "button", "aria-label": "Close", onclick: close }, "×"));
  shelf.append(one);
  if (shelf.children.length > 4) shelf.firstChild.remove();
  if (kind !== "bad") setTimeout(close, 6_000);
}

/** Do it, and say how it went. Returns whether it went well. */
export async function attempt(work, said) {
  try {
    const answer = await work();
    if (said) notice(typeof said === "function" ? said(answer) : said);
    return true;
  } catch (error) {
    notice(error.message, "bad");
    return false;
  }
}

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const MAX_COLOURED = 20_000;

/** JSON text with its kinds of values marked: spans around texts, nothing else. */
export function json(text) {
  if (text.length > MAX_COLOURED) return h("pre", null, text);
  const pre = h("pre");
  let upto = 0;
  for (const found of text.matchAll(TOKENS)) {
    const [all, string, colon, word] = found;
    const kind = string ? (colon ? "name" : "text") : word ? "word" : "number";
    pre.append(text.slice(upto, found.index), h("span", { class: `j-${kind}` }, string ?? all), colon ?? "");
    upto = found.index + all.length;
  }
  pre.append(text.slice(upto));
  return pre;
}

/** The data of a message as text: JSON, or what bytes there are. */
export function written(data, indent) {
  if (data === undefined) return "(deletes its key)";
  if (data instanceof Uint8Array) return `(${data.length} bytes) ${[...data.subarray(0, 64)].map((b) => b.toString(16).padStart(2, "0")).join(" ")}`;
  return JSON.stringify(data, null, indent);
}

/** Draw into `place` at most `perSecond` times a second, and not while the page is hidden. */
export function paced(draw, perSecond) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      requestAnimationFrame(draw);
    }, 1000 / perSecond);
  };
}
