"""The blocking face of the client: for Django, Flask, scripts and notebooks.

    import triode.sync

    with triode.sync.connect("ws://127.0.0.1:7400") as client:
        client.publish("rooms/42/chat", {"text": "hello"})
        with client.subscribe("rooms/+/chat") as messages:
            for message in messages:
                print(message.topic, message.data)

A service makes one client per process and never enters it: `client = triode.sync.connect(url, wait_seconds=0)` at
import, `client.publish(…)` in any thread. It connects at the first use, survives a fork by connecting anew, and
sends what is queued when the process ends (but not where that is killed, or leaves by `os._exit`).

Its connection lives in one background thread that runs trio: a loop of the program's own, as a notebook has, does
not matter, but an async program is better served by `triode` or `triode.asyncio`. Threads must be real ones:
gunicorn's `gthread` and `sync` workers and uWSGI with `enable-threads` are, greenlets by monkey-patching are not.

This module only collects the names. The records and errors are those of all faces.
"""

from triode import (
    BadTopic,
    CaughtUp,
    Complaint,
    ConnectionClosed,
    ConnectionRefused,
    DeliveryLost,
    DeliveryRefused,
    Draft,
    Event,
    Expired,
    Gap,
    HandshakesRefused,
    HeldBack,
    HistoryPage,
    HistoryRefused,
    Hop,
    Item,
    Joined,
    Left,
    Member,
    Message,
    Notice,
    Options,
    OutcomeUnknown,
    Position,
    Presence,
    PresenceRefused,
    Published,
    PublishManyFailed,
    PublishRefused,
    QueueFull,
    Raw,
    Refused,
    State,
    StateChanged,
    SubscriptionEnded,
    Traced,
    TriodeError,
    Will,
)
from triode.errors import InParentProcess
from triode.sync.client import Client, connect
from triode.sync.deliveries import Deliveries, Delivery
from triode.sync.publishing import Receipt
from triode.sync.receiving import Messages
from triode.sync.watching import Events

__all__ = [
    "BadTopic",
    "CaughtUp",
    "Client",
    "Complaint",
    "ConnectionClosed",
    "ConnectionRefused",
    "Deliveries",
    "Delivery",
    "DeliveryLost",
    "DeliveryRefused",
    "Draft",
    "Event",
    "Events",
    "Expired",
    "Gap",
    "HandshakesRefused",
    "HeldBack",
    "HistoryPage",
    "HistoryRefused",
    "Hop",
    "InParentProcess",
    "Item",
    "Joined",
    "Left",
    "Member",
    "Message",
    "Messages",
    "Notice",
    "Options",
    "OutcomeUnknown",
    "Position",
    "Presence",
    "PresenceRefused",
    "PublishManyFailed",
    "PublishRefused",
    "Published",
    "QueueFull",
    "Raw",
    "Receipt",
    "Refused",
    "State",
    "StateChanged",
    "SubscriptionEnded",
    "Traced",
    "TriodeError",
    "Will",
    "connect",
]
