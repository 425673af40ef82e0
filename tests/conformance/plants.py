"""Clients that are wrong on purpose, in one thing each: the scenarios must find them (test_plants.py).

Each is the tiny client of docs/examples with a few lines changed. Run as an adapter, `python plants.py NAME …` is
one of them after the other, a new one after each `reset`.
"""

import sys
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))

import tiny_adapter
import tiny_client
from tiny_client import Outgoing, Packet, Subscription


class ResumesFromTheStart(tiny_client.Client):
    """Keeps the position of `subscribed`, whatever has come since."""

    def hand_over(self, subscription: Subscription, message: Packet) -> None:
        kept = subscription.position
        super().hand_over(subscription, message)
        subscription.position = kept


class ResumesPastTheNewest(tiny_client.Client):
    """Takes the newest message that came along for its position, though it has not handed it over."""

    def on_message(self, packet: Packet) -> None:
        super().on_message(packet)
        for subscription in self.subscriptions:
            if subscription.position is not None:
                subscription.position[packet["log"]] = packet["pos"]


class ResumesAsNew(tiny_client.Client):
    """Never says `after`."""

    def ask(self, subscription: Subscription, number: int) -> None:
        subscription.position = None
        super().ask(subscription, number)


class MergesPositions(tiny_client.Client):
    """Takes the greater of two positions where R1 says that the new one holds."""

    def place(self, packet: Packet, live: bool) -> None:
        subscription = self.numbered.get(packet["sub"])
        kept = dict(subscription.position or {}) if subscription else {}
        super().place(packet, live)
        if subscription and subscription.position is not None:
            after = subscription.position
            subscription.position = {log: max(kept.get(log, 0), after.get(log, 0)) for log in kept | after}


class IgnoresGaps(tiny_client.Client):
    """Goes on behind a gap, and says nothing."""

    def on_gap(self, packet: Packet) -> None:
        if subscription := self.numbered.get(packet["sub"]):
            subscription.position = dict(packet["after"])


class GapsWithoutPosition(tiny_client.Client):
    """Tells gaps, and resumes in front of them."""

    def on_gap(self, packet: Packet) -> None:
        if subscription := self.numbered.get(packet["sub"]):
            subscription.tell("gap", gap=packet)


class OverlooksNewLogs(tiny_client.Client):
    """Forgets R6."""

    def hand_over(self, subscription: Subscription, message: Packet) -> None:
        subscription.position = {message["log"]: 0} | (subscription.position or {})
        super().hand_over(subscription, message)


class HandsOverDoubles(tiny_client.Client):
    """Forgets the second half of R3."""

    def on_message(self, packet: Packet) -> None:
        for subscription in list(self.subscriptions):
            if subscription.live and tiny_client.matches(subscription.filter, packet["topic"]):
                self.hand_over(subscription, packet)


class FiltersDeliveries(tiny_client.Client):
    """Drops deliveries that lie behind the position, against R2."""

    def on_delivery(self, packet: Packet) -> None:
        subscription, message = self.numbered.get(packet["sub"]), packet["message"]
        if subscription and message["pos"] > (subscription.position or {}).get(message["log"], -1):
            self.hand_over(subscription, message)


class SharesDeliveries(tiny_client.Client):
    """Gives a delivery to all that match, against R2."""

    def on_delivery(self, packet: Packet) -> None:
        for subscription in list(self.subscriptions):
            if tiny_client.matches(subscription.filter, packet["message"]["topic"]):
                self.hand_over(subscription, packet["message"])


class ListensWhileCatchingUp(tiny_client.Client):
    """Takes live messages for a subscription that catches up."""

    def place(self, packet: Packet, live: bool) -> None:
        super().place(packet, True)


class ResumesSnapshots(tiny_client.Client):
    """Resumes a snapshot that was cut, against R7."""

    def place(self, packet: Packet, live: bool) -> None:
        super().place(packet, live)
        if subscription := self.numbered.get(packet["sub"]):
            subscription.has_caught_up = True


class MakesUpNewIds(tiny_client.Client):
    """Sends what is unanswered again under another `message_id`."""

    def lost(self, code: int) -> None:
        super().lost(code)
        for each in self.outgoing:
            each.packet = {**each.packet, "message_id": uuid.uuid4().hex}


class ForgetsWhatIsUnanswered(tiny_client.Client):
    """Sends nothing again."""

    def lost(self, code: int) -> None:
        self.outgoing = [each for each in self.outgoing if each.id == 0]
        super().lost(code)


class ResendsInAnyOrder(tiny_client.Client):
    """Sends what is unanswered again, the last one first."""

    def lost(self, code: int) -> None:
        super().lost(code)
        self.outgoing.reverse()


class SendsTheLargestAgain(tiny_client.Client):
    """Takes 1009 for any other close."""

    def lost(self, code: int) -> None:
        super().lost(1006 if code == 1009 else code)


class TriesWhatIsForbidden(tiny_client.Client):
    """Takes every error for one that passes."""

    def on_error(self, packet: Packet) -> None:
        super().on_error({**packet, "retry": "backoff"})


class GivesUpAtOnce(tiny_client.Client):
    """Takes every error for a final one."""

    def on_error(self, packet: Packet) -> None:
        super().on_error({**packet, "retry": "never"})


class ComesBackAtOnce(tiny_client.Client):
    """Makes no pause."""

    def on_error(self, packet: Packet) -> None:
        super().on_error({**packet, "retry_after_ms": 0})


class ComesBackAfterTheEnd(tiny_client.Client):
    """Takes 40xx for a reason to try again."""

    def lost(self, code: int) -> None:
        super().lost(4100 if 4000 <= code < 4100 else code)


class SaysTheEndAndComesBack(tiny_client.Client):
    """Tells its program that it stops, and does not."""

    def lost(self, code: int) -> None:
        super().lost(code)
        if 4000 <= code < 4100:
            self.is_over = False


class StopsAtUnknownCodes(tiny_client.Client):
    """Knows the table of codes, and not the ranges."""

    def lost(self, code: int) -> None:
        known = (1000, 1001, 1006, 1009, 1011, 1012, 4100, 4101, 4102, 4104, 4105, 4200, 4201)
        super().lost(code if code in known else 4000)


class WaitsForever(tiny_client.Client):
    """Does not notice that nothing comes any more."""

    def on_connected(self, packet: Packet) -> None:
        super().on_connected({**packet, "ping_ms": 1_000_000})


class IsImpatient(tiny_client.Client):
    """Takes one ping interval of silence for death."""

    def on_connected(self, packet: Packet) -> None:
        super().on_connected({**packet, "ping_ms": packet["ping_ms"] / 4})


class NeverAnswersPings(tiny_client.Client):
    """Is silent where it has nothing to say."""

    def on_ping(self, packet: Packet) -> None:
        pass


class ForgetsWhomItReplaces(tiny_client.Client):
    """Comes back as a stranger."""

    def greet(self) -> None:
        self.connected.pop("connection", None)
        super().greet()


class WaitsForConnected(tiny_client.Client):
    """Subscribes again only when it has been let in: a round trip more."""

    def on_connected(self, packet: Packet) -> None:
        super().on_connected(packet)
        for number, subscription in enumerate(self.subscriptions, 1):
            if number not in self.numbered:
                super().ask(subscription, number)

    def ask(self, subscription: Subscription, number: int) -> None:
        if self.is_online:
            super().ask(subscription, number)


class OverrunsTheWindow(tiny_client.Client):
    """Sends what it has."""

    def pump(self) -> None:
        if self.is_online:
            self.connected["limits"]["max_inflight_publishes"] = 1_000
        super().pump()


class UsesNumbersAgain(tiny_client.Client):
    """Counts requests from 1 for each kind."""

    def request(self, packet: Packet) -> int:
        self.last_id = 0
        return super().request(packet)


class UsesSubsAgain(tiny_client.Client):
    """Gives the number of a refused subscription to its next try."""

    def ask(self, subscription: Subscription, number: int) -> None:
        super().ask(subscription, 1)


class MistypesAField(tiny_client.Client):
    """Says `form` for `from`: no broker would take it."""

    def send(self, packet: Packet) -> None:
        super().send({"form" if name == "from" else name: value for name, value in packet.items()})


class BreaksOnTheUnknown(tiny_client.Client):
    """Drops the connection at a packet of a type that it does not know."""

    def receive(self, packet: Packet) -> None:
        if not hasattr(self, f"on_{packet['type']}"):
            raise OSError("what is this?")
        super().receive(packet)


class AsksAgainWhatHasEnded(tiny_client.Client):
    """Asks for a subscription again that the broker has ended."""

    def end(self, subscription: Subscription, error: str) -> None:
        subscription.tell("ended", error=error)
        subscription.live = False


class MatchesDollarTopics(tiny_client.Client):
    """Lets `#` match the broker's own topics."""

    def on_message(self, packet: Packet) -> None:
        super().on_message({**packet, "topic": packet["topic"].replace("$", "")})


class StaysWhenDrained(tiny_client.Client):
    """Does not read where a `bye` sends it."""

    def wait(self, code: int, pause_ms: int) -> None:
        self.named = []
        super().wait(code, pause_ms)


class LosesWhatWaits(tiny_client.Client):
    """Publishes only while it is connected, and says nothing of the rest."""

    def publish(self, topic: str, tell: Any, **fields: Any) -> None:
        if self.is_online:
            super().publish(topic, tell, **fields)


class SettlesByGuess(tiny_client.Client):
    """Takes every `published` for the answer to its oldest publish."""

    def on_published(self, packet: Packet) -> None:
        oldest: Outgoing | None = next((each for each in self.outgoing if each.id), None)
        super().on_published({**packet, "id": oldest.id if oldest else 0})


PLANTS = {
    name: kind
    for name, kind in sorted(globals().items())
    if isinstance(kind, type) and issubclass(kind, tiny_client.Client)
}


class Planted(tiny_adapter.Adapter):
    """The adapter of several clients."""

    def __init__(self, names: list[str]) -> None:
        self.waiting = [*names, names[-1]]
        self.Client = PLANTS[self.waiting.pop(0)]

    def reset(self) -> None:
        super().reset()
        self.Client = PLANTS[self.waiting.pop(0)]


if __name__ == "__main__":
    tiny_adapter.main(Planted(sys.argv[1:]))
