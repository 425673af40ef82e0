"""The door: which rights a client's packets need before anything is done for them (G10, SPEC 11.5). Pure.

Topics and filters here are the client's own words, and of good grammar. Nothing but the grammar is looked at before
the rights are: so whoever is forbidden something learns nothing of what is there. The surprising decision: a filter
that is allowed in part is let in, and each topic is judged where its messages are delivered; only acknowledged
subscriptions need all of it, because whoever shares a name gets the same messages.
"""

from typing import Final

from msgspec import UNSET
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Subscribe

from triode_broker.core.rights import EVERYTHING, Action, Rights

_DEEDS: Final[dict[Action, str]] = {
    "publish": "publish there",
    "subscribe": "subscribe to that",
    "presence": "see who is present there",
    "history": "read the past of that",
    "consume": "have an acknowledged subscription to all of that",
}


def forbidden(action: Action, field: str) -> Refused:
    """What it is answered with."""
    return Refused(ErrorName.FORBIDDEN, f"the rules in force do not allow you to {_DEEDS[action]}", field=field)


def check_topic(rights: Rights, action: Action, topic: str) -> None:
    """Raise Refused unless it is allowed with this topic."""
    if rights is not EVERYTHING and not rights.may(action, topic):
        raise forbidden(action, "topic")


def check_subscribe(rights: Rights, packet: Subscribe) -> None:
    """Raise Refused where something that a subscribe without acknowledgements asks for is allowed nowhere."""
    filter = packet.filter
    if rights is EVERYTHING:
        return
    if rights.verdict("subscribe", filter) == "none":
        raise forbidden("subscribe", "filter")
    if packet.from_ != "new" and rights.verdict("history", filter) == "none":
        raise forbidden("history", "from")
    if packet.presence is not UNSET and rights.verdict("presence", filter) == "none":
        raise forbidden("presence", "presence")


def check_consume(rights: Rights, filter: str) -> None:
    """Raise Refused unless an acknowledged subscription to a filter is allowed."""
    if not may_consume(rights, filter):
        raise forbidden("consume", "filter")


def may_consume(rights: Rights, filter: str) -> bool:
    """Whether all of a filter may be had with acknowledgements."""
    return rights is EVERYTHING or rights.verdict("consume", filter) == "all"


def judged_topics(rights: Rights) -> dict[str, bool] | None:
    """What a publish is looked up in: topics already judged, true where they are allowed. None: all are."""
    return None if rights.verdict("publish", "#") == "all" else rights.known["publish"]
