"""At home: questions that were on their way to another node, answered by a log that has come here meanwhile.

Pure. The counterpart of `questions` for the heir of a hand-over: whoever waits gets what the log itself says.
"""

from collections.abc import Callable
from typing import Any, Final

from triode_protocol.packets import Start

from triode_broker.cluster.frames import Found, Frame, Older, Read, ReadBack, Rows, Seek
from triode_broker.cluster.questions import Take
from triode_broker.core.interfaces import Log, Page, Place


def _read(log: Log, now_ms: int, fields: Any, take: Take) -> None:
    def done(page: Page) -> None:
        facts = page.upto, page.loss, page.known, page.looked_at
        take(Rows(0, log.name, page.records, page.prevs, *facts, is_live=False))

    _, filter, after, max_bytes, max_records, newest_at = fields
    log.read(filter, after, max_bytes, max_records, now_ms, done, newest_at)


def _read_back(log: Log, now_ms: int, fields: Any, take: Take) -> None:
    _, topic, before, max_bytes, max_records = fields
    log.read_back(
        topic,
        before,
        max_bytes,
        max_records,
        now_ms,
        lambda records, has_older: take(Older(0, log.name, records, has_older, log.head())),
    )


def _seek(log: Log, now_ms: int, fields: Any, take: Take) -> None:
    def done(place: Place) -> None:
        take(Found(0, log.name, place.pos, place.is_complete, place.loss, log.head()))

    _, filter, last, since = fields
    log.seek(filter, Start(last=last, since=since), now_ms, done)


ANSWERED_HERE: Final[dict[type[Frame], Callable[[Log, int, Any, Take], None]]] = {
    Read: _read,
    ReadBack: _read_back,
    Seek: _seek,
}
