/**
 * The console's frame: coming in, the views by their addresses, what all of them share.
 *
 * Knows the views by name and nothing of what they show. The surprising decision: everything is drawn anew from what
 * is known and fitted to the page (`dom.fit`), so that no view keeps track of what it has shown before.
 */
import { ask, Beat, credential } from "./api.js";
import { fit, h, s } from "./dom.js";
import { Figures } from "./figures.js";
import { choice, notice } from "./parts.js";
import * as access from "./access.js";
import * as cluster from "./cluster.js";
import * as connections from "./connections.js";
import * as durable from "./durable.js";
import * as node from "./node.js";
import * as overview from "./overview.js";
import * as publish from "./publish.js";
import * as tail from "./tail.js";
import * as topics from "./topics.js";

/** Address, words, icon (paths in 16 × 16), view. */
const VIEWS = [
  ["overview", "Overview", "M2 13V8m4 5V3m4 10V6m4 7V9", overview],
  ["cluster", "Cluster", "M8 5 4 11m4-6 4 6m-8 0h8M8 5V2M4 11H2m10 0h2", cluster],
  ["topics", "Topics", "M6 2 4 14m8-12-2 12M2 5.5h12m-12 5h12", topics],
  ["connections", "Connections", "M6 10l4-4M5 7 3 9a3 3 0 0 0 4 4l2-2m2-2 2-2a3 3 0 0 0-4-4L7 5", connections],
  ["durable", "Durable", "M2 4h12v8H2zm0 4h3l1 2h4l1-2h3", durable],
  ["tail", "Tail", "M2 4l4 4-4 4m6 0h6", tail],
  ["publish", "Publish", "M14 2 2 7l5 2 2 5zL7 9", publish],
  ["access", "Access", "M4 7V5a4 4 0 0 1 8 0v2M3 7h10v7H3zm5 3v2", access],
  ["node", "Settings", "M2 5h7m4 0h1M2 11h1m4 0h7M9 3v4m-6 2v4", node],
];
const THEMES = [["", "System"], ["light", "Light"], ["dark", "Dark"]];
const BEATS = [["1000", "every 1 s"], ["2000", "every 2 s"], ["5000", "every 5 s"], ["0", "paused"]];
const stored = (name, otherwise) => localStorage.getItem(`triode.console.${name}`) ?? otherwise;
const store = (name, value) => localStorage.setItem(`triode.console.${name}`, value);

const app = {
  figures: new Figures(),
  theme: stored("theme", ""),
  every: stored("every", "2000"),
  tenants: [],
  /** "" = all that there are, or none. */
  tenant: "",
  /** Why nothing comes at present. */
  lost: "",
  params: new URLSearchParams(),
  everyMs: () => Number(app.every),
  redraw,
  /** Other parameters in the address, without a step in the history. */
  keep(name, value) {
    if (value) app.params.set(name, value);
    else app.params.delete(name);
    const query = String(app.params);
    history.replaceState(null, "", `#/${app.path}${query && "?" + query}`);
    app.again();
  },
  /** What the view shows is asked for at once. */
  again: () => beat?.now(),
  /** Ask; about the chosen tenant, where something is looked at. */
  ask: (method, path, options = {}) =>
    ask(method, path, { ...options, query: { ...(app.tenant && method === "GET" && { tenant: app.tenant }), ...options.query } }),
};
const root = document.getElementById("app");
let view; // what is open
let beat; // of the view
let sampling; // of the figures
let isMenuOpen = false;
let isDrawing = false;

function redraw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    fit(root, sampling ? frame() : door());
  });
}

function leave(reason) {
  credential.forget();
  sampling?.end();
  beat?.end();
  view?.close?.();
  app.figures = new Figures();
  sampling = beat = view = undefined;
  app.lost = app.trouble = "";
  if (reason) notice(reason, "warn");
  redraw();
}

/** Do it; 401 ends the visit, everything else that fails is a lost connection until it works again. */
async function guarded(work) {
  try {
    await work();
    app.lost = "";
  } catch (error) {
    if (error.status === 401) leave("The node no longer takes this secret.");
    else if (error.status === 0 || error.status >= 500) app.lost = error.message;
    if (!error.status || error.status >= 500) throw error;
    app.trouble = error.message;
  } finally {
    redraw();
  }
}

async function sample() {
  await guarded(async () => app.figures.take(await ask("GET", "/v1/figures"), Date.now()));
}

async function enter() {
  const first = (sampling = new Beat(sample, app.everyMs));
  redraw();
  await first.begun; // views ask by what the node is
  if (first !== sampling) return;
  open();
  try {
    const { names } = await ask("GET", "/v1/tenants");
    app.tenants = names.map(({ name }) => name).filter(Boolean);
    app.tenants = [...new Set(app.tenants)].sort();
  } catch {
    app.tenants = []; // an older node: without a choice
  }
  redraw();
}

/** A piece of the address; as it is where somebody has mistyped it. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function open() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const chosen = VIEWS.find(([id]) => id === name) ?? VIEWS[0];
  beat?.end();
  view?.close?.();
  isMenuOpen = false;
  app.trouble = "";
  app.path = [chosen[0], ...rest].join("/");
  app.rest = rest.map(decoded);
  app.params = new URLSearchParams(query);
  app.name = chosen[0];
  document.title = `${chosen[1]} · Triode console`;
  const opened = (view = chosen[3].open(app));
  const refresh = () =>
    guarded(async () => {
      await opened.refresh?.();
      if (opened === view) app.trouble = "";
    });
  beat = new Beat(refresh, () => (opened.refresh ? app.everyMs() : 0));
  redraw();
}

const icon = (d) => s("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, s("path", { d }));
const mark = () =>
  s("svg", { viewBox: "0 0 32 32", class: "mark", "aria-hidden": "true" },
    s("circle", { cx: 16, cy: 16, r: 12 }), s("path", { d: "M10 10h12M16 1v9M8 16h3m3 0h4m3 0h3M11 25v-3h10v3" }));

function door() {
  const submit = async (event) => {
    event.preventDefault();
    const secret = new FormData(event.target).get("secret").trim();
    try {
      app.figures.take(await ask("GET", "/v1/figures", { secret }), Date.now());
      credential.set(secret);
      app.refused = "";
      await enter();
    } catch (error) {
      app.refused = [400, 401, 403].includes(error.status) ? "This is not the secret of this node." : error.message;
      redraw();
    }
  };
  return h("main", { class: "door", id: "view" },
    h("form", { class: "card", onsubmit: submit },
      h("h1", null, mark(), "Triode console"),
      h("label", { class: "field" }, h("span", null, "Admin secret"),
        h("input", { name: "secret", type: "password", autocomplete: "current-password", required: true, autofocus: true, "aria-describedby": "why" })),
      h("p", { id: "why", class: app.refused ? "bad" : "dim", role: "status" },
        app.refused || "The text in the file that [admin] token_file names. It is kept for this tab only."),
      h("button", { class: "main" }, "Come in")));
}

function frame() {
  const nodes = Object.values(app.figures.nodes);
  const versions = [...new Set(nodes.map(({ version }) => version))].join(", ");
  const [, title = "Triode"] = VIEWS.find(([id]) => id === app.name) ?? [];
  const link = ([id, words, d]) =>
    h("li", null, h("a", { href: `#/${id}`, "aria-current": id === app.name ? "page" : undefined }, icon(d), words));
  const set = (key, change) => ({ target }) => {
    app[key] = target.value;
    store(key, target.value);
    change();
  };
  const beats = () => (sampling.now(), app.again(), redraw());
  const toggle = () => ((isMenuOpen = !isMenuOpen), redraw());
  const choose = ({ target }) => ((app.tenant = target.value), open());
  const state = app.lost ? ["bad", `Connection lost: ${app.lost}`] : app.everyMs() ? ["good", "Live"] : ["warn", "Paused"];
  return [
    h("header", { class: isMenuOpen ? "side open" : "side" },
      h("a", { class: "brand", href: "#/overview" }, mark(), h("span", null, "Triode")),
      h("button", { type: "button", class: "menu", "aria-expanded": isMenuOpen, "aria-controls": "menu", onclick: toggle }, title),
      h("div", { id: "menu" },
        h("nav", { "aria-label": "Views" }, h("ul", null, VIEWS.map(link))),
        h("div", { class: "choices" },
          app.tenants.length > 0 && h("label", null, "Tenant", choice([["", "all"], ...app.tenants.map((one) => [one, one])], app.tenant, { onchange: choose })),
          h("label", null, "Refresh", choice(BEATS, app.every, { onchange: set("every", beats) })),
          h("label", null, "Theme", choice(THEMES, app.theme, { onchange: set("theme", paint) })),
          h("button", { type: "button", onclick: () => leave() }, "Log out")))),
    h("main", { id: "view", tabindex: -1 },
      h("div", { class: "top" }, h("h1", null, title), h("span", { class: `state ${state[0]}`, role: "status" }, state[1]),
        nodes.length > 0 && h("span", { class: "dim node" }, nodes.length === 1 ? nodes[0].node : `${nodes.length} nodes`, ` · Triode ${versions}`)),
      app.trouble && h("p", { class: "banner bad", role: "alert" }, app.trouble),
      view?.draw()),
  ];
}

function paint() {
  if (app.theme) document.documentElement.dataset.theme = app.theme;
  else delete document.documentElement.dataset.theme;
  redraw();
}

addEventListener("hashchange", () => {
  if (!sampling) return;
  open();
  document.getElementById("view").focus({ preventScroll: true });
  scrollTo(0, 0);
});
paint();
if (credential.get()) enter();
