"""Accounts: what the connections of one user, or of one tenant, do together, here and on other nodes; pure.

Knows quotas and buckets, no sessions and no links: what other nodes say is handed in by `cluster.usage`, and what
it is to tell them is asked for, once a second. Each node gives itself what the others leave of a rate, and no less
than its part among those that use it. The surprising decision: a share falls at once and rises by half of the way,
or two nodes that both see room would both take all of it, and both give it back, for ever.

Bounded: an account without connections lives on only while it is overdrawn, or a new connection would begin anew.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from triode_broker.config import Limits, Quota
from triode_broker.core.buckets import Bucket, Rate, rate
from triode_broker.core.identity import Identity

#: Accounts without connections; the oldest goes for one more.
MAX_LEFT: Final = 10_000
#: Accounts that one node tells the others of; those come first that are nearest to a limit.
MAX_TOLD: Final = 1_000
#: What all the other nodes together do not tell of an account is at most one in so many of its limit.
UNTOLD: Final = 5

Key = tuple[str, str]


class Usage(Struct, array_like=True, frozen=True):
    """What one account does on one node. Travels between nodes: new fields only at the end, with a default."""

    tenant: str
    user: str  # "" = all of the tenant
    publishes: int = 0  # in a second
    bytes: int = 0  # in a second
    connections: int = 0
    subscriptions: int = 0
    wildcards: int = 0


class Account:
    """One user of a tenant, or, with the user "", all of the tenant."""

    __slots__ = (
        "_bounds",
        "_bytes",
        "_publishes",
        "bytes",
        "connections",
        "elsewhere",
        "key",
        "publishes",
        "subscriptions",
        "wildcards",
    )

    def __init__(self, key: Key, quota: Quota, limits: Limits) -> None:
        self.key = key
        self.connections = self.subscriptions = self.wildcards = 0  # here
        self.elsewhere: tuple[Usage, ...] = ()  # of each other node that has told of it
        self._agree(quota, limits)
        self.publishes = Bucket(self._publishes)
        self.bytes = Bucket(self._bytes)

    def agree(self, quota: Quota, limits: Limits, now_ms: float) -> None:
        """The bounds of its newest connection hold for all of them."""
        before = self._publishes, self._bytes
        self._agree(quota, limits)
        if (self._publishes, self._bytes) != before:
            self.publishes.change(self._publishes, now_ms)
            self.bytes.change(self._bytes, now_ms)
            self.share(now_ms)

    def _agree(self, quota: Quota, limits: Limits) -> None:
        kind = "user" if self.key[1] else "tenant"
        names = (f"{kind}_publishes_per_second", f"{kind}_bytes_per_second")
        self._publishes, self._bytes = (rate(name, getattr(quota, name), limits.rate_burst_ms) for name in names)
        self._bounds = (
            self._publishes.per_second,
            self._bytes.per_second,
            quota.user_max_connections if self.key[1] else quota.tenant_max_connections,
            0 if self.key[1] else quota.tenant_max_subscriptions,
            0 if self.key[1] else quota.tenant_max_wildcard_subscriptions,
        )

    @property
    def all_connections(self) -> int:
        """On all nodes."""
        return self.connections + sum(usage.connections for usage in self.elsewhere)

    @property
    def all_subscriptions(self) -> int:
        """On all nodes."""
        return self.subscriptions + sum(usage.subscriptions for usage in self.elsewhere)

    @property
    def all_wildcards(self) -> int:
        """On all nodes."""
        return self.wildcards + sum(usage.wildcards for usage in self.elsewhere)

    def is_idle(self, now_ms: float) -> bool:
        """Whether a new account would be the same."""
        return self.publishes.is_full(now_ms) and self.bytes.is_full(now_ms)

    def use(self, elapsed_ms: float) -> tuple[float, Usage]:
        """What it has done since it was asked last, and the largest part of a bound that this is."""
        seconds = max(elapsed_ms, 1.0) / 1000
        publishes, octets = (round(bucket.used / seconds) for bucket in (self.publishes, self.bytes))
        self.publishes.used = self.bytes.used = 0
        tenant, user = self.key
        usage = Usage(tenant, user, publishes, octets, self.connections, self.subscriptions, self.wildcards)
        counts = (usage.publishes, usage.bytes, usage.connections, usage.subscriptions, usage.wildcards)
        parts = (count / bound for count, bound in zip(counts, self._bounds, strict=True) if bound)
        return max(parts, default=0.0), usage

    def share(self, now_ms: float, *, is_rising: bool = False) -> bool:
        """Take what the other nodes leave of its rates. Whether there is less than all of them."""
        publishes = [usage.publishes for usage in self.elsewhere]
        octets = [usage.bytes for usage in self.elsewhere]
        is_less = _share(self.publishes, self._publishes, publishes, now_ms, is_rising=is_rising)
        return _share(self.bytes, self._bytes, octets, now_ms, is_rising=is_rising) or is_less


def _share(bucket: Bucket, whole: Rate, used: Sequence[int], now_ms: float, *, is_rising: bool) -> bool:
    """Whether it is less than the whole."""
    if not whole.step_ms:
        return False
    others = [one for one in used if one > 0]
    least = whole.per_second / (1 + len(others))
    aim = max(whole.per_second - sum(others), least)
    has = 1000 / bucket.rate.step_ms
    if aim > has:
        if not is_rising:
            return True
        aim = (aim + has) / 2 if aim - has > whole.per_second / 100 else aim
    bucket.change(whole if aim >= whole.per_second else whole.shared(aim), now_ms)
    return bucket.rate is not whole


class Accounts:
    """Those of one node."""

    __slots__ = ("_active", "_by_key", "_left", "_limits", "_others", "_shared", "_steady_ms", "_told_ms")

    def __init__(self, limits: Limits, steady_ms: Callable[[], int]) -> None:
        self._limits = limits
        self._steady_ms = steady_ms
        self._by_key: dict[Key, Account] = {}
        self._left: OrderedDict[Key, Account] = OrderedDict()  # without connections, longest first
        self._active: dict[Key, Account] = {}  # of which there may be something to tell
        self._others: dict[str, dict[Key, Usage]] = {}  # by node
        self._shared: dict[Key, Account] = {}  # whose buckets here have less than all
        self._told_ms = steady_ms()

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, identity: Identity, quota: Quota) -> tuple[Account | None, Account | None]:
        """The accounts of a client: its user's, where there is a name and a bound, and its tenant's."""
        user = tenant = None
        if identity.user and _bounds_users(quota):
            user = self._find((identity.tenant, identity.user), quota)
        if _bounds_tenants(quota):
            tenant = self._find((identity.tenant, ""), quota)
        return user, tenant

    def _find(self, key: Key, quota: Quota) -> Account:
        """It is kept only once somebody enters."""
        now_ms = self._steady_ms()
        account = self._by_key.get(key)
        if account is not None:
            account.agree(quota, self._limits, now_ms)
            return account
        account = Account(key, quota, self._limits)
        account.elsewhere = self._elsewhere(key)
        account.share(now_ms)
        return account

    def enter(self, *accounts: Account | None) -> None:
        """They have one more connection."""
        for account in accounts:
            if account is not None:
                self._by_key[account.key] = account
                self._left.pop(account.key, None)
                account.connections += 1
                account.publishes.sharers = account.bytes.sharers = account.connections
                self._active[account.key] = account
                if account.elsewhere:
                    self._shared[account.key] = account

    def leave(self, *accounts: Account | None) -> None:
        """They have one less."""
        for account in accounts:
            if account is not None:
                account.connections -= 1
                account.publishes.sharers = account.bytes.sharers = max(account.connections, 1)
                if not account.connections:
                    self._left[account.key] = account
        self._drop_left()

    def _drop_left(self) -> None:
        now_ms = self._steady_ms()
        while self._left:
            key, account = next(iter(self._left.items()))
            if len(self._left) <= MAX_LEFT and not account.is_idle(now_ms):
                return
            for accounts in (self._left, self._by_key, self._active, self._shared):
                accounts.pop(key, None)

    # Other nodes

    def worked(self, *accounts: Account | None) -> None:
        """There may be something to tell."""
        for account in accounts:
            if account is not None:
                self._active[account.key] = account

    def report(self, nodes: int) -> list[Usage]:
        """What is to be told the other nodes of a cluster of so many: since the last time, once a second."""
        now_ms = self._steady_ms()
        elapsed_ms, self._told_ms = now_ms - self._told_ms, now_ms
        least = 1 / (UNTOLD * nodes)
        found = [account.use(elapsed_ms) for account in self._active.values()]
        found = [(part, usage) for part, usage in found if part >= least]
        self._active = {(usage.tenant, usage.user): self._by_key[usage.tenant, usage.user] for _, usage in found}
        found.sort(key=lambda each: -each[0])
        return [usage for _, usage in found[:MAX_TOLD]]

    def hear(self, node: str, usages: Sequence[Usage]) -> None:
        """What another node tells, in the place of what it told before; nothing: it is not heard any more."""
        before = self._others.pop(node, {})
        told = {(usage.tenant, usage.user): usage for usage in usages[:MAX_TOLD]}
        if told:
            self._others[node] = told
        now_ms = self._steady_ms()
        for key in before.keys() | told.keys():
            if (account := self._by_key.get(key)) is not None:
                account.elsewhere = self._elsewhere(key)
                account.share(now_ms)
                self._shared[key] = account

    def rise(self) -> None:
        """Once a second: go towards what the others leave."""
        now_ms = self._steady_ms()
        self._shared = {
            key: account for key, account in self._shared.items() if account.share(now_ms, is_rising=True)
        }
        self._drop_left()

    def _elsewhere(self, key: Key) -> tuple[Usage, ...]:
        return tuple(told[key] for told in self._others.values() if key in told)


def _bounds_users(quota: Quota) -> bool:
    return bool(quota.user_publishes_per_second or quota.user_bytes_per_second or quota.user_max_connections)


def _bounds_tenants(quota: Quota) -> bool:
    return bool(
        quota.tenant_publishes_per_second
        or quota.tenant_bytes_per_second
        or quota.tenant_max_connections
        or quota.tenant_max_subscriptions
        or quota.tenant_max_wildcard_subscriptions
    )
