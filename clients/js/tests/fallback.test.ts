/**
 * Where no WebSocket opens: when the client goes round it, what it says there, and when it comes back (SPEC 12.4).
 *
 * The surprising decision: `fetch` is a broker of the test's own, so that what a proxy may do to a request happens
 * when the test says so.
 */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connectedPacket, FakeSocket, message, turn, World, type Packet } from "./world.js";

interface Posted {
  url: URL;
  body: any;
  signal: AbortSignal;
  answer: (status: number, headers?: Record<string, string>) => Promise<void>;
  /** As the stream of a link. */
  stream: () => Promise<void>;
}

let posted: Posted[] = [];
let say: (text: string) => Promise<void>;
let cut: () => Promise<void>;
const original = globalThis.fetch;

const settle = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await turn();
};
const event = (packet: unknown, type = ""): string =>
  (type && `event: ${type}\n`) + `data: ${JSON.stringify(packet)}\n\n`;

beforeEach(() => {
  posted = [];
  globalThis.fetch = (url: any, { body, signal }: any) =>
    new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(Error("aborted")));
      const respond = async (content: any, init: ResponseInit): Promise<void> => {
        resolve(new Response(content, init));
        await settle();
      };
      posted.push({
        url: new URL(url),
        body: JSON.parse(body),
        signal,
        answer: (status, headers = {}) => (status ? respond(null, { status, headers }) : (reject(Error("lost")), settle())),
        stream: () => {
          const content = new ReadableStream({
            start(controller) {
              say = (text) => (controller.enqueue(new TextEncoder().encode(text)), settle());
              cut = () => (controller.close(), settle());
              signal.addEventListener("abort", () => controller.error(Error("aborted")));
            },
          });
          return respond(content, { status: 200 });
        },
      });
    });
});
afterEach(() => {
  globalThis.fetch = original;
});

const both = { transports: ["ws", "sse"] } as const;
const refuse = async (world: World): Promise<void> => {
  await world.socket.drop();
  const last = world.states[world.states.length - 1]!;
  await world.clock.pass(last.delayMs ?? 0);
  await settle();
};

/** Connected over HTTP: two WebSockets were refused. */
async function linked(options: object = both): Promise<World> {
  const world = new World(options);
  void world.client.connect().catch(() => {});
  await settle();
  if (options == both) {
    await refuse(world);
    await world.socket.drop();
    await settle();
  }
  await posted[0]!.stream();
  await say(event({ link: "name.n1" }, "link"));
  await say(event(connectedPacket({ id: [posted[0]!.body].flat()[0].id })));
  return world;
}

test("goes round WebSockets after two that did not open, and says so", async () => {
  const world = await linked();
  assert.equal(world.sockets.length, 2);
  assert.equal(world.client.state, "connected");
  assert.equal(world.client.transport, "sse");
  assert.equal(posted[0]!.url.href, "http://one.example/v1/link");
  assert.equal(posted[0]!.body.type, "connect");
});

test("a WebSocket that opens at the second attempt is taken", async () => {
  const world = new World(both);
  void world.client.connect();
  await settle();
  await refuse(world);
  await world.accept();
  assert.equal(world.client.transport, "ws");
  assert.equal(posted.length, 0);
});

test("a refusal of the broker is no reason to go round it", async () => {
  const world = new World(both);
  const opening = world.client.connect().catch(({ name }) => name);
  await settle();
  await world.socket.open();
  await world.socket.drop(4003, "forbidden_origin");
  assert.equal(world.client.state, "closed");
  assert.equal(await opening, "refused");
  assert.equal(posted.length, 0);
});

test("an upgrade that hangs is gone round after some seconds", async () => {
  const world = new World(both);
  void world.client.connect();
  await settle();
  await refuse(world);
  await world.clock.pass(3_999);
  assert.equal(posted.length, 0);
  await world.clock.pass(1);
  await settle();
  assert.equal(posted.length, 1);
  assert.equal(world.socket.isWanted, false);
});

test("a WebSocket that opens and carries nothing is gone round the next time", async () => {
  const world = new World(both);
  void world.client.connect();
  await settle();
  await refuse(world);
  await world.socket.open();
  await world.clock.pass(10_000); // without a word
  await world.clock.pass(world.states[world.states.length - 1]!.delayMs!);
  await settle();
  assert.equal(world.sockets.length, 2);
  assert.equal(posted.length, 1);
});

test("where HTTP is not answered either, WebSockets are tried first again", async () => {
  const world = new World(both);
  void world.client.connect();
  await settle();
  await refuse(world);
  await world.socket.drop();
  await settle();
  await posted[0]!.answer(0);
  await world.clock.pass(world.states[world.states.length - 1]!.delayMs!);
  await settle();
  assert.equal(world.sockets.length, 3);
  await world.accept();
  assert.equal(world.client.transport, "ws");
});

test("subscribes, publishes and receives over it, in one request at a time and in order", async () => {
  const world = await linked();
  const heard: unknown[] = [];
  const subscription = world.client.subscribe("a", ({ data }) => heard.push(data));
  await settle();
  const first = posted[1]!;
  assert.equal(first.url.href, "http://one.example/v1/link/name.n1?n=1");
  const { id, sub } = first.body;
  const publishing = world.client.publish("a", 1);
  world.client.send("a", 2);
  await settle();
  world.client.send("a", 3);
  await settle();
  assert.equal(posted.length, 2, "the next one waits for the answer");
  await first.answer(204);
  assert.equal(posted[2]!.url.search, "?n=2");
  assert.deepEqual(posted[2]!.body.map((packet: Packet) => packet.data), [1, 2, 3]);
  await posted[2]!.answer(204);
  // Pieces as the network cuts them, and the line ends that may stand in data.
  const text = event({ type: "subscribed", id, sub, after: { m0: 0 }, live: true });
  await say(text.slice(0, 20));
  await say(text.slice(20) + event(message(1)).replace('"data":1', '"data":\ndata: "ü"'));
  await say(event([message(2), { type: "published", id: posted[2]!.body[0].id, log: "m0", pos: 1, offset: 1 }]));
  assert.deepEqual(heard, ["ü", 2]);
  assert.deepEqual(subscription.position, { m0: 2 });
  assert.equal((await publishing).offset, 1);
});

test("what a link does not take just now is sent again under its number", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const world = await linked();
  world.client.send("a", 1);
  await settle();
  await posted[1]!.answer(503);
  assert.equal(posted.length, 2);
  context.mock.timers.tick(1_000);
  await settle();
  assert.equal(posted[2]!.url.search, "?n=1");
  assert.deepEqual(posted[2]!.body, posted[1]!.body);
  await posted[2]!.answer(204);
  assert.equal(world.client.state, "connected");
});

for (const what of ["the stream ends", "a request fails", "the link is gone"])
  test(`${what}: the client comes back over HTTP and resumes`, async () => {
    const world = await linked();
    world.client.subscribe("a");
    await settle();
    const { id, sub } = posted[1]!.body;
    await say(event({ type: "subscribed", id, sub, after: { m0: 7 }, live: true }));
    if (what == "the stream ends") await cut();
    else await posted[1]!.answer(what == "a request fails" ? 0 : 404);
    assert.equal(world.client.state, "waiting");
    await world.clock.pass(world.states[world.states.length - 1]!.delayMs!);
    await settle();
    assert.equal(world.sockets.length, 2, "no WebSocket is tried for some minutes");
    const [connect, subscribe] = posted[2]!.body;
    assert.equal(connect.replaces, "c-1");
    assert.deepEqual(subscribe.after, { m0: 7 });
  });

test("a goodbye of the broker says when to come back, and its close code ends it", async () => {
  const world = await linked();
  await say(event({ type: "bye", code: 4200, name: "draining", reconnect_after_ms: 1_234 }) + event({ code: 4200 }, "close"));
  assert.equal(world.states[world.states.length - 1]!.delayMs, 1_234);
  posted = [];
  const other = await linked({ transports: ["sse"] });
  await say(event({ code: 4002, reason: "revoked" }, "close"));
  assert.equal(other.client.state, "closed");
});

test("a full broker is asked again when it says", async () => {
  const world = new World({ transports: ["sse"] });
  void world.client.connect();
  await settle();
  await posted[0]!.answer(503, { "Retry-After": "7" });
  assert.equal(world.states[world.states.length - 1]!.delayMs, 7_000);
});

test("a WebSocket that opens after some minutes is returned to", async () => {
  const world = await linked();
  for (let minutes = 0; minutes < 5; minutes++) {
    await say(event({ type: "ping" }));
    await posted[posted.length - 1]!.answer(204);
    await world.clock.pass(40_000);
    await say(event({ type: "ping" }));
    await posted[posted.length - 1]!.answer(204);
    await world.clock.pass(20_000);
  }
  assert.equal(world.sockets.length, 3, "one is tried");
  await world.socket.open();
  await world.clock.pass(0);
  await settle();
  assert.equal(world.sockets.length, 4, "and the next attempt is one");
  await world.accept();
  assert.equal(world.client.transport, "ws");
});

test("can be forbidden, and can be all there is", async () => {
  const forbidden = new World({ transports: ["ws"] });
  void forbidden.client.connect();
  await settle();
  for (let n = 0; n < 3; n++) await refuse(forbidden);
  assert.equal(forbidden.sockets.length, 4);
  assert.equal(posted.length, 0);
  const only = await linked({ transports: ["sse"] });
  assert.equal(only.sockets.length, 0);
  assert.equal(only.client.transport, "sse");
});

test("a program's own way to dial is not gone round", async () => {
  const world = new World();
  void world.client.connect();
  await settle();
  for (let n = 0; n < 3; n++) await refuse(world);
  assert.equal(posted.length, 0);
});

test("says goodbye before it lets go", async () => {
  const world = await linked();
  await world.client.close();
  await settle();
  assert.equal(posted[1]!.body.type, "disconnect");
  assert.equal(posted[0]!.signal.aborted, false);
  await posted[1]!.answer(204);
  assert.equal(posted[0]!.signal.aborted, true);
});

test("leaves nothing behind when it is closed while it dials", async () => {
  const world = new World({ transports: ["sse"] });
  void world.client.connect().catch(() => {});
  await settle();
  await world.client.close();
  await settle();
  assert.equal(posted[0]!.signal.aborted, true);
  assert.equal(world.clock.pending, 0);
  assert.ok(!world.sockets.some((socket: FakeSocket) => socket.isWanted));
});

test("a stream without an end of its event is left (S33)", async () => {
  const world = await linked();
  await say("data: " + "x".repeat(2 ** 24));
  assert.equal(world.client.state, "waiting");
});

for (const said of ['{"link":"../connections"}', '{"link":7.5e300}', "null", "[", '{"link":{}}'])
  test(`a link named ${said} is none (S33)`, async () => {
    const world = new World({ transports: ["sse"] });
    void world.client.connect();
    await settle();
    await posted[0]!.stream();
    await say(`event: link\ndata: ${said}\n\n`);
    assert.equal(world.client.state, "waiting");
    assert.equal(posted.length, 1);
  });
