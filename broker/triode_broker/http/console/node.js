/** Settings of the nodes: who runs what, whose settings differ, what is wrong, and how much is logged. */
import { bytes, count, h, time } from "./dom.js";
import { attempt, badge, choice, confirmed, empty, field, notice, table } from "./parts.js";
import { banners } from "./overview.js";

const LEVELS = ["debug", "info", "warning", "error"].map((one) => [one, one]);
const ALL = { cluster: true };

/** What is answered, or nothing where a node does not offer it. */
const maybe = (asked) =>
  asked.catch((error) => {
    if (![400, 404].includes(error.status)) throw error;
  });

export function open(app) {
  let levels = {};
  let digests = {};
  let health;

  async function refresh() {
    const [logs, cluster, own] = await Promise.all([
      maybe(app.ask("GET", "/v1/log-level", { query: ALL })), app.figures.isAlone ? undefined : app.ask("GET", "/v1/cluster"), maybe(app.ask("GET", "/healthz", { query: { tenant: "" } })),
    ]);
    levels = logs?.nodes ?? {};
    digests = Object.fromEntries((cluster?.nodes ?? []).map((one) => [one.node, one.digest ?? one.settings?.digest]));
    if (own?.settings?.digest) digests[own.node] = own.settings.digest;
    health = own;
  }

  const change = ({ target }) =>
    attempt(() => app.ask("PUT", "/v1/log-level", { body: { level: target.value, ...ALL } }), `All nodes log from ${target.value} on.`).then(app.again);

  async function reload() {
    if (!(await confirmed({ title: "Read the settings again, on all nodes?", text: "Each node reads its own file and checks it first: one that is wrong changes nothing and says why. No connection is dropped.", action: "Reload" }))) return;
    await attempt(async () => {
      const { nodes } = await app.ask("POST", "/v1/reload", { body: ALL });
      for (const [node, { reloaded, reason, changed = [], need_a_restart: waiting = [] }] of Object.entries(nodes))
        notice(`${node}: ${reloaded === false ? `nothing was changed: ${reason}` : changed.length ? `changed ${changed.join(", ")}` : "nothing is different"}${waiting.length ? `; ${waiting.join(", ")} wait for a restart` : ""}`, reloaded === false ? "bad" : "good");
    });
    app.again();
  }

  const columns = (most) => [
    { title: "Node", kind: "wide", cell: (one) => [h("b", null, one.node), one.node === app.figures.asked && h("small", null, "this one")] },
    { title: "State", cell: (one) => (one.unready.length ? badge("not ready", "bad") : one.degraded?.length ? badge("degraded", "warn") : badge("ready", "good")) },
    { title: "Version", cell: (one) => [one.version, one.commit && h("small", { class: "mono" }, one.commit.slice(0, 9))] },
    { title: "Up for", kind: "num", cell: (one) => time(one.uptime_ms) },
    { title: "Memory", kind: "num", cell: (one) => bytes(one.gauges.resident_bytes) },
    { title: "Descriptors", kind: "num", cell: (one) => `${count(one.gauges.open_descriptors)} of ${count(one.gauges.max_descriptors)}` },
    { title: "Settings", cell: (one) => [h("span", { class: "mono" }, one.digest?.slice(0, 12) ?? "–"), one.digest && one.digest !== most && [" ", badge("differ", "warn")]] },
    { title: "Logs from", cell: (one) => levels[one.node]?.level ?? "–" },
  ];

  function draw() {
    const rows = Object.entries(app.figures.nodes).map(([node, one]) => ({ unready: [], ...one, node, digest: one.settings?.digest ?? digests[node] }));
    const said = rows.map((one) => one.digest).filter(Boolean);
    const times = (digest) => said.filter((one) => one === digest).length;
    const most = [...said].sort((a, b) => times(b) - times(a))[0];
    const level = Object.values(levels)[0]?.level;
    return [
      banners(app),
      health?.degraded?.map((words) => h("p", { class: "banner warn" }, badge(health.node, "warn"), " ", words)),
      new Set(said).size > 1 && h("p", { class: "banner warn" }, "The nodes run with different settings. Bring their files in line, then reload."),
      table({ label: "Nodes", columns: columns(most), rows, key: (one) => one.node, nothing: empty("No figures yet", "They come with the next answer.") }),
      health?.insecure?.length > 0 && h("section", { class: "card form" }, h("h2", null, "Settings that leave a door open"), h("p", null, health.insecure.map((one) => [badge(one, "warn"), " "])), h("p", { class: "dim" }, "Fine on one machine; on a network see what the documentation says of each.")),
      h("section", { class: "card form" }, h("h2", null, "All nodes"),
        h("div", { class: "bar" },
          level && field("Log from", choice(LEVELS, level, { onchange: change })),
          h("div", { class: "acts" }, h("button", { type: "button", onclick: reload }, "Reload settings …")))),
    ];
  }
  return { draw, refresh };
}
