"""Frames: what two nodes say to each other, as records; their fields stand nowhere else (docs/peer-protocol.md).

Pure. A binary WebSocket message is a msgpack array of frames, each an array that begins with its number. Fields
are only ever added at the end, with a default: an older node passes over what it does not know, a newer one fills
in what is missing. A new kind of frame is sent only on links whose hello agreed on a version that has it: SINCE
says which that is, and `Link.put` sees to it.

Of the two links of a pair, the node that dialled asks and the other one answers. The surprising decision: messages
travel as the core's own `Record`s, so neither side copies fields from one shape to another.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from triode_broker.core.handed import HandedFacts, HandedId, HandedTopic
from triode_broker.core.record import Record

#: Versions of this protocol that this node speaks: from, to. See docs/peer-protocol.md.
PROTOCOLS: Final = (1, 1)


class Frame(Struct, array_like=True, gc=False):
    """What all frames are."""


# Both ways


class Entry(Struct, array_like=True, frozen=True, gc=False):
    """Who owns a shard: the highest (epoch, node) counts."""

    shard: str
    epoch: int
    node: str
    incarnation: str
    log: str  # "": its owner cannot serve it now
    heir: str = ""  # "node/incarnation" that may go on with the same log; the owner has sealed it


class Heard(Struct, array_like=True, frozen=True, gc=False):
    """What a node knows of another one's life."""

    incarnation: str
    is_closed: bool  # it has no open link with it
    ms: int  # since it heard from it, or, closed, since the last link closed
    url: str = ""  # where it is dialled: who knows one node comes to know all; "": not said


class Ping(Frame, tag=1):
    """Life, once a second; answered at once."""

    serial: int
    heard: dict[str, Heard]  # by node


class Pong(Frame, tag=2):
    """The answer."""

    serial: int


class Table(Frame, tag=3):
    """Entries that are new to the sender, or, first thing on a link, all it has."""

    entries: list[Entry]


class Call(Frame, tag=4):
    """A question by name; its answer is a Reply. Parameters and results are JSON."""

    id: int
    method: str
    params: bytes


class Reply(Frame, tag=5):
    """What came of a Call: a result, or the name and text of an error."""

    id: int
    result: bytes
    error: str = ""
    message: str = ""


# From the node that asks


class Interest(Frame, tag=10):
    """What the asking node wants to hear of all shards of the other one, from now on.

    A snapshot replaces all there was. `seq` rises by one.
    """

    seq: int
    kind: str  # "snapshot", "add" or "drop"
    filters: list[str]


class Read(Frame, tag=11):
    """`Log.read`. The filter "" is the node's own interest: what is answered `is_live` goes on as a stream."""

    id: int
    log: str
    filter: str
    after: int  # -1, of one's own interest: the head
    max_bytes: int
    max_records: int
    newest_at: int


class ReadBack(Frame, tag=12):
    """`Log.read_back`."""

    id: int
    log: str
    topic: str
    before: int
    max_bytes: int
    max_records: int


class Seek(Frame, tag=13):
    """`Log.seek`."""

    id: int
    log: str
    filter: str
    last: int
    since: int


class Forwarded(Struct, array_like=True, gc=False):
    """A publish on its way to the shard's owner: the fields of the packet."""

    seq: int  # of this entry node's incarnation and shard; no holes behind what is `answered`
    topic: str
    data: bytes
    b64: bytes
    user: str
    key: str
    headers: dict[str, str]
    message_id: str
    ttl_ms: int
    deliver_at_ms: int


class Forward(Frame, tag=14):
    """Publishes of one shard, in order. Up to `answered` all have their answers, which may be forgotten."""

    shard: str
    answered: int
    rows: list[Forwarded]
    log: str = ""  # as which its owner is believed to serve it; if it does not: "moved"


# From the node that answers


class Interested(Frame, tag=20):
    """Interest up to `seq` is in force; the heads of the sender's logs at that moment."""

    seq: int
    heads: dict[str, int]


class Deliver(Frame, tag=21):
    """Messages of one log, in order of pos. `prev`: the last pos of that log sent on this link before, or where
    its stream began (`Interested`, `Rows.upto` with `is_live`)."""

    log: str
    prev: int
    records: list[Record]


class Mark(Frame, tag=22):
    """All that was wanted of this log up to `pos` was sent. `prev` as in Deliver; the next one's is `pos`."""

    log: str
    pos: int
    prev: int


class Behind(Frame, tag=23):
    """The stream of this log has stopped, for the link was full: read on behind the last pos."""

    log: str


class Rows(Frame, tag=24):
    """The answer to a Read: a `Page`. `is_live`: `upto` is the log's head, everything later comes as Deliver.

    `is_known` false: the log is not served here (any more); the rest says nothing.
    """

    id: int
    log: str
    records: list[Record]
    prevs: list[int]
    upto: int
    loss: int  # of one's own interest: 1 where anything up to `upto` is missing, by loss or by policy
    known: int
    looked_at: int
    is_live: bool
    is_known: bool = True


class Older(Frame, tag=25):
    """The answer to a ReadBack."""

    id: int
    log: str
    records: list[Record]
    has_older: bool
    head: int
    is_known: bool = True


class Found(Frame, tag=26):
    """The answer to a Seek: a `Place`."""

    id: int
    log: str
    pos: int
    is_complete: bool
    loss: int
    head: int
    is_known: bool = True


class Answer(Struct, array_like=True, gc=False):
    """A publish was accepted (`published`). Without a place: delayed."""

    seq: int
    log: str
    pos: int
    offset: int
    level: str
    is_duplicate: bool = False
    is_delayed: bool = False


class Refusal(Struct, array_like=True, gc=False):
    """A publish was refused (`error`). "moved": not applied, the sender does not own the shard."""

    seq: int
    name: str
    message: str
    field: str
    retry: str
    retry_after_ms: int


class Answered(Frame, tag=27):
    """What became of publishes of one shard; per seq exactly one of the two, maybe again after a new link."""

    shard: str
    answers: list[Answer]
    refusals: list[Refusal]


# Homes: acknowledged subscriptions of a client that is connected to another node


class Attach(Frame, tag=30):
    """A client's connection gets a session at the home of a name; `number` is the asking node's."""

    number: int
    connection: str
    user: str
    tenant: str = ""


class Tell(Frame, tag=31):
    """Packets of the client to that session, as JSON texts; or back, of the session to the client."""

    number: int
    packets: list[bytes]


class Took(Frame, tag=32):
    """So many bytes of what the session said have left for the client: its outbox has room for as many again."""

    number: int
    bytes: Annotated[int, Meta(ge=0)]


class Detach(Frame, tag=33):
    """The client's connection has ended with this code (0: lost), or the home has ended the session."""

    number: int
    code: int


# Presence


class Members(Frame, tag=40):
    """Who is present on the sender, of the topics the other one watches: `kind` "snapshot" replaces all it said
    of them, "joined" and "left" change it. JSON texts of members by topic."""

    kind: str
    topics: dict[str, list[bytes]]


class Watch(Frame, tag=41):
    """Topics (filters) whose members the sender wants to know: "snapshot", "add" or "drop"."""

    kind: str
    filters: list[str]


# Hand-over at drain


class HandedRest(Struct, array_like=True, gc=False):
    """What ends a hand-over: facts that hold for all of it."""

    facts: HandedFacts
    ts: int
    has_forgotten: bool


class HandOver(Frame, tag=50):
    """A piece of a sealed memory shard, for its heir. `number` rises by one; 0 begins, `rest` ends it."""

    shard: str
    log: str
    number: int
    topics: list[HandedTopic] = []
    records: list[Record] = []  # in order of pos
    counters: dict[str, int] = {}  # newest offset by topic
    ids: list[HandedId] = []
    delayed: list[bytes] = []  # JSON texts, in order
    rest: HandedRest | None = None


class HandedOver(Frame, tag=51):
    """The heir to piece `number`: "more", "taken" (it has announced the log), or "refused" (it will not)."""

    shard: str
    log: str
    number: int
    answer: str


class Leave(Frame, tag=52):
    """The sender is going: it claims nothing, and nothing is handed to it."""


AnyFrame = (
    Ping
    | Pong
    | Table
    | Call
    | Reply
    | Interest
    | Read
    | ReadBack
    | Seek
    | Forward
    | Interested
    | Deliver
    | Mark
    | Behind
    | Rows
    | Older
    | Found
    | Answered
    | Attach
    | Tell
    | Took
    | Detach
    | Members
    | Watch
    | HandOver
    | HandedOver
    | Leave
)

#: Kinds that came after version 1: the version that each came with. Who wants to send one asks `Link.has` first.
SINCE: Final[dict[type[Frame], int]] = {}


def lacking(protocol: int) -> frozenset[type[Frame]]:
    """The kinds that a link of this version does not have."""
    return frozenset(kind for kind, since in SINCE.items() if since > protocol)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[AnyFrame])

encode = _encoder.encode


def decode(data: bytes) -> list[AnyFrame]:
    """The frames of one binary message. Raises msgspec.MsgspecError (or RecursionError) for what is none."""
    return _decoder.decode(data)
