"""A broker on paper: writes the history of a broker that keeps every promise, for the checker's own tests.

Has no sockets, no time and no faults. Everything happens at once: what is published is stored, delivered and
answered in one step, unless the test says that the answer is lost.
"""

from typing import Any

from attrs import define, field
from triode_protocol.topics import matches

from tests.history.events import Event, Packet, Recorder, Rules
from tests.history.streams import Stream

RULES = Rules(durable=["durable/#"], expiring=["durable/state"], compacted=["durable/state"])


@define
class PaperBroker:
    """Lives as long as the history; its memory log has many lives."""

    recorder: Recorder = field(factory=lambda: Recorder(RULES, lambda: 0))
    stored: list[Packet] = field(factory=list)
    subscriptions: dict[tuple[str, int], tuple[Stream, Packet]] = field(factory=dict)
    acknowledged: dict[str, set[int]] = field(factory=dict)  # by durable name
    _lines: dict[str, int] = field(factory=dict)
    _life: int = 1
    _id: int = 0

    @property
    def events(self) -> list[Event]:
        """The history so far."""
        return self.recorder.events

    def open(self, who: str) -> None:
        """A new connection."""
        self._lines[who] = self._lines.get(who, 0) + 1
        self.recorder.note("open", who, self._lines[who])

    def sent(self, who: str, packet: Packet) -> int:
        """A request; its id."""
        self._id += 1
        self.recorder.note("sent", who, self._lines[who], {**packet, "id": self._id})
        return self._id

    def got(self, who: str, packet: Packet) -> None:
        """A packet for a client."""
        event = self.recorder.note("got", who, self._lines[who], packet)
        for (owner, _), (stream, _) in self.subscriptions.items():
            if owner == who:
                stream.got(event.t, packet)

    def publish(
        self, who: str, topic: str, message_id: str, *, answered: bool = True, stored: bool = True
    ) -> None:
        """Store, deliver, answer; or what of that is wanted."""
        packet = {"type": "publish", "topic": topic, "message_id": message_id, "data": message_id}
        id = self.sent(who, packet)
        log, level = self._log(topic)
        found = [one for one in self.stored if (one["log"], one["message_id"]) == (log, message_id)]
        if stored and not found:
            pos = 1 + max((one["pos"] for one in self.stored if one["log"] == log), default=0)
            offset = 1 + sum((one["log"], one["topic"]) == (log, topic) for one in self.stored)
            place = {"log": log, "pos": pos, "offset": offset, "ts": 1}
            message = {**packet, **place, "type": "message"}
            self.stored.append(message)
            self._deliver(message)
        if answered:
            one = (found or self.stored)[-1]
            answer = {
                "type": "published",
                "id": id,
                "level": level,
                **{n: one[n] for n in ("log", "pos", "offset")},
            }
            self.got(who, answer | ({"duplicate": True} if found else {}))

    def _log(self, topic: str) -> tuple[str, str]:
        return ("d0-a", "disk") if topic.startswith("durable/") else (f"m0-{self._life}", "memory")

    def _deliver(self, message: Packet) -> None:
        for who, sub in list(self.subscriptions):
            stream, asked = self.subscriptions[who, sub]
            if "durable" in asked:
                self._serve(who, sub)
            elif stream.is_live and matches(stream.filter, message["topic"]):
                self.got(who, message)

    def subscribe(self, who: str, sub: int, filter: str, **fields: Any) -> None:
        """New or once more, as the client has to ask."""
        asked: Packet = {"type": "subscribe", "sub": sub, "filter": filter}
        if (who, sub) not in self.subscriptions:
            self.subscriptions[who, sub] = Stream(who, sub, filter, fields.get("durable", "")), fields
        stream, first = self.subscriptions[who, sub]
        asked |= stream.again(first)
        id = self.sent(who, asked)
        stream.sent(self._lines[who], asked)
        heads = self._heads(filter)
        start = {log: asked.get("after", {}).get(log, 0) for log in heads}
        if "after" not in asked and "durable" not in asked:
            start = heads
        is_new = "after" in asked and heads.keys() != asked["after"].keys()
        is_live = start == heads and not is_new
        self.got(who, {"type": "subscribed", "id": id, "sub": sub, "after": start, "live": is_live})
        if "durable" in asked:
            self._serve(who, sub)
            return
        if is_new:
            self.got(who, {"type": "gap", "sub": sub, "after": start, "reason": "reset"})
        if not is_live:
            for message in self.stored:
                if message["pos"] > start.get(message["log"], message["pos"]) and matches(
                    filter, message["topic"]
                ):
                    self.got(who, {"type": "delivery", "sub": sub, "attempt": 1, "message": message})
            self.got(who, {"type": "caught_up", "sub": sub, "after": heads})

    def _heads(self, filter: str) -> dict[str, int]:
        logs = {self._log("durable/")[0]} if not filter.startswith("live/") else set()
        logs |= {self._log("live/")[0]} if not filter.startswith("durable/") else set()
        return {log: max((one["pos"] for one in self.stored if one["log"] == log), default=0) for log in logs}

    def _serve(self, who: str, sub: int) -> None:
        """An acknowledged subscription: everything that is not settled and was not given on this connection."""
        stream, asked = self.subscriptions[who, sub]
        settled = self.acknowledged.setdefault(asked["durable"], set())
        line = self._lines[who]
        given = {step.message.pos for step in stream.steps if step.message and step.line == line}
        for message in self.stored:
            if message["pos"] not in settled | given and matches(stream.filter, message["topic"]):
                self.got(who, {"type": "delivery", "sub": sub, "attempt": 1, "message": message})

    def ack(self, who: str, sub: int, pos: int, *, answered: bool = True) -> None:
        """Settle one delivery of a durable subscription."""
        id = self.sent(who, {"type": "ack", "sub": sub, "log": "d0-a", "pos": pos})
        self.acknowledged[self.subscriptions[who, sub][1]["durable"]].add(pos)
        if answered:
            self.got(who, {"type": "acked", "id": id})

    def lost(self, *who: str) -> None:
        """Connections end."""
        for one in who:
            event = self.recorder.note("lost", one, self._lines[one])
            for (owner, _), (stream, _) in self.subscriptions.items():
                if owner == one:
                    stream.lost(event.t)

    def kill(self) -> None:
        """The broker dies, with all that was in memory, and comes back."""
        self.recorder.note("kill", "broker")
        self.lost(*self._lines)
        self._life += 1

    def read_back(self) -> None:
        """Everything that is held at the end."""
        self.recorder.note("final", "final")
        self.open("final")
        for message in self.stored:
            if message["log"] in self._heads("#"):
                self.got("final", {"type": "delivery", "sub": 1, "attempt": 1, "message": message})
