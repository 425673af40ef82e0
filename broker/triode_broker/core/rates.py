"""Rates: how much each connection, user and tenant does, and what is refused because it is too much (SPEC 11.7).

Knows identities, buckets and the steady clock of `timers`; nothing of packets or sessions. A session asks its
`Meter` when a purse of it is empty; connections without bounds share one whose purses never are. The surprising
decision: after a refusal everything of that kind is refused until the time that was told. So what a client had
sent ahead does not slip in between, and what it sends again is accepted in the order in which it is sent.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from triode_protocol.codec import Refused
from triode_protocol.errors import CloseCode, ErrorName

from triode_broker.config import Limits, Quota
from triode_broker.core.accounts import Account, Accounts
from triode_broker.core.buckets import LEASE_MS, Bucket, Purse, Rate, rate
from triode_broker.core.errors import Disconnect
from triode_broker.core.identity import OPEN, Identity
from triode_broker.core.quotas import Quotas, most_subscriptions, most_wildcards
from triode_broker.core.timers import Alarm, Timers

#: A wait that a client is told is at least so long.
MIN_WAIT_MS: Final = 100
#: Who is closed for abuse is told to stay away for at least so long.
ABUSE_MS: Final = 5_000
#: Whoever is refused is complained about with every so many packets: a few are how clients learn their rate.
COMPLAIN_EVERY: Final = 20
#: Meters of connections without bounds, one for each quota.
MAX_SHARED: Final = 1_024
#: The bounds of whoever has none.
UNBOUNDED: Final = Quota("", "", "", *[0] * (len(Quota.__struct_fields__) - 3))


#: Told of an event, who it is, from where, the limit's name, and more about it by name. Must not raise.
Complain = Callable[..., None]


def _say_nothing(event: str, who: Identity, address: str, limit: str, **facts: object) -> None:
    """Where nobody listens."""


class Meter:
    """What one connection may do; made by `Rates.enter`."""

    __slots__ = (
        "_rates",
        "_refused",
        "_strikes",
        "address",
        "bytes",
        "controls",
        "is_leasing",
        "publishes",
        "quota",
        "refused",
        "requests",
        "tenant",
        "user",
        "who",
    )

    def __init__(
        self,
        rates: "Rates",
        quota: Quota,
        user: Account | None,
        tenant: Account | None,
        who: Identity,
        address: str,
    ) -> None:
        self._rates = rates
        self.quota = quota
        self.who = who  # with `address` for complaints; nobody's, where it is shared
        self.address = address
        self.refused = 0  # packets, of this connection
        self.user = user
        self.tenant = tenant
        burst_ms, limits = rates.limits.rate_burst_ms, rates.limits
        accounts = [account for account in (user, tenant) if account is not None]
        publishes = tuple(account.publishes for account in accounts if account.publishes.rate.step_ms)
        octets = tuple(account.bytes for account in accounts if account.bytes.rate.step_ms)
        #: To be spent by whoever has the meter; below 0, `publish`, `request` or `control` is to be asked.
        self.publishes = Purse(rate("publishes_per_second", quota.publishes_per_second, burst_ms), publishes)
        self.bytes = Purse(rate("bytes_per_second", quota.bytes_per_second, burst_ms), octets)
        # A client that comes back asks for all its subscriptions at once.
        at_once = limits.max_subscriptions
        self.requests = Purse(rate("requests_per_second", quota.requests_per_second, burst_ms, at_once), ())
        self.controls = Purse(rate("control_packets_per_second", quota.control_packets_per_second, burst_ms), ())
        self.is_leasing = False  # it may hold what was taken ahead
        self._refused = self.publishes  # the last that had nothing left
        self._strikes: Bucket | None = None  # packets that were refused, made at need

    # Packets

    def publish(self) -> None:
        """Publishes or bytes are spent. Raises Refused; Disconnect where it has come to that too often."""
        self._fill(self.publishes, counts_bytes=True)

    def request(self) -> None:
        """A packet that has something looked up: subscribe, history, presence, auth. Raises like `publish`."""
        self.requests.credit -= 1
        if self.requests.credit < 0 or self.bytes.credit < 0:
            self._fill(self.requests, counts_bytes=True)

    def control(self) -> None:
        """Any other packet. Raises like `publish`, but not for bytes: what settles deliveries is let by."""
        self.controls.credit -= 1
        if self.controls.credit < 0:
            self._fill(self.controls, counts_bytes=False)

    def keeps_silent(self, refused: Refused) -> bool:
        """Whether this answer is not to be sent: its packet has no id, and the same was said of one before it."""
        purse = self._refused
        if (
            refused.name is not ErrorName.RATE_LIMITED
            or refused.id
            or (refused.sub and purse is not self.controls)
        ):
            return False
        was_told, purse.is_told = purse.is_told, True
        return was_told

    def settle(self, now_ms: float) -> None:
        """Give back what was taken ahead and not used."""
        for purse in (self.publishes, self.bytes, self.requests, self.controls):
            if purse.credit or purse.ahead:
                purse.settle(now_ms)

    def _fill(self, purse: Purse, *, counts_bytes: bool) -> None:
        now_ms = self._rates.steady_ms()
        wait_ms, reason = purse.until_ms - now_ms, purse.reason
        if wait_ms <= 0 and purse.credit < 0:
            wait_ms, reason = purse.fill(now_ms), purse.reason
        if wait_ms <= 0 and counts_bytes and self.bytes.credit < 0:
            wait_ms, reason = self.bytes.fill(now_ms, may_overdraw=True), self.bytes.reason
        if wait_ms > 0:
            purse.reason = reason
            self._refuse(purse, wait_ms, now_ms)
        self._rates.leased(self)

    def _refuse(self, purse: Purse, wait_ms: float, now_ms: float) -> None:
        rates = self._rates
        rates.refused[purse.reason.name] += 1
        self.refused += 1
        if not self.refused % COMPLAIN_EVERY:
            self._complain("rate_limited", purse)
        purse.credit += 1  # of the one that is refused
        purse.settle(now_ms)  # what may be left, too: the next one asks again
        if purse is not self.controls:
            self.bytes.credit = max(self.bytes.credit, 0)  # they come again
        if purse.until_ms <= now_ms:
            purse.until_ms = now_ms + max(wait_ms, rates.min_wait_ms)
            purse.is_told = False
        left_ms = int(purse.until_ms - now_ms) + 1
        if self._strikes is None:
            self._strikes = Bucket(rates.strikes)
        if self._strikes.room(now_ms) < 1:
            rates.closed += 1
            self._complain("closed_for_rate", purse)
            raise Disconnect(CloseCode.OVERLOADED, max(left_ms, ABUSE_MS))
        self._strikes.take(1, now_ms)
        self._refused = purse
        reason = purse.reason
        message = f"{reason.name} is {reason.per_second}: come back in {left_ms} ms"
        raise Refused(ErrorName.RATE_LIMITED, message, retry_after_ms=left_ms)

    def _complain(self, event: str, purse: Purse) -> None:
        self._rates.complain(event, self.who, self.address, purse.reason.name, refused=self.refused)

    @property
    def is_shared(self) -> bool:
        """Whether it is that of all connections with these bounds: then it has none that is counted."""
        return self.user is None and self.tenant is None and not _has_rates(self.quota)

    def take_over(self, old: "Meter") -> None:
        """It is the same connection with other bounds: what it has overdrawn it still has."""
        now_ms = self._rates.steady_ms()
        mine = (self.publishes, self.bytes, self.requests, self.controls)
        for purse, before in zip(mine, (old.publishes, old.bytes, old.requests, old.controls), strict=True):
            bound = purse.rate
            purse.rate, purse.earned_ms = before.rate, before.earned_ms
            purse.change(bound, now_ms)
        self._strikes = old._strikes  # another one of its kind
        if self._strikes is not None:
            self._strikes.change(self._rates.strikes, now_ms)
        self.refused = old.refused

    # Subscriptions

    def check_room(self, count: int, wildcards: int, *, is_wildcard: bool) -> None:
        """Whether a connection with so many subscriptions may have one more. Raises Refused."""
        most = most_subscriptions(self.quota, self._rates.limits)
        if count >= most:
            raise Refused(ErrorName.QUOTA, f"a connection has at most {most} subscriptions")
        most = most_wildcards(self.quota, self._rates.limits)
        if is_wildcard and wildcards >= most:
            raise Refused(ErrorName.QUOTA, f"a connection has at most {most} subscriptions with wildcards")
        if self.tenant is None:
            return
        most = self.quota.tenant_max_subscriptions
        if most and self.tenant.all_subscriptions >= most:
            raise Refused(ErrorName.QUOTA, f"the clients of this tenant have at most {most} subscriptions")
        most = self.quota.tenant_max_wildcard_subscriptions
        if is_wildcard and most and self.tenant.all_wildcards >= most:
            raise Refused(ErrorName.QUOTA, f"the clients of this tenant have at most {most} with wildcards")

    def subscribed(self, count: int, wildcards: int) -> None:
        """So many more subscriptions, or, below 0, less."""
        if self.tenant is not None:
            self.tenant.subscriptions += count
            self.tenant.wildcards += wildcards


def metered(
    take: Callable[[Meter], None], serve: Callable[[Any, Any, int], None]
) -> Callable[[Any, Any, int], None]:
    """How a packet is served that takes something of its session's meter first."""

    def serve_metered(session: Any, packet: Any, now_ms: int) -> None:
        take(session.meter)
        serve(session, packet, now_ms)

    return serve_metered


class Rates:
    """Of one node."""

    __slots__ = (
        "_alarm",
        "_leased",
        "_quotas",
        "_shared",
        "accounts",
        "closed",
        "complain",
        "limits",
        "min_wait_ms",
        "refused",
        "steady_ms",
        "strikes",
        "unlimited",
    )

    def __init__(self, quotas: Quotas, limits: Limits, timers: Timers) -> None:
        self._quotas = quotas
        self.limits = limits
        self.steady_ms = timers.steady_ms
        self.accounts = Accounts(limits, timers.steady_ms)
        self.refused: Counter[str] = Counter()  # packets and connections, by the name of the limit
        self.closed = 0  # connections, for abuse
        self.complain: Complain = _say_nothing
        self._read_limits()
        self._leased: list[Meter] = []
        self._alarm = Alarm(timers, self._settle)
        self._shared: dict[Quota, Meter] = {}
        self.unlimited = self._meter(UNBOUNDED, None, None, OPEN, "")

    def _read_limits(self) -> None:
        limits = self.limits
        most, window_ms = limits.max_refused_packets, limits.refused_window_ms
        self.strikes = Rate("max_refused_packets", most * 1000 / window_ms, window_ms / most, window_ms)
        # Each of the packets that a client may have on their way comes back once in this time: whoever keeps to
        # what it is told is never closed.
        on_their_way = limits.max_inflight_publishes + limits.max_subscriptions
        self.min_wait_ms = max(MIN_WAIT_MS, -(-on_their_way * window_ms // most))

    def limits_changed(self) -> None:
        """For meters that are made from now on; those that there are get theirs by `change`."""
        self._read_limits()
        self._shared.clear()

    def enter(self, identity: Identity, returning: int = 0, address: str = "") -> Meter:
        """A client connects, from there. Raises Disconnect where its user or tenant has enough connections.

        `returning`: how many of them are about to be closed for this one.
        """
        quota = self._quotas.of(identity)
        user, tenant = self.accounts.find(identity, quota)
        for account, name, most in (
            (user, "user_max_connections", quota.user_max_connections),
            (tenant, "tenant_max_connections", quota.tenant_max_connections),
        ):
            if account is not None and most and account.all_connections - returning >= most:
                self.refused[name] += 1
                self.complain("connection_refused", identity, address, name, most=most)
                raise Disconnect(CloseCode.CONNECTION_LIMIT, self.limits.reconnect_max_ms)
        self.accounts.enter(user, tenant)
        return self._meter(quota, user, tenant, identity, address)

    def _meter(
        self, quota: Quota, user: Account | None, tenant: Account | None, who: Identity, address: str
    ) -> Meter:
        if user is not None or tenant is not None or _has_rates(quota):
            return Meter(self, quota, user, tenant, who, address)
        meter = self._shared.get(quota)
        if meter is None:
            if len(self._shared) >= MAX_SHARED:
                self._shared.clear()
            meter = self._shared[quota] = Meter(self, quota, None, None, OPEN, "")
        return meter

    def change(
        self,
        meter: Meter,
        identity: Identity,
        subscriptions: int = 0,
        wildcards: int = 0,
        address: str = "",
        *,
        is_anew: bool = False,
    ) -> Meter:
        """A client has shown another token, or bounds are others. Its connection counts on, with what it has.

        `is_anew`: also where its quota is the same, as limits that its meter was made by have changed.
        """
        quota = self._quotas.of(identity)
        if quota == meter.quota and not is_anew:
            return meter
        user, tenant = self.accounts.find(identity, quota)
        self.accounts.enter(user, tenant)
        new = self._meter(quota, user, tenant, identity, address)
        if not new.is_shared:
            new.take_over(meter)
        meter.subscribed(-subscriptions, -wildcards)
        self.leave(meter)
        new.subscribed(subscriptions, wildcards)
        return new

    def leave(self, meter: Meter) -> None:
        """Its connection is gone; who has left twice has left once."""
        if not meter.is_shared:
            meter.settle(self.steady_ms())
            self.accounts.leave(meter.user, meter.tenant)
            meter.user = meter.tenant = None

    def leased(self, meter: Meter) -> None:
        """It may hold something for the next LEASE_MS."""
        if not meter.is_leasing and not meter.is_shared:
            meter.is_leasing = True
            if not self._leased:  # else it rings already
                self._alarm.by(int(self.steady_ms()) + LEASE_MS)
            self._leased.append(meter)
            self.accounts.worked(meter.user, meter.tenant)

    def _settle(self, _now_ms: int) -> None:
        leased, self._leased = self._leased, []
        now_ms = self.steady_ms()
        for meter in leased:
            meter.is_leasing = False
            meter.settle(now_ms)


def _has_rates(quota: Quota) -> bool:
    return bool(
        quota.publishes_per_second
        or quota.bytes_per_second
        or quota.requests_per_second
        or quota.control_packets_per_second
    )
