"""The door: which rights a client's packets need before anything is done for them (G10, SPEC 11.4). Pure.

Topics and filters here are the client's own words, and of good grammar. Nothing else is looked at before the
rights are: so whoever is forbidden something learns nothing of what is there. The surprising decision: a filter
that is allowed in part is let in, and each topic is judged where its messages are delivered; only acknowledged
subscriptions need all of it, because whoever shares a name gets the same messages.
"""

from functools import partial
from typing import Final

from msgspec import UNSET
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Subscribe

from triode_broker.core.events import PREFIX as EVENTS
from triode_broker.core.identity import Identity
from triode_broker.core.rights import EVERYTHING, Action, Allows, Rights, Verdict
from triode_broker.core.tenants import outside

#: Whether a subscription begins with the past; which topics it may be told of; which of those until that is over.
Granted = tuple[bool, Allows, Allows]

_DEEDS: Final[dict[Action, str]] = {
    "publish": "publish there",
    "subscribe": "subscribe to that",
    "presence": "see who is present there",
    "history": "read the past of that",
    "consume": "have an acknowledged subscription to all of that",
    "operate": "operate this broker so",
}


def forbidden(action: Action, field: str) -> Refused:
    """What it is answered with."""
    return Refused(ErrorName.FORBIDDEN, f"the rules in force do not allow you to {_DEEDS[action]}", field=field)


def verdict(rights: Rights, action: Action, filter: str) -> Verdict:
    """As the rights say; where there are no rules, filters that nothing matches are no offence either."""
    if rights is EVERYTHING and not filter.startswith(EVENTS):
        return "all"
    return rights.verdict(action, filter)


def check_topic(rights: Rights, action: Action, topic: str) -> None:
    """Raise Refused unless it is allowed with this topic."""
    if rights is not EVERYTHING and not rights.may(action, topic):
        raise forbidden(action, "topic")


def check_consume(rights: Rights, filter: str) -> None:
    """Raise Refused unless an acknowledged subscription to a filter is allowed."""
    if verdict(rights, "consume", filter) != "all":
        raise forbidden("consume", "filter")


def judged_topics(rights: Rights) -> dict[str, bool] | None:
    """What a publish is looked up in: topics already judged, true where they are allowed. None: all are."""
    return None if verdict(rights, "publish", "#") == "all" else rights.known["publish"]


def grant(identity: Identity, packet: Subscribe) -> Granted:
    """For a subscribe without acknowledgements. Raises Refused where it asks for what is allowed nowhere.

    The past of one that goes on after a position is what it would have been told live.
    """
    is_past = packet.from_ != "new"
    check_filter(identity.rights, packet.filter, is_past=is_past, is_watching=packet.presence is not UNSET)
    return is_past, *allowing(identity, packet.filter, is_past=is_past)


def check_filter(rights: Rights, filter: str, *, is_past: bool, is_watching: bool) -> None:
    """Raise Refused where what is asked for is allowed with no topic of a filter, or presence not with all."""
    if verdict(rights, "subscribe", filter) == "none":
        raise forbidden("subscribe", "filter")
    if is_past and verdict(rights, "history", filter) == "none":
        raise forbidden("history", "from")
    if is_watching and verdict(rights, "presence", filter) != "all":
        raise forbidden("presence", "presence")


def allowing(identity: Identity, filter: str, *, is_past: bool) -> tuple[Allows, Allows]:
    """Which topics of a filter may be delivered at all; and which of those while it is the past that is told."""
    rights = identity.rights
    allows = None if verdict(rights, "subscribe", filter) == "all" else _judge(identity, "subscribe")
    is_all = verdict(rights, "history", filter) == "all" or rights.is_like("history", "subscribe", filter)
    return allows, None if is_all or not is_past else _judge(identity, "history")


def _judge(identity: Identity, action: Action) -> Allows:
    may = identity.rights.may
    return (lambda topic: may(action, outside(topic))) if identity.tenant else partial(may, action)
