/** Figures of many machines as they come, and what of it is old: a machine that is silent or gone, a lost connection. */
import { broker, find, make, showConnection } from "../page/page.js";

const CURVE = 120; // figures that are drawn
const SILENT_MS = 1_000 * (new URLSearchParams(location.search).get("silent") ?? 5);
const ORDER = ["cpu", "memory", "disk", "load", "requests", "latency", "errors"];

const client = new Triode(broker, { name: "dashboard example" });
showConnection(client, find("#connection"));

const hosts = new Map(); // name → its card, its metrics, whether it is up, when it was last heard

function hostOf(name) {
  const known = hosts.get(name);
  if (known) return known;
  const state = make("small", "state");
  const grid = make("ul", "metrics");
  const card = make("section", "host", make("h2", "", name, state), grid);
  card.setAttribute("aria-label", name);
  const host = { name, card, state, grid, metrics: new Map(), isUp: true, heardAt: 0 };
  hosts.set(name, host);
  find("#nothing")?.remove();
  const next = [...hosts.keys()].sort().find((other) => other > name);
  find("#hosts").insertBefore(card, hosts.get(next)?.card ?? null);
  return host;
}

const SVG = "http://www.w3.org/2000/svg";

function metricOf(host, name, topic) {
  const known = host.metrics.get(name);
  if (known) return known;
  const value = make("b");
  const curve = document.createElementNS(SVG, "svg");
  curve.setAttribute("viewBox", "0 0 100 30");
  curve.setAttribute("preserveAspectRatio", "none");
  const line = curve.appendChild(document.createElementNS(SVG, "polyline"));
  const metric = { value, line, figures: [], place: make("li", "", make("small", "", name), value, curve) };
  metric.rank = ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length;
  host.metrics.set(name, metric);
  host.grid.replaceChildren(...[...host.metrics.values()].sort((a, b) => a.rank - b.rank).map(({ place }) => place));
  void readCurve(topic, metric);
  return metric;
}

let reading = Promise.resolve();

/** What came before this page, one topic after the other: brokers bound how many questions are open at once. */
async function readCurve(topic, metric) {
  const before = reading;
  let isDone;
  reading = new Promise((resolve) => (isDone = resolve));
  await before;
  try {
    const page = await client.history(topic, { last: CURVE });
    take(metric, page.messages);
  } catch (error) {
    console.warn(`no curve of ${topic}:`, error); // it grows by what comes
  } finally {
    isDone();
  }
}

/** Figures of the past and live ones meet here: in the order of the topic, each once. */
function take(metric, messages) {
  const sound = messages.filter(({ data }) => Number.isFinite(data?.value));
  const known = new Map([...metric.figures, ...sound].map((message) => [message.pos, message]));
  if (!known.size) return;
  metric.figures = [...known.values()].sort((a, b) => a.pos - b.pos).slice(-CURVE);
  const { value, unit = "", least = 0, most: bound } = metric.figures.at(-1).data;
  const values = metric.figures.map((message) => message.data.value);
  const most = bound ?? Math.max(...values, least + 1) * 1.1;
  const points = values.map((value, at) => {
    const x = 100 - ((values.length - 1 - at) * 100) / (CURVE - 1);
    return `${x.toFixed(1)},${(29 - (28 * (value - least)) / (most - least)).toFixed(1)}`;
  });
  metric.line.setAttribute("points", points.join(" "));
  metric.value.replaceChildren(value.toFixed(Math.abs(value) < 100 ? 1 : 0), make("small", "", unit));
}

const subscription = client.subscribe("dash/+/+", { from: "last", overflow: "conflate" }, (message) => {
  const [, hostName, metricName] = message.topic.split("/");
  const host = hostOf(hostName);
  if (metricName === "up") host.isUp = message.data === true;
  else take(metricOf(host, metricName, message.topic), [message]);
  // What is live has come now, by our own clock; the broker's is asked for older figures only.
  host.heardAt = Math.max(host.heardAt, subscription.isLive ? Date.now() : message.ts);
  judge();
});
subscription.on("gap", () => {}); // the figures of a moment are missing in the curves: they say so by themselves

const secondsSince = (time) => Math.max(0, Math.round((Date.now() - time) / 1_000));

/** What is old. As long as there is no connection nothing is known of any machine, so none is called silent. */
function judge() {
  const isConnected = client.state === "connected" && subscription.isLive;
  for (const { card, state, isUp, heardAt } of hosts.values()) {
    const isSilent = Date.now() - heardAt > SILENT_MS;
    const verdict = !isConnected ? "unknown" : !isUp ? "gone" : isSilent ? "silent" : "live";
    card.className = `host ${verdict}`;
    state.textContent = verdict === "silent" ? `silent for ${secondsSince(heardAt)} s` : verdict;
  }
}

let lostAt;
client.on("state", ({ state }) => {
  if (state === "waiting") lostAt ??= Date.now();
  if (state === "connected") lostAt = undefined;
  showLoss();
});

function showLoss() {
  const alert = find("#offline");
  alert.hidden = !lostAt;
  if (lostAt) alert.textContent = `No connection for ${secondsSince(lostAt)} s: these figures are old.`;
}

setInterval(() => {
  judge();
  showLoss();
}, 250);
