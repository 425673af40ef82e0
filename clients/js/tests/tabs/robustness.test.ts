/** A switchboard, and what it must not be brought to by silence, nonsense or too much of anything. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, CONNECTED, FakeLine, message, type Said } from "./fakes.js";

test("a tab's ping is answered at once while the broker is heard", () => {
  const bench = new Bench();
  const tab = bench.online();
  tab.say({ type: "ping", id: 4 });
  assert.deepEqual(tab.take(), [{ type: "pong", id: 4 }]);
  assert.deepEqual(bench.line.take(), []);
});

test("after a silence a tab's ping asks the broker, once for all tabs, and any sign of life answers", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  bench.clock.advance(30_000);
  one.say({ type: "ping" });
  two.say({ type: "ping", id: 9 });
  assert.deepEqual(bench.line.take(), [{ type: "ping" }]);
  assert.deepEqual([one.take(), two.take()], [[], []]);
  bench.line.say({ type: "pong" });
  assert.deepEqual([one.take(), two.take()], [[{ type: "pong" }], [{ type: "pong", id: 9 }]]);
  bench.clock.advance(10_000);
  assert.equal(one.closed, undefined);
});

test("a broker that does not answer a probe is given up: every tab dials again", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  bench.clock.advance(30_000);
  one.say({ type: "ping" });
  bench.clock.advance(5_000);
  assert.deepEqual([one.closed, two.closed], [4105, 4105]);
  assert.equal(bench.line.closed, 3002);
  bench.line.say(message("a", 1)); // too late
});

test("a tab that dials finds a line dead that has missed a ping, without any timer", () => {
  const bench = new Bench();
  const one = bench.online();
  bench.clock.advance(26_000);
  bench.tab();
  assert.deepEqual([one.closed, bench.line.take()], [undefined, [{ type: "ping" }]]);
  bench.line.say({ type: "pong" });
  bench.clock.advance(37_500);
  bench.tab();
  assert.deepEqual([one.closed, bench.lines.length], [4105, 2]);
});

test("a tab that dials because its ping was not answered finds the line dead, though its timer is late", () => {
  const bench = new Bench();
  const one = bench.online();
  bench.clock.advance(5_000);
  one.say({ type: "ping" });
  bench.clock.advance(4_500);
  bench.board.gone(bench.tab().port, false);
  assert.deepEqual([one.closed, bench.lines.length], [4105, 2]);
});

test("a line that does not come up in time is given up, however many tabs come meanwhile", () => {
  for (const opens of [false, true]) {
    const bench = new Bench();
    const [one, two] = [bench.tab(), bench.tab()];
    if (opens) bench.line.open();
    if (opens) one.say({ type: "connect", id: 1 });
    bench.board.gone(one.port, false);
    bench.clock.advance(12_000);
    assert.deepEqual([two.closed, bench.line.closed], [1006, 3000]);
  }
  const bench = new Bench();
  const tab = bench.online();
  bench.clock.advance(12_000);
  assert.equal(tab.closed, undefined);
});

test("a clock that is set back keeps nothing alive", () => {
  const bench = new Bench();
  const tab = bench.online();
  bench.clock.advance(-100_000);
  tab.say({ type: "ping" });
  assert.deepEqual(bench.line.take(), [{ type: "ping" }]);
});

test("the broker's ping is answered once and told to all, and raises positions (SPEC 4.8.1)", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  bench.live(one, 1, "a", { m0: 1 });
  const ping = { type: "ping", at: { m0: 50, m1: 3 } };
  bench.line.say(ping);
  for (const tab of [one, two]) {
    assert.deepEqual(tab.take(), [ping]);
    tab.say({ type: "pong" });
  }
  assert.deepEqual(bench.line.take(), [{ type: "pong" }]);
  two.say({ type: "subscribe", sub: 1, filter: "a" });
  assert.deepEqual(two.take(), [{ type: "subscribed", sub: 1, after: { m0: 50 }, live: true }]);
});

test("what a tab gets wrong costs one error, as the broker would have it (SPEC 1.5, 1.12)", () => {
  const bench = new Bench();
  const tab = bench.online();
  const wrong: [string, string][] = [
    ["nonsense", "malformed"],
    ["[]", "malformed"],
    ["[[]]", "malformed"],
    ["null", "malformed"],
    ['{"id":3}', "malformed"],
    [`[${Array(4097).fill("{}").join()}]`, "too_large"],
    ['{"type":"connect","id":2}', "bad_state"],
    ['{"type":"unsubscribe","id":2,"sub":4}', "no_such_subscription"],
    ['{"type":"ack","id":2,"sub":4,"log":"m0","pos":1}', "no_such_subscription"],
  ];
  for (const [text, name] of wrong) {
    tab.text(text);
    assert.deepEqual(tab.take().map((packet) => packet["name"]), [name], text);
  }
  assert.deepEqual([bench.line.take(), tab.closed], [[], undefined]);
  const other = bench.tab();
  other.say({ type: "publish", topic: "a", data: 1 });
  assert.deepEqual(other.take().map((p) => p["name"]), ["bad_state", "protocol"]);
  assert.equal(other.closed, 4000);
});

test("what only the broker can judge goes there as it is", () => {
  const bench = new Bench();
  const tab = bench.online();
  tab.text('{"type":"sing","id":2,"volume":11}');
  tab.text('{"type":"subscribe","id":"x","sub":-1,"filter":"a"}');
  const [sing, subscribe] = bench.line.take();
  assert.deepEqual([sing!["volume"], subscribe], [11, { type: "subscribe", id: "x", sub: -1, filter: "a" }]);
  bench.line.say({ type: "error", id: sing!["id"], name: "unsupported", message: "", retry: "never", field: "type" });
  assert.equal(tab.take()[0]!["id"], 2);
});

test("what a later version's broker says reaches the tabs (SPEC 1.8)", () => {
  const bench = new Bench();
  const tab = bench.online();
  const sub = bench.live(tab, 3, "a");
  bench.line.say({ type: "aurora", sub }, { type: "borealis" });
  assert.deepEqual(tab.take(), [{ type: "aurora", sub: 3 }, { type: "borealis" }]);
});

test("a number that a tab uses twice is a conflict (SPEC 3.2.1)", () => {
  const bench = new Bench();
  const tab = bench.online();
  bench.live(tab, 1, "a");
  tab.say({ type: "subscribe", id: 5, sub: 1, filter: "b" });
  assert.deepEqual(tab.take().map((p) => [p["name"], p["id"], p["sub"]]), [["conflict", 5, 1]]);
});

test("a tab cannot have more subscriptions than one connection may, shared or not", () => {
  const bench = new Bench();
  const tab = bench.online({}, { limits: { max_subscriptions: 2 } });
  bench.live(tab, 1, "a");
  tab.say({ type: "subscribe", sub: 2, filter: "a" }, { type: "subscribe", sub: 3, filter: "a" });
  assert.deepEqual(tab.take().map((p) => p["name"] ?? p["type"]), ["subscribed", "quota"]);
});

test("more unanswered questions than a bound are refused with backoff", () => {
  const bench = new Bench();
  const tab = bench.online();
  for (let n = 0; n < 17; n++) {
    tab.say(...Array.from({ length: 1_000 }, (_, m) => ({ type: "history", id: n * 1_000 + m + 2, topic: "a" })));
  }
  const refused = tab.take();
  assert.equal(refused.length, 17_000 - 16_384);
  assert.deepEqual([refused[0]!["name"], refused[0]!["retry"]], ["inflight", "backoff"]);
});

test("what a tab says at once goes out in texts no longer than the broker reads", () => {
  const bench = new Bench();
  const tab = bench.online({}, { limits: { max_frame_bytes: 4_000 } });
  tab.say(...Array.from({ length: 10 }, () => ({ type: "publish", topic: "a", data: "x".repeat(300) })));
  const texts = bench.line.texts.slice(1);
  assert.equal(bench.line.take().length, 10);
  assert.ok(texts.length > 3 && texts.every((text) => text.length <= 1_000));
});

test("texts of the broker that cannot be read end the line: nothing is passed over in silence", () => {
  for (const text of ["nonsense", "7", "null", new ArrayBuffer(3)]) {
    const bench = new Bench();
    const tab = bench.online();
    bench.line.text(text);
    assert.deepEqual([tab.closed, bench.line.closed], [4101, 3000]);
  }
});

test("no packet of a broker makes it throw", () => {
  const odd = [undefined, null, 1, -1, "x", [], {}, { m0: "x" }, true];
  const fields = ["id", "sub", "after", "topic", "log", "pos", "message", "member", "at", "code", "urls", "live", "name"];
  const kinds = "connected subscribed message delivery gap catching_up caught_up unsubscribed joined left ping error bye authorized";
  for (const type of kinds.split(" ")) {
    for (const field of fields) {
      for (const value of odd) {
        const bench = new Bench();
        const tab = bench.online();
        const sub = bench.live(tab, 1, "a");
        tab.say({ type: "auth", id: 3, token: "t" });
        const { id } = bench.line.take()[0]!;
        const good = { id, sub, topic: "a", log: "m0", pos: 4, after: {}, message: message("a", 4), member: { id: "m" } };
        const packet: Said = { type, ...good, [field]: value };
        assert.doesNotThrow(() => bench.line.say(packet, packet));
        assert.notEqual(tab.closed, 4101, JSON.stringify(packet)); // no fault of ours
      }
    }
  }
});

test("a line that cannot be dialled or written to closes its tabs", () => {
  const bench = new Bench();
  assert.equal(bench.tab("t", "bad url").closed, 4000);
  const tab = bench.online();
  bench.line.send = () => {
    throw new Error("no");
  };
  tab.say({ type: "publish", topic: "a", data: 1 });
  assert.equal(tab.closed, 1006);
});

test("a line that takes nothing any more is given up", () => {
  const bench = new Bench();
  const tab = bench.online();
  bench.line.bufferedAmount = 17 << 20;
  tab.say({ type: "publish", topic: "a", data: 1 });
  assert.equal(tab.closed, 4104);
});

test("a position remembers 64 logs at most (SPEC 2.5)", () => {
  const bench = new Bench();
  const tab = bench.online();
  bench.live(tab, 1, "#", {});
  for (let n = 0; n < 70; n++) bench.line.say({ ...message("a", 1), log: `m${n}` });
  tab.take();
  tab.say({ type: "subscribe", sub: 2, filter: "#" });
  assert.equal(Object.keys(tab.take()[0]!["after"]).length, 64);
});

test("more than a thousand tabs are too many", () => {
  const bench = new Bench();
  for (let n = 0; n < 1_000; n++) bench.tab("t");
  assert.equal(bench.tab().closed, 4103);
});

test("events of a line that was left change nothing", () => {
  const bench = new Bench();
  const old: FakeLine = (bench.online(), bench.line);
  const { onmessage, onclose } = old;
  old.cut();
  const tab = bench.online();
  onmessage?.({ data: JSON.stringify({ ...CONNECTED, id: 1 }) });
  onclose?.({ code: 4000, reason: "" });
  assert.deepEqual([tab.closed, tab.take()], [undefined, []]);
});
