"""An editor of one shared text in the terminal: every line that is entered is appended, every change is shown.

    python docs/examples/editor/editor.py notes [ws://127.0.0.1:7400]

Start it in two terminals. `Editor` connects the algorithm of shared_text.py to the broker and is what a real
editor would use: `edit` at any time, online or not, and draw `text` after each `changed`. README.md beside this
file has the topics and the rules.
"""

import logging
import sys
from typing import Final

import trio
import triode
from shared_text import Change, Operation, SharedText, difference

SNAPSHOT_EVERY: Final = 100  # operations that count
RETRY_SECONDS: Final = 1.0

log = logging.getLogger("editor")


class Editor:
    """One person's copy of a text. `run` keeps it and the broker's log together until it is cancelled."""

    def __init__(self, client: triode.Client, name: str, snapshot_every: int = SNAPSHOT_EVERY) -> None:
        self._client = client
        self._snapshot_every = snapshot_every
        self._operations = f"documents/{name}/ops"
        self._snapshots = f"documents/{name}/snapshot"
        self._shared = SharedText()
        self._changed = trio.Event()

    @property
    def text(self) -> str:
        """What is agreed, and one's own changes that are not yet."""
        return self._shared.text

    @property
    def version(self) -> int:
        """How many operations have counted, as far as this editor knows."""
        return self._shared.version

    @property
    def is_settled(self) -> bool:
        """Whether everything that was edited here has counted."""
        return not self._shared.pending

    def edit(self, change: Change) -> None:
        """Change the text, here at once and everywhere else soon. Raises DoesNotFit."""
        self._shared.edit(change)
        self._tell()

    def replace(self, text: str) -> None:
        """The same for those who have no change but another text, as a text field has."""
        self.edit(difference(self.text, text))

    async def changed(self) -> None:
        """Until something is different."""
        await self._changed.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read and write; started when the subscription is there."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            await self._read(task_status)

    async def _read(self, task_status: trio.TaskStatus[None]) -> None:
        after = await self._begin_from_snapshot()
        subscription = (
            self._client.subscribe(self._operations, after=after)
            if after
            else self._client.subscribe(self._operations, from_="earliest")
        )
        async with subscription as messages:
            task_status.started()
            async for event in messages.events():
                match event:
                    case triode.Message():
                        is_mine = self._shared.take(event.message_id, event.data)
                        if is_mine and self.version % self._snapshot_every == 0:
                            self._publish_snapshot(event.position)
                    case triode.Gap():
                        log.warning("operations are missing: %s", event.reason)
                        await self._begin_from_snapshot()
                self._tell()

    async def _begin_from_snapshot(self) -> triode.Position | None:
        """Take the newest one, if it is newer than what is here; the position that it stands at."""
        page = await self._client.history(self._snapshots, last=1)
        for message in page.messages:
            match message.data:
                case {"text": str(text), "version": int(version), "after": dict(after)} if version > self.version:
                    self._shared.begin_again(text, version)
                    return after
        return None

    def _publish_snapshot(self, position: triode.Position) -> None:
        """A later one will do as well, so nobody waits for this one."""
        data = {"text": self._shared.agreed, "version": self.version, "after": position}
        try:
            self._client.publish_nowait(self._snapshots, data, key="snapshot")
        except triode.TriodeError as error:
            log.warning("no snapshot: %s", error)

    async def _write(self) -> None:
        while True:
            changed = self._changed
            if operation := self._shared.next_operation():
                await self._publish(operation)
            else:
                await changed.wait()

    async def _publish(self, operation: Operation) -> None:
        """Until it is surely in the log, or there is no use any more. It may get there twice; it counts once."""
        while self._shared.waits_for(operation):
            try:
                await self._client.publish(self._operations, operation.data, message_id=operation.id)
                while self._shared.waits_for(operation):
                    await self._changed.wait()
            except triode.PublishRefused as error:
                if error.retry == "never":
                    raise
                await trio.sleep(RETRY_SECONDS)
            except triode.TriodeError as error:
                log.warning("once more: %s", error)
                await trio.sleep(RETRY_SECONDS)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def show(editor: Editor) -> None:
    """Print the text whenever it has changed."""
    shown = ""
    while True:
        if editor.text != shown:
            shown = editor.text
            print(f"--- version {editor.version}\n{shown}", end="", flush=True)
        await editor.changed()


async def main(name: str, url: str) -> None:
    """Append what is entered; at its end wait until all of it has counted."""
    async with triode.connect(url, name="editor") as client, trio.open_nursery() as nursery:
        editor = Editor(client, name)
        await nursery.start(editor.run)
        nursery.start_soon(show, editor)
        async for line in trio.wrap_file(sys.stdin):
            editor.replace(f"{editor.text}{line}")
        while not editor.is_settled:
            await editor.changed()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    trio.run(main, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:7400")
