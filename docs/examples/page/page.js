/** What the pages of the examples have in common: which broker, how the connection stands, who is there. */

/** `?broker=wss://…` names another one; the policy in the head of the page (`connect-src`) has to allow it. */
export const broker = new URLSearchParams(location.search).get("broker") ?? "ws://127.0.0.1:7400";

/** What is behind # in the address, as one level of a topic. */
export const place = (otherwise) => decodeURIComponent(location.hash.slice(1)).replace(/[+#/$]/g, "") || otherwise;

export const find = (selector) => document.querySelector(selector);

/** An element with its text and children. What others have typed is text here, never markup. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

/** Resolves with what somebody wants to be called; each tab is asked once. Shows `main` instead of the form. */
export async function askName(form, main) {
  let name = sessionStorage.getItem("name");
  if (!name) {
    form.hidden = false;
    form.elements.name.focus();
    while (!name) {
      await new Promise((resolve) => {
        form.onsubmit = (event) => resolve(event.preventDefault());
      });
      name = form.elements.name.value.trim();
    }
    sessionStorage.setItem("name", name);
  }
  form.hidden = true;
  main.hidden = false;
  return name;
}

const STATES = {
  idle: "not connected",
  connecting: "connecting …",
  connected: "connected",
  waiting: "offline, trying again",
  closed: "closed",
};

/** Keep saying in `element` how the connection stands. */
export function showConnection(client, element) {
  const show = ({ state, reason = "" }) => {
    element.className = `connection ${state}`;
    element.textContent = STATES[state];
    element.title = reason;
  };
  client.on("state", show);
  show(client);
}

/** Calls `changed` with the members of a topic whenever they are others: those that are told by a `subscription` with
 * `presence`, and those that were there before it. */
export function followMembers(client, subscription, changed) {
  let members = new Map();
  let since; // what happens while the list is asked for: it may be newer than the answer
  const apply = ({ type, member }) => {
    if (type === "left") members.delete(member.id);
    else members.set(member.id, member);
  };
  const happened = (event) => {
    since?.push(event);
    apply(event);
    changed([...members.values()]);
  };
  const ask = async () => {
    const mine = (since = []);
    try {
      const answer = await client.presence(subscription.filter);
      if (mine !== since) return; // asked again meanwhile
      members = new Map(answer.members.map((member) => [member.id, member]));
      since = undefined;
      mine.forEach(apply);
      changed([...members.values()]);
    } catch (error) {
      if (error.retry !== "never" || error.name === "expired") setTimeout(() => mine === since && ask(), 1_000);
    }
  };
  subscription.on("joined", happened);
  subscription.on("left", happened);
  subscription.on("caughtup", ask); // at the beginning, and after each lost connection
}
