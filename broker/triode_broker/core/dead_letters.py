"""Dead letters: messages that a name could not get processed, as messages of the topic `$dead/<name>` (SPEC 9.8).

Makes the packet, and is told what became of it. A letter's key is the place of the message, so there is one letter
for one message, and a deletion by key takes it away. Headers of that name from a publisher are not believed.
Those of a tenant's names are the tenant's (`core.tenants`), and say nothing of the inside.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from triode_protocol.codec import Refused
from triode_protocol.packets import ABSENT, Message, Publish, ServerPacket

from triode_broker.core.item import Item
from triode_broker.core.tenants import (
    inside,
    is_own,
    name_inside,
    name_outside,
    outside,
    tenant_of,
    tenant_of_name,
)

PREFIX: Final = "$dead/"
HEADER: Final = "triode-dead-"
FAILED: Final = "max_attempts"
REJECTED: Final = "rejected"

_message: Final = msgspec.json.Decoder(Message)
_NULL: Final = msgspec.Raw(b"null")


def topic_of(name: str) -> str:
    """Where the dead letters of a name go; of a client's name, or one of the core and then inside."""
    return inside(tenant_of_name(name), PREFIX + name_outside(name))


def name_of(topic: str) -> str:
    """Whose dead letters go to a topic of the core; "" for another topic."""
    own = outside(topic)
    is_dead = is_own(topic) and own.startswith(PREFIX)
    return name_inside(tenant_of(topic), own.removeprefix(PREFIX)) if is_dead else ""


def make_letter(name: str, item: Item, now_ms: int) -> tuple[Publish, str]:
    """The publish of an item that has a reason, and whose it was."""
    record = item.record
    message = _message.decode(record.payload)
    headers = {
        **{name: value for name, value in message.headers.items() if not name.startswith(HEADER)},
        HEADER + "reason": item.reason,
        HEADER + "topic": outside(record.topic),
        HEADER + "log": message.log,
        HEADER + "pos": str(record.pos),
        HEADER + "offset": str(record.offset),
        HEADER + "attempts": str(item.failed),
        HEADER + "at": str(now_ms),
    }
    if message.key:
        headers[HEADER + "key"] = message.key
    data = message.data
    if data is ABSENT and message.b64 is ABSENT:  # it deletes a key; without data it would delete the letter's
        headers[HEADER + "deletes"] = "true"
        data = _NULL
    key = f"{message.log}.{record.pos}"
    return Publish(topic_of(name), data, 1, key=key, headers=headers, b64=message.b64), message.user


class Letter:
    """Waits for what becomes of one dead letter; an `interfaces.Publisher`."""

    __slots__ = ("_refused", "_written", "inflight")

    def __init__(self, written: Callable[[], None], refused: Callable[[Refused], None]) -> None:
        self.inflight = 0
        self._written = written
        self._refused = refused

    def answer(self, packet: ServerPacket) -> None:
        """It is written."""
        self._written()

    def refuse(self, refused: Refused) -> None:
        """It came to nothing."""
        self._refused(refused)
