/** Tokens of many tabs on one connection. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, type FakeTab, type Said } from "./fakes.js";

const AUTHORIZED = { type: "authorized", expires_in_ms: 90_000 };

function come(bench: Bench, token?: string): FakeTab {
  const tab = bench.tab();
  tab.say({ type: "connect", id: 1, ...(token !== undefined && { token }) });
  return tab;
}

const heard = (tab: FakeTab): Said[] => tab.take().map(({ type, id, name }) => [type, id ?? name]);

test("one auth refreshes for all, and two at the same moment are one", () => {
  const bench = new Bench();
  const [one, two, three] = [bench.online({ token: "t1" }), bench.online(), bench.online()];
  one.say({ type: "auth", id: 2, token: "t2" });
  two.say({ type: "auth", id: 7, token: "t3" });
  const asked = bench.line.take();
  assert.deepEqual(asked, [{ type: "auth", id: asked[0]!["id"], token: "t2" }]);
  bench.line.say({ ...AUTHORIZED, id: asked[0]!["id"] });
  assert.deepEqual(one.take(), [{ ...AUTHORIZED, id: 2 }]);
  assert.deepEqual(two.take(), [{ ...AUTHORIZED, id: 7 }]);
  assert.deepEqual(three.take(), [{ type: "notice", expires_in_ms: 90_000 }]); // so that it does not refresh, too
  assert.deepEqual(bench.line.take(), []);
  bench.clock.advance(30_000);
  assert.equal(come(bench, "t2").take()[0]!["expires_in_ms"], 60_000);
});

test("a refresh that fails is told to its tab, and the next one is tried", () => {
  const bench = new Bench();
  const [one, two] = [bench.online({ token: "t1" }), bench.online()];
  one.say({ type: "auth", id: 2, token: "stale" });
  two.say({ type: "auth", id: 3, token: "fresh" });
  bench.line.say({ type: "error", id: bench.line.take()[0]!["id"], name: "token_expired", message: "", retry: "reauth" });
  assert.deepEqual(heard(one), [["error", 2]]);
  const [auth] = bench.line.take();
  assert.equal(auth!["token"], "fresh");
  bench.line.say({ ...AUTHORIZED, id: auth!["id"] });
  assert.deepEqual(heard(two), [["authorized", 3]]);
});

test("a tab with a token that was taken before, or with none, is let in unasked", () => {
  const bench = new Bench();
  bench.online({ token: "t1" });
  for (const token of ["t1", undefined]) assert.deepEqual(heard(come(bench, token)), [["connected", 1]]);
  assert.deepEqual(bench.line.take(), []);
});

test("a tab with another token of the same identity is let in when the broker takes it", () => {
  const bench = new Bench();
  bench.online({ token: "t1" });
  const tab = come(bench, "t2");
  tab.say({ type: "publish", id: 2, topic: "a", data: 1 });
  assert.deepEqual(heard(tab), []);
  const [auth, ...rest] = bench.line.take();
  assert.deepEqual([auth!["token"], rest], ["t2", []]);
  bench.line.say({ ...AUTHORIZED, id: auth!["id"] });
  assert.deepEqual(heard(tab), [["connected", 1]]);
  assert.equal(bench.line.take()[0]!["type"], "publish");
});

test("a tab of another identity is sent away to a connection of its own, and harms nobody", () => {
  const bench = new Bench();
  const one = bench.online({ token: "ann" });
  const tab = come(bench, "bob");
  tab.say({ type: "publish", id: 2, topic: "a", data: "bob's" });
  one.say({ type: "auth", id: 2, token: "ann2" });
  bench.line.say({ type: "error", id: bench.line.take()[0]!["id"], name: "unauthorized", message: "", retry: "reauth" });
  assert.equal(tab.closed, 4291);
  const [auth, ...rest] = bench.line.take();
  assert.deepEqual([auth!["token"], rest], ["ann2", []]);
  assert.equal(one.closed, undefined);
});

test("another identity is not let in by somebody else's refresh", () => {
  const bench = new Bench();
  const one = bench.online({ token: "ann" });
  one.say({ type: "auth", id: 2, token: "ann2" });
  const tab = come(bench, "bob");
  bench.line.say({ ...AUTHORIZED, id: bench.line.take()[0]!["id"] });
  assert.deepEqual(heard(tab), []);
  assert.equal(bench.line.take()[0]!["token"], "bob");
});

test("where the broker knows no auth everybody is let in, and is asked once", () => {
  const bench = new Bench();
  bench.online({ token: "t1" });
  const [two, three] = [come(bench, "t2"), come(bench, "t3")];
  const [auth, ...rest] = bench.line.take();
  assert.deepEqual(rest, []);
  bench.line.say({ type: "error", id: auth!["id"], name: "unsupported", message: "", retry: "never", field: "type" });
  assert.deepEqual([heard(two), heard(three), heard(come(bench, "t4"))], [[["connected", 1]], [["connected", 1]], [["connected", 1]]]);
});

test("a tab that is gone before its answer delays nobody", () => {
  const bench = new Bench();
  bench.online({ token: "t1" });
  const [two, three, four] = [come(bench, "t2"), come(bench, "t3"), come(bench, "t4")];
  bench.board.gone(two.port, false);
  bench.board.gone(three.port, false);
  bench.line.say({ ...AUTHORIZED, id: bench.line.take()[0]!["id"] });
  const [auth] = bench.line.take();
  assert.equal(auth!["token"], "t4");
  bench.line.say({ ...AUTHORIZED, id: auth!["id"] });
  assert.deepEqual(heard(four), [["connected", 1]]);
});

test("tabs that waited for the first tab's connect are judged by their own tokens", () => {
  const bench = new Bench();
  const one = bench.tab();
  bench.line.open();
  one.say({ type: "connect", id: 1, token: "t1" });
  const [same, other] = [come(bench, "t1"), come(bench, "t2")];
  const { id } = bench.line.take()[0]!;
  bench.line.say({ type: "connected", id, connection: "c-1", limits: {} });
  assert.deepEqual([heard(one), heard(same), heard(other)], [[["connected", 1]], [["connected", 1]], []]);
  assert.equal(bench.line.take()[0]!["token"], "t2");
});

test("many tokens are remembered, not all", () => {
  const bench = new Bench();
  const tab = bench.online({ token: "t0" });
  for (let n = 1; n <= 20; n++) {
    tab.say({ type: "auth", id: n + 1, token: `t${n}` });
    bench.line.say({ ...AUTHORIZED, id: bench.line.take()[0]!["id"] });
  }
  come(bench, "t20");
  assert.deepEqual(bench.line.take(), []);
  come(bench, "t0");
  assert.equal(bench.line.take().length, 1);
});
