"""How long a broker with a million stored messages takes from its process's start to the first durable publish.

What it must not know: targets, how results are printed.
The surprising decision: before every start the files are dropped from the page cache. A broker that is started
again at once finds them there; after a power cut, when the time matters most, it does not.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import attrs

from bench import disk
from bench.contest import Results, Start
from bench.load import LoadError, open_connections, request
from bench.pacing import Publishers
from bench.packets import greeting, publish_frame
from bench.plan import StoredBudget
from bench.servers import Recipe, Server, ServerError, running
from bench.sockets import Loop
from bench.speakers import TriodeSpeaker

_CLEAN = "triode, after a clean stop"
_KILLED = "triode, after kill -9"
_TOPIC = "bench/restart/0"
_SINCE = 10_000  # messages published between a start and the next end
_PLACE = re.compile(rb'"log":"([a-z0-9-]+)","pos":(\d+),"offset":(\d+)')


@attrs.frozen
class _Place:
    """Where an acknowledged message is."""

    log: str
    pos: int
    offset: int


def play_restart(recipes: Mapping[str, Recipe], budget: StoredBudget, folder: Path) -> Results:
    """Fill a store once, then end the server in both ways and start it again, in turn."""
    results = Results("restart")
    results.disks.append(disk.examine(folder))
    recipe = recipes["triode"]
    try:
        with disk.room(folder) as place:
            with running(recipe, place=place) as server:
                last = _publish(server, budget.messages)
            stored = f"{budget.messages:,} messages and more, {disk.size_of(place) / 2**20:,.0f} MiB"
            results.remark = f"{stored}; files dropped from the page cache before each start"
            for ended in (_CLEAN, _KILLED) * budget.starts:
                last = _end_and_start(recipe, place, ended, last, results)
    except (ServerError, LoadError) as error:
        results.failures["triode"] = str(error)
    return results


def _end_and_start(recipe: Recipe, place: Path, ended: str, last: _Place, results: Results) -> _Place:
    """The server is not running; start it, end it as named, and measure the start after that."""
    with running(recipe, place=place) as server:
        last = _publish(server, _SINCE)
        if ended == _KILLED:
            server.kill()
    disk.forget_cached(place)
    with running(recipe, place=place) as server:
        first = _first_publish(server)
        seconds = perf_counter() - server.started
        cpu = server.cpu().seconds
        mib = server.memory_kib() / 1024
    results.starts.append(Start(ended, seconds, cpu, mib, _faults(last, first)))
    return first


def _publish(server: Server, count: int) -> _Place:
    """So many acknowledged messages at least; the place of the last one on the topic that is looked at."""
    with Loop() as loop:
        publishers = Publishers(loop, server.address, speaker=TriodeSpeaker("bench/restart"), window=256)
        publishers.fill(count)
        publishers.close()
        faults = [one for one in publishers.ledgers if one.lost or one.doubled or one.misordered]
        if faults or publishers.notices:
            raise LoadError(f"the store could not be filled: {dict(publishers.notices)}")
        return _ask(loop, server)


def _first_publish(server: Server) -> _Place:
    with Loop() as loop:
        return _ask(loop, server)


def _ask(loop: Loop, server: Server) -> _Place:
    [connection] = open_connections(loop, server.address, [greeting()], b'"connected"')
    answer = request(loop, connection, publish_frame(_TOPIC, 9), b'"published"')
    match = _PLACE.search(answer)
    if match is None or b'"level":"disk"' not in answer:
        raise LoadError(f"not an acknowledgement by the disk: {answer!r}")
    return _Place(match[1].decode(), int(match[2]), int(match[3]))


def _faults(last: _Place, first: _Place) -> tuple[str, ...]:
    """The first message of the new process follows the last of the old one, which was acknowledged."""
    faults = []
    if first.log != last.log:
        faults.append("a new log")
    if (first.pos, first.offset) != (last.pos + 1, last.offset + 1):
        faults.append(f"place {first.pos}, {first.offset} after {last.pos}, {last.offset}")
    return tuple(faults)
