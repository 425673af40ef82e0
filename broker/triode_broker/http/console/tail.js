/**
 * Messages as they come, over the JavaScript client of every page: a filter, a search, a look into each.
 *
 * The surprising decision: what is drawn is at most the newest 200 of at most 500 kept, four times a second. The
 * rest is counted: a tail that keeps up with every topic of a cluster is a browser that hangs.
 */
import { ask } from "./api.js";
import { clock, count, fit, h } from "./dom.js";
import { badge, choice, empty, field, json, notice, paced, written } from "./parts.js";

const MAX_KEPT = 500;
const MAX_SHOWN = 200;
const MAX_CHARACTERS = 65_536; // of one payload
const FROM = [["new", "what is new"], ["last", "the last of each topic"], ["earliest", "all that is kept"]];

/** Tokens for the listener's WebSocket, for as long as the client asks for them. */
export const tokens = (tenant) => async () => (await ask("POST", "/v1/console/token", { body: { tenant } })).token;

export function open(app) {
  const get = (name) => app.params.get(name) ?? "";
  let client, subscription;
  let rows = []; // newest last
  let seen = 0;
  let dropped = 0;
  let isPaused = false;
  let state = "stopped";
  let number = 0;
  const place = h("ol", { class: "plain messages", "aria-label": "Messages" });

  function note(row) {
    if (isPaused) return dropped++;
    row.number = number++;
    rows.push(row);
    if (rows.length > MAX_KEPT) rows.shift();
    drawRows();
  }

  function take(message) {
    seen++;
    const text = written(message.data);
    const cut = text.length > MAX_CHARACTERS;
    const { topic, offset, ts, user, key, headers, log, pos } = message;
    note({ topic, offset, ts, user, key, headers, log, pos, text: cut ? text.slice(0, MAX_CHARACTERS) + " …" : text, isWhole: !cut && !(message.data instanceof Uint8Array) && message.data !== undefined });
  }

  function start(event) {
    event?.preventDefault();
    const filter = get("filter");
    if (!filter) return;
    stop();
    client = new Triode(location.origin, { name: "console", token: tokens(app.tenant) });
    const own = client;
    let reached = "connecting";
    let isSubscribed = false; // "connected" promises that what is published from then on comes
    const show = () => {
      if (client !== own) return;
      state = reached === "connected" && !isSubscribed ? "connecting" : reached;
      app.redraw();
    };
    client.on("state", (change) => {
      reached = change.state;
      show();
    });
    client.on("complaint", ({ message }) => notice(message, "warn"));
    subscription = client.subscribe(filter, { from: get("from") || "new", overflow: "gap" });
    subscription.on("message", take);
    subscription.on("gap", ({ reason }) => note({ gap: reason, ts: Date.now() }));
    subscription.on("end", ({ error }) => {
      if (!error) return;
      notice(`${filter}: ${error.message}`, "bad");
      stop();
    });
    subscription.ready.then(() => ((isSubscribed = true), show()), () => {});
    app.redraw();
  }

  function stop() {
    client?.close(0);
    client = undefined;
    state = "stopped";
    app.redraw();
  }

  const matches = (row) => {
    const wanted = get("search").toLowerCase();
    return !wanted || [row.topic, row.text, row.user, row.key].some((one) => one?.toLowerCase().includes(wanted));
  };

  function details(row) {
    const pretty = () => {
      try {
        return row.isWhole ? JSON.stringify(JSON.parse(row.text), null, 2) : row.text;
      } catch {
        return row.text;
      }
    };
    const said = [["user", row.user], ["key", row.key], ["log", row.log], ["pos", row.pos], ...Object.entries(row.headers ?? {}).map(([name, value]) => [`header ${name}`, value])];
    return [json(pretty()), h("p", { class: "dim mono" }, said.filter(([, value]) => value).map(([name, value]) => `${name} ${value}`).join(" · "))];
  }

  function line(row) {
    if (row.gap) return h("li", { key: row.number, class: "gap" }, badge("gap", "warn"), ` messages are missing here: ${row.gap}`);
    const turn = () => ((row.isOpen = !row.isOpen), drawRows());
    return h("li", { key: row.number },
      h("button", { type: "button", "aria-expanded": !!row.isOpen, onclick: turn },
        h("time", { class: "dim" }, clock(row.ts)), h("span", { class: "topic" }, row.topic), h("span", { class: "text" }, row.text.slice(0, 400)), h("span", { class: "dim offset" }, `#${row.offset}`)),
      row.isOpen && h("div", { class: "open" }, details(row)));
  }

  const drawRows = paced(() => {
    const found = rows.filter(matches).slice(-MAX_SHOWN).reverse();
    const waiting = client ? empty("Listening", "Nothing has come yet. ", h("a", { href: "#/publish" }, "Publish something"), " or wait.") : empty("Not listening", "Name a filter, ", h("code", null, "#"), " is everything, and start.");
    fit(place, found.length ? found.map(line) : h("li", { class: "none" }, rows.length ? empty("Nothing of that kind", "None of what was kept has these words in it.") : waiting));
    app.redraw();
  }, 4);

  const clear = () => {
    rows = [];
    seen = dropped = 0;
    drawRows();
  };
  const pause = () => ((isPaused = !isPaused), app.redraw());
  const keep = (name) => ({ target }) => (app.keep(name, target.value), drawRows());

  const draw = () => [
    h("form", { class: "bar", onsubmit: start },
      field("Filter", h("input", { name: "filter", class: "mono", value: get("filter"), placeholder: "rooms/+/chat or #", required: true, autocapitalize: "off", spellcheck: "false", oninput: keep("filter") })),
      field("Begin with", choice(FROM, get("from") || "new", { onchange: keep("from") })),
      h("div", { class: "acts" }, h("button", { class: "main" }, client ? "Restart" : "Start"), client && h("button", { type: "button", onclick: stop }, "Stop"))),
    h("div", { class: "bar" },
      field("Only with", h("input", { type: "search", value: get("search"), placeholder: "words in topic, data, user, key", oninput: keep("search") })),
      h("div", { class: "acts" }, h("button", { type: "button", "aria-pressed": isPaused, onclick: pause }, isPaused ? "Go on" : "Pause"), h("button", { type: "button", onclick: clear }, "Clear")),
      h("p", { class: "dim count", role: "status" }, badge(state, state === "connected" ? "good" : state === "stopped" ? "" : "warn"), ` ${count(seen)} came`, dropped > 0 && `, ${count(dropped)} not kept while paused`)),
    h("div", { class: "card" }, h("ol", { own: place })),
  ];
  if (get("filter")) start();
  drawRows();
  return { draw, close: stop };
}
