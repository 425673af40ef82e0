"""What SPEC 4.3 tells a client to do with what it receives, rule by rule and nothing more.

Knows packets as dictionaries; no sockets. Used by the black-box tests as the plainest possible client.
"""

from typing import Any

import attrs
from triode_protocol.topics import matches

Packet = dict[str, Any]


@attrs.define
class Subscription:
    """One subscription as its client keeps it: position, live, and what the application was told."""

    filter: str
    start: Packet  # what `subscribe` says beside sub and filter
    position: dict[str, int] = attrs.field(factory=dict)
    is_live: bool = False
    is_subscribed: bool = False
    was_caught_up: bool = False
    messages: list[Packet] = attrs.field(factory=list)
    gaps: list[Packet] = attrs.field(factory=list)

    def take(self, message: Packet) -> None:
        """Hand over (R4, R6)."""
        log, pos = message["log"], message["pos"]
        if log not in self.position:
            self.gaps.append({"reason": "reset", "log": log})
        self.messages.append(message)
        self.position[log] = max(self.position.get(log, 0), pos)

    def again(self) -> Packet:
        """How to ask for it on the next connection (R7)."""
        if not self.is_subscribed or (self.start.get("from") == "last" and not self.was_caught_up):
            return {"filter": self.filter, **self.start}
        return {"filter": self.filter, "after": self.position}

    @property
    def data(self) -> list[Any]:
        """The payloads handed over."""
        return [message["data"] for message in self.messages]


class Reader:
    """All subscriptions of one client, over any number of connections."""

    def __init__(self) -> None:
        self.subscriptions: dict[int, Subscription] = {}

    def add(self, sub: int, filter: str, **start: Any) -> Subscription:
        """A subscription to ask for."""
        subscription = self.subscriptions[sub] = Subscription(filter, start)
        return subscription

    def requests(self) -> list[Packet]:
        """The subscribe packets for a new connection."""
        for subscription in self.subscriptions.values():
            subscription.is_live = False
        return [{"type": "subscribe", "sub": sub, **s.again()} for sub, s in self.subscriptions.items()]

    def feed(self, packet: Packet) -> None:
        """One packet from the server; those that are none of the reader's business are ignored."""
        kind = packet["type"]
        if kind == "message":
            self._message(packet)
        elif kind == "ping":
            self._bookmark(packet.get("at", {}))
        elif (subscription := self.subscriptions.get(packet.get("sub", 0))) is not None:  # R5: else ignored
            if kind == "delivery":
                subscription.take(packet["message"])  # R2: never filtered by position
            elif kind in ("subscribed", "catching_up", "caught_up", "gap"):
                self._state(subscription, packet)
            elif kind == "unsubscribed":
                del self.subscriptions[packet["sub"]]

    def _message(self, message: Packet) -> None:
        for subscription in self.subscriptions.values():
            is_new = subscription.position.get(message["log"], 0) < message["pos"]
            if subscription.is_live and is_new and matches(subscription.filter, message["topic"]):  # R3
                subscription.take(message)

    def _state(self, subscription: Subscription, packet: Packet) -> None:
        subscription.position = dict(packet["after"])  # R1: replaced, not merged
        if packet["type"] == "gap":
            subscription.gaps.append(packet)
        elif packet["type"] == "subscribed":
            subscription.is_live = packet["live"]
            subscription.is_subscribed = True
            subscription.was_caught_up |= packet["live"]
        else:
            subscription.is_live = packet["type"] == "caught_up"
            subscription.was_caught_up |= subscription.is_live

    def _bookmark(self, at: dict[str, int]) -> None:
        for subscription in self.subscriptions.values():
            if subscription.is_live:
                for log, pos in subscription.position.items():
                    subscription.position[log] = max(pos, at.get(log, 0))
