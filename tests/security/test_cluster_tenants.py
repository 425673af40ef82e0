"""S23 over real nodes: tenants who use the same topics, names, users and message ids, from different nodes.

Each tenant reads at one node and writes at another; where a topic or a name is at home differs between tenants.
"""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
import triode

from tests.security.nodes import SETTINGS, Nodes, nodes
from tests.security.withdrawing import token

TENANTS = {"": ("n1", "n2"), "acme": ("n2", "n1"), "beta": ("n1", "n1")}  # reads at, writes at
PATIENCE_SECONDS = 60.0
ON_DISK = '[[topics]]\nfilter = "jobs/#"\nstorage = "disk"\n'


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes(tmp_path_factory.mktemp("nodes"), SETTINGS + ON_DISK) as found:
        yield found


def of(tenant: str) -> str:
    """A token of ann; with what names no tenant she is of none."""
    more: dict[str, Any] = {"tenant": tenant} if tenant else {}
    return token("ann", roles=["all"], **more)


class Side:
    """One tenant's two clients, and all that can be heard with them."""

    def __init__(self, tenant: str, reader: triode.Client, writer: triode.Client) -> None:
        self.tenant = tenant
        self.mark = f"of {tenant}"
        self.reader, self.writer = reader, writer

    async def listen(self, stack: AsyncExitStack) -> None:
        """Before anything is said."""
        reader = self.reader
        self.messages = await stack.enter_async_context(reader.subscribe("#"))
        self.letters = await stack.enter_async_context(reader.subscribe("$dead/#"))
        self.jobs = await stack.enter_async_context(reader.consume("jobs/#", durable="worker"))
        here = self.writer.subscribe("rooms/chat", presence={"state": self.mark})
        await stack.enter_async_context(here)

    async def say(self) -> None:
        """The same as all others, but for the mark."""
        for topic in ("rooms/chat", "jobs/1"):
            place = await self.writer.publish(topic, self.mark, message_id=f"{topic}-1")
            assert (place.offset, place.duplicate) == (1, False)
        job = await anext(self.jobs)
        assert isinstance(job, triode.Delivery)
        assert job.data == self.mark
        await job.reject()

    async def end(self) -> None:
        """When everybody has said all."""
        for topic in ("rooms/chat", "jobs/1"):
            await self.writer.publish(topic, "end")

    async def heard(self) -> dict[str, list[Any]]:
        """By each way."""
        found = [await anext(self.messages) for _ in range(4)]
        topics = ("rooms/chat", "jobs/1")
        letters = [await anext(self.letters)]
        last = await anext(self.jobs)
        assert isinstance(last, triode.Delivery)
        members = (await self.reader.presence("rooms/chat")).members
        told: dict[str, list[Any]] = {
            f"live {at}": [one.data for one in found if one.topic == at] for at in topics
        }
        for at in (*topics, "$dead/worker"):
            told[f"history {at}"] = [one.data for one in (await self.reader.history(at, last=9)).messages]
        more = {"letters": [one.data for one in letters], "jobs": [last.data]}
        return {**told, **more, "members": [one.state for one in members]}

    @property
    def due(self) -> dict[str, list[Any]]:
        """What it would hear if it were alone."""
        own, both = [self.mark], [self.mark, "end"]
        topics = {f"{way} {at}": both for way in ("live", "history") for at in ("rooms/chat", "jobs/1")}
        return {**topics, "history $dead/worker": own, "letters": own, "jobs": ["end"], "members": own}


async def test_s23_tenants_of_different_nodes_do_not_meet(town: Nodes) -> None:
    """S23: messages, presence, history, names, dead letters, ids; and who is revoked is so in the one tenant."""
    async with AsyncExitStack() as stack:
        sides = []
        for tenant, places in TENANTS.items():
            clients = [triode.connect(town.url(name), token=of(tenant)) for name in places]
            sides.append(Side(tenant, *[await stack.enter_async_context(client) for client in clients]))
        with trio.fail_after(PATIENCE_SECONDS):
            for step in (lambda side: side.listen(stack), Side.say, Side.end):
                async with trio.open_nursery() as nursery:
                    for side in sides:
                        nursery.start_soon(step, side)
            for side in sides:
                assert await side.heard() == side.due
            answer = await town.ask("n2", "dead.list")
            assert sorted((one["tenant"], one["count"]) for one in answer["names"]) == [
                (tenant, 1) for tenant in TENANTS
            ]
            counted = {tenant: [0, 0] for tenant in TENANTS}
            for row in (await town.ask("n1", "tenants.list"))["names"]:
                counted[row["name"]][0] += row["publishes"]
                counted[row["name"]][1] += row["refused"]
            assert counted == {tenant: [4, 0] for tenant in TENANTS}
        answer = await town.ask("n1", "revoke", user="ann", tenant="acme")
        assert (answer["closed"], answer["unanswered"]) == (2, [])
        for side in sides:
            if side.tenant != "acme":
                place = await side.writer.publish("rooms/after", side.mark)
                assert place.offset == 1
