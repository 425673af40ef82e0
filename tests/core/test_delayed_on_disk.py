"""Delayed messages in the real file: kept, delivered and forgotten as the desk's disk has it (I1, I8, I9)."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from triode_broker.config import Limits, TopicRule
from triode_broker.core.policy import Policies
from triode_broker.core.router import Router
from triode_broker.core.shard import Shard
from triode_broker.log.disk import DiskLog, open_log
from triode_broker.log.disk.connection import connect
from triode_broker.log.memory import MemoryLog
from triode_protocol.codec import Refused
from triode_protocol.packets import Publish, ServerPacket

RULE = TopicRule(storage="disk")


class Heard:
    """A publisher that notes what it is answered."""

    def __init__(self) -> None:
        self.inflight = 0
        self.answers: list[ServerPacket | Refused] = []

    def answer(self, packet: ServerPacket) -> None:
        self.answers.append(packet)

    def refuse(self, refused: Refused) -> None:
        self.answers.append(refused)


class Node:
    """A router on a file, its store's work done inline; `now_ms` is yours."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now_ms = 1_000_000
        self.files: list[sqlite3.Connection] = []
        self.heard = Heard()
        self._open()

    def _open(self) -> None:
        def keep(path: Path) -> sqlite3.Connection:
            self.files.append(connect(path))
            return self.files[-1]

        limits = Limits()
        self.log: DiskLog = open_log(
            self.directory,
            "d0",
            node="n1",
            limits=limits,
            new_name=lambda: "d0-life",
            rule_of=lambda topic: RULE,
            report=lambda event, **facts: None,
            connect=keep,
        )
        memory = Shard(MemoryLog("m0-life", limits), limits.max_dedupe_bytes)
        self.router = Router([memory], Policies([RULE]), limits, [self.log])

    def restart(self) -> None:
        """Stop in good order and start again."""
        self.log.close()
        self.files.clear()
        self._open()

    def publish(self, data: int, **fields: Any) -> Any:
        """Its answer, when the disk has it; or the refusal."""
        packet = Publish("a", Raw(b"%d" % data), 1, **fields)
        try:
            if (answer := self.router.publish(packet, "", self.now_ms, self.heard)) is not None:
                return answer
        except Refused as refused:
            return refused
        self.log.run_inline()
        return self.heard.answers.pop()

    def tick(self, passed_ms: int = 0) -> None:
        """Time passes; what is due goes to the disk."""
        self.now_ms += passed_ms
        self.router.tick(self.now_ms)
        self.log.run_inline()

    def stored(self) -> list[bytes]:
        """The payloads in the log."""
        found: list[bytes] = []
        self.log.read_back(
            "a",
            1_000_000,
            1_000_000,
            1_000,
            self.now_ms,
            lambda records, _: found.extend(r.payload for r in records),
        )
        self.log.run_inline()
        return [payload.split(b'"data":')[1].split(b",")[0].strip(b"}") for payload in found]

    def state(self) -> str:
        """Of the store."""
        return self.log.state

    def set_space(self, pages: int) -> None:
        """The file may grow to so many pages and no further."""
        for file in self.files:
            file.execute(f"PRAGMA max_page_count = {pages}")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node on an empty directory."""
    node = Node(tmp_path)
    yield node
    node.log.close()


def test_restart_goes_on_with_what_was_delayed(node: Node) -> None:
    """G1, G2: with the order, the ids and the windows."""
    for data in range(12):
        answer = node.publish(data, deliver_at_ms=node.now_ms + 1_000, message_id=f"m{data}")
        assert (answer.delayed, answer.level, answer.pos) == (True, "disk", 0)
    node.restart()
    assert node.router.delayed.count == 12
    again = node.publish(3, deliver_at_ms=node.now_ms + 1_000, message_id="m3")
    assert (again.delayed, again.duplicate) == (True, True)
    node.tick(1_000)
    assert node.stored() == [b"%d" % data for data in range(12)]
    node.restart()
    assert node.router.delayed.count == 0
    again = node.publish(3, deliver_at_ms=node.now_ms, message_id="m3")
    assert (again.pos, again.duplicate) == (4, True)
    node.tick(1_000)
    assert len(node.stored()) == 12


def test_full_disk_delays_what_is_due_and_keeps_it(node: Node) -> None:
    """G6, I1, I9: through the failed commit, a restart in between, and room again."""
    for data in range(3):
        node.publish(data, deliver_at_ms=node.now_ms + 1_000, message_id=f"m{data}", headers={"fill": "x" * 4_000})
    node.set_space(1)
    node.tick(1_000)
    assert node.state() == "full"
    assert (node.stored(), node.router.delayed.count) == ([], 3)
    refused = node.publish(9, deliver_at_ms=node.now_ms + 1)
    assert refused.name == "unavailable"
    node.tick(1_000)
    assert node.router.delayed.count == 3
    node.set_space(1_000_000)
    node.log.room(node.now_ms)
    node.log.run_inline()
    assert node.state() == "ok"
    node.restart()
    assert node.router.delayed.count == 3
    node.tick(1_000)
    assert node.stored() == [b"0", b"1", b"2"]
    node.restart()
    assert node.router.delayed.count == 0


def test_delayed_publish_that_a_full_disk_did_not_take_does_not_come_back(node: Node) -> None:
    """G2: also not with the commit behind it."""
    node.set_space(1)
    answer = node.publish(1, deliver_at_ms=node.now_ms + 1_000, message_id="m", headers={"fill": "x" * 4_000})
    assert answer.name == "timeout"
    node.set_space(1_000_000)
    node.log.room(node.now_ms)
    node.log.run_inline()
    node.restart()
    assert node.router.delayed.count == 0
    node.tick(1_000)
    assert node.stored() == []
