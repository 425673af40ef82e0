"""Entering: what stands between a new connection and its session: a first packet, and its turn to connect.

Decides nothing about what `connect` does. The surprising decision: whatever comes behind a `connect` that has to
wait is decoded and waits with it; all of it together is bounded by what the edge reads until then (SPEC 1.11).
"""

from collections.abc import Sequence

from triode_protocol.codec import Refused, encode
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.packets import ClientPacket, Connect

from triode_broker.core.errors import Disconnect, answer_to
from triode_broker.core.identity import Arrival
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox

Decoded = ClientPacket | Refused


class Entering:
    """One connection until `connect` has succeeded; `admission.Guest`."""

    __slots__ = ("_arrival", "_early", "_node", "_outbox")

    def __init__(self, node: Node, outbox: Outbox, arrival: Arrival) -> None:
        self._node = node
        self._outbox = outbox
        self._arrival = arrival
        self._early: list[Decoded] | None = None  # waits for admission, connect first

    def may(self, packets: Sequence[Decoded], characters: int) -> bool:
        """Whether these may be served now; else they wait for `take`. Raises Disconnect."""
        if self._early is not None:
            self._early += packets
            return False
        connect = self._check_first(packets[0], characters)
        if self._node.admission.ask(self, is_resuming=connect.resume):
            return True
        self._early = list(packets)
        return False

    def take(self) -> list[Decoded]:
        """What has waited, once there is room."""
        early, self._early = self._early, None
        return early or []

    def leave(self) -> None:
        """The connection is gone."""
        if self._early is not None:
            self._early = None
            self._node.admission.leave(self)

    # `admission.Guest`

    def admitted(self) -> None:
        """What waits is served in `room`: in a turn of the edge, behind its barrier."""
        self._outbox.connection.wake()

    def turned_away(self, after_ms: int) -> None:
        """SPEC 3.1.7."""
        self._outbox.connection.close(CloseCode.OVERLOADED, after_ms)

    def _check_first(self, packet: Decoded, characters: int) -> Connect:
        """SPEC 1.12: the first packet is connect, within its bound; else its error, and the end."""
        limit = self._node.limits.max_connect_bytes
        if isinstance(packet, Refused):
            error = packet
        elif not isinstance(packet, Connect):
            error = Refused(ErrorName.BAD_STATE, "the first packet must be connect")
            error.id = getattr(packet, "id", 0)
        elif characters * 4 > limit and len(encode(packet)) > limit:
            error = Refused(ErrorName.TOO_LARGE, f"a connect packet has at most {limit} bytes")
            error.id = packet.id
        else:
            return packet
        self._outbox.put(answer_to(error))
        raise Disconnect(CloseCode.PROTOCOL)
