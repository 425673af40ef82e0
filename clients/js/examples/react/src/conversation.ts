/** What was said in a room, what is being sent, and where something is missing. Knows nothing of how it looks. */
import { useCallback, useState } from "react";
import type { Gap, Message } from "triode";
import { useSubscription } from "triode/react";
import { client } from "./client";

export interface Said {
  readonly name: string;
  readonly text: string;
}

export interface Pending extends Said {
  readonly id: string;
  readonly error?: string;
}

type Line = Message<Said> | Gap;

const MOST_LINES = 500;

// Outside of the component: it needs nothing of it.
const append = (lines: readonly Line[], event: Line): readonly Line[] => [...lines, event].slice(-MOST_LINES);

const nobody: readonly Line[] = [];

export function useConversation(topic: string, name: string) {
  const { value: lines, isLive, error } = useSubscription(client, topic, {
    from: { last: 30 },
    initial: nobody,
    reduce: append,
  });
  const [earlier, setEarlier] = useState<readonly Message<Said>[]>([]);
  const [isWhole, setWhole] = useState(false);
  const [pending, setPending] = useState<readonly Pending[]>([]);

  const say = useCallback(
    async (text: string) => {
      const id = crypto.randomUUID();
      setPending((all) => [...all, { id, name, text }]);
      try {
        // Waits while there is no connection; sent again after one is lost, and stored once.
        await client.publish(topic, { name, text }, { messageId: id });
        setPending((all) => all.filter((one) => one.id !== id));
      } catch (error) {
        setPending((all) => all.map((one) => (one.id === id ? { ...one, error: String(error) } : one)));
      }
    },
    [topic, name],
  );

  const first = earlier[0] ?? lines.find((line) => line.type === "message");
  const readEarlier = useCallback(async () => {
    if (!first) return;
    const page = await client.history<Said>(topic, { before: { [first.log]: first.pos }, limit: 30 });
    setEarlier((all) => [...page.messages, ...all]);
    setWhole(page.complete);
  }, [topic, first]);

  const here = new Set(lines.map((line) => (line.type === "message" ? line.messageId : undefined)));
  return {
    lines: [...earlier, ...lines],
    pending: pending.filter((one) => !here.has(one.id)),
    isLive,
    error,
    say,
    readEarlier: first && !isWhole ? readEarlier : undefined,
  };
}
