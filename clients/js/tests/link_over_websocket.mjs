// A server of links in front of a scripted one that speaks WebSocket: `fetch` of this process. For the scenarios.
//
//     node --import ./tests/link_over_websocket.mjs adapter.mjs
//
// The surprising decision: it is no part of the client's world but under it, so what is played is the client as it is
// published, with all that its way around does to packets.
import { WebSocket } from "ws";

process.env.TRIODE_TRANSPORTS = "sse";
const links = new Map();
const event = (type, text) => new TextEncoder().encode(`event: ${type}\n${text.split("\n").map((line) => `data: ${line}\n`).join("")}\n`);

globalThis.fetch = (address, { body, signal }) => {
  const url = new URL(address);
  const name = url.pathname.split("/")[3];
  return name ? pass(links.get(name), body) : open(url, body, signal);
};

const pass = async (socket, body) => {
  if (socket?.readyState !== WebSocket.OPEN) return new Response(null, { status: 404 });
  socket.send(body);
  return new Response(null, { status: 204 });
};

const open = (url, body, signal) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${url.host}/ws${url.search}`, "triode.v1.json");
    const name = String(links.size);
    signal.addEventListener("abort", () => (socket.close(), reject(Error("aborted"))));
    socket.on("error", reject);
    socket.on("open", () => {
      links.set(name, socket);
      socket.send(body);
      const start = (controller) => {
        const say = (type, text) => signal.aborted || controller.enqueue(event(type, text));
        say("link", JSON.stringify({ link: name }));
        socket.on("message", (data, isBinary) => (isBinary ? controller.error(Error("binary")) : say("", String(data))));
        socket.on("close", (code, reason) => {
          if (code !== 1006) say("close", JSON.stringify({ code, reason: String(reason) }));
          signal.aborted || controller.close();
        });
        signal.addEventListener("abort", () => controller.error(Error("aborted")));
      };
      resolve(new Response(new ReadableStream({ start }), { status: 200 }));
    });
  });
