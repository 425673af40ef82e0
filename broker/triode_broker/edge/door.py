"""The door: what is decided of a handshake before there is anybody behind it to ask.

A record of settings, made once per edge, so that a connection is handed one thing and not five. Surprising: a
page that may not connect is not refused by HTTP. A browser shows nobody the status of a handshake, and the page's
client would come back for ever; so it is let in, told `forbidden_origin`, and closed (docs/decisions/0019).
"""

import attrs

from triode_broker.config import Config
from triode_broker.edge.front import PLAIN, Front
from triode_broker.edge.origins import Origins


@attrs.frozen
class Door:
    """Which pages may come in, where a token may stand, and what may be agreed on."""

    front: Front = PLAIN
    origins: Origins = attrs.field(factory=Origins)
    takes_query_token: bool = False
    compresses: bool = False


def make_door(config: Config, front: Front = PLAIN) -> Door:
    """As it is configured. Raises ValueError where `origins` holds what is none."""
    return Door(front, Origins(config.origins), config.auth.query_token, config.compression)
