"""The operators' half of the table of operations: what is asked, how it is answered, and which call does it.

Rows and nothing else; how a request becomes a call, and who may, is operating.py's business.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec
from triode_protocol.errors import ErrorName

from triode_broker.http import operator_answers as answers
from triode_broker.http import operator_records as records
from triode_broker.http.exchange import NOT_FOUND, Problem
from triode_broker.http.operating import Operating
from triode_broker.http.operations import Operation

_BAD: Final = (ErrorName.MALFORMED, ErrorName.UNAUTHORIZED, ErrorName.FORBIDDEN)
_NAMED: Final = (*_BAD, ErrorName.NO_SUCH_SUBSCRIPTION, ErrorName.UNAVAILABLE, ErrorName.TIMEOUT)
_WHOM: Final = ("user", "token", "key", "connection", "address")


def _one(answer: Any) -> Any:
    """A connection that is to be closed has to be there."""
    if answer["closed"] or answer["unanswered"]:
        return answer
    raise Problem(404, NOT_FOUND, "there is no such connection")


def _row(
    method: str,
    path: str,
    call: str,
    summary: str,
    answer: type[msgspec.Struct],
    *,
    tag: str,
    query: type[msgspec.Struct] = records.Query,
    body: type[msgspec.Struct] | None = None,
    for_tenant: Collection[str] | None = None,
    errors: tuple[str, ...] = _BAD,
    description: str = "",
    said_body: Any = None,
    **how: Any,
) -> Operation:
    reach = "" if for_tenant is not None else " About the whole broker: not for operators of a tenant."
    right = f"Needs the right `operate` for `{call.replace('.', '/')}`.{reach}"
    return Operation(
        method,
        path,
        summary,
        tag,
        Operating(call, for_tenant, **how),
        query=query,
        body=body,
        said_body=said_body,
        answer=answer,
        errors=errors,
        description=f"{description} {right}".strip(),
    )


CLIENTS: Final = (
    _row(
        "GET", "/v1/connections", "connections", "Who is connected", answers.Connections,
        tag="clients", query=records.ConnectionsQuery, for_tenant=(*_WHOM, "limit", "after"),
        description="Of all nodes, in order of their ids.",
    ),
    _row(
        "DELETE", "/v1/connections/{id}", "kick", "Close one connection", answers.Closed,
        tag="clients", query=records.KickQuery, for_tenant=("connection", "come_back"),
        renamed={"id": "connection"}, shape=_one, errors=(*_BAD, NOT_FOUND),
    ),
    _row(
        "POST", "/v1/kick", "kick", "Send clients away", answers.Closed,
        tag="clients", body=records.Kick, for_tenant=(*_WHOM, "come_back"), needs=(*_WHOM, "tenant"),
        description="All of whom everything that is given is true. They are not kept out: that is a revocation.",
    ),
    _row(
        "GET", "/v1/subscriptions", "subscriptions", "What is subscribed to", answers.Subscriptions,
        tag="clients", query=records.SubscriptionsQuery,
        for_tenant=("user", "connection", "topic", "filter", "kind", "name", "limit", "after"),
        description="Every open subscription of all nodes: plain, durable, shared and of groups.",
    ),
    _row(
        "GET", "/v1/slow", "slow", "Connections for which something waits", answers.SlowConnections,
        tag="clients", query=records.SlowQuery, knows_tenant=False,
    ),
    _row(
        "GET", "/v1/revocations", "revocations", "What is revoked", answers.Revocations,
        tag="clients", for_tenant=(), description="To an operator of a tenant: of its users.",
    ),
    _row(
        "POST", "/v1/revocations", "revoke", "Withdraw a credential", answers.Revoked,
        tag="clients", body=records.Revoke, for_tenant=("user", "seconds", "also_new"),
        errors=(*_BAD, NOT_FOUND), needs=("user", "token", "key", "connection"), is_whole=True,
        description="And send away, on all nodes, who came in with it. An operator of a tenant: those of a user.",
    ),
    _row(
        "DELETE", "/v1/revocations", "unrevoke", "Take a revocation back", answers.Unrevoked,
        tag="clients", query=records.UnrevokeQuery, for_tenant=("user",), errors=(*_BAD, NOT_FOUND),
        needs=("user", "token", "key"), is_whole=True,
    ),
)  # fmt: skip

NAMES: Final = (
    _row(
        "GET", "/v1/durable", "subs.list", "Durable subscriptions and groups", answers.Durables,
        tag="durable subscriptions", for_tenant=(),
    ),
    _row(
        "GET", "/v1/durable/{name}", "subs.show", "One of them", answers.DurableDetails,
        tag="durable subscriptions", query=records.NameQuery, for_tenant=("name",), errors=_NAMED,
    ),
    _row(
        "DELETE", "/v1/durable/{name}", "subs.delete", "Forget one", answers.Deleted,
        tag="durable subscriptions", query=records.NameQuery, for_tenant=("name",), errors=_NAMED,
        description="Its members are told that it is over; its dead letters stay.",
    ),
    _row(
        "POST", "/v1/durable/{name}/rewind", "subs.rewind", "Have one go on from another place", answers.Rewound,
        tag="durable subscriptions", query=records.NameQuery, body=records.Rewind, said_body=records.SaidRewind,
        for_tenant=("name", "to"), errors=_NAMED,
    ),
    _row(
        "GET", "/v1/dead-letters", "dead.list", "Which names have dead letters", answers.DeadCounts,
        tag="durable subscriptions", for_tenant=(), errors=(*_BAD, ErrorName.TIMEOUT),
    ),
    _row(
        "GET", "/v1/dead-letters/{name}", "dead.list", "Dead letters of one name", answers.Letters,
        tag="durable subscriptions", query=records.LettersQuery, for_tenant=("name", "limit", "after"),
        errors=_NAMED, description="The oldest first.",
    ),
    _row(
        "DELETE", "/v1/dead-letters/{name}", "dead.drop", "Forget dead letters", answers.Done,
        tag="durable subscriptions", query=records.DropQuery, for_tenant=("name", "positions"),
        errors=(*_NAMED, NOT_FOUND),
    ),
    _row(
        "POST", "/v1/dead-letters/{name}/retry", "dead.retry", "Publish dead letters again", answers.Done,
        tag="durable subscriptions", query=records.NameQuery, body=records.Retry,
        for_tenant=("name", "positions"), errors=(*_NAMED, NOT_FOUND),
        description="Where they came from, as new messages; then they are forgotten.",
    ),
)  # fmt: skip

NODES: Final = (
    _row(
        "GET", "/v1/figures", "figures", "What every node counts", answers.Figures,
        tag="nodes", knows_tenant=False, description="All numbers are since the start of a node.",
    ),
    _row(
        "GET", "/v1/topics", "topics", "The busiest topics", answers.Topics,
        tag="nodes", query=records.TopicsQuery, for_tenant=("prefix", "limit"),
    ),
    _row(
        "GET", "/v1/topics/route", "route", "Where a message of a topic would go", answers.Route,
        tag="nodes", query=records.RouteQuery, for_tenant=("topic",),
        description="Its rule, its shard and owner, who may publish there, and who would be told on each node.",
    ),
    _row(
        "GET", "/v1/tenants", "tenants.list", "What tenants do", answers.Tenants,
        tag="nodes", for_tenant=(), description="Counted by each node since its start.",
    ),
    _row(
        "GET", "/v1/cluster", "cluster", "What the nodes say of each other", answers.Cluster,
        tag="nodes", knows_tenant=False, errors=(*_BAD, ErrorName.UNSUPPORTED),
        description="`unsupported` where the node is in no cluster.",
    ),
    _row(
        "POST", "/v1/drain", "drain", "Take this node out of service", answers.Draining,
        tag="nodes", body=records.Drain, knows_tenant=False,
        description="Its clients are sent to the other nodes, and then it ends.",
    ),
    _row(
        "POST", "/v1/reload", "reload", "Read the settings again", answers.OfNodes,
        tag="nodes", body=records.Reload, knows_tenant=False,
        description="An invalid file changes nothing.",
    ),
    _row(
        "GET", "/v1/log-level", "log_level", "How much is logged", answers.OfNodes,
        tag="nodes", query=records.LevelQuery, knows_tenant=False,
    ),
    _row(
        "PUT", "/v1/log-level", "log_level", "Log more, or less", answers.OfNodes,
        tag="nodes", body=records.Level, knows_tenant=False,
        description="Until the next start, or the next change of the settings.",
    ),
)  # fmt: skip

WEBHOOKS: Final = (
    _row(
        "GET", "/v1/webhooks", "webhooks", "How webhooks stand", answers.Webhooks,
        tag="nodes", for_tenant=(), description="Of all nodes, which share the events of each.",
    ),
    _row(
        "POST", "/v1/webhooks/{name}/test", "webhooks.test", "Send a test event", answers.WebhookTest,
        tag="nodes", body=records.TestWebhook, for_tenant=("name",), errors=(*_BAD, NOT_FOUND),
        description="And have one go on whose endpoint had said that it is gone.",
    ),
)  # fmt: skip

TAILS: Final = (
    _row(
        "POST", "/v1/tail", "tail.open", "Follow a client, or a topic", answers.Followed,
        tag="clients", body=records.Follow, for_tenant=("user", "connection", "topic", "payloads"),
        needs=("user", "connection", "topic"),
        description="What a client says and is told, on all nodes; or the messages of a filter. It is logged.",
    ),
    _row(
        "GET", "/v1/tail/{tap}", "tail.read", "What has happened there", answers.Happened,
        tag="clients", query=records.FollowQuery, for_tenant=("tap", "wait_ms"), errors=(*_BAD, NOT_FOUND),
        description="Waits for something to happen (a long poll). Each event is answered once.",
    ),
    _row(
        "DELETE", "/v1/tail/{tap}", "tail.close", "Follow no longer", answers.FollowEnded,
        tag="clients", for_tenant=("tap",), errors=(*_BAD, NOT_FOUND),
    ),
)  # fmt: skip

OPERATIONS: Final[tuple[Operation, ...]] = (*CLIENTS, *NAMES, *NODES, *WEBHOOKS, *TAILS)
