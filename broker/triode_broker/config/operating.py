"""What operators are offered beside the port of clients: `[admin]`, `[tracing]`, `[[webhooks]]`."""

from typing import Annotated

from msgspec import Meta, Struct

from triode_broker.config.access import TenantName, Tls
from triode_broker.config.numbers import NotNegative, Positive


class Admin(Struct, frozen=True, forbid_unknown_fields=True):
    """The administration listener: console, metrics and /v1 for whoever shows its secret."""

    listen: str = ""  # HOST:PORT of its own; "" = there is none
    token_file: str = ""  # what is in it operators show as `Authorization: Bearer`; read again on SIGHUP
    token_env: str = ""  # the same in an environment variable
    tls: Tls = Tls()  # of this listener


class Tracing(Struct, frozen=True, forbid_unknown_fields=True):
    """OpenTelemetry spans of some messages, sent over OTLP/HTTP; needs the extra `otel`."""

    endpoint: str = ""  # URL of the collector, as http://127.0.0.1:4318/v1/traces; "" = no spans are made
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.0  # of messages without `traceparent`: that has a flag
    service_name: str = "triode"


class Webhook(Struct, frozen=True, forbid_unknown_fields=True):
    """One endpoint of yours that is told of events: docs/webhooks.md."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,48}$")] = ""  # its place among the events goes by it
    url: str = ""  # where to POST; https, or http on this machine
    events: tuple[str, ...] = ()  # kinds, as "member.joined" or "member.*"; none = all
    topics: tuple[str, ...] = ()  # filters: of events about a topic, only these; none = all
    tenant: TenantName = ""  # whose events; "" = of clients without a tenant
    secret_file: str = ""  # what is in it signs requests
    secret_env: str = ""  # the same in an environment variable
    old_secret_file: str = ""  # signs too, while the secret is being replaced
    old_secret_env: str = ""
    timeout_ms: Positive = 10_000  # of one request
    batch: Annotated[int, Meta(ge=1, le=500)] = 100  # events in one request at most
    linger_ms: NotNegative = 20  # that an event may wait for others to go with it
    max_attempts: Annotated[int, Meta(ge=1, le=1_000)] = 20  # of one event; then it is a dead letter
    backoff_min_ms: Positive = 1_000  # before the second attempt; each later pause is twice as long
    backoff_max_ms: Positive = 300_000  # no pause is longer
