/**
 * Tokens: before each connection, ahead of expiry, and when the broker does not take one.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { connected, outcome, turn, World } from "./world.js";

test("the token function is called before each connection, and its failure means waiting", async () => {
  let calls = 0;
  const world = new World({
    token: async () => {
      if (++calls == 2) throw new Error("no network");
      return `t${calls}`;
    },
  });
  void world.client.connect();
  await world.accept();
  assert.equal(world.socket.last("connect").token, "t1");
  await world.socket.drop();
  await world.clock.pass(60);
  assert.equal(world.client.state, "waiting");
  assert.equal(world.complaints[0]!.message, "no network");
  await world.clock.pass(10_000);
  await world.accept();
  assert.equal(world.socket.last("connect").token, "t3");
});

test("a token is refreshed ahead of expiry, one at a time", async () => {
  let calls = 0;
  const world = await connected({ token: () => `t${++calls}` }, { expires_in_ms: 600_000, ping_ms: 3_600_000 });
  await world.clock.pass(569_999);
  assert.equal(world.socket.of("auth").length, 0);
  await world.clock.pass(1);
  const { id, token } = world.socket.last("auth");
  assert.equal(token, "t2");
  await world.socket.say({ type: "notice", expires_in_ms: 0 });
  await world.clock.pass(2_000);
  assert.equal(world.socket.of("auth").length, 1, "one at a time");
  await world.socket.say({ type: "authorized", id, expires_in_ms: 60_000 });
  await world.clock.pass(48_000);
  assert.equal(world.socket.of("auth").length, 2);
  await world.socket.say({ type: "error", id: world.socket.last("auth").id, name: "internal", message: "", retry: "backoff" });
  assert.equal(world.complaints.length, 1);
  await world.clock.pass(10_000);
  assert.equal(world.socket.of("auth").length, 3, "again after a while");
});

test("an expired token at the door: fetch another one, once", async () => {
  let calls = 0;
  const world = new World({ token: () => `t${++calls}` });
  const connecting = world.client.connect();
  connecting.catch(() => {});
  for (const [attempt, state] of [[1, "waiting"], [2, "closed"]] as const) {
    await world.clock.pass(0);
    await world.socket.open();
    const { id, token } = world.socket.last("connect");
    assert.equal(token, `t${attempt}`);
    await world.socket.say({ type: "error", id, name: "token_expired", message: "", retry: "reauth" });
    assert.equal(world.client.state, state);
  }
  assert.equal((await outcome(connecting)).name, "refused");
});

test("a given token that is refused is final", async () => {
  const world = new World({ token: "t" });
  void world.client.connect().catch(() => {});
  await turn();
  await world.socket.open();
  const { id } = world.socket.last("connect");
  await world.socket.say({ type: "error", id, name: "unauthorized", message: "who?", retry: "reauth" });
  assert.equal(world.client.state, "closed");
  assert.equal(world.states[1]!.reason, "unauthorized: who?");
});
