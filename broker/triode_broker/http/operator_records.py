"""What operators ask and are answered, as records: what is checked of a request, and what OpenAPI says of both.

Knows no call. The surprising decision: answers are not made of these. A call's plain data goes out as it is, and a
test holds it against its record: so what a node of a newer build adds to an answer is not lost on the way.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_TEXT = 1_024
Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
UserOrNone = Annotated[str, Meta(max_length=MAX_TEXT, description="Empty: clients without a name.")]
Tenant = Annotated[
    str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.-]*$", description="Of this tenant only. Default: of any.")
]
OfTenant = Annotated[
    str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.-]*$", description="Whose name it is. Default: of none.")
]
Limit = Annotated[int, Meta(ge=1, le=1_000, description="At most so many.")]
Position = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Positions = Annotated[list[Position], Meta(max_length=1_000, description="Of these letters; none: of all.")]
Seconds = Annotated[float, Meta(ge=0, le=315_360_000)]


class Query(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Without parameters but `tenant`."""

    tenant: Tenant | UnsetType = UNSET


class NameQuery(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which tenant a name is of."""

    tenant: OfTenant | UnsetType = UNSET


class Whom(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Clients of whom all of it is true."""

    user: Text | UnsetType = UNSET
    tenant: Tenant | UnsetType = UNSET
    token: Annotated[Text, Meta(description="By the id (`jti`) of their token.")] | UnsetType = UNSET
    key: Annotated[Text, Meta(description="By the id of their API key.")] | UnsetType = UNSET
    connection: Text | UnsetType = UNSET
    address: Text | UnsetType = UNSET


class ConnectionsQuery(Whom, forbid_unknown_fields=True, omit_defaults=True):
    """Whose connections, page by page."""

    limit: Limit = 100
    after: Annotated[str, Meta(max_length=MAX_TEXT, description="The last connection of the page before.")] = ""


class Kick(Whom, forbid_unknown_fields=True, omit_defaults=True):
    """Whom to send away."""

    come_back: Annotated[bool, Meta(description="They may come again at once.")] = False


class KickQuery(Query, forbid_unknown_fields=True, omit_defaults=True):
    """How one connection is sent away."""

    come_back: Annotated[bool, Meta(description="It may come again at once.")] = False


class SubscriptionsQuery(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which subscriptions, page by page."""

    user: Text | UnsetType = UNSET
    tenant: Tenant | UnsetType = UNSET
    connection: Text | UnsetType = UNSET
    topic: Annotated[Text, Meta(description="Those that this topic matches.")] | UnsetType = UNSET
    filter: Annotated[Text, Meta(description="Those with exactly this filter.")] | UnsetType = UNSET
    kind: Literal["plain", "durable", "shared", "group"] | UnsetType = UNSET
    name: Text | UnsetType = UNSET
    limit: Limit = 100
    after: Annotated[
        str, Meta(max_length=MAX_TEXT, description="CONNECTION/SUB of the last one of the page before.")
    ] = ""


class TopicsQuery(Query, forbid_unknown_fields=True, omit_defaults=True):
    """Which topics, the busiest first."""

    prefix: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    limit: Limit = 20


class SlowQuery(Query, forbid_unknown_fields=True, omit_defaults=True):
    """How many."""

    limit: Limit = 20


class Revoke(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What to withdraw: one of user, token, key and connection (what that came in with)."""

    user: Text | UnsetType = UNSET
    tenant: OfTenant | UnsetType = UNSET
    token: Text | UnsetType = UNSET
    key: Text | UnsetType = UNSET
    connection: Text | UnsetType = UNSET
    seconds: Annotated[Seconds, Meta(description="For so long; 0: for ever.")] | UnsetType = UNSET
    also_new: Annotated[bool, Meta(description="Of a user: also what is issued from now on.")] = False


class UnrevokeQuery(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which revocation to take back: one of user, token and key."""

    user: Text | UnsetType = UNSET
    tenant: OfTenant | UnsetType = UNSET
    token: Text | UnsetType = UNSET
    key: Text | UnsetType = UNSET


class Since(Struct, forbid_unknown_fields=True):
    """A time: ms since 1970."""

    since: Annotated[int, Meta(ge=0, le=2**53 - 1)]


class After(Struct, forbid_unknown_fields=True):
    """A position: a number by log."""

    after: dict[str, Position]


class Rewind(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Where to go on."""

    to: Annotated[Any, Meta(description='"earliest", "new", {"since": ms} or {"after": position}.')]


class SaidRewind(Struct, forbid_unknown_fields=True):
    """Where to go on."""

    to: Literal["earliest", "new"] | Since | After


class LettersQuery(NameQuery, forbid_unknown_fields=True, omit_defaults=True):
    """Which letters, page by page."""

    limit: Limit = 100
    after: Annotated[Position, Meta(description="The `pos` of the last one of the page before.")] = 0


class DropQuery(NameQuery, forbid_unknown_fields=True, omit_defaults=True):
    """Which letters to forget."""

    positions: Annotated[list[Position], Meta(max_length=100, description="Of these letters; none: of all.")] = []


class Retry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which letters to publish again."""

    positions: Positions = []


class Drain(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How much time the clients are sent away in."""

    seconds: Annotated[float, Meta(ge=0, le=3_600)] | UnsetType = UNSET


class Reload(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which nodes read their settings again."""

    cluster: Annotated[bool, Meta(description="All of them, each its own file.")] = False


class LevelQuery(Query, forbid_unknown_fields=True, omit_defaults=True):
    """Of which nodes."""

    cluster: Annotated[bool, Meta(description="Of all of them.")] = False


class Level(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How much is logged from now on; "": as configured."""

    level: Literal["debug", "info", "warning", "error", ""]
    seconds: (
        Annotated[float, Meta(gt=0, le=86_400, description="For so long, then as configured.")] | UnsetType
    ) = UNSET
    cluster: Annotated[bool, Meta(description="By all nodes.")] = False


class TestWebhook(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Nothing more to say."""

    tenant: Tenant | UnsetType = UNSET


class RouteQuery(Query, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Of which topic."""

    topic: Text


class Chosen(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Whose messages the console is to see."""

    tenant: OfTenant = ""


class Follow(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What to follow: one of user, connection and topic."""

    user: UserOrNone | UnsetType = UNSET
    connection: Text | UnsetType = UNSET
    topic: Annotated[Text, Meta(description="A filter: its messages are followed.")] | UnsetType = UNSET
    tenant: Tenant | UnsetType = UNSET
    payloads: Annotated[bool, Meta(description="Show what applications say, too.")] = False


class FollowQuery(Query, forbid_unknown_fields=True, omit_defaults=True):
    """How long to wait for something to happen."""

    wait_ms: Annotated[int, Meta(ge=0, le=10_000, description="In a cluster at most 300.")] = 5_000
