/**
 * What the hooks owe, case by case, in a real React with a scripted client. `run(name)` runs one; test_client_react.py
 * calls each.
 *
 * The client here is no copy of the real one: it notes what is asked of it and tells what a case says.
 */
import { Activity, StrictMode, Suspense, act, createElement as h, useState, type ReactNode } from "react";
import { createRoot, hydrateRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server.browser";
import { useConnectionState, usePresence, useSubscription, type ReduceOptions } from "triode/react";
import type { Client, Gap, Message, Position, Presence, State } from "../../../clients/js/src/types.js";

(globalThis as any).IS_REACT_ACT_ENVIRONMENT = true;

class Talker {
  listeners: Record<string, Set<(event: any) => void>> = {};

  on(type: string, listener: (event: any) => void): () => void {
    (this.listeners[type] ??= new Set()).add(listener);
    return () => this.listeners[type]!.delete(listener);
  }

  tell(type: string, event: object = {}): void {
    for (const listener of this.listeners[type] ?? []) listener({ type, ...event });
  }
}

class ScriptedSubscription extends Talker {
  position: Position = {};
  isLive = false;
  isOver = false;
  settle!: { resolve(): void; reject(error: unknown): void };
  ready = new Promise<void>((resolve, reject) => (this.settle = { resolve, reject }));

  constructor(
    readonly filter: string,
    readonly options: any,
  ) {
    super();
  }

  live(pos = 0): void {
    this.isLive = true;
    this.position = { m0: pos };
    this.settle.resolve();
    this.tell("caughtup", { after: this.position });
  }

  message(pos: number): void {
    this.position = { m0: pos };
    this.tell("message", { topic: this.filter, data: pos, log: "m0", pos, offset: pos, ts: 0 });
  }

  unsubscribe(): void {
    this.isOver = true;
    this.tell("end");
  }
}

class ScriptedClient extends Talker {
  state: State = "connected";
  subscriptions: ScriptedSubscription[] = [];
  questions: { topic: string; resolve(answer: Presence): void; reject(error: unknown): void }[] = [];

  subscribe(filter: string, options: object): ScriptedSubscription {
    const subscription = new ScriptedSubscription(filter, options);
    this.subscriptions.push(subscription);
    return subscription;
  }

  presence(topic: string): Promise<Presence> {
    return new Promise((resolve, reject) => this.questions.push({ topic, resolve, reject }));
  }

  get last(): ScriptedSubscription {
    return this.subscriptions[this.subscriptions.length - 1]!;
  }

  get open(): number {
    return this.subscriptions.filter((subscription) => !subscription.isOver).length;
  }

  to(state: State): void {
    this.state = state;
    this.tell("state", { state });
  }

  /** As what it stands in for. */
  get real(): Client {
    return this as unknown as Client;
  }
}

function equal(found: unknown, expected: unknown, what = "found"): void {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw Error(`${what}: ${a}, not ${b}`);
}

/** Past the microtask in which what nobody looks at ends, and the frame in which changes are shown. */
const shown = (): Promise<void> =>
  act(() => new Promise<void>((resolve) => setTimeout(() => requestAnimationFrame(() => resolve()), 20)));

let root: Root | undefined;

async function render(what: ReactNode): Promise<void> {
  root ??= createRoot(document.getElementById("root")!);
  await act(async () => root!.render(what));
}

async function unmount(): Promise<void> {
  await act(async () => root?.unmount());
  root = undefined;
}

const data = (messages: readonly Message[]) => messages.map((message) => message.data);

const cases: Record<string, (client: ScriptedClient) => Promise<void>> = {
  async strict_mode_subscribes_once(client) {
    const Room = () => h("p", null, useSubscription(client.real, "room").messages.length);
    await render(h(StrictMode, null, h(Room)));
    equal(client.subscriptions.length, 1);
    equal(client.open, 1);
    await unmount();
    equal(client.open, 0);
    equal(client.listeners.state!.size, 0, "listeners left behind");
  },

  async strict_mode_is_present_once(client) {
    const Room = () => h("p", null, usePresence(client.real, "room", { name: "Ann" }).members.length);
    await render(h(StrictMode, null, h(Room)));
    equal(client.subscriptions.length, 1);
    equal(client.last.options.presence, { state: { name: "Ann" } });
  },

  async equal_options_are_the_same_options(client) {
    const Room = ({ round }: { round: number }) => {
      const { messages } = useSubscription(client.real, "room", {
        from: { since: round },
        presence: { state: { name: "Ann" } },
      });
      return h("p", null, round, messages.length);
    };
    for (const round of [1, 2, 3]) await render(h(Room, { round }));
    equal(client.subscriptions.length, 1);
  },

  async another_option_goes_on_where_it_stood(client) {
    let seen: any;
    const Room = ({ name }: { name: string }) => {
      seen = useSubscription(client.real, "room", { from: "earliest", presence: { state: name } });
      return null;
    };
    await render(h(Room, { name: "Ann" }));
    client.last.live();
    for (const pos of [1, 2]) client.last.message(pos);
    await render(h(Room, { name: "Anna" }));
    const [first, second] = client.subscriptions;
    equal([first!.isOver, second!.options.after], [true, { m0: 2 }]);
    second!.live(2);
    second!.message(3);
    await shown();
    equal(data(seen.messages), [1, 2, 3]);
    equal(client.open, 1);
  },

  async another_filter_begins_anew(client) {
    let seen: any;
    const Room = ({ filter }: { filter: string | null }) => {
      seen = useSubscription(client.real, filter);
      return null;
    };
    await render(h(Room, { filter: "one" }));
    client.last.live();
    client.last.message(1);
    await shown();
    equal([data(seen.messages), seen.isLive], [[1], true]);
    await render(h(Room, { filter: "two" }));
    equal([data(seen.messages), seen.isLive, client.last.options.after], [[], false, undefined]);
    equal([client.open, client.last.filter], [1, "two"]);
    await render(h(Room, { filter: null }));
    equal(client.open, 0);
  },

  async what_is_hidden_and_shown_again_resumes(client) {
    let seen: any;
    const Room = () => {
      seen = useSubscription(client.real, "room");
      return null;
    };
    const at = (mode: "visible" | "hidden") => render(h(Activity, { mode, children: h(Room) }));
    await at("visible");
    client.last.live();
    client.last.message(7);
    await shown();
    await at("hidden");
    equal(client.open, 0);
    await at("visible");
    equal(client.last.options.after, { m0: 7 });
    client.last.live(7);
    client.last.message(8);
    await shown();
    equal(data(seen.messages), [7, 8]);
  },

  async cut_off_before_it_was_live_it_begins_anew(client) {
    let seen: any;
    const Room = () => {
      seen = useSubscription(client.real, "+", { from: "last" });
      return null;
    };
    const at = (mode: "visible" | "hidden") => render(h(Activity, { mode, children: h(Room) }));
    await at("visible");
    client.last.message(3);
    await at("hidden");
    await at("visible");
    equal([client.last.options.from, client.last.options.after], ["last", undefined]);
    for (const pos of [3, 4]) client.last.message(pos);
    client.last.live(4);
    await shown();
    equal(data(seen.messages), [3, 4]);
  },

  async suspended_before_it_is_on_the_screen_nothing_is_subscribed(client) {
    let finish = () => {};
    const wait = new Promise<void>((resolve) => (finish = resolve));
    let isDone = false;
    const Slow = () => {
      if (!isDone) throw wait;
      return null;
    };
    const Room = () => h("p", null, useSubscription(client.real, "room").messages.length, h(Slow));
    await render(h(Suspense, { fallback: "…" }, h(Room)));
    equal(client.subscriptions.length, 0);
    isDone = true;
    await act(async () => finish());
    equal(client.subscriptions.length, 1);
  },

  async list_keeps_the_newest_and_renders_once_a_frame(client) {
    let renders = 0;
    let seen: any;
    const Room = () => {
      renders++;
      seen = useSubscription(client.real, "room", { keep: 3 });
      return null;
    };
    await render(h(Room));
    client.last.live();
    await shown();
    renders = 0;
    for (let pos = 1; pos <= 500; pos++) client.last.message(pos);
    await shown();
    equal(data(seen.messages), [498, 499, 500]);
    equal(renders, 1, "renders");
  },

  async gap_that_is_read_is_shown(client) {
    let seen: any;
    const Room = () => {
      const { messages, gap } = useSubscription(client.real, "room");
      seen = { messages, gap };
      return null;
    };
    await render(h(Room));
    equal(seen.gap, undefined);
    client.last.tell("gap", { reason: "retention", after: { m0: 5 } });
    await shown();
    equal(seen.gap.reason, "retention");
  },

  async gap_that_nobody_reads_is_left_to_the_client(client) {
    let isRead = false;
    let seen: any;
    let again: (round: number) => void;
    const Room = () => {
      const view = useSubscription(client.real, "room");
      again = useState(0)[1];
      if (isRead) seen = view.gap;
      return null;
    };
    await render(h(Room));
    equal(client.last.listeners.gap?.size, undefined, "listeners");
    isRead = true;
    await act(async () => again(1));
    client.last.tell("gap", { reason: "slow", after: {} });
    await shown();
    equal([client.last.listeners.gap!.size, seen.reason], [1, "slow"]);
  },

  async reducer_takes_messages_and_gaps_in_order(client) {
    let seen: any;
    const Room = ({ sign }: { sign: string }) => {
      const options: ReduceOptions<string[], number> = {
        initial: ["begin"],
        reduce: (value, event: Message<number> | Gap) => [
          ...value,
          sign + (event.type === "gap" ? event.reason : event.data),
        ],
      };
      seen = useSubscription(client.real, "room", options);
      return null;
    };
    await render(h(Room, { sign: "a" }));
    equal(seen.value, ["begin"]);
    client.last.live();
    client.last.message(1);
    client.last.tell("gap", { reason: "slow", after: {} });
    await render(h(Room, { sign: "b" }));
    client.last.message(5);
    await shown();
    equal([seen.value, seen.gap.reason], [["begin", "a1", "aslow", "b5"], "slow"]);
    equal(client.subscriptions.length, 1);
  },

  async refusal_is_an_error_that_is_shown(client) {
    let seen: any;
    const Room = ({ echo }: { echo: boolean }) => {
      seen = useSubscription(client.real, "secret", { echo });
      return null;
    };
    await render(h(Room, { echo: true }));
    const error = Object.assign(Error("no"), { name: "forbidden", retry: "never" });
    client.last.settle.reject(error);
    client.last.tell("end", { error });
    await shown();
    equal([seen.error.name, seen.isLive], ["forbidden", false]);
    await render(h(Room, { echo: false }));
    await shown();
    equal([seen.error, client.open], [undefined, 1]);
  },

  async live_follows_the_connection(client) {
    let seen: any;
    const Room = () => {
      seen = [useSubscription(client.real, "room").isLive, useConnectionState(client.real)];
      return null;
    };
    await render(h(Room));
    client.last.live();
    await shown();
    equal(seen, [true, "connected"]);
    client.last.isLive = false;
    await act(async () => client.to("waiting"));
    await shown();
    equal(seen, [false, "waiting"]);
  },

  async without_a_client_there_is_nothing(client) {
    let seen: any;
    const Room = ({ real }: { real: Client | null }) => {
      seen = [useSubscription(real, "a").messages, usePresence(real, "a").members, useConnectionState(real)];
      return null;
    };
    await render(h(Room, { real: null }));
    equal(seen, [[], [], "idle"]);
    await render(h(Room, { real: client.real }));
    equal([client.open, seen[2]], [2, "connected"]);
  },

  async presence_is_the_list_and_what_came_behind_it(client) {
    let seen: any;
    const Room = () => {
      seen = usePresence(client.real, "room", { name: "Ann" });
      return null;
    };
    const joined = (id: string, isSelf = false, state = "here") =>
      client.last.tell("joined", { topic: "room", member: { id, state }, isSelf });
    const left = (id: string) => client.last.tell("left", { topic: "room", member: { id } });
    await render(h(Room));
    client.last.live();
    joined("ann", true);
    joined("early");
    left("early");
    const members = ["bob", "ann", "early"].map((id) => ({ id, state: "listed" }));
    client.questions[0]!.resolve({ topic: "room", members, complete: true });
    joined("overtakes the promise");
    left("bob");
    left("nobody knows");
    await shown();
    equal(
      [seen.members.map((member: any) => member.id), seen.self.id, seen.isComplete],
      [["ann", "overtakes the promise"], "ann", true],
    );
    joined("ann", true, "busy");
    await shown();
    equal(seen.self.state, "busy");
  },

  async presence_is_asked_for_anew_whenever_it_is_live_again(client) {
    let seen: any;
    const Room = () => {
      seen = usePresence(client.real, "room");
      return null;
    };
    await render(h(Room));
    equal(client.last.options.presence, "watch");
    client.last.live();
    client.last.live();
    const [stale, fresh] = client.questions;
    fresh!.resolve({ topic: "room", members: [{ id: "new" }], complete: true });
    stale!.resolve({ topic: "room", members: [{ id: "old" }], complete: true });
    await shown();
    equal(data(seen.members).length, 1);
    equal(seen.members[0].id, "new");
  },

  async presence_that_is_refused_for_a_while_is_asked_for_again(client) {
    let seen: any;
    const Room = () => {
      seen = usePresence(client.real, "room");
      return null;
    };
    await render(h(Room));
    client.last.live();
    client.questions[0]!.reject({ retry: "backoff", retryAfterMs: 1 });
    await shown();
    client.questions[1]!.reject({ retry: "never", name: "forbidden" });
    await shown();
    equal([client.questions.length, seen.error.name], [2, "forbidden"]);
  },

  async another_state_is_another_membership(client) {
    const Room = ({ name }: { name?: string }) => h("p", null, usePresence(client.real, "room", name).members.length);
    await render(h(Room, {}));
    await render(h(Room, { name: "Ann" }));
    await render(h(Room, { name: "Ann" }));
    equal(
      client.subscriptions.map((subscription) => subscription.options.presence),
      ["watch", { state: "Ann" }],
    );
    equal(client.open, 1);
  },

  async server_renders_what_it_is_given_and_the_page_goes_on_from_there(client) {
    const first = { type: "message", topic: "room", data: "first", offset: 1, log: "m0", pos: 1, ts: 0 } as const;
    const Room = () => {
      const { messages, isLive } = useSubscription(client.real, "room", { initial: [first], after: { m0: 1 } });
      const state = useConnectionState(client.real);
      return h("p", null, data(messages).join(), isLive ? " live " : " ", state, usePresence(client.real, "room").members.length);
    };
    const complaints: unknown[] = [];
    const element = document.getElementById("root")!;
    element.innerHTML = renderToString(h(Room));
    equal([element.textContent, client.subscriptions.length], ["first idle0", 0]);
    await act(async () => {
      root = hydrateRoot(element, h(Room), { onRecoverableError: (error) => complaints.push(String(error)) });
    });
    equal(complaints, []);
    const subscription = client.subscriptions[0]!;
    equal(subscription.options.after, { m0: 1 });
    subscription.live(1);
    subscription.message(2);
    await shown();
    equal(element.textContent, "first,2 live connected0");
  },
};

declare global {
  interface Window {
    cases: string[];
    run(name: string): Promise<string>;
  }
}

window.cases = Object.keys(cases);
/** "" when all is well, else what is not. */
window.run = async (name) => {
  const complaints: string[] = [];
  console.error = (...words: unknown[]) => complaints.push(words.join(" "));
  try {
    await cases[name]!(new ScriptedClient());
    await unmount();
  } catch (error) {
    complaints.push(String(error));
  }
  return complaints.join("\n");
};
