"""Revoking: what a revocation and a kick do on this node: to the table, its file, and everybody who is connected.

Knows sessions and the file, neither operators nor other nodes: those come in through `revoke`, `lift`, `take` and
`kick`. The surprising decision: it does not trust a goodbye. Whoever is to go is told so in the usual way, and 3 s
later the connection is dropped, drained or not; a client that reads slowly enough would else go on reading what it
was sent before (G10).

A revocation is in force at once, and the disk comes after. Where it cannot be kept there, that is said, in the
answer, the log and health, and it holds nevertheless.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from msgspec import to_builtins
from triode_protocol.errors import CloseCode

from triode_broker import revocation_file
from triode_broker.core.node import Node
from triode_broker.core.revocations import Key, Revocation
from triode_broker.core.session import Session

#: After its goodbye a connection has so long to take what was sent: with all else within the 5 s of G10.
DROP_MS: Final = 3_000
#: Sessions looked at in one turn, and closed in one: both take a few milliseconds.
LOOKED_AT_PER_TURN: Final = 1_000
CLOSED_PER_TURN: Final = 64

Test = Callable[[Session], bool]


@attrs.define(eq=False)
class Revoking:
    """One per node."""

    node: Node
    flush: Callable[[], None]
    now_ms: Callable[[], int]
    log: Any
    directory: Path | None = None  # of the file; None: in memory
    is_writer: bool = True  # else another process of this host writes it
    failure: str = ""  # why the file could not be written; "" while it could
    _changes: int = 0
    _kept: int = 0  # changes that are in the file
    _writing: trio.Lock = attrs.field(factory=trio.Lock)

    def load(self) -> None:
        """What was kept. Raises revocation_file.BadFile, which is a StoreError."""
        if self.directory is not None:
            self.node.revocations.merge(revocation_file.read(self.directory), self.now_ms())

    @property
    def kept(self) -> str:
        """Where revocations are kept: "disk", "memory", or "failed"."""
        if self.directory is None:
            return "memory"
        return "failed" if self.failure else "disk"

    def degraded(self) -> list[str]:
        """For health."""
        return [f"revocations are not kept: {self.failure}"] if self.failure else []

    # What is asked of it

    async def revoke(self, wanted: Revocation) -> tuple[Revocation, int]:
        """From now on. Returns what is in force, and how many were sent away. Raises core.revocations.TooMany."""
        entry = self.node.revocations.add(wanted)
        return entry, await self._changed([entry])

    async def lift(self, key: Key) -> Revocation | None:
        """Take one back; None: it is not in force here."""
        entry = self.node.revocations.lift(key, self.now_ms())
        if entry is not None:
            await self._changed([entry])
        return entry

    async def take(self, entries: Sequence[Revocation]) -> tuple[list[Revocation], int]:
        """What another node knows. Returns what was news, and how many were sent away. Raises TooMany."""
        news = self.node.revocations.merge(entries, self.now_ms())
        return news, await self._changed(news) if news else 0

    async def kick(self, is_meant: Callable[[Session], bool], code: CloseCode) -> int:
        """Send those away whom it is true of. Returns how many."""
        return await self._send_away(is_meant, code)

    async def _changed(self, news: Sequence[Revocation]) -> int:
        self._changes += 1
        self.node.rules_serial += 1  # who is being let in is judged again
        for entry in news:
            self.log.info("revocation", entry=to_builtins(entry))
        now_ms, check = self.now_ms(), self.node.revocations.check

        def is_revoked(session: Session) -> bool:
            return check(session.identity, now_ms) is not None

        count = 0
        if not all(entry.is_lifted for entry in news):
            count = await self._send_away(is_revoked, CloseCode.REVOKED)
        await self._keep()
        return count

    # Sessions

    async def _send_away(self, is_meant: Test, code: CloseCode) -> int:
        """Those that connect meanwhile were judged by what holds now."""
        everybody = list(self.node.sessions.values())
        told: list[Session] = []
        for start in range(0, len(everybody), LOOKED_AT_PER_TURN):
            found = [one for one in everybody[start : start + LOOKED_AT_PER_TURN] if is_meant(one)]
            for first in range(0, len(found), CLOSED_PER_TURN):
                for session in found[first : first + CLOSED_PER_TURN]:
                    session.close(code)
                self.flush()
                await trio.lowlevel.checkpoint()
            told += found
            await trio.lowlevel.checkpoint()
        if told:
            self._drop_later(told, DROP_MS)
        return len(told)

    def _drop_later(self, told: list[Session], after_ms: int) -> None:
        timers = self.node.timers

        def drop(_now_ms: int) -> None:
            for session in told[:LOOKED_AT_PER_TURN]:  # of most there is nothing left to be dropped
                session.drop()
            if rest := told[LOOKED_AT_PER_TURN:]:
                self._drop_later(rest, 0)

        timers.at(timers.steady_ms() + after_ms, drop)

    # The file

    async def _keep(self) -> None:
        """All up to here is on disk when this returns, or `failure` says why not."""
        if self.directory is None or not self.is_writer:
            return
        change = self._changes
        async with self._writing:
            if self._kept >= change:
                return  # by somebody who came later and was first
            change = self._changes
            entries = self.node.revocations.all()
            try:
                await trio.to_thread.run_sync(revocation_file.write, self.directory, entries)
            except OSError as error:
                self.failure = error.strerror or str(error)
                self.log.error("revocations_not_kept", reason=self.failure)
            else:
                self.failure, self._kept = "", change
