"""A client of Triode in one sitting: connect, resume, subscribe, publish. What docs/writing-a-client.md builds.

One thread reads, the program's own call in; a lock keeps them apart. It has no limits on memory and few features,
but what it does it does as SPEC.md says, and the scenarios show it (tests/conformance/test_tiny_client.py).
"""

import json
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

Packet = dict[str, Any]
Tell = Callable[..., None]


@dataclass
class Subscription:
    """What a client keeps of one (SPEC 4.10)."""

    filter: str
    wish: Packet  # `from` and other fields, as asked for
    tell: Tell
    position: dict[str, int] | None = None
    live: bool = False
    has_caught_up: bool = False

    def request(self) -> Packet:
        """R7: a snapshot that was cut begins anew, everything else resumes."""
        if self.position is None or (self.wish.get("from") == "last" and not self.has_caught_up):
            return {**self.wish, "filter": self.filter}
        rest = {name: value for name, value in self.wish.items() if name not in ("from", "after")}
        return {**rest, "filter": self.filter, "after": self.position}


@dataclass
class Outgoing:
    """A publish that is not answered yet. Its `message_id` is made once, so it is stored once (SPEC 5.2.2)."""

    packet: Packet
    tell: Tell
    id: int = 0  # of its request on this connection; 0: not sent


@dataclass(eq=False)
class Client:
    """`tell(event, **values)` hears of the connection; each publish and each subscription has one of its own."""

    url: str
    tell: Tell
    token: str = ""
    lock: threading.Condition = field(default_factory=threading.Condition)
    subscriptions: list[Subscription] = field(default_factory=list)
    numbered: dict[int, Subscription] = field(default_factory=dict)  # by `sub`, on this connection
    outgoing: list[Outgoing] = field(default_factory=list)  # in the order of publishing
    socket: ClientConnection | None = None
    connected: Packet = field(default_factory=dict)  # the broker's last word on limits and times
    is_online: bool = False
    is_over: bool = False
    last_id: int = 0
    attempts: int = 0  # since a connection served
    refused: int = 0  # in a row, and the present one
    named: list[str] = field(default_factory=list)  # by a `bye`: where to go first
    wake: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Connect, and stay so."""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    # One connection after the other (SPEC 5.4)

    def run(self) -> None:
        """Until the program closes it, or the broker does for good."""
        while not self.is_over:
            code, pause_ms = 1006, 0
            self.refused += 1
            try:
                url = self.named.pop(0) if self.named else self.url
                with connect(
                    url,
                    subprotocols=["triode.v1.json"],  # type: ignore[list-item]  # a NewType of str
                    compression=None,
                    ping_interval=None,
                    open_timeout=5,
                    close_timeout=0.2,
                ) as socket:
                    code, pause_ms = self.converse(socket)
            except (OSError, EOFError, WebSocketException):
                pass  # no handshake: an attempt like any other
            if self.refused == 3:
                self.tell("handshakes_refused")
            self.lost(code)
            self.wait(code, pause_ms)

    def converse(self, socket: ClientConnection) -> tuple[int, int]:
        """One connection; the code that it ended with, and how long the broker asked to stay away."""
        with self.lock:
            self.socket, self.numbered = socket, {}
            self.greet()
            for number, subscription in enumerate(self.subscriptions, 1):
                self.ask(subscription, number)
        silence: float = 5  # until `connected`; then two pings (SPEC 1.15)
        while True:
            try:
                text = socket.recv(timeout=silence)
                packets = json.loads(text)
            except TimeoutError:
                return 1006, 0
            except ConnectionClosed as closed:
                return (closed.rcvd.code if closed.rcvd else 1006), 0
            except ValueError:
                return 1006, 0  # a broken broker: the next connection may be better
            for packet in packets if isinstance(packets, list) else [packets]:
                if not isinstance(packet, dict):
                    return 1006, 0
                if packet.get("type") == "bye":
                    self.named = list(packet.get("urls", []))
                    return packet["code"], packet.get("reconnect_after_ms", 0)
                with self.lock:
                    self.receive(packet)
            silence = 2 * self.connected["ping_ms"] / 1000 if self.is_online else 5

    def greet(self) -> None:
        """The first packet (SPEC 3.1), and with it which connection this one replaces."""
        connection = self.connected.get("connection", "")
        again = {"replaces": connection, "resume": True} if connection else {}
        token = {"token": self.token} if self.token else {}
        self.request({"type": "connect", "capabilities": ["batch"], **again, **token})

    def lost(self, code: int) -> None:
        """The connection is gone. Positions and unanswered publishes stay."""
        with self.lock:
            self.socket, self.is_online = None, False
            self.lock.notify_all()
            for subscription in self.subscriptions:
                subscription.live = False
            if code == 1009 and (sent := [each for each in self.outgoing if each.id]):  # SPEC 5.3.3
                largest = max(sent, key=lambda each: len(json.dumps(each.packet)))
                self.finish(largest, "failed", error="too_large")
            for each in self.outgoing:
                each.id = 0
            if 4000 <= code < 4100 or self.is_over:
                self.is_over = True
                for each in list(self.outgoing):
                    self.finish(each, "failed", error="closed")
                self.tell("state", state="closed", code=code)

    def wait(self, code: int, pause_ms: int) -> None:
        """Full jitter (SPEC 5.3.4); 42xx begins with an attempt at once."""
        bounds = self.connected.get("reconnect", {"min_ms": 250, "max_ms": 20_000})
        most = min(bounds["max_ms"], bounds["min_ms"] * 2**self.attempts)
        jitter = 0.0 if 4200 <= code < 4300 and self.attempts == 0 else random.random() * most
        self.attempts = min(self.attempts + 1, 20)
        self.wake.wait(max(pause_ms, jitter) / 1000)

    def close(self, seconds: float = 5) -> None:
        """Send what is queued, where there is a connection; say goodbye, and end."""
        with self.lock:
            self.lock.wait_for(lambda: self.socket is None or not self.outgoing, timeout=seconds)
            self.is_over = True
            if self.socket is not None and self.is_online:
                self.send({"type": "disconnect"})
            elif self.socket is not None:
                self.socket.close()
        self.wake.set()
        self.thread.join(5)

    # Out

    def send(self, packet: Packet) -> None:
        """Write a packet. Where that fails the reader is told, too."""
        try:
            if self.socket is not None:
                self.socket.send(json.dumps(packet))
        except ConnectionClosed:
            pass

    def request(self, packet: Packet) -> int:
        """Write one that is answered (SPEC 1.13)."""
        self.last_id += 1
        self.send({**packet, "id": self.last_id})
        return self.last_id

    def ask(self, subscription: Subscription, number: int) -> None:
        """Subscribe under a number that is new on this connection."""
        self.numbered[number] = subscription
        self.request({"type": "subscribe", "sub": number, **subscription.request()})

    def subscribe(self, filter: str, tell: Tell, **wish: Any) -> Subscription:
        """Subscribe, now or as soon as there is a connection."""
        with self.lock:
            subscription = Subscription(filter, wish, tell, wish.get("after"))
            self.subscriptions.append(subscription)
            if self.socket is not None:
                self.ask(subscription, max(self.numbered, default=0) + 1)
            return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End it; its number means nothing from here on (R5)."""
        with self.lock:
            for number in [number for number, each in self.numbered.items() if each is subscription]:
                self.numbered[number] = Subscription("", {}, lambda *_, **__: None)  # used up
                self.request({"type": "unsubscribe", "sub": number})
            self.end(subscription, "")

    def publish(self, topic: str, tell: Tell, **fields: Any) -> None:
        """Publish; `tell` hears `published` or `failed`."""
        with self.lock:
            name = fields.pop("message_id", "") or uuid.uuid4().hex
            self.outgoing.append(Outgoing({"type": "publish", "topic": topic, "message_id": name, **fields}, tell))
            if self.is_over:
                self.finish(self.outgoing[-1], "failed", error="closed")
            self.pump()

    def pump(self) -> None:
        """Send what waits, in order, as far as the window allows (SPEC 3.4.12)."""
        if not self.is_online:
            return
        room = self.connected["limits"]["max_inflight_publishes"] - sum(each.id > 0 for each in self.outgoing)
        for each in [each for each in self.outgoing if each.id == 0][: max(0, room)]:
            each.id = self.request(each.packet)

    def finish(self, each: Outgoing, event: str, **values: Any) -> None:
        """Its program hears what became of it."""
        self.outgoing.remove(each)
        self.lock.notify_all()
        each.tell(event, **values)

    # In: one method for each type of packet, and none for those that are unknown (SPEC 1.8)

    def receive(self, packet: Packet) -> None:
        """Take in one packet."""
        act = getattr(self, f"on_{packet.get('type')}", None)
        if act is not None:
            act(packet)

    def on_connected(self, packet: Packet) -> None:
        self.connected, self.is_online = packet, True
        self.attempts, self.refused, self.named = 0, 0, []
        self.tell("state", state="connected")
        self.pump()

    def on_ping(self, packet: Packet) -> None:
        self.send({"type": "pong"})

    def on_published(self, packet: Packet) -> None:
        for each in [each for each in self.outgoing if each.id == packet["id"]]:
            self.finish(each, "published", place=packet)
        self.pump()

    def on_error(self, packet: Packet) -> None:
        """What failed is known by `id` or `sub`; what to do follows from `retry` alone (SPEC 5.1.3)."""
        pause = packet.get("retry_after_ms", 10) / 1000 if packet["retry"] == "backoff" else 0
        again = packet["retry"] in ("now", "backoff")
        for each in [each for each in self.outgoing if each.id and each.id == packet.get("id")]:
            if again:
                threading.Timer(pause, self.publish_again, [each, each.id]).start()
            else:
                self.finish(each, "failed", error=packet["name"])
        if packet.get("sub") in self.numbered:
            self.over(packet, pause, again)

    def publish_again(self, each: Outgoing, id: int) -> None:
        """The pause is over; unless its connection is, too."""
        with self.lock:
            if each.id == id:
                each.id = 0
                self.pump()

    def on_unsubscribed(self, packet: Packet) -> None:
        if packet["sub"] in self.numbered:
            self.over(packet, 0.01, packet.get("retry") in ("now", "backoff"))

    def over(self, packet: Packet, pause: float, again: bool) -> None:
        """Refused, or ended by the broker."""
        subscription = self.numbered[packet["sub"]]
        if not again:
            self.end(subscription, packet.get("name", ""))
        elif subscription in self.subscriptions:
            threading.Timer(pause, self.ask_again, [subscription, self.socket]).start()

    def ask_again(self, subscription: Subscription, socket: ClientConnection | None) -> None:
        """The pause is over; unless its connection is, too."""
        with self.lock:
            if socket is self.socket is not None and subscription in self.subscriptions:
                self.ask(subscription, max(self.numbered) + 1)

    def end(self, subscription: Subscription, error: str) -> None:
        """It is over, on this connection and all later ones."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
            subscription.live = False
            subscription.tell("ended", error=error)

    # The seven rules (SPEC 4.3)

    def on_subscribed(self, packet: Packet) -> None:
        self.place(packet, packet["live"])

    def on_catching_up(self, packet: Packet) -> None:
        self.place(packet, False)

    def on_caught_up(self, packet: Packet) -> None:
        self.place(packet, True)

    def place(self, packet: Packet, live: bool) -> None:
        """R1: the whole position replaces ours. R5: a number that is unknown means nobody."""
        if subscription := self.numbered.get(packet["sub"]):
            subscription.position = dict(packet["after"])
            subscription.live = live
            subscription.has_caught_up |= live

    def on_gap(self, packet: Packet) -> None:
        """R1, and the program is told in its place among the messages."""
        if subscription := self.numbered.get(packet["sub"]):
            subscription.tell("gap", gap=packet)
            subscription.position = dict(packet["after"])

    def on_delivery(self, packet: Packet) -> None:
        """R2: to its subscription, whatever the position."""
        if subscription := self.numbered.get(packet["sub"]):
            self.hand_over(subscription, packet["message"])

    def on_message(self, packet: Packet) -> None:
        """R3: to all that are live, match, and have not had it."""
        for subscription in list(self.subscriptions):
            known = (subscription.position or {}).get(packet["log"], -1)
            if subscription.live and packet["pos"] > known and matches(subscription.filter, packet["topic"]):
                self.hand_over(subscription, packet)

    def hand_over(self, subscription: Subscription, message: Packet) -> None:
        """R6: a log that is new is a gap. R4: the position only rises."""
        log, position = message["log"], subscription.position or {}
        if log not in position:
            subscription.tell("gap", gap={"reason": "reset", "after": position})
        subscription.position = {**position, log: max(position.get(log, 0), message["pos"])}
        subscription.tell("message", message=message)


def matches(filter: str, topic: str) -> bool:
    """SPEC 6.4."""
    levels, wanted = topic.split("/"), filter.split("/")
    if levels[0].startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        levels = levels[: len(wanted)]
    return len(levels) == len(wanted) and all(w in ("+", each) for w, each in zip(wanted, levels, strict=True))
