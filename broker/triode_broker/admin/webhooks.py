"""The administration calls about webhooks: how they stand on each node, and a test of one.

Knows what they say of themselves as plain data, not what they are: they are the composition root's to hand in.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from triode_broker.admin.elsewhere import PREFIX
from triode_broker.admin.everywhere import AllOthers
from triode_broker.admin.listener import BadCall, Call, Missing


@attrs.define(eq=False)
class Hooks:
    """Of one node, and of the others through it."""

    node: str
    report: Callable[[], list[dict[str, Any]]]
    send_test: Callable[[str], Awaitable[Mapping[str, Any] | None]]
    others: AllOthers

    def own(self) -> dict[str, Call]:
        """What others may ask of this one."""
        return {"webhooks": self._here}

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {"webhooks": self.webhooks, "webhooks.test": self.test}

    async def _here(self, parameters: Mapping[str, Any]) -> object:
        tenant = parameters.get("tenant")
        rows = [row for row in self.report() if tenant in (None, row["tenant"])]
        return {"webhooks": [{**row, "node": self.node} for row in rows]}

    async def webhooks(self, parameters: Mapping[str, Any]) -> object:
        """Of all nodes, by name: nodes share the events of one."""
        own: Any = await self._here(parameters)
        answers, unanswered = await self.others.ask_all(PREFIX + "webhooks", parameters)
        found = [row for answer in (own, *answers.values()) for row in answer["webhooks"]]
        return {
            "webhooks": sorted(found, key=lambda row: (row["name"], row["node"])),
            "unanswered": unanswered,
        }

    async def test(self, parameters: Mapping[str, Any]) -> object:
        """Have this node send one a test event."""
        name, tenant = parameters.get("name"), parameters.get("tenant")
        if not isinstance(name, str) or not name:
            raise BadCall("which webhook?")
        known = [row for row in self.report() if row["name"] == name and tenant in (None, row["tenant"])]
        answer = await self.send_test(name) if known else None
        if answer is None:
            raise Missing(f"there is no webhook {name}")
        return answer
