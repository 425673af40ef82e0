"""Dead letters for an operator: which there are, publish them again, drop them.

Knows the router and what stands in a dead letter (SPEC 9.8). A letter is a message of the compacted topic
`$dead/<name>`, under its source's place as key: to drop it is to delete its key. The surprising decision: a retry
publishes and drops in one synchronous step where both topics are in one file, so that a crash in between neither
doubles nor loses the letter; else it drops only what was stored, so that one may be doubled and none is lost.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import asdict
from triode_protocol.codec import Refused
from triode_protocol.packets import ABSENT, Message, Publish

from triode_broker.admin.asking import Receipt, ask
from triode_broker.admin.listener import BadCall, Missing
from triode_broker.admin.parameters import count_in
from triode_broker.core import dead_letters
from triode_broker.core.dead_letters import HEADER, topic_of
from triode_broker.core.interfaces import PAGE_RECORDS, Page
from triode_broker.core.record import Record
from triode_broker.core.router import Router
from triode_broker.core.tenants import inside, is_tenant, name_inside, name_outside, tenant_of, tenant_of_name

PAGE_BYTES = 1_048_576
MAX_LISTED = 10_000  # letters in one answer
DEFAULT_LISTED = 100
MAX_LISTED_BYTES = 16_777_216
MAX_COUNTED = 10_000  # of one name
MAX_AT_ONCE = 64  # published between two waits for the disk
MAX_NAMED = 100  # refused letters that one answer tells of

#: What the store says of itself: the next letter would hear the same.
_OF_THE_STORE = frozenset({"unavailable", "overloaded", "timeout"})

_message = msgspec.json.Decoder(Message)


class DeadLetters:
    """All names' letters."""

    def __init__(self, router: Router, now_ms: Callable[[], int]) -> None:
        self._router = router
        self._now_ms = now_ms

    async def list(self, parameters: Mapping[str, Any]) -> object:
        """A name's oldest letters behind `after`, and whether there are more; without a name those with some."""
        name = parameters.get("name", "")
        if not name:
            return await self._names(tenant_in(parameters))
        limit = count_in(parameters, "limit", DEFAULT_LISTED, MAX_LISTED)
        max_bytes = count_in(parameters, "max_bytes", MAX_LISTED_BYTES, MAX_LISTED_BYTES)
        after = parameters.get("after", 0)
        if type(after) is not int or after < 0:
            raise BadCall("after is the position of a letter")
        pages, found, size = self._read(name_of(parameters), after), list[Record](), 0
        while len(found) <= limit and size <= max_bytes and (page := await pages.next()):
            for record in page:
                size += record.size
                if size > max_bytes and found:
                    break
                found.append(record)
        has_more = len(found) > limit or size > max_bytes
        return {"letters": [_shown(record) for record in found[:limit]], "more": has_more}

    async def counts(self) -> dict[str, int]:
        """How many the names have, as the core knows them, that have some; of each at most MAX_COUNTED."""
        names = filter(None, map(dead_letters.name_of, self._router.own_topics))
        return {name: count for name in sorted(names) if (count := await self.count(name))}

    async def count(self, name: str) -> int:
        """How many a name has; at most MAX_COUNTED."""
        pages, count = self._read(name), 0
        while count < MAX_COUNTED and (page := await pages.next()):
            count += len(page)
        return min(count, MAX_COUNTED)

    async def _names(self, tenant: str | None) -> object:
        return [
            {"name": name_outside(name), "tenant": tenant_of_name(name), "count": count}
            for name, count in (await self.counts()).items()
            if tenant is None or tenant == tenant_of_name(name)
        ]

    async def retry(self, parameters: Mapping[str, Any]) -> object:
        """Publish letters again where they came from, as new messages, and drop them."""
        return await self._each(parameters, self._retry)

    async def drop(self, parameters: Mapping[str, Any]) -> object:
        """Forget letters."""
        return await self._each(parameters, self._drop)

    def _read(self, name: str, after: int = 0) -> "_Letters":
        return _Letters(self._router, topic_of(name), self._now_ms, after)

    async def _each(self, parameters: Mapping[str, Any], begin: Callable[[Record], "_Work"]) -> object:
        """Do it with the letters at `positions`, or with all there are now.

        The answer: how many, and which were refused and why.
        """
        pages = self._read(name_of(parameters))
        done = Done()
        if positions := msgspec.convert(parameters.get("positions", []), list[int]):
            await self._some([await pages.at(pos) for pos in sorted(set(positions))], begin, done)
            return asdict(done)
        while not done.stopped and (page := await pages.next()):
            await self._some(page, begin, done)
        return asdict(done)

    async def _some(self, letters: Sequence[Record], begin: Callable[[Record], "_Work"], done: "Done") -> None:
        for start in range(0, len(letters), MAX_AT_ONCE):
            if done.stopped:
                return
            some = letters[start : start + MAX_AT_ONCE]
            for letter, work in [(letter, begin(letter)) for letter in some]:
                try:
                    await work.done()
                    done.count += 1
                except Refused as refused:
                    done.note(letter, refused)

    def _retry(self, letter: Record) -> "_Work":
        publish = Receipt()
        drop = partial(self._drop, letter)
        try:
            again, user = _again(letter)
            answer = self._router.publish(again, user, self._now_ms(), publish)
        except Refused as refused:
            publish.refuse(refused)
            return _Work(publish)
        if answer is not None:  # in memory: it is done
            publish.answer(answer)
        if self._router.shard_of(again.topic) is self._router.shard_of(letter.topic):
            return _Work(publish, now=drop())
        return _Work(publish, later=drop)

    def _drop(self, letter: Record) -> "_Work":
        receipt = Receipt()
        try:
            self._router.publish_own(Publish(letter.topic, id=1, key=letter.key), "", self._now_ms(), receipt)
        except Refused as refused:
            receipt.refuse(refused)
        return _Work(receipt)


class Done(msgspec.Struct):
    """What was done with some letters."""

    count: int = 0
    refused: list[dict[str, object]] = []
    stopped: str = ""  # why the others were left alone

    def note(self, letter: Record, refused: Refused) -> None:
        """One was not."""
        if refused.name in _OF_THE_STORE:
            self.stopped = refused.message
        elif len(self.refused) < MAX_NAMED:
            self.refused.append({"pos": letter.pos, "message": refused.message})


class _Work:
    """What is under way for one letter."""

    def __init__(
        self, receipt: Receipt, *, now: "_Work | None" = None, later: "Callable[[], _Work] | None" = None
    ) -> None:
        """`now` has begun too; `later` begins when the receipt is there."""
        self._receipt = receipt
        self._now = now
        self._later = later

    async def done(self) -> None:
        """When all of it is. Raises Refused."""
        await self._receipt.settled()
        following = self._now or (self._later() if self._later is not None else None)
        if following is not None:
            await following.done()


class _Letters:
    """Reads the letters of a topic that are there now, oldest first, tombstones left out."""

    def __init__(self, router: Router, topic: str, now_ms: Callable[[], int], after: int = 0) -> None:
        self._topic = topic
        self._shard = router.shard_of(topic)
        self._now_ms = now_ms
        self._after = after
        self._head = self._shard.log.head()

    async def next(self) -> Sequence[Record]:
        """Some more; none at the end."""
        while self._after < self._head:
            page = await self._ask(self._after, PAGE_RECORDS)
            self._after = page.upto
            if found := [one for one in page.records if not one.is_tombstone and one.pos <= self._head]:
                return found
        return ()

    async def at(self, pos: int) -> Record:
        """The letter at this place. Raises BadCall where there is none."""
        found = (await self._ask(pos - 1, 1)).records if 0 < pos <= self._head else []
        if not found or found[0].pos != pos or found[0].is_tombstone:
            name = name_outside(dead_letters.name_of(self._topic))
            raise Missing(f"{name} has no dead letter at position {pos}")
        return found[0]

    async def _ask(self, after: int, max_records: int) -> Page:
        shard = self._shard
        return await ask(
            partial(shard.log.read, self._topic, after, PAGE_BYTES, max_records, shard.clock(self._now_ms()))
        )


def name_of(parameters: Mapping[str, Any]) -> str:
    """The parameters `name` and `tenant`, as the core knows that name. Raises BadCall."""
    name = parameters.get("name")
    if not isinstance(name, str) or not name or name.startswith("$"):
        raise BadCall("which name?")
    return name_inside(tenant_in(parameters) or "", name)


def tenant_in(parameters: Mapping[str, Any]) -> str | None:
    """The parameter `tenant`, where there is one. Raises BadCall."""
    tenant = parameters.get("tenant")
    if tenant is not None and not (isinstance(tenant, str) and is_tenant(tenant)):
        raise BadCall("tenant is not the name of one")
    return tenant


def _again(letter: Record) -> tuple[Publish, str]:
    """What to publish, and whose it was."""
    message = _message.decode(letter.payload)
    headers = message.headers
    kept = {name: value for name, value in headers.items() if not name.startswith(HEADER)}
    data = ABSENT if HEADER + "deletes" in headers else message.data
    key = headers.get(HEADER + "key", "")
    topic = inside(tenant_of(letter.topic), headers[HEADER + "topic"])
    return Publish(topic, data, 1, key=key, headers=kept, b64=message.b64), message.user


def _shown(letter: Record) -> dict[str, object]:
    message = _message.decode(letter.payload)
    headers = message.headers
    shown: dict[str, object] = {
        "pos": letter.pos,
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
    }
    if HEADER + "deletes" in headers:
        return {**shown, "deletes": True}
    return {**shown, **_content(message)}


def _content(message: Message) -> dict[str, Raw]:
    return {"data": message.data} if message.data is not ABSENT else {"b64": message.b64}


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(HEADER + name, "0")
    return int(text) if text.isascii() and text.isdigit() else 0
