"""Entering: what stands between a new connection and its session: a first packet, its turn, and who it is.

Decides nothing about what `connect` does. A credential is looked at when its connection has had its turn
(`core.admission`), not before: to judge one is the dearest thing that a stranger can ask for, and so a flood of
bad ones is let in no faster than a flood of good ones.

The surprising decision: whatever comes behind a `connect` that has to wait waits as the text it came in, and is
decoded once more. All of it together is bounded by what the edge reads until then (SPEC 1.11); decoded it may be
200 times as much (S2). And answers that come later are kept and looked at in a turn of the edge, behind its
barrier and its deadlines.
"""

from collections.abc import Sequence

from triode_protocol.codec import Refused, decode, decode_first, encode
from triode_protocol.errors import CloseCode, ErrorName
from triode_protocol.packets import ClientPacket, Connect

from triode_broker.core.errors import Disconnect, answer_to, close_code
from triode_broker.core.guarded import Done
from triode_broker.core.identity import OPEN, Arrival, Identity
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox

Decoded = ClientPacket | Refused


class Entering:
    """One connection until `connect` has succeeded; `admission.Guest`."""

    __slots__ = (
        "_answer",
        "_arrival",
        "_asked",
        "_connect",
        "_early",
        "_has_turn",
        "_judged_by",
        "_node",
        "_outbox",
    )

    def __init__(self, node: Node, outbox: Outbox, arrival: Arrival) -> None:
        self._node = node
        self._outbox = outbox
        self._arrival = arrival
        self._connect: Connect | None = None  # the first packet
        self._early: list[bytes] = []  # the texts that came, the one that begins with it first
        self._has_turn = False
        self._asked: Done | None = None  # which of the questions to the gate has no answer yet
        self._answer: Identity | Refused | None = None
        self._judged_by = 0  # the rules by which it was answered

    @property
    def arrival(self) -> Arrival:
        """What was known of it before."""
        return self._arrival

    @property
    def identity(self) -> Identity:
        """Who it is, once something may be served."""
        assert isinstance(self._answer, Identity)
        return self._answer

    def receive(self, text: str) -> Sequence[Decoded]:
        """What may be served now of a text; none where it has to wait. Raises Disconnect.

        Of a stranger's text only the first packet is decoded: the others cost him nothing and may be thousands.
        """
        if self._connect is None:
            limits = self._node.limits
            first = decode_first(text, limits.max_packet_bytes, limits.max_connect_bytes)
            self._connect = self._check_first(first, len(text))
            self._has_turn = self._node.admission.ask(self, is_resuming=self._connect.resume)
            if self._may():
                return self._whole(text)
        self._early.append(text.encode("utf-8", "surrogatepass"))
        return ()

    def go_on(self) -> Sequence[Decoded]:
        """What may be served now of what has waited. Raises Disconnect."""
        if not self._early or not self._may():
            return ()
        early, self._early = self._early, []
        texts = [text.decode("utf-8", "surrogatepass") for text in early]
        most = self._node.limits.max_packet_bytes
        return [*self._whole(texts[0]), *(packet for text in texts[1:] for packet in decode(text, most))]

    def _whole(self, text: str) -> Sequence[Decoded]:
        """All of the text that begins with connect. Raises Disconnect where what is behind it makes it no text."""
        packets = decode(text, self._node.limits.max_packet_bytes)
        self._check_first(packets[0], 0)
        return packets

    def _may(self) -> bool:
        """Whether it is known who it is, and that it may connect. Raises Disconnect."""
        connect = self._connect
        if not self._has_turn or connect is None:
            return False
        if self._asked is None and (self._answer is None or self._judged_by != self._node.rules_serial):
            self._ask(connect.token)  # for the first time, or by rules that have changed since
        if self._asked is not None:
            return False
        if isinstance(self._answer, Refused):
            raise self._refuse(connect.id, self._answer)
        return True

    def _refuse(self, id: int, refused: Refused) -> Disconnect:
        """Say why; how the connection ends. What refuses may be kept for others by whoever has made it."""
        self._outbox.put(answer_to(refused, id))
        code = close_code(refused)
        is_temporary = code == CloseCode.OVERLOADED  # not all who were refused come back in the same moment
        after_ms = max(refused.retry_after_ms, self._node.admission.later_ms()) if is_temporary else 0
        return Disconnect(code, after_ms)

    def leave(self) -> None:
        """The connection is gone; an answer of the gate that is still to come means nothing."""
        asked, self._early, self._asked = self._asked, [], None
        self._node.give_up(asked)
        self._node.admission.leave(self)

    # The gate

    def _ask(self, token: str) -> None:
        self._judged_by = self._node.rules_serial
        gate = self._arrival.gate or self._node.gate
        if gate is None:
            self._answer = OPEN
            return

        def done(answer: Identity | Refused) -> None:
            if self._asked is done:  # it may be called again, when it has been asked anew
                self._answer, self._asked = answer, None
                if not is_inside:
                    self._outbox.connection.wake()

        is_inside = True
        self._asked = done
        gate.ask(token, self._arrival, done)
        is_inside = False

    # `admission.Guest`

    def admitted(self) -> None:
        """What waits is served in `room`: in a turn of the edge, behind its barrier."""
        self._has_turn = True
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
