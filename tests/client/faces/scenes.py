"""Scenes and looks that several tests of the faces share."""

import triode

from tests.client.broker import Line


async def goodbye(line: Line) -> None:
    """The scene of a client that comes and goes."""
    await line.accept()
    await line.goodbye()


def state_of(client: triode.Client) -> triode.State:
    """Its state, which a type checker cannot think constant."""
    return client.state
