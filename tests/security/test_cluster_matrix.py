"""S13 over real nodes: every way in and out, where the message, who asks and what they ask about are apart.

Ann is connected to n2, Bob to n1, where topics and names are at home too. Each way is gone with two topics of one
shard, `open` and `closed`; what comes through after Ann's rights have become what they are at the end is what they
allow then (I12). The last message is always on the open topic: what comes behind the closed one's place says that
there was nothing.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.security.nodes import ACTIONS, Street
from tests.security.withdrawing import token
from tests.spec.client import Packet, RawClient

OPEN, CLOSED = "open", "closed"
END = "that is all"
DELAY_MS = 200
PATIENCE_SECONDS = 30


class Room:
    """Ann, whose rights are in question, Bob, who may do everything, and two topics."""

    def __init__(self, street: Street, case: str, storage: str, before: str, after: str) -> None:
        self.street = street
        self.case = case
        town = street.nodes
        self.topics = {name: town.topic(f"{case}/{name}/{storage}", "n1", storage) for name in (CLOSED, OPEN)}
        self.names = {name: town.name(f"{case}-{name}", "n1") for name in (CLOSED, OPEN)}
        self._before, self._after = before, after

    async def enter(self) -> None:
        """Both of them."""
        self.bob = await self.street.enter("n1", token(f"bob-{self.case}", roles=["all"]))
        self.ann = await self.street.enter("n2", self.token(self._before))

    def token(self, rights: str) -> str:
        """Ann's; everything but what is closed, or everything."""
        claims: dict[str, Any] = {"roles": ["all"]}
        if rights == "part":
            closed = [self.topics[CLOSED], f"$dead/{self.names[CLOSED]}"]
            claims["permissions"] = {f"deny_{action}": closed for action in ACTIONS}
        return token(f"ann-{self.case}", **claims)

    @property
    def first(self) -> str:
        """Ann's token at the beginning."""
        return self.token(self._before)

    @property
    def last(self) -> str:
        """And at the end."""
        return self.token(self._after)

    async def turn(self, client: RawClient | None = None) -> None:
        """Her rights become what they are at the end; what came until then does not count."""
        client = client or self.ann
        await client.send({"type": "auth", "id": 900, "token": self.last})
        while (await client.receive())["type"] != "authorized":
            pass

    async def each(self, ask: Callable[[int, str, str], Awaitable[object]]) -> None:
        """For both: a number, the topic, the name."""
        for number, which in enumerate((CLOSED, OPEN), 1):
            await ask(number, self.topics[which], self.names[which])

    async def subscribe(self, sub: int, filter: str, *, client: RawClient | None = None, **fields: Any) -> None:
        """And the answer has come, whatever it is. `from_` stands for `from`."""
        if "from_" in fields:
            fields["from"] = fields.pop("from_")
        client = client or self.ann
        await client.request({"type": "subscribe", "sub": sub, "filter": filter, **fields})

    async def tell(self, client: RawClient | None = None, **fields: Any) -> None:
        """Publish on both, and then that this was all; what is forbidden is not said."""
        client = client or self.bob
        for name in (CLOSED, OPEN):
            await client.publish(self.topics[name], 1, **fields)
        answer = await client.publish(self.topics[OPEN], END, **fields)
        assert answer["type"] == "published", answer

    async def heard(self, client: RawClient | None = None) -> set[str]:
        """Of which of them anything came before the end."""
        client = client or self.ann
        came: set[str] = set()
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                packet = await client.receive()
                message = packet.get("message", packet)
                if packet["type"] in ("message", "delivery"):
                    if message["data"] == END:
                        return came
                    came |= {name for name, topic in self.topics.items() if topic == message["topic"]}

    async def answered(self, asked: str, client: RawClient | None = None) -> set[str]:
        """Ask about each, and of which there is anything."""
        client = client or self.ann
        answers = {name: await client.request({"type": asked, "topic": at}) for name, at in self.topics.items()}
        assert {one.get("name", asked) for one in answers.values()} <= {"forbidden", asked}
        return {name for name, one in answers.items() if one.get("messages") or one.get("members")}


# Ways out, to who subscribes


async def live(room: Room) -> set[str]:
    await room.subscribe(1, f"{room.case}/#")
    await room.turn()
    await room.tell()
    return await room.heard()


async def live_by_exact_topics(room: Room) -> set[str]:
    await room.each(lambda sub, topic, _: room.subscribe(sub, topic))
    await room.turn()
    await room.tell()
    return await room.heard()


async def delayed(room: Room) -> set[str]:
    await room.subscribe(1, f"{room.case}/#")
    at = int(time.time() * 1000) + DELAY_MS
    await room.bob.publish(room.topics[CLOSED], 1, deliver_at_ms=at)
    await room.turn()
    await room.tell(deliver_at_ms=at)
    return await room.heard()


async def resumed_at_another_node(room: Room) -> set[str]:
    """She was at n1 before."""
    early = await room.street.enter("n1", room.first)
    answer = await early.subscribe(1, f"{room.case}/#")
    await early.cut()
    await room.tell()
    late = await room.street.enter("n2", room.last)
    await room.subscribe(1, f"{room.case}/#", client=late, after=answer["after"])
    return await room.heard(late)


def past(**start: Any) -> Callable[[Room], Awaitable[set[str]]]:
    async def way(room: Room) -> set[str]:
        await room.tell()
        await room.turn()
        await room.subscribe(1, f"{room.case}/#", **start)
        return await room.heard()

    return way


async def last_of_a_topic(room: Room) -> set[str]:
    await room.tell()
    await room.turn()
    await room.each(lambda sub, topic, _: room.subscribe(sub, topic, from_={"last": 2}))
    return await room.heard()


# Ways out, to who asks


async def history(room: Room) -> set[str]:
    await room.tell()
    await room.turn()
    return await room.answered("history")


async def who_is_present(room: Room) -> set[str]:
    await room.each(lambda sub, topic, _: room.subscribe(sub, topic, client=room.bob, presence={"state": 1}))
    await room.turn()
    return await room.answered("presence")


# Presence


async def watching(room: Room) -> set[str]:
    await room.each(lambda sub, topic, _: room.subscribe(sub, topic, presence="watch"))
    await room.answered("presence")  # n1 has heard of the watching before it is asked
    await room.turn()
    await room.each(lambda sub, topic, _: room.subscribe(sub, topic, client=room.bob, presence={"state": 1}))
    return await until_joined(room, room.ann)


async def being_seen(room: Room) -> set[str]:
    await room.each(lambda sub, topic, _: room.subscribe(sub, topic, presence={"state": 1}))
    await room.turn()
    return await room.answered("presence", room.bob)


async def until_joined(room: Room, client: RawClient) -> set[str]:
    """The one of the open topic comes behind that of the closed one."""
    came: set[str] = set()
    with trio.fail_after(PATIENCE_SECONDS):
        while OPEN not in came:
            packet = await client.receive()
            if packet["type"] == "joined":
                came |= {name for name, topic in room.topics.items() if topic == packet["topic"]}
    return came


# Acknowledged ones, of a name at home at n1; and its dead letters


async def durable(room: Room) -> set[str]:
    await room.each(lambda sub, topic, name: room.subscribe(sub, topic, durable=name))
    await room.turn()
    await room.tell()
    return await room.heard()


async def group_with_a_backlog(room: Room) -> set[str]:
    await room.tell()
    await room.turn()
    await room.each(lambda sub, topic, name: room.subscribe(sub, topic, group=name, from_="earliest"))
    return await room.heard()


async def dead_letters(room: Room) -> set[str]:
    await room.each(lambda sub, _, name: room.subscribe(sub, f"$dead/{name}"))
    await room.turn()
    await reject(room)
    return await until_dead(room)


async def dead_letters_of_the_past(room: Room) -> set[str]:
    await reject(room)
    await room.turn()
    await room.each(lambda sub, _, name: room.subscribe(sub, f"$dead/{name}", from_="earliest"))
    return await until_dead(room)


async def dead_letters_asked_for(room: Room) -> set[str]:
    await reject(room)
    room.topics = {name: f"$dead/{room.names[name]}" for name in room.topics}
    await room.turn()
    return await room.answered("history")


async def reject(room: Room) -> None:
    """Bob has had a message of each topic and wants none of them."""

    async def one(sub: int, topic: str, name: str) -> None:
        await room.subscribe(sub, topic, client=room.bob, group=name)
        await room.bob.publish(topic, 1)
        place: Packet = {}
        with trio.fail_after(PATIENCE_SECONDS):
            while not place:
                packet = await room.bob.receive()
                place = packet["message"] if packet["type"] == "delivery" else {}
        told = {"type": "nack", "sub": sub, "log": place["log"], "pos": place["pos"], "attempt": 1}
        answer = await room.bob.request({**told, "reject": True})
        assert answer["type"] == "acked", answer

    await room.each(one)


async def until_dead(room: Room) -> set[str]:
    """The letter of the open name lies behind that of the other, in one log."""
    came: set[str] = set()
    letters = {f"$dead/{name}": which for which, name in room.names.items()}
    with trio.fail_after(PATIENCE_SECONDS):
        while OPEN not in came:
            packet = await room.ann.receive()
            if packet["type"] in ("message", "delivery"):
                came.add(letters[packet.get("message", packet)["topic"]])
    return came


# Ways in


def published(delay_ms: int = 0) -> Callable[[Room], Awaitable[set[str]]]:
    async def way(room: Room) -> set[str]:
        await room.subscribe(1, f"{room.case}/#", client=room.bob)
        await room.turn()
        due = {"deliver_at_ms": int(time.time() * 1000) + delay_ms} if delay_ms else {}
        await room.tell(room.ann, **due)
        return await room.heard(room.bob)

    return way


async def will(room: Room) -> set[str]:
    """Both of her connections are lost, and what they left is judged or gone when they are."""
    await room.subscribe(1, f"{room.case}/#", client=room.bob)
    for topic in room.topics.values():
        client, answer = await room.street.knock("n2", room.first, will={"topic": topic, "data": 1})
        if answer["type"] == "connected":
            await room.turn(client)
            await client.cut()
        else:
            assert (answer["name"], answer["field"]) == ("forbidden", "topic")
    await room.ann.cut()
    with trio.fail_after(PATIENCE_SECONDS):
        while (await room.street.nodes.ask("n2", "connections", user=f"ann-{room.case}"))["connections"]:
            await trio.lowlevel.checkpoint()
    late = await room.street.enter("n2", room.last)
    await late.publish(room.topics[OPEN], END)
    return await room.heard(room.bob)


WAYS: dict[str, Callable[[Room], Awaitable[set[str]]]] = {
    "live": live,
    "live-exact": live_by_exact_topics,
    "delayed": delayed,
    "resumed": resumed_at_another_node,
    "earliest": past(from_="earliest"),
    "since": past(from_={"since": 0}),
    "last": last_of_a_topic,
    "history": history,
    "presence": who_is_present,
    "watched": watching,
    "seen": being_seen,
    "durable": durable,
    "backlog": group_with_a_backlog,
    "dead": dead_letters,
    "dead-past": dead_letters_of_the_past,
    "dead-history": dead_letters_asked_for,
    "publish": published(),
    "publish-delayed": published(DELAY_MS),
    "will": will,
}


@pytest.mark.parametrize("storage", ["memory", "disk"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("all", "all", id="allowed"),
        pytest.param("part", "part", id="denied"),
        pytest.param("all", "part", id="revoked-meanwhile"),
    ],
)
@pytest.mark.parametrize("way", list(WAYS))
async def test_s13_what_is_allowed_passes_between_nodes_and_nothing_else(
    street: Street, way: str, before: str, after: str, storage: str
) -> None:
    """S13, G10, I12; SPEC 11.4, 11.5"""
    room = Room(street, f"{way}-{before}-{after}-{storage}", storage, before, after)
    await room.enter()
    came = await WAYS[way](room)
    assert came == ({OPEN} if after == "part" else {OPEN, CLOSED})
