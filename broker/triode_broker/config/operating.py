"""What operators are offered beside the port of clients: `[admin]`."""

from msgspec import Struct

from triode_broker.config.access import Tls


class Admin(Struct, frozen=True, forbid_unknown_fields=True):
    """The administration listener: console, metrics and /v1 for whoever shows its secret."""

    listen: str = ""  # HOST:PORT of its own; "" = there is none
    token_file: str = ""  # what is in it operators show as `Authorization: Bearer`; read again on SIGHUP
    token_env: str = ""  # the same in an environment variable
    tls: Tls = Tls()  # of this listener
