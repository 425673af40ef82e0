"""Triode's Python client, on trio; `triode.asyncio` is the same on asyncio, `triode.sync` without a loop of yours.

    async with triode.connect("ws://127.0.0.1:7400") as client:
        await client.publish("rooms/42/chat", {"text": "hello"})
        async with client.subscribe("rooms/+/chat") as messages:
            async for message in messages:
                print(message.topic, message.data)

It reconnects by itself, resumes every subscription where it was, sends unacknowledged messages again without
storing them twice, and says so where messages are missing; given several nodes of a cluster, it goes on at another
one. This module only collects the names; the session core (`triode.session`) holds the decisions and does no I/O.
"""

from msgspec import Raw
from triode_protocol.hops import Hop
from triode_protocol.topics import BadTopic

from triode.client import Client
from triode.composing import Draft
from triode.deliveries import Deliveries, Delivery
from triode.errors import (
    ConnectionClosed,
    ConnectionRefused,
    DeliveryLost,
    DeliveryRefused,
    Expired,
    HistoryRefused,
    OutcomeUnknown,
    PresenceRefused,
    PublishManyFailed,
    PublishRefused,
    QueueFull,
    Refused,
    SubscriptionEnded,
    TriodeError,
)
from triode.messages import Messages
from triode.options import Options
from triode.receipts import Receipt
from triode.records import (
    CaughtUp,
    Complaint,
    Event,
    Gap,
    HandshakesRefused,
    HeldBack,
    HistoryPage,
    Item,
    Joined,
    Left,
    Member,
    Message,
    Notice,
    Position,
    Presence,
    Published,
    State,
    StateChanged,
    Traced,
)
from triode.trio_face import connect
from triode.watching import Events
from triode.will import Will

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
