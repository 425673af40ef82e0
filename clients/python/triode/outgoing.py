"""What waits to be written besides publishes: requests, answers, the goodbye; and the numbers they carry.

Knows packets and their size. The surprising decision: nothing is pushed to a socket. Whoever writes takes the next
text when it is free, so that whatever came together meanwhile leaves as one array.
"""

from collections import deque

from triode_protocol import codec, packets


class Outgoing:
    """Control packets in order. Bounded by what asks for them: one per request, one pong however many pings."""

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque()
        self._last_id = 0
        self.owes_pong = False

    def __bool__(self) -> bool:
        return bool(self._packets) or self.owes_pong

    def next_id(self) -> int:
        """A number for `id` or `sub`: never given twice in the life of the client, so in no connection either."""
        self._last_id += 1
        return self._last_id

    def put(self, packet: packets.ClientPacket) -> None:
        """Append one packet."""
        self._packets.append(codec.encode(packet))

    def clear(self) -> None:
        """The connection is gone, and with it all that was meant for it."""
        self._packets.clear()
        self.owes_pong = False

    def take(self, room: int, *, is_first: bool) -> list[bytes]:
        """The next packets that fit into `room` bytes, each counted with its comma.

        Where they are the first of a text the first one goes whatever its size: better refused than stuck.
        """
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
