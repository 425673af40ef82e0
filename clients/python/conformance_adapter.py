"""The conformance adapter of the Python client: `python conformance_adapter.py --face trio|asyncio|sync`.

Reads commands from stdin and writes reports to stdout, one JSON object a line (protocol/scenarios/README.md); run
it by `triode conformance -- python clients/python/conformance_adapter.py`. Knows the public face of the client and
nothing below. The surprising decision: every wish of the runner is a task of its own, so that no answer that does
not come holds up the next command.
"""

import argparse
import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Protocol

import trio
import triode

VERSION = 1
LONG_SECONDS = 30.0  # where no scenario is about time, none shall pass: machines that judge are busy
LACKS: list[str] = []

Values = dict[str, Any]
Work = Callable[[], Awaitable[None]]


class Crew(Protocol):
    """Tasks that end together. `start` returns what cancels the task."""

    def start(self, work: Work) -> Callable[[], object]: ...
    def cancel(self) -> None: ...


class TrioCrew:
    """On trio."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start(self, work: Work) -> Callable[[], object]:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await work()

        self._nursery.start_soon(run)
        return scope.cancel

    def cancel(self) -> None:
        self._nursery.cancel_scope.cancel()


class AsyncioCrew:
    """On asyncio."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Work) -> Callable[[], object]:
        async def run() -> None:
            await work()

        task = self._group.create_task(run())
        self._tasks.append(task)
        return task.cancel

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


class TrioFace:
    """Trio's own things, under names that both faces have."""

    connect = staticmethod(triode.connect)
    Event = trio.Event

    @staticmethod
    @asynccontextmanager
    async def crew() -> AsyncIterator[TrioCrew]:
        async with trio.open_nursery() as nursery:
            yield TrioCrew(nursery)

    @staticmethod
    async def lines() -> AsyncIterator[bytes]:
        buffered = b""
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
            async for data in stdin:
                *lines, buffered = (buffered + data).split(b"\n")
                for line in lines:
                    yield line

    @staticmethod
    def run(main: Work) -> None:
        trio.run(main)


class SyncFace(TrioFace):
    """The blocking client, in threads of a program on trio."""

    def __init__(self) -> None:
        self.connect = import_module("conformance_blocking").connect


class AsyncioFace:
    """Asyncio's."""

    Event = asyncio.Event

    def __init__(self) -> None:
        self.connect = import_module("triode.asyncio").connect

    @staticmethod
    @asynccontextmanager
    async def crew() -> AsyncIterator[AsyncioCrew]:
        async with asyncio.TaskGroup() as group:
            yield AsyncioCrew(group)

    @staticmethod
    async def lines() -> AsyncIterator[bytes]:
        reader = asyncio.StreamReader(limit=2**24)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            yield line

    @staticmethod
    def run(main: Work) -> None:
        async def running() -> None:
            await main()

        asyncio.run(running())


def report(event: str, **values: Any) -> None:
    """One line to the runner, without what is not there."""
    kept = {name: value for name, value in values.items() if name == "data" or value not in (None, "", {})}
    said = {"event": event, **kept}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


class Adapter:
    """One client at a time."""

    def __init__(self, face: Any) -> None:
        self._face = face

    async def run(self) -> None:
        """Scenario after scenario, until stdin ends."""
        lines = self._face.lines()
        while await self._scenario(lines):
            report("reset")

    async def _scenario(self, lines: AsyncIterator[bytes]) -> bool:
        """Commands until `reset` (True) or the end of stdin (False)."""
        self._client: Any = None
        self._closing = self._face.Event()
        self._token_given = self._face.Event()
        self._token = ""
        self._subscriptions: dict[str, Any] = {}
        self._ends: dict[str, Callable[[], object]] = {}
        self._deliveries: list[Any] = []
        async with self._face.crew() as self._crew:
            async for line in lines:
                command = json.loads(line)
                name = command.pop("command")
                if name == "reset":
                    self._crew.cancel()
                    return True
                await getattr(self, f"do_{name}")(**command)
            self._crew.cancel()
        return False

    def _start(self, work: Work, *, ref: str = "") -> Callable[[], object]:
        """A task. What it raises is a report about `ref`, or `wrong`."""

        async def guarded() -> None:
            try:
                await work()
            except triode.TriodeError as error:
                if not ref:
                    raise
                report("failed", ref=ref, error=error_name(error))

        async def barred() -> None:
            try:
                await guarded()
            except Exception as error:  # noqa: BLE001  # whatever it is, the runner is to hear of it
                report("wrong", message=repr(error))

        cancel: Callable[[], object] = self._crew.start(barred)
        return cancel

    # The client

    async def do_hello(self, version: int = VERSION) -> None:
        report("hello", version=VERSION, client="triode-python", lacks=LACKS)

    async def do_connect(
        self,
        urls: list[str],
        token: str = "",
        ask_token: bool = False,
        connect_timeout_ms: int = 0,
        publish_timeout_ms: int = 0,
        will: Values | None = None,
    ) -> None:
        limits = {"connect_timeout_seconds": connect_timeout_ms / 1000 or LONG_SECONDS}
        if publish_timeout_ms:
            limits["publish_expiry_seconds"] = publish_timeout_ms / 1000
        client = self._face.connect(
            urls if len(urls) > 1 else urls[0],
            token=self._ask_token if ask_token else token,
            wait_seconds=0,
            will=triode.Will(will["topic"], will["data"], delay=will.get("delay_ms", 0) / 1000) if will else None,
            **limits,
        )
        started = self._face.Event()
        self._closing = self._face.Event()
        self._start(lambda: self._live(client, started, self._closing))
        await started.wait()

    async def _ask_token(self) -> str:
        self._token_given = self._face.Event()
        report("token_wanted")
        await self._token_given.wait()
        return self._token

    async def do_token(self, token: str) -> None:
        self._token = token
        self._token_given.set()

    async def _live(self, client: Any, started: Any, closing: Any) -> None:
        self._start(lambda: self._watch(client.events()))
        async with client:
            self._client = client
            started.set()
            await closing.wait()
        report("closed")

    async def _watch(self, events: AsyncIterator[triode.Event]) -> None:
        async for event in events:
            match event:
                case triode.StateChanged():
                    report("state", state=str(event.state), code=event.code or None)
                case triode.Notice():
                    report("notice", draining=event.draining)
                case triode.Complaint():
                    report("complaint", name=event.name)
                case triode.HandshakesRefused():
                    report("handshakes_refused")

    async def do_close(self) -> None:
        self._closing.set()

    # Publishing

    async def do_publish(self, ref: str, topic: str, b64: str = "", **options: Any) -> None:
        data = base64.b64decode(b64) if b64 else options.pop("data")
        if deliver_at_ms := options.pop("deliver_at_ms", 0):
            options["deliver_at"] = deliver_at_ms / 1000
        try:
            receipt = self._client.publish_nowait(topic, data, **options)
        except triode.TriodeError as error:
            report("failed", ref=ref, error=error_name(error))
            return
        self._start(lambda: published(ref, receipt.wait()), ref=ref)

    async def do_send(self, topic: str, data: Any) -> None:
        self._start(lambda: self._client.send(topic, data))

    async def do_delete_key(self, ref: str, topic: str, key: str) -> None:
        self._start(lambda: published(ref, self._client.delete_key(topic, key)), ref=ref)

    # Subscribing

    async def do_subscribe(self, subscription: str, filter: str, **options: Any) -> None:
        if "from" in options:
            options["from_"] = options.pop("from")
        await self._open(subscription, self._client.subscribe(filter, **options))

    async def do_consume(self, subscription: str, filter: str, **options: Any) -> None:
        if "from" in options:
            options["from_"] = options.pop("from")
        if ack_wait_ms := options.pop("ack_wait_ms", 0):
            options["ack_wait"] = ack_wait_ms / 1000
        await self._open(subscription, self._client.consume(filter, **options))

    async def _open(self, name: str, receiving: Any) -> None:
        """Begin one, in the order of the commands: from the start of its task to its packet it does not wait."""
        started = self._face.Event()
        self._ends[name] = self._start(lambda: self._receive(name, receiving, started))
        await started.wait()

    async def _receive(self, name: str, receiving: Any, started: Any) -> None:
        error = ""
        started.set()
        try:
            async with receiving as opened:
                self._subscriptions[name] = opened
                async for item in opened.events():
                    self._tell(name, item)
        except triode.SubscriptionEnded as ended:
            error = ended.name
        except triode.ConnectionClosed:
            error = "closed"
        finally:
            report("ended", subscription=name, error=error)

    async def do_unsubscribe(self, subscription: str) -> None:
        self._ends[subscription]()

    async def do_position(self, subscription: str) -> None:
        position = self._subscriptions[subscription].position
        report("position", subscription=subscription, position=dict(position))

    def _tell(self, name: str, item: Any) -> None:
        match item:
            case triode.Message():
                report("message", subscription=name, **told(item), deletes_key=item.deletes_key or None)
            case triode.Delivery():
                self._deliveries.append(item)
                number = len(self._deliveries)
                report("delivery", subscription=name, number=number, attempt=item.attempt, **told(item.message))
            case triode.Gap():
                report(
                    "gap",
                    subscription=name,
                    reason=item.reason,
                    after=item.after,
                    topic=item.topic,
                    **{"from": item.from_offset or None, "to": item.to_offset or None},
                )
            case triode.CaughtUp():
                report("caught_up", subscription=name)
            case triode.Joined():
                is_self = item.is_self or None
                report("joined", subscription=name, topic=item.topic, member=seen(item.member), is_self=is_self)
            case triode.Left():
                report("left", subscription=name, topic=item.topic, member=seen(item.member))

    # Answers to deliveries

    def _answer(self, ref: str, answer: Callable[[], Awaitable[None]]) -> None:
        async def settle() -> None:
            await answer()
            report("settled", ref=ref)

        self._start(settle, ref=ref)

    async def do_ack(self, ref: str, delivery: int) -> None:
        self._answer(ref, self._deliveries[delivery - 1].ack)

    async def do_nack(self, ref: str, delivery: int, delay_ms: int = 0) -> None:
        self._answer(ref, lambda: self._deliveries[delivery - 1].nack(delay_ms / 1000))

    async def do_reject(self, ref: str, delivery: int) -> None:
        self._answer(ref, self._deliveries[delivery - 1].reject)

    async def do_extend(self, ref: str, delivery: int, ms: int) -> None:
        self._answer(ref, lambda: self._deliveries[delivery - 1].extend(ms / 1000))

    # Requests

    async def do_history(self, ref: str, topic: str, **options: Any) -> None:
        async def ask() -> None:
            page = await self._client.history(topic, **options)
            positions = [message.pos for message in page.messages]
            report("history", ref=ref, positions=positions, complete=page.complete, after=page.after)

        self._start(ask, ref=ref)

    async def do_presence(self, ref: str, topic: str) -> None:
        async def ask() -> None:
            found = await self._client.presence(topic)
            report(
                "presence", ref=ref, members=[seen(member) for member in found.members], complete=found.complete
            )

        self._start(ask, ref=ref)


async def published(ref: str, publishing: Awaitable[triode.Published]) -> None:
    """Report where it went."""
    place = await publishing
    report(
        "published",
        ref=ref,
        log=place.log,
        pos=place.pos or None,
        offset=place.offset or None,
        level=place.level,
        duplicate=place.duplicate or None,
        delayed=place.delayed or None,
        message_id=place.message_id,
    )


def told(message: triode.Message) -> Values:
    """A message as reports say it."""
    payload: Values = {}
    if message.is_binary:
        payload["b64"] = base64.b64encode(message.data).decode()
    elif not message.deletes_key:
        payload["data"] = message.data
    place = {"topic": message.topic, "log": message.log, "pos": message.pos, "offset": message.offset}
    rest = {"key": message.key, "headers": message.headers, "message_id": message.message_id}
    return {**place, **payload, **rest}


def seen(member: triode.Member) -> Values:
    """A member as reports say it."""
    return {"id": member.id, "state": member.state} | ({"user": member.user} if member.user else {})


def error_name(error: triode.TriodeError) -> str:
    """An error as reports say it."""
    match error:
        case triode.Refused():
            return error.name
        case triode.ConnectionClosed():
            return "closed"
        case triode.OutcomeUnknown():
            return "unknown"
        case triode.Expired():
            return "expired"
        case triode.QueueFull():
            return "queue_full"
        case triode.DeliveryLost():
            return "lost"
    return type(error).__name__


def main() -> None:
    """Be the adapter."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    faces: dict[str, Any] = {"trio": TrioFace, "asyncio": AsyncioFace, "sync": SyncFace}
    parser.add_argument("--face", choices=faces, default="trio")
    face = faces[parser.parse_args().face]()
    face.run(Adapter(face).run)


if __name__ == "__main__":
    main()
