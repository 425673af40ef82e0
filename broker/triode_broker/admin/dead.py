"""Dead letters for an operator: which there are, publish them again, drop them.

Knows the router and what stands in a dead letter (SPEC 9.8). A letter is a message of the compacted topic
`$dead/<name>`, under its source's place as key: to drop it is to delete its key. The surprising decision: "retry"
publishes and drops in one synchronous step, so that where both topics are on one disk a crash in between neither
doubles nor loses the letter.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw
from triode_protocol.packets import ABSENT, Message, Publish

from triode_broker.admin.asking import Receipts, ask
from triode_broker.admin.listener import BadCall
from triode_broker.core.dead_letters import HEADER, PREFIX, topic_of
from triode_broker.core.interfaces import PAGE_RECORDS, Page
from triode_broker.core.record import Record
from triode_broker.core.router import Router

PAGE_BYTES = 1_048_576
MAX_LETTERS = 10_000  # looked at by one call
MAX_AT_ONCE = 64  # published between two waits for the disk
FILTER = PREFIX + "+"

_message = msgspec.json.Decoder(Message)


class DeadLetters:
    """All names' letters."""

    def __init__(self, router: Router, now_ms: Callable[[], int]) -> None:
        self._router = router
        self._now_ms = now_ms

    async def list(self, parameters: Mapping[str, Any]) -> object:
        """The letters of a name; without one the names that have some."""
        name = parameters.get("name", "")
        if not isinstance(name, str):
            raise BadCall("which name?")
        if not name:
            return await self._names()
        limit = parameters.get("limit", 100)
        if not isinstance(limit, int) or not 0 < limit <= MAX_LETTERS:
            raise BadCall(f"limit is from 1 to {MAX_LETTERS}")
        return [_shown(record) for record in await self._letters(topic_of(name), limit)]

    async def count(self, name: str) -> int:
        """How many a name has; at most MAX_LETTERS."""
        return len(await self._letters(topic_of(name), MAX_LETTERS))

    async def retry(self, parameters: Mapping[str, Any]) -> object:
        """Publish letters again where they came from, as new messages, and drop them."""
        letters = await self._chosen(parameters)
        return {"count": await self._each(letters, self._retry)}

    async def drop(self, parameters: Mapping[str, Any]) -> object:
        """Forget letters."""
        letters = await self._chosen(parameters)
        return {"count": await self._each(letters, self._drop)}

    async def _names(self) -> object:
        counts: dict[str, int] = {}
        for record in await self._letters(FILTER, MAX_LETTERS):
            name = record.topic.removeprefix(PREFIX)
            counts[name] = counts.get(name, 0) + 1
        return [{"name": name, "count": count} for name, count in sorted(counts.items())]

    async def _letters(self, filter: str, limit: int) -> Sequence[Record]:
        """What is held of a filter, oldest first, tombstones left out."""
        found: list[Record] = []
        for shard in self._router.covered(filter):
            log, after, head = shard.log, 0, shard.log.head()
            while after < head and len(found) < limit:
                read = partial(log.read, filter, after, PAGE_BYTES, PAGE_RECORDS, shard.clock(self._now_ms()))
                page: Page = await ask(partial(read, newest_at=head))
                found += page.records
                after = page.upto
        return found[:limit]

    async def _chosen(self, parameters: Mapping[str, Any]) -> Sequence[Record]:
        name, wanted = parameters.get("name"), parameters.get("positions", [])
        if not isinstance(name, str) or not name:
            raise BadCall("which name?")
        positions = set(msgspec.convert(wanted, list[int]))
        letters = await self._letters(topic_of(name), MAX_LETTERS)
        if missing := positions - {record.pos for record in letters}:
            raise BadCall(f"{name} has no dead letter at position {min(missing)}")
        return [record for record in letters if not positions or record.pos in positions]

    async def _each(self, letters: Sequence[Record], do: Callable[[Record, Receipts], None]) -> int:
        for start in range(0, len(letters), MAX_AT_ONCE):
            receipts = Receipts()
            for record in letters[start : start + MAX_AT_ONCE]:
                do(record, receipts)
            await receipts.settled()
        return len(letters)

    def _retry(self, record: Record, receipts: Receipts) -> None:
        message = _message.decode(record.payload)
        headers = message.headers
        data, key = message.data, headers.get(HEADER + "key", "")
        if HEADER + "deletes" in headers:
            data = ABSENT
        kept = {name: value for name, value in headers.items() if not name.startswith(HEADER)}
        again = Publish(headers[HEADER + "topic"], data, 1, key=key, headers=kept, b64=message.b64)
        self._router.publish(again, message.user, self._now_ms(), receipts)
        self._drop(record, receipts)

    def _drop(self, record: Record, receipts: Receipts) -> None:
        self._router.publish_own(Publish(record.topic, id=1, key=record.key), "", self._now_ms(), receipts)


def _shown(record: Record) -> dict[str, object]:
    message = _message.decode(record.payload)
    headers = message.headers
    return {
        "pos": record.pos,
        "reason": headers.get(HEADER + "reason", ""),
        "attempts": _number(headers, "attempts"),
        "topic": headers.get(HEADER + "topic", ""),
        "log": headers.get(HEADER + "log", ""),
        "source_pos": _number(headers, "pos"),
        "offset": _number(headers, "offset"),
        "at_ms": _number(headers, "at"),
        "user": message.user,
        "key": headers.get(HEADER + "key", ""),
        "headers": {name: value for name, value in headers.items() if not name.startswith(HEADER)},
        **_content(message),
    }


def _content(message: Message) -> dict[str, Raw]:
    return {"data": message.data} if message.data is not ABSENT else {"b64": message.b64}


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(HEADER + name, "0")
    return int(text) if text.isascii() and text.isdigit() else 0
