// The conformance adapter of this client: `triode conformance -- node clients/js/adapter.mjs` (after `npm run build`).
//
// Reads commands from stdin and writes reports to stdout, one JSON object a line (protocol/scenarios/README.md).
// Knows the public face of the client and nothing below. An argument names another build than dist/node.js.
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";

const built = process.argv[2] ?? fileURLToPath(new URL("dist/node.js", import.meta.url));
const { Triode } = await import(pathToFileURL(resolve(built)).href);

const LONG_MS = 30_000; // where no scenario is about time, none shall pass: machines that judge are busy

let client;
let subscriptions = {};
let deliveries = [];
let giveToken;

/** One line to the runner. */
const report = (event, values = {}) => process.stdout.write(JSON.stringify({ event, ...values }) + "\n");

/** What the client calls `refused`, because the broker does not want it, is told as `closed`. */
const NAMES = { refused: "closed", delivery_lost: "lost" };
const nameOf = ({ name }) => NAMES[name] ?? name;

/** A promise of the client as a report about `ref`. */
const tell = (ref, promise, told) =>
  promise.then(
    (result) => report(...told(result)),
    (error) => report("failed", { ref, error: nameOf(error) }),
  );

const base64 = (bytes) => Buffer.from(bytes).toString("base64");

const messageOf = ({ topic, log, pos, offset, data, key, headers, messageId }) => ({
  topic,
  log,
  pos,
  offset,
  ...(data instanceof Uint8Array ? { b64: base64(data) } : { data }),
  key,
  headers,
  message_id: messageId,
});

const publishedOf = (ref) => ({ log, pos, offset, level, duplicate, delayed, messageId }) => [
  "published",
  { ref, log, pos, offset, level, duplicate, delayed, message_id: messageId },
];

const follow = (name, subscription) => {
  subscriptions[name] = subscription;
  subscription.on("gap", ({ reason, after, topic, from, to }) =>
    report("gap", { subscription: name, reason, after, topic, from, to }),
  );
  subscription.on("end", ({ error }) => report("ended", { subscription: name, error: error && nameOf(error) }));
};

const settled = (ref) => () => ["settled", { ref }];
const answer = (ref, number, act) => tell(ref, act(deliveries[number - 1]), settled(ref));

const commands = {
  hello: () => report("hello", { version: 1, client: "triode-js" }),
  async reset() {
    await client?.close(0);
    client = undefined;
    subscriptions = {};
    deliveries = [];
    report("reset");
  },
  connect({ urls, token, ask_token, connect_timeout_ms, publish_timeout_ms, will }) {
    const ask = () => {
      report("token_wanted");
      return new Promise((resolve) => (giveToken = resolve));
    };
    client = new Triode(urls.length > 1 ? urls : urls[0], {
      token: ask_token ? ask : token,
      ...(will && { will: { topic: will.topic, data: will.data, delayMs: will.delay_ms } }),
      transports: process.env.TRIODE_TRANSPORTS?.split(","),
      connectTimeoutMs: connect_timeout_ms ?? LONG_MS,
      ...(publish_timeout_ms && { queue: { expiryMs: publish_timeout_ms } }),
    });
    client.on("state", ({ state, code }) => report("state", { state, code }));
    client.on("notice", ({ draining }) => report("notice", { draining }));
    client.on("complaint", ({ name }) =>
      name === "handshakes_refused" ? report(name) : report("complaint", { name }),
    );
    client.connect().catch(() => {}); // told as a state
  },
  token: ({ token }) => giveToken(token),
  close: () => void client.close().then(() => report("closed")),
  subscribe({ subscription: name, filter, ...options }) {
    const subscription = client.subscribe(filter, options);
    follow(name, subscription);
    subscription.on("message", (message) =>
      report("message", { subscription: name, ...messageOf(message), deletes_key: message.deletesKey }),
    );
    subscription.on("caughtup", () => report("caught_up", { subscription: name }));
    for (const type of ["joined", "left"])
      subscription.on(type, ({ topic, member: { id, state, user }, isSelf }) =>
        report(type, { subscription: name, topic, member: { id, state, user }, is_self: isSelf || undefined }),
      );
  },
  unsubscribe: ({ subscription }) => subscriptions[subscription].unsubscribe(),
  position: ({ subscription }) => report("position", { subscription, position: subscriptions[subscription].position }),
  publish({ ref, topic, data, b64, key, headers, message_id, ttl_ms, deliver_at_ms }) {
    const payload = b64 === undefined ? data : new Uint8Array(Buffer.from(b64, "base64"));
    const options = { key, headers, messageId: message_id, ttlMs: ttl_ms, deliverAt: deliver_at_ms };
    tell(ref, client.publish(topic, payload, options), publishedOf(ref));
  },
  send: ({ topic, data }) => client.send(topic, data),
  delete_key: ({ ref, topic, key }) => tell(ref, client.deleteKey(topic, key), publishedOf(ref)),
  history: ({ ref, topic, ...options }) =>
    tell(ref, client.history(topic, options), ({ messages, complete, after }) => [
      "history",
      { ref, positions: messages.map(({ pos }) => pos), complete, after },
    ]),
  presence: ({ ref, topic }) =>
    tell(ref, client.presence(topic), ({ members, complete }) => ["presence", { ref, members, complete }]),
  consume({ subscription: name, filter, ack_wait_ms, max_attempts, ...options }) {
    const consumer = client.consume(filter, { ...options, ackWaitMs: ack_wait_ms, maxAttempts: max_attempts });
    follow(name, consumer);
    consumer.on("delivery", (delivery) => {
      const number = deliveries.push(delivery);
      report("delivery", { subscription: name, number, attempt: delivery.attempt, ...messageOf(delivery.message) });
    });
  },
  ack: ({ ref, delivery }) => answer(ref, delivery, (each) => each.ack()),
  nack: ({ ref, delivery, delay_ms }) => answer(ref, delivery, (each) => each.nack(delay_ms)),
  reject: ({ ref, delivery }) => answer(ref, delivery, (each) => each.reject()),
  extend: ({ ref, delivery, ms }) => answer(ref, delivery, (each) => each.extend(ms)),
};

process.on("unhandledRejection", (error) => report("wrong", { message: `not handled: ${error}` }));

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...values } = JSON.parse(line);
  try {
    await commands[command](values);
  } catch (error) {
    report("wrong", { message: String(error?.stack ?? error) });
  }
}
process.exit(0);
