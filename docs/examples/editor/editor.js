/** The page of a text that several people edit: keeps its copy and the broker's log together. The rules: README.md. */
import { broker, find, place, showConnection } from "../page/page.js";
import { difference, rebase, SharedText } from "./shared_text.js";

const SNAPSHOT_EVERY = 100; // operations that count
const RETRY_MS = 1_000;

const name = place("notes");
const operations = `documents/${name}/ops`;
const snapshots = `documents/${name}/snapshot`;

const client = new Triode(broker, { name: "editor example" });
showConnection(client, find("#connection"));
find("#name").textContent = name;

const shared = new SharedText();
const area = find("#text");
let shown = ""; // what the text area was last given
let isComposing = false; // an input method has an unfinished word in it: it must not be disturbed
let failure = ""; // why nothing is saved any more

/** As a text area has it: line ends from elsewhere become its own. The first edit here makes them so for everybody. */
const asShown = (text) => text.replace(/\r\n?/g, "\n");

/** To the page: only what is different is replaced, so the caret and the selection stay at their letters. */
function draw() {
  const { text, version, pending } = shared;
  find("#saved").textContent = failure || `${pending.length ? "saving …" : "saved"} · version ${version}`;
  if (isComposing || text === shown) return;
  const [is, was] = [asShown(text), asShown(shown)];
  const most = Math.min(is.length, was.length);
  let same = 0;
  while (same < most && is[same] === was[same]) same += 1;
  let tail = 0;
  while (tail < most - same && is.at(-1 - tail) === was.at(-1 - tail)) tail += 1;
  area.setRangeText(is.slice(same, is.length - tail), same, was.length - tail, "preserve");
  shown = text;
}

/** From the page. What others did while a word was composed is not in the text area yet, so it is rebased over that. */
function edited() {
  const mine = difference(shown, area.value);
  const change = rebase(mine, difference(shown, shared.text));
  shown = area.value;
  shared.edit(change);
  draw();
  void write();
}

area.addEventListener("compositionstart", () => (isComposing = true));
area.addEventListener("compositionend", () => {
  isComposing = false;
  edited();
});
area.addEventListener("input", () => isComposing || edited());
addEventListener("beforeunload", (event) => {
  if (shared.pending.length) event.preventDefault();
});

/** No answer in time is no answer: what was asked for may be asked for again. */
const isFinal = ({ name, retry }) => retry === "never" && !["unknown", "expired", "queue_full"].includes(name);
const pause = () => new Promise((resolve) => setTimeout(resolve, RETRY_MS));

/** Publish what is pending, one operation at a time. The next one goes when the log has brought this one back. */
async function write() {
  const operation = failure ? undefined : shared.nextOperation();
  while (operation && shared.waitsFor(operation)) {
    try {
      await client.publish(operations, operation.data, { messageId: operation.id });
      return;
    } catch (error) {
      if (isFinal(error)) {
        failure = `not saved: ${error.message}`;
        draw();
        return;
      }
      await pause(); // again with the same id: it may be in the log already, and counts once
    }
  }
}

/** Take the newest snapshot, if it is newer than what is here; the position that it stands at. */
async function beginFromSnapshot() {
  for (;;) {
    try {
      const page = await client.history(snapshots, { last: 1 });
      const { text, version, after } = page.messages[0]?.data ?? {};
      if (!(version > shared.version)) return undefined;
      shared.beginAgain(text, version);
      return after;
    } catch (error) {
      if (isFinal(error)) throw error;
      await pause();
    }
  }
}

/** A later one will do as well, so nobody waits for this one. */
function publishSnapshot({ log, pos }) {
  const data = { text: shared.agreed, version: shared.version, after: { [log]: pos } };
  client.publish(snapshots, data, { key: "snapshot" }).catch((error) => console.warn("no snapshot:", error));
}

/** Snapshot, then everything behind it, then what is new: there is no gap between the three. */
async function read() {
  await client.connect();
  const after = await beginFromSnapshot();
  const subscription = client.subscribe(operations, after ? { after } : { from: "earliest" });
  for await (const event of subscription.events()) {
    if (event.type === "message") {
      const isMine = shared.take(event.messageId, event.data);
      if (isMine && shared.version % SNAPSHOT_EVERY === 0) publishSnapshot(event);
    } else if (event.type === "gap") await beginFromSnapshot();
    else if (event.type === "caughtup" && area.disabled) {
      area.disabled = false;
      area.focus();
    }
    draw();
    void write();
  }
}

read().catch((error) => {
  failure = `stopped: ${error.message}`;
  draw();
});
