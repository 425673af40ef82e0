"""All webhooks of a node: begun, changed and ended as the settings say, and what operators may ask of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import trio

from triode_broker.config import Webhook
from triode_broker.core.node import Node

if TYPE_CHECKING:
    from triode_broker.webhooks.telling import Telling

#: A row, and what signs its requests.
Row = tuple[Webhook, tuple[bytes, ...]]


class Webhooks:
    """Those of one node."""

    def __init__(self, node: Node, log: Any, now_ms: Callable[[], int], flush: Callable[[], None]) -> None:
        self._node = node
        self._log = log
        self._now_ms = now_ms
        self._flush = flush
        self._nursery: trio.Nursery | None = None
        self._rows: Sequence[Row] = ()
        self.by_name: dict[str, tuple[Row, Telling]] = {}

    def put(self, rows: Sequence[Row]) -> None:
        """These from now on; those that are as they were go on undisturbed."""
        self._rows = rows
        if self._nursery is None:
            return
        wanted = {row.name: (row, secrets) for row, secrets in rows}
        for name, (before, telling) in list(self.by_name.items()):
            if wanted.get(name) != before:
                del self.by_name[name]
                telling.stop()
        for name, (row, secrets) in wanted.items():
            if name not in self.by_name:
                from triode_broker.webhooks.telling import Telling  # with httpx, 0.1 s of a start

                telling = Telling(self._node, row, secrets, self._log, self._now_ms, self._flush)
                self.by_name[name] = (row, secrets), telling
                self._nursery.start_soon(telling.run)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.put(self._rows)
            task_status.started()
            await trio.sleep_forever()

    def report(self) -> list[dict[str, Any]]:
        """How they stand, by name."""
        return [telling.report() for _, (_, telling) in sorted(self.by_name.items())]

    def troubles(self) -> list[str]:
        """For health."""
        return [trouble for _, telling in self.by_name.values() if (trouble := telling.trouble)]

    async def test(self, name: str) -> Mapping[str, Any] | None:
        """Send one a test event; None where there is none of that name."""
        found = self.by_name.get(name)
        return None if found is None else await found[1].test()
