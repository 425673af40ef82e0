"""A data directory with a bit of everything that outlives the process, made by the release that runs this.

`python -m tests.release.data` packs it beside this file, under the version of the installed distribution; do so
when a release is made, and the next ones are tested to open it (test_upgrade.py). Knows the public clients and the
command line only, so that it runs in the tree of any release. The surprising decision: all that would end by time
is set to ten years, since a directory that is kept in a repository grows old.
"""

import json
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import trio
import triode

from tests.cli.programs import BrokerAt, run

HERE: Final = Path(__file__).parent
TEN_YEARS: Final = 10 * 365 * 86_400
DUE_SECONDS: Final = 2_082_758_400  # 2036-01-01: of the delayed message
#: What the directory is served with, by this release and by the next ones.
SETTINGS: Final[dict[str, Any]] = {
    "node": "n1",
    "durable_shards": 2,
    "limits": {"abandoned_seconds": TEN_YEARS, "max_delay_seconds": TEN_YEARS},
    "topics": [
        {"filter": "states/#", "storage": "disk", "compact": True, "tombstone_seconds": TEN_YEARS},
        {"filter": "#", "storage": "disk", "retention_seconds": TEN_YEARS},
    ],
}
JOBS: Final = 20
DONE: Final = 5  # of the jobs, by the worker
REJECTED: Final = 5  # the number of the job that is a dead letter
READ: Final = 7  # jobs that the reader has seen


async def fill(url: str, data: Path) -> dict[str, Any]:
    """Put it there. Returns what a client of that time has kept for itself."""
    async with triode.connect(url) as client:
        for number in range(JOBS):
            await client.publish(f"jobs/{number % 3}", {"number": number}, headers={"made": "before"})
        await client.publish("jobs/0", b"\x00\xff")
        for key in ("a", "b", "a"):
            await client.publish("states/lamp", {"key": key}, key=key)
        await client.delete_key("states/lamp", "b")
        await client.publish("jobs/later", "at its time", deliver_at=float(DUE_SECONDS))
        async with client.consume("jobs/#", durable="worker", shared=True, from_="earliest") as deliveries:
            async for delivery in deliveries:
                number = delivery.data["number"]
                if number == REJECTED:
                    await delivery.reject()
                    break
                await delivery.ack()
        async with client.subscribe("jobs/#", from_="earliest") as messages:
            for _ in range(READ):
                await anext(messages)
            position = dict(messages.position)
    revoked = await run("revoke", "--user", "mallory", "--for", "3000d", "--data", str(data))
    assert revoked.code == 0, revoked
    return {"position": position}


async def make(archive: Path) -> None:
    """Fill a directory by a broker of this release, and pack it once that has ended."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        async with trio.open_nursery() as nursery:
            broker = BrokerAt(nursery, {**SETTINGS, "data": str(data)})
            await broker.start()
            kept = await fill(broker.url, data)
            await broker.stop()
            nursery.cancel_scope.cancel()
        (data / "kept.json").write_text(json.dumps(kept))
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(data, "data", filter=_nameless)


def _nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    trio.run(make, HERE / f"data-{version('triode')}.tar.gz")
