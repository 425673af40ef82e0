/**
 * The shared vectors of protocol/vectors, as far as they are for clients.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { decode } from "../src/codec.js";
import { pattern } from "../src/topics.js";
import { connected, turn, type Packet } from "./world.js";

const vectors = (name: string): any =>
  JSON.parse(readFileSync(join(process.cwd(), "..", "..", "protocol", "vectors", `${name}.json`), "utf8"));

const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

test("filters match as they should (matches.json)", () => {
  for (const { filter, topic, matches } of vectors("matches").cases)
    assert.equal(pattern(filter).test(topic), matches, `${filter} ${topic}`);
});

test("every valid topic is a filter of itself alone (topics.json, filters.json)", () => {
  const topics: string[] = vectors("topics").valid.map((one: any) => one.topic ?? one);
  for (const topic of topics) {
    assert.ok(pattern(topic).test(topic), topic);
    assert.ok(!pattern(topic).test(topic + "x") && !pattern(topic).test("x" + topic), topic);
  }
  for (const { filter } of [...vectors("filters").valid, ...vectors("filters").invalid])
    assert.equal(typeof pattern(filter).test("a/b"), "boolean", "no filter makes it throw");
});

test("text messages of a server are read as the packets that they are (server_messages.json)", () => {
  for (const { name, text, packets } of vectors("server_messages").valid) {
    const got = decode(text);
    assert.deepEqual(got.map(({ type }) => type), packets.map(({ type }: Packet) => type), name);
    for (const [i, { fields = {}, raw = {} }] of packets.entries()) {
      for (const [field, value] of Object.entries<any>(fields)) {
        const read = got[i]![camel(field)];
        if (field == "limits") assert.deepEqual({ ...read, ...value }, read, name);
        else assert.deepEqual(read, value, `${name}: ${field}`);
      }
      for (const [field, value] of Object.entries<string>(raw)) {
        const expected = field == "b64" ? new Uint8Array(Buffer.from(JSON.parse(value), "base64")) : JSON.parse(value);
        assert.deepEqual(got[i]![field == "b64" ? "data" : field], expected, `${name}: ${field}`);
      }
    }
  }
});

test("text that is not of this protocol is found out (server_messages.json)", () => {
  for (const { name, text } of vectors("server_messages").broken) assert.throws(() => decode(text), Error, name);
});

test("positions go into packets and come out of them as they are (positions.json)", async () => {
  for (const { position } of vectors("positions").valid) {
    const world = await connected();
    const subscription = world.client.subscribe("a", { after: position }, () => {});
    await turn();
    assert.deepEqual(world.socket.last("subscribe").after, position);
    await world.subscribed(position);
    assert.deepEqual(subscription.position, position);
  }
});

test("what the client sends, a server reads (packets.json)", async () => {
  // Of each type the fields that the vectors know, so that the client sends no name that a server would refuse.
  const known = new Map<string, Set<string>>();
  for (const { type, text } of vectors("packets").valid) {
    const names = known.get(type) ?? new Set(["type", "id"]);
    for (const name of Object.keys(JSON.parse(text))) names.add(name);
    known.set(type, names);
  }
  const world = await connected({ token: "t", will: { topic: "w", data: 1, delayMs: 1 } });
  const { client } = world;
  client.subscribe("a", { from: "earliest", overflow: "gap", presence: "watch" }).unsubscribe();
  client.consume("b", { durable: "d", shared: true, window: 1, ackWaitMs: 1, maxAttempts: 1 });
  client.consume("b", { group: "g" });
  client.send("a", 1, { key: "k", headers: {}, messageId: "m", ttlMs: 1, deliverAt: 1 });
  client.history("a", { after: { m0: 1 }, limit: 5 }).catch(() => {});
  client.presence("a").catch(() => {});
  await turn();
  void world.client.close();
  await turn();
  for (const packet of world.socket.sent)
    for (const name of Object.keys(packet))
      assert.ok(known.get(packet.type)?.has(name), `${packet.type} with ${name}`);
  await client.close(0);
});
