/** How things go: rates, latencies, what is wrong, the busiest topics and the slowest clients. */
import { chart, decades, spark } from "./chart.js";
import { brief, bytes, count, counted, h, percent, time } from "./dom.js";
import { badge, choice, empty, tile } from "./parts.js";
import { why } from "./connections.js";

export function open(app) {
  const hover = { at: 0, draw: app.redraw };
  let topics = [];
  let slow = [];

  async function refresh() {
    const [busy, clients] = await Promise.all([
      app.ask("GET", "/v1/topics", { query: { limit: 5 } }),
      app.ask("GET", "/v1/slow", { query: { limit: 5 } }),
    ]);
    topics = busy.topics;
    slow = clients.connections;
  }

  function tiles(ring, now) {
    const last = (name) => ring.last(name);
    const drawn = (name) => spark(ring, name, now);
    return h("div", { class: "tiles" },
      tile("Publishes/s", brief(last("published")), drawn("published"), `${bytes(last("bytesIn"))}/s in`),
      tile("Deliveries/s", brief(last("delivered")), drawn("delivered"), `${bytes(last("bytesOut"))}/s out`),
      tile("Connections", count(last("connections")), drawn("connections"), counted(last("subscriptions"), "subscription")),
      tile("Publish → ack, p99", time(last("ackP99")), drawn("ackP99"), `median ${time(last("ackP50"))}`),
      tile("CPU", percent(last("cpu")), drawn("cpu"), "busiest node"),
      tile("Loop lag", time(last("lag")), drawn("lag"), "slowest node"));
  }

  function draw() {
    const { figures } = app;
    const node = app.params.get("node") ?? "";
    const names = Object.keys(figures.nodes).sort();
    const ring = figures.ring(node);
    const now = figures.at ?? Date.now();
    const latency = (what) => [[`${what}P50`, "median"], [`${what}P90`, "90 %"], [`${what}P99`, "99 %"]];
    const common = { ring, now, hover };
    return [
      banners(app),
      names.length > 1 && h("div", { class: "bar" }, h("label", { class: "inline" }, "Node",
        choice([["", `all ${names.length}`], ...names.map((one) => [one, one])], node, { onchange: ({ target }) => app.keep("node", target.value) }))),
      tiles(ring, now),
      h("div", { class: "charts" },
        chart({ ...common, title: "Messages per second", lines: [["delivered", "delivered"], ["published", "published"]], write: brief }),
        chart({ ...common, title: "Bytes per second", lines: [["bytesOut", "out"], ["bytesIn", "in"]], write: bytes }),
        chart({ ...common, title: "Publish → ack", note: "at most, by turns of the loop and commits", lines: latency("ack"), write: time, scale: decades, empty: "Nothing was acknowledged in this time." }),
        chart({ ...common, title: "Publish → send", note: "at most, by turns of the loop", lines: latency("send"), write: time, scale: decades, empty: "Nothing was delivered in this time." })),
      h("div", { class: "charts" }, h("section", { class: "card list" }, h("h2", null, h("a", { href: "#/topics" }, "Busiest topics")),
        topics.length
          ? h("ol", null, topics.map((one) => h("li", null, h("a", { class: "mono", href: `#/tail?filter=${encodeURIComponent(one.topic)}` }, one.topic), h("b", null, count(one.published)))))
          : empty("No topics yet", "Publish something: ", h("a", { href: "#/publish" }, "the publish form"), " is a beginning.")),
      h("section", { class: "card list" }, h("h2", null, h("a", { href: "#/connections?slow=1" }, "Slow subscribers")),
        slow.length
          ? h("ol", null, slow.map((one) => h("li", null, h("a", { class: "mono", href: `#/connections?connection=${encodeURIComponent(one.connection)}` }, one.user || one.address || one.connection), h("span", { class: "dim" }, why(one)))))
          : empty("None", "Every client takes what it is sent."))),
    ];
  }
  return { draw, refresh };
}

/** What is wrong, of all nodes. */
export function banners(app) {
  const { figures } = app;
  return [
    figures.unanswered.length > 0 && h("p", { class: "banner bad", role: "alert" }, badge("no answer", "bad"), ` from ${figures.unanswered.join(", ")}: figures are without them.`),
    figures.complaints().map(([node, words]) => h("p", { class: "banner warn" }, badge(node, "warn"), " ", words)),
  ];
}
