"""Hops: what became of a message that was published with `trace`, step by step, as `traced` tells it (SPEC 4.12).

A record and its words only. The surprising decision: one record for every kind of hop, and what a kind does not
say is left out, so that a client that draws a timeline needs none of the kinds to be known.
"""

from msgspec import Struct


class Hop(Struct, omit_defaults=True):
    """One step, on one node, by that node's clock."""

    hop: str  # SPEC 4.12.3 has the names
    node: str
    at_us: int  # µs since 1970
    connection: str = ""  # of the publisher
    shard: str = ""
    log: str = ""
    pos: int = 0
    offset: int = 0
    level: str = ""
    to: str = ""  # the other node
    kind: str = ""  # of subscriptions: "live", "durable", "group"
    count: int = -1  # subscriptions, connections or names; absent where nothing is counted
    reason: str = ""
    names: list[str] = []  # of durable subscriptions and groups, for who may operate the broker


#: What the last `traced` of a message says of all of them.
COMPLETE = "complete"
INCOMPLETE = "incomplete"
TRUNCATED = "truncated"
