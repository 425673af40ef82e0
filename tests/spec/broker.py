"""A broker in the test's own nursery, on a port of its own; what the fixtures hand out."""

from typing import Any

import msgspec
import trio
from triode_broker.config import Config
from triode_broker.server import serve

from tests.spec.client import RawClient


class RunningBroker:
    """One broker at a time at `url`; `restart` ends it and starts another one, at another address."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._config = Config()
        self._clients: list[RawClient] = []
        self.url = ""

    async def start(self, **settings: Any) -> None:
        """Settings as in the configuration file; one log unless they say otherwise."""
        config = {"listen": "127.0.0.1:0", "memory_shards": 1} | settings
        self._config = msgspec.convert(config, Config)
        await self._run()

    async def _run(self) -> None:
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self.url = (await self._nursery.start(self._serve))[0]

    async def _serve(self, task_status: trio.TaskStatus[list[str]]) -> None:
        try:
            with self._scope:
                await serve(self._config, task_status=task_status)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """End it in good order."""
        self._scope.cancel()
        await self._ended.wait()

    async def restart(self) -> None:
        """The same configuration, new logs."""
        await self.stop()
        await self._run()

    async def end(self) -> None:
        """End it and the lines of all its clients."""
        for client in self._clients:
            await client.cut()
        await self.stop()

    async def open(self, **options: Any) -> RawClient:
        """A WebSocket, nothing said."""
        client = await RawClient.open(self._nursery, self.url, **options)
        self._clients.append(client)
        return client

    async def connect(self, **fields: Any) -> RawClient:
        """A connected client."""
        client = await self.open()
        await client.send({"type": "connect", "id": 1, **fields})
        await client.expect("connected", id=1)
        return client
