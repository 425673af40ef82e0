"""What waits to be written besides publishes: requests, answers, the goodbye; and the numbers they carry.

Knows packets and their size. The surprising decision: nothing is pushed to a socket. Whoever writes takes the next
text when it is free, so that whatever came together meanwhile leaves as one array, and whatever was acknowledged
meanwhile as one `ack` per subscription and log.
"""

from collections import deque
from typing import Final

from triode_protocol import codec, packets

MAX_ACKED_AT_ONCE: Final = 1_024  # positions of one `ack`, as the protocol has it


class Outgoing:
    """Control packets in order.

    Bounded by what asks for them: one per request, one pong however many pings, one place per delivery.
    """

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque()
        self._acks: dict[tuple[int, str], dict[int, None]] = {}  # places by (sub, log), each once, in order
        self._last_id = 0
        self.owes_pong = False

    def __bool__(self) -> bool:
        return bool(self._packets or self._acks) or self.owes_pong

    def next_id(self) -> int:
        """A number for `id` or `sub`: never given twice in the life of the client, so in no connection either."""
        self._last_id += 1
        return self._last_id

    @property
    def backlog(self) -> int:
        """How much waits to be written: packets, and places to acknowledge."""
        return len(self._packets) + sum(map(len, self._acks.values()))

    def put(self, packet: packets.ClientPacket) -> None:
        """Append one packet, behind all that was acknowledged before it."""
        if self._acks:
            self._put_acks()
        self._packets.append(codec.encode(packet))

    def ack(self, sub: int, log: str, pos: int) -> None:
        """Acknowledge one delivery without an answer, together with others of this turn."""
        self._acks.setdefault((sub, log), {})[pos] = None

    def _put_acks(self) -> None:
        for (sub, log), places in self._acks.items():
            every = list(places)
            for first in range(0, len(every), MAX_ACKED_AT_ONCE):
                some = every[first : first + MAX_ACKED_AT_ONCE]
                ack = packets.Ack(sub, log, some[0] if len(some) == 1 else some)
                self._packets.append(codec.encode(ack))
        self._acks.clear()

    def clear(self) -> None:
        """The connection is gone, and with it all that was meant for it."""
        self._packets.clear()
        self._acks.clear()
        self.owes_pong = False

    def take(self, room: int, *, is_first: bool) -> list[bytes]:
        """The next packets that fit into `room` bytes, each counted with its comma.

        Where they are the first of a text the first one goes whatever its size: better refused than stuck.
        """
        if self._acks:
            self._put_acks()
        taken: list[bytes] = []
        while self._packets and (len(self._packets[0]) < room or (is_first and not taken)):
            if len(taken) == codec.MAX_ARRAY_PACKETS - 1:  # room for a pong
                break
            taken.append(self._packets.popleft())
            room -= len(taken[-1]) + 1
        if self.owes_pong and room > len(_PONG):
            self.owes_pong = False
            taken.append(_PONG)
        return taken


_PONG = codec.encode(packets.ClientPong())
