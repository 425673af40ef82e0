"""Administration call `route`: what would happen to a message of a topic, found without publishing one.

Knows router, consumers and the rules of the settings. The surprising decision: who may publish is told by the rows
of the rules and not by asking for each user. Who the users are only their tokens say, and those the broker has not
seen.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
from triode_protocol.codec import Refused
from triode_protocol.topics import BadTopic, is_reserved, matches

from triode_broker.admin.elsewhere import PREFIX
from triode_broker.admin.everywhere import AllOthers
from triode_broker.admin.listener import BadCall, Call
from triode_broker.config import Permission, TopicRule
from triode_broker.core.consumers import Consumers
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.core.tenants import inside, is_tenant, name_outside

#: Durable subscriptions and groups that are looked through.
MAX_LOOKED_AT: Final = 10_000
#: Of each kind, by name; more are counted.
MAX_NAMED: Final = 100
#: For other nodes: who asks would rather see a node missing than wait.
PATIENCE_SECONDS: Final = 2.0


@attrs.define(eq=False)
class Routing:
    """The call, here and on all nodes."""

    node: str
    router: Router
    consumers: Consumers
    owner_of: Callable[
        [Shard], tuple[str, int]
    ]  # the node that owns it, "" where that is not known; and the epoch
    permissions: Callable[[], Sequence[Permission] | None]  # in force; None: nobody is asked who they are
    others: AllOthers

    def own(self) -> dict[str, Call]:
        """What other nodes ask this one."""
        return {"route": self.here}

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {"route": self.route}

    async def here(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Who would be told on this node."""
        topic = self._topic(parameters)
        audience = self.router.audience(topic)
        names: dict[str, list[str]] = {"durable": [], "group": []}
        for consumer in self.consumers.matching(topic, MAX_LOOKED_AT):
            names["durable" if consumer.is_durable else "group"].append(name_outside(consumer.name))
        return {
            "live": len(audience.subscriptions),
            "connections": audience.size,
            "kept_out": audience.kept_out,
            "durable_count": len(names["durable"]),
            "group_count": len(names["group"]),
            "durable": sorted(names["durable"])[:MAX_NAMED],
            "group": sorted(names["group"])[:MAX_NAMED],
        }

    async def route(self, parameters: Mapping[str, Any]) -> object:
        """Rule, shard, owner, and who would be told on each node. Raises BadCall."""
        topic = self._topic(parameters)
        own = await self.here(parameters)
        answers, unanswered = await self.others.ask_all(PREFIX + "route", parameters, PATIENCE_SECONDS)
        rule, shard = self.router.rule_of(topic), self.router.shard_of(topic)
        owner, epoch = self.owner_of(shard)
        return {
            "topic": parameters["topic"],
            "tenant": parameters.get("tenant") or "",
            "rule": rule.filter,
            "storage": rule.storage,
            "retention": _retention(rule),
            "ttl_seconds": rule.ttl_seconds,
            "dedupe_seconds": rule.dedupe_seconds,
            "compact": rule.compact,
            "shard": shard.name,
            "log": shard.log.name,
            "owner": owner,
            "epoch": epoch,
            "is_reachable": shard.is_reachable,
            "publishers": self._publishers(str(parameters["topic"]), parameters.get("tenant") or ""),
            "nodes": {self.node: own, **answers},
            "unanswered": unanswered,
        }

    def _topic(self, parameters: Mapping[str, Any]) -> str:
        topic, tenant = parameters.get("topic"), parameters.get("tenant") or ""
        if not isinstance(topic, str) or not topic:
            raise BadCall("which topic?")
        if not isinstance(tenant, str) or not is_tenant(tenant):
            raise BadCall("that is no tenant")
        try:
            self.router.check_readable(topic)
        except (Refused, BadTopic) as error:
            raise BadCall(str(getattr(error, "message", error))) from None
        return inside(tenant, topic)

    def _publishers(self, topic: str, tenant: str) -> list[dict[str, str]]:
        """The rows of the rules by which somebody may publish there; one without a role is everybody's."""
        if is_reserved(topic):
            return []
        rows = self.permissions()
        if rows is None:
            return [{"role": "", "tenant": "", "filter": "#", "but": ""}]
        found = []
        for row in rows:
            if row.tenant not in ("", tenant):
                continue
            allowed = next((filter for filter in row.publish if _may_match(filter, topic)), "")
            denied = next((filter for filter in row.deny_publish if _may_match(filter, topic)), "")
            if allowed or denied:
                found.append({"role": row.role, "tenant": row.tenant, "filter": allowed, "but": denied})
        return found


def _retention(rule: TopicRule) -> dict[str, int]:
    names = ("messages", "seconds", "bytes")
    return {name: getattr(rule, f"retention_{name}") for name in names}


def _may_match(filter: str, topic: str) -> bool:
    """Placeholders ({user}) stand for one level, whoever it is."""
    levels = ["+" if level.startswith("{") else level for level in filter.split("/")]
    return matches("/".join(levels), topic)
