"""Administration calls that watch: `figures` of all nodes, and their busiest topics and slowest connections.

Knows where to ask, not what there is to be counted: figures come from outside as plain data. The surprising
decision: rates are nobody's business here. All numbers are since the start of a node, and whoever draws takes the
difference of two answers: so any number of watchers cost no more than they ask.
"""

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import attrs
import trio

from triode_broker.admin.elsewhere import PREFIX
from triode_broker.admin.everywhere import AllOthers, ask_everywhere
from triode_broker.admin.listener import Call, Unable
from triode_broker.admin.parameters import count_in, text_in
from triode_broker.core.router import Router
from triode_broker.core.shard import Topic
from triode_broker.core.tenants import outside, tenant_of

MAX_LISTED: Final = 1_000
MAX_TEXT_CHARACTERS: Final = 1_024
DEFAULT_LISTED: Final = 20
LOOKED_AT_PER_TURN: Final = 5_000
#: For other nodes: who watches would rather see a node missing than wait.
PATIENCE_SECONDS: Final = 2.0


@attrs.define(eq=False)
class Watching:
    """The calls, as far as this node goes."""

    node: str
    router: Router
    report: Callable[[], dict[str, Any]]
    slowest: Callable[[int], list[dict[str, Any]]]  # so many connections that have most waiting, and why
    held: Callable[[Topic], tuple[int, int]]  # messages and bytes that are retained of it

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {"figures": self.figures, "topics": self.topics, "slow": self.slow}

    async def figures(self, parameters: Mapping[str, Any]) -> object:
        """What this node counts."""
        return self.report()

    async def slow(self, parameters: Mapping[str, Any]) -> object:
        """Connections for which something waits, the most of it first."""
        return {"connections": self.slowest(_limit(parameters))}

    async def topics(self, parameters: Mapping[str, Any]) -> object:
        """The busiest topics of shards that are here, by messages published in their logs' lives."""
        limit, prefix, tenant = _limit(parameters), _text(parameters, "prefix"), parameters.get("tenant")
        if tenant is not None:
            tenant = _text(parameters, "tenant")
        best: list[tuple[int, str, Topic]] = []
        everything = list(self.router.topics().values())
        known = len(everything) if tenant is None else 0  # S23: how many others have is not for a tenant
        for start in range(0, len(everything), LOOKED_AT_PER_TURN):
            some = everything[start : start + LOOKED_AT_PER_TURN]
            if tenant is not None:
                some = [topic for topic in some if tenant == tenant_of(topic.name)]
                known += len(some)
            found = [
                (topic.offset, topic.name, topic)
                for topic in some
                if topic.shard.is_here and outside(topic.name).startswith(prefix)
            ]
            best = heapq.nlargest(limit, best + found, key=_busy)
            await trio.lowlevel.checkpoint()
        return {"topics": [self._shown(topic) for _, _, topic in best], "known": known}

    def _shown(self, topic: Topic) -> dict[str, Any]:
        audience = self.router.audience(topic.name)
        retained, retained_bytes = self.held(topic)
        return {
            "topic": outside(topic.name),
            "tenant": tenant_of(topic.name),
            "published": max(topic.offset, 0),
            "subscribers": audience.size,
            "followers": len(audience.followers),
            "shard": topic.shard.name,
            "owner": self.node,
            "retained": retained,
            "retained_bytes": retained_bytes,
        }


@attrs.define(eq=False)
class WatchingAll:
    """The same of all nodes."""

    own: Watching
    others: AllOthers
    siblings: Collection[str]  # the other processes of this host
    page: Callable[[Sequence[Mapping[str, Any]], str], tuple[str, bytes]]  # raises ValueError, with what to do

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {"figures": self.figures, "topics": self.topics, "slow": self.slow, "metrics": self.metrics}

    async def metrics(self, parameters: Mapping[str, Any]) -> object:
        """The page of metrics of this host, as text: of all its processes, since they share a port."""
        accept = _text(parameters, "accept")
        reports = [self.own.report()]
        if self.siblings:
            answers, _ = await self.others.ask_all(PREFIX + "figures", {}, PATIENCE_SECONDS)
            reports += [answers[name] for name in sorted(self.siblings) if name in answers]
        try:
            content_type, text = self.page(reports, accept)
        except ValueError as error:
            raise Unable(str(error)) from None
        return {"content_type": content_type, "text": text.decode()}

    async def figures(self, parameters: Mapping[str, Any]) -> object:
        """By node, and who has not answered."""
        answers, unanswered = await self._ask("figures", parameters)
        return {"asked": self.own.node, "nodes": answers, "unanswered": unanswered}

    async def topics(self, parameters: Mapping[str, Any]) -> object:
        """Each topic from its owner; subscribers of all nodes are not added up."""
        limit = _limit(parameters)
        answers, unanswered = await self._ask("topics", parameters)
        found = [one for answer in answers.values() for one in answer["topics"]]
        best = heapq.nlargest(limit, found, key=lambda one: (one["published"], one["topic"]))
        known = sum(answer["known"] for answer in answers.values())
        return {"topics": best, "known": known, "unanswered": unanswered}

    async def slow(self, parameters: Mapping[str, Any]) -> object:
        """Of all nodes."""
        limit = _limit(parameters)
        answers, unanswered = await self._ask("slow", parameters)
        found = [{**one, "node": node} for node, answer in answers.items() for one in answer["connections"]]
        return {
            "connections": heapq.nlargest(limit, found, key=lambda one: one["waiting_bytes"]),
            "unanswered": unanswered,
        }

    async def _ask(self, call: str, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        own = self.own.calls()[call]
        return await ask_everywhere(self.own.node, own, self.others, call, parameters, PATIENCE_SECONDS)


def _busy(found: tuple[int, str, Topic]) -> tuple[int, str]:
    return found[0], found[1]


def _limit(parameters: Mapping[str, Any]) -> int:
    return count_in(parameters, "limit", DEFAULT_LISTED, MAX_LISTED)


def _text(parameters: Mapping[str, Any], name: str) -> str:
    return text_in(parameters, name, MAX_TEXT_CHARACTERS)
