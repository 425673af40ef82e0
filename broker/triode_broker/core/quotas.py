"""Quotas: which bounds hold for a client, by its roles, its tenant and the way it came in; pure.

Knows the rows of the settings and identities, nothing of what is counted. The surprising decision: each value is
looked for among the rows, no row is chosen. One that gives a role more publishes takes nothing else away from what
holds for everybody.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import asdict, replace
from triode_protocol.packets import Limits as AnnouncedLimits

from triode_broker.config import DEFAULT_QUOTAS, NOT_SAID, Limits, Quota
from triode_broker.core.identity import Identity

#: Answers that are remembered; their number is that of combinations of roles, tenants and ways in.
MAX_MADE: Final = 1_024
_CHOICE: Final = ("role", "tenant", "method")
_BOUNDS: Final = tuple(name for name in Quota.__struct_fields__ if name not in _CHOICE)
_RATES: Final = tuple(name for name in _BOUNDS if name.endswith("_per_second"))
#: What a token's claim `limits` may lower: not what belongs to others as well.
LOWERABLE: Final = frozenset(name for name in _BOUNDS if not name.startswith("tenant_"))


class Quotas:
    """The rows of the settings, and behind them those that always hold."""

    __slots__ = ("_made", "_rows")

    def __init__(self, rows: Sequence[Quota] = ()) -> None:
        self._rows = (*rows, *DEFAULT_QUOTAS)
        self._made: dict[tuple[frozenset[str], str, str], Quota] = {}

    def put(self, rows: Sequence[Quota]) -> None:
        """Other rows from now on; who came in before is told by its meter (`Rates.change`)."""
        self._rows = (*rows, *DEFAULT_QUOTAS)
        self._made = {}

    def of(self, identity: Identity) -> Quota:
        """What holds for a client: every value said, 0 where there is no bound."""
        key = (identity.roles, identity.tenant, identity.method)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= MAX_MADE:
                self._made.clear()
            made = self._made[key] = self._make(identity)
        return lowered(made, identity.limits) if identity.limits else made

    def _make(self, identity: Identity) -> Quota:
        rows = [asdict(row) for row in self._rows if _fits(row, identity)]
        bounds: dict[str, Any] = {
            name: next((row[name] for row in rows if row[name] != NOT_SAID), 0) for name in _BOUNDS
        }
        return Quota(**bounds)


def _fits(row: Quota, identity: Identity) -> bool:
    return (
        (not row.role or row.role in identity.roles)
        and (not row.tenant or row.tenant == identity.tenant)
        and (not row.method or row.method == identity.method)
    )


def check_claim(claim: object) -> Mapping[str, int]:
    """The claim `limits` of a token. Raises ValueError, in words without the claim's own: it lets nobody in.

    Nothing is passed over, because a bound that nobody knows is a bound that does not hold.
    """
    if not isinstance(claim, Mapping):
        raise ValueError("limits are not an object")
    for name, most in claim.items():
        if name not in LOWERABLE:
            raise ValueError("limits hold a word that is no limit of a connection or a user")
        if type(most) is not int or most < 1:
            raise ValueError(f"limits.{name} is not a whole number of at least 1")
    return dict(claim)


def lowered(quota: Quota, claim: Mapping[str, int]) -> Quota:
    """The lower one of each."""
    changes: dict[str, int] = {}
    for name, most in claim.items():
        bound = getattr(quota, name)
        changes[name] = min(bound, most) if bound else most
    return replace(quota, **changes)


def most_subscriptions(quota: Quota, limits: Limits) -> int:
    """Of one connection."""
    return min(quota.max_subscriptions or limits.max_subscriptions, limits.max_subscriptions)


def most_wildcards(quota: Quota, limits: Limits) -> int:
    """Subscriptions with wildcards of one connection."""
    return min(
        quota.max_wildcard_subscriptions or limits.max_wildcard_subscriptions, limits.max_wildcard_subscriptions
    )


def announced(quota: Quota, limits: Limits, dedupe_window_ms: int) -> AnnouncedLimits:
    """What a client with this quota is told (SPEC 4.1)."""
    has_rates = any(getattr(quota, name) for name in _RATES)
    return AnnouncedLimits(
        max_packet_bytes=limits.max_packet_bytes,
        max_frame_bytes=limits.max_frame_bytes,
        max_subscriptions=most_subscriptions(quota, limits),
        max_inflight_publishes=limits.max_inflight_publishes,
        dedupe_window_ms=dedupe_window_ms,
        max_wildcard_subscriptions=most_wildcards(quota, limits),
        publishes_per_second=quota.publishes_per_second,
        bytes_per_second=quota.bytes_per_second,
        requests_per_second=quota.requests_per_second,
        control_packets_per_second=quota.control_packets_per_second,
        rate_burst_ms=limits.rate_burst_ms if has_rates else 0,
        user_publishes_per_second=quota.user_publishes_per_second,
        user_bytes_per_second=quota.user_bytes_per_second,
        user_max_connections=quota.user_max_connections,
        tenant_publishes_per_second=quota.tenant_publishes_per_second,
        tenant_bytes_per_second=quota.tenant_bytes_per_second,
        tenant_max_connections=quota.tenant_max_connections,
        tenant_max_subscriptions=quota.tenant_max_subscriptions,
        tenant_max_wildcard_subscriptions=quota.tenant_max_wildcard_subscriptions,
    )
