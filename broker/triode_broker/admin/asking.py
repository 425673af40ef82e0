"""Waiting, in a task, for what the core answers through a callback."""

from collections.abc import Callable
from typing import TypeVar

import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import ServerPacket

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
    await _wait_for(arrived)
    return answers[0]


class Receipt:
    """Waits for what becomes of one publish; an `interfaces.Publisher`."""

    def __init__(self) -> None:
        self.inflight = 0
        self._refused: Refused | None = None
        self._settled = trio.Event()

    def answer(self, packet: ServerPacket) -> None:
        """It is stored."""
        self._settled.set()

    def refuse(self, refused: Refused) -> None:
        """It is not."""
        self._refused = refused
        self._settled.set()

    async def settled(self) -> None:
        """When it is stored. Raises Refused where it is not, or nobody knows in time."""
        await _wait_for(self._settled)
        if self._refused is not None:
            raise self._refused


async def _wait_for(event: trio.Event) -> None:
    with trio.move_on_after(PATIENCE_SECONDS):
        await event.wait()
    if not event.is_set():
        raise Refused(ErrorName.TIMEOUT, f"the store has not answered within {PATIENCE_SECONDS:g} s")
