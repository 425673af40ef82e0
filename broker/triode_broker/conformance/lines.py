"""The adapter protocol, version 1: what the runner asks of a client, and what the client's program is told.

One JSON object a line, commands to the adapter's stdin, reports from its stdout. Types only: they are the
protocol, and `adapter.schema.json` is made from them. The surprising decision: an adapter answers no command as
such. It reports what a program would be told, when it is told; only so can the scripts see what was never told.
"""

from typing import Any, Final, Union

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from triode_protocol.packets import From, Overflow, Position

ADAPTER_PROTOCOL: Final = 1

#: What a client may lack. Scenarios that need it are then skipped, and the runner says so.
FEATURES: Final[dict[str, str]] = {
    "ask_token": "a token can be a function, called before each connection",
    "auth": "a token is renewed on a live connection, before it expires (`auth`)",
    "binary": "payloads can be bytes",
    "connect_timeout": "how long a connection may take until `connected` can be set",
    "consume": "acknowledged subscriptions (SPEC 9)",
    "delay": "messages can be published for later (`deliver_at_ms`)",
    "delete_key": "a key of a compacted topic can be deleted",
    "history": "history requests (SPEC 3.5)",
    "position": "a subscription's position can be stored, and another run resumes from it",
    "presence": "presence (SPEC 10)",
    "publish_timeout": "how long a publish may take until it is answered can be set",
    "send": "messages can be published without acknowledgement",
    "several_urls": "a client can be given several nodes of one cluster",
    "will": "a last will can be set (SPEC 10.7)",
}


class Command(Struct, tag_field="command", forbid_unknown_fields=True, omit_defaults=True):
    """What the runner asks for. Commands are begun in the order in which they come."""


class Hello(Command, tag="hello"):
    """The first line; answered with `hello`."""

    version: int = ADAPTER_PROTOCOL


class Reset(Command, tag="reset"):
    """Drop the client and all that belongs to it, at once; answered with `reset`. The next scenario begins."""


class LastWill(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What the broker publishes for a client that is lost."""

    topic: str
    data: Raw
    delay_ms: int = 0


class Connect(Command, tag="connect"):
    """Make a client and let it connect. Once at a time: the next one comes behind `close`."""

    urls: list[str]
    token: str = ""
    ask_token: bool = False  # the token is a function: it reports `token_wanted`, and a `token` answers
    connect_timeout_ms: int | UnsetType = UNSET  # from dialling to `connected`
    publish_timeout_ms: int | UnsetType = UNSET  # from publish to its answer
    will: LastWill | UnsetType = UNSET


class Token(Command, tag="token"):
    """Answers `token_wanted`."""

    token: str


class Close(Command, tag="close"):
    """Close the client the ordinary way; answered with `closed`."""


class Subscribe(Command, tag="subscribe", rename={"from_": "from"}):
    """Subscribe; what comes is reported under the name `subscription`."""

    subscription: str
    filter: str
    from_: From | UnsetType = UNSET
    after: Position | UnsetType = UNSET
    overflow: Overflow | UnsetType = UNSET
    presence: Raw | UnsetType = UNSET  # "watch" or {"state": …}


class Unsubscribe(Command, tag="unsubscribe"):
    """End a subscription, of either kind."""

    subscription: str


class AskPosition(Command, tag="position"):
    """Answered with `position`: how far the program has got."""

    subscription: str


class Publish(Command, tag="publish"):
    """Publish with acknowledgement; `published` or `failed` tells what became of it."""

    ref: str
    topic: str
    data: Raw | UnsetType = UNSET
    b64: str = ""  # instead of data: bytes
    key: str = ""
    headers: dict[str, str] = {}
    message_id: str = ""  # "": the client makes one up
    ttl_ms: int = 0
    deliver_at_ms: int = 0


class Send(Command, tag="send"):
    """Publish without acknowledgement."""

    topic: str
    data: Raw


class DeleteKey(Command, tag="delete_key"):
    """Delete a key of a compacted topic; answered as `publish` is."""

    ref: str
    topic: str
    key: str


class AskHistory(Command, tag="history"):
    """Answered with `history` or `failed`."""

    ref: str
    topic: str
    after: Position | UnsetType = UNSET
    before: Position | UnsetType = UNSET
    last: int = 0
    limit: int = 0


class AskPresence(Command, tag="presence"):
    """Answered with `presence` or `failed`."""

    ref: str
    topic: str


class Consume(Command, tag="consume", rename={"from_": "from"}):
    """An acknowledged subscription; what comes is reported as `delivery`."""

    subscription: str
    filter: str
    durable: str = ""
    group: str = ""
    shared: bool = False
    window: int | UnsetType = UNSET
    ack_wait_ms: int | UnsetType = UNSET
    max_attempts: int | UnsetType = UNSET
    from_: From | UnsetType = UNSET


class Answering(Command):
    """An answer to a delivery; `settled` or `failed` tells what became of it."""

    ref: str
    delivery: int  # the `number` of its report


class Ack(Answering, tag="ack"):
    """It is done."""


class Nack(Answering, tag="nack"):
    """It is not done: again, after a time."""

    delay_ms: int = 0


class Reject(Answering, tag="reject"):
    """It can never be done."""


class Extend(Answering, tag="extend"):
    """It takes longer."""

    ms: int


class Report(Struct, tag_field="event", forbid_unknown_fields=True, omit_defaults=True):
    """What the program under test is told."""


class SaidHello(Report, tag="hello"):
    """Answers `hello`. `lacks`: names of FEATURES."""

    version: int
    client: str
    lacks: list[str] = []


class WasReset(Report, tag="reset"):
    """Answers `reset`. Nothing of the scenario before comes behind it."""


class Closed(Report, tag="closed"):
    """Answers `close`: the client is closed, what it had queued is sent or has failed."""


class InState(Report, tag="state"):
    """The connection's state; a client may pass through others in between, or tell only these."""

    state: str  # connecting, connected, waiting, closed
    code: int = 0  # waiting, closed: the close code, where there was one


class TokenWanted(Report, tag="token_wanted"):
    """The client calls the function that `ask_token` asked for."""


class Notice(Report, tag="notice"):
    """The broker says what to prepare for."""

    draining: bool = False


class Complaint(Report, tag="complaint"):
    """An `error` that answers nothing the program waits for."""

    name: str = ""


class Refused(Report, tag="handshakes_refused"):
    """Several handshakes in a row have failed (SPEC 5.3.4)."""


class Wrong(Report, tag="wrong"):
    """The adapter could not do what it was told, or its client failed in a way that no client should."""

    message: str


class GotMessage(Report, tag="message"):
    """A message, in its place among the subscription's other reports."""

    subscription: str
    topic: str
    log: str
    pos: int
    offset: int
    data: Any = UNSET
    b64: str = ""
    key: str = ""
    headers: dict[str, str] = {}
    message_id: str = ""
    deletes_key: bool = False


class GotGap(Report, tag="gap", rename={"from_": "from"}):
    """Messages are missing here."""

    subscription: str
    reason: str
    after: dict[str, int] = {}
    topic: str = ""
    from_: int = 0
    to: int = 0


class CaughtUp(Report, tag="caught_up"):
    """The subscription is live (again). Optional."""

    subscription: str


class Seen(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A member of a topic."""

    id: str
    state: Any = None
    user: str = ""


class Joined(Report, tag="joined"):
    """Somebody is on a topic, or has another state."""

    subscription: str
    topic: str
    member: Seen
    is_self: bool = False


class Left(Report, tag="left"):
    """Somebody is gone."""

    subscription: str
    topic: str
    member: Seen


class Ended(Report, tag="ended"):
    """A subscription is over. `error`: the broker's name for why, or "" where the program wished it."""

    subscription: str
    error: str = ""


class StoredPosition(Report, tag="position"):
    """Answers `position`."""

    subscription: str
    position: dict[str, int]


class GotDelivery(Report, tag="delivery"):
    """A message to be acknowledged. `number` counts the deliveries reported since the last reset, from 1."""

    subscription: str
    number: int
    attempt: int
    topic: str
    log: str
    pos: int
    offset: int
    data: Any = UNSET
    b64: str = ""
    key: str = ""
    headers: dict[str, str] = {}
    message_id: str = ""


class WasPublished(Report, tag="published"):
    """A publish is acknowledged."""

    ref: str
    log: str = ""
    pos: int = 0
    offset: int = 0
    level: str = ""
    duplicate: bool = False
    delayed: bool = False
    message_id: str = ""


class Settled(Report, tag="settled"):
    """The broker has noted an answer to a delivery."""

    ref: str


class Failed(Report, tag="failed"):
    """A publish, a request or an answer came to nothing.

    `error`: the broker's name for it; or the client's own: `closed` (the client is), `expired` (never sent in
    time), `unknown` (sent, and nobody knows what became of it), `queue_full`, `lost` (the delivery is void).
    """

    ref: str
    error: str


class GotHistory(Report, tag="history"):
    """A page. `positions`: of its messages, in order."""

    ref: str
    positions: list[int]
    complete: bool
    after: dict[str, int] = {}


class GotPresence(Report, tag="presence"):
    """Who is on a topic."""

    ref: str
    members: list[Seen]
    complete: bool


COMMANDS: tuple[type[Command], ...] = (
    Hello,
    Reset,
    Connect,
    Token,
    Close,
    Subscribe,
    Unsubscribe,
    AskPosition,
    Publish,
    Send,
    DeleteKey,
    AskHistory,
    AskPresence,
    Consume,
    Ack,
    Nack,
    Reject,
    Extend,
)
REPORTS: tuple[type[Report], ...] = (
    SaidHello,
    WasReset,
    Closed,
    InState,
    TokenWanted,
    Notice,
    Complaint,
    Refused,
    Wrong,
    GotMessage,
    GotGap,
    CaughtUp,
    Joined,
    Left,
    Ended,
    StoredPosition,
    GotDelivery,
    WasPublished,
    Settled,
    Failed,
    GotHistory,
    GotPresence,
)
_OPTIONAL_REPORTS: Final = frozenset({"caught_up", "state", "notice", "complaint", "handshakes_refused"})

AnyCommand = Union[COMMANDS]  # type: ignore[valid-type]  # noqa: UP007  # a tuple made at run time
AnyReport = Union[REPORTS]  # type: ignore[valid-type]  # noqa: UP007

_command = msgspec.json.Decoder(AnyCommand)
_report = msgspec.json.Decoder(AnyReport)


def command_line(command: dict[str, Any]) -> bytes:
    """A command as the adapter reads it, without what is at its default. Raises ValueError."""
    try:
        checked = _command.decode(msgspec.json.encode(command))
    except msgspec.ValidationError as error:
        raise ValueError(f"not a command of the adapter protocol: {error}") from error
    return msgspec.json.encode(checked) + b"\n"


def read_report(line: bytes) -> dict[str, Any]:
    """A report as plain values. Raises ValueError for what is none."""
    try:
        _report.decode(line)
        report: dict[str, Any] = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not a report of the adapter protocol: {error}") from error
    return report


def is_optional(report: dict[str, Any]) -> bool:
    """Whether it is no news, told or not: such reports are passed over unless a scenario waits for them."""
    is_own_end = report["event"] == "ended" and report.get("error", "") in ("", "closed")
    return is_own_end or report["event"] in _OPTIONAL_REPORTS


def schema() -> dict[str, Any]:
    """JSON Schema of a line: a command, or a report."""
    said, components = msgspec.json.schema_components([*COMMANDS, *REPORTS], ref_template="#/$defs/{name}")
    commands, reports = list(said)[: len(COMMANDS)], list(said)[len(COMMANDS) :]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "oneOf": [
            {"title": "A command, to the adapter", "oneOf": commands},
            {"title": "A report, from the adapter", "oneOf": reports},
        ],
        "$defs": components,
    }
