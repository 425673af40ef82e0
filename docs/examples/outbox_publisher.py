"""A service that publishes what it stores: its rows and what is to be said about them go into one transaction.

    python docs/examples/outbox_publisher.py orders.db [ws://127.0.0.1:7400] < orders.txt

Each line of the input is an order. It is stored together with a row of the table `outbox`; a task publishes these
rows and removes each one when the broker has acknowledged it. Killed at any moment and started again, the service
publishes every stored order and nothing else; it needs no broker to take orders. A row keeps its message id, so
one that was published and not yet removed is stored once by the broker, as long as the restart comes within the
deduplication window (5 minutes unless configured); after that readers see it twice, with the same id.
"""

import json
import logging
import sqlite3
import sys
import uuid

import trio
import triode

BATCH = 64  # rows on their way at once
RETRY_SECONDS = 1.0

log = logging.getLogger("outbox_publisher")


class Orders:
    """The service's tables. One statement takes microseconds, so it runs in the event loop."""

    def __init__(self, file: str) -> None:
        self._database = sqlite3.connect(file)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")  # stored means flushed
        self._database.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL)")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " message_id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, data TEXT NOT NULL, refusal TEXT)"
        )
        self.added = trio.Event()

    def place(self, item: str) -> None:
        """Store an order, and in the same transaction what is to be published about it."""
        with self._database:
            order = self._database.execute("INSERT INTO orders (item) VALUES (?)", (item,)).lastrowid
            data = json.dumps({"order": order, "item": item})
            self._database.execute(
                "INSERT INTO outbox (message_id, topic, data) VALUES (?, ?, ?)", (uuid.uuid4().hex, "orders", data)
            )
        self.added.set()
        self.added = trio.Event()

    def outbox(self) -> list[tuple[int, str, str, str]]:
        """The oldest rows to publish: id, message id, topic, data."""
        select = "SELECT id, message_id, topic, data FROM outbox WHERE refusal IS NULL ORDER BY id LIMIT ?"
        return self._database.execute(select, (BATCH,)).fetchall()

    def published(self, row: int) -> None:
        """The broker has it."""
        with self._database:
            self._database.execute("DELETE FROM outbox WHERE id = ?", (row,))

    def refused(self, row: int, refusal: str) -> None:
        """The broker will never take it: set it aside for somebody to look at, so that it stops no other."""
        with self._database:
            self._database.execute("UPDATE outbox SET refusal = ? WHERE id = ?", (refusal, row))


async def publish_outbox(client: triode.Client, orders: Orders) -> None:
    """Publish what is in the outbox, in its order; returns when it is empty. Whatever fails is tried again."""
    while rows := orders.outbox():
        receipts = [
            (row, client.publish_nowait(topic, triode.Raw(data.encode()), message_id=message_id))
            for row, message_id, topic, data in rows
        ]
        for row, receipt in receipts:
            try:
                await receipt.wait()
                orders.published(row)
            except triode.PublishRefused as error:
                if error.retry == "never":
                    log.error("row %d is refused: %s", row, error)
                    orders.refused(row, str(error))
                else:
                    await trio.sleep(RETRY_SECONDS)
            except triode.TriodeError as error:  # its outcome may be unknown; its message id makes that harmless
                log.warning("row %d later: %s", row, error)
                await trio.sleep(RETRY_SECONDS)


async def read_orders(orders: Orders) -> None:
    """The service's own work: each line of the input is an order."""
    async for line in trio.wrap_file(sys.stdin):
        if item := line.strip():
            orders.place(item)


async def main(file: str, url: str) -> None:
    """Take orders until the input ends; publish all the while, and what is left at the end."""
    orders = Orders(file)
    async with triode.connect(url, name="orders", wait_seconds=0) as client, trio.open_nursery() as nursery:
        input_ended = trio.Event()

        async def publish() -> None:
            while not input_ended.is_set():
                added = orders.added
                await publish_outbox(client, orders)
                await added.wait()
            await publish_outbox(client, orders)

        nursery.start_soon(publish)
        await read_orders(orders)
        input_ended.set()
        orders.added.set()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    trio.run(main, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:7400")
