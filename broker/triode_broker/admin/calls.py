"""The table of administration calls: durable subscriptions and groups, dead letters, and what tenants do.

Checks parameters, calls the core, says what it answers as plain data; formats nothing. Each call ends with a
flush, because what it caused (an `unsubscribed`, a delivery) waits in outboxes of the edge. Every answer names the
node that has it (`home`); what the names of other nodes are is `elsewhere`'s business.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import msgspec
from triode_protocol.packets import Position, Start

from triode_broker.admin.asking import ask
from triode_broker.admin.dead import DeadLetters, name_of, tenant_in
from triode_broker.admin.listener import BadCall, Call
from triode_broker.core.consumers import Consumers
from triode_broker.core.router import Router
from triode_broker.core.summaries import summary
from triode_broker.core.tenancy import Tenants
from triode_broker.core.tenants import name_inside, name_outside, tenant_of_name


def make_calls(
    node: str, router: Router, consumers: Consumers, now_ms: Callable[[], int], flush: Callable[[], None]
) -> dict[str, Call]:
    """What this node answers of its own names."""
    letters = DeadLetters(router, now_ms)
    subs = Subscriptions(router, consumers, letters, now_ms)
    plain: dict[str, Call] = {
        "subs.list": subs.list,
        "subs.show": subs.show,
        "subs.rewind": subs.rewind,
        "subs.delete": subs.delete,
        "dead.list": letters.list,
        "dead.retry": letters.retry,
        "dead.drop": letters.drop,
        "tenants.list": partial(_tenants, router.tenants),
    }
    return {name: partial(_answer, call, node, flush) for name, call in plain.items()}


async def _answer(call: Call, node: str, flush: Callable[[], None], parameters: Mapping[str, Any]) -> object:
    try:
        answer = await call(parameters)
    finally:
        flush()
    if isinstance(answer, list):
        names = sorted(answer, key=lambda one: (one.get("tenant", ""), one["name"]))
        return {"names": [{**one, "home": node} for one in names], "unanswered": []}
    assert isinstance(answer, dict)
    return {**answer, "home": node}


async def _tenants(tenants: Tenants, parameters: Mapping[str, Any]) -> object:
    """What this node has counted for each tenant, or for one."""
    tenant, rows = tenant_in(parameters), tenants.rows()
    return [
        {"name": name, **attrs.asdict(counts)} for name, counts in rows.items() if tenant is None or tenant == name
    ]


class Subscriptions:
    """Names for an operator's eyes."""

    def __init__(
        self, router: Router, consumers: Consumers, letters: DeadLetters, now_ms: Callable[[], int]
    ) -> None:
        self._router = router
        self._consumers = consumers
        self._letters = letters
        self._now_ms = now_ms

    async def list(self, parameters: Mapping[str, Any]) -> object:
        """All names, or those of a tenant."""
        tenant = tenant_in(parameters)
        counts = await self._letters.counts()
        return [
            {**one, "dead_letters": counts.get(name_inside(str(one["tenant"]), str(one["name"])), 0)}
            for one in self._consumers.list()
            if tenant is None or tenant == one["tenant"]
        ]

    async def show(self, parameters: Mapping[str, Any]) -> object:
        """One name."""
        name = name_of(parameters)
        self._consumers.find(name)
        letters = await self._letters.count(name)
        counts = summary(self._consumers.find(name))
        return {
            **self._consumers.show(name),
            "member_count": counts["members"],
            "pending_count": counts["pending"],
            "dead_letters": letters,
        }

    async def rewind(self, parameters: Mapping[str, Any]) -> object:
        """Go on from another place."""
        name = name_of(parameters)
        start = place_of(parameters.get("to"))
        self._check_store(name)
        after: dict[str, int] = await ask(partial(self._consumers.rewind, name, start, self._now_ms()))
        return {**_named(name), "after": after}

    async def delete(self, parameters: Mapping[str, Any]) -> object:
        """Forget a name."""
        name = name_of(parameters)
        self._check_store(name)

        def question(done: Callable[[bool], None]) -> None:
            self._consumers.delete(name, lambda: done(True))

        await ask(question)
        return {**_named(name), "dead_letters": await self._letters.count(name)}

    def _check_store(self, name: str) -> None:
        """What is changed must be kept. Raises BadCall; Refused where there is no such name."""
        if not self._consumers.find(name).is_durable or (state := self._router.store_of(name).state) == "ok":
            return
        if state == "failed":
            raise BadCall("the store has failed and keeps nothing: restart the node")
        raise BadCall("the disk is full and keeps nothing: make room first")


def _named(name: str) -> dict[str, str]:
    return {"name": name_outside(name), "tenant": tenant_of_name(name)}


def place_of(to: object) -> str | Start | dict[str, int]:
    """What a rewind may go to: "earliest", "new", {"since": ms} or {"after": position}. Raises BadCall."""
    if to in ("earliest", "new"):
        return str(to)
    try:
        if isinstance(to, dict) and to.keys() == {"after"}:
            return msgspec.convert(to["after"], Position)
        if isinstance(to, dict) and to.keys() == {"since"}:
            return msgspec.convert(to, Start)
    except msgspec.ValidationError as error:
        raise BadCall(f"to where? {error}") from None
    raise BadCall('to where? "earliest", "new", {"since": ms} or {"after": position}')
