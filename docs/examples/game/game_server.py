"""The one program that decides where everybody is: moves the players 20 times a second and says so.

    python docs/examples/game/game_server.py yard [ws://127.0.0.1:7400]

Players come and go by their presence on `game/<room>`; README.md beside this file has the topics. Knows nothing of
how players decide (game_player.py) or what they draw.
"""

import random
import sys
from dataclasses import dataclass, field
from math import hypot
from typing import Any, Final

import trio
import triode

TICK_SECONDS: Final = 1 / 20
SIZE: Final = 100.0  # of the yard, each way
STEP: Final = 1.5  # a tick, at most
REACH: Final = 3.0  # to the coin
STATE_TTL_MS: Final = 2_000  # of no use to anybody afterwards


@dataclass
class Player:
    """Where one is, and where one wants to go."""

    name: str
    colour: str
    x: float
    y: float
    score: int = 0
    wish: tuple[float, float] = (0.0, 0.0)


@dataclass
class Yard:
    """The state of the game. Knows no broker."""

    dice: random.Random = field(default_factory=random.Random)
    players: dict[str, Player] = field(default_factory=dict)
    tick: int = 0
    coin: tuple[float, float] = (SIZE / 2, SIZE / 2)

    def enter(self, player: str, state: object) -> None:
        """A member of the room; one that is there already may have another name or colour."""
        match state:
            case {"name": str(name), "colour": str(colour)}:
                pass
            case _:
                name, colour = "somebody", "grey"
        known = self.players.get(player)
        if known is None:
            x, y = self._anywhere()
            self.players[player] = Player(name, colour, x, y)
        else:
            known.name, known.colour = name, colour

    def leave(self, player: str) -> None:
        """It need not be there."""
        self.players.pop(player, None)

    def wish(self, player: str, wish: object) -> None:
        """Where a player wants to go. What makes no sense, and who is not here, has no effect."""
        match wish:
            case {"x": int() | float() as x, "y": int() | float() as y} if player in self.players:
                length = max(1.0, hypot(x, y))
                self.players[player].wish = (x / length, y / length)

    def advance(self) -> None:
        """One tick."""
        self.tick += 1
        for player in self.players.values():
            player.x = min(SIZE, max(0.0, player.x + STEP * player.wish[0]))
            player.y = min(SIZE, max(0.0, player.y + STEP * player.wish[1]))
            if hypot(player.x - self.coin[0], player.y - self.coin[1]) <= REACH:
                player.score += 1
                self.coin = self._anywhere()

    def state(self, player: str) -> dict[str, Any]:
        """As the players are told."""
        one = self.players[player]
        place = {"x": round(one.x, 2), "y": round(one.y, 2)}
        return {"name": one.name, "colour": one.colour, **place, "score": one.score, "tick": self.tick}

    def _anywhere(self) -> tuple[float, float]:
        return self.dice.uniform(0, SIZE), self.dice.uniform(0, SIZE)


class Game:
    """A yard and its room at the broker."""

    def __init__(self, client: triode.Client, room: str) -> None:
        self._client = client
        self._room = room
        self._yard = Yard()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_members)
            nursery.start_soon(self._follow_wishes)
            nursery.start_soon(self._tick)

    async def _follow_members(self) -> None:
        topic = f"game/{self._room}"
        async with self._client.subscribe(topic, presence="watch") as messages:
            async for event in messages.events():
                match event:
                    case triode.Joined(member=member):
                        self._yard.enter(member.id, member.state)
                        print(f"{self._yard.players[member.id].name} has come", flush=True)
                    case triode.Left(member=member):
                        await self._take_off(member.id)
                    case triode.CaughtUp():  # at the start, and after a reconnect: who came and went meanwhile?
                        await self._take_members()

    async def _take_members(self) -> None:
        present = await self._client.presence(f"game/{self._room}")
        for member in present.members:
            self._yard.enter(member.id, member.state)
        if present.complete:
            for player in self._yard.players.keys() - {member.id for member in present.members}:
                await self._take_off(player)

    async def _take_off(self, player: str) -> None:
        if gone := self._yard.players.get(player):
            print(f"{gone.name} has left with {gone.score} points", flush=True)
        self._yard.leave(player)
        await self._say(f"state/{player}", None)

    async def _follow_wishes(self) -> None:
        async with self._client.subscribe(f"game/{self._room}/input/+", overflow="conflate") as wishes:
            async for message in wishes:
                self._yard.wish(message.topic.rpartition("/")[2], message.data)

    async def _tick(self) -> None:
        at = trio.current_time()
        while True:
            self._yard.advance()
            await self._say("coin", {"x": self._yard.coin[0], "y": self._yard.coin[1], "tick": self._yard.tick})
            for player in list(self._yard.players):
                await self._say(f"state/{player}", self._yard.state(player))
            at = max(at + TICK_SECONDS, trio.current_time())  # a late tick is not made up for
            await trio.sleep_until(at)

    async def _say(self, what: str, data: object) -> None:
        """Without acknowledgement: the next one is 50 ms away. Without a connection there is nobody to tell."""
        if self._client.state is triode.State.CONNECTED:
            await self._client.send(f"game/{self._room}/{what}", data, ttl_ms=STATE_TTL_MS)


async def main(room: str, url: str) -> None:
    """Play until the process is ended."""
    async with triode.connect(url, name="game-server") as client:
        print(f"playing in {room}", flush=True)
        await Game(client, room).run()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:7400")
