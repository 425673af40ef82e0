"""Buckets and purses: what a rate lets by in any stretch of time, whatever was taken ahead and given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.core.buckets import ENDLESS, LEASE_MS, NO_BOUND, Bucket, Purse, rate


def test_a_full_bucket_gives_what_its_rate_allows_in_the_burst_and_then_one_by_one() -> None:
    bucket = Bucket(rate("r", 100, 1_000))
    assert bucket.room(5_000) == 100
    bucket.take(100, 5_000)
    assert (bucket.room(5_000), bucket.wait_ms(5_000)) == (0, 10.0)
    assert bucket.room(5_010) == 1
    assert bucket.room(9_000) == 100  # no more than full


def test_a_low_rate_lets_one_by_and_a_floor_lets_more() -> None:
    assert Bucket(rate("r", 1, 100)).room(0) == 1
    assert Bucket(rate("r", 1, 100, 20)).room(0) == 20


def test_an_overdrawn_bucket_has_to_be_earned_first() -> None:
    bucket = Bucket(rate("r", 1_000, 1_000))
    bucket.take(3_000, 0)
    assert bucket.room(0) == -2_000
    assert bucket.wait_ms(0) == 2_001
    assert not bucket.is_full(2_999)
    assert bucket.is_full(3_000)


def test_no_bound_is_endless() -> None:
    bucket = Bucket(NO_BOUND)
    bucket.take(10**12, 7)
    assert bucket.room(7) == ENDLESS
    assert bucket.wait_ms(8) == 0
    assert rate("r", 0, 1_000) is NO_BOUND


def test_another_rate_leaves_the_room_that_there_is() -> None:
    bucket = Bucket(rate("r", 1_000, 1_000))
    bucket.take(1_500, 0)
    bucket.change(rate("r", 100, 1_000), 0)
    assert bucket.room(0) == -500
    bucket.change(rate("r", 10_000, 1_000), 5_050)
    assert bucket.room(5_050) == 5
    full = Bucket(rate("r", 1_000, 1_000))
    full.change(rate("r", 100, 1_000), 50)
    assert full.room(50) == 100


def test_a_share_has_the_burst_of_a_share_but_lets_one_by() -> None:
    whole = rate("r", 100, 1_000)
    assert Bucket(whole.shared(25)).room(0) == 25
    assert Bucket(whole.shared(0.5)).room(0) == 1


def spend(purse: Purse, count: int, now_ms: float) -> bool:
    """What a session does."""
    purse.credit -= count
    if purse.credit >= 0 or purse.fill(now_ms) == 0.0:
        return True
    purse.credit = 0
    return False


def test_a_purse_pays_out_of_what_it_took_ahead() -> None:
    purse = Purse(rate("r", 1_000, 1_000), ())
    assert spend(purse, 1, 0)
    assert purse.credit == 100  # LEASE_MS of it
    assert purse.room(0) == 899
    purse.settle(0)
    assert (purse.credit, purse.room(0)) == (0, 999)
    purse.settle(0)
    assert purse.room(0) == 999


def test_a_purse_that_owes_is_charged_when_it_is_settled() -> None:
    purse = Purse(rate("r", 1_000, 1_000), ())
    purse.credit -= 300
    purse.settle(50_000)
    assert (purse.credit, purse.room(50_000)) == (0, 700)


def test_one_packet_of_bytes_may_overdraw() -> None:
    purse = Purse(rate("r", 1_000, 1_000), ())
    assert spend(purse, 4_000, 0)
    assert purse.room(0) == -3_000
    assert not spend(purse, 1, 3_000)
    assert spend(purse, 1, 3_001)


def test_a_purse_that_shares_has_the_least_of_all_and_names_it() -> None:
    user, tenant = Bucket(rate("user", 50, 1_000)), Bucket(rate("tenant", 10, 1_000))
    purse = Purse(NO_BOUND, (user, tenant))
    assert [spend(purse, 1, 0) for _ in range(11)] == [True] * 10 + [False]
    assert purse.reason.name == "tenant"
    assert purse.fill(0) == 100
    assert user.used == tenant.used == 10


def test_what_one_of_many_may_hold_is_its_part() -> None:
    shared = Bucket(rate("user", 1_000, 1_000))
    shared.sharers = 50
    purse = Purse(NO_BOUND, (shared,))
    assert spend(purse, 1, 0)
    assert purse.credit == 2
    shared.sharers = 500
    assert spend(Purse(NO_BOUND, (shared,)), 1, 0)
    assert shared.room(0) == 1_000 - 3 - 1


def test_a_purse_without_bounds_is_seldom_asked_and_always_filled() -> None:
    purse = Purse(NO_BOUND, ())
    assert purse.credit == ENDLESS
    assert spend(purse, 10**12, 0)
    assert purse.credit == ENDLESS


@pytest.mark.parametrize("connections", [1, 7])
@given(data=st.data())
def test_no_stretch_of_time_has_more_than_the_rate_and_what_purses_hold(
    connections: int, data: st.DataObject
) -> None:
    """S8: whoever asks, and however often: rate × time + burst + LEASE_MS of each rate."""
    per_second = data.draw(st.sampled_from([3, 100, 10_000]))
    shared = Bucket(rate("user", per_second, 500))
    shared.sharers = connections
    purses = [Purse(NO_BOUND, (shared,)) for _ in range(connections)]
    now_ms = settled_ms = 0
    passed: list[tuple[int, int]] = []
    steps = st.tuples(st.integers(0, connections - 1), st.integers(0, 2 * per_second), st.integers(0, 400))
    for number, count, ms in data.draw(st.lists(steps, max_size=40)):
        now_ms += ms
        if now_ms - settled_ms >= LEASE_MS:  # as `Rates` does
            settled_ms = now_ms
            for purse in purses:
                purse.settle(now_ms)
        passed.append((now_ms, sum([spend(purses[number], 1, now_ms) for _ in range(count)])))
    held = per_second * LEASE_MS // 1000 + connections
    for index, (since_ms, _) in enumerate(passed):
        for end in range(index, len(passed)):
            seconds = (passed[end][0] - since_ms) / 1000
            most = per_second * seconds + max(per_second * 0.5, 1) + held + 1
            assert sum(count for _, count in passed[index : end + 1]) <= most
