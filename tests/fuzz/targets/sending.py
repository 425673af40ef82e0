"""How hostile bytes get to an edge: in pieces of some size, and with every way to leave."""

import random
import socket
from collections.abc import Callable

from tests.edge.rig import Client, Rig


def send_in_pieces(
    client: Client, data: bytes, chance: random.Random, few: int, between: Callable[[], None]
) -> None:
    """All of it, while the connection is there; what is as long as `few` or longer in large ones.

    `between` is called after one piece in three.
    """
    sizes = chance.choice(((1,), (7, 100), (10_000,), (100_000,)))
    while data and not client.is_closed:
        size = chance.choice(sizes) if len(data) < few else 100_000
        piece, data = data[:size], data[size:]
        try:
            client.send(piece)
        except OSError:
            break
        if chance.random() < 0.3:
            between()


def leave(rig: Rig, client: Client, chance: random.Random) -> None:
    """Half, wholly, or not at all."""
    match chance.randrange(3):
        case 0:
            client.socket.shutdown(socket.SHUT_WR)
        case 1:
            client.socket.close()
        case _:
            rig.after(0.25)
