"""The reactor: one trio task that serves every client connection, and nothing else.

Knows sockets' readiness and time; what is read is the connections' business. The surprising decision: the task
owns an epoll, which is itself awaited with `trio.lowlevel.wait_readable`, so that ready connections are served by
plain calls: no task, lock or wake-up per connection or message. One turn serves at most EVENTS_PER_TURN ready
connections with one recv each, then sends what they caused, one send per connection, then lets other tasks run.
"""

import contextlib
import errno
import heapq
import socket
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import trio
from triode_protocol.errors import CloseCode

from triode_broker.config import Limits
from triode_broker.core.outbox import Outbox
from triode_broker.edge.application import NO_CROWD, Accept, Crowd, Route, Service
from triode_broker.edge.connection import Connection
from triode_broker.edge.conversation import Conversation
from triode_broker.edge.deadlines import Deadlines
from triode_broker.edge.door import Door
from triode_broker.edge.frames import FASTEST, Unmasking
from triode_broker.edge.fronted import Fronted
from triode_broker.edge.poller import READ, make_poller
from triode_broker.edge.shared import Shared, Statistics, come_back
from triode_broker.edge.turns import SHORT_SECONDS, Nothing, Tally, Turns
from triode_broker.edge.wire import GONE, OPEN, Backlog, Wire

EVENTS_PER_TURN: Final = 256
ACCEPTS_PER_TURN: Final = 64  # of one listener
STALL_SECONDS: Final = 1.0  # between two sweeps: this process was held up, and nobody could be heard or pinged
SWEEP_SECONDS: Final = 0.25  # at most, between two looks at the deadlines
_SWEEPS_PER_PERIOD: Final = 8  # at least, in the shortest of the periods
DRAIN_STEP_SECONDS: Final = 0.05  # between two groups that are sent away
#: A connection that is sent away and waits for answers is closed without them after so long.
ANSWER_SECONDS: Final = 1.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: A queue of deadlines is only thinned where it holds more than this, and mostly what is gone.
_FEW_ITEMS: Final = 1024
#: So many more than max_connections are told so; what comes on top is closed without a word.
_TOLD_THAT_IT_IS_FULL: Final = 256
FULL_SECONDS: Final = 5  # until one who is told so may try again

#: `reconnect_after_ms` and `urls` of one `bye`.
Farewell = tuple[int, Sequence[str]]


class Edge:
    """Everything that touches client sockets.

    `accept` makes the application of each WebSocket; `services` are told of requests for what is below their
    paths, `routes` answer others; `now_ms` is the wall clock.
    `crowd` says who may come in when many want to at once, `door` what is asked of each.
    `tally` is what turns are told apart by (`edge.turns`).
    `beside`: another edge of this node, whose listeners are for others. They flush for each other.
    `dirty` is what outboxes enter: who puts into one outside of the edge's own calls ends its turn with `flush`.
    """

    def __init__(
        self,
        *,
        accept: Accept,
        routes: Mapping[str, Route],
        limits: Limits,
        now_ms: Callable[[], int],
        log: Any,
        websocket_path: str = "/ws",
        unmasking: Unmasking = FASTEST,
        crowd: Crowd = NO_CROWD,
        door: Door | None = None,
        tally: Tally | None = None,
        services: Mapping[str, Service] = MappingProxyType({}),
        beside: "Edge | None" = None,
    ) -> None:
        self._poller = make_poller()
        door = door or Door()
        self._shared = Shared(
            limits,
            self._poller,
            accept,
            routes,
            websocket_path,
            unmasking,
            crowd,
            door,
            log,
            services,
            self.flush,
        )
        if beside is not None:
            beside._shared.share_turns(self._shared)
        self._connect = Connection if door.front.is_plain else Fronted
        self._now_ms = now_ms
        self.turns = Turns(tally or Nothing())
        self._swept = 0.0  # when the deadlines were last looked at
        self._listeners: dict[int, socket.socket] = {}
        self._is_accepting = False
        self._is_short = False  # of descriptors: said once, until a client was accepted again
        self._hushed: list[tuple[float, Wire]] = []  # sent away, waiting for answers until then
        self._empty: trio.Event | None = None  # someone waits for the last connection to go
        shared = self._shared
        self._checks: tuple[tuple[Deadlines[Any], Callable[[Any, float, int], None]], ...] = (
            (shared.connect_deadlines, Connection.check_connected),
            (shared.look_deadlines, Connection.look),
            (shared.drain_deadlines, Connection.check_drained),
            (shared.close_deadlines, Connection.check_closed),
            (shared.exchange_deadlines, Conversation.look),
        )
        shortest = min(deadlines.seconds for deadlines, _ in self._checks)
        self._sweep_seconds = min(SWEEP_SECONDS, shortest / _SWEEPS_PER_PERIOD)

    @property
    def dirty(self) -> list[Outbox]:
        """Outboxes to be written at the end of the turn."""
        return self._shared.dirty

    def statistics(self) -> Statistics:
        """Counters since the start, and what is there now."""
        return self._shared.statistics()

    def backlogs(self, most: int) -> list[Backlog]:
        """Of so many connections that have most waiting for them."""
        shared = self._shared
        found = (connection.backlog(shared.now) for connection in list(shared.connections.values()))
        return heapq.nlargest(most, filter(None, found), key=lambda one: one.waiting_bytes)

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; then every connection is dropped. The listeners are closed at the end."""
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._shared.now = trio.current_time()
        self._accept_again()
        fd = self._poller.fileno()
        poll = self._poller.poll
        clock = trio.lowlevel.current_clock().current_time  # not looked up again for each turn
        try:
            task_status.started()
            while True:
                # The scope is the sweep's clock: one for many turns, as a timer for each wait would cost 4 µs.
                with trio.move_on_after(self._sweep_seconds):
                    while True:
                        if events := poll(0, EVENTS_PER_TURN):
                            await trio.lowlevel.checkpoint()  # straight from a turn: the others' turn first
                        else:
                            await trio.lowlevel.wait_readable(fd)
                            events = poll(0, EVENTS_PER_TURN)
                        self._timed_turn(events, clock)
                await self._hear_everybody()
                self.sweep(trio.current_time())
        finally:
            self.end()

    def _timed_turn(self, events: Sequence[tuple[int, int]], clock: Callable[[], float]) -> None:
        turns = self.turns
        tally = turns.tally
        published, fanned_out = tally.published, tally.fanned_out
        now = clock()
        self.turn(events, now)
        seconds = clock() - now
        turns.count += 1
        turns.seconds += seconds
        turns.published += (published := tally.published - published)
        turns.fanned_out += (fanned_out := tally.fanned_out - fanned_out)
        if seconds >= SHORT_SECONDS:
            turns.note(seconds, published, fanned_out)

    async def _hear_everybody(self) -> None:
        """Serve whatever has arrived before anybody's silence is judged.

        Without it a process that was held up (a paused machine, SIGSTOP) would close clients that had spoken.
        """
        for _ in range(len(self._shared.connections) // EVENTS_PER_TURN + 1):
            if not (events := self.poll()):
                return
            self.turn(events, trio.current_time())
            await trio.lowlevel.checkpoint()

    async def close_all(self, code: int, reconnect_after_ms: Callable[[], int] = int) -> None:
        """Accept nobody any more, say goodbye to everybody, and wait until they are gone: at most close_timeout.

        `reconnect_after_ms` is asked once per connection, so that they need not return all at once.
        """
        self._close_listeners()
        for _, connection in self._hushed:
            connection.part()
        self._hushed = []
        everybody = list(self._shared.connections.values())
        for start in range(0, len(everybody), EVENTS_PER_TURN):
            for connection in everybody[start : start + EVENTS_PER_TURN]:
                connection.close(code, reconnect_after_ms())
            self.flush()
            await trio.lowlevel.checkpoint()
        if self._shared.connections:
            self._empty = trio.Event()
            with trio.move_on_after(self._shared.limits.close_timeout_ms / 1000 + SWEEP_SECONDS):
                await self._empty.wait()

    def limits_changed(self) -> None:
        """Its limits hold others now."""
        self._shared.limits_changed()

    def put_door(self, door: Door) -> None:
        """Another one for those who come from now on, in front of the same kind of connections."""
        self._shared.door = door

    def close_doors(self, reopens_at: float) -> None:
        """Answer whoever wants a WebSocket with 503 from now on, to come back then, on trio's clock."""
        self._shared.reopens_at = reopens_at

    async def drain(self, ends_at: Callable[[], float], farewell: Callable[[], Farewell]) -> None:
        """Send everybody away (4200), evenly until `ends_at()` on trio's clock; returns when all were told so.

        To be called behind closed doors. `farewell` is asked once per connection. Whoever is told has been
        answered what it asked, except what took longer than ANSWER_SECONDS.
        """
        rest = list(self._shared.connections.values())[::-1]  # the oldest are the first to go
        owed = 0.0  # how many should have gone by now and have not
        while rest or self._hushed:
            left_seconds = ends_at() - trio.current_time()
            steps = left_seconds / DRAIN_STEP_SECONDS
            owed += (len(rest) - owed) / max(steps, 1)
            told = [rest.pop() for _ in range(int(owed))]
            owed -= len(told)
            for start in range(0, len(told), EVENTS_PER_TURN):
                for connection in told[start : start + EVENTS_PER_TURN]:
                    self._hush(connection, farewell)
                self._part_answered()
                await trio.lowlevel.checkpoint()
            self._part_answered()
            if rest or self._hushed:
                await trio.sleep(DRAIN_STEP_SECONDS)

    def _hush(self, connection: Wire, farewell: Callable[[], Farewell]) -> None:
        """One that has not got through its handshake is refused, or dropped at the end."""
        if connection.phase == OPEN:
            connection.hush(CloseCode.DRAINING, *farewell())
            self._hushed.append((trio.current_time() + ANSWER_SECONDS, connection))

    def _part_answered(self) -> None:
        """Those that wait for nothing, and those that have waited long enough."""
        now = trio.current_time()
        waiting = []
        for until, connection in self._hushed:
            if connection.is_answered or now >= until:
                connection.part()
            else:
                waiting.append((until, connection))
        self._hushed = waiting
        self.flush()

    # One turn

    def adopt(self, client: socket.socket, address: str = "") -> None:
        """Serve a connected socket from now on, as if it had been accepted from `address`."""
        client.setblocking(False)
        self._shared.accepted += 1
        self._is_short = False
        connection = self._connect(client, self._shared)
        shared = self._shared
        if len(shared.connections) > shared.limits.max_connections:
            connection.refuse(come_back("This server is full.", FULL_SECONDS * 1000))
        elif shared.newcomers > (shared.limits.max_handshakes or shared.newcomers):
            connection.refuse(come_back("Too many clients are connecting.", shared.crowd.later_ms()))
        else:
            connection.take_seat(address)

    def poll(self) -> Sequence[tuple[int, int]]:
        """What is ready, for one turn."""
        return self._poller.poll(0, EVENTS_PER_TURN)

    def turn(self, events: Sequence[tuple[int, int]], now: float) -> None:
        """Serve what is ready, then send what that caused."""
        shared = self._shared
        shared.now = now
        now_ms = self._now_ms()
        connections = shared.connections
        knocking = None
        for fd, event in events:
            connection = connections.get(fd)
            if connection is None:
                knocking = [*(knocking or ()), fd]
                continue
            try:
                if event == READ:
                    connection.receive(now, now_ms)
                else:
                    connection.serve(event, now, now_ms)
            except Exception as error:  # noqa: BLE001  # the connection's barrier (S1)
                connection.fail(error)
        self.flush()
        for fd in knocking or ():  # last: a descriptor closed above may be given out again
            if (listener := self._listeners.get(fd)) is not None:
                self._accept(listener)

    def flush(self) -> None:
        """Send everything that was put since the last flush, and begin the closes that were asked for."""
        shared = self._shared
        dirty, leaving = shared.dirty, shared.leaving
        while dirty or leaving:
            while leaving:
                connection = leaving.pop()
                try:
                    connection.say_goodbye()
                except Exception as error:  # noqa: BLE001  # the connection's barrier (S1)
                    connection.fail(error)
            for outbox in dirty:  # grows, where the end of one connection is told to others
                try:
                    outbox.connection.write()
                except Exception as error:  # noqa: BLE001  # the connection's barrier (S1)
                    outbox.connection.fail(error)
            dirty.clear()
        if self._empty is not None and not shared.connections:
            self._empty.set()

    def sweep(self, now: float) -> None:
        """Serve every deadline that is due."""
        shared = self._shared
        if now - self._swept > STALL_SECONDS:
            shared.awake_since = now
        self._swept = now
        shared.now = now
        now_ms = self._now_ms()
        for deadlines, check in self._checks:
            for connection in deadlines.due(now):
                try:
                    check(connection, now, now_ms)
                except Exception as error:  # noqa: BLE001  # the connection's barrier (S1)
                    connection.fail(error)
            if len(deadlines) > 2 * len(shared.connections) + _FEW_ITEMS:
                deadlines.forget(_is_gone)
        self.flush()
        if self._listeners and not self._is_accepting:
            self._accept_again()

    # Accepting

    def _accept(self, listener: socket.socket) -> None:
        shared = self._shared
        for _ in range(ACCEPTS_PER_TURN):
            try:
                client, place = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause_accepting(error)
                    return
                continue  # this one client was lost before it came
            is_full = len(shared.connections) >= shared.limits.max_connections + _TOLD_THAT_IT_IS_FULL
            if is_full or shared.addresses.is_overfull(place[0], shared.now):
                shared.refused += 1
                client.close()
            else:
                self._adopt_or_close(client, place[0])

    def _adopt_or_close(self, client: socket.socket, address: str) -> None:
        try:
            self.adopt(client, address)
        except OSError:  # gone already, or the kernel has no room to watch it
            self._shared.refused += 1
            client.close()

    def _pause_accepting(self, error: OSError) -> None:
        """S6: out of descriptors or memory. Still readable, the listeners must not be watched for a while."""
        self._stop_watching()
        if not self._is_short:
            self._is_short = True
            self._shared.log.warning("accepting_paused", error=error.strerror)

    def _accept_again(self) -> None:
        """Also the retry after a pause: by the sweep, so within SWEEP_SECONDS."""
        self._is_accepting = True
        try:
            for fd in self._listeners:
                self._poller.register(fd, READ)
        except OSError as error:  # no room to watch them: the next sweep tries again
            self._pause_accepting(error)

    def _stop_watching(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for fd in self._listeners:
                with contextlib.suppress(OSError):  # one that could not be watched in the first place
                    self._poller.unregister(fd)

    def _close_listeners(self) -> None:
        self._stop_watching()
        for listener in self._listeners.values():
            listener.close()
        self._listeners = {}

    def end(self) -> None:
        """Drop everybody at once and give every descriptor back; what `serve` ends with."""
        self._close_listeners()
        for connection in list(self._shared.connections.values()):
            connection.drop()
        self._poller.close()


def _is_gone(connection: Wire) -> bool:
    return connection.phase == GONE
