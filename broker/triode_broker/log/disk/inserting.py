"""Rows into tables with as few steps as can be.

The standard library gives the interpreter lock away and takes it back at every step of a statement; beside a busy
loop each time may cost a whole switch interval (5 ms). So there is no `executemany`: one statement takes up to
MAX_ROWS rows (256 rows beside a busy thread: 1.5 ms, and 3.1 with it).

The surprising decision: the statement is padded with empty rows up to a power of two, which costs 20 ns a value,
instead of being split into several of the few sizes that are worth keeping prepared.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from triode_broker.log.disk.connection import Connection

#: 512 rows of 12 columns stay far below the 32,766 values that a statement may have.
MAX_ROWS = 512


@cache
def _statement(table: str, columns: int, rows: int) -> str:
    row = "(" + ",".join("?" * columns) + ")"
    values = ",".join([row] * rows)
    return f"INSERT OR REPLACE INTO {table} SELECT * FROM (VALUES {values}) WHERE column1 IS NOT NULL"


def padded(values: list[Any], columns: int) -> Iterator[list[Any]]:
    """Rows, given one behind the other, as the parameters of statements of few sizes; empty rows fill them up."""
    step = MAX_ROWS * columns
    for start in range(0, len(values), step):
        part = values[start : start + step]
        rows = 1 << (len(part) // columns - 1).bit_length()
        part += [None] * (rows * columns - len(part))
        yield part


def insert(db: Connection, table: str, columns: int, values: list[Any]) -> None:
    """Insert or replace rows, given one behind the other; the first column of none is None."""
    for part in padded(values, columns):
        db.execute(_statement(table, columns, len(part) // columns), part)
