"""History requests: a page of what one topic still holds (SPEC 3.5, 4.7). Reads the log, changes nothing."""

from collections.abc import Callable

import attrs
from msgspec import UNSET, Raw
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import History, HistoryRequest
from triode_protocol.positions import MAX_INTEGER

from triode_broker.config import Limits
from triode_broker.core.interfaces import PAGE_RECORDS, Log, Page
from triode_broker.core.record import Record

#: Room in a frame for what surrounds the messages of a reply.
REPLY_OVERHEAD_BYTES = 1_024


def check_history(packet: HistoryRequest) -> None:
    """Raise Refused unless at most one of after, before and last is given."""
    given = [packet.after is not UNSET, packet.before is not UNSET, packet.last > 0]
    if sum(given) > 1:
        raise Refused(ErrorName.MALFORMED, "give one of after, before and last", field="after")


def answer_history(
    log: Log,
    packet: HistoryRequest,
    limits: Limits,
    now_ms: int,
    reply: Callable[[History], None],
    share: int = 1,
) -> None:
    """Find the page and hand the reply to `reply`, at once or when the log answers.

    `share`: the page is as large as a frame divided by it; so several that come together are not several frames.
    """
    limit = min(packet.limit, limits.max_history_messages)
    max_bytes = (limits.max_frame_bytes - REPLY_OVERHEAD_BYTES) // share  # a page is then within a frame
    query = _Query(log, packet, limit, max_bytes, now_ms, reply)
    if packet.after is not UNSET:
        query.read_after(packet.after.get(log.name, -1))
    else:
        before = MAX_INTEGER if packet.before is UNSET else packet.before.get(log.name, MAX_INTEGER)
        query.read_newest(max(before, 1))  # nothing lies before the first


@attrs.define
class _Query:
    """One request on its way through the log."""

    _log: Log
    _packet: HistoryRequest
    _limit: int
    _max_bytes: int
    _now_ms: int
    _reply: Callable[[History], None]

    def read_after(self, pos: int) -> None:
        """Oldest first behind a position; one that the log does not know is "from the oldest", not complete."""
        is_known = 0 <= pos <= self._log.head()
        after = pos if is_known else 0

        def found(page: Page) -> None:
            records = page.records[: self._limit]
            upto = page.upto if len(records) == len(page.records) else records[-1].pos
            self._answer(records, upto, is_known and not page.loss and upto == self._log.head())

        self._log.read(self._packet.topic, after, self._max_bytes, PAGE_RECORDS, self._now_ms, found)

    def read_newest(self, before: int) -> None:
        """The newest ones before a position, oldest first: where not all fit, the newest do (SPEC 4.7.2)."""
        wanted = self._packet.last or self._limit
        limit = min(wanted, self._limit)

        def found(records: list[Record], has_older: bool) -> None:
            is_complete = len(records) == wanted or not has_older
            head = self._log.head()
            end = records[-1].pos if records and before <= head else min(head, before - 1)
            self._answer(records, end, is_complete)

        self._log.read_back(self._packet.topic, before, self._max_bytes, limit, self._now_ms, found)

    def _answer(self, records: list[Record], after: int, is_complete: bool) -> None:
        messages = [Raw(record.payload) for record in records]
        self._reply(History(messages, is_complete, {self._log.name: after}, self._packet.id))
