"""What operators are offered beside the port of clients: `[admin]`, `[tracing]`."""

from typing import Annotated

from msgspec import Meta, Struct

from triode_broker.config.access import Tls


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
