/**
 * The cluster as a picture: nodes in a ring, the links between them, the shards at their owners; and as tables.
 *
 * Every node is asked for its own view, and where views differ the picture shows the worse one.
 */
import { bytes, count, counted, h, s, time } from "./dom.js";
import { badge, empty, table } from "./parts.js";
import { banners } from "./overview.js";

const SLOW_MS = 50; // a round trip
const FULL_BYTES = 1 << 20; // of a link's outbox
const MAX_LABELLED = 6; // nodes; of more, the links of the chosen one are labelled
const MAX_SQUARES = 16; // shards drawn at a node

/** What is known of each pair of nodes, the worse of both sides: [a, b, {rtt, backlog, drift, sides}]. */
function pairs(nodes, missing) {
  const names = [...nodes.map((one) => one.node), ...missing];
  const found = new Map();
  names.forEach((a, at) => names.slice(at + 1).forEach((b) => found.set([a, b].sort().join("\n"), { a, b, rtt: NaN, backlog: 0, drift: [], sides: new Set() })));
  for (const { node, links } of nodes)
    for (const link of links) {
      const pair = found.get([node, link.node].sort().join("\n"));
      if (!pair) continue;
      pair.sides.add(node);
      pair.rtt = Math.max(pair.rtt || 0, link.rtt_ms ?? 0) || NaN;
      pair.backlog += link.outbox_bytes;
      pair.drift = [...new Set([...pair.drift, ...link.drift])];
    }
  return [...found.values()].map((pair) => ({ ...pair, health: health(pair, missing) }));
}

function health({ a, b, sides, rtt, backlog, drift }, missing) {
  const asked = [a, b].filter((one) => !missing.includes(one)).length;
  if (!sides.size) return "bad";
  return sides.size < asked || rtt > SLOW_MS || backlog > FULL_BYTES || drift.length ? "warn" : "good";
}

const WORDS = { good: "well", warn: "strained", bad: "no link" };

function picture(view, chosen, choose) {
  const { nodes, missing, shards } = view;
  const names = [...nodes.map((one) => one.node), ...missing].sort();
  const width = matchMedia("(max-width: 860px)").matches ? 360 : 640; // so that words have their size on a phone
  const rx = names.length === 1 ? 0 : width / 2 - 100 + (width < 400) * 34;
  const ry = names.length < 3 ? 0 : 130 + 6 * names.length;
  const start = names.length === 2 ? Math.PI : -Math.PI / 2;
  const places = new Map(names.map((name, at) => {
    const angle = start + (at / names.length) * 2 * Math.PI;
    return [name, [width / 2 + rx * Math.cos(angle), ry * Math.sin(angle)]];
  }));
  const radius = names.length > 6 ? 30 : 38;
  const heights = [...places.values()].map(([, y]) => y);
  const [top, bottom] = [Math.min(...heights) - radius - 14, Math.max(...heights) + radius + 46];
  const link = (pair) => {
    const [[x1, y1], [x2, y2]] = [places.get(pair.a), places.get(pair.b)];
    const mine = chosen && (pair.a === chosen || pair.b === chosen);
    const labelled = chosen ? mine : names.length <= MAX_LABELLED;
    const text = pair.health === "bad" ? "no link" : [time(pair.rtt), pair.backlog > 0 && bytes(pair.backlog), pair.drift.length && "drift"].filter(Boolean).join(" · ");
    // Off the middle, where the links of an even ring cross.
    const [x, y] = [x1 + (x2 - x1) * 0.42, y1 + (y2 - y1) * 0.42];
    const wide = text.length * 6.8 + 16;
    return s("g", { key: `${pair.a}\n${pair.b}`, class: `link ${pair.health} ${chosen && !mine ? "faded" : ""}` },
      s("line", { x1, y1, x2, y2 }),
      labelled && [s("rect", { x: x - wide / 2, y: y - 10, width: wide, height: 20, rx: 10 }), s("text", { x, y: y + 4 }, text)]);
  };
  const node = (name) => {
    const [x, y] = places.get(name);
    const own = shards.filter(({ owners }) => owners.includes(name));
    const one = nodes.find((each) => each.node === name);
    const state = !one ? "bad" : view.degraded[name] ? "warn" : "good";
    const turn = () => choose(chosen === name ? "" : name);
    const keys = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      turn();
    };
    const squares = own.slice(0, MAX_SQUARES).map(({ shard, owners }, at, all) => {
      const angle = Math.PI / 2 + (at - (all.length - 1) / 2) * -0.34;
      const [cx, cy] = [x + (radius + 9) * Math.cos(angle), y + (radius + 9) * Math.sin(angle)];
      const kind = owners.length > 1 ? "bad" : shard.startsWith("m") ? "memory" : "disk";
      return s("rect", { class: `shard ${kind}`, x: cx - 5, y: cy - 5, width: 10, height: 10, rx: 2.5 }, s("title", null, shard));
    });
    const label = `${name}: ${one ? `${counted(one.sessions, "client")}, owns ${counted(own.length, "shard")}` : "has not answered"}`;
    return s("g", { key: name, class: `node ${state} ${chosen === name ? "chosen" : ""}`, tabindex: 0, role: "button", "aria-pressed": chosen === name, "aria-label": label, onclick: turn, onkeydown: keys },
      s("circle", { cx: x, cy: y, r: radius }),
      squares,
      s("text", { class: "big", x, y: y + 2 }, one ? count(one.sessions) : "?"),
      s("text", { class: "small", x, y: y + 16 }, one ? (one.sessions === 1 ? "client" : "clients") : "no answer"),
      s("text", { class: "name", x, y: y + radius + 32 }, name.length > 18 ? name.slice(0, 17) + "…" : name));
  };
  return s("svg", { class: "picture", viewBox: `0 ${top} ${width} ${bottom - top}`, role: "group", "aria-label": `${names.length} nodes and their links` },
    pairs(nodes, missing).sort((a, b) => (a.a === chosen || a.b === chosen) - (b.a === chosen || b.b === chosen)).map(link), names.map(node));
}

export function open(app) {
  let view;
  let chosen = "";
  async function refresh() {
    view = app.figures.isAlone ? app.figures.alone() : await app.ask("GET", "/v1/cluster");
  }
  const choose = (name) => ((chosen = name), app.redraw());

  const links = [
    { title: "Between", kind: "wide", cell: ({ a, b }) => [h("b", null, a), " – ", h("b", null, b)] },
    { title: "State", cell: ({ health }) => badge(WORDS[health], health) },
    { title: "Round trip", kind: "num", cell: ({ rtt }) => time(rtt) },
    { title: "Waiting", kind: "num", cell: ({ backlog }) => bytes(backlog) },
    { title: "Settings differ in", cell: ({ drift }) => (drift.length ? badge(drift.join(", "), "warn") : "–") },
  ];
  const shards = [
    { title: "Shard", cell: ({ shard }) => [h("span", { class: `square ${shard.startsWith("m") ? "memory" : "disk"}` }), h("b", { class: "mono" }, shard)] },
    { title: "Owner", kind: "wide", cell: ({ owners }) => (owners.length === 1 ? owners[0] : badge(owners.join(", ") || "nobody", "bad")) },
    { title: "Epoch", kind: "num", cell: ({ epoch }) => count(epoch) },
    { title: "Head", kind: "num", cell: ({ head }) => count(head) },
    { title: "Others behind", cell: ({ lag }) => behind(lag) },
  ];
  const behind = (lag) => {
    const late = Object.entries(lag).filter(([, by]) => by !== 0);
    return late.length ? late.map(([node, by]) => badge(`${node}: ${by === null ? "not reached" : count(by)}`, by === null ? "bad" : "warn")) : "–";
  };

  function draw() {
    if (!view) return h("p", { class: "dim" }, "Asking the nodes …");
    const all = pairs(view.nodes, view.missing);
    const mine = ({ a, b }) => !chosen || a === chosen || b === chosen;
    return [
      banners(app),
      !view.agreed && h("p", { class: "banner bad" }, "The nodes do not agree on who owns what: what follows is each one's own word."),
      view.missing.length > 0 && h("p", { class: "banner bad" }, `No answer from ${view.missing.join(", ")}.`),
      h("div", { class: "card" },
        picture(view, chosen, choose),
        h("ul", { class: "keys dim" }, h("li", null, h("span", { class: "square memory" }), "shard in memory"), h("li", null, h("span", { class: "square disk" }), "shard on disk"), ["good", "warn", "bad"].map((one) => h("li", null, h("span", { class: `stroke ${one}` }), WORDS[one])))),
      h("h2", null, chosen ? `Links of ${chosen}` : "Links"),
      table({ label: "Links", columns: links, rows: all.filter(mine), key: ({ a, b }) => `${a}\n${b}`, nothing: empty("No links", "This node is alone. With ", h("code", null, "cluster_listen"), " and ", h("code", null, "seeds"), " in its settings it finds others.") }),
      h("h2", null, chosen ? `Shards of ${chosen}` : "Shards"),
      table({ label: "Shards", columns: shards, rows: view.shards.filter(({ owners }) => !chosen || owners.includes(chosen)), key: ({ shard }) => shard, nothing: empty("No shards here", "This node owns none.") }),
    ];
  }
  return { draw, refresh };
}
