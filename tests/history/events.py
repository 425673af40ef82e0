"""Histories: what clients sent and got, and what befell the broker, one JSON line per event.

Knows the form, not its meaning (`facts`, `checker`). The surprising decision: packets are recorded as they
travelled and not as somebody understood them, so that a wrong understanding cannot hide in the record.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct
from triode_protocol.topics import matches

Packet = dict[str, Any]

#: rules: what holds for the topics, first of all. start, up, kill, ended: the broker's lives.
#: rights: from here on, as the broker has been told, a client may do this (`Rights`).
#: open, lost: one connection of a client. sent, got: a packet on it.
#: stop, continue, fault, heal: what befell nodes and the ways between them; heal ends all of it.
#: final: from here on, what `who` is handed is what can still be read at the end; one reader for each node.
Op = Literal[
    "rules",
    "rights",
    "start",
    "up",
    "kill",
    "ended",
    "stop",
    "continue",
    "fault",
    "heal",
    "open",
    "lost",
    "sent",
    "got",
    "final",
]


class Event(Struct, omit_defaults=True):
    """One thing that happened, as one observer saw it."""

    t: int  # its place in the history, from 1
    op: Op
    who: str
    line: int = 0  # which connection of `who`, from 1
    packet: Packet = {}
    ms: int = 0  # since the first event
    about: dict[str, Any] = {}


class Rules(Struct):
    """What the checker has to know of the topics; filters."""

    durable: list[str] = []  # acknowledged messages outlive a crash
    bounded: list[str] = []  # retention may remove messages: that is due to be told, and no loss
    expiring: list[str] = []  # messages expire or are compacted: that is no gap
    compacted: list[str] = []  # among those: the newest of each key stays


class Rights(Struct):
    """What a client may do from then on, by action; filters. Before the first of these it may do everything."""

    allow: dict[str, list[str]] = {}
    deny: dict[str, list[str]] = {}  # wins

    def may(self, action: str, topic: str) -> bool:
        """Whether it may, worked out as simply as can be."""
        is_allowed = any(matches(filter, topic) for filter in self.allow.get(action, ()))
        return is_allowed and not any(matches(filter, topic) for filter in self.deny.get(action, ()))


class Recorder:
    """Numbers events in the order in which they are noted."""

    def __init__(self, rules: Rules, now_ms: Callable[[], int], noted: Callable[[], None] = lambda: None) -> None:
        """`noted` is called after every event."""
        self._now_ms = now_ms
        self._noted = noted
        self._start_ms = now_ms()
        self._watcher: Callable[[Event], None] = lambda event: None
        self.events: list[Event] = []
        self.note("rules", "history", about=msgspec.to_builtins(rules))

    def watch(self, watcher: Callable[[Event], None]) -> None:
        """It is shown every event from now on."""
        self._watcher = watcher

    def note(self, op: Op, who: str, line: int = 0, packet: Packet | None = None, **about: Any) -> Event:
        """Add an event."""
        ms = self._now_ms() - self._start_ms
        event = Event(len(self.events) + 1, op, who, line, packet or {}, ms, about.get("about", about))
        self.events.append(event)
        self._noted()
        self._watcher(event)
        return event


def write(events: Iterable[Event], path: Path) -> None:
    """As JSON lines."""
    path.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))


def read(path: Path) -> list[Event]:
    """What `write` wrote."""
    decode = msgspec.json.Decoder(Event).decode
    return [decode(line) for line in path.read_bytes().splitlines()]
