/** A chat room: who is there, what was said before, what is said now, and what is still on its way. */
import { askName, broker, find, followMembers, make, place, showConnection } from "../page/page.js";

const PAGE = 30; // lines at a time

const room = place("lobby");
const topic = `chat/${room}`;
const name = await askName(find("#door"), find("main"));

// All tabs of this browser share one WebSocket. Where there are users, give each of them a `share` of their own.
const transport = Triode.tabs();
const client = new Triode(broker, { name: "chat example", transport });
showConnection(client, find("#connection"));
transport.on("status", ({ tabs }) => {
  find("#sharing").textContent = tabs > 1 ? `${tabs} tabs, one connection` : "";
});

find("#room").textContent = `#${room}`;
const talk = find("#talk");
const lines = find("#lines");
const onTheirWay = new Map(); // lines of ours by message id, until they are part of the conversation
let oldest; // the first message that is shown
let count = 0;

/** Somebody who reads what was said before is left there; everybody else sees what is new. */
function atEnd(change) {
  const isAtEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
  change();
  if (isAtEnd) talk.scrollTop = talk.scrollHeight;
}

const avatar = (name) => {
  const element = make("span", "avatar", [...name][0]?.toUpperCase() ?? "?");
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  element.style.setProperty("--hue", hue);
  return element;
};

function bubble(data, when) {
  const who = String(data?.name ?? "somebody");
  const isMine = who === name;
  const line = make("li", isMine ? "mine" : "");
  if (!isMine) line.append(avatar(who));
  const text = make("span", "text", String(data?.text ?? ""));
  line.append(make("div", "bubble", ...(isMine ? [] : [make("b", "", who)]), text, make("time", "", when)));
  return line;
}

const timeOf = ({ ts }) => new Date(ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const notice = (text, kind = "") => atEnd(() => lines.append(make("li", `notice ${kind}`, text)));

const subscription = client.subscribe(topic, { from: { last: PAGE }, presence: { state: { name } } }, (message) =>
  atEnd(() => {
    oldest ??= message;
    count += 1;
    // Its place is where the log has it, not where it was typed.
    onTheirWay.get(message.messageId)?.remove();
    onTheirWay.delete(message.messageId);
    lines.append(bubble(message.data, timeOf(message)));
    lines.append(...onTheirWay.values());
  }),
);
subscription.on("gap", ({ reason }) => notice(`messages may be missing here (${reason})`, "missing"));
const off = subscription.on("caughtup", () => {
  off(); // only once: it comes again after each lost connection
  find("#earlier").hidden = count < PAGE;
});

let self;
subscription.on("joined", ({ member, isSelf }) => {
  if (isSelf) self = member.id;
  else notice(`${member.state?.name} came in`);
});
subscription.on("left", ({ member }) => notice(`${member.state?.name} left`));
subscription.on("end", ({ error }) => error && notice(error.message, "missing"));

followMembers(client, subscription, (members) => {
  const person = ({ id, state }) => {
    const who = String(state?.name ?? "somebody");
    return make("li", "", avatar(who), who, ...(id === self ? [make("small", "", "you")] : []));
  };
  find("#people").replaceChildren(...members.map(person));
});

async function say(text) {
  const messageId = crypto.randomUUID();
  const line = bubble({ name, text }, "sending …");
  line.classList.add("pending");
  onTheirWay.set(messageId, line);
  lines.append(line);
  talk.scrollTop = talk.scrollHeight;
  try {
    // Waits while there is no connection; sent again after one was lost, and stored once.
    await client.publish(topic, { name, text }, { messageId });
    line.classList.remove("pending");
    line.querySelector("time").textContent = "sent";
  } catch (error) {
    onTheirWay.delete(messageId);
    line.classList.replace("pending", "failed");
    line.querySelector("time").textContent = `not sent: ${error.message}`;
  }
}

find("#say").addEventListener("submit", (event) => {
  event.preventDefault();
  const box = event.target.elements.text;
  if (box.value.trim()) void say(box.value.trim());
  box.value = "";
});

async function showEarlier() {
  const page = await client.history(topic, { before: { [oldest.log]: oldest.pos }, limit: PAGE });
  oldest = page.messages[0] ?? oldest;
  const height = talk.scrollHeight;
  lines.prepend(...page.messages.map((message) => bubble(message.data, timeOf(message))));
  talk.scrollTop += talk.scrollHeight - height;
  find("#earlier").hidden = page.complete;
}

find("#earlier").addEventListener("click", async ({ target }) => {
  target.disabled = true; // once at a time
  await showEarlier().catch((error) => notice(error.message, "missing"));
  target.disabled = false;
});

find("#say").elements.text.focus();
