"""Opening a file: its lock, its layout, its life.

The surprising decision: whatever the file is found to be, what can be read of it stays readable. A life that
cannot be continued for certain (a copy, a lost or damaged write-ahead log, damaged rows) goes on under a new name
with the numbers behind the old ones, so that readers are told once and nothing is thrown away. Only a file that
SQLite cannot read is laid aside, and never deleted.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import attrs

from triode_broker.config import Limits, TopicRule
from triode_broker.core.interfaces import Loaded
from triode_broker.core.message_ids import ENTRY_OVERHEAD_BYTES, Remembered
from triode_broker.log.disk import schema, wal
from triode_broker.log.disk.connection import OLDEST_SQLITE, Connect, Connection, Fault, code_of, connect
from triode_broker.log.disk.contents import Contents, roll_back
from triode_broker.log.disk.log import DiskLog
from triode_broker.log.disk.reading import Reading
from triode_broker.log.disk.store import CHECKPOINT_FRAMES, Store
from triode_broker.log.disk.sums import row_sum

#: The newest messages, verified before anything is accepted: about 20 ms.
VERIFIED_MESSAGES = 4_096
VERIFIED_BYTES = 4_194_304
#: How much longer than a checkpoint is due at a write-ahead log is made.
_SPARE_SHARE = 0.4

_FACTS = {
    "epoch": 0,
    "head": 0,
    "ts": 0,
    "forgotten": 0,
    "forgotten_ts": -1,
    "forgotten_loss": 0,
    "has_forgotten": 0,
    "renamed_upto": 0,
    "wal_bytes": 0,
}
_NEWEST_IDS = """
SELECT number, CAST(topic AS BLOB), CAST(user AS BLOB), CAST(message_id AS BLOB), digest, pos, offset, expires, sum
FROM id ORDER BY number DESC LIMIT ?
"""


class StoreError(Exception):
    """The file cannot be opened; the message says what to do."""


#: Whatever else SQLite says of a file that could be opened for writing is said of its contents.
_NOT_OF_THE_CONTENTS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
    }
)
#: A file up to this size is checked as a whole whenever it is opened: 0.1 s. A larger one only if there is damage.
CHECKED_BYTES = 16_777_216


class _Unreadable(Exception):
    """SQLite cannot read the file."""


@attrs.define
class _Opening:
    """What is known on the way."""

    path: Path
    shard: str
    node: str
    restored: bool
    new_name: Callable[[], str]
    rule_of: Callable[[str], TopicRule]
    report: Callable[..., None]
    connect: Connect
    max_id_bytes: int
    reasons: list[str] = attrs.Factory(list)  # why this is a new life
    previous: str = ""
    values: dict[str, bytes] = attrs.Factory(dict)
    remembered: list[Remembered] = attrs.Factory(list)


def open_log(
    directory: Path,
    shard: str,
    *,
    node: str,
    limits: Limits,
    new_name: Callable[[], str],
    rule_of: Callable[[str], TopicRule],
    restored: bool = False,
    report: Callable[..., None],
    connect: Connect = connect,
    checkpoint_frames: int = CHECKPOINT_FRAMES,
) -> DiskLog:
    """Open or create the file of a shard. Raises StoreError; its message says what to do.

    `report(event, **facts)` is told of what an operator should know, also from the store thread.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed")
    path = directory / f"{shard}.sqlite"
    lock = _make_room_and_lock(directory, shard)
    opening = _Opening(path, shard, node, restored, new_name, rule_of, report, connect, limits.max_dedupe_bytes)
    try:
        try:
            return _set_going(opening, _open(opening), limits, lock, checkpoint_frames)
        except _Unreadable as error:
            aside = _lay_aside(path)
            report("store_laid_aside", file=str(aside), error=str(error))
            opening.reasons = [f"the file could not be read and is now {aside.name}"]
            opening.values, opening.remembered = {}, []
            return _set_going(opening, _open(opening), limits, lock, checkpoint_frames)
    except (sqlite3.Error, OSError, Fault) as error:
        os.close(lock)
        raise StoreError(f"cannot open {path}: {error}") from error
    except BaseException:
        os.close(lock)
        raise


def make_directory(directory: Path) -> None:
    """For this user alone, unless it is there already. Raises StoreError."""
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)  # another worker of the host may be as quick
            directory.chmod(0o700)
    except OSError as error:
        raise StoreError(f"cannot use {directory} for data: {error.strerror}") from error


def _make_room_and_lock(directory: Path, shard: str) -> int:
    make_directory(directory)
    try:
        lock = os.open(directory / f"{shard}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"cannot use {directory} for data: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        message = f"{directory} is in use by another triode: stop it, or give this one a directory of its own"
        raise StoreError(message) from error
    return lock


def _lay_aside(path: Path) -> Path:
    """Out of the way, its write-ahead log with it, under names that SQLite's tools take for one database."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    path.rename(aside)
    if wal.wal_path(path).exists():
        wal.wal_path(path).rename(wal.wal_path(aside))
    return aside


def _open(opening: _Opening) -> Contents:
    path = opening.path
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(file, 0o600)  # the write-ahead log takes its mode from here
        size = os.fstat(file).st_size
    finally:
        os.close(file)
    before = wal.look(path)
    if not path.stat().st_size and before and before.size:
        raise _Unreadable("it is empty")  # SQLite would delete the write-ahead log
    db = opening.connect(path)
    try:
        recovered = _configure(db)
        contents = Contents(db, opening.rule_of)
        if size and not _is_unborn(db):
            _examine(opening, contents, before, recovered)
        else:
            _create(opening, contents)
        return contents
    except BaseException as error:
        db.close()
        _raise_unreadable(error)
        raise


def _raise_unreadable(error: BaseException) -> None:
    """If it is the file's contents that an error speaks of."""
    if isinstance(error, sqlite3.Error) and code_of(error) not in _NOT_OF_THE_CONTENTS:
        raise _Unreadable(str(error)) from error
    if isinstance(error, ValueError | TypeError | OverflowError):  # values of types that none of ours has
        raise _Unreadable(repr(error)) from error


def _configure(db: Connection) -> int:
    """Returns how many frames of the write-ahead log SQLite has taken."""
    for pragma in (
        "locking_mode=EXCLUSIVE",  # before WAL: then there is no shared memory file
        "synchronous=EXTRA",  # a new file's first journal must not come back after a power cut
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=0",  # its own checkpoints tell nobody of a failed fsync
        "temp_store=MEMORY",
        "secure_delete=OFF",
        "cache_size=-16384",  # KiB
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()
    _, frames, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return max(int(frames), 0)


def _is_unborn(db: Connection) -> bool:
    """Whether the power failed before the first transaction: a page, and nothing on it."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(pages <= 1 and not tables)


def _create(opening: _Opening, contents: Contents) -> None:
    db = contents.db
    db.execute("BEGIN")
    schema.create(db)
    contents.say("version", schema.VERSION)
    contents.say("is_open", 0)
    _say_identity(opening, contents)
    for name, value in _FACTS.items():
        contents.say(name, value)
    db.execute("COMMIT")
    _sync_directory(opening.path.parent)


def _say_identity(opening: _Opening, contents: Contents) -> None:
    contents.say("log", opening.new_name())
    contents.say("shard", opening.shard)
    contents.say("node", opening.node)
    contents.say("inode", opening.path.stat().st_ino)


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _examine(opening: _Opening, contents: Contents, before: wal.Wal | None, recovered: int) -> None:
    """A file that was there: its layout, its rows, and whether its life goes on."""
    db, reasons = contents.db, opening.reasons
    damaged = contents.load_meta()
    version = _check_version(opening, contents)
    if not schema.is_as_written(db, version):
        raise _Unreadable("its tables are not as they were made")
    if len(damaged) > 1:
        raise _Unreadable("its facts are damaged")
    if damaged:
        reasons.append(f"the fact {damaged[0]} is damaged")
    db.execute("BEGIN")
    try:
        if version < schema.VERSION:
            schema.upgrade(db, version)
            contents.say("version", schema.VERSION)
        _examine_life(opening, contents, before, recovered)
        if reasons or opening.path.stat().st_size <= CHECKED_BYTES:
            _check_whole(opening, db)
        _examine_rows(opening, contents)
        if any(name not in contents.meta for name in _FACTS):
            _mend_facts(contents)
        if reasons:
            _begin_new_life(opening, contents)
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


def _check_version(opening: _Opening, contents: Contents) -> int:
    """The number stands in two places: one of them alone may be damaged."""
    (pragma,) = contents.db.execute("PRAGMA user_version").fetchone()
    said = int(contents.meta.get("version", 0))
    if 0 < said <= schema.VERSION:
        if said != pragma:
            opening.reasons.append("the layout's version is damaged")
            contents.db.execute(f"PRAGMA user_version={said}")
        return said
    if pragma > schema.VERSION:
        raise StoreError(
            f"{opening.path} has layout {pragma}, this Triode knows {schema.VERSION}:"
            " start the newer Triode that wrote it"
        )
    return int(pragma)


def _examine_life(opening: _Opening, contents: Contents, before: wal.Wal | None, recovered: int) -> None:
    meta, reasons = contents.meta, opening.reasons
    if opening.restored:
        reasons.append("it is said to be restored from a copy")
    for name, value in (("node", opening.node), ("shard", opening.shard)):
        if meta.get(name, value) != value:
            reasons.append(f"it is a copy of {name} {meta[name]}")
    if meta.get("inode") != str(opening.path.stat().st_ino):
        reasons.append("the file is a copy")
    if meta.get("is_open") != "1":
        return
    if before is None or not before.size:
        reasons.append("its write-ahead log is missing after an unclean stop")
    elif before.size < int(meta.get("wal_bytes", 0)):
        reasons.append("its write-ahead log was cut short")
    elif not before.has_header or before.is_damaged_behind(recovered):
        reasons.append("the end of its write-ahead log is damaged")


def _examine_rows(opening: _Opening, contents: Contents) -> None:
    """Everything small, and the newest messages."""
    reasons, db = opening.reasons, contents.db
    if damaged := contents.load():
        reasons.append(f"{len(damaged)} damaged topics")
        _remove(db, "topic", "id", damaged)
        for name in ("forgotten", "forgotten_ts", "forgotten_loss", "has_forgotten"):
            contents.meta.pop(name, None)  # to be mended
    if db.execute("SELECT pos FROM message WHERE pos < 1 LIMIT 1").fetchone() is not None:
        reasons.append("a message has no number")  # and no read would come by it
        db.execute("DELETE FROM message WHERE pos < 1")
    if contents.is_torn:
        reasons.append("the newest messages are missing")
    _load_values(opening, db)
    _load_ids(opening, contents)
    if count := Reading(contents, opening.report).damaged_newest(VERIFIED_MESSAGES, VERIFIED_BYTES):
        reasons.append(f"{count} damaged messages among the newest")


def _check_whole(opening: _Opening, db: Connection) -> None:
    """Writing into a file whose pages do not fit together would do more damage. An index is made anew."""
    (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if said == "ok":
        return
    (pages,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if pages != "ok":
        raise _Unreadable(str(pages))
    db.execute("REINDEX")
    (after,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if after != "ok":
        raise _Unreadable(str(after))
    opening.report("store_index_made_anew", error=str(said))


def _load_values(opening: _Opening, db: Connection) -> None:
    damaged: list[int] = []
    for row, name, value, sum in db.execute("SELECT rowid, CAST(name AS BLOB), value, sum FROM kept").fetchall():
        text = bytes(name or b"").decode("utf-8", "replace")
        if isinstance(value, bytes) and row_sum(text, crc32(value)) == sum:
            opening.values[text] = value
        else:
            damaged.append(row)
            opening.report("damaged_value", name=text)
    if damaged:
        _remove(db, "kept", "rowid", damaged)
        opening.reasons.append(f"{len(damaged)} damaged saved values")


def _load_ids(opening: _Opening, contents: Contents) -> None:
    """The newest, as many as are remembered; what lies before them is over."""
    damaged: list[int] = []
    rows = contents.db.execute(_NEWEST_IDS, (opening.max_id_bytes // ENTRY_OVERHEAD_BYTES + 1,)).fetchall()
    for number, topic, user, message_id, *facts, sum in rows:
        key = tuple(bytes(one or b"").decode("utf-8", "replace") for one in (topic, user, message_id))
        if row_sum(*key, *facts) != sum:
            damaged.append(number)
            continue
        remembered = Remembered((key[0], key[1], key[2]), *facts)
        if contents.id_bytes + remembered.size > opening.max_id_bytes:
            contents.db.execute("DELETE FROM id WHERE number <= ?", (number,))
            break
        contents.id_bytes += remembered.size
        opening.remembered.append(remembered)
    opening.remembered.reverse()
    if damaged:
        _remove(contents.db, "id", "number", damaged)
        opening.reasons.append(f"{len(damaged)} damaged message ids")


def _remove(db: Connection, table: str, column: str, numbers: list[int]) -> None:
    """Rows that are damaged: told of now, and not at every start."""
    db.execute(f"DELETE FROM {table} WHERE {column} IN ({','.join(map(str, numbers))})")


def _mend_facts(contents: Contents) -> None:
    """Facts that were damaged: what they may have said is taken at its worst."""
    worst = {
        "epoch": 0,
        "head": contents.head,
        "ts": contents.ts,
        "forgotten": contents.head,
        "forgotten_ts": contents.ts,
        "forgotten_loss": contents.losses + 1,
        "has_forgotten": 1,
        "renamed_upto": contents.head,
        "wal_bytes": 0,
    }
    for name, value in worst.items():
        if name not in contents.meta:
            contents.say(name, value)
    contents.losses = max(contents.losses, int(contents.meta["forgotten_loss"]))


def _begin_new_life(opening: _Opening, contents: Contents) -> None:
    opening.previous = contents.meta.get("log", "")
    _say_identity(opening, contents)
    contents.say("renamed_upto", contents.head)
    opening.report(
        "store_has_new_life",
        log=contents.meta["log"],
        previous=opening.previous,
        reason="; ".join(opening.reasons),
    )


def _mark(opening: _Opening, contents: Contents, store: Store, frames: int) -> None:
    """Nothing but a whole write-ahead log is found after this, or it is noticed."""
    (page_bytes,) = contents.db.execute("PRAGMA page_size").fetchone()

    def count_up() -> None:
        contents.say("epoch", int(contents.meta["epoch"]) + 1)

    store.follow_rules()
    store.transaction(count_up)
    wal_bytes = wal.lengthen(opening.path, int(frames * (1 + _SPARE_SHARE)), page_bytes)

    def say_open() -> None:
        contents.say("wal_bytes", wal_bytes)
        contents.say("is_open", 1)

    store.transaction(say_open)
    store.checkpoint()
    store.transaction(count_up)


def _set_going(opening: _Opening, contents: Contents, limits: Limits, lock: int, frames: int) -> DiskLog:
    """Mark the file as open, in the file itself, before anything is accepted."""
    meta = contents.meta
    store = Store(contents, limits, opening.report, frames, lambda: os.close(lock))
    try:
        _mark(opening, contents, store, frames)
    except BaseException as error:
        contents.db.close()
        _raise_unreadable(error.__cause__ if isinstance(error, Fault) and error.__cause__ else error)
        raise
    loaded = Loaded(
        contents.ts,
        {topic.name: topic.offset for topic in contents.topics.values()},
        meta["has_forgotten"] == "1",
        opening.remembered,
        opening.values,
        opening.previous,
        "; ".join(opening.reasons),
    )
    reading = Reading(contents, opening.report)
    return DiskLog(meta["log"], store, reading, loaded, limits, opening.report)
