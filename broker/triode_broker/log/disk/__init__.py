"""The log on disk: one SQLite file for each durable shard (level `disk`).

What it promises is `core.interfaces.DurableLog`: told as committed means flushed. What one node cannot notice, and
this engine does not: its disk set back in place to an earlier state (a snapshot of the whole file system put over
it keeps the file's inode), and an unclean stop whose write-ahead log was replaced by an older one of equal length.
Say `--restored` then.
"""

from triode_broker.log.disk.log import DiskLog
from triode_broker.log.disk.opening import StoreError, open_log

__all__ = ["DiskLog", "StoreError", "open_log"]
