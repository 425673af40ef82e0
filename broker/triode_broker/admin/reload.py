"""The administration calls that change how a node runs: `reload` and `log_level`.

Knows what they are called with, not what they do. The surprising decision: with `cluster` each node reads its own
file. Nothing is sent from one to the other, so a node whose file is wrong says so and stays as it is.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from triode_broker.admin.elsewhere import PREFIX
from triode_broker.admin.everywhere import AllOthers
from triode_broker.admin.listener import Call
from triode_broker.admin.parameters import flag_in


class Operating:
    """Of one node, and of the others through it."""

    def __init__(
        self, node: str, again: Callable[[], Awaitable[object]], log_level: Call, others: AllOthers
    ) -> None:
        self._node = node
        self._again = again
        self._log_level = log_level
        self._others = others

    def own(self) -> dict[str, Call]:
        """What others may ask of this one."""
        return {"reload": self._reload, "log_level": self._log_level}

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {"reload": self.reload, "log_level": self.log_level}

    async def _reload(self, parameters: Mapping[str, Any]) -> object:
        return await self._again()

    async def reload(self, parameters: Mapping[str, Any]) -> object:
        """Read the settings again, here or, with `cluster`, on every node its own."""
        return await self._ask("reload", self._reload, parameters)

    async def log_level(self, parameters: Mapping[str, Any]) -> object:
        """What the log's level is, or is to be."""
        return await self._ask("log_level", self._log_level, parameters)

    async def _ask(self, name: str, call: Call, parameters: Mapping[str, Any]) -> object:
        is_for_all = flag_in(parameters, "cluster")
        rest = {key: value for key, value in parameters.items() if key != "cluster"}
        answers, unanswered = {self._node: await call(rest)}, list[str]()
        if is_for_all:
            found, unanswered = await self._others.ask_all(PREFIX + name, rest)
            answers |= found
        return {"nodes": answers, "unanswered": unanswered}
