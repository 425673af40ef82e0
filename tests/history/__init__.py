"""Recorded histories and the one checker that judges them by the invariants of the guarantees."""
