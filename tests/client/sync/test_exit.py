"""The end of a process: what is queued is sent, nothing hangs, and nothing is said."""

import signal
import subprocess

import triode.sync

from tests.client.broker import Line, answering
from tests.client.sync.stage import data, in_a_thread, played, program, stage


def test_program_that_just_ends_sends_what_is_queued(url: str) -> None:
    with triode.sync.connect(url) as client, client.subscribe("exit/flush") as messages:
        played(
            """
import sys, triode.sync
client = triode.sync.connect(sys.argv[1])
for number in range(1000):
    client.publish_nowait("exit/flush", number)
""",
            url,
        )
        assert data(messages, 1_000) == list(range(1_000))


def test_program_that_ends_in_the_midst_of_a_subscription_says_goodbye() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.goodbye()

    with stage(scene) as url:
        played(
            """
import sys, threading, triode.sync
client = triode.sync.connect(sys.argv[1])
messages = client.subscribe("a").__enter__()
threading.Thread(target=list, args=[messages], daemon=True).start()
""",
            url,
        )


def test_program_whose_broker_is_silent_ends_in_time() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.hear("publish")
        await line.until_closed()

    with stage(scene) as url:
        played(
            """
import sys, triode.sync
client = triode.sync.connect(sys.argv[1], close_timeout_seconds=0.05, farewell_timeout_seconds=0.05)
client.publish_nowait("a", 1)
""",
            url,
        )


def test_program_that_never_got_a_connection_ends_in_time() -> None:
    with in_a_thread(lambda: answering(None)) as url:
        played(
            """
import sys, triode.sync
client = triode.sync.connect(sys.argv[1], wait_seconds=0, close_timeout_seconds=0.05)
client.publish_nowait("a", 1)
""",
            url,
        )


def test_interrupted_program_ends_with_its_traceback_and_no_other() -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.until_closed()

    with stage(scene) as url:
        process = program(
            """
import sys, triode.sync
with triode.sync.connect(sys.argv[1]) as client, client.subscribe("a") as messages:
    print("ready", flush=True)
    for message in messages:
        pass
""",
            url,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        err = interrupted(process)
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")


def interrupted(process: "subprocess.Popen[str]") -> str:
    """What it says when it is interrupted, as often as it takes (see waiting.py), and how it ends."""
    while True:
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=1.0)
        except subprocess.TimeoutExpired:
            continue
        assert process.returncode == -signal.SIGINT
        return err


def test_program_may_use_the_client_in_an_exit_function_of_its_own(url: str) -> None:
    """Registered later, run earlier."""
    said = played(
        """
import atexit, sys, triode.sync
client = triode.sync.connect(sys.argv[1])
client.open()  # no thread begins while the interpreter ends
atexit.register(lambda: print(client.publish("exit/last", 1).offset))
""",
        url,
    )
    assert said == ["1"]
