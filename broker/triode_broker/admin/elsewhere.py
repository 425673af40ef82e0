"""Administration of a whole cluster through any of its nodes: a call about a name goes to the name's home.

Knows the table of calls and who the others are, not how they are reached. Without a cluster this module is not
used, and every name is at home here. The surprising decision: nobody is asked who they are. The socket file is the
operator's proof (docs/decisions/0006), and the secret of the cluster is what nodes prove to each other.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from triode_broker.admin.dead import name_of
from triode_broker.admin.listener import BadCall, Call

#: Calls without a name: of every node.
LISTS: Final = ("subs.list", "dead.list", "tenants.list")
#: Of letters in one answer of another node, which has to fit into a message between nodes.
MAX_CARRIED_BYTES: Final = 1_048_576
PREFIX: Final = "admin."


class Others(Protocol):
    """The other nodes of the cluster."""

    def home_of(self, name: str) -> str:
        """The node that is the home of a name. Raises Refused where nobody knows."""

    async def ask(self, node: str, method: str, parameters: Mapping[str, Any]) -> Any:
        """What another node answers. Raises Refused, or ValueError for what it says cannot be asked."""

    async def ask_all(self, method: str, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """What all others answer, by node, and which have not."""


def from_anywhere(node: str, calls: Mapping[str, Call], others: Others) -> dict[str, Call]:
    """The same calls, for names of all nodes."""
    return {name: _Routed(node, name, call, others).answer for name, call in calls.items()}


def for_others(calls: Mapping[str, Call]) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
    """What other nodes may ask this one, by method."""
    return {PREFIX + name: partial(_answer, call) for name, call in calls.items()}


async def _answer(call: Call, parameters: Mapping[str, Any]) -> object:
    try:
        return await call(parameters)
    except BadCall as error:
        raise ValueError(str(error)) from None


class _Routed:
    """One call, wherever its answer is."""

    def __init__(self, node: str, name: str, call: Call, others: Others) -> None:
        self._node = node
        self._name = name
        self._call = call
        self._others = others

    async def answer(self, parameters: Mapping[str, Any]) -> object:
        """Ask the name's home, or everybody. Raises Refused, BadCall."""
        if self._name in LISTS and not parameters.get("name"):
            return await self._collect(parameters)
        home = self._others.home_of(name_of(parameters))
        if home == self._node:
            return await self._call(parameters)
        if self._name == "dead.list":
            parameters = {**parameters, "max_bytes": MAX_CARRIED_BYTES}
        try:
            return await self._others.ask(home, PREFIX + self._name, parameters)
        except ValueError as error:
            raise BadCall(str(error)) from None

    async def _collect(self, parameters: Mapping[str, Any]) -> object:
        own: Any = await self._call(parameters)
        answers, unanswered = await self._others.ask_all(PREFIX + self._name, parameters)
        names = [*own["names"], *(one for answer in answers.values() for one in answer["names"])]
        return {"names": sorted(names, key=_place), "unanswered": unanswered}


def _place(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """In a list: those of a tenant together. A node of an older build knows of none."""
    return one.get("tenant", ""), one["name"], one["home"]
