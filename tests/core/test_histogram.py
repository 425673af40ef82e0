"""Histograms: fixed buckets by powers of two, and what is added up."""

import pytest
from triode_broker.core.histogram import BOUNDS_US, Histogram, bucket_of


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(-1.0, 0), (0.0, 0), (0.00009, 0), (0.0001, 1), (0.0003, 2), (1.0, 14), (13.1, 17), (13.2, 18), (1e9, 18)],
)
def test_bucket_of_a_time_is_the_first_whose_bound_is_above_it(seconds: float, bucket: int) -> None:
    assert bucket_of(seconds) == bucket
    assert bucket == len(BOUNDS_US) or seconds * 1_000_000 < BOUNDS_US[bucket]


def test_histogram_adds_up_counts_and_times() -> None:
    it = Histogram()
    it.add(0.001)
    it.add(0.0001, 10)
    data = it.as_data()
    assert data["sum_us"] == 2000
    assert data["counts"] == [0, 10, 0, 0, 1] + [0] * 14
