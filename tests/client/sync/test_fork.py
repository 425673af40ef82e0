"""What a fork leaves to whom: the parent its connection, its queue and its consumers; the child gets its own."""

import os
from urllib.parse import urlsplit

import pytest
import triode.sync

from tests.client.broker import Line
from tests.client.play import LOG, message
from tests.client.sync.stage import played, stage

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")

PREAMBLE = """
import contextlib, os, socket, sys, threading
import triode.sync

def forked(work):
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0, "the child has failed"
    else:
        work()
        sys.exit()

def say(*words):
    print(*words, flush=True)

url = sys.argv[1]
"""


def test_child_connects_anew_and_the_parents_connection_is_untouched() -> None:
    async def parent(line: Line) -> None:
        assert "replaces" not in await line.accept()
        assert (await line.published())["data"] == "before"
        assert (await line.published())["data"] == "after"
        await line.goodbye()

    async def child(line: Line) -> None:
        assert "replaces" not in await line.accept()
        assert (await line.published())["data"] == "child"
        await line.goodbye()

    with stage(parent, child) as url:
        assert (
            played(
                PREAMBLE
                + """
client = triode.sync.connect(url)
client.publish("a", "before")
forked(lambda: client.publish("a", "child"))
client.publish("a", "after")
client.close()
""",
                url,
            )
            == []
        )


def test_child_that_does_not_use_the_client_does_nothing_and_ends_quietly() -> None:
    """Not even its end writes to the parent's socket; the parent's goodbye still closes the connection."""

    async def parent(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.published()
        await line.published()
        await line.hear("unsubscribe")
        await line.goodbye()

    with stage(parent) as url:
        said = played(
            PREAMBLE
            + """
import gc

def collect():
    global client, messages
    assert client.state == "idle"
    descriptors = len(os.listdir("/proc/self/fd"))
    del client, messages
    gc.collect()
    say("ends")

client = triode.sync.connect(url)
with client.subscribe("a") as messages:
    client.publish("a", 1)
    forked(collect)
    client.publish("a", 2)
client.close()
""",
            url,
        )
    assert said == ["ends"]


def test_child_holds_no_socket_of_the_parents_connection(url: str) -> None:
    port = urlsplit(url).port
    said = played(
        PREAMBLE
        + """
def connections():
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            one = socket.socket(fileno=os.dup(int(descriptor)))
        except OSError:
            continue
        with one, contextlib.suppress(OSError, ValueError):
            count += one.getpeername()[1:2] == (int(sys.argv[2]),)
    return count

client = triode.sync.connect(url)
client.publish("fork/fd", 1)
say(connections())
forked(lambda: say(connections()))
say(connections())
""",
        url,
        str(port),
    )
    assert said == ["1", "0", "1"]


def test_what_was_queued_is_sent_by_the_parent_alone() -> None:
    """The first connection is not made before the child has ended, so all of this is in the queue at the fork."""

    async def parent(line: Line) -> None:
        await line.accept()
        assert [(await line.published(number))["data"] for number in range(3)] == [0, 1, 2]
        await line.goodbye()

    with stage(parent) as url:
        said = played(
            PREAMBLE
            + """
forks = threading.Event()

def token():
    forks.wait()
    return ""

client = triode.sync.connect(url, token=token, wait_seconds=0)
receipts = [client.publish_nowait("a", number) for number in range(3)]

def child():
    assert all(receipt.is_done for receipt in receipts)
    for receipt in receipts:
        try:
            receipt.wait()
        except triode.sync.InParentProcess as error:
            say(error)
    client.close()

forked(child)
forks.set()
say(*(receipt.wait().pos for receipt in receipts))
forked(lambda: say(*(receipt.wait().pos for receipt in receipts)))
client.close()
""",
            url,
        )
    words = "it was begun before a fork: the parent process goes on with it"
    assert said == [*[words] * 3, "0 1 2", "0 1 2"]


def test_subscription_goes_on_in_both_from_where_the_program_was() -> None:
    async def parent(line: Line) -> None:
        await line.accept()
        await line.subscribed()
        await line.say(*(message(pos) for pos in range(1, 7)))
        await line.hear("unsubscribe")
        await line.goodbye()

    async def child(line: Line) -> None:
        await line.accept()
        asked = await line.subscribed(after={LOG: 2})
        assert asked["after"] == {LOG: 2}
        await line.say(*(message(pos) for pos in range(3, 7)))
        await line.hear("unsubscribe")
        await line.goodbye()

    with stage(parent, child) as url:
        said = played(
            PREAMBLE
            + """
client = triode.sync.connect(url)
with client.subscribe("a/#") as messages:
    say(next(messages).pos, next(messages).pos)

    def child():
        say("child", *(next(messages).pos for _ in range(4)), messages.gap_count)
        messages.close()
        client.close()

    forked(child)
    say("parent", *(next(messages).pos for _ in range(4)))
client.close()
""",
            url,
        )
    assert said == ["1 2", "child 3 4 5 6 0", "parent 3 4 5 6"]


def test_snapshot_that_has_not_caught_up_begins_again_in_the_child(url: str) -> None:
    """R7: its position says nothing of what the snapshot still owes."""
    with triode.sync.connect(url) as client:
        client.publish_many([(f"fork/last/{number}", number) for number in range(5)])
    said = played(
        PREAMBLE
        + """
client = triode.sync.connect(url)
with client.subscribe("fork/last/+", from_="last") as messages:
    first = next(messages).data
    forked(lambda: say(*sorted(next(messages).data for _ in range(5))))
    rest = [next(messages).data for _ in range(4)]
    say(*sorted([first, *rest]))
    events = messages.events()
    while not isinstance(next(events), triode.CaughtUp):
        pass

    def child():
        client.publish("fork/last/5", 5)
        say(next(messages).data)

    forked(child)
""",
        url,
    )
    assert said == ["0 1 2 3 4", "0 1 2 3 4", "5"]


def test_consumers_are_the_parents_and_the_child_is_told(url: str) -> None:
    said = played(
        PREAMBLE
        + """
client = triode.sync.connect(url)
with client.consume("jobs/fork", durable="fork") as jobs:
    client.publish_many([("jobs/fork", number) for number in range(3)])
    job = next(jobs)

    def child():
        for use in (lambda: next(jobs), job.ack, job.ack_nowait, lambda: job.extend(1.0)):
            try:
                use()
            except triode.sync.InParentProcess:
                say("refused")
        with job:
            pass
        say(repr(job.outcome))
        jobs.close()

    forked(child)
    job.ack()
    for _ in range(2):
        with next(jobs) as job:
            say(job.data, job.attempt)
""",
        url,
    )
    assert said == [*["refused"] * 4, "''", "1 1", "2 1"]


def test_forks_among_busy_threads_find_nothing_locked(url: str) -> None:
    """Whatever other threads are in the midst of, each child publishes, iterates and ends."""
    said = played(
        PREAMBLE
        + """
client = triode.sync.connect(url)
messages = client.subscribe("fork/busy/#").__enter__()
is_over = False

def busy(name):
    while not is_over:
        client.publish_many([(f"fork/busy/{name}", number) for number in range(20)])
        client.send(f"fork/busy/{name}", 1)

def take():
    for _ in messages:
        pass

threads = [threading.Thread(target=busy, args=[name], daemon=True) for name in range(3)]
threads.append(threading.Thread(target=take, daemon=True))
for thread in threads:
    thread.start()

def child():
    assert client.publish("fork/busy/child", 1).offset
    next(messages)

for _ in range(10):
    forked(child)
is_over = True
for thread in threads[:3]:
    thread.join()
messages.close()
threads[3].join()
client.close()
say("done")
""",
        url,
    )
    assert said == ["done"]


def test_grandchild_has_a_client_too(url: str) -> None:
    said = played(
        PREAMBLE
        + """
client = triode.sync.connect(url)

def child():
    say(client.publish("fork/grand", 2).offset)
    forked(lambda: say(client.publish("fork/grand", 3).offset))
    say(client.publish("fork/grand", 4).offset)

say(client.publish("fork/grand", 1).offset)
forked(child)
say(client.publish("fork/grand", 5).offset)
""",
        url,
    )
    assert said == ["1", "2", "3", "4", "5"]


def test_forked_workers_of_multiprocessing_flush_at_their_end(url: str) -> None:
    """They end by `os._exit`, without atexit."""
    said = played(
        PREAMBLE
        + """
import multiprocessing

client = triode.sync.connect(url)

def work(number):
    for _ in range(100):
        client.publish_nowait("fork/pool", number)

with client.subscribe("fork/pool") as messages:
    workers = [multiprocessing.get_context("fork").Process(target=work, args=[number]) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    say(sum(next(messages).data for _ in range(200)))
""",
        url,
    )
    assert said == ["100"]
