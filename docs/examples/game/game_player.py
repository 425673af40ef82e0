"""A player that plays by itself: goes for the coin.

    python docs/examples/game/game_player.py yard ada [ws://127.0.0.1:7400]

It does what a page for people does: is present in the room, says which way it wants to go, and sees the newest
state of everybody. README.md beside this file has the topics.
"""

import sys
from math import hypot
from typing import Any, Final

import trio
import triode

COLOURS: Final = ("crimson", "orange", "seagreen", "royalblue", "purple")

TICKS_PER_WISH: Final = 20  # repeated for a server that has just started


class Player:
    """What one player knows of the game."""

    def __init__(self, client: triode.Client, room: str, name: str) -> None:
        self._client = client
        self._room = f"game/{room}"
        self._name = name
        self._wish = (0.0, 0.0)
        self._coin: dict[str, Any] | None = None
        self._score = 0
        self.member = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        me = {"name": self._name, "colour": COLOURS[len(self._name) % len(COLOURS)]}
        async with (
            trio.open_nursery() as nursery,
            self._client.subscribe(self._room, presence={"state": me}) as room,
        ):
            nursery.start_soon(self._watch, "coin")
            nursery.start_soon(self._watch, "state/+")
            async for event in room.events():
                match event:
                    case triode.Joined(
                        member=member, is_self=True
                    ):  # again, with another id, after a long absence
                        self.member = member.id
                        self._wish = (0.0, 0.0)
                    case triode.Joined(member=member):
                        print(f"{self._name}: {member.state['name']} is there", flush=True)

    async def _watch(self, what: str) -> None:
        """The newest of each: what has been overtaken is of no interest."""
        async with self._client.subscribe(f"{self._room}/{what}", from_="last", overflow="conflate") as states:
            async for message in states:
                if what == "coin":
                    self._coin = message.data
                elif message.topic.endswith(f"/{self.member}") and message.data is not None:
                    await self._decide(message.data)

    async def _decide(self, me: dict[str, Any]) -> None:
        if me["score"] != self._score:
            self._score = me["score"]
            print(f"{self._name} has {self._score} points", flush=True)
        if self._coin is None:
            return
        x, y = self._coin["x"] - me["x"], self._coin["y"] - me["y"]
        far = hypot(x, y) or 1.0
        wish = (round(x / far, 1), round(y / far, 1))
        if wish != self._wish or me["tick"] % TICKS_PER_WISH == 0:
            self._wish = wish
            data = {"x": wish[0], "y": wish[1]}
            await self._client.send(f"{self._room}/input/{self.member}", data)


async def main(room: str, name: str, url: str) -> None:
    """Play until the process is ended."""
    async with triode.connect(url, name="game-player") as client:
        await Player(client, room, name).run()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "ws://127.0.0.1:7400")
