"""Administration of what is subscribed to: every open subscription of every kind, with who has it and how it is.

Checks parameters and reads the sessions of this node; of all nodes is `everywhere`'s business. The surprising
decision: one page looks at all connections of the node, in pieces, and keeps no more than it answers.
Subscriptions come and go too fast for an index that nobody but an operator would ask.
"""

import heapq
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import trio
from triode_protocol.topics import BadTopic, check_filter, check_topic, matches

from triode_broker.admin.clients import DEFAULT_LISTED, LOOKED_AT_PER_TURN, MAX_LISTED, Whom, whom_of
from triode_broker.admin.listener import BadCall, Call
from triode_broker.admin.parameters import count_in, text_in
from triode_broker.core.node import Node
from triode_broker.core.opened import Opened, opened
from triode_broker.core.session import Session

KINDS: Final = ("plain", "durable", "shared", "group")
Row = dict[str, Any]


@attrs.frozen
class Wanted:
    """Which are asked for: those of which all of it is true; "" is true of all."""

    whom: Whom
    topic: str = ""  # those that it matches
    filter: str = ""  # this one exactly
    kind: str = ""
    name: str = ""
    after: tuple[str, int] = ("", 0)  # connection and number: those behind it

    def is_meant(self, session: Session) -> bool:
        """Whether this connection may have some."""
        is_ahead = session.connection_id >= self.after[0] and session.subscription_count > 0
        return is_ahead and self.whom.is_meant(session)

    def is_wanted(self, session: Session, one: Opened) -> bool:
        """Whether this is one."""
        return (
            (session.connection_id, one.sub) > self.after
            and self.filter in ("", one.filter)
            and self.kind in ("", one.kind)
            and self.name in ("", one.name)
            and (not self.topic or matches(one.filter, self.topic))
        )


@attrs.define(eq=False)
class Subscribed:
    """The call, as far as this node goes."""

    node: Node

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {"subscriptions": self.subscriptions}

    async def subscriptions(self, parameters: Mapping[str, Any]) -> object:
        """Those behind `after`, in order of their connections and numbers, and whether there are more."""
        wanted, limit = self._wanted(parameters), limit_of(parameters)
        found: list[Row] = []
        everybody = list(self.node.sessions.values())
        for start in range(0, len(everybody), LOOKED_AT_PER_TURN):
            for session in filter(wanted.is_meant, everybody[start : start + LOOKED_AT_PER_TURN]):
                found += self._rows(session, wanted)
            found = heapq.nsmallest(limit + 1, found, key=place)
            await trio.lowlevel.checkpoint()
        return {"subscriptions": found[:limit], "more": len(found) > limit}

    def _wanted(self, parameters: Mapping[str, Any]) -> Wanted:
        whom = whom_of(parameters, "user", "tenant", "connection")
        parameters = {name: value for name, value in parameters.items() if value is not None}
        kind = text_in(parameters, "kind")
        if kind not in ("", *KINDS):
            raise BadCall(f"kind is one of {', '.join(KINDS)}")
        topic, filter = text_in(parameters, "topic"), text_in(parameters, "filter")
        limits = self.node.limits
        for text, check in ((topic, check_topic), (filter, check_filter)):
            try:
                if text:
                    check(text, limits.max_topic_levels, limits.max_topic_bytes)
            except BadTopic as error:
                raise BadCall(f"{text!r}: {error}") from None
        name = text_in(parameters, "name")
        return Wanted(whom, topic, filter, kind, name, _after(text_in(parameters, "after")))

    def _rows(self, session: Session, wanted: Wanted) -> Iterator[Row]:
        identity = session.identity
        for one in opened(session):
            if wanted.is_wanted(session, one):
                yield {
                    "connection": session.connection_id,
                    "node": self.node.name,
                    "user": identity.user,
                    "tenant": identity.tenant,
                    **attrs.asdict(one),
                    "outbox_bytes": session.outbox_bytes,
                }


def place(row: Row) -> tuple[str, int]:
    """Where one stands in a list."""
    return row["connection"], row["sub"]


def limit_of(parameters: Mapping[str, Any]) -> int:
    """How many are asked for. Raises BadCall."""
    return count_in(parameters, "limit", DEFAULT_LISTED, MAX_LISTED)


def _after(text: str) -> tuple[str, int]:
    """CONNECTION/SUB, as the last one of a page. Raises BadCall."""
    if not text:
        return "", 0
    connection, _, number = text.rpartition("/")
    if not connection or not (number.isascii() and number.isdigit()):
        raise BadCall("after is CONNECTION/SUB, those of the last one so far")
    return connection, int(number[:16])
