/** Settings of the nodes: who runs what, whose settings differ, what is wrong, and how much is logged. */
import { h, time } from "./dom.js";
import { attempt, badge, choice, confirmed, empty, field, table } from "./parts.js";
import { banners } from "./overview.js";

const LEVELS = ["debug", "info", "warning", "error"].map((one) => [one, one]);

export function open(app) {
  let level;

  async function refresh() {
    try {
      level = await app.ask("GET", "/v1/log-level");
    } catch (error) {
      if (error.status !== 404 && error.status !== 501) throw error;
    }
  }

  async function change({ target }) {
    await attempt(() => app.ask("PUT", "/v1/log-level", { body: { level: target.value } }), `Logged from ${target.value} on.`);
    app.again();
  }

  async function reload() {
    if (!(await confirmed({ title: "Read the settings again?", text: "The file is checked first: one that is wrong changes nothing and says why. No connection is dropped.", action: "Reload" }))) return;
    await attempt(() => app.ask("POST", "/v1/reload", { body: {} }), "The settings are in force.");
    app.again();
  }

  const columns = (most) => [
    { title: "Node", kind: "wide", cell: (one) => h("b", null, one.node) },
    { title: "State", cell: (one) => badge(one.status || "ok", one.status === "failed" ? "bad" : one.status && one.status !== "ok" ? "warn" : "good") },
    { title: "Version", cell: (one) => one.version ?? "–" },
    { title: "Up for", kind: "num", cell: (one) => time(one.uptimeMs) },
    { title: "Settings digest", cell: (one) => [h("span", { class: "mono" }, (one.digest ?? "–").slice(0, 12)), one.digest && one.digest !== most && [" ", badge("differs", "warn")]] },
    { title: "Unsafe", cell: (one) => (one.insecure?.length ? one.insecure.map((each) => badge(each, "warn")) : "–") },
  ];

  function draw() {
    const rows = app.figures.facts();
    const digests = rows.map((one) => one.digest).filter(Boolean);
    const most = digests.sort((a, b) => digests.filter((one) => one === b).length - digests.filter((one) => one === a).length)[0];
    const differ = new Set(digests).size > 1;
    return [
      banners(app),
      differ && h("p", { class: "banner warn" }, "The nodes run with different settings. Bring the files in line, then reload the nodes that differ."),
      table({ label: "Nodes", columns: columns(most), rows, key: (one) => one.node, nothing: empty("No figures yet", "They come with the next answer.") }),
      h("section", { class: "card form" }, h("h2", null, "This node"),
        h("div", { class: "bar" },
          level && field("Log from", choice(LEVELS, level.level, { onchange: change })),
          h("div", { class: "acts" }, h("button", { type: "button", onclick: reload }, "Reload settings …")))),
    ];
  }
  return { draw, refresh };
}
