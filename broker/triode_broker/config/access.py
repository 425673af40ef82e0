"""Who may come in, what they may do, how much of it, and behind which certificate.

`[auth]`, `[[tokens]]`, `[[permissions]]`, `[[quotas]]`, `[tls]`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from triode_broker.config.numbers import NotNegative, Positive


class Auth(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may connect at all. Where nothing here, no `tokens`, no `permissions` is set, nobody is asked."""

    anonymous: bool = False  # clients without a credential come in, with the rights of the role "anonymous"
    api_keys_file: str = ""  # of `triode token key`: one line a key, hashed; "" = none
    query_token: bool = False  # also `?token=…` in the URL, which ends up in logs of others
    leeway_seconds: NotNegative = 60  # how far clocks of issuers may be off
    max_token_seconds: NotNegative = 86_400  # a token is good for at most so long, whatever it says; 0 = no bound
    notice_seconds: Positive = 60  # a client is told so long before its token expires
    certificates: bool = False  # a verified client certificate (`tls.client_ca`) is a credential
    callout_url: str = ""  # asked who a client is, by POST; "" = nobody is
    callout_secret_file: str = ""  # sent along as `Authorization: Bearer`, so that the answerer knows the broker
    callout_secret_env: str = ""  # the same in an environment variable
    callout_timeout_ms: Positive = 2_000
    callout_cache_seconds: NotNegative = 60  # an answer is kept, at most as long as it says; 0 = not at all
    callout_failures: Positive = 5  # in a row; then nobody is asked for `callout_pause_ms`
    callout_pause_ms: Positive = 5_000
    jwks_refresh_seconds: Positive = 300  # keys are fetched anew so often
    jwks_stale_seconds: Positive = 86_400  # keys that cannot be fetched anew go on for so long


#: "" is the one without a name; what else it may be called is what `core.tenants` needs.
TenantName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}\Z")]


class TokenKey(Struct, frozen=True, forbid_unknown_fields=True):
    """One key, or one URL with keys, that signs tokens (JWT). Its algorithm is fixed here, not by the token."""

    name: str = ""  # for the log
    algorithm: Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"] = "RS256"
    kid: str = ""  # tokens that name a key name this one; "" = any
    key_file: str = ""  # secret (HS…) or public key in PEM
    key_env: str = ""  # the same in an environment variable
    jwks_url: str = ""  # or fetched from there
    issuer: str = ""  # what `iss` must be; "" = anything
    audience: str = ""  # what `aud` must name; "" = anything
    user_claim: str = "sub"
    tenant_claim: str = "tenant"  # "" = tokens do not say
    tenant: TenantName = ""  # of tokens that name none
    roles_claim: str = "roles"  # a list of texts, or one with spaces; a path has dots; "" = tokens do not say
    permissions_claim: str = "permissions"  # {"publish": [filters], "deny_publish": …}; "" = tokens do not say


Filters = tuple[str, ...]


class Permission(Struct, frozen=True, forbid_unknown_fields=True):
    """What the clients of a role may do: filters with {user}, {tenant}, {claims.NAME} as levels; deny wins."""

    role: str = ""  # one of the claim `roles`, "anonymous", or "" = everybody who has a credential
    tenant: TenantName = ""  # of this tenant only; "" = of any
    publish: Filters = ()
    subscribe: Filters = ()
    presence: Filters = ()
    history: Filters = ()
    consume: Filters = ()
    operate: Filters = ()  # administration calls by name: "#", "connections", "subs/#" (docs/http-operators.md)
    deny_publish: Filters = ()
    deny_subscribe: Filters = ()
    deny_presence: Filters = ()
    deny_history: Filters = ()
    deny_consume: Filters = ()
    deny_operate: Filters = ()


#: Stands for "what a later row says that fits".
NOT_SAID = -1
Allowance = Annotated[int, Meta(ge=NOT_SAID)]


class Quota(Struct, frozen=True, forbid_unknown_fields=True):
    """How much clients may do. Each value is that of the first row that fits a client and says it; 0 = no bound.

    What of a whole tenant is bounded stands in rows without `role` and `method`.
    """

    role: str = ""  # one that the client has, such as "anonymous"; "" = any client
    tenant: TenantName = ""  # of this tenant only; "" = of any
    method: Literal["", "open", "anonymous", "token", "key", "callout", "certificate"] = ""  # how it was let in

    # Of one connection
    publishes_per_second: Allowance = NOT_SAID
    bytes_per_second: Allowance = NOT_SAID  # of all that it sends; beyond, publishes and requests are refused
    requests_per_second: Allowance = NOT_SAID  # subscribe, history, presence, auth, what is no packet
    control_packets_per_second: Allowance = NOT_SAID  # ack, nack, extend, unsubscribe, ping, pong
    max_subscriptions: Allowance = NOT_SAID  # beside limits.max_subscriptions: the lower one holds
    max_wildcard_subscriptions: Allowance = NOT_SAID  # the same

    # Of all connections of one user together, on all nodes
    user_publishes_per_second: Allowance = NOT_SAID
    user_bytes_per_second: Allowance = NOT_SAID
    user_max_connections: Allowance = NOT_SAID

    # Of all connections of one tenant together, on all nodes
    tenant_publishes_per_second: Allowance = NOT_SAID
    tenant_bytes_per_second: Allowance = NOT_SAID
    tenant_max_connections: Allowance = NOT_SAID
    tenant_max_subscriptions: Allowance = NOT_SAID
    tenant_max_wildcard_subscriptions: Allowance = NOT_SAID


def _unbounded(method: Literal["open", "key", "certificate"]) -> Quota:
    return Quota("", "", method, 0, 0, 0, 0, 0, 0, 0, 0, 0)


#: Behind the rows of the settings. Programs that an operator gave a key or a certificate, and all clients where
#: nobody is asked who they are, have no bounds; everybody else may be a browser.
DEFAULT_QUOTAS = (
    *(_unbounded(method) for method in ("open", "key", "certificate")),
    Quota(
        publishes_per_second=1_000,
        bytes_per_second=1_048_576,
        requests_per_second=100,
        control_packets_per_second=5_000,
        user_publishes_per_second=2_000,
        user_bytes_per_second=2_097_152,
        user_max_connections=100,
    ),
)


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    """A listener's certificate; without one it speaks plain text."""

    certificate: str = ""  # PEM file, with the chain
    key: str = ""  # PEM file; "" = it stands in `certificate`
    client_ca: str = ""  # PEM file: certificates of the other side must be signed by one of these
    client_certificates: Literal["optional", "required"] = "optional"  # where there is a client_ca; nodes always
