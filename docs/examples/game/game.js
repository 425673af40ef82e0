/** A player's page: says which way to go, and draws where everybody is. The server decides the rest. */
import { askName, broker, find, followMembers, make, place, showConnection } from "../page/page.js";

const COLOURS = ["crimson", "darkorange", "seagreen", "royalblue", "mediumorchid", "teal"];
const SIZE = 100; // of the yard, each way
const OLD_MS = 2_000; // a state of that age is of nobody who plays
const REPEAT_MS = 1_000; // for a server that has just started

const room = place("yard");
const topic = `game/${room}`;
const name = await askName(find("#door"), find("main"));
const colour = COLOURS[[...name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % COLOURS.length];

const client = new Triode(broker, { name: "game example" });
showConnection(client, find("#connection"));
find("#room").textContent = `The coin: ${room}`;

const players = new Map(); // member id → the newest state, where it is drawn, and when it came
let coin;
let me; // one's own member id
let wish = { x: 0, y: 0 };

/** The newest state of each topic is all that a slow line needs to carry. */
const newest = { from: "last", overflow: "conflate" };
client.subscribe(`${topic}/coin`, newest, ({ data }) => (coin = data));
client.subscribe(`${topic}/state/+`, newest, ({ topic, data }) => {
  const id = topic.slice(topic.lastIndexOf("/") + 1);
  if (!data) return void players.delete(id);
  const { x, y } = players.get(id) ?? data;
  players.set(id, { state: data, x, y, at: performance.now() });
});

// To be there is to play: the server puts every member of this topic into the yard.
const presence = client.subscribe(topic, { presence: { state: { name, colour } } });
presence.on("joined", ({ member, isSelf }) => {
  if (isSelf) me = member.id;
});
followMembers(client, presence, (members) => {
  const there = new Set(members.map(({ id }) => id));
  for (const id of players.keys()) if (!there.has(id)) players.delete(id);
});

/** A wish is of no use later: without a connection it is not said, and it asks for no acknowledgement. */
function say() {
  if (me && client.state === "connected") client.send(`${topic}/input/${me}`, wish);
}

function want(x, y) {
  const length = Math.hypot(x, y) || 1;
  const [before, now] = [wish, { x: +(x / length).toFixed(1), y: +(y / length).toFixed(1) }];
  wish = now;
  if (now.x !== before.x || now.y !== before.y) say();
}

setInterval(say, REPEAT_MS);

const KEYS = {
  ArrowUp: [0, -1],
  KeyW: [0, -1],
  ArrowDown: [0, 1],
  KeyS: [0, 1],
  ArrowLeft: [-1, 0],
  KeyA: [-1, 0],
  ArrowRight: [1, 0],
  KeyD: [1, 0],
};
const held = new Set();
const byKeys = () => {
  const directions = [...held].map((code) => KEYS[code]);
  want(...[0, 1].map((axis) => directions.reduce((sum, direction) => sum + direction[axis], 0)));
};
addEventListener("keydown", (event) => {
  if (!(event.code in KEYS)) return;
  event.preventDefault();
  held.add(event.code);
  byKeys();
});
addEventListener("keyup", ({ code }) => held.delete(code) && byKeys());
addEventListener("blur", () => {
  held.clear();
  want(0, 0);
});

const yard = find("#yard");
let goal; // where the pointer is held
const point = ({ offsetX, offsetY }) => {
  goal = { x: (offsetX / yard.clientWidth) * SIZE, y: (offsetY / yard.clientHeight) * SIZE };
};
yard.addEventListener("pointerdown", (event) => {
  yard.setPointerCapture(event.pointerId);
  point(event);
});
yard.addEventListener("pointermove", (event) => goal && point(event));
for (const type of ["pointerup", "pointercancel"]) {
  yard.addEventListener(type, () => {
    goal = undefined;
    want(0, 0);
  });
}

const pen = yard.getContext("2d");
const style = getComputedStyle(yard);

function disc({ x, y }, radius, fill) {
  pen.fillStyle = "grey"; // if `fill` is none
  pen.fillStyle = fill;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

/** Every frame: 20 states a second are drawn as a smooth movement towards the newest. */
function draw() {
  const now = performance.now();
  const pixels = Math.round(yard.clientWidth * devicePixelRatio);
  if (yard.width !== pixels) yard.width = yard.height = pixels;
  pen.setTransform(pixels / SIZE, 0, 0, pixels / SIZE, 0, 0);
  pen.clearRect(0, 0, SIZE, SIZE);
  if (coin) {
    disc(coin, 2, "#d99a1c");
    disc(coin, 1.3, "#ffd45e");
  }
  for (const [id, player] of players) {
    const { state } = player;
    if (now - player.at > OLD_MS) {
      players.delete(id);
      continue;
    }
    player.x += (state.x - player.x) * 0.3;
    player.y += (state.y - player.y) * 0.3;
    disc(player, 2.2, state.colour);
    pen.fillStyle = style.color;
    pen.font = `${id === me ? "bold " : ""}3px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.fillText(String(state.name).slice(0, 20), player.x, player.y > 8 ? player.y - 3.4 : player.y + 6);
  }
  const mine = goal && players.get(me);
  if (mine) {
    const [x, y] = [goal.x - mine.state.x, goal.y - mine.state.y];
    want(...(Math.hypot(x, y) > 1 ? [x, y] : [0, 0]));
  }
  requestAnimationFrame(draw);
}
requestAnimationFrame(draw);

/** The same in words, five times a second. */
setInterval(() => {
  const line = ([id, { state }]) =>
    make(
      "li",
      id === me ? "me" : "",
      make("span", "who", String(state.name).slice(0, 20)),
      make("small", "", `${Math.round(state.x)}, ${Math.round(state.y)}`),
      make("b", "", String(state.score)),
    );
  const sorted = [...players].sort(([, a], [, b]) => b.state.score - a.state.score);
  const empty = make("li", "", client.state === "connected" ? "Nobody moves: is game_server.py running?" : "");
  find("#players").replaceChildren(...(sorted.length ? sorted.map(line) : [empty]));
}, 200);
