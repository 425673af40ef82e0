/**
 * The figures of all nodes over time: counters become rates, histograms percentiles.
 *
 * The one place that knows how `/v1/figures` names things. The surprising decision: everything is a difference of
 * two answers, because nodes count from their start and forget nothing; one that counts less than before has been
 * started anew, and its first answer is compared with nothing.
 */
import { Ring } from "./chart.js";

const MAX_NODES = 64; // with a chart of their own; the others are only summed
const RATES = { published: "published", delivered: "delivered", bytesIn: "bytes_in", bytesOut: "bytes_out" };
const SHARES = { P50: 0.5, P90: 0.9, P99: 0.99 };

/** The value below which `share` of what was counted lies, in ms; NaN = nothing was counted. */
export function percentile(bounds, counts, share) {
  let rank = counts.reduce((a, b) => a + b, 0) * share;
  if (!rank) return NaN;
  for (let at = 0; at < counts.length; at++) {
    if (counts[at] && rank <= counts[at]) {
      const low = at ? bounds[at - 1] : 0;
      return (low + ((bounds[at] ?? low) - low) * (rank / counts[at])) / 1000; // the last has no upper bound
    }
    rank -= counts[at];
  }
  return bounds.at(-1) / 1000;
}

const sum = (lists) => lists.filter(Boolean).reduce((all, counts) => counts.map((n, at) => n + (all[at] ?? 0)), []);
const less = (a, b) => a.map((n, at) => Math.max(n - (b[at] ?? 0), 0));
const acks = (one) => sum([...one.listeners.map((each) => each.published?.counts), ...one.engines.map((each) => each.answered?.counts)]);
const sends = (one) => sum(one.listeners.map((each) => each.fanned_out?.counts));

/** What a node did between two of its answers. */
function step(before, now) {
  const seconds = (now.at_ms - before.at_ms) / 1000;
  const found = { ack: less(acks(now), acks(before)), send: less(sends(now), sends(before)) };
  for (const [name, counter] of Object.entries({ ...RATES, cpu: "cpu_us" }))
    found[name] = Math.max(now.counters[counter] - before.counters[counter], 0) / seconds;
  found.cpu /= 1e6;
  return found;
}

/** What a chart shows of some steps together. */
function sample(steps, nodes, bounds) {
  const values = {};
  for (const name of Object.keys(RATES)) values[name] = steps.reduce((all, one) => all + one[name], 0);
  values.cpu = Math.max(...steps.map(({ cpu }) => cpu));
  values.lag = Math.max(...nodes.map(({ gauges }) => gauges.loop_lag_us)) / 1000;
  values.connections = nodes.reduce((all, { gauges }) => all + gauges.sessions, 0);
  values.subscriptions = nodes.reduce((all, { gauges }) => all + gauges.subscriptions, 0);
  for (const what of ["ack", "send"]) {
    const counts = sum(steps.map((one) => one[what]));
    for (const [name, share] of Object.entries(SHARES)) values[what + name] = percentile(bounds, counts, share);
  }
  return values;
}

export class Figures {
  #rings = new Map([["", new Ring()]]);
  /** The newest answer, by node. */
  nodes = {};
  unanswered = [];
  /** The node that this console is of. */
  asked = "";
  /** When it came, ms. */
  at = 0;

  /** The samples of a node; "" = of all together. */
  ring(node = "") {
    return this.#rings.get(node) ?? new Ring();
  }

  /** Take an answer. */
  take({ nodes, asked = "", unanswered = [] }, at) {
    const steps = [];
    for (const [name, now] of Object.entries(nodes)) {
      const before = this.nodes[name];
      if (!before || now.uptime_ms < before.uptime_ms || now.at_ms <= before.at_ms) continue;
      const one = step(before, now);
      steps.push(one);
      if (!this.#rings.has(name) && this.#rings.size <= MAX_NODES) this.#rings.set(name, new Ring());
      this.#rings.get(name)?.push(at, sample([one], [now], now.bounds_us));
    }
    const all = Object.values(nodes);
    if (steps.length) this.#rings.get("").push(at, sample(steps, all, all[0].bounds_us));
    Object.assign(this, { nodes, asked, unanswered, at });
  }

  /** What is wrong: [node, words]. */
  complaints() {
    return Object.entries(this.nodes).flatMap(([node, { degraded = [], unready = [] }]) => [...new Set([...degraded, ...unready])].map((words) => [node, words]));
  }

  /** There is one node, and nobody knows of others. */
  get isAlone() {
    return Object.keys(this.nodes).length + this.unanswered.length < 2;
  }

  /** The picture of a node that is in no cluster, in the words of `/v1/cluster`. */
  alone() {
    const nodes = Object.entries(this.nodes).map(([node, { gauges }]) => ({ node, sessions: gauges.sessions, links: [] }));
    const shards = Object.entries(this.nodes).flatMap(([node, { shards: own }]) => own.map(({ shard, log, epoch, head }) => ({ shard, owners: [node], log, epoch, head, lag: {} })));
    return { nodes, shards, missing: [], agreed: true, degraded: {} };
  }
}
