/**
 * React hooks (entry `triode/react`): a subscription, who is there, how the connection stands.
 *
 * Knows the client by its types alone: whoever uses a hook brings the client along. The surprising decision: what
 * stops looking is ended a microtask later. React's strict mode, a refresh while developing and a changed option
 * stop and start in one go; then the broker hears nothing of it, or the next subscription goes on where the last
 * one stood, and what is shown stays.
 */
import { useEffect, useMemo, useSyncExternalStore } from "react";
import type {
  Client,
  Gap,
  Joined,
  Left,
  Member,
  Message,
  State,
  SubscribeOptions,
  Subscription,
  SubscriptionEvents,
  TriodeErrorLike,
} from "./types.js";

const nothing = () => {};

/** Nothing to do without it; false, so that one can write `isOpen && topic`. */
type Maybe<T> = T | false | null | undefined;

/** What a subscription says of itself in every form. */
export interface SubscriptionView {
  /** The newest gap. As long as nobody reads this field a gap goes to the client's `gap` listeners, or else to
   * `console.warn`: one that is not looked at is not lost. */
  readonly gap: Gap | undefined;
  /** Whether it has caught up and gets messages as they are published. */
  readonly isLive: boolean;
  /** Why it is over, when the broker refused it. */
  readonly error: TriodeErrorLike | undefined;
}

export interface MessagesView<T> extends SubscriptionView {
  /** The newest `keep`, oldest first. */
  readonly messages: readonly Message<T>[];
}

export interface ReducedView<V> extends SubscriptionView {
  readonly value: V;
}

/** Compared by value: no need to memoize. `from` and `after` say where it begins and are read when it does. */
export interface ListOptions<T = any> extends SubscribeOptions {
  /** How many messages are kept; default 100. */
  readonly keep?: number;
  /** What is there before the first message: with `after`, a page of history that the server rendered. */
  readonly initial?: readonly Message<T>[];
}

/** A value made of messages and gaps, instead of a list. */
export interface ReduceOptions<V, T = any> extends SubscribeOptions {
  /** Takes every message and every gap, in their order. Called once for each, outside of rendering. */
  readonly reduce: (value: V, event: Message<T> | Gap) => V;
  readonly initial: V;
}

/** Who is on a topic. */
export interface PresenceView<S> {
  /** In the order in which they came; while the connection is away, as it was last known. */
  readonly members: readonly Member<S>[];
  /** Which of them is this one, with `state`. */
  readonly self: Member<S> | undefined;
  /** Everybody is listed (SPEC 10.4); false until the list is there. */
  readonly isComplete: boolean;
  readonly error: TriodeErrorLike | undefined;
}

/** What the last render on the screen was given. */
interface Given<O> {
  now_: O;
}

/** What a hook makes of its subscription. */
type Part<S> = readonly [
  listeners: { [K in keyof SubscriptionEvents]?: (event: any) => void },
  /** What React looks at. */
  read: (error: TriodeErrorLike | undefined, subscription: () => Subscription | undefined) => S,
  /** The subscription is about to be ended: options for where the next one begins, if it is not to begin anew. */
  leave: (subscription: Subscription) => object | undefined | void,
];

/** Something is to be shown, at the next occasion; of an event only its error matters. */
type Changed = (event?: { readonly error?: TriodeErrorLike }) => void;

type Make<S, O> = (
  changed: Changed,
  given: Given<O>,
  client: Client,
  filter: string,
) => Part<S>;

/** One filter on one client, and what is made of it: outlives its subscriptions, which follow one another. */
function makeView<S, O>(given: Given<O>, client: Maybe<Client>, filter: Maybe<string>, make: Make<S, O>) {
  let error: TriodeErrorLike | undefined;
  let mine: Subscription | undefined;
  let notify = nothing;
  let off: () => void;
  let opened: string | undefined;
  let start: object | undefined | void;
  let timer: unknown;
  const changed: Changed = (event) => {
    error = event?.error ?? error;
    // Shown at most once a frame, however fast messages come.
    timer ||= setTimeout(() => {
      timer = 0;
      snapshot = read(error, () => mine);
      notify();
    }, 16);
  };
  const [listeners, read, leave] = make(changed, given, client as Client, filter as string);
  let snapshot = read(error, () => mine);
  const end = () => {
    if (!mine) return;
    off();
    start = leave(mine);
    mine.unsubscribe();
    mine = undefined;
  };
  const open = (asked: SubscribeOptions, key: string) => (listener: () => void) => {
    notify = listener;
    if (!mine || opened != key) {
      end();
      opened = key;
      error = undefined;
      if (client && filter) {
        const begun = (mine = client.subscribe(filter, { ...asked, ...start }));
        for (const type in listeners) begun.on(type as "gap", listeners[type as "gap"]!);
        begun.on("end", changed);
        off = client.on("state", changed as () => void);
      }
      changed();
    }
    return () => {
      notify = nothing;
      queueMicrotask(() => notify == nothing && end());
    };
  };
  return [given, open, () => snapshot] as const;
}

function useView<S, O>(
  client: Maybe<Client>,
  filter: Maybe<string>,
  asked: SubscribeOptions,
  make: Make<S, O>,
  now: O,
): S {
  const [given, open, get] = useMemo(() => makeView({ now_: now }, client, filter, make), [client, filter]);
  const key = JSON.stringify({ ...asked, after: 0, from: 0 });
  useEffect(() => void (given.now_ = now)); // ahead of the effect that subscribes
  return useSyncExternalStore(
    useMemo(() => open(asked, key), [open, key]),
    get,
    get,
  );
}

type AnyOptions = SubscribeOptions & { keep?: number; initial?: any; reduce?: (value: any, event: any) => any };

function messagesPart(changed: Changed, given: Given<AnyOptions>): Part<any> {
  const begun = given.now_.initial ?? [];
  let gap: Gap | undefined;
  let value = begun;
  let wasLive = false;
  const take = (event: Message | Gap) => {
    const { keep = 100, reduce } = given.now_;
    if (event.type == "gap") gap = event;
    if (reduce) value = reduce(value, event);
    else if (event.type == "message") value = [...value, event].slice(-keep);
    changed();
  };
  const caughtup = () => {
    wasLive = true;
    changed();
  };
  const listeners: any = { caughtup, message: take };
  if (given.now_.reduce) listeners.gap = take;
  return [
    listeners,
    (error, mine) => ({
      error,
      isLive: !!mine()?.isLive,
      messages: value,
      value,
      get gap() {
        if (!listeners.gap) mine()?.on("gap", take);
        listeners.gap = take;
        return gap;
      },
    }),
    // What was cut off before it was live is begun anew: half a snapshot has no position (SPEC 4.3.11).
    (mine) => (wasLive ? { after: mine.position, from: undefined } : void (value = begun)),
  ];
}

/** The messages of `filter`: the newest of them as a list, or what `reduce` makes of them.
 *
 * Without a client or a filter there is no subscription. Another client or filter begins anew; another `overflow`,
 * `presence` or `echo` goes on where the subscription stood. */
export function useSubscription<V, T = any>(
  client: Maybe<Client>,
  filter: Maybe<string>,
  options: ReduceOptions<V, T>,
): ReducedView<V>;
export function useSubscription<T = any>(
  client: Maybe<Client>,
  filter: Maybe<string>,
  options?: ListOptions<T>,
): MessagesView<T>;
export function useSubscription(client: Maybe<Client>, filter: Maybe<string>, options: AnyOptions = {}): any {
  const { initial, keep, reduce, ...asked } = options;
  return useView(client, filter, asked, messagesPart, options);
}

function presencePart(
  changed: Changed,
  _: unknown,
  client: Client,
  topic: string,
): Part<PresenceView<any>> {
  let isComplete = false;
  let members = new Map<string, Member>();
  let self = "";
  let since: (Joined | Left)[] | undefined; // what has happened since the list was asked for
  const change = (event: Joined | Left) => {
    const { member } = event;
    since?.push(event);
    if (event.type == "left") members.delete(member.id);
    else members.set(member.id, member);
    if ((event as Joined).isSelf) self = member.id;
    changed();
  };
  const caughtup = () => {
    const mine: (Joined | Left)[] = (since = []);
    client.presence(topic).then(
      (answer) => {
        if (mine != since) return; // it was asked again meanwhile, or is over
        since = undefined;
        members = new Map(answer.members.map((member) => [member.id, member]));
        isComplete = answer.complete;
        mine.forEach(change); // some of them may have come behind the list, and overtaken the promise
        changed();
      },
      (reason) => {
        if (reason.retry != "never") setTimeout(() => mine == since && caughtup(), reason.retryAfterMs ?? 1000);
        else changed({ error: reason });
      },
    );
  };
  return [
    { caughtup, gap: nothing, joined: change, left: change, message: nothing },
    (error) => ({ error, isComplete, members: [...members.values()], self: members.get(self) }),
    () => (since = undefined),
  ];
}

/** Who is on a topic (SPEC 10). With a `state` other than null, compared by value, this one is there, too. */
export function usePresence<S = any>(client: Maybe<Client>, topic: Maybe<string>, state?: S): PresenceView<S> {
  return useView(client, topic, { presence: state == null ? "watch" : { state } }, presencePart, 0);
}

/** The client's state; "idle" without a client, and on a server. */
export function useConnectionState(client: Maybe<Client>): State {
  return useSyncExternalStore(
    useMemo(() => (notify: () => void) => (client ? client.on("state", notify) : nothing), [client]),
    () => (client ? client.state : "idle"),
    () => "idle",
  );
}
