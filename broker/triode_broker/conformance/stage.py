"""The scripted broker: listeners, connections on them, and the faults that a script asks for.

Knows sockets and packets, no scenario. The surprising decision: a connection is kept from the moment of its
request on and answered when the script comes to it, so a client that dials early or twice is seen, not served by
chance.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import trio
import trio_websocket
from attrs import define, field

from triode_broker.conformance.completing import complete
from triode_broker.conformance.rules import PROTOCOL_OFFERED, Fault, Memory, Rules, check_offer
from triode_broker.conformance.valve import Valve

CLOSE_SECONDS: Final = 2.0  # for the client's side of a closing handshake
_MAX_MESSAGE_BYTES: Final = 4_194_304
_QUEUED_MESSAGES: Final = 64
_CUT_CODE: Final = 1006
_FIRST_FIELDS: Final = ("type", "id", "sub")

#: Notes one line of the conversation: who, and what.
Note = Callable[[str, str], None]


@define(eq=False)
class Arrival:
    """A connection whose handshake is not answered yet."""

    at: str
    request: trio_websocket.WebSocketRequest
    valve: Valve
    nursery: trio.Nursery  # of the connection: what runs in it ends with it
    fault: str = ""


@define(eq=False)
class Line:
    """An accepted connection. `inbox`: packets of the client that the script has not come to."""

    websocket: trio_websocket.WebSocketConnection
    valve: Valve
    nursery: trio.Nursery  # of the scenario
    rules: Rules
    number: int
    note: Note
    news: trio.lowlevel.ParkingLot
    inbox: deque[dict[str, Any]] = field(factory=deque)
    takes_arrays: bool = False
    code: int = 0  # how it ended; 0: it has not
    fault: str = ""

    @property
    def name(self) -> str:
        """As `connected` says it."""
        return f"c-{self.number}"

    # What the client sends

    async def read(self) -> None:
        """Take in what comes, until the connection ends."""
        try:
            while True:
                await self._take(await self.websocket.get_message())
                self.news.unpark_all()
        except Fault as fault:
            self.fault = str(fault)
        except trio_websocket.ConnectionClosed as closed:
            self.code = closed.reason.code if closed.reason else _CUT_CODE
            self.note("client", f"(connection {self.name} ends: {self.code})")
        finally:
            self.code = self.code or _CUT_CODE
            self.news.unpark_all()

    async def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            raise Fault("a binary message (SPEC 1.6)")
        self.note("client", message)
        for packet in self.rules.read(message):
            if self.rules.is_too_large(packet):
                await self.send(complete({"type": "error", "name": "too_large", **_addresses(packet)}))
                continue
            match packet["type"]:
                case "connect":
                    self.takes_arrays = "batch" in packet.get("capabilities", [])
                case "ping":
                    await self.send({"type": "pong", **_addresses(packet)})
                case "disconnect":
                    self.close_soon(1000)
            self.inbox.append(packet)

    # What the script sends

    async def send(self, *packets: dict[str, Any]) -> None:
        """One message: a packet, or an array of them."""
        for packet in packets:
            self.rules.sent(packet)
        ordered = [{name: packet[name] for name in sorted(packet, key=_place)} for packet in packets]
        await self.send_message(json.dumps(ordered[0] if len(ordered) == 1 else ordered, ensure_ascii=False))

    async def send_message(self, message: str | bytes) -> None:
        """Anything. What a closed connection does not take any more is lost, as on any other line."""
        self.note("broker", message if isinstance(message, str) else f"(binary {message.hex()})")
        try:
            await self.websocket.send_message(message)
        except trio_websocket.ConnectionClosed:
            self.note("broker", "(which does not arrive: the connection has ended)")

    def close_soon(self, code: int) -> None:
        """End it properly, at least from this side; the script goes on meanwhile."""
        self.nursery.start_soon(self._close, code)

    async def _close(self, code: int) -> None:
        with trio.move_on_after(CLOSE_SECONDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.websocket.aclose(code)
        self.valve.cut()


class Stage:
    """The servers of one scenario, named a, b, c."""

    def __init__(self, news: trio.lowlevel.ParkingLot, note: Note, nursery: trio.Nursery) -> None:
        self.urls: dict[str, str] = {}
        self.arrivals: deque[Arrival] = deque()
        self._news = news
        self._note = note
        self._nursery = nursery
        self._memory = Memory()
        self.lines: list[Line] = []
        self._unanswered: list[Arrival] = []
        self._is_over = False

    async def listen(self, names: Iterable[str]) -> None:
        """Open the servers. `urls` has one more, where nobody listens."""
        for name in names:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.urls[name] = _url(listeners[0].socket)
            self._nursery.start_soon(trio.serve_listeners, partial(self._serve, name), listeners)
        unheard = trio.socket.socket()
        await unheard.bind(("127.0.0.1", 0))
        self.urls["nobody"] = _url(unheard)
        unheard.close()

    async def _serve(self, at: str, stream: trio.SocketStream) -> None:
        """One connection, until it is over. The barrier: nothing a client does ends the runner."""
        valve = Valve(stream)
        if self._is_over:
            await trio.aclose_forcefully(valve)
            return
        try:
            async with trio.open_nursery() as nursery:
                request = await trio_websocket.wrap_server_stream(
                    nursery, valve, _QUEUED_MESSAGES, _MAX_MESSAGE_BYTES
                )
                self.arrivals.append(arrival := Arrival(at, request, valve, nursery))
                self._unanswered.append(arrival)
                try:
                    check_offer(request.path, request.proposed_subprotocols)
                except Fault as fault:
                    arrival.fault = str(fault)
                self._note("client", f"(dials {at})")
                self._news.unpark_all()
                await trio.sleep_forever()
        except* Exception as errors:  # noqa: BLE001  # no list is complete: the library raises more than it says
            self._note("client", f"(connection broken: {errors.exceptions[0]!r})")
        finally:
            await trio.aclose_forcefully(valve)

    def end(self) -> None:
        """The scenario is over: whoever waits for an answer gets none, and whoever dials from now on."""
        self._is_over = True
        waiting = [arrival.valve for arrival in self._unanswered]
        broken = [line.valve for line in self.lines if line.fault or line.valve.is_frozen]
        for valve in (*waiting, *broken):
            valve.cut()

    @property
    def fault(self) -> str:
        """What a client must never do, on whichever connection it did so; or nothing."""
        faults = [line.fault for line in self.lines] + [arrival.fault for arrival in self.arrivals]
        return next(filter(None, faults), "")

    async def accept(self, arrival: Arrival) -> Line | None:
        """Answer a handshake with yes; None: nobody waits for the answer any more."""
        self._unanswered.remove(arrival)
        chosen = PROTOCOL_OFFERED if PROTOCOL_OFFERED in arrival.request.proposed_subprotocols else None
        try:
            websocket = await arrival.request.accept(subprotocol=chosen)
        except (trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            return None
        line = Line(
            websocket,
            arrival.valve,
            self._nursery,
            Rules(self._memory),
            len(self.lines) + 1,
            self._note,
            self._news,
        )
        self.lines.append(line)
        arrival.nursery.start_soon(line.read)
        return line

    async def refuse(self, arrival: Arrival, status: int, headers: dict[str, str], body: str) -> None:
        """Answer a handshake with no."""
        self._note("broker", f"(HTTP {status})")
        said = [(name.encode(), value.encode()) for name, value in headers.items()]
        with suppress(trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            await arrival.request.reject(status, extra_headers=said, body=body.encode())
        arrival.valve.cut()

    async def blurt(self, arrival: Arrival, text: str) -> None:
        """Answer a handshake with anything."""
        self._note("broker", f"({text!r})")
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await arrival.valve.send_all(text.encode())
        arrival.valve.cut()


def _place(name: str) -> int:
    """As people expect it: the type first, then the numbers, then the rest as it came."""
    return _FIRST_FIELDS.index(name) if name in _FIRST_FIELDS else len(_FIRST_FIELDS)


def _url(socket: trio.socket.SocketType) -> str:
    return f"ws://127.0.0.1:{socket.getsockname()[1]}/ws"


def _addresses(packet: dict[str, Any]) -> dict[str, Any]:
    """What an answer repeats of what it answers."""
    return {name: packet[name] for name in ("id", "sub") if name in packet}


def completed(packets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Packets with what the script left out."""
    return [complete(packet) for packet in packets]
