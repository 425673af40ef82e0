"""docs/examples/game: players see each other move, points are made, and who is gone is taken off."""

import triode

from tests.examples.programs import Broker, next_of, program


async def test_players_play_see_each_other_and_leave(broker: Broker) -> None:
    """SPEC 3.2.13, 10: presence says who plays; a killed player leaves like any other, a moment later."""
    url = broker.socket_url
    async with (
        triode.connect(url) as client,
        program("game/game_server.py", "yard", url) as server,
        client.subscribe("game/yard/state/+", overflow="conflate") as states,
    ):
        assert await server.line() == "playing in yard"
        async with program("game/game_player.py", "yard", "ada", url) as ada:
            async with program("game/game_player.py", "yard", "bob", url) as bob:
                assert {await server.line(), await server.line()} == {"ada has come", "bob has come"}
                for name in ("ada", "bob"):
                    await until_moving(states, name)
                scorer = await next_of(states, lambda state: bool(state.data) and state.data["score"] > 0)
                winner = {"ada": ada, "bob": bob}[scorer.data["name"]]
                await winner.until(lambda line: line.endswith("has 1 points"))
                who = await client.presence("game/yard")
                assert {member.state["name"] for member in who.members} == {"ada", "bob"}
                await bob.dies()
            gone = await next_of(states, lambda state: state.data is None)
            assert gone.topic.removeprefix("game/yard/state/") in {member.id for member in who.members}
            assert "bob has left" in await server.until(lambda line: "left" in line)
            await next_of(states, lambda state: bool(state.data) and state.data["name"] == "ada")  # who plays on


async def until_moving(states: triode.Messages, name: str) -> None:
    """Until a player is seen at another place, at a later tick."""
    first = await next_of(states, lambda state: bool(state.data) and state.data["name"] == name)
    was = first.data["x"], first.data["y"]
    moved = await next_of(
        states, lambda state: state.topic == first.topic and (state.data["x"], state.data["y"]) != was
    )
    assert moved.data["tick"] > first.data["tick"]
