"""The other side of a session in tests: what a broker says, what it hears, and the time that passes.

No broker and no mock: packets in and out of the real session, as plain dictionaries.
"""

import json
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Raw
from triode.consuming import Handed, Terms
from triode.options import Options
from triode.publishing import Publication
from triode.records import Event, Gap, Item, State, StateChanged
from triode.session import Identity, Session
from triode.subscription import Subscription
from triode_protocol import packets

LOG = "m0-first"
URL = "ws://broker.example:7400"
LIMITS = {
    "max_packet_bytes": 65_536,
    "max_frame_bytes": 1_048_576,
    "max_subscriptions": 200,
    "max_inflight_publishes": 256,
    "dedupe_window_ms": 300_000,
}


class Play:
    """One session and its surroundings. `luck` is what the random source says."""

    def __init__(
        self,
        url: str | Iterable[str] = URL,
        identity: Identity | None = None,
        luck: float = 0.5,
        **limits: Any,
    ) -> None:
        self.now = 1_000.0
        self.luck = luck
        self.options = Options(**limits)
        self.session = Session(url, identity or Identity(), self.options, lambda: self.luck)
        self.connections = 0

    # What the broker does

    def says(self, *said: dict[str, Any]) -> None:
        """One WebSocket message: one packet, or an array of several."""
        self.session.receive_text(json.dumps(said[0] if len(said) == 1 else said), self.now)

    def hears(self) -> list[dict[str, Any]]:
        """Every packet that the client writes now."""
        heard: list[dict[str, Any]] = []
        while (text := self.session.take_text(self.now)) is not None:
            found = json.loads(text)
            heard += found if isinstance(found, list) else [found]
        return heard

    def open(self) -> list[dict[str, Any]]:
        """The WebSocket opens; what the client writes at once."""
        if self.session.state is State.IDLE:
            self.session.start(self.now)
        assert self.session.dial
        self.session.dial = ""
        self.session.opened(self.now)
        return self.hears()

    def connected(self, connect: dict[str, Any], **said: Any) -> None:
        """The broker accepts."""
        self.connections += 1
        limits = {**LIMITS, **said.pop("limits", {})}
        packet = {
            "type": "connected",
            "id": connect["id"],
            "connection": f"c-{self.connections}",
            "node": "n1",
            "protocol": 1,
            "capabilities": ["batch"],
            "limits": limits,
            "ping_ms": 25_000,
            "reconnect": {"min_ms": 250, "max_ms": 20_000},
        }
        self.says({**packet, **said})

    def connect(self, **said: Any) -> list[dict[str, Any]]:
        """Open and accept; what the client wrote before it was accepted."""
        heard = self.open()
        self.connected(heard[0], **said)
        assert self.session.state is State.CONNECTED
        return heard

    def cut(self, code: int = 1006) -> None:
        """The connection is lost."""
        self.session.lost(self.now, code)

    def reconnect(self, **said: Any) -> list[dict[str, Any]]:
        """Cut, wait, connect again; what the client wrote before it was accepted."""
        if self.session.is_attached:
            self.cut()
        self.wait()
        return self.connect(**said)

    # Time

    def passes(self, seconds: float) -> None:
        """Time goes by, with a tick at each deadline on the way as a face would have it."""
        end = self.now + seconds
        for _ in range(1_000):
            due = self.session.deadline()
            if due > end:
                break
            self.now = max(self.now, due)
            self.session.tick(self.now)
        else:
            raise AssertionError("the session spins")
        self.now = end
        self.session.tick(self.now)

    def wait(self) -> None:
        """Until the next attempt to connect."""
        assert self.session.state is State.WAITING
        for _ in range(100):  # other deadlines may come first
            if self.session.is_attached:
                return
            self.passes(max(0.0, self.session.deadline() - self.now))
        raise AssertionError("it does not try again")

    # What programs do

    def publish(self, topic: str = "a", data: bytes = b"1", **fields: Any) -> Publication:
        """Queue an acknowledged publish."""
        packet = packets.Publish(topic, data=Raw(data), **fields)
        return self.session.publish(packet, self.now)

    def send(self, topic: str = "a", data: bytes = b"1") -> Publication:
        """Queue a publish without acknowledgement."""
        packet = packets.Publish(topic, data=Raw(data))
        return self.session.publish(packet, self.now, is_acknowledged=False)

    def subscribe(self, filter: str = "a/#", start: packets.From = "new", **options: Any) -> Subscription:
        """Subscribe."""
        after = options.pop("after", None)
        overflow, presence = options.pop("overflow", "replay"), options.pop("presence", UNSET)
        return self.session.subscribe(filter, start, after, overflow, presence)

    def consume(self, filter: str = "a/#", start: packets.From = "new", **terms: Any) -> Subscription:
        """Subscribe with acknowledgements and be accepted."""
        subscription = self.session.consume(filter, start, Terms(**{"durable": "w", "window": 4, **terms}))
        self.hears()
        self.accept(subscription)
        self.session.ready.clear()
        return subscription

    def subscribed(self, filter: str = "a/#", start: packets.From = "new", **said: Any) -> Subscription:
        """Subscribe and be accepted; live at position 0 of the log unless said otherwise."""
        subscription = self.subscribe(filter, start)
        self.hears()
        self.accept(subscription, **said)
        return subscription

    def accept(self, subscription: Subscription, **said: Any) -> None:
        """The broker says `subscribed`; the CaughtUp that comes of it is taken out."""
        packet = {"type": "subscribed", "sub": subscription.number, "after": {LOG: 0}, "live": True}
        self.says({**packet, **said})
        if subscription.tray is None:
            self.items(subscription)

    def handed(self, subscription: Subscription) -> list[Handed | Gap]:
        """Everything in the inbox of an acknowledged one."""
        taken = []
        while (item := self.session.subscriptions.take_handed(subscription)) is not None:
            taken.append(item)
        return taken

    def deliveries(self, subscription: Subscription) -> list[Handed]:
        """The deliveries among them."""
        return [item for item in self.handed(subscription) if isinstance(item, Handed)]

    def items(self, subscription: Subscription) -> list[Item]:
        """Everything in its inbox."""
        taken = []
        while (item := self.session.subscriptions.take(subscription)) is not None:
            taken.append(item)
        return taken

    # What came of it

    def events(self) -> list[Event]:
        """The events since the last look."""
        found = list(self.session.events)
        self.session.events.clear()
        return found

    def states(self) -> list[State]:
        """The states among them."""
        return [event.state for event in self.events() if isinstance(event, StateChanged)]


def message(pos: int, topic: str = "a/b", log: str = LOG, **fields: Any) -> dict[str, Any]:
    """A message packet."""
    packet = {"type": "message", "topic": topic, "offset": pos, "log": log, "pos": pos, "ts": 1, "data": pos}
    return {**packet, **fields}


def delivery(
    sub: int, pos: int, topic: str = "a/b", log: str = LOG, attempt: Any = 1, **fields: Any
) -> dict[str, Any]:
    """A delivery packet; `fields` are the message's."""
    return {"type": "delivery", "sub": sub, "message": message(pos, topic, log, **fields), "attempt": attempt}
