"""Who a client is, as the core sees it: the answer of whoever checks credentials (`interfaces.Gate`).

Records only. The surprising decision: rights stand in the identity, not beside it. Whoever holds an identity can
say what it may do, and a new token is a new identity: nothing is ever changed in place.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from triode_broker.core.rights import EVERYTHING, Rights

if TYPE_CHECKING:
    from triode_broker.core.interfaces import Gate

NO_LIMITS: Final[Mapping[str, int]] = MappingProxyType({})


@attrs.frozen(eq=False)
class Identity:
    """One authenticated client; "" is anonymous, and all anonymous clients of a tenant are one identity (G2)."""

    user: str = ""
    tenant: str = ""  # "" = the default one
    rights: Rights = EVERYTHING
    expires_ms: int = 0  # wall clock; 0 = never
    issued_ms: int = 0  # wall clock; 0 = it does not say
    token_id: str = ""  # `jti`
    key: str = ""  # the API key, by its public name
    method: str = "open"  # how it was found out: as in [[quotas]], or by the broker itself: demo, operator
    roles: frozenset[str] = frozenset()  # by which its quotas are chosen, and its rights were
    limits: Mapping[str, int] = (
        NO_LIMITS  # the claim `limits`, as `quotas.check_claim` returns it: lowers its quotas
    )
    source: object = None  # its gate's own: what it judges by, when the rules change

    def is_same(self, other: "Identity") -> bool:
        """Whether a token of the other may take the place of this one's: same tenant and user (SPEC 11.3.2)."""
        return (self.tenant, self.user) == (other.tenant, other.user)


#: How a client is known where its name is at home, and another node has found out who it is.
BEHIND_A_NODE: Final = "node"
#: Where nobody is asked who they are.
OPEN = Identity()


@attrs.frozen
class Arrival:
    """What is known of a connection before its first packet; kept until it has connected."""

    address: str = ""  # of the client, behind trusted proxies its own
    token: str = ""  # of `Authorization: Bearer`
    certificate: tuple[str, ...] = ()  # names in the client's verified certificate, the one to be used first
    is_encrypted: bool = False
    gate: "Gate | None" = None  # who says who it is, at a door of its own; None: the node's
    is_request: bool = False  # one that asks by HTTP and goes: no event


#: Nothing is.
UNKNOWN = Arrival()
