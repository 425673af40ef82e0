/** A room as one sees it. */
import { useEffect, useRef, useState, type FormEvent } from "react";
import type { Gap, Message } from "triode";
import { useConnectionState, usePresence } from "triode/react";
import { client } from "./client";
import { useConversation, type Pending, type Said } from "./conversation";

const STATES = {
  idle: "not connected",
  connecting: "connecting …",
  connected: "connected",
  waiting: "offline, trying again",
  closed: "closed",
};

const colour = (name: string) => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)!) % 360, 7);

function Avatar({ name }: { name: string }) {
  return (
    <span className="avatar" style={{ "--hue": colour(name) } as object} aria-hidden>
      {[...name][0]?.toUpperCase()}
    </span>
  );
}

function Connection() {
  const state = useConnectionState(client);
  return (
    <span className={`connection ${state}`} role="status">
      {STATES[state]}
    </span>
  );
}

function People({ topic, name }: { topic: string; name: string }) {
  const { members, self, isComplete, error } = usePresence(client, topic, { name });
  return (
    <aside>
      <h2>
        Here <span className="count">{members.length}</span>
      </h2>
      <ul aria-label="people">
        {members.map((member) => (
          <li key={member.id}>
            <Avatar name={member.state?.name ?? "?"} />
            {member.state?.name ?? "somebody"}
            {member.id === self?.id && <small> you</small>}
          </li>
        ))}
      </ul>
      {!isComplete && !error && <p className="hint">looking …</p>}
      {error && <p className="error">{error.message}</p>}
    </aside>
  );
}

function Missing({ gap }: { gap: Gap }) {
  return (
    <li className="missing" role="note">
      something may be missing here ({gap.reason})
    </li>
  );
}

function Spoken({ said, ts, mine }: { said: Said; ts?: number; mine: boolean }) {
  return (
    <>
      {!mine && <Avatar name={said.name} />}
      <div className="bubble">
        {!mine && <b>{said.name}</b>}
        <span className="text">{said.text}</span>
        <time>{ts ? new Date(ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "sending …"}</time>
      </div>
    </>
  );
}

function Lines({ lines, pending, name }: { lines: (Message<Said> | Gap)[]; pending: Pending[]; name: string }) {
  const end = useRef<HTMLLIElement>(null);
  const count = lines.length + pending.length;
  useEffect(() => void end.current?.scrollIntoView({ block: "end" }), [count]);
  return (
    <ol aria-label="messages">
      {lines.map((line) =>
        line.type === "gap" ? (
          <Missing key={JSON.stringify(line.after)} gap={line} />
        ) : (
          <li key={`${line.log}.${line.pos}`} className={line.data.name === name ? "mine" : ""}>
            <Spoken said={line.data} ts={line.ts} mine={line.data.name === name} />
          </li>
        ),
      )}
      {pending.map((one) => (
        <li key={one.id} className={one.error ? "mine failed" : "mine pending"}>
          <Spoken said={one} mine />
          {one.error && <span className="error">{one.error}</span>}
        </li>
      ))}
      <li ref={end} className="end" aria-hidden />
    </ol>
  );
}

export function Room({ room, name }: { room: string; name: string }) {
  const topic = `chat/${room}`;
  const { lines, pending, isLive, error, say, readEarlier } = useConversation(topic, name);
  const [text, setText] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (text.trim()) void say(text.trim());
    setText("");
  };
  return (
    <main>
      <header>
        <h1>#{room}</h1>
        <Connection />
      </header>
      <section>
        {readEarlier && lines.length >= 30 && (
          <button type="button" className="earlier" onClick={readEarlier}>
            earlier messages
          </button>
        )}
        {error && <p className="error">{error.message}</p>}
        {isLive && !lines.length && !pending.length && <p className="hint">Nothing was said here yet.</p>}
        <Lines lines={lines} pending={pending} name={name} />
      </section>
      <form onSubmit={submit}>
        <input
          aria-label="message"
          autoFocus
          autoComplete="off"
          maxLength={2000}
          placeholder={`Say something as ${name}`}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <button disabled={!text.trim()}>Send</button>
      </form>
      <People topic={topic} name={name} />
    </main>
  );
}
