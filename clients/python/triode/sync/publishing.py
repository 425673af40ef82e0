"""Publishing from any thread: what is refused at the call, what waits for room, and the receipts.

Knows the session's queue and its bounds, bells, no packets. The surprising decision: the bounds are judged at the
call, from the counts that the loop keeps. They may be a moment old; should the queue be full after all when the
message comes to it, the loop keeps it in its place until there is room.
"""

import logging
import threading
from collections import deque
from typing import Final

from triode_protocol.packets import Publish

from triode.errors import Expired, OutcomeUnknown, QueueFull, TriodeError
from triode.publishing import OnTrace, Publication
from triode.records import Published, State
from triode.sync.background import Background
from triode.sync.bells import Bell, Line, deadline, remaining
from triode.watching import say

_OVERHEAD_BYTES: Final = 640  # of a message in the queue, beside its payload


class Receipt:
    """A message on its way: made by `publish_nowait`. For any thread."""

    __slots__ = ("_background", "_bell", "_on_trace", "_publication", "_result", "is_abandoned")

    def __init__(self, background: Background, on_trace: OnTrace | None = None) -> None:
        self._background = background
        self._on_trace = on_trace
        self._bell: Bell | None = None
        self._publication: Publication | None = None
        self._result: Published | TriodeError | None = None
        #: Whether nobody cares any more.
        self.is_abandoned = False

    @property
    def is_done(self) -> bool:
        """Whether `wait` returns or raises without waiting."""
        return self._result is not None or self._background.is_over or self._background.is_inherited

    def wait(self, timeout: float | None = None) -> Published:
        """Its place, once acknowledged; raises what `Client.publish` raises.

        Raises TimeoutError after `timeout` seconds: the message goes on, and this may be called again. Raises
        InParentProcess for a message without a result of a process that has forked: that sends it.
        """
        if self._result is None and not self._wait(timeout):
            raise TimeoutError(f"not acknowledged within {timeout:g} s")
        result = self._result or self._background.closed()
        if isinstance(result, TriodeError):
            raise result
        return result

    def outcome(self, timeout: float | None) -> Published | TriodeError:
        """What has become of it; after `timeout` seconds it is given up, and this is what is known of it."""
        if self._result is None and not self._wait(timeout):
            return self._background.call(self._give_up)
        return self._result or self._background.closed()

    def _wait(self, timeout: float | None) -> bool:
        background = self._background
        if background.is_over or background.is_inherited:
            return True
        with background.lock:
            bell = self._bell
            if bell is None:
                bell = self._bell = Bell()
        return self._result is not None or background.wait(bell, timeout)

    def abandon(self) -> None:
        """Nobody cares any more: if unsent it is never sent, if sent it is not sent again. Does not wait."""
        self.is_abandoned = True
        self._background.soon(self._abandon)

    # The loop's

    def begin(self, publication: Publication) -> None:
        """It has joined the queue."""
        self._publication = publication
        publication.waiter = self
        if self._on_trace is not None:
            self._background.session.publisher.trace(publication, self._on_trace)

    def set(self) -> None:
        """It is done: called by the driver."""
        assert self._publication is not None
        self.finish(self._publication.result)

    def finish(self, result: Published | TriodeError | None) -> None:
        """This is what has become of it."""
        self._result = result
        if self._bell is not None:
            self._bell.ring()

    def _abandon(self, _: None) -> None:
        if self._publication is not None:
            self._background.session.publisher.abandon(self._publication)

    async def _give_up(self) -> Published | TriodeError:
        self._abandon(None)
        if self._result is not None:
            return self._result
        publication = self._publication
        if publication is None or not publication.was_sent:
            return Expired("it could not be sent in time")
        return OutcomeUnknown(
            "it was sent, and no answer came in time: it may be stored", message_id=publication.message_id
        )


class Outbox:
    """What goes from the threads of a program to the session's queue, in the order of asking."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._session = background.session
        self._publisher = background.session.publisher
        self._options = background.session.options
        self._lock = threading.RLock()  # reentrant for signal handlers
        self._given = 0  # messages that threads have handed over, and their bytes
        self._given_bytes = 0
        self._taken = 0  # ... and the loop has taken from them
        self._taken_bytes = 0
        self._late: deque[tuple[Publish, Receipt | None]] = deque()  # the queue was full after all
        self._line = Line()  # threads that wait for room
        self._has_room_wanted = False
        background.flush = self._flush

    def put_nowait(self, packet: Publish, receipt: Receipt | None) -> None:
        """Queue a message. Raises QueueFull, ConnectionClosed."""
        self._put(packet, receipt)
        self._background.wake()

    def _put(self, packet: Publish, receipt: Receipt | None) -> None:
        background = self._background
        background.check_open()
        size = len(packet.data) + len(packet.b64) + len(packet.topic) + _OVERHEAD_BYTES
        with self._lock:
            if self._is_full(size):
                raise QueueFull(f"{self._waiting()} messages are waiting to be sent")
            self._given += 1
            self._given_bytes += size
            background.later(self._take, (packet, receipt, size))

    def put(self, packet: Publish, receipt: Receipt | None, timeout: float | None = None) -> None:
        """The same, but while connected wait for room. Raises QueueFull after `timeout` seconds, too."""
        until = deadline(timeout)
        while True:
            try:
                self.put_nowait(packet, receipt)
            except QueueFull:
                left = remaining(until)
                if left == 0 or self._session.state is not State.CONNECTED or not self._waiting():
                    raise
                self._line.wait(self._asks_for_room, self._background.wait, left)
            else:
                return

    def put_all(self, packets: list[Publish], receipts: list[Receipt], timeout: float | None) -> None:
        """Queue several, to leave together as far as there is room; a receipt is added for each that is queued.

        Raises as `put`, where it goes no further.
        """
        until = deadline(timeout)
        try:
            for packet in packets:
                receipts.append(Receipt(self._background))
                try:
                    self._put(packet, receipts[-1])
                except QueueFull:
                    self._background.wake()
                    self.put(packet, receipts[-1], remaining(until))
        except TriodeError:
            receipts.pop()
            raise
        finally:
            self._background.wake()

    def _waiting(self) -> int:
        return self._given - self._taken + len(self._late) + self._publisher.waiting

    def _is_full(self, size: int) -> bool:
        options = self._options
        if self._waiting() >= options.max_queue_messages:
            return True
        bytes_given = self._given_bytes - self._taken_bytes
        return bytes_given + self._publisher.waiting_bytes + size > options.max_queue_bytes

    def _has_room(self) -> bool:
        return not self._is_full(_OVERHEAD_BYTES) or self._session.state is not State.CONNECTED

    def _asks_for_room(self) -> bool:
        """Of a thread that is in the line by now: asked before, the loop's ring might come too early for it."""
        self._background.soon(self._want_room)
        return self._has_room()

    # In the loop

    def _take(self, given: tuple[Publish, Receipt | None, int]) -> None:
        packet, receipt, size = given
        self._taken += 1
        self._taken_bytes += size
        if self._late or not self._add(packet, receipt):
            self._late.append((packet, receipt))
            self._want_room(None)

    def _add(self, packet: Publish, receipt: Receipt | None) -> bool:
        """Whether it is settled."""
        if receipt is not None and receipt.is_abandoned:
            return True
        try:
            now = self._background.driver.runtime.now()
            publication = self._session.publish(packet, now, is_acknowledged=receipt is not None)
        except QueueFull as error:
            if self._publisher.waiting:
                return False
            self._refuse(receipt, error)  # larger than the whole queue
        except TriodeError as error:
            self._refuse(receipt, error)
        else:
            if receipt is not None:
                receipt.begin(publication)
        return True

    def _refuse(self, receipt: Receipt | None, error: TriodeError) -> None:
        if receipt is not None:
            receipt.finish(error)
        else:  # nobody waits for this one: it must not vanish without a word
            say(logging.WARNING, "complaint", message=f"a message without acknowledgement was not sent: {error}")

    def _want_room(self, _: None) -> None:
        if not self._has_room_wanted:
            self._has_room_wanted = True
            self._background.start_soon(self._wait_for_room)

    async def _wait_for_room(self) -> None:
        """Until all that wait for room have had a look: at each change of the queue, or of the connection."""
        while True:
            while self._late and self._add(*self._late[0]):
                self._late.popleft()
            if self._has_room():
                self._line.ring_all()
                if not self._late:
                    break
            await self._background.driver.room.park()
        self._has_room_wanted = False
        self._background.driver.settle()

    async def _flush(self) -> None:
        while self._late and self._session.state is State.CONNECTED:
            await self._background.driver.room.park()
