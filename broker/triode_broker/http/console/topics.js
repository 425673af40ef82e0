/** Topics by rate: what is published where, to whom, and where it is kept. */
import { brief, bytes, count, h } from "./dom.js";
import { empty, field, table } from "./parts.js";

const MAX_SHOWN = 200;

export function open(app) {
  const sort = { column: "Per second", down: true };
  let rows = [];
  let before = new Map();
  let more = false;
  let at = 0;

  async function refresh() {
    const answer = await app.ask("GET", "/v1/topics", { query: { limit: MAX_SHOWN, prefix: app.params.get("prefix") ?? "" } });
    const now = Date.now();
    const seconds = (now - at) / 1000;
    const id = (one) => `${one.tenant}/${one.topic}`;
    rows = answer.topics.map((one) => {
      const known = before.get(id(one));
      return { ...one, id: id(one), rate: known && one.published >= known.published ? (one.published - known.published) / seconds : NaN };
    });
    before = new Map(rows.map((one) => [one.id, one]));
    more = answer.known > rows.length && rows.length >= MAX_SHOWN;
    at = now;
  }

  const number = (value) => (Number.isFinite(value) ? value : -1);
  const columns = [
    { title: "Topic", kind: "wide", by: (one) => one.topic, cell: (one) => h("a", { class: "mono", href: `#/tail?filter=${encodeURIComponent(one.topic)}` }, one.topic) },
    { title: "Tenant", by: (one) => one.tenant, cell: (one) => one.tenant || "–" },
    { title: "Per second", kind: "num", by: (one) => number(one.rate), cell: (one) => h("b", null, brief(one.rate)) },
    { title: "Published", kind: "num", by: (one) => one.published, cell: (one) => count(one.published) },
    { title: "Subscribers", kind: "num", by: (one) => number(one.subscribers), cell: (one) => count(one.subscribers) },
    { title: "Kept", kind: "num", by: (one) => one.retained, cell: (one) => [count(one.retained), h("small", null, bytes(one.retained_bytes))] },
    { title: "Shard", by: (one) => one.shard, cell: (one) => [one.shard, one.owner && h("small", null, `on ${one.owner}`)] },
  ];

  const draw = () => [
    h("div", { class: "bar" },
      field("Begins with", h("input", { type: "search", value: app.params.get("prefix") ?? "", placeholder: "orders/", autocapitalize: "off", spellcheck: "false", oninput: ({ target }) => app.keep("prefix", target.value) }))),
    table({
      label: "Topics", columns, rows, sort, again: app.redraw, key: (one) => one.id,
      nothing: empty("No topics", app.params.get("prefix") ? "None begins like that." : ["Nothing has been published yet. ", h("a", { href: "#/publish" }, "Publish something"), " and it stands here."]),
    }),
    more && h("p", { class: "dim" }, `The ${count(rows.length)} busiest are shown: narrow them down by how they begin.`),
  ];
  return { draw, refresh };
}
