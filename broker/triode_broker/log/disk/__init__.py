"""The log on disk: one SQLite file for each durable shard (level `disk`).

What it promises is `core.interfaces.DurableLog`: told as committed means flushed. `<shard>.sqlite` and its
write-ahead log hold everything; `<shard>.lock` is held for as long as the log is open.

A life goes on, under the same name, only if nothing speaks against it: the same inode, node and shard, a whole
write-ahead log, sound checksums. Else what is there stays readable under a new name. What one node cannot notice,
and this engine does not: its disk set back in place to an earlier state, whatever did it (a snapshot of the whole
volume, files overwritten in place by older ones that fit together). Say `--restored` then.
"""

from triode_broker.log.disk.log import DiskLog
from triode_broker.log.disk.opening import StoreError, make_directory, open_log

__all__ = ["DiskLog", "StoreError", "make_directory", "open_log"]
