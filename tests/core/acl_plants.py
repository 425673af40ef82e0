"""Bugs that are planted in how rights are applied: whoever looks for leaks has to find each of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from triode_broker.core.identity import Identity
from triode_broker.core.session import Session
from triode_broker.core.subscription import Subscription


def _rules_at_subscribe_only(self: Session, identity: Identity) -> None:
    """What was opened under other rules goes on."""
    self._be(identity)


PLANTS: dict[str, tuple[type, str, Any]] = {
    # Open subscriptions are not judged again when the rules change.
    "acl_only_at_subscribe": (Session, "become", _rules_at_subscribe_only),
    # A filter that is allowed in part is let in, and its topics are not asked about afterwards.
    "acl_of_filters_only": (Subscription, "allows", property(lambda sub: None, lambda sub, allows: None)),
    # Deliveries that are not live are not asked about.
    "acl_of_live_only": (Subscription, "may_have", lambda sub, topic: True),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Inside, the core has that bug."""
    owner, attribute, wrong = PLANTS[name]
    right = owner.__dict__[attribute]
    setattr(owner, attribute, wrong)
    try:
        yield
    finally:
        setattr(owner, attribute, right)
