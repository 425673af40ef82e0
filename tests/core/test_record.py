"""A record counts its bytes and knows when its time has passed."""

from triode_broker.core.record import RECORD_OVERHEAD_BYTES, Record


def test_record_counts_its_payload_and_what_it_costs_beside() -> None:
    assert Record("a", 1, 1, 1, b"12345").size == RECORD_OVERHEAD_BYTES + 5


def test_record_expires_at_its_time_or_never() -> None:
    """SPEC 3.4.9."""
    assert not Record("a", 1, 1, 1, b"").is_expired(10**15)
    record = Record("a", 1, 1, 1, b"", expires_ms=100)
    assert not record.is_expired(99)
    assert record.is_expired(100)
