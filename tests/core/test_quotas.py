"""Quotas: which bounds hold for whom (SPEC 11.7), and what a token may say of them."""

import pytest
from triode_broker.config import DEFAULT_QUOTAS, Limits, Quota
from triode_broker.core.identity import OPEN, Identity
from triode_broker.core.quotas import LOWERABLE, MAX_MADE, Quotas, announced, check_claim
from triode_broker.core.rates import UNBOUNDED


def test_each_value_is_that_of_the_first_row_that_fits_and_says_it() -> None:
    quotas = Quotas(
        [
            Quota(role="vip", tenant="acme", publishes_per_second=9),
            Quota(role="vip", publishes_per_second=0, bytes_per_second=7),
            Quota(tenant="acme", tenant_max_connections=3),
            Quota(method="token", user_max_connections=4, requests_per_second=0),
        ]
    )
    vip = frozenset({"vip", "other"})
    here = quotas.of(Identity("ann", "acme", roles=vip, method="token"))
    assert (here.publishes_per_second, here.bytes_per_second, here.tenant_max_connections) == (9, 7, 3)
    assert (here.user_max_connections, here.requests_per_second) == (4, 0)
    there = quotas.of(Identity("ann", "other", roles=vip, method="callout"))
    assert (there.publishes_per_second, there.tenant_max_connections) == (0, 0)
    assert there.requests_per_second == DEFAULT_QUOTAS[-1].requests_per_second
    assert quotas.of(Identity("ann", "acme", method="token")).publishes_per_second == 1_000


def test_without_rows_browsers_are_bounded_and_programs_with_keys_are_not() -> None:
    quotas = Quotas()
    for method in ("open", "key", "certificate"):
        assert quotas.of(Identity("x", method=method)) == UNBOUNDED
    assert quotas.of(OPEN) == UNBOUNDED
    for method in ("token", "callout", "anonymous"):
        quota = quotas.of(Identity("x", method=method))
        assert quota == Quota(
            publishes_per_second=1_000,
            bytes_per_second=1_048_576,
            requests_per_second=100,
            control_packets_per_second=5_000,
            max_subscriptions=0,
            max_wildcard_subscriptions=0,
            user_publishes_per_second=2_000,
            user_bytes_per_second=2_097_152,
            user_max_connections=100,
            tenant_publishes_per_second=0,
            tenant_bytes_per_second=0,
            tenant_max_connections=0,
            tenant_max_subscriptions=0,
            tenant_max_wildcard_subscriptions=0,
        )


def test_what_was_found_out_is_remembered_within_bounds() -> None:
    quotas = Quotas()
    first = quotas.of(Identity("a", "t0", method="token"))
    assert quotas.of(Identity("b", "t0", method="token")) is first
    for number in range(MAX_MADE):
        quotas.of(Identity("a", f"t{number + 1}", method="token"))
    again = quotas.of(Identity("b", "t0", method="token"))
    assert again is not first
    assert again == first


def test_a_claim_lowers_and_never_raises() -> None:
    claim = check_claim({"publishes_per_second": 5, "bytes_per_second": 10**9, "user_max_connections": 1})
    quotas = Quotas([Quota(role="free", user_max_connections=0)])
    quota = quotas.of(Identity("ann", roles=frozenset({"free"}), method="token", limits=claim))
    assert (quota.publishes_per_second, quota.bytes_per_second, quota.user_max_connections) == (5, 1_048_576, 1)


@pytest.mark.parametrize(
    "claim",
    [
        None,
        [],
        {"publishes": 1},
        {"tenant_max_connections": 1},
        {"role": 1},
        {"publishes_per_second": 0},
        {"publishes_per_second": -1},
        {"publishes_per_second": True},
        {"publishes_per_second": 1.5},
        {"publishes_per_second": "9"},
    ],
)
def test_a_claim_that_is_none_is_refused_whole(claim: object) -> None:
    """S14: what is passed over would not hold."""
    with pytest.raises(ValueError, match="limits"):
        check_claim(claim)


def test_a_claim_may_be_about_all_that_is_a_clients_own() -> None:
    assert all(not name.startswith("tenant_") for name in LOWERABLE)
    assert check_claim(dict.fromkeys(LOWERABLE, 1)) == dict.fromkeys(LOWERABLE, 1)


def test_clients_are_told_what_holds_for_them() -> None:
    """SPEC 4.1.3."""
    limits = Limits(max_subscriptions=50, max_wildcard_subscriptions=5)
    told = announced(Quota("", "", "", 1, 2, 3, 4, 60, 3, 5, 6, 7, 8, 9, 10, 11, 12), limits, 300_000)
    assert (told.max_subscriptions, told.max_wildcard_subscriptions) == (50, 3)
    assert (told.publishes_per_second, told.bytes_per_second) == (1, 2)
    assert (told.requests_per_second, told.control_packets_per_second, told.rate_burst_ms) == (3, 4, 1_000)
    assert (told.user_publishes_per_second, told.user_bytes_per_second, told.user_max_connections) == (5, 6, 7)
    assert (told.tenant_publishes_per_second, told.tenant_bytes_per_second) == (8, 9)
    assert (told.tenant_max_connections, told.tenant_max_subscriptions) == (10, 11)
    assert told.tenant_max_wildcard_subscriptions == 12
    assert announced(UNBOUNDED, limits, 0).rate_burst_ms == 0
