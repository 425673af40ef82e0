/** Who is kept out: revocations, new ones, and letting in again. */
import { count, date, h } from "./dom.js";
import { missing, TERMS } from "./connections.js";
import { attempt, badge, choice, confirmed, empty, field, table } from "./parts.js";

const KINDS = [["user", "User"], ["token", "Token (its jti)"], ["key", "API key (its name)"]];

export function open(app) {
  const sort = { column: "Since", down: true };
  let rows = [];
  let kept = "";

  async function refresh() {
    const answer = await app.ask("GET", "/v1/revocations");
    ({ revocations: rows, kept } = answer);
  }

  async function revoke(event) {
    event.preventDefault();
    const form = event.target;
    const { kind, value, seconds, also } = Object.fromEntries(new FormData(form));
    const who = `${kind} ${value}`;
    if (!(await confirmed({ title: `Revoke ${who}?`, text: "Whoever came in with it is sent away, on all nodes, and kept out.", action: "Revoke" }))) return;
    const tenant = kind === "user" && app.tenant ? { tenant: app.tenant } : {};
    const body = { [kind]: value, ...tenant, ...(seconds && { seconds: Number(seconds) }), ...(also && { also_new: true }) };
    if (await attempt(() => app.ask("POST", "/v1/revocations", { body }), (done) => `Revoked ${who}; ${count(done.closed)} closed.${missing(done)}`)) form.reset();
    app.again();
  }

  async function lift(one) {
    if (!(await confirmed({ title: `Let ${one.kind} ${one.value} in again?`, text: "What it comes in with holds again, on all nodes.", action: "Let in again" }))) return;
    const query = { [one.kind]: one.value, tenant: one.tenant };
    await attempt(() => app.ask("DELETE", "/v1/revocations", { query }), (done) => `${one.value} may come in again.${missing(done)}`);
    app.again();
  }

  const columns = [
    { title: "What", by: (one) => one.kind, cell: (one) => badge(one.kind) },
    { title: "Which", kind: "wide", by: (one) => one.value, cell: (one) => [h("b", { class: "mono" }, one.value), one.tenant && h("span", { class: "dim" }, ` of ${one.tenant}`)] },
    { title: "Since", by: (one) => one.at_ms, down: true, cell: (one) => date(one.at_ms) },
    { title: "Until", by: (one) => one.until_ms || Infinity, cell: (one) => (one.until_ms ? date(one.until_ms) : "it is lifted") },
    { title: "Concerns", cell: (one) => (one.kind !== "user" ? "this one" : one.also_new ? "new credentials, too" : "credentials issued before") },
    { title: "Act", kind: "acts", cell: (one) => h("button", { type: "button", onclick: () => lift(one), "aria-label": `Lift ${one.value}` }, "Lift") },
  ];

  const draw = () => [
    kept && kept !== "disk" && h("p", { class: "banner warn" }, kept === "failed" ? "Revocations could not be written to disk: they hold until the node ends." : "Revocations are kept in memory: without a data directory they end with the node."),
    table({ label: "Revocations", columns, rows, sort, again: app.redraw, key: (one) => `${one.kind} ${one.tenant} ${one.value}`, nothing: empty("Nobody is kept out", "Revoke a token, a key or a user below, or from the list of ", h("a", { href: "#/connections" }, "connections"), ".") }),
    h("form", { class: "card form", onsubmit: revoke }, h("h2", null, "Revoke"),
      h("div", { class: "bar" }, field("What", choice(KINDS, "user", { name: "kind" })),
        field("Which", h("input", { name: "value", required: true, maxlength: 256, autocapitalize: "off", spellcheck: "false" })),
        field("For", choice(TERMS, "", { name: "seconds" }))),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "also" }), "Of a user: also credentials that are issued from now on"),
      h("button", { class: "danger" }, "Revoke …")),
  ];
  return { draw, refresh };
}
