"""The disks of the simulator: durable logs that take time to commit, and keep what they have through a kill.

Built on the tests' slow disk, which decides nothing by itself. What a kill catches on its way to the disk may be
on it or not, all of it or nothing, as a transaction is: the seed decides.
"""

from collections.abc import Callable
from random import Random

import attrs
import trio
from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Outcome
from triode_broker.core.message_ids import Remembered
from triode_broker.core.record import Record

from tests.log.slow_disk import Disk, SlowDisk
from tests.sim.network import Post

#: Seconds of a commit: mostly quick, sometimes not.
COMMIT_SECONDS = (0.001, 0.008)
SLOW_COMMIT_SECONDS = (0.05, 0.4)
SLOWNESS = 0.1  # how many of the commits take long


@attrs.define
class KeptDisk(Disk):
    """What a restart finds, and how often it was opened."""

    openings: int = 0


class SimDisk(SlowDisk):
    """Commits by itself a little after something is appended or saved, one transaction after the other."""

    def __init__(
        self,
        disk: KeptDisk,
        limits: Limits,
        post: Post,
        random: Random,
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        """`call` is what the machine does with what its disk tells it."""
        super().__init__(disk.name, limits, disk)
        self._post = post
        self._random = random
        self._call = call
        self.epoch = disk.openings
        self._is_going = False
        self._is_pulled = False
        self.slowness = SLOWNESS
        self.is_written = trio.Event()  # something was appended since this was made

    def append(self, record: Record, rule: TopicRule, remembered: Remembered | None = None) -> None:
        """With the next commit."""
        super().append(record, rule, remembered)
        self.is_written.set()
        self._go()

    def save(self, name: str, value: Callable[[], bytes], done: Callable[[Outcome], None] | None = None) -> None:
        """With the next commit."""
        super().save(name, value, done)
        self._go()

    def _go(self) -> None:
        if not self._is_going:
            self._is_going = True
            is_slow = self._random.random() < self.slowness
            seconds = self._random.uniform(*(SLOW_COMMIT_SECONDS if is_slow else COMMIT_SECONDS))
            self._post.later(seconds, lambda: self._call(self._end))

    def _end(self) -> None:
        self._is_going = False
        if not self._is_pulled:
            self.commit()

    def pull(self) -> None:
        """The process is killed: what is on its way gets there whole, or not at all; nobody is told."""
        self._is_pulled = True
        if self._appended and self._random.random() < 0.5:
            for record, rule, remembered in self._appended:
                self.disk.records.append((record, rule))
                if remembered is not None:
                    self.disk.remembered.append(remembered)
            self._keep_values()

    def _keep_values(self) -> None:
        for name, (encode, _) in self._saved.items():
            if value := encode():
                self.disk.values[name] = value
            else:
                self.disk.values.pop(name, None)
