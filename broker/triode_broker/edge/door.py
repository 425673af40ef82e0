"""The door: what is decided of a handshake before there is anybody behind it to ask.

A record of settings, made once per edge, so that a connection is handed one thing and not five. Surprising: a
page that may not connect is not refused by HTTP. A browser shows nobody the status of a handshake, and the page's
client would come back for ever; so it is let in, told `forbidden_origin`, and closed (docs/decisions/0019).
"""

import attrs

from triode_broker.config import Config
from triode_broker.core.identity import Arrival
from triode_broker.edge.front import PLAIN, Front
from triode_broker.edge.head import Request
from triode_broker.edge.origins import Origins
from triode_broker.this_machine import is_this_machine


@attrs.frozen
class Door:
    """Which pages may come in, where a token may stand, and what may be agreed on."""

    front: Front = PLAIN
    origins: Origins = attrs.field(factory=Origins)
    takes_query_token: bool = False
    compresses: bool = False

    def may_enter(self, request: Request, arrival: Arrival) -> bool:
        """S9: whether the page, if there is one, may connect."""
        origin = request.headers.get(b"origin")
        return origin is None or self._allows(origin.decode("ascii"), request, arrival)

    def is_host_good(self, request: Request, arrival: Arrival) -> bool:
        """S9: whether the name by which a stranger has found the way to this machine can be trusted.

        A page whose name was made to lead here asks with no `Origin`: for its browser, it asks its own server.
        """
        if arrival.token or arrival.certificate or not _is_local(arrival):
            return True
        scheme = "https" if arrival.is_encrypted else "http"
        return self._allows(f"{scheme}://{_host(request)}", request, arrival)

    def _allows(self, origin: str, request: Request, arrival: Arrival) -> bool:
        is_encrypted, is_local = arrival.is_encrypted, _is_local(arrival)
        return self.origins.allows(origin, _host(request), is_encrypted=is_encrypted, is_local=is_local)


def _host(request: Request) -> str:
    return request.headers.get(b"host", b"").decode("ascii")


def _is_local(arrival: Arrival) -> bool:
    return not arrival.address or is_this_machine(arrival.address)


def make_door(config: Config, front: Front = PLAIN) -> Door:
    """As it is configured. Raises ValueError where `origins` holds what is none."""
    return Door(front, Origins(config.origins), config.auth.query_token, config.compression)
