"""The tables, their versions, and the way from an older one to this.

A file says in `PRAGMA user_version` and in `meta` which layout it has: two places, so that a flipped bit in one of
them is not taken for a newer Triode. `meta`, `topic`, `kept` and `id` are small and checked as a whole when the
file is opened; `message` may be large and is checked as it is read.

A message's `cum` is what its topic had taken in bytes before it, ever: retention by bytes is a difference of two
of them. `compacted` rows are those whose key counts.
"""

from triode_broker.log.disk.connection import Connection

#: "trio" in ASCII: what `file` shows of such a database.
APPLICATION_ID = 0x7472696F

ROW_COLUMNS = "pos, topic, offset, ts, expires, cum, key, compacted, tombstone, payload_sum, sum, payload"
MESSAGE_COLUMNS = 12
TOPIC_COLUMNS = 11
ID_COLUMNS = 9

#: The first layout.
_FIRST = (
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT, sum INTEGER)",
    "CREATE TABLE topic(id INTEGER PRIMARY KEY, name TEXT, offset INTEGER, total INTEGER, trimmed_pos INTEGER,"
    " trimmed_offset INTEGER, trimmed_ts INTEGER, loss INTEGER, is_sparse INTEGER, is_compacted INTEGER,"
    " sum INTEGER)",
    "CREATE TABLE message(pos INTEGER PRIMARY KEY, topic INTEGER, offset INTEGER, ts INTEGER, expires INTEGER,"
    " cum INTEGER, key TEXT, compacted INTEGER, tombstone INTEGER, payload_sum INTEGER, sum INTEGER,"
    " payload BLOB)",
    "CREATE INDEX message_topic ON message(topic)",  # and pos, which every index ends with
    "CREATE INDEX message_key ON message(topic, key) WHERE compacted",
    "CREATE TABLE id(number INTEGER PRIMARY KEY, topic TEXT, user TEXT, message_id TEXT, digest INTEGER,"
    " pos INTEGER, offset INTEGER, expires INTEGER, sum INTEGER)",
    "CREATE INDEX id_expires ON id(expires)",
)


#: From each version to the next; the first step leads from 1 to 2. A step only adds: what is there stays valid.
_LATER = (
    (  # state beside the messages; what ends at a time is found without a scan
        "CREATE TABLE kept(name TEXT PRIMARY KEY, value BLOB, sum INTEGER)",
        "CREATE INDEX message_expires ON message(expires) WHERE expires > 0",
        "CREATE INDEX message_tombstone ON message(topic, ts) WHERE tombstone",
    ),
)
VERSION = 1 + len(_LATER)


def is_as_written(db: Connection, version: int) -> bool:
    """Whether the tables are those of a version, letter by letter: a flipped bit in them is no syntax error."""
    found = {str(row[0]) for row in db.execute("SELECT sql FROM sqlite_master").fetchall()} - {"None"}
    return found == set(_FIRST).union(*_LATER[: version - 1])


def create(db: Connection) -> None:
    """All tables, in an empty file; inside a transaction."""
    for statement in _FIRST:
        db.execute(statement)
    upgrade(db, 1)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")


def upgrade(db: Connection, version: int) -> None:
    """From an older version to this one; inside a transaction."""
    for step in _LATER[version - 1 :]:
        for statement in step:
            db.execute(statement)
    db.execute(f"PRAGMA user_version={VERSION}")
