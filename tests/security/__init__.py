"""Attacks, and what a broker must be like afterwards (the classes S1–S35 of the threat model)."""
