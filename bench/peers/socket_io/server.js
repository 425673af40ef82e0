// The Socket.IO peer: rooms, as its documentation shows them, over WebSocket only.
//
// What it must not have: anything a user of Socket.IO would not write. No adapter, no recovery of missed messages.
// The surprising decision: heartbeats are an hour apart, as the load generator does not answer them.
"use strict";

const http = require("node:http");
const { Server } = require("socket.io");

const HOUR_MS = 3_600_000;
const server = http.createServer();
const io = new Server(server, { transports: ["websocket"], pingInterval: HOUR_MS, serveClient: false });

io.on("connection", (socket) => {
  socket.on("join", (topic, done) => {
    socket.join(topic);
    done();
  });
  socket.on("publish", (topic, data, done) => {
    io.to(topic).emit("message", data);
    if (done) done();
  });
});

server.listen(Number(process.argv[2]), "127.0.0.1");
