// The µWebSockets peer: native publish/subscribe behind the few packets of triode.v1.json that the load generator speaks.
//
// What it must not have: anything a user of µWebSockets would not write. No permissions, no history, no resume, no
// limits; it parses what it is sent and encodes a message once, as its documentation shows.
// The surprising decision: a message carries topic, offset and data only. Triode sends log, pos and ts as well, so the
// comparison errs in the peer's favour.
"use strict";

// µWebSockets has no npm package of its own; these ship its C++ build, one package per version of Node.js.
const uWS = require(`@uwsjs/linux-x64-${process.versions.node.split(".")[0]}`);

const port = Number(process.argv[2]);
const offsets = new Map();
const text = new TextDecoder();
let pos = 0;

function publish(ws, packet) {
  const { topic, data } = packet;
  const offset = (offsets.get(topic) ?? 0) + 1;
  offsets.set(topic, offset);
  pos += 1;
  app.publish(topic, JSON.stringify({ type: "message", topic, offset, data }));
  if (packet.id !== undefined) {
    ws.send(JSON.stringify({ type: "published", id: packet.id, pos, offset }));
  }
}

const app = uWS.App().ws("/ws", {
  compression: uWS.DISABLED,
  idleTimeout: 120,
  // The library skips a subscriber above this bound, silently: 64 messages in flight stay far below it.
  maxBackpressure: 1024 * 1024,
  maxPayloadLength: 64 * 1024,
  message(ws, bytes) {
    const packet = JSON.parse(text.decode(bytes));
    switch (packet.type) {
      case "publish":
        publish(ws, packet);
        break;
      case "connect":
        ws.send(JSON.stringify({ type: "connected", id: packet.id }));
        break;
      case "subscribe":
        ws.subscribe(packet.filter);
        ws.send(JSON.stringify({ type: "subscribed", id: packet.id, sub: packet.sub }));
        break;
      default:
        ws.send(JSON.stringify({ type: "error", id: packet.id, name: "unsupported", message: packet.type }));
    }
  },
});

app.listen("127.0.0.1", port, (socket) => {
  if (!socket) {
    console.error(`cannot listen on port ${port}`);
    process.exit(1);
  }
});
