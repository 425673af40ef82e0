"""What asyncio needs: clients without a block, cancellation at any step, tasks that are not lost; and no trio."""

import asyncio
import gc
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import triode
import triode.asyncio
from triode.asyncio_runtime import AsyncioRuntime
from triode.asyncio_transport import AsyncioTransport
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from tests.client.broker import Line
from tests.client.faces.face import AsyncioFace
from tests.client.faces.scenes import goodbye, state_of
from tests.client.faces.stage import Signal, Stage
from tests.client.running import running

Body = Callable[[AsyncioFace], Coroutine[Any, Any, None]]
turn = AsyncioRuntime().checkpoint


@pytest.fixture
def face(brokers: Stage) -> AsyncioFace:
    return AsyncioFace(brokers)


def run(face: AsyncioFace, body: Body) -> None:
    """Run a body; no task and no socket is left."""
    face.run(lambda: body(face))
    gc.collect()  # an open socket warns here, and warnings are errors


# Names, and what is loaded


def test_faces_have_the_same_names_and_records() -> None:
    assert triode.asyncio.__all__ == triode.__all__
    for name in set(triode.__all__) - {"Client", "connect"}:
        assert getattr(triode.asyncio, name) is getattr(triode, name)
    assert issubclass(triode.asyncio.Client, triode.Client)


def python(program: str, *arguments: str) -> None:
    """Run a program of its own, where every warning is an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_asyncio_does_without_trio(face: AsyncioFace) -> None:
    program = """
        import asyncio, sys
        import triode.asyncio

        async def main(url: str) -> None:
            async with triode.asyncio.connect(url) as client, client.subscribe("a") as messages:
                await client.publish("a", 1)
                assert (await anext(messages)).data == 1

        asyncio.run(main(sys.argv[1]), debug=True)
        assert not {"trio", "trio_websocket", "sniffio", "outcome"} & set(sys.modules)
    """

    async def body(face: AsyncioFace) -> None:
        async with face.serving(running()) as url:
            await asyncio.to_thread(python, program, url)

    run(face, body)


def test_import_of_triode_loads_no_other_face() -> None:
    python("""
        import sys
        import triode

        triode.connect("ws://127.0.0.1:9")
        assert "trio" in sys.modules
        assert not {"websockets", "triode.asyncio", "triode.asyncio_runtime", "triode.sync"} & set(sys.modules)
    """)


def test_missing_library_is_told_with_its_cure() -> None:
    python("""
        import sys

        sys.modules["websockets"] = None
        try:
            import triode.asyncio
        except ModuleNotFoundError as error:
            assert "triode[asyncio]" in str(error)
        else:
            raise AssertionError("it was found")
    """)


def test_interrupted_program_leaves_as_it_should(face: AsyncioFace) -> None:
    """Control-C: no task is destroyed, no socket left, nothing logged."""

    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.until_closed()

    program = """
        import asyncio, signal, sys
        import triode.asyncio

        async def main(url: str) -> None:
            async with triode.asyncio.connect(url) as client, client.subscribe("a") as messages:
                signal.raise_signal(signal.SIGINT)
                await anext(messages)

        try:
            asyncio.run(main(sys.argv[1]), debug=True)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("it was not interrupted")
    """

    async def body(face: AsyncioFace) -> None:
        async with face.playing(scene) as url:
            await asyncio.to_thread(python, program, url)

    run(face, body)


# Without a block


def test_client_is_opened_and_closed_by_different_tasks(face: AsyncioFace) -> None:
    """As web frameworks have it; the first task is over by then."""

    async def scene(line: Line) -> None:
        await line.accept()
        await line.published()
        assert (await line.hear("publish"))["data"] == 2
        await line.goodbye()

    async def body(face: AsyncioFace) -> None:
        async with face.playing(scene) as url:
            client = triode.asyncio.connect(url)
            assert await asyncio.create_task(client.open()) is client
            with pytest.raises(RuntimeError, match="entered once"):
                await client.open()
            await client.publish("a", 1)
            await client.send("a", 2)
            await asyncio.gather(*(client.aclose() for _ in range(3)))
            await client.aclose()
            assert state_of(client) is triode.State.CLOSED

    run(face, body)


def test_client_that_nobody_closes_ends_with_its_loop(face: AsyncioFace) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.until_closed()

    async def body(face: AsyncioFace) -> None:
        async with face.playing(scene) as url:

            async def program() -> triode.asyncio.Client:
                client = await triode.asyncio.connect(url).open()
                client.publish_nowait("a", 1)
                return client

            client = await asyncio.to_thread(lambda: asyncio.run(program(), debug=True))
            assert client.state is triode.State.CLOSED

    run(face, body)


def test_refusal_comes_out_of_open_as_it_is(face: AsyncioFace) -> None:
    async def body(face: AsyncioFace) -> None:
        client = triode.asyncio.connect("ws://127.0.0.1:9", wait_seconds=0.05)
        with pytest.raises(triode.ConnectionRefused):
            await client.open()
        await client.aclose()

    run(face, body)


# Cancelled


async def steps(count: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await turn()


async def forever() -> None:
    """Until cancelled."""
    await asyncio.Event().wait()


def test_token_function_whose_own_work_is_cancelled_is_a_failed_attempt(face: AsyncioFace) -> None:
    """The client is not what was cancelled: it would end without a word to those who iterate."""

    async def body(face: AsyncioFace) -> None:
        works: list[asyncio.Task[None]] = []

        async def fetch() -> str:
            if not works:
                works.append(asyncio.create_task(forever()))
                works[0].cancel()
                await works[0]
            return "second"

        async def scene(line: Line) -> None:
            assert (await line.accept())["token"] == "second"
            await line.goodbye()

        async with face.playing(scene) as url, face.connect(url, token=fetch) as client:
            assert client.state is triode.State.CONNECTED

    run(face, body)


@pytest.mark.parametrize("count", [*range(20), 25, 30, 40, 60, 100, 200])
def test_program_cancelled_at_any_step_leaves_nothing_behind(face: AsyncioFace, count: int) -> None:
    clients: list[triode.Client] = []

    async def program(url: str) -> None:
        client = triode.asyncio.connect(url)
        clients.append(client)
        async with client:
            async with client.subscribe("a") as messages:
                receipts = [client.publish_nowait("a", number) for number in range(20)]
                await client.publish_many([("a", number) for number in range(20)])
                async for _ in messages:
                    await receipts.pop().wait()
                    if not receipts:
                        break
            await client.history("a")

    async def body(face: AsyncioFace) -> None:
        async with face.serving(running()) as url:
            task = asyncio.create_task(program(url))
            await steps(count)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await turn()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert all(client.state is triode.State.CLOSED for client in clients)

    run(face, body)


def test_cancelled_iteration_has_taken_nothing(face: AsyncioFace) -> None:
    """Whatever the moment: in the midst of waiting, or when the message has just come."""
    total = 400

    async def speak(client: triode.Client) -> None:
        for number in range(total):
            await client.send("a", number)
            await steps(number % 5)

    async def body(face: AsyncioFace) -> None:
        async with (
            face.serving(running(memory_shards=1)) as url,
            face.connect(url) as client,
            client.subscribe("a") as messages,
        ):
            speaker = asyncio.create_task(speak(client))
            got: list[int] = []
            patience = 0
            while len(got) < total:
                taking = asyncio.ensure_future(anext(messages))
                await steps(patience := (patience + 1) % 7)
                taking.cancel()
                with suppress(asyncio.CancelledError):
                    got.append((await taking).data)
            await speaker
            assert got == list(range(total))

    run(face, body)


def test_timeout_of_asyncio_ends_a_publish_and_nothing_else(face: AsyncioFace) -> None:
    has_heard = Signal()

    async def scene(line: Line) -> None:
        await line.accept(limits={"max_inflight_publishes": 1})
        unanswered = await line.hear("publish")
        has_heard.set()
        await line.hear("history")  # the barrier
        await line.say(
            {"type": "error", "id": unanswered["id"], "name": "forbidden", "message": "", "retry": "never"}
        )
        assert (await line.published(1))["data"] == "last"
        await line.goodbye()

    async def body(face: AsyncioFace) -> None:
        async def lose(patience: asyncio.Timeout) -> None:
            await face.wait(has_heard)
            patience.reschedule(0)

        async with face.playing(scene) as url, face.connect(url) as client:

            async def publish() -> None:
                async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
                    group.create_task(lose(patience))
                    await client.publish("a", "unanswered")

            with pytest.raises(TimeoutError):
                await publish()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await client.publish("a", "unsent")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.history("a"), 0.02)
            assert (await client.publish("a", "last")).pos == 1
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

    run(face, body)


# Bugs


def test_failed_task_is_told_and_ends_the_client(face: AsyncioFace) -> None:
    """Nobody waits for ever, and the error is not lost."""
    told: list[Any] = []

    async def scene(line: Line) -> None:
        await line.accept()
        await line.until_closed()

    async def body(face: AsyncioFace) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        async with face.playing(scene) as url:
            client = triode.asyncio.connect(url, publish_expiry_seconds=0.01)
            await client.open()
            client._session.tick = spoiled  # type: ignore[method-assign]  # a bug
            with pytest.raises(triode.TriodeError):
                await client.publish("a", 1)
            with pytest.raises(ZeroDivisionError):
                await client.aclose()
            await client.aclose()

    def spoiled(now: float) -> None:
        raise ZeroDivisionError

    run(face, body)
    assert [type(error) for error in told] == [ZeroDivisionError]


# The runtime


@asynccontextmanager
async def cancelling(seen: list[str]) -> AsyncIterator[None]:
    """Notes whether its block was cancelled."""
    try:
        yield
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


def test_scope_swallows_its_own_cancellation_and_no_other(face: AsyncioFace) -> None:
    runtime = AsyncioRuntime()

    async def body(face: AsyncioFace) -> None:
        seen: list[str] = []
        scope = runtime.scope()
        scope.cancel()  # before it is entered: nothing
        async with scope:
            await turn()
            async with cancelling(seen):
                scope.cancel()
                scope.cancel()
                scope.move_to(runtime.now() + 60)
                await forever()
        scope.cancel()
        await turn()
        assert seen == ["cancelled"]

        async with runtime.scope() as scope:
            scope.cancel()  # and it ends before that is noticed
        await turn()

        async def both() -> None:
            async with runtime.scope() as scope:
                scope.cancel()
                task.cancel()
                await forever()
            pytest.fail("it was cancelled from outside, too")

        task = asyncio.create_task(both())
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with runtime.scope(runtime.now()):
                raise TimeoutError  # the program's own

    run(face, body)


def test_lot_wakes_all_but_the_cancelled(face: AsyncioFace) -> None:
    async def body(face: AsyncioFace) -> None:
        lot = AsyncioRuntime().lot()
        tasks = [asyncio.create_task(lot.park()) for _ in range(3)]
        await turn()
        assert lot
        lot.unpark_all()
        assert not lot
        tasks[1].cancel()
        lot.unpark_all()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in done] == [type(None), asyncio.CancelledError, type(None)]

    run(face, body)


def test_joining_task_that_is_cancelled_ends_the_others_first(face: AsyncioFace) -> None:
    async def body(face: AsyncioFace) -> None:
        tasks = AsyncioRuntime().tasks()
        ends: list[str] = []

        async def work() -> None:
            try:
                await forever()
            finally:
                await steps(3)
                ends.append("work")

        tasks.start_soon(work)
        joining = asyncio.create_task(tasks.join())
        await steps(2)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert ends == ["work"]

    run(face, body)


# The transport


class Written(asyncio.Transport):
    """Keeps what is written, and whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reads = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


async def opened() -> tuple[AsyncioTransport, Written]:
    """A transport after its handshake."""
    transport, socket = AsyncioTransport("ws://broker.example/ws", 10_000), Written()
    transport.connection_made(socket)
    shaking = asyncio.create_task(transport.shake_hands())
    await turn()
    request = socket.written.pop().decode()
    key = next(line.split(": ")[1] for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
    head = (
        f"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key)}"
    )
    transport.data_received(f"{head}\r\n\r\n".encode())
    await shaking
    return transport, socket


def said(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=False)


def test_address_that_refuses_is_followed_by_the_next(face: AsyncioFace) -> None:
    """One of each family in turn: a family that leads nowhere costs one address."""
    dialled: list[Any] = []

    async def body(face: AsyncioFace) -> None:
        async with face.playing(goodbye) as url:
            loop = asyncio.get_running_loop()
            port = urlsplit(url).port

            async def addresses(*args: Any, **options: Any) -> list[Any]:
                there = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
                away = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", number, 0, 0)) for number in (1, 2)]
                return [*away, there]

            async def connect(attempt: socket.socket, address: Any) -> None:
                dialled.append(address[:2])
                await really(attempt, address)

            really = loop.sock_connect
            loop.getaddrinfo = addresses  # type: ignore[method-assign]  # a name server of ours
            loop.sock_connect = connect  # type: ignore[method-assign, assignment]  # listens
            async with face.connect(url):
                pass
            assert dialled == [("::1", 1), ("127.0.0.1", port)]

    run(face, body)


def test_pings_of_a_peer_that_does_not_read_are_not_answered(face: AsyncioFace) -> None:
    """S33: the answers would pile up."""

    async def body(face: AsyncioFace) -> None:
        transport, socket = await opened()
        transport.pause_writing()
        for _ in range(100):
            transport.data_received(said(Opcode.PING, b"x"))
        assert socket.written == []
        transport.resume_writing()
        transport.data_received(said(Opcode.PING, b"x"))
        assert len(socket.written) == 1

    run(face, body)


def test_socket_is_not_read_while_messages_wait(face: AsyncioFace) -> None:
    async def body(face: AsyncioFace) -> None:
        transport, socket = await opened()
        for number in range(70):
            transport.data_received(said(Opcode.TEXT, str(number).encode()))
        assert not socket.reads
        assert [await transport.receive() for _ in range(70)] == [str(number) for number in range(70)]
        assert socket.reads

    run(face, body)


def test_writer_waits_while_the_socket_is_full(face: AsyncioFace) -> None:
    async def body(face: AsyncioFace) -> None:
        transport, socket = await opened()
        transport.pause_writing()
        sending = asyncio.create_task(transport.send("a"))
        await steps(3)
        assert len(socket.written) == 1
        assert not sending.done()
        transport.resume_writing()
        await sending

    run(face, body)
