/** A switchboard between scripted tabs and a scripted broker. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bench, CONNECTED, message, type Said } from "./fakes.js";

const types = (packets: Said[]): string[] => packets.map((packet) => packet["type"]);

test("the first tab's connect goes upstream, in its words", () => {
  const bench = new Bench();
  const tab = bench.tab();
  assert.equal(tab.isOpen, false);
  bench.line.open();
  assert.equal(tab.isOpen, true);
  const connect = { type: "connect", id: 7, token: "t", client: { name: "app" }, resume: true, replaces: "c-9/3" };
  tab.say(connect);
  assert.deepEqual(bench.line.take(), [{ ...connect, id: 1, capabilities: ["batch"], replaces: "c-9" }]);
  bench.line.say({ ...CONNECTED, id: 1 });
  assert.deepEqual(tab.take(), [{ ...CONNECTED, id: 7, connection: "c-1/1" }]);
});

test("what stands behind the first connect is sent along: one round trip (SPEC 1.11)", () => {
  const bench = new Bench();
  const tab = bench.tab();
  bench.line.open();
  tab.say({ type: "connect", id: 1 }, { type: "subscribe", id: 2, sub: 1, filter: "a" }, { type: "publish", id: 3, topic: "a", data: 1 });
  assert.equal(bench.line.texts.length, 1);
  assert.deepEqual(types(bench.line.take()), ["connect", "subscribe", "publish"]);
});

test("later tabs are answered from what the first was told, and replace nobody", () => {
  const bench = new Bench();
  bench.online({}, { expires_in_ms: 60_000 });
  bench.clock.advance(10_000);
  const tab = bench.tab();
  assert.equal(tab.isOpen, true);
  tab.say({ type: "connect", id: 5, replaces: "c-1/1" }, { type: "publish", topic: "a", data: 1 });
  assert.deepEqual(tab.take(), [{ ...CONNECTED, id: 5, connection: "c-1/2", expires_in_ms: 50_000 }]);
  assert.deepEqual(types(bench.line.take()), ["publish"]);
  assert.equal(bench.lines.length, 1);
});

test("a tab that comes while the first connects waits with everything it says", () => {
  const bench = new Bench();
  const first = bench.tab();
  bench.line.open();
  first.say({ type: "connect", id: 1 });
  const second = bench.tab();
  second.say({ type: "connect", id: 1 }, { type: "publish", id: 2, topic: "a", data: 1 });
  assert.deepEqual(types(bench.line.take()), ["connect"]);
  bench.line.say({ ...CONNECTED, id: 1 });
  assert.deepEqual(types(second.take()), ["connected"]);
  assert.deepEqual(types(bench.line.take()), ["publish"]);
});

test("a tab that says too much before connected is closed", () => {
  const bench = new Bench();
  const first = bench.tab();
  const tab = bench.tab();
  bench.line.open();
  first.say({ type: "connect", id: 1 });
  tab.say({ type: "connect", id: 1 });
  tab.say({ type: "publish", topic: "a", data: "x".repeat(70_000) });
  assert.equal(tab.closed, 4000);
});

test("ids and subs are translated both ways, and answers find their tab", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  one.say({ type: "publish", id: 2, topic: "a", data: 1 });
  two.say({ type: "publish", id: 2, topic: "a", data: 2 });
  two.say({ type: "history", id: 3, topic: "a" });
  const [a, b, c] = bench.line.take();
  assert.equal(new Set([a!["id"], b!["id"], c!["id"]]).size, 3);
  bench.line.say({ type: "published", id: b!["id"], log: "m0", pos: 2, offset: 2, level: "memory" });
  bench.line.say({ type: "error", id: a!["id"], name: "forbidden", message: "", retry: "never" });
  bench.line.say({ type: "history", id: c!["id"], messages: [], complete: true, after: {} });
  assert.deepEqual(one.take(), [{ type: "error", id: 2, name: "forbidden", message: "", retry: "never" }]);
  assert.deepEqual(two.take().map(({ type, id }) => [type, id]), [["published", 2], ["history", 3]]);
});

test("payloads pass as the text they came as (SPEC 1.9)", () => {
  const bench = new Bench();
  const tab = bench.online();
  tab.text('[ {"type":"publish", "id":2,"topic":"a","data":{"n":1e400,"s":"\\u00e9\\"]}","z":-0} },{"type":"pong"}]');
  const rest = '"type":"publish","topic":"a","data":{"n":1e400,"s":"\\u00e9\\"]}","z":-0}}';
  assert.deepEqual(bench.line.texts.slice(1), [`{"id":${bench.line.take()[0]!["id"]},${rest}`]);
  const sub = bench.live(tab, 1, "a");
  bench.line.text(`{"type":"delivery","sub":${sub},"message":{"type":"message","topic":"a","offset":1,"log":"m0","pos":1,"ts":1,"data":1e400}}`);
  assert.match(tab.texts[0]!, /"data":1e400/);
  assert.match(tab.texts[0]!, /"sub":1,/);
});

test("a message goes once to each tab with a live subscription that matches, and to no other (R3)", () => {
  const bench = new Bench();
  const [one, two, three] = [bench.online(), bench.online(), bench.online()];
  bench.live(one, 1, "rooms/+");
  bench.live(one, 2, "rooms/#");
  bench.live(two, 1, "rooms/1", { m0: 5 });
  bench.live(three, 1, "halls/#");
  bench.line.say(message("rooms/1", 5));
  assert.equal(one.take().length, 1);
  assert.equal(two.take().length, 0); // it has had that one
  bench.line.say(message("rooms/1", 6), message("rooms/2", 7));
  assert.equal(one.take().length, 2);
  assert.deepEqual(two.take(), [message("rooms/1", 6)]);
  assert.deepEqual(three.take(), []);
});

test("tabs that read arrays get what came together as one text, others one by one (SPEC 1.5)", () => {
  const bench = new Bench();
  const [one, two] = [bench.online({ capabilities: ["batch"] }), bench.online()];
  bench.live(one, 1, "a");
  two.say({ type: "subscribe", id: 2, sub: 1, filter: "a" });
  two.take();
  bench.line.say(message("a", 1), message("a", 2));
  assert.deepEqual([one.texts.length, two.texts.length], [1, 2]);
  assert.deepEqual(one.take(), two.take());
});

test("equal subscriptions share one upstream; the late tab joins live at the place reached", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  bench.live(one, 1, "a/#", { m0: 3 });
  bench.line.say(message("a/b", 8));
  two.say({ type: "subscribe", id: 2, sub: 9, filter: "a/#" });
  assert.deepEqual(bench.line.take(), []);
  assert.deepEqual(two.take(), [{ type: "subscribed", id: 2, sub: 9, after: { m0: 8 }, live: true }]);
  bench.line.say(message("a/b", 9));
  assert.deepEqual(two.take(), [message("a/b", 9)]);
  // The last one to leave ends it.
  one.say({ type: "unsubscribe", id: 3, sub: 1 });
  assert.deepEqual(one.take().slice(-1), [{ type: "unsubscribed", id: 3, sub: 1 }]);
  assert.deepEqual(bench.line.take(), []);
  two.say({ type: "unsubscribe", id: 3, sub: 9 });
  const [unsubscribe] = bench.line.take();
  assert.deepEqual(unsubscribe, { type: "unsubscribe", id: unsubscribe!["id"], sub: 1 });
  bench.line.say({ type: "unsubscribed", id: unsubscribe!["id"], sub: 1 });
  assert.deepEqual(two.take(), [{ type: "unsubscribed", id: 3, sub: 9 }]);
  bench.line.say(message("a/b", 10));
  assert.deepEqual([one.take(), two.take()], [[], []]);
});

test("who asks for the same while it is being asked for gets the same answer, deliveries included", () => {
  const bench = new Bench();
  const [one, two, three] = [bench.online(), bench.online(), bench.online()];
  one.say({ type: "subscribe", id: 2, sub: 1, filter: "a", after: { m0: 4, m1: 2 } });
  two.say({ type: "subscribe", id: 2, sub: 5, filter: "a", after: { m1: 2, m0: 4 } });
  three.say({ type: "subscribe", id: 2, sub: 1, filter: "a", after: { m0: 3, m1: 2 } });
  const asked = bench.line.take();
  assert.equal(asked.length, 2);
  const { id, sub } = asked[0]!;
  bench.line.say({ type: "subscribed", id, sub, after: { m0: 4, m1: 2 }, live: false });
  bench.line.say({ type: "delivery", sub, message: message("a", 6) });
  bench.line.say({ type: "gap", sub, after: { m0: 6, m1: 9 }, reason: "retention" });
  assert.deepEqual(one.take().map((p) => [p["type"], p["sub"]]), [["subscribed", 1], ["delivery", 1], ["gap", 1]]);
  assert.deepEqual(two.take().map((p) => [p["type"], p["sub"]]), [["subscribed", 5], ["delivery", 5], ["gap", 5]]);
  assert.deepEqual(three.take(), []);
});

test("a stored position joins only where it is exactly that of the live line; others catch up by themselves", () => {
  const bench = new Bench();
  const [one, two, three] = [bench.online(), bench.online(), bench.online()];
  bench.live(one, 1, "a", { m0: 8 });
  two.say({ type: "subscribe", id: 2, sub: 1, filter: "a", after: { m0: 8 } });
  three.say({ type: "subscribe", id: 2, sub: 1, filter: "a", after: { m0: 7 } });
  assert.deepEqual(bench.line.take().map((p) => p["after"]), [{ m0: 7 }]);
  assert.equal(two.take()[0]!["live"], true);
});

test("lines that have become equal are put together, and nobody hears anything twice", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  const first = bench.live(one, 1, "a", { m0: 8 });
  two.say({ type: "subscribe", id: 2, sub: 1, filter: "a", after: { m0: 7 } });
  const { id, sub } = bench.line.take()[0]!;
  bench.line.say({ type: "subscribed", id, sub, after: { m0: 7 }, live: false }, { type: "delivery", sub, message: message("a", 8) });
  bench.line.say({ type: "caught_up", sub, after: { m0: 9 } });
  assert.deepEqual(types(bench.line.take()), []); // the first has 8, the second 9: not equal
  bench.line.say({ type: "ping", at: { m0: 12 } });
  assert.deepEqual(bench.line.take(), [{ type: "pong" }, { type: "unsubscribe", sub }]);
  two.take();
  bench.line.say({ type: "unsubscribed", sub }, { type: "catching_up", sub: first, after: { m0: 12 }, reason: "slow" });
  assert.deepEqual(two.take(), [{ type: "catching_up", sub: 1, after: { m0: 12 }, reason: "slow" }]);
});

test("a line that is catching up takes in nobody who wants what is new", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  const sub = bench.live(one, 1, "a", { m0: 8 });
  bench.line.say({ type: "catching_up", sub, after: { m0: 8 }, reason: "slow" });
  two.say({ type: "subscribe", id: 2, sub: 1, filter: "a" });
  assert.equal(bench.line.take().length, 1);
});

test("presence with a state, acknowledged and unknown kinds of subscriptions are each tab's own", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  for (const more of [{ presence: { state: 1 } }, { durable: "d" }, { group: "g" }, { sparkle: true }]) {
    for (const tab of [one, two]) tab.say({ type: "subscribe", id: 2, sub: tab.port.members.size + 1, filter: "a", ...more });
    assert.equal(bench.line.take().length, 2, JSON.stringify(more));
  }
  bench.live(one, 9, "a", {}, { overflow: "gap" });
  two.say({ type: "subscribe", id: 2, sub: 9, filter: "a", overflow: "conflate" });
  assert.equal(bench.line.take().length, 1);
});

test("acknowledged deliveries go to the tab that asked, and its acks go under the broker's number", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  bench.live(one, 1, "jobs");
  const sub = bench.live(two, 1, "jobs", { m0: 0 }, { group: "g" });
  bench.line.say({ type: "delivery", sub, attempt: 1, message: message("jobs", 1) });
  assert.deepEqual([one.take().length, two.take().map((p) => p["sub"])], [0, [1]]);
  two.say({ type: "ack", id: 5, sub: 1, log: "m0", pos: 1 });
  const [ack] = bench.line.take();
  assert.deepEqual([ack!["sub"], ack!["pos"]], [sub, 1]);
  bench.line.say({ type: "error", id: ack!["id"], sub, name: "conflict", message: "", retry: "never" });
  assert.deepEqual(two.take(), [{ type: "error", id: 5, sub: 1, name: "conflict", message: "", retry: "never" }]);
  // A live message is not for acknowledged subscriptions.
  bench.line.say(message("jobs", 2));
  assert.deepEqual([one.take().length, two.take().length], [1, 0]);
});

test("joined and left go to those who watch; one's own to the one who joined (SPEC 10.2)", () => {
  const bench = new Bench();
  const [one, two, three] = [bench.online(), bench.online(), bench.online()];
  bench.live(one, 1, "rooms/+", {}, { presence: "watch" });
  bench.live(three, 1, "rooms/1");
  const sub = bench.live(two, 1, "rooms/1", {}, { presence: { state: "x" } });
  const joined = { type: "joined", topic: "rooms/1", member: { id: "m" } };
  bench.line.say({ ...joined, sub });
  assert.deepEqual([one.take(), two.take(), three.take()], [[], [{ ...joined, sub: 1 }], []]);
  bench.line.say({ ...joined, type: "left" });
  assert.deepEqual([one.take().length, two.take().length, three.take().length], [1, 1, 0]);
});

test("a refused subscription is told to those who asked, and its number is used again (SPEC 3.2.1)", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  one.say({ type: "subscribe", id: 2, sub: 1, filter: "a" });
  two.say({ type: "subscribe", id: 6, sub: 4, filter: "a" });
  const { id, sub } = bench.line.take()[0]!;
  bench.line.say({ type: "error", id, sub, name: "quota", message: "", retry: "never" });
  assert.deepEqual(one.take(), [{ type: "error", id: 2, sub: 1, name: "quota", message: "", retry: "never" }]);
  assert.deepEqual(two.take(), [{ type: "error", id: 6, sub: 4, name: "quota", message: "", retry: "never" }]);
  one.say({ type: "subscribe", id: 3, sub: 2, filter: "b" });
  assert.equal(bench.line.take()[0]!["sub"], sub);
});

test("an unsubscribed that nobody asked for ends it in every tab (SPEC 4.9.1)", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  const sub = bench.live(one, 1, "a");
  two.say({ type: "subscribe", id: 2, sub: 1, filter: "a" });
  two.take();
  bench.line.say({ type: "unsubscribed", sub, name: "forbidden", message: "", retry: "never" });
  assert.deepEqual([one.take()[0]!["sub"], two.take()[0]!["sub"]], [1, 1]);
  bench.line.say(message("a", 1));
  assert.deepEqual([one.take(), two.take()], [[], []]);
});

test("what concerns nobody's packet concerns all: notice, an error without id", () => {
  const bench = new Bench();
  const tabs = [bench.online(), bench.online()];
  bench.line.say({ type: "notice", draining: true });
  bench.line.say({ type: "error", name: "rate_limited", message: "", retry: "backoff" });
  for (const tab of tabs) assert.deepEqual(types(tab.take()), ["notice", "error"]);
});

test("bye and the close reach every tab with their code; the next tab dials again and replaces", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  const bye = { type: "bye", code: 4200, name: "draining", reconnect_after_ms: 5, urls: ["ws://other/ws"] };
  bench.line.say(bye);
  assert.deepEqual([one.take(), two.take()], [[bye], [bye]]);
  assert.deepEqual([one.closed, two.closed], [4200, 4200]);
  const tab = bench.tab("t", "ws://other/ws");
  assert.deepEqual([bench.lines.length, bench.line.url], [2, "ws://other/ws"]);
  bench.line.open();
  tab.say({ type: "connect", id: 1 });
  assert.equal(bench.line.take()[0]!["replaces"], "c-1");
});

test("a lost line closes every tab; a handshake that fails never opens them", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  bench.line.cut();
  assert.deepEqual([one.closed, two.closed], [1006, 1006]);
  const tab = bench.tab();
  bench.line.cut();
  assert.deepEqual([tab.isOpen, tab.closed], [false, 1006]);
});

test("a refused connect is the first tab's; the others ask again with their own", () => {
  const bench = new Bench();
  const first = bench.tab();
  bench.line.open();
  first.say({ type: "connect", id: 4, token: "old" });
  const second = bench.tab();
  second.say({ type: "connect", id: 1, token: "new" });
  const { id } = bench.line.take()[0]!;
  bench.line.say({ type: "error", id, name: "unauthorized", message: "", retry: "reauth" });
  bench.line.say({ type: "bye", code: 4001, name: "auth_failed" });
  assert.deepEqual(first.take().map((p) => [p["type"], p["id"]]), [["error", 4], ["bye", undefined]]);
  assert.deepEqual([first.closed, second.closed], [4001, 4290]);
  assert.deepEqual(second.take(), []);
});

test("the longest publish fails where it was too long for the line, and no other (SPEC 5.3.3)", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  one.say({ type: "publish", id: 2, topic: "a", data: 1 });
  two.say({ type: "publish", id: 2, topic: "a", data: "x".repeat(100) });
  bench.line.cut(1009);
  assert.deepEqual([one.closed, two.closed], [1006, 1009]);
});

test("4005 means that another switchboard took over: no tab stops for it", () => {
  const bench = new Bench();
  const tab = bench.online();
  bench.line.say({ type: "bye", code: 4005, name: "replaced" });
  assert.deepEqual([tab.closed, tab.take()], [4290, []]);
});

test("the last tab's goodbye is the connection's; one that only vanishes leaves a broken line (SPEC 10.8)", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  one.say({ type: "disconnect" });
  assert.deepEqual([one.closed, bench.line.take(), bench.line.closed], [1000, [], undefined]);
  two.say({ type: "disconnect" });
  assert.deepEqual([two.closed, types(bench.line.take()), bench.line.closed], [1000, ["disconnect"], 1000]);
  const tab = bench.online();
  bench.board.gone(tab.port, false);
  assert.deepEqual([bench.line.take(), bench.line.closed], [[], 3001]);
});

test("a tab that is gone takes its subscriptions along, and shared ones only with the last", () => {
  const bench = new Bench();
  const [one, two] = [bench.online(), bench.online()];
  const shared = bench.live(one, 1, "a");
  two.say({ type: "subscribe", id: 2, sub: 1, filter: "a" });
  const own = bench.live(one, 2, "b");
  bench.board.gone(one.port, false);
  assert.deepEqual(bench.line.take(), [{ type: "unsubscribe", sub: own }]);
  bench.line.say({ type: "delivery", sub: own, message: message("b", 1) }); // R5
  bench.line.say(message("a", 2));
  assert.deepEqual([types(two.take()).at(-1), one.take().length > 0, shared], ["message", false, shared]);
});

test("status tells the number of tabs and the state upstream", () => {
  const bench = new Bench();
  const one = bench.tab("t1");
  assert.deepEqual(one.last, { tabs: 1, upstream: "opening" });
  bench.line.open();
  one.say({ type: "connect", id: 1 });
  bench.line.say({ ...CONNECTED, id: 1 });
  bench.tab("t1");
  const two = bench.tab("t2");
  assert.deepEqual([one.last, two.last], [{ tabs: 2, upstream: "online" }, { tabs: 2, upstream: "online" }]);
  bench.board.gone(two.port, false);
  assert.deepEqual(one.last, { tabs: 1, upstream: "online" });
});

test("shutdown hands every tab over, and says goodbye where a will would be read otherwise", () => {
  for (const [connect, closed] of [[{}, 3001], [{ will: { topic: "w", data: 1 } }, 1000]] as const) {
    const bench = new Bench();
    const tab = bench.online(connect);
    bench.board.shutdown();
    assert.deepEqual([tab.closed, bench.line.closed], [4290, closed]);
  }
});
