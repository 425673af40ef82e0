"""Administration of clients on all nodes through any of them: what holds for one node is asked of the others too.

Knows the calls of this node and who the others are, not how they are reached. The surprising decision: a node that
has not answered is no error. What was asked holds wherever it got to, revocations reach the others when they come
back, and the answer names those that are missing: for a kick they are the ones to be asked again.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from triode_broker.admin.clients import Clients
from triode_broker.admin.elsewhere import PREFIX
from triode_broker.admin.listener import BadCall, Call, Missing
from triode_broker.admin.subscribed import Subscribed, limit_of, place
from triode_broker.core.revocations import Revocation

#: For other nodes: within it, what is revoked or kicked holds on all that can be reached (G10).
PATIENCE_SECONDS: Final = 5.0
#: What other nodes take revocations by (cluster.revoking).
TAKE: Final = "revocations"
#: Calls that other nodes may make here.
ASKED: Final = ("connections", "kick", "subscriptions")


class AllOthers(Protocol):
    """The other nodes of the cluster."""

    async def ask_all(
        self, method: str, parameters: Mapping[str, Any], seconds: float = PATIENCE_SECONDS
    ) -> tuple[dict[str, Any], list[str]]:
        """What all others answer, by node, and which have not."""


class Alone:
    """There are none."""

    async def ask_all(
        self, method: str, parameters: Mapping[str, Any], seconds: float = PATIENCE_SECONDS
    ) -> tuple[dict[str, Any], list[str]]:
        """Nothing."""
        return {}, []


async def ask_everywhere(
    node: str,
    own: Call,
    others: AllOthers,
    call: str,
    parameters: Mapping[str, Any],
    seconds: float = PATIENCE_SECONDS,
) -> tuple[dict[str, Any], list[str]]:
    """What this node, whose own call is given, and all others answer, by node, and which have not."""
    answer = await own(parameters)
    answers, unanswered = await others.ask_all(PREFIX + call, parameters, seconds)
    return {node: answer, **answers}, unanswered


class Everywhere:
    """The calls about clients."""

    def __init__(self, clients: Clients, subscribed: Subscribed, others: AllOthers) -> None:
        self._own = clients
        self._subscribed = subscribed
        self._node = clients.node.name
        self._others = others

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {
            "connections": self.connections,
            "kick": self.kick,
            "revoke": self.revoke,
            "unrevoke": self.unrevoke,
            "revocations": self.revocations,
            "subscriptions": self.subscriptions,
        }

    async def connections(self, parameters: Mapping[str, Any]) -> object:
        """Of all nodes, in order of their ids."""
        answers, unanswered = await self._ask("connections", parameters)
        found = sorted(
            (one for answer in answers.values() for one in answer["connections"]),
            key=lambda one: one["connection"],
        )
        limit = limit_of(parameters)
        more = len(found) > limit or any(answer["more"] for answer in answers.values())
        return {"connections": found[:limit], "more": more, "unanswered": unanswered}

    async def subscriptions(self, parameters: Mapping[str, Any]) -> object:
        """Of all nodes, in order of their connections."""
        answers, unanswered = await self._ask("subscriptions", parameters)
        found = sorted((one for answer in answers.values() for one in answer["subscriptions"]), key=place)
        limit = limit_of(parameters)
        more = len(found) > limit or any(answer["more"] for answer in answers.values())
        return {"subscriptions": found[:limit], "more": more, "unanswered": unanswered}

    async def kick(self, parameters: Mapping[str, Any]) -> object:
        """On all nodes."""
        answers, unanswered = await self._ask("kick", parameters)
        return {"closed": sum(answer["closed"] for answer in answers.values()), "unanswered": unanswered}

    async def _ask(self, call: str, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        own = self._own.calls() | self._subscribed.calls()
        return await ask_everywhere(self._node, own[call], self._others, call, parameters)

    async def revoke(self, parameters: Mapping[str, Any]) -> object:
        """Here, and then everywhere."""
        if parameters.get("connection") is not None:
            parameters = await self._credential(parameters)
        own: Any = await self._own.revoke(parameters)
        heard = await self._tell("revoked", own)
        return {**heard, "closed": own["closed"] + heard["closed"]}

    async def unrevoke(self, parameters: Mapping[str, Any]) -> object:
        """Here, and then everywhere."""
        heard = await self._tell("unrevoked", await self._own.unrevoke(parameters))
        del heard["closed"]
        return heard

    async def revocations(self, parameters: Mapping[str, Any]) -> object:
        """All nodes that reach each other know the same."""
        return await self._own.revocations(parameters)

    async def _tell(self, what: str, own: Any) -> dict[str, Any]:
        fields = {**own[what], "is_lifted": what == "unrevoked"}
        entry = msgspec.convert(fields, Revocation)
        answers, unanswered = await self._others.ask_all(TAKE, {"entries": [msgspec.to_builtins(entry)]})
        kept = {self._node: own["kept"]} | {node: answer["kept"] for node, answer in answers.items()}
        closed = sum(answer["closed"] for answer in answers.values())
        return {what: own[what], "closed": closed, "kept": kept, "unanswered": unanswered}

    async def _credential(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What a connection came in with, in its place. Raises BadCall."""
        rest = {name: value for name, value in parameters.items() if name != "connection"}
        if any(rest.get(name) is not None for name in ("user", "tenant", "token", "key")):
            raise BadCall("revoke what? a connection says itself who it is of")
        id = parameters["connection"]
        found: Any = await self.connections({"connection": id})
        if not found["connections"]:
            away = f"; no answer from {', '.join(found['unanswered'])}" if found["unanswered"] else ""
            raise Missing(f"there is no connection {id}{away}: `triode connections` lists who is connected")
        (facts,) = found["connections"]
        for kind in ("token", "key"):
            if facts[kind]:
                return {**rest, kind: facts[kind]}
        if not facts["user"]:
            raise BadCall(f"connection {id} came in without a credential: there is nothing to revoke; kick it")
        if facts["method"] == "certificate" and rest.get("seconds") is None:
            rest["seconds"] = 0  # it may be good for years
        return {**rest, "user": facts["user"], **({"tenant": facts["tenant"]} if facts["tenant"] else {})}
