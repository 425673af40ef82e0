/** A message by hand, and what became of it. */
import { count, h, time } from "./dom.js";
import { tokens } from "./tail.js";
import { attempt, badge, choice, facts, field, json, notice, table } from "./parts.js";

const KINDS = [["json", "JSON"], ["text", "text"]];
const MAX_HEADERS = 16;

/** Among the clients of a tenant: the secret is of none, a ticket is. */
async function inside(tenant, { topic, data, key, headers }) {
  const client = new Triode(location.origin, { name: "console", token: tokens(tenant) });
  try {
    return await client.publish(topic, data, { key, headers, expiryMs: 10_000 });
  } finally {
    client.close(0);
  }
}

export function open(app) {
  const get = (name) => app.params.get(name) ?? "";
  let kind = "json";
  let headers = 0;
  let answer;
  let wrong = "";

  /** What is published; undefined where it is not JSON. */
  function data(text) {
    if (kind === "text") return text;
    try {
      wrong = "";
      return JSON.parse(text);
    } catch (error) {
      wrong = `This is no JSON: ${error.message}. Text needs quotes, or choose “text”.`;
    }
  }

  async function submit(event) {
    event.preventDefault();
    answer = undefined; // of the one before: it would look like this one's
    const form = new FormData(event.target);
    const value = data(form.get("data"));
    app.redraw();
    if (value === undefined) return;
    const [names, values] = [form.getAll("name"), form.getAll("value")];
    const named = names.map((name, at) => [name.trim(), values[at]]).filter(([name]) => name);
    const body = { topic: form.get("topic"), data: value };
    if (form.get("key")) body.key = form.get("key");
    if (named.length) body.headers = Object.fromEntries(named);
    if (form.get("trace")) body.trace = true;
    await attempt(async () => (answer = app.tenant ? await inside(app.tenant, body) : await app.ask("POST", "/v1/publish", { body })));
    app.redraw();
  }

  const more = () => (headers < MAX_HEADERS ? headers++ : notice(`At most ${MAX_HEADERS} headers.`, "warn"), app.redraw());
  const said = ({ hop, node, at_us, connection, count: many = -1, kind, names = [], to, ...more }) =>
    [many >= 0 && `${count(many)} ${kind ?? ""}`, to && `to ${to}`, names.join(", "), ...Object.entries(more).map(([name, value]) => `${name} ${value}`)].filter(Boolean).join(" · ");
  const hops = (began) => [
    { title: "What", cell: ({ hop }) => badge(hop, { dropped: "bad", waiting: "warn", unanswered: "bad", behind: "warn" }[hop] ?? "good") },
    { title: "Node", cell: ({ node }) => node },
    { title: "After", kind: "num", cell: ({ at_us }) => time((at_us - began) / 1000) },
    { title: "Details", kind: "wide", cell: said },
  ];

  function shown() {
    const { hops: steps = [], end, ...rest } = answer;
    return h("section", { class: "card form", "aria-live": "polite" }, h("h2", null, "Published"),
      facts([["Offset", count(rest.offset)], ["Position", count(rest.pos)], ["Log", h("span", { class: "mono" }, rest.log ?? "–")], ["Reached", rest.delayed ? "waits for its time" : rest.level ?? "–"], ["Duplicate", rest.duplicate ? "yes" : "no"]]),
      end && [h("p", { class: "dim" }, { complete: "All that became of it:", incomplete: "What was known of it after some seconds:" }[end] ?? "The first of what became of it:"), table({ label: "Hops", columns: hops(steps[0]?.at_us), rows: steps, key: (hop) => steps.indexOf(hop) })],
      h("details", null, h("summary", null, "The whole answer"), json(JSON.stringify(answer, null, 2))));
  }

  const draw = () => [
    h("form", { class: "card form", onsubmit: submit },
      h("div", { class: "bar" },
        field("Topic", h("input", { name: "topic", class: "mono", value: get("topic"), required: true, placeholder: "rooms/42/chat", autocapitalize: "off", spellcheck: "false" })),
        field("Key", h("input", { name: "key", class: "mono", placeholder: "none", autocapitalize: "off", spellcheck: "false" })),
        field("Data is", choice(KINDS, kind, { onchange: ({ target }) => ((kind = target.value), (wrong = ""), app.redraw()) }))),
      field("Data", h("textarea", { name: "data", class: "mono", rows: 6, spellcheck: "false", "aria-invalid": !!wrong }, '{"text": "hello"}')),
      wrong && h("p", { class: "bad", role: "alert" }, wrong),
      h("fieldset", null, h("legend", null, "Headers"),
        Array.from({ length: headers }, (_, at) => h("div", { class: "bar" }, h("input", { name: "name", placeholder: "name", "aria-label": `Name of header ${at + 1}` }), h("input", { name: "value", placeholder: "value", "aria-label": `Value of header ${at + 1}` }))),
        h("button", { type: "button", onclick: more }, "Add a header")),
      !app.tenant && h("label", { class: "check" }, h("input", { type: "checkbox", name: "trace" }), "Trace it: say where it went, and when"),
      h("div", { class: "acts" }, h("button", { class: "main" }, "Publish"), app.tenant && h("span", { class: "dim" }, `as tenant ${app.tenant}`))),
    answer && shown(),
  ];
  return { draw };
}
