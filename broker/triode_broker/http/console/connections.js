/** Who is connected, who is too slow and why; send them away, withdraw what they came in with. */
import { bytes, count, date, h, time } from "./dom.js";
import { attempt, badge, choice, confirmed, empty, field, table } from "./parts.js";

const PAGE = 100;

/** Why a client is slow, in a few words. */
export const why = (one) => (one.paused_ms ? `paused for ${time(one.paused_ms)}: ` : "") + `${bytes(one.waiting_bytes)} wait, ${one.paused_ms ? "nothing it sends is read meanwhile" : one.catching_up ? "it is catching up" : one.blocked ? "its socket takes nothing" : "about to be sent"}`;

/** How long a revocation holds: [seconds, words]. */
export const TERMS = [["", "as long as tokens are good"], ["3600", "an hour"], ["86400", "a day"], ["604800", "a week"], ["0", "until it is lifted"]];

/** What a call that may not have reached all nodes says. */
export const missing = ({ unanswered = [] }) => (unanswered.length ? ` No answer from ${unanswered.join(", ")}.` : "");

export function open(app) {
  const sort = { column: "Waiting", down: true };
  let rows = [];
  let more = false;
  let limit = PAGE;
  let unanswered = [];
  let left = 0; // operators, this console among them
  let open; // subscriptions of the one connection that is looked at
  const get = (name) => app.params.get(name) ?? "";

  async function refresh() {
    const id = get("connection");
    const query = { limit, user: get("user"), address: get("address"), connection: id };
    const [all, slow, subs] = await Promise.all([
      app.ask("GET", "/v1/connections", { query }),
      app.ask("GET", "/v1/slow", { query: { limit: PAGE } }),
      id && app.ask("GET", "/v1/subscriptions", { query: { connection: id, limit: PAGE } }),
    ]);
    const waiting = new Map(slow.connections.map((one) => [one.connection, one]));
    rows = all.connections.map((one) => ({ ...one, slow: waiting.get(one.connection) }));
    const known = new Set(rows.map((one) => one.connection));
    const isMeant = (one) => ["user", "address", "connection"].every((name) => !get(name) || get(name) === one[name]);
    if (get("slow")) rows = [...rows.filter((one) => one.slow), ...slow.connections.filter((one) => !known.has(one.connection) && isMeant(one)).map((one) => ({ ...one, slow: one }))];
    const everybody = rows.length;
    if (!get("user") && !id) rows = rows.filter((one) => one.method !== "operator");
    left = everybody - rows.length;
    ({ more, unanswered = [] } = all);
    more &&= !get("slow");
    open = subs && subs.subscriptions;
  }

  const named = (one) => one.user || `connection ${one.connection}`;

  async function kick(one) {
    const fields = h("label", { class: "check" }, h("input", { type: "checkbox", name: "back" }), "It may come back at once (to another place, say)");
    const answer = await confirmed({ title: `Kick ${named(one)}?`, text: `Its connection from ${one.address || "this machine"} is closed, and its client is told that it was sent away. It is not kept out.`, fields, action: "Kick" });
    if (!answer) return;
    const body = { connection: one.connection, come_back: "back" in answer };
    await attempt(() => app.ask("POST", "/v1/kick", { body }), (done) => `${count(done.closed)} closed.${missing(done)}`);
    app.again();
  }

  async function revoke(one) {
    const what = one.token ? `token ${one.token}` : one.key ? `API key ${one.key}` : `what user ${one.user} comes in with`;
    const fields = field("For", choice(TERMS, "", { name: "seconds" }));
    const answer = await confirmed({ title: `Revoke ${what}?`, text: "Everybody who came in with it is sent away, on all nodes, and kept out.", fields, action: "Revoke" });
    if (!answer) return;
    const body = { connection: one.connection, ...(answer.seconds && { seconds: Number(answer.seconds) }) };
    await attempt(() => app.ask("POST", "/v1/revocations", { body }), (done) => `Revoked; ${count(done.closed)} closed.${missing(done)}`);
    app.again();
  }

  const columns = [
    { title: "User", by: (one) => one.user, cell: (one) => [h("a", { href: `#/connections?connection=${encodeURIComponent(one.connection)}` }, one.user || "anonymous"), h("small", null, [one.tenant && `tenant ${one.tenant}`, one.method].filter(Boolean).join(", "))] },
    { title: "Address", by: (one) => one.address, cell: (one) => [h("span", { class: "mono" }, one.address || "–"), h("small", null, `on ${one.node}`)] },
    { title: "Since", by: (one) => one.since_ms, down: true, cell: (one) => h("time", { title: date(one.since_ms) }, time(Math.max(Date.now() - one.since_ms, 1000))) },
    { title: "Subs", kind: "num", by: (one) => one.subscriptions, cell: (one) => count(one.subscriptions) },
    { title: "Waiting", kind: "num", by: (one) => one.slow?.waiting_bytes ?? 0, cell: (one) => bytes(one.slow?.waiting_bytes ?? 0) },
    { title: "Slow because", kind: "wide", by: (one) => one.slow?.paused_ms ?? -1, down: true, cell: (one) => (one.slow ? badge(why(one.slow), "warn") : h("span", { class: "dim" }, one.refused ? `refused ${count(one.refused)} packets` : "–")) },
    { title: "Act", kind: "acts", cell: (one) => [
      h("button", { type: "button", onclick: () => kick(one), "aria-label": `Kick ${named(one)}` }, "Kick"),
      h("button", { type: "button", onclick: () => revoke(one), "aria-label": `Revoke ${named(one)}`, disabled: !one.user && !one.token && !one.key }, "Revoke"),
    ] },
  ];

  const subscriptions = [
    { title: "Filter", kind: "wide", cell: (one) => h("span", { class: "mono" }, one.filter) },
    { title: "Kind", cell: (one) => [one.kind, one.name && h("small", null, one.name)] },
    { title: "State", cell: (one) => badge(one.state, one.state === "live" ? "good" : one.state === "slow" ? "warn" : "") },
    { title: "On overflow", cell: (one) => one.overflow || "–" },
    { title: "In flight", kind: "num", cell: (one) => (one.window ? `${count(one.in_flight)} of ${count(one.window)}` : "–") },
  ];

  const search = (words, name, placeholder) =>
    field(words, h("input", { type: "search", name, value: get(name), placeholder, autocapitalize: "off", spellcheck: "false", oninput: ({ target }) => app.keep(name, target.value.trim()) }));
  const draw = () => [
    h("div", { class: "bar" },
      search("User", "user", "whole name"), search("Address", "address", "192.0.2.7"), search("Connection", "connection", "its id"),
      h("label", { class: "check" }, h("input", { type: "checkbox", checked: !!get("slow"), onchange: ({ target }) => app.keep("slow", target.checked ? "1" : "") }), "Slow ones only")),
    unanswered.length > 0 && h("p", { class: "banner bad" }, `No answer from ${unanswered.join(", ")}.`),
    table({
      label: "Connections", columns, rows, sort, again: app.redraw, key: (one) => one.connection,
      nothing: get("slow") ? empty("No slow subscribers", "Every client takes what it is sent.") : empty("Nobody is connected", "Try ", h("code", null, "triode sub '#'"), " in a terminal, or widen the filter."),
    }),
    left > 0 && h("p", { class: "dim" }, `${count(left)} of operators, this console's among them, are left out: `, h("a", { href: "#/connections?user=operator" }, "show them")),
    open && [h("h2", null, "Its subscriptions"), table({ label: "Subscriptions", columns: subscriptions, rows: open, key: (one) => one.sub, nothing: empty("None", "It only publishes, or is about to subscribe.") })],
    more && h("p", null, h("button", { type: "button", onclick: () => ((limit = Math.min(limit + PAGE, 1000)), app.again()) }, `More than ${count(rows.length)}: show more`)),
  ];
  return { draw, refresh };
}
