"""Outside: what a cluster node takes from the world, and two small parts of its composition.

The world is injected so that a whole cluster can run inside one simulation.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Publish, Published

from triode_broker.cluster.forwarded import Flushing
from triode_broker.cluster.links import Connect, connect_tcp
from triode_broker.cluster.securing import PeerTls
from triode_broker.config import Config
from triode_broker.core.handed import HandedLog
from triode_broker.core.interfaces import Log, Publisher

#: What a publisher is told while this node does not know whether it still owns a shard.
RETRY_SUSPENDED_MS: Final = 500


def _as_it_is(config: Config) -> Config:
    return config


@attrs.define(kw_only=True)
class Outside:
    """What a cluster node takes from the world."""

    new_log: Callable[[str], Log]  # a new life of a memory shard
    log_named: Callable[[str], HandedLog]  # an empty one, to be filled with what another node hands over
    flush: Callable[[], None]  # ends a turn: what was put into outboxes is sent
    now_ms: Callable[[], int]
    steady_ms: Callable[[], int]
    random_bytes: Callable[[int], bytes]
    random_float: Callable[[], float]
    log: Any
    version: str = ""
    secret: bytes = b""
    tls: PeerTls | None = None
    connect: Connect = connect_tcp
    shared: Callable[[Config], Config] = _as_it_is  # settings, as they are compared with those of others
    urls: Mapping[str, str] = attrs.field(factory=dict)  # where this node listens: see `make_identity`


class Dirty(list[Flushing]):
    """Who has something to flush; whoever is the first rings."""

    ring: Callable[[], None] = staticmethod(lambda: None)

    def append(self, one: Flushing) -> None:
        """To be flushed at the end of the turn."""
        if not self:
            self.ring()
        super().append(one)


class Withheld:
    """An acceptor: takes nothing, for a reason."""

    def __init__(self, message: str) -> None:
        self._message = message

    def accept(
        self, topic: Any, packet: Publish, user: str, publisher: Publisher | None, now_ms: int
    ) -> Published | None:
        """Refuse it."""
        raise Refused(ErrorName.UNAVAILABLE, self._message, retry_after_ms=RETRY_SUSPENDED_MS)
