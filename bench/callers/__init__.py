"""Clients under measurement, one process each: Triode's own, and what stands beside them."""
