"""Audience: who gets a topic's messages live. Found once for a topic and kept by the topic tree until somebody
comes or goes.

The surprising decision: here, and not for each message, those are left out whom the rights in force do not allow
the topic (G10). So permission costs a message nothing; rights that change take a subscription out and in again.
"""

from collections.abc import Callable
from typing import Protocol

from triode_broker.core.outbox import Outbox
from triode_broker.core.record import Record
from triode_broker.core.subscription import Subscription
from triode_broker.core.tenancy import Tenants
from triode_broker.core.tenants import tenant_of


class Follower(Protocol):
    """Who is offered the messages of a filter without an outbox of its own: a consumer, a conflating reader.

    Offered in order of pos, in the step in which the log's head moves to them, after the live outboxes.
    """

    def offer(self, record: Record) -> None:
        """Take note of a message; must not publish, attach or detach anybody."""


class Audience:
    """Who gets a topic's messages: followers, and each outbox once, however many of its subscriptions match."""

    __slots__ = ("counts", "followers", "groups", "is_empty", "kept_out", "size", "subscriptions")

    def __init__(self, values: "list[Subscription | Follower]", topic: str, tenants: Tenants) -> None:
        self.counts = tenants.counts_of(tenant_of(topic))
        self.subscriptions = [
            value
            for value in values
            if isinstance(value, Subscription) and ((allows := value.allows) is None or allows(topic))
        ]
        self.followers = tuple(value for value in values if not isinstance(value, Subscription))
        self.kept_out = len(values) - len(self.subscriptions) - len(self.followers)  # by the rights in force
        boxes = dict.fromkeys(sub.outbox for sub in self.subscriptions)
        self.size = len(boxes)
        self.is_empty = not boxes and not self.followers
        # By what makes an item of a payload: once for all who take the same (frames, or payloads for arrays).
        groups: dict[Callable[[bytes], bytes], list[Outbox]] = {}
        for box in boxes:
            groups.setdefault(box.frame, []).append(box)
        self.groups = tuple(groups.items())
