"""Waiting, in a task, for what the core answers through a callback."""

from collections.abc import Callable
from typing import TypeVar

import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import Published, ServerPacket

T = TypeVar("T")
#: A store that does not answer is not waited for longer.
PATIENCE_SECONDS = 20.0


async def ask(question: Callable[[Callable[[T], None]], None]) -> T:
    """Ask, and wait for the one answer. Raises Refused where none comes in time."""
    answers: list[T] = []
    arrived = trio.Event()

    def take(answer: T) -> None:
        answers.append(answer)
        arrived.set()

    question(take)
    with trio.move_on_after(PATIENCE_SECONDS):
        await arrived.wait()
    if not answers:
        raise Refused(ErrorName.TIMEOUT, f"the store has not answered within {PATIENCE_SECONDS:.0f} s")
    return answers[0]


class Receipts:
    """Waits for what becomes of some publishes; an `interfaces.Publisher`."""

    def __init__(self) -> None:
        self.inflight = 0
        self.stored = 0
        self.refused: Refused | None = None  # the first one
        self._changed = trio.Event()

    def answer(self, packet: ServerPacket) -> None:
        """One is stored."""
        assert isinstance(packet, Published)
        self.stored += 1
        self._changed.set()

    def refuse(self, refused: Refused) -> None:
        """One is not."""
        self.refused = self.refused or refused
        self._changed.set()

    async def settled(self) -> None:
        """When none is in flight. Raises the first refusal, or one where the store does not answer in time."""
        with trio.move_on_after(PATIENCE_SECONDS):
            while self.inflight:
                self._changed = trio.Event()
                await self._changed.wait()
        if self.inflight:
            raise Refused(ErrorName.TIMEOUT, f"the store has not answered within {PATIENCE_SECONDS:.0f} s")
        if self.refused is not None:
            raise self.refused
