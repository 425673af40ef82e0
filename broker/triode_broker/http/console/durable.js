/** Durable subscriptions: how far behind, what is under way, and the letters that nobody could deliver. */
import { count, counted, date, h, time } from "./dom.js";
import { attempt, badge, confirmed, empty, facts, json, table, written } from "./parts.js";

const SHOWN = 50; // letters

const address = (one) => `#/durable/${encodeURIComponent(one.name)}${one.tenant ? `?tenant=${encodeURIComponent(one.tenant)}` : ""}`;

export const open = (app) => (app.rest[0] === undefined ? list(app) : one(app, app.rest.join("/")));

function list(app) {
  const sort = { column: "Lag", down: true };
  let rows = [];
  async function refresh() {
    rows = (await app.ask("GET", "/v1/durable")).names;
  }
  const columns = [
    { title: "Name", kind: "wide", by: (row) => row.name, cell: (row) => [h("a", { href: address(row) }, h("b", null, row.name)), row.tenant && h("span", { class: "dim" }, ` of ${row.tenant}`), " ", badge(row.kind)] },
    { title: "Filter", by: (row) => row.filter, cell: (row) => h("span", { class: "mono" }, row.filter) },
    { title: "Members", kind: "num", by: (row) => row.members, cell: (row) => (row.members ? count(row.members) : badge("nobody", "warn")) },
    { title: "In flight", kind: "num", by: (row) => row.in_flight, cell: (row) => count(row.in_flight) },
    { title: "Pending", kind: "num", by: (row) => row.pending, cell: (row) => count(row.pending) },
    { title: "Lag", kind: "num", by: (row) => row.lag, cell: (row) => h("b", null, count(row.lag)) },
    { title: "Dead letters", kind: "num", by: (row) => row.dead_letters, cell: (row) => (row.dead_letters ? badge(count(row.dead_letters), "bad") : "0") },
    { title: "Home", by: (row) => row.home, cell: (row) => row.home },
  ];
  const nothing = empty("No durable subscriptions", "A client makes one by its first ", h("code", null, 'consume("jobs/#", { durable: "mailer" })'), "; from then on the broker keeps its place.");
  return { refresh, draw: () => table({ label: "Durable subscriptions", columns, rows, sort, again: app.redraw, key: (row) => `${row.tenant}/${row.name}`, nothing }) };
}

function one(app, name) {
  const tenant = app.params.get("tenant") ?? "";
  const place = encodeURIComponent(name);
  const query = { tenant };
  let shown, letters, more;

  async function refresh() {
    const [facts, dead] = await Promise.all([
      app.ask("GET", `/v1/durable/${place}`, { query }),
      app.ask("GET", `/v1/dead-letters/${place}`, { query: { ...query, limit: SHOWN } }),
    ]);
    shown = facts;
    ({ letters, more } = dead);
  }

  async function act(verb, positions) {
    const which = positions ? "this letter" : "all dead letters";
    const texts = {
      Retry: `Published again where ${positions ? "it" : "they"} came from, as new, and dropped here.`,
      Drop: `Forgotten for good: nobody can bring ${positions ? "it" : "them"} back.`,
    };
    if (!(await confirmed({ title: `${verb} ${which} of ${name}?`, text: texts[verb], action: verb }))) return;
    const send = () =>
      verb === "Retry"
        ? app.ask("POST", `/v1/dead-letters/${place}/retry`, { query, body: positions ? { positions } : {} })
        : app.ask("DELETE", `/v1/dead-letters/${place}`, { query: { ...query, ...(positions && { positions }) } });
    await attempt(send, (done) => `${count(done.count)} ${verb === "Retry" ? "published again" : "dropped"}.${done.refused?.length ? ` ${count(done.refused.length)} refused: ${done.refused[0].message}` : ""}${done.stopped ? ` Stopped: ${done.stopped}` : ""}`);
    app.again();
  }

  const letter = (each) =>
    h("li", { key: each.pos, class: "card letter" },
      h("div", { class: "head" }, h("span", { class: "mono topic" }, each.topic), badge(each.reason || "dead", "bad"), h("span", { class: "dim" }, `${counted(each.attempts, "attempt")} · ${date(each.at_ms)}${each.user ? ` · by ${each.user}` : ""}${each.key ? ` · key ${each.key}` : ""}`)),
      json(each.deletes ? "(deletes its key)" : each.b64 ? `(bytes) ${each.b64.slice(0, 400)}` : written(each.data, 2)),
      h("div", { class: "acts" }, h("button", { type: "button", onclick: () => act("Retry", [each.pos]) }, "Retry"), h("button", { type: "button", onclick: () => act("Drop", [each.pos]) }, "Drop")));

  const members = [
    { title: "Connection", kind: "wide", cell: (m) => h("a", { class: "mono", href: `#/connections?connection=${encodeURIComponent(m.connection)}` }, m.connection) },
    { title: "Window", kind: "num", cell: (m) => count(m.window) },
    { title: "In flight", kind: "num", cell: (m) => count(m.in_flight) },
  ];
  const positions = [
    { title: "Log", kind: "wide", cell: ([log]) => h("span", { class: "mono" }, log) },
    { title: "Settled", kind: "num", cell: ([, at]) => count(at.settled) },
    { title: "Given out", kind: "num", cell: ([, at]) => count(at.taken) },
    { title: "Head", kind: "num", cell: ([, at]) => count(at.head) },
    { title: "Lag", kind: "num", cell: ([, at]) => h("b", null, count(at.lag)) },
  ];

  const draw = () => [
    h("p", null, h("a", { href: "#/durable" }, "← All durable subscriptions")),
    shown && [
      h("section", { class: "card form" }, h("h2", null, name, " ", badge(shown.kind)),
        facts([["Filter", h("span", { class: "mono" }, shown.filter)], ["Lag", count(shown.lag)], ["In flight", count(shown.in_flight)], ["Pending", count(shown.pending_count)], ["Home", shown.home], ["Acknowledged within", time(shown.ack_wait_ms)], ["Attempts at most", count(shown.max_attempts)], ["Last member seen", shown.seen_ms ? date(shown.seen_ms) : "–"]])),
      h("h2", null, "Members"),
      table({ label: "Members", columns: members, rows: shown.members, key: (m) => `${m.connection} ${m.sub}`, nothing: empty("Nobody takes from it", "What is published waits. Start a worker that consumes by this name.") }),
      h("h2", null, "Positions"),
      table({ label: "Positions", columns: positions, rows: Object.entries(shown.positions), key: ([log]) => log, nothing: empty("No position yet", "It has one from the first message on.") }),
    ],
    letters && [
      h("div", { class: "top" }, h("h2", null, `Dead letters (${count(shown.dead_letters)})`), letters.length > 0 && h("div", { class: "acts" }, h("button", { type: "button", onclick: () => act("Retry") }, "Retry all"), h("button", { type: "button", class: "danger", onclick: () => act("Drop") }, "Drop all"))),
      letters.length ? h("ol", { class: "plain" }, letters.map(letter)) : h("div", { class: "card" }, empty("No dead letters", "What no member could do after all its attempts comes here.")),
      more && h("p", { class: "dim" }, `The oldest ${SHOWN} are shown.`),
    ],
  ];
  return { draw, refresh };
}
